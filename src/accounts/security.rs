//! The `_security` object of a database: who is a member, who administers it.
//!
//! Keeps the client's own JSON text, so that members Settle does not know (`cloudant`, `couchdb_auth_only`) come back
//! as they were. Decides by names and roles alone (protocol page §6.4); what a restricted caller of a scoped database
//! may see is decided elsewhere. Never asks who the caller really is: name and roles are believed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::{AccountError, Result};

/// The role of server administrators: they may do everything.
pub const ADMIN_ROLE: &str = "_admin";

/// What a new database has (`default_security=admin_only`, CouchDB 3.x).
const DEFAULT_TEXT: &str = r#"{"members":{"roles":["_admin"]},"admins":{"roles":["_admin"]}}"#;

/// A checked `_security` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    text: String,
    admins: Group,
    members: Group,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Group {
    names: BTreeSet<String>,
    roles: BTreeSet<String>,
}

impl Default for Security {
    fn default() -> Self {
        let only_admins = || Group { names: BTreeSet::new(), roles: BTreeSet::from([ADMIN_ROLE.to_owned()]) };
        Self { text: DEFAULT_TEXT.to_owned(), admins: only_admins(), members: only_admins() }
    }
}

impl Security {
    /// Reads a request body or a stored object. Missing parts are empty; `readers` stands in for missing `members`.
    ///
    /// # Errors
    /// `400 bad_request` with the member at fault; CouchDB answers 500 to most of these.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|_| AccountError::bad_request("invalid UTF-8 JSON"))?;
        let Value::Object(object) = value else {
            return Err(AccountError::bad_request("Request body must be a JSON object"));
        };
        let members = if object.contains_key("members") { "members" } else { "readers" };
        Ok(Self { text: text.trim().to_owned(), admins: group(&object, "admins")?, members: group(&object, members)? })
    }

    /// The object as it was written, to be stored and sent.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether this caller administers the database: a server administrator, or named in `admins`, or by role.
    #[must_use]
    pub fn is_admin(&self, name: Option<&str>, roles: &[String]) -> bool {
        roles.iter().any(|role| role == ADMIN_ROLE) || self.admins.holds(name, roles)
    }

    /// Whether this caller may read and write ordinary documents. Without any member the database is public.
    #[must_use]
    pub fn is_member(&self, name: Option<&str>, roles: &[String]) -> bool {
        self.members.is_empty() || self.members.holds(name, roles) || self.is_admin(name, roles)
    }

    /// Lets members pass (trap T22).
    ///
    /// # Errors
    /// 401 for the anonymous, who may log in; 403 for others, who need not try again.
    pub fn require_member(&self, name: Option<&str>, roles: &[String]) -> Result<()> {
        match name {
            _ if self.is_member(name, roles) => Ok(()),
            None => Err(AccountError::unauthorized("You are not authorized to access this db.")),
            Some(_) => Err(AccountError::forbidden("You are not allowed to access this db.")),
        }
    }

    /// Lets database administrators pass, for design documents, `_index` and `_security`.
    ///
    /// # Errors
    /// 401 for the anonymous, 403 for others, in CouchDB's words for these.
    pub fn require_admin(&self, name: Option<&str>, roles: &[String]) -> Result<()> {
        const REASON: &str = "You are not a db or server admin.";
        match name {
            _ if self.is_admin(name, roles) => Ok(()),
            None => Err(AccountError::unauthorized(REASON)),
            Some(_) => Err(AccountError::forbidden(REASON)),
        }
    }

    /// Lets database administrators pass, for `_compact`, `_view_cleanup` and the like.
    ///
    /// # Errors
    /// Always 401, logged in or not, as CouchDB (recordings `access`).
    pub fn require_admin_for_upkeep(&self, name: Option<&str>, roles: &[String]) -> Result<()> {
        if self.is_admin(name, roles) {
            return Ok(());
        }
        Err(AccountError::unauthorized("You are not a server or db admin."))
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.roles.is_empty()
    }

    fn holds(&self, name: Option<&str>, roles: &[String]) -> bool {
        name.is_some_and(|name| self.names.contains(name)) || roles.iter().any(|role| self.roles.contains(role))
    }
}

fn group(object: &Map<String, Value>, member: &str) -> Result<Group> {
    match object.get(member) {
        None => Ok(Group::default()),
        Some(Value::Object(group)) => {
            Ok(Group { names: strings(group, member, "names")?, roles: strings(group, member, "roles")? })
        }
        Some(_) => Err(AccountError::bad_request(format!("{member} must be an object with names and roles"))),
    }
}

fn strings(group: &Map<String, Value>, member: &str, list: &str) -> Result<BTreeSet<String>> {
    let refusal = || AccountError::bad_request(format!("{member}.{list} must be a JSON list of strings"));
    match group.get(list) {
        None => Ok(BTreeSet::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(refusal)).collect()
        }
        Some(_) => Err(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::{AccountError, Security};

    fn roles(roles: &[&str]) -> Vec<String> {
        roles.iter().map(|&role| role.to_owned()).collect()
    }

    fn seen(result: Result<(), AccountError>) -> (u16, String) {
        result.map_or_else(|error| (error.status(), error.reason().to_owned()), |()| (200, String::new()))
    }

    #[test]
    fn a_new_database_is_for_server_administrators_only() {
        let security = Security::default();
        assert_eq!(Security::parse(security.text()), Ok(security.clone()));
        assert!(security.is_admin(Some("root"), &roles(&["_admin"])));
        assert!(!security.is_member(Some("ann"), &roles(&["chw"])));
        assert!(!security.is_member(None, &[]));
    }

    #[test]
    fn members_come_by_name_or_role_and_admins_need_not_be_members() {
        let text = r#"{"admins":{"names":["ada"],"roles":["boss"]},"members":{"names":["mia"],"roles":["chw"]}}"#;
        let security = Security::parse(text).unwrap();
        assert!(security.is_member(Some("mia"), &[]));
        assert!(security.is_member(Some("nik"), &roles(&["x", "chw"])));
        assert!(security.is_member(Some("ada"), &[]) && security.is_admin(Some("ada"), &[]));
        assert!(security.is_admin(Some("eve"), &roles(&["boss"])));
        assert!(security.is_admin(Some("root"), &roles(&["_admin"])));
        assert!(!security.is_admin(Some("mia"), &roles(&["chw"])));
        assert!(!security.is_member(Some("chw"), &roles(&["mia"])));
    }

    #[test]
    fn refusals_are_couchdbs_in_status_and_words() {
        let security = Security::parse(r#"{"members":{"names":["mia"]}}"#).unwrap();
        assert_eq!(seen(security.require_member(None, &[])), (401, "You are not authorized to access this db.".into()));
        assert_eq!(
            seen(security.require_member(Some("out"), &[])),
            (403, "You are not allowed to access this db.".into())
        );
        assert_eq!(seen(security.require_member(Some("mia"), &[])), (200, String::new()));
        assert_eq!(seen(security.require_admin(None, &[])), (401, "You are not a db or server admin.".into()));
        assert_eq!(seen(security.require_admin(Some("mia"), &[])), (403, "You are not a db or server admin.".into()));
        let upkeep = security.require_admin_for_upkeep(Some("mia"), &[]);
        assert_eq!(seen(upkeep), (401, "You are not a server or db admin.".into()));
    }

    #[test]
    fn without_members_everybody_is_one() {
        for text in ["{}", r#"{"admins":{"names":["ada"]}}"#, r#"{"members":{"names":[],"roles":[]}}"#] {
            let security = Security::parse(text).unwrap();
            assert!(security.is_member(None, &[]), "{text}");
            assert!(!security.is_admin(None, &[]), "{text}");
        }
    }

    #[test]
    fn readers_is_the_old_word_for_members() {
        let security = Security::parse(r#"{"readers":{"names":["old"]}}"#).unwrap();
        assert!(security.is_member(Some("old"), &[]) && !security.is_member(None, &[]));
        let both = Security::parse(r#"{"readers":{"names":["old"]},"members":{"names":["new"]}}"#).unwrap();
        assert!(both.is_member(Some("new"), &[]) && !both.is_member(Some("old"), &[]));
    }

    #[test]
    fn unknown_members_come_back_as_written() {
        let text = r#" {"cloudant":{"ann":["_reader"]},"n":1.0,"couchdb_auth_only":true} "#;
        assert_eq!(Security::parse(text).unwrap().text(), text.trim());
    }

    #[test]
    fn malformed_objects_are_refused_with_the_member_at_fault() {
        for (text, reason) in [
            ("[]", "Request body must be a JSON object"),
            ("{", "invalid UTF-8 JSON"),
            (r#"{"admins":null}"#, "admins must be an object with names and roles"),
            (r#"{"admins":{"names":"ann"}}"#, "admins.names must be a JSON list of strings"),
            (r#"{"members":{"roles":[1]}}"#, "members.roles must be a JSON list of strings"),
            (r#"{"readers":[]}"#, "readers must be an object with names and roles"),
        ] {
            let error = Security::parse(text).unwrap_err();
            assert_eq!((error.status(), error.word(), error.reason()), (400, "bad_request", reason), "{text}");
        }
    }
}
