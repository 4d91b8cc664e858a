//! Replication checkpoints: `_local` revisions, and where two histories last agreed.
//!
//! Sources: protocol page §1.1.4 (`0-N`, never a conflict), §4.1 and §4.5 (how PouchDB and CouchDB compare histories).

use serde_json::Value;

use crate::error::{Error, Result};

/// The next `_rev` number of a `_local` document, from the `_rev` its writer sent: `0-K` gives K + 1, none gives 1.
///
/// # Errors
/// `400 bad_request "Invalid rev format"` for anything that is not `0-NUMBER`.
pub fn next_local_revision(sent: Option<&str>) -> Result<u64> {
    let Some(sent) = sent else { return Ok(1) };
    let number = sent.strip_prefix("0-").and_then(|number| number.parse::<u64>().ok());
    let number = number.ok_or_else(|| Error::bad_request("Invalid rev format"))?;
    Ok(number.saturating_add(1))
}

/// The source sequence at which two checkpoint documents last agreed: PouchDB's (`last_seq`, `history[].last_seq`) or
/// CouchDB's (`source_last_seq`, `history[].recorded_seq`). `None`: they share no session, start from 0.
#[must_use]
pub fn last_agreement(source: &Value, target: &Value) -> Option<Value> {
    let session = |document: &Value| document.get("session_id").cloned();
    if session(source).is_some() && session(source) == session(target) {
        return source.get("source_last_seq").or_else(|| source.get("last_seq")).cloned();
    }
    let entries = |document: &Value| document.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    let theirs = entries(target);
    let common = entries(source).into_iter().find(|entry| {
        let id = session(entry);
        id.is_some() && theirs.iter().any(|other| session(other) == id)
    })?;
    common.get("recorded_seq").or_else(|| common.get("last_seq")).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn local_revisions_count_up_from_what_was_sent() {
        assert_eq!(next_local_revision(None), Ok(1));
        assert_eq!(next_local_revision(Some("0-7")), Ok(8));
        for bad in ["1-7", "0-x", "7", "", "0--1"] {
            assert!(next_local_revision(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn agreement() {
        let older = json!({"session_id": "a", "last_seq": "7-x", "history": [{"session_id": "a", "last_seq": "7-x"}]});
        let newer = json!({"session_id": "b", "last_seq": "9-x",
            "history": [{"session_id": "b", "last_seq": "9-x"}, {"session_id": "a", "last_seq": "7-x"}]});
        assert_eq!(last_agreement(&older, &older), Some(json!("7-x")));
        assert_eq!(last_agreement(&newer, &older), Some(json!("7-x")));
        assert_eq!(last_agreement(&newer, &json!({"session_id": "z", "history": []})), None);
        assert_eq!(last_agreement(&json!({}), &json!({})), None);
    }
}
