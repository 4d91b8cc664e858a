//! The acceptance data as values: the invented world, its accounts, and a server that has them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::device::Device;
use super::operator::Operator;
use crate::support::server::TestServer;

/// Every role that the data and the tests of this folder give to accounts.
const ROLES: [&str; 5] = ["chw", "supervisor", "officer", "helper", "steward"];

/// A file of `tests/acceptance/`.
pub(super) fn acceptance(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The settings of most cases: no depth rule, nothing switched on.
pub(super) fn plain_settings() -> Value {
    json!({"replication_depth": [], "district_admins_access_unallocated_messages": false, "permissions": {}})
}

/// A server, the accounts it has at the moment, and the documents that a fresh database begins with.
pub(super) struct World {
    pub(super) server: TestServer,
    pub(super) documents: Vec<Value>,
    /// The accounts of the data.
    users: BTreeMap<String, Value>,
    /// The accounts as they were last set.
    present: BTreeMap<String, Value>,
}

impl World {
    /// Starts a server; accounts and databases come later.
    pub(super) fn start() -> Self {
        let data = acceptance("visibility.json");
        let users = data["users"].as_object().cloned().unwrap_or_default();
        Self {
            server: TestServer::start(),
            documents: super::list(&data["world"]["documents"]).to_vec(),
            users: users.into_iter().collect(),
            present: BTreeMap::new(),
        }
    }

    /// The account of the data with these fields replaced; made when it is not there yet.
    pub(super) fn account(&mut self, name: &str, changes: &Map<String, Value>) -> Outcome<()> {
        let mut wanted = self.users.get(name).cloned().unwrap_or_else(|| json!({}));
        merge(&mut wanted, changes);
        self.store_account(name, wanted)
    }

    /// The account as it is now with these fields replaced; made when it is not there yet.
    pub(super) fn change_account(&mut self, name: &str, changes: &Map<String, Value>) -> Outcome<()> {
        let mut wanted = self.present.get(name).cloned().unwrap_or_else(|| json!({}));
        merge(&mut wanted, changes);
        self.store_account(name, wanted)
    }

    /// Every account of the data as it is there.
    pub(super) fn reset_accounts(&mut self) -> Outcome<()> {
        let names: Vec<String> = self.users.keys().cloned().collect();
        names.iter().try_for_each(|name| self.account(name, &Map::new()))
    }

    fn store_account(&mut self, name: &str, wanted: Value) -> Outcome<()> {
        if self.present.get(name) != Some(&wanted) {
            Operator::new(self.server.admin(), "_users").put_account(name, &wanted)?;
            self.present.insert(name.to_owned(), wanted);
        }
        Ok(())
    }

    /// A fresh scoped database with settings and nothing else.
    pub(super) fn empty_database(&self, name: &str, settings: &Value) -> Outcome<Operator> {
        let operator = Operator::new(self.server.admin(), name);
        operator.create(&ROLES)?;
        operator.put_all(&[settings_document(settings)])?;
        Ok(operator)
    }

    /// A fresh scoped database with settings and the documents of the world.
    pub(super) fn database(&self, name: &str, settings: &Value) -> Outcome<Operator> {
        let operator = self.empty_database(name, settings)?;
        operator.put_all(&self.documents)?;
        Ok(operator)
    }

    /// A new login of an account: a device that has nothing yet.
    pub(super) fn device(&self, account: &str, database: &str) -> Outcome<Device> {
        Device::log_in(self.server.anonymous(), account, database)
    }
}

/// The `settings` document; every role may edit, besides what the permissions say.
pub(super) fn settings_document(settings: &Value) -> Value {
    let mut settings = settings.clone();
    settings["permissions"]["can_edit"] = json!(ROLES);
    json!({"_id": "settings", "settings": settings})
}

fn merge(into: &mut Value, changes: &Map<String, Value>) {
    if let Some(object) = into.as_object_mut() {
        object.extend(changes.clone());
    }
}
