//! Which databases of a server are imported when none is named, and why the others are not.

/// Whether a database is imported by itself. `Err` says why not; naming it with `--database` imports it all the same.
pub(super) fn decide(name: &str, all: bool) -> Result<(), &'static str> {
    match name {
        "_users" => Ok(()),
        "_replicator" => Err("its jobs would begin to run at a CouchDB as target, and Settle has no replication yet"),
        "_global_changes" => Err("the old server's notes about its own databases"),
        _ if name.starts_with('_') => Err("the old server's own"),
        _ if all => Ok(()),
        _ if name.starts_with("medic-user-") && name.ends_with("-meta") => {
            Err("read markers and telemetry of one user, which the phone sends again to a server that lacks them")
        }
        _ if name.starts_with("medic-purged-") => {
            Err("the CHT's own lists of what phones should drop, made anew by it")
        }
        _ => Ok(()),
    }
}

/// The databases in the order in which they are imported: accounts last, so that nobody can log in before the documents
/// are there.
pub(super) fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_key(|name| (name == "_users", name.clone()));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::{decide, in_order};

    #[test]
    fn what_belongs_to_the_programme_is_imported() {
        for (name, usual, with_all) in [
            ("medic", true, true),
            ("medic-sentinel", true, true),
            ("medic-users-meta", true, true),
            ("_users", true, true),
            ("medic-user-ann-meta", false, true),
            ("medic-purged-role-0f", false, true),
            ("_replicator", false, false),
            ("_global_changes", false, false),
            ("_dbs", false, false),
        ] {
            assert_eq!((decide(name, false).is_ok(), decide(name, true).is_ok()), (usual, with_all), "{name}");
        }
    }

    #[test]
    fn accounts_come_last() {
        let names = ["_users", "medic", "a", "medic"].map(str::to_owned).to_vec();
        assert_eq!(in_order(names), ["a", "medic", "_users"]);
    }
}
