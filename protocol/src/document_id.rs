//! Document ids and database names: what is legal, and which kind an id is.
//!
//! Sources: protocol page §1.1 ("Doc ids"), §7.1; recordings `documents/ids-*`, `databases/legal-names`. Ids are compared
//! by bytes; nothing here normalises Unicode.

use crate::error::{Error, ErrorKind, Result};

/// Longest id in bytes that Settle accepts (design §13; CouchDB has no limit by default).
pub const MAX_ID_BYTES: usize = 512;
/// Longest database name in bytes (CouchDB: 238, so that file names fit; kept for tools that rely on it).
pub const MAX_DATABASE_NAME_BYTES: usize = 238;

/// Which kind of document an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// Any non-empty id without a leading underscore.
    Ordinary,
    /// `_design/NAME`
    Design,
    /// `_local/NAME`: never replicated, never in a feed.
    Local,
}

/// Checks an id and tells its kind.
///
/// # Errors
/// `400 illegal_docid` with CouchDB's reasons.
pub fn check_document_id(id: &str, max_bytes: usize) -> Result<IdKind> {
    let illegal = |reason: &'static str| Err(Error::new(ErrorKind::IllegalDocumentId, reason));
    if id.is_empty() {
        return illegal("Document id must not be empty");
    }
    if id.len() > max_bytes {
        return illegal("Document id is too long");
    }
    if !id.starts_with('_') {
        return Ok(IdKind::Ordinary);
    }
    match id.split_once('/') {
        Some(("_design", name)) if !name.is_empty() => Ok(IdKind::Design),
        Some(("_local", name)) if !name.is_empty() => Ok(IdKind::Local),
        Some(("_design", _)) => illegal("Illegal document id `_design/`"),
        Some(("_local", _)) => illegal("Illegal document id `_local/`"),
        _ => illegal("Only reserved document ids may start with underscore."),
    }
}

/// Checks a database name: `^[a-z][a-z0-9_$()+/-]*$`, the system names, and `…/_users`, `…/_replicator`.
///
/// # Errors
/// `400 illegal_database_name` or `400 database_name_too_long`.
pub fn check_database_name(name: &str) -> Result<()> {
    const SYSTEM: [&str; 6] = ["_users", "_replicator", "_global_changes", "_nodes", "_dbs", "_metadata"];
    if name.len() > MAX_DATABASE_NAME_BYTES {
        let reason = format!("Name: '{name}' is too long: at most {MAX_DATABASE_NAME_BYTES} bytes are allowed.");
        return Err(Error::new(ErrorKind::DatabaseNameTooLong, reason));
    }
    let prefix = name.strip_suffix("/_users").or_else(|| name.strip_suffix("/_replicator")).unwrap_or(name);
    let plain = prefix.starts_with(|c: char| c.is_ascii_lowercase())
        && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_$()+/-".contains(&b));
    if plain || SYSTEM.contains(&name) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::IllegalDatabaseName,
        format!(
            "Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart() {
        assert_eq!(check_document_id("a/b c", 512), Ok(IdKind::Ordinary));
        assert_eq!(check_document_id("_design/x", 512), Ok(IdKind::Design));
        assert_eq!(check_document_id("_local/x/y", 512), Ok(IdKind::Local));
        for bad in ["", "_x", "_design", "_design/", "_local/", "_"] {
            assert_eq!(check_document_id(bad, 512).map_err(|e| e.word()), Err("illegal_docid"), "{bad}");
        }
        assert!(check_document_id(&"x".repeat(513), 512).is_err());
    }

    #[test]
    fn database_names() {
        for good in ["a", "a0_$()+/-", "_users", "x/_users", "a/b/_replicator"] {
            assert_eq!(check_database_name(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "0a", "_x", "a b", "ä", "a.b", "/_users"] {
            assert!(check_database_name(bad).is_err(), "{bad}");
        }
        assert_eq!(check_database_name(&"a".repeat(239)).map_err(|e| e.word()), Err("database_name_too_long"));
    }
}
