//! The catalogue of column families: every place where bytes are kept, with the options that differ from the template.
//!
//! One line per family. `LAYOUT.md` describes keys and values and a test holds the two together. A family is never reused
//! for something else; one that falls out of use stays here as a name.

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// name → database
    Databases,
    /// database → counters
    Counters,
    /// database, document id → tree, winner, position, where it is filed
    Documents,
    /// database, cluster, document, revision → body text, attachment stubs
    Bodies,
    /// database, position → document id, leaves
    Changes,
    /// BLAKE3 → length, references
    Attachments,
    /// BLAKE3, chunk number → bytes
    AttachmentChunks,
    /// database, BLAKE3 → references of that database
    AttachmentReferences,
    /// database, owner, `_local` id → body
    Local,
    /// database, purge number → document id, revisions
    Purges,
    /// name → account
    Accounts,
    /// BLAKE3 of the token → session
    Sessions,
    /// database, anchor, way, depth, position → what changed there
    Feed,
    /// database → who claims a shortcode, which places name a contact
    Subjects,
    /// database → accounts and settings as they were at positions
    Scopes,
    /// database → refused work
    Escrow,
    /// database, device → its last pull and push
    Devices,
    /// database, document, revision → who brought it, once the body is gone
    Provenance,
    /// database, place, from → who held it
    Custody,
    /// database, device → what it says it holds, and what it was given in writing
    Manifests,
    /// account, device → one installation of a client
    Enrolments,
    /// fingerprint of a one-time login token → account
    Links,
    /// message → a link on its way to whoever is to use it; webhook → how far it is
    Outbox,
    /// account, grant → a right for a while
    Grants,
    /// number → what was withdrawn, for the file beside the backups
    Ledger,
    /// number → who did what, chained by hash
    Audit,
    /// fixed names → incarnation, clock mark, settings, work in progress
    Meta,
}

/// How a family is used; `open.rs` turns it into RocksDB options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Point reads by a whole key, many of them misses.
    Point,
    /// Larger values, read by key or in ranges that lie together.
    Bodies,
    /// Read in ranges, written at the end.
    Log,
    /// Small rows, read in many ranges and written in all of them.
    Ranges,
    /// Large values, written once.
    Blobs,
    /// A handful of rows.
    Small,
}

/// Every family in the order of [`Family`]: name on disk, workload.
pub const FAMILIES: [(Family, &str, Workload); 27] = [
    (Family::Databases, "databases", Workload::Small),
    (Family::Counters, "counters", Workload::Small),
    (Family::Documents, "documents", Workload::Point),
    (Family::Bodies, "bodies", Workload::Bodies),
    (Family::Changes, "changes", Workload::Log),
    (Family::Attachments, "attachments", Workload::Point),
    (Family::AttachmentChunks, "attachment_chunks", Workload::Blobs),
    (Family::AttachmentReferences, "attachment_references", Workload::Small),
    (Family::Local, "local", Workload::Small),
    (Family::Purges, "purges", Workload::Small),
    (Family::Accounts, "accounts", Workload::Small),
    (Family::Sessions, "sessions", Workload::Small),
    (Family::Feed, "feed", Workload::Ranges),
    (Family::Subjects, "subjects", Workload::Point),
    (Family::Scopes, "scopes", Workload::Small),
    (Family::Escrow, "escrow", Workload::Small),
    (Family::Devices, "devices", Workload::Small),
    (Family::Provenance, "provenance", Workload::Log),
    (Family::Custody, "custody", Workload::Small),
    (Family::Manifests, "manifests", Workload::Small),
    (Family::Enrolments, "enrolments", Workload::Small),
    (Family::Links, "links", Workload::Small),
    (Family::Outbox, "outbox", Workload::Small),
    (Family::Grants, "grants", Workload::Small),
    (Family::Ledger, "ledger", Workload::Small),
    (Family::Audit, "audit", Workload::Log),
    (Family::Meta, "meta", Workload::Small),
];

impl Family {
    /// The name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        FAMILIES[self as usize].1
    }
}

/// Families whose keys begin with a database id: emptied when the database is deleted.
pub const OF_A_DATABASE: [Family; 15] = [
    Family::Counters,
    Family::Documents,
    Family::Bodies,
    Family::Changes,
    Family::AttachmentReferences,
    Family::Local,
    Family::Purges,
    Family::Feed,
    Family::Subjects,
    Family::Scopes,
    Family::Escrow,
    Family::Devices,
    Family::Provenance,
    Family::Custody,
    Family::Manifests,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_order_and_on_the_layout_page() {
        let page = include_str!("LAYOUT.md");
        for (number, (family, name, _)) in FAMILIES.iter().enumerate() {
            assert_eq!(*family as usize, number, "{name} stands in the wrong line");
            assert!(page.contains(&format!("### `{name}`")), "LAYOUT.md lacks `{name}`");
        }
        let described = page.lines().filter(|line| line.starts_with("### `")).count();
        let reserved = page.lines().filter(|line| line.starts_with("### `") && line.contains("(reserved)")).count();
        assert_eq!(described - reserved, FAMILIES.len(), "LAYOUT.md describes a family that is not there");
    }
}
