//! The operator of one scoped database: makes it, stores documents, moves places, and sees everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::device::password;
use super::{Outcome, encoded, exchange, list, text};
use crate::support::http::{Client, Request, Response};

/// Who sees all of one database.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    client: Client,
    pub(super) database: String,
}

/// A refused revision as the list of the escrow shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) rev: String,
    pub(super) account: String,
    pub(super) reason: String,
}

impl Operator {
    pub(super) fn new(client: Client, database: &str) -> Self {
        Self { client, database: database.to_owned() }
    }

    /// Sends a request below the database: `path` begins with a slash or is empty.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Value>, statuses: &[u16]) -> Outcome<Response> {
        let request = Request::new(method, &format!("/{}{path}", self.database));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        exchange(&self.client, &request, statuses)
    }

    fn at_root(&self, method: &str, path: &str, body: &Value, statuses: &[u16]) -> Outcome<Response> {
        exchange(&self.client, &Request::new(method, path).json(body), statuses)
    }

    /// Makes the database, which accounts of these roles may enter.
    pub(super) fn create(&self, roles: &[&str]) -> Outcome<()> {
        self.send("PUT", "?scoped=true", None, &[201])?;
        let security = json!({"members": {"names": [], "roles": roles}, "admins": {"names": [], "roles": ["_admin"]}});
        self.send("PUT", "/_security", Some(&security), &[200]).map(drop)
    }

    /// Deletes the database.
    pub(super) fn remove(&self) -> Outcome<()> {
        self.send("DELETE", "", None, &[200]).map(drop)
    }

    /// Stores new documents in this order, in one batch.
    pub(super) fn put_all(&self, documents: &[Value]) -> Outcome<()> {
        let rows = self.send("POST", "/_bulk_docs", Some(&json!({"docs": documents})), &[201])?.json();
        match list(&rows).iter().find(|row| row["ok"] != json!(true)) {
            Some(row) => Err(format!("a document of the world was not stored: {row}")),
            None => Ok(()),
        }
    }

    /// Stores the next revision of a document, or the first one, and says which that is.
    pub(super) fn put(&self, document: &Value) -> Outcome<String> {
        let id = text(document, "_id");
        let mut document = document.clone();
        if let Some(stored) = self.get(id)? {
            document["_rev"] = stored["_rev"].clone();
        }
        let answer = self.send("PUT", &format!("/{}", encoded(id)), Some(&document), &[201, 202])?.json();
        Ok(text(&answer, "rev").to_owned())
    }

    /// Deletes a document; one that is not stored is passed over.
    pub(super) fn delete(&self, id: &str) -> Outcome<()> {
        let Some(stored) = self.get(id)? else { return Ok(()) };
        let path = format!("/{}?rev={}", encoded(id), text(&stored, "_rev"));
        self.send("DELETE", &path, None, &[200, 202]).map(drop)
    }

    /// The winner of a document, unless it is deleted or not there.
    pub(super) fn get(&self, id: &str) -> Outcome<Option<Value>> {
        let answer = self.send("GET", &format!("/{}", encoded(id)), None, &[200, 404])?;
        Ok((answer.status == 200).then(|| answer.json()))
    }

    /// The leaves of a document, the deleted ones among them.
    pub(super) fn leaves(&self, id: &str) -> Outcome<BTreeSet<String>> {
        let path = format!("/{}?open_revs=all", encoded(id));
        let request = Request::new("GET", &format!("/{}{path}", self.database)).header("Accept", "application/json");
        let answer = exchange(&self.client, &request, &[200, 404])?;
        if answer.status == 404 {
            return Ok(BTreeSet::new());
        }
        Ok(list(&answer.json()).iter().map(|leaf| text(&leaf["ok"], "_rev").to_owned()).collect())
    }

    /// Winners of all documents that are not deleted.
    pub(super) fn winners(&self) -> Outcome<BTreeMap<String, String>> {
        let rows = self.send("GET", "/_all_docs", None, &[200])?.json();
        let rows = list(&rows["rows"]).iter();
        Ok(rows.map(|row| (text(row, "id").to_owned(), text(&row["value"], "rev").to_owned())).collect())
    }

    /// What is in escrow, by number.
    pub(super) fn escrow(&self) -> Outcome<Vec<Kept>> {
        let answer = self.send("GET", "/_escrow", None, &[200])?.json();
        let rows = list(&answer["rows"]);
        if answer["total_rows"].as_u64() != Some(rows.len() as u64) {
            return Err(format!("total_rows does not count the rows: {answer}"));
        }
        rows.iter().map(kept).collect()
    }

    /// Moves a place with what is below it.
    pub(super) fn move_place(&self, id: &str, to: &str) -> Outcome<()> {
        self.send("POST", &format!("/_places/{}/move", encoded(id)), Some(&json!({"to": to})), &[200]).map(drop)
    }

    /// Replaces members of the settings.
    pub(super) fn change_settings(&self, changes: &Value) -> Outcome<()> {
        let mut document = self.get("settings")?.ok_or("there are no settings")?;
        for (name, value) in changes.as_object().into_iter().flatten() {
            document["settings"][name] = value.clone();
        }
        self.put(&document).map(drop)
    }

    /// How long withdrawn places still take pushes, in seconds, for all databases of the server.
    pub(super) fn set_drain_seconds(&self, seconds: &str) -> Outcome<()> {
        let path = "/_node/_local/_config/settle/drain_seconds";
        self.at_root("PUT", path, &json!(seconds), &[200]).map(drop)
    }

    /// Makes or changes an account; its password never changes.
    pub(super) fn put_account(&self, name: &str, fields: &Value) -> Outcome<()> {
        let id = format!("org.couchdb.user:{name}");
        let path = format!("/_users/{}", encoded(&id));
        let stored = exchange(&self.client, &Request::new("GET", &path), &[200, 404])?;
        let mut document = match stored.status {
            200 => stored.json(),
            _ => json!({"_id": id, "name": name, "type": "user", "roles": [], "password": password(name)}),
        };
        for (field, value) in fields.as_object().into_iter().flatten() {
            document[field] = value.clone();
        }
        self.at_root("PUT", &path, &document, &[201]).map(drop)
    }
}

fn kept(row: &Value) -> Outcome<Kept> {
    let complete = row["received"].is_u64() && row["deleted"].is_boolean() && row["device"].is_string();
    match row["number"].as_u64().filter(|_| complete) {
        Some(number) => Ok(Kept {
            number,
            id: text(row, "id").to_owned(),
            rev: text(row, "rev").to_owned(),
            account: text(row, "account").to_owned(),
            reason: text(row, "reason").to_owned(),
        }),
        None => Err(format!("a row of the escrow is not complete: {row}")),
    }
}
