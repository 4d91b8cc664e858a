//! What the accounts of the source will be worth at the target: who can log in with the same password, who cannot.
//!
//! Only reads and counts. No hash is ever printed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::side::{Failure, Side, escaped, patiently};
use crate::accounts::user_document::{UserDocument, name_of_id};
use crate::http::client::Request;

/// Documents in one page.
const PAGE: usize = 500;
/// Names that are listed.
const MOST_NAMES: usize = 100;

/// The accounts of a server.
#[derive(Debug, Default, Serialize)]
pub(super) struct Accounts {
    /// All of them.
    pub(super) accounts: u64,
    /// With a password that works at Settle as it does at the source.
    pub(super) with_password: u64,
    /// With a place (`facility_id`), which a scoped database goes by.
    pub(super) with_place: u64,
    /// The others' names, and why their passwords do not work (at most a hundred).
    pub(super) without_password: Vec<String>,
}

impl Accounts {
    fn count(&mut self, name: &str, document: &UserDocument) {
        self.accounts += 1;
        let text = |member: &str| -> Option<String> { serde_json::from_str(document.get(member)?).ok()? };
        let facts = document.facts();
        self.with_place += u64::from(facts.as_ref().is_some_and(|facts| !facts.places.is_empty()));
        let why = match facts {
            None => "it has no name or no roles as an account needs them".to_owned(),
            Some(facts) if facts.needs_second_factor => "it needs a one-time code".to_owned(),
            Some(facts) if facts.credential.is_some() => {
                self.with_password += 1;
                return;
            }
            Some(_) => match text("password_scheme") {
                Some(scheme) => format!("its hash ({scheme}) cannot be verified here"),
                None => "it has no password".to_owned(),
            },
        };
        if self.without_password.len() < MOST_NAMES {
            self.without_password.push(format!("{name}: {why}"));
        }
    }

    /// In words, one line each.
    pub(super) fn told(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} accounts: {} can log in with the password they have, {} have a place",
            self.accounts, self.with_password, self.with_place
        )];
        if self.accounts > self.with_password {
            lines.push("these need a new password or a link:".to_owned());
            lines.extend(self.without_password.iter().map(|line| format!("  {line}")));
            let more = self.accounts - self.with_password - self.without_password.len() as u64;
            lines.extend((more > 0).then(|| format!("  and {more} more")));
        }
        lines
    }
}

#[derive(Deserialize)]
struct Row<'a> {
    id: String,
    #[serde(borrow)]
    doc: Option<&'a RawValue>,
}

/// Reads all accounts of a server.
pub(super) async fn survey(side: &Arc<Side>) -> Result<Accounts, Failure> {
    let mut accounts = Accounts::default();
    let mut start = String::new();
    loop {
        let key = escaped(&Value::from(start.as_str()).to_string());
        let path = format!("/_users/_all_docs?include_docs=true&limit={PAGE}&start_key={key}");
        let (rows, last) = patiently(async || {
            let mut results = side.send(Request::json("GET", &path, None)).await?.successful().await?.results();
            let (mut rows, mut last) = (Vec::new(), None);
            while let Some(text) = results.next().await? {
                let row: Row<'_> = serde_json::from_slice(&text).map_err(|error| results.strange(error.to_string()))?;
                let document = row.doc.and_then(|document| UserDocument::parse(document.get()).ok());
                rows.push((row.id.clone(), document));
                last = Some(row.id);
            }
            results.rest()?;
            Ok((rows, last))
        })
        .await?;
        for (id, document) in &rows {
            if let (Some(name), Some(document)) = (name_of_id(id), document) {
                accounts.count(name, document);
            }
        }
        match last {
            Some(last) if rows.len() == PAGE => start = format!("{last}\0"),
            _ => return Ok(accounts),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Accounts, UserDocument};

    #[test]
    fn who_can_log_in_is_counted_and_the_others_are_named() {
        let mut accounts = Accounts::default();
        let key = "f286afc4cd041f14ecf2b57f4c74d89de0924dba";
        for (name, members) in [
            (
                "ann",
                json!({"password_scheme": "pbkdf2", "iterations": 10, "salt": "s", "derived_key": key, "facility_id": ["p"]}),
            ),
            ("ben", json!({"password_scheme": "bcrypt", "derived_key": "x", "facility_id": "p"})),
            ("cem", json!({})),
            ("dot", json!({"salt": "s", "password_sha": key, "totp": {"key": "x"}})),
            ("eva", json!({"salt": "s", "password_sha": key})),
        ] {
            let mut document = members;
            for (member, value) in [("name", json!(name)), ("roles", json!(["chw"])), ("type", json!("user"))] {
                document[member] = value;
            }
            accounts.count(name, &UserDocument::parse(&document.to_string()).unwrap());
        }
        assert_eq!((accounts.accounts, accounts.with_password, accounts.with_place), (5, 2, 2));
        let told = accounts.told().join("\n");
        for line in
            ["5 accounts: 2 can", "  ben: its hash (bcrypt)", "  cem: it has no password", "  dot: it needs a one"]
        {
            assert!(told.contains(line), "{told}");
        }
        assert!(!told.contains(key) && !told.contains("ann:"), "{told}");
    }
}
