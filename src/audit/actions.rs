//! Every action that an entry of the audit log can have, in one list: so that a word in a configuration can be known to be none.

/// Each action, by name.
pub const ACTIONS: [&str; 65] = [
    "account.activate",
    "account.change",
    "account.create",
    "account.cut",
    "account.delete",
    "account.disable",
    "account.enable",
    "account.epoch",
    "account.prepare",
    "account.retire",
    "audit.export",
    "config.remove",
    "config.set",
    "database.create",
    "database.delete",
    "database.limit",
    "database.purge",
    "database.read",
    "database.reads",
    "database.security",
    "device.alarm",
    "device.cut",
    "device.drained",
    "device.enrol",
    "device.exposure",
    "device.override",
    "device.receipt",
    "device.retire",
    "device.silent",
    "device.wipe_asked",
    "device.wipe_ordered",
    "device.wipe_reported",
    "escrow.accept",
    "escrow.discard",
    "escrow.reassign",
    "glass.break",
    "glass.end",
    "glass.read",
    "grant.make",
    "grant.revoke",
    "link.end",
    "link.make",
    "link.unknown",
    "login",
    "login.failed",
    "login.link",
    "message.cancel",
    "message.deliver",
    "message.fail",
    "message.retry",
    "message.stage",
    "place.hand_over",
    "place.move",
    "place.rename_holder",
    "place.replace",
    "place.undo_replace",
    "scope.settings",
    "second_person.ask",
    "second_person.confirm",
    "sheet.print",
    "store.backup",
    "store.restore_confirmed",
    "store.restored",
    "webhook.retry",
    "webhook.set_aside",
];

/// Whether an action is called so: by the whole word, or by its first half (`device` is every `device.…`).
#[must_use]
pub fn is_called(action: &str, name: &str) -> bool {
    action == name || action.split('.').next() == Some(name)
}

/// Whether any action is called so.
#[must_use]
pub fn is_known(name: &str) -> bool {
    ACTIONS.iter().any(|action| is_called(action, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_and_their_first_halves_are_known() {
        assert!(ACTIONS.is_sorted());
        for name in ["device.cut", "device", "login", "login.failed", "second_person"] {
            assert!(is_known(name), "{name}");
        }
        for name in ["device.cutt", "devices", "dev", "", "cut", "device."] {
            assert!(!is_known(name), "{name}");
        }
    }
}
