//! How far an import has come: a `_local` document at the target, written after each page is durable there.
//!
//! It belongs to one source and one of its databases. If the source's database was made anew since, it does not count.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::side::{Failure, Side, escaped};

/// A place in the source's feed up to which everything is at the target.
#[derive(Debug, PartialEq)]
pub(super) struct Checkpoint {
    path: String,
    source: String,
    /// When the source's database was made, as it says; "0" says nothing.
    born: String,
    /// The source's token; `Null` at the beginning.
    pub(super) since: Value,
    /// Rows of the feed before it.
    pub(super) rows: u64,
}

impl Checkpoint {
    /// At the beginning.
    pub(super) fn new(source: &Side, database: &str, source_info: &Value) -> Self {
        let url = format!("{}/{}", source.url(), escaped(database));
        let name = blake3::hash(url.as_bytes()).to_hex();
        Self {
            path: format!("/{}/_local/settle-import-{}", escaped(database), &name[..16]),
            source: url,
            born: source_info["instance_start_time"].as_str().unwrap_or("0").to_owned(),
            since: Value::Null,
            rows: 0,
        }
    }

    /// Goes to where an earlier run came, if there was one.
    pub(super) async fn find(mut self, target: &Arc<Side>) -> Result<Self, Failure> {
        if let Some(stored) = target.find(&self.path).await? {
            self.resume(&stored);
        }
        Ok(self)
    }

    fn resume(&mut self, stored: &Value) {
        let born = stored["source_created"].as_str().unwrap_or("0");
        let same = stored["source"] == self.source.as_str() && (born == self.born || born == "0" || self.born == "0");
        if same {
            self.since = stored["since"].clone();
            self.rows = stored["rows"].as_u64().unwrap_or_default();
        }
    }

    /// Notes that everything before `since` is at the target.
    pub(super) async fn save(&mut self, target: &Arc<Side>, since: Value, rows: u64) -> Result<(), Failure> {
        self.since = since;
        self.rows += rows;
        target.json("PUT", &self.path, Some(Bytes::from(self.document().to_string()))).await?;
        Ok(())
    }

    fn document(&self) -> Value {
        json!({"source": self.source, "source_created": self.born, "since": self.since, "rows": self.rows})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Checkpoint;
    use crate::commands::import::side::Side;
    use crate::http::client::Address;

    fn checkpoint(url: &str, born: &str) -> Checkpoint {
        let side = Side::new("the source", Address::parse(url).unwrap());
        Checkpoint::new(&side, "medic", &json!({"instance_start_time": born}))
    }

    #[test]
    fn it_counts_for_its_own_source_only() {
        let mut first = checkpoint("https://ann:x@host/couch", "7");
        first.since = json!("12-abc");
        first.rows = 12;
        let stored = first.document();
        assert!(!stored.to_string().contains("ann"));
        for (url, born, since) in [
            ("https://ben:y@host/couch", "7", json!("12-abc")),
            ("https://host/couch", "0", json!("12-abc")),
            ("https://host/couch", "8", Value::Null),
            ("https://host", "7", Value::Null),
        ] {
            let mut next = checkpoint(url, born);
            next.resume(&stored);
            assert_eq!(next.since, since, "{url} {born}");
        }
        assert_ne!(first.path, checkpoint("https://host", "7").path);
    }
}
