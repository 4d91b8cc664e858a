//! The rules of `_users` documents: what one must look like, who may write it, what it says about the account.
//!
//! The rules and their sentences are CouchDB's (`validate_doc_update` of `_users`, 3.5; protocol page §6.3), checked in
//! its order. A password is replaced by its hash before a document is stored. Members that Settle does not know stay as
//! the client wrote them. Never decides who may enter the database at all: `_security` does that first.
//!
//! A write takes: [`may_write`], [`UserDocument::parse`], [`UserDocument::hash_password`] (slow, before the writer),
//! then beside the stored document [`UserDocument::restore_withheld`] and [`UserDocument::check`].

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error::{AccountError, Result};
use super::password::{CREDENTIAL_MEMBERS, Credential, PasswordPolicy, SALT_BYTES};

/// What the id of an account's document begins with.
pub const ID_PREFIX: &str = "org.couchdb.user:";

/// Shown in place of a salt or a key to those who need not see them.
const WITHHELD: &str = "withheld";
const SECRET_MEMBERS: [&str; 3] = ["salt", "derived_key", "password_sha"];
const SCHEMES: [&str; 3] = ["simple", "pbkdf2", "bcrypt"];

/// Who reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author<'a> {
    /// The account's name; `None` for the anonymous.
    pub name: Option<&'a str>,
    /// Has the role `_admin`.
    pub server_admin: bool,
    /// Administers `_users` by its `_security`.
    pub database_admin: bool,
}

impl Author<'_> {
    fn is_admin(&self) -> bool {
        self.server_admin || self.database_admin
    }
}

/// The name in a document's id, or nothing for ids of another kind.
#[must_use]
pub fn name_of_id(id: &str) -> Option<&str> {
    id.strip_prefix(ID_PREFIX)
}

/// Whether this author may read the document with this id. To others it does not exist.
///
/// # Errors
/// 404 `missing`; 403 for design documents.
pub fn may_read(id: &str, author: &Author<'_>) -> Result<()> {
    if author.is_admin() {
        return Ok(());
    }
    if id.starts_with("_design/") {
        return Err(AccountError::forbidden("Only administrators can view design docs in the users database."));
    }
    if author.name.is_some() && author.name == name_of_id(id) { Ok(()) } else { Err(AccountError::Missing) }
}

/// Whether this author may try to write the document with this id. In `_bulk_docs` one refusal refuses the whole
/// request. The anonymous may try, to register themselves; what they may write is [`UserDocument::check`]'s business.
///
/// # Errors
/// 404 `missing`.
pub fn may_write(id: &str, author: &Author<'_>) -> Result<()> {
    let own = author.name.is_none() || author.name == name_of_id(id);
    if author.is_admin() || own { Ok(()) } else { Err(AccountError::Missing) }
}

/// Whether this author may delete the account `stored` tells of (its last version; `None` if there is none). Other
/// rules do not apply to deletions.
///
/// # Errors
/// 403 `forbidden`.
pub fn may_delete(stored: Option<&UserDocument>, author: &Author<'_>) -> Result<()> {
    let own = author.name.is_some() && stored.and_then(|stored| stored.string("name")).as_deref() == author.name;
    if author.server_admin || own {
        return Ok(());
    }
    Err(AccountError::forbidden("Only admins may delete other user docs."))
}

/// What a document says about its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// The name to log in with.
    pub name: String,
    /// The roles; never `_admin`.
    pub roles: Vec<String>,
    /// The hash. Without one nobody can log in.
    pub credential: Option<Credential>,
    /// The document asks for a one-time code (`totp`) besides the password. Settle cannot check it, so a password alone
    /// must not do.
    pub needs_second_factor: bool,
    /// Ids of its places (`facility_id`: text, or a list of it).
    pub places: Vec<String>,
    /// The person it acts as (`contact_id`).
    pub contact: Option<String>,
    /// The programme's own name for it (`external_id`), without blanks around it.
    pub external_id: Option<String>,
}

/// The body of a `_users` document: its members in their order, each value as the client wrote it. Members that begin
/// with `_` are understood elsewhere and do not belong here.
#[derive(Debug, Clone)]
pub struct UserDocument {
    members: Vec<(String, Box<RawValue>)>,
}

impl UserDocument {
    /// Reads the text of a body. Of members with the same name the last one counts, as in CouchDB.
    ///
    /// # Errors
    /// `400 bad_request` for what is no JSON object.
    pub fn parse(body: &str) -> Result<Self> {
        let Members(members) = serde_json::from_str(body).map_err(|error| {
            AccountError::bad_request(match error.is_data() {
                true => "Document must be a JSON object",
                false => "invalid UTF-8 JSON",
            })
        })?;
        Ok(Self { members })
    }

    /// The text of the body.
    #[must_use]
    pub fn to_body(&self) -> String {
        let mut body = String::from("{");
        for (position, (name, value)) in self.members.iter().enumerate() {
            if position > 0 {
                body.push(',');
            }
            body.push_str(&Value::from(name.as_str()).to_string());
            body.push(':');
            body.push_str(value.get());
        }
        body.push('}');
        body
    }

    /// The text of a member's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, value)| value.get())
    }

    /// Replaces a password in clear by its hash. `true` if there was one: the account then begins a new epoch. `null`
    /// is no password and stays. The salt is fresh random bytes.
    ///
    /// # Errors
    /// 403 for a password that is no string (recording `users/rules`), 400 for one against the policy.
    pub fn hash_password(&mut self, policy: &PasswordPolicy, salt: [u8; SALT_BYTES]) -> Result<bool> {
        let password = match self.value("password") {
            Value::Null => return Ok(false),
            Value::String(password) => password,
            other => {
                let shown: String = other.to_string().chars().take(100).collect();
                return Err(AccountError::forbidden(format!("Password value of '{shown}' is invalid.")));
            }
        };
        policy.check(&password, &self.string("name").unwrap_or_default())?;
        self.set_credential(&Credential::hash(&password, salt)?);
        Ok(true)
    }

    /// Puts a hash in place of whatever credential, and password, the document has. For an upgrade at login, too.
    pub fn set_credential(&mut self, credential: &Credential) {
        self.remove_credential();
        for (name, value) in credential.to_members() {
            self.members.push((name, raw(&value)));
        }
    }

    /// Takes the credential away: nobody can log in with a password any more.
    pub fn remove_credential(&mut self) {
        self.members.retain(|(name, _)| name != "password" && !CREDENTIAL_MEMBERS.contains(&name.as_str()));
    }

    /// Sets a member, or takes it away.
    pub fn set_member(&mut self, name: &str, value: Option<&Value>) {
        let value = value.map(raw);
        match (self.members.iter_mut().find(|(member, _)| member == name), value) {
            (Some((_, stored)), Some(value)) => *stored = value,
            (None, Some(value)) => self.members.push((name.to_owned(), value)),
            (_, None) => self.members.retain(|(member, _)| member != name),
        }
    }

    /// The document for readers that are no operators: the same members, without salt and key. They can write it back,
    /// see [`UserDocument::restore_withheld`].
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        for (name, value) in &mut shown.members {
            if SECRET_MEMBERS.contains(&name.as_str()) {
                *value = raw(&Value::from(WITHHELD));
            }
        }
        shown
    }

    /// Puts the stored credential back where a client returns what [`UserDocument::without_secrets`] showed it.
    pub fn restore_withheld(&mut self, stored: Option<&Self>) {
        let withheld = SECRET_MEMBERS.iter().any(|member| self.string(member).as_deref() == Some(WITHHELD));
        let Some(stored) = stored.filter(|_| withheld) else { return };
        let is_credential = |(name, _): &(String, Box<RawValue>)| CREDENTIAL_MEMBERS.contains(&name.as_str());
        self.members.retain(|member| !is_credential(member));
        self.members.extend(stored.members.iter().filter(|member| is_credential(member)).cloned());
    }

    /// Judges a document that is to be stored under `id` in place of `stored`, in CouchDB's order and words. Holds for
    /// every way of writing, replication included.
    ///
    /// # Errors
    /// 403 `forbidden` with the first rule that is broken.
    pub fn check(&self, id: &str, stored: Option<&Self>, author: &Author<'_>) -> Result<()> {
        let (name, roles) = self.check_shape(id, stored)?;
        self.check_credential()?;
        if !author.is_admin() {
            check_own_update(&name, &roles, stored, author)?;
        }
        if roles.iter().any(|role| role.starts_with('_') && role != "_metrics") {
            return Err(AccountError::forbidden("No system roles (starting with underscore) in users db."));
        }
        if name.starts_with('_') {
            return Err(AccountError::forbidden("Username may not start with underscore."));
        }
        if name.contains(':') {
            return Err(AccountError::forbidden("Character `:` is not allowed in usernames."));
        }
        Ok(())
    }

    /// What the document says about the account, `None` where it breaks the rules of [`UserDocument::check`].
    #[must_use]
    pub fn facts(&self) -> Option<AccountFacts> {
        let members: Map<String, Value> =
            CREDENTIAL_MEMBERS.iter().map(|&member| (member.to_owned(), self.value(member))).collect();
        Some(AccountFacts {
            name: self.string("name")?,
            roles: self.roles().ok()?,
            credential: Credential::from_members(&members),
            needs_second_factor: is_truthy(&self.value("totp")),
            places: match self.value("facility_id") {
                Value::Array(places) => places.iter().filter_map(id_in).collect(),
                place => id_in(&place).into_iter().collect(),
            },
            contact: id_in(&self.value("contact_id")),
            external_id: self.string("external_id").map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()),
        })
    }

    fn check_shape(&self, id: &str, stored: Option<&Self>) -> Result<(String, Vec<String>)> {
        if self.string("type").as_deref() != Some("user") {
            return Err(AccountError::forbidden("doc.type must be user"));
        }
        let name = self.value("name");
        if !is_truthy(&name) {
            return Err(AccountError::forbidden("doc.name is required"));
        }
        let roles = self.roles()?;
        let name = match name {
            Value::String(name) if name_of_id(id) == Some(name.as_str()) => name,
            _ => return Err(AccountError::forbidden("Doc ID must be of the form org.couchdb.user:name")),
        };
        if stored.is_some_and(|stored| stored.string("name").as_ref() != Some(&name)) {
            return Err(AccountError::forbidden("Usernames can not be changed."));
        }
        Ok((name, roles))
    }

    fn check_credential(&self) -> Result<()> {
        if is_truthy(&self.value("password_sha")) && !is_truthy(&self.value("salt")) {
            let reason = "Users with password_sha must have a salt.See /_utils/script/couch.js for example code.";
            return Err(AccountError::forbidden(reason));
        }
        let scheme = self.value("password_scheme");
        let scheme = match &scheme {
            Value::String(scheme) if SCHEMES.contains(&scheme.as_str()) => scheme.as_str(),
            other if is_truthy(other) => {
                let shown: String = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                let shown: String = shown.chars().take(100).collect();
                return Err(AccountError::forbidden(format!("Password scheme `{shown}` not supported.")));
            }
            _ => "",
        };
        if scheme == "pbkdf2" && !self.value("iterations").is_number() {
            return Err(AccountError::forbidden("iterations must be a number."));
        }
        if scheme == "pbkdf2" && !self.value("derived_key").is_string() {
            return Err(AccountError::forbidden("derived_key must be a string."));
        }
        Ok(())
    }

    fn roles(&self) -> Result<Vec<String>> {
        let roles = self.value("roles");
        if !is_truthy(&roles) {
            return Err(AccountError::forbidden("doc.roles must exist"));
        }
        let Value::Array(roles) = roles else {
            return Err(AccountError::forbidden("doc.roles must be an array"));
        };
        let strings = roles.into_iter().map(|role| match role {
            Value::String(role) => Ok(role),
            _ => Err(AccountError::forbidden("doc.roles can only contain strings")),
        });
        strings.collect()
    }

    /// A member's value; `null` when it is missing, or nested too deeply to be anything a rule asks for.
    fn value(&self, name: &str) -> Value {
        self.get(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn string(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// What only administrators may do: touch others' documents, and roles.
fn check_own_update(name: &str, roles: &[String], stored: Option<&UserDocument>, author: &Author<'_>) -> Result<()> {
    let Some(stored) = stored else {
        if roles.is_empty() {
            return Ok(());
        }
        return Err(AccountError::forbidden("Only _admin may set roles"));
    };
    if author.name != Some(name) {
        return Err(AccountError::forbidden("You may only update your own user document."));
    }
    let mut before = stored.roles().unwrap_or_default();
    let mut after = roles.to_vec();
    before.sort_unstable();
    after.sort_unstable();
    if before == after { Ok(()) } else { Err(AccountError::forbidden("Only _admin may edit roles")) }
}

/// JavaScript's notion, in which the rules were written.
/// A link to a document: its id, or an object with `_id`.
fn id_in(value: &Value) -> Option<String> {
    let id = value.get("_id").unwrap_or(value).as_str()?;
    (!id.is_empty()).then(|| id.to_owned())
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    }
}

/// The text of a value built here.
fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a Value prints as JSON")
}

/// A JSON object's members in their order, values unread.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Members, A::Error> {
                let mut positions = std::collections::HashMap::new();
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    match positions.get(&name) {
                        Some(&position) => {
                            let (_, earlier) =
                                members.get_mut(position).ok_or_else(|| A::Error::custom("position of a member"))?;
                            *earlier = value;
                        }
                        None => {
                            positions.insert(name.clone(), members.len());
                            members.push((name, value));
                        }
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Author, PasswordPolicy, Result, UserDocument, may_delete, may_read, may_write};

    const ANONYMOUS: Author<'_> = Author { name: None, server_admin: false, database_admin: false };
    const DORA: Author<'_> = Author { name: Some("dora"), ..ANONYMOUS };
    const ADMIN: Author<'_> = Author { name: Some("root"), server_admin: true, database_admin: true };
    const SALT: [u8; 16] = [1; 16];

    fn document(value: &Value) -> UserDocument {
        UserDocument::parse(&value.to_string()).unwrap()
    }

    fn dora(roles: &[&str]) -> UserDocument {
        document(&json!({"type": "user", "name": "dora", "roles": roles}))
    }

    fn body(document: &UserDocument) -> Value {
        serde_json::from_str(&document.to_body()).unwrap()
    }

    fn reason<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!((error.status(), error.word()), (403, "forbidden"));
        error.reason().to_owned()
    }

    #[test]
    fn an_account_must_look_like_one_in_couchdbs_words() {
        let id = "org.couchdb.user:bela";
        for (value, expected) in [
            (json!({"name": "bela", "roles": []}), "doc.type must be user"),
            (json!({"type": "admin", "name": "bela", "roles": []}), "doc.type must be user"),
            (json!({"type": "user", "roles": []}), "doc.name is required"),
            (json!({"type": "user", "name": "", "roles": []}), "doc.name is required"),
            (json!({"type": "user", "name": 0, "roles": []}), "doc.name is required"),
            (json!({"type": "user", "name": "bela"}), "doc.roles must exist"),
            (json!({"type": "user", "name": "bela", "roles": "chw"}), "doc.roles must be an array"),
            (json!({"type": "user", "name": "bela", "roles": [5]}), "doc.roles can only contain strings"),
            (json!({"type": "user", "name": "other", "roles": []}), "Doc ID must be of the form org.couchdb.user:name"),
            (json!({"type": "user", "name": 5, "roles": []}), "Doc ID must be of the form org.couchdb.user:name"),
            (
                json!({"type": "user", "name": "bela", "roles": [], "password_sha": "x"}),
                "Users with password_sha must have a salt.See /_utils/script/couch.js for example code.",
            ),
            (
                json!({"type": "user", "name": "bela", "roles": [], "password_scheme": "x"}),
                "Password scheme `x` not supported.",
            ),
            (
                json!({"type": "user", "name": "bela", "roles": [], "password_scheme": "pbkdf2"}),
                "iterations must be a number.",
            ),
            (
                json!({"type": "user", "name": "bela", "roles": [], "password_scheme": "pbkdf2", "iterations": 1}),
                "derived_key must be a string.",
            ),
            (
                json!({"type": "user", "name": "bela", "roles": ["_admin"]}),
                "No system roles (starting with underscore) in users db.",
            ),
        ] {
            assert_eq!(reason(document(&value).check(id, None, &ADMIN)), expected, "{value}");
        }
        let metrics = document(&json!({"type": "user", "name": "bela", "roles": ["_metrics", ""]}));
        assert_eq!(metrics.check(id, None, &ADMIN), Ok(()));
    }

    #[test]
    fn names_may_hold_anything_but_a_leading_underscore_and_colons() {
        for (name, expected) in [
            ("_bela", Some("Username may not start with underscore.")),
            ("be:la", Some("Character `:` is not allowed in usernames.")),
            ("gül b@x", None),
            ("UPPER", None),
        ] {
            let result = document(&json!({"type": "user", "name": name, "roles": []})).check(
                &format!("org.couchdb.user:{name}"),
                None,
                &ADMIN,
            );
            assert_eq!(result.err().as_ref().map(super::AccountError::reason), expected, "{name}");
        }
        let result = dora(&[]).check("dora", None, &ADMIN);
        assert_eq!(reason(result), "Doc ID must be of the form org.couchdb.user:name");
    }

    #[test]
    fn users_change_their_own_document_but_no_roles() {
        let id = "org.couchdb.user:dora";
        let stored = dora(&["x", "chw"]);
        assert_eq!(dora(&["x", "chw"]).check(id, Some(&stored), &DORA), Ok(()));
        assert_eq!(dora(&["chw", "x"]).check(id, Some(&stored), &DORA), Ok(()));
        for roles in [&["chw", "x", "boss"][..], &["chw"], &["chw", "chw"], &[]] {
            assert_eq!(reason(dora(roles).check(id, Some(&stored), &DORA)), "Only _admin may edit roles");
            assert_eq!(dora(roles).check(id, Some(&stored), &ADMIN), Ok(()));
        }
        let emil = Author { name: Some("emil"), ..DORA };
        let result = dora(&["chw", "x"]).check(id, Some(&stored), &emil);
        assert_eq!(reason(result), "You may only update your own user document.");
        let renamed = document(&json!({"type": "user", "name": "old", "roles": []}));
        assert_eq!(reason(dora(&[]).check(id, Some(&renamed), &ADMIN)), "Usernames can not be changed.");
    }

    #[test]
    fn the_anonymous_register_without_roles_and_database_admins_with() {
        let id = "org.couchdb.user:dora";
        assert_eq!(dora(&[]).check(id, None, &ANONYMOUS), Ok(()));
        assert_eq!(reason(dora(&["chw"]).check(id, None, &ANONYMOUS)), "Only _admin may set roles");
        assert_eq!(dora(&["chw"]).check(id, None, &Author { database_admin: true, ..DORA }), Ok(()));
        assert_eq!(
            reason(dora(&[]).check(id, Some(&dora(&[])), &ANONYMOUS)),
            "You may only update your own user document."
        );
    }

    #[test]
    fn documents_of_others_do_not_exist() {
        let (own, other) = ("org.couchdb.user:dora", "org.couchdb.user:emil");
        for (author, id, readable, writable) in [
            (DORA, own, true, true),
            (DORA, other, false, false),
            (DORA, "dora", false, false),
            (ANONYMOUS, own, false, true),
            (ANONYMOUS, "x", false, true),
            (ADMIN, other, true, true),
        ] {
            assert_eq!(may_read(id, &author).is_ok(), readable, "{id}");
            assert_eq!(may_write(id, &author).is_ok(), writable, "{id}");
        }
        let error = may_read(other, &DORA).unwrap_err();
        assert_eq!((error.status(), error.word(), error.reason()), (404, "not_found", "missing"));
        assert_eq!(
            reason(may_read("_design/x", &DORA)),
            "Only administrators can view design docs in the users database."
        );
    }

    #[test]
    fn accounts_are_deleted_by_their_owner_or_a_server_admin() {
        let stored = dora(&[]);
        assert_eq!(may_delete(Some(&stored), &DORA), Ok(()));
        assert_eq!(may_delete(None, &ADMIN), Ok(()));
        for author in [ANONYMOUS, Author { name: Some("emil"), database_admin: true, ..DORA }] {
            assert_eq!(reason(may_delete(Some(&stored), &author)), "Only admins may delete other user docs.");
            assert_eq!(reason(may_delete(None, &author)), "Only admins may delete other user docs.");
        }
    }

    #[test]
    fn a_password_is_replaced_by_exactly_couchdbs_members() {
        let mut document = document(&json!({
            "type": "user", "name": "dora", "roles": [], "password": "pw-one",
            "password_sha": "x", "salt": "y", "preserve_salt": true, "kept": 1.0,
        }));
        assert_eq!(document.hash_password(&PasswordPolicy::default(), SALT), Ok(true));
        let stored = body(&document);
        let mut names: Vec<_> = stored.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let credential =
            ["derived_key", "iterations", "kept", "name", "password_scheme", "pbkdf2_prf", "roles", "salt", "type"];
        assert_eq!(names, credential);
        assert_eq!(stored["password_scheme"], "pbkdf2");
        assert_eq!((&stored["pbkdf2_prf"], &stored["iterations"]), (&json!("argon2id-m19456-p1"), &json!(2)));
        assert_eq!(document.check("org.couchdb.user:dora", None, &ADMIN), Ok(()));
        let facts = document.facts().unwrap();
        assert_eq!((facts.name.as_str(), facts.roles.len(), facts.needs_second_factor), ("dora", 0, false));
        assert!(facts.credential.unwrap().verify("pw-one"));
    }

    #[test]
    fn no_password_is_no_credential_and_null_stays() {
        for text in
            [r#"{"type":"user","name":"cem","roles":[]}"#, r#"{"password":null,"name":"cem","roles":[],"totp":{}}"#]
        {
            let mut document = UserDocument::parse(text).unwrap();
            assert_eq!(document.hash_password(&PasswordPolicy::default(), SALT), Ok(false));
            assert_eq!(document.to_body(), text);
            let facts = document.facts().unwrap();
            assert_eq!((facts.credential, facts.needs_second_factor), (None, text.contains("totp")));
        }
    }

    #[test]
    fn a_password_must_be_a_string_within_the_policy() {
        let mut number = document(&json!({"name": "bela", "password": 5}));
        let result = number.hash_password(&PasswordPolicy::default(), SALT);
        assert_eq!(reason(result), "Password value of '5' is invalid.");
        let mut name = document(&json!({"name": "annapurna", "password": "annapurna"}));
        assert_eq!(name.hash_password(&PasswordPolicy::recommended(), SALT).unwrap_err().status(), 400);
    }

    #[test]
    fn withheld_secrets_can_be_written_back() {
        let mut stored = document(&json!({"type": "user", "name": "dora", "roles": [], "password": "pw-one"}));
        stored.hash_password(&PasswordPolicy::default(), SALT).unwrap();
        let mut returned = stored.without_secrets();
        assert_eq!(body(&returned)["derived_key"], "withheld");
        assert_eq!(body(&returned).as_object().unwrap().len(), body(&stored).as_object().unwrap().len());
        assert_eq!(returned.facts().unwrap().credential, None);
        returned.restore_withheld(Some(&stored));
        assert_eq!(body(&returned), body(&stored));

        let mut changed = stored.without_secrets();
        changed.members.push(("password".into(), super::raw(&json!("pw-two"))));
        assert_eq!(changed.hash_password(&PasswordPolicy::default(), [2; 16]), Ok(true));
        changed.restore_withheld(Some(&stored));
        assert!(changed.facts().unwrap().credential.unwrap().verify("pw-two"));
    }

    #[test]
    fn members_keep_their_order_and_text_and_the_last_of_a_name_counts() {
        let text = r#"{"z":1.0,"name":"a","big":12345678901234567890123,"a\u0000\"b":[ 1e2 ],"name":"b"}"#;
        let expected = r#"{"z":1.0,"name":"b","big":12345678901234567890123,"a\u0000\"b":[ 1e2 ]}"#;
        assert_eq!(UserDocument::parse(text).unwrap().to_body(), expected);
        for (text, reason) in
            [("[]", "Document must be a JSON object"), ("{", "invalid UTF-8 JSON"), ("", "invalid UTF-8 JSON")]
        {
            assert_eq!(UserDocument::parse(text).unwrap_err().reason(), reason);
        }
        let deep = format!(r#"{{"type":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(UserDocument::parse(&deep).unwrap().check("x", None, &ADMIN).unwrap_err().status(), 403);
    }
}
