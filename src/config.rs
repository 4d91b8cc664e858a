//! One typed configuration: a TOML file, then the environment and the command line. Every limit with its unit.
//!
//! Settings that CouchDB has carry CouchDB's section and key, so that `GET /_node/_local/_config` and existing tools work.
//! What is changed there is kept in the store and wins over the file. Unknown keys of known sections in the file are
//! errors; over the API any key may be kept, as in CouchDB, but only known ones mean something.

pub mod sending;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use self::sending::{EventWebhook, Outbox};

/// What the server is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// The copy of the revocation ledger; nothing: the data folder's name and `.ledger`, beside it.
    pub ledger: Option<PathBuf>,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Operators: name → password or CouchDB hash.
    pub admins: BTreeMap<String, String>,
    /// Without operators: everybody is one ("admin party"). Never by default.
    pub open: bool,
    /// What one person may not do alone. Not changed over HTTP: whoever operates there cannot lift it.
    pub duties: Duties,
    /// Cache of the store, in MiB.
    pub cache_mib: usize,
    /// Write buffers of the store, in MiB.
    pub write_buffer_mib: usize,
    /// How messages with links leave.
    pub outbox: Outbox,
    /// The key that seals links in the outbox; nothing: the data folder's name and `.outbox-key`, beside it.
    pub outbox_key: Option<PathBuf>,
    /// Who is told of what in the audit log.
    pub event_webhooks: Vec<EventWebhook>,
    /// Settings of the file, by section and key.
    pub settings: BTreeMap<(String, String), String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("settle-data"),
            ledger: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 5984)),
            admins: BTreeMap::new(),
            open: false,
            duties: Duties::default(),
            cache_mib: 32,
            write_buffer_mib: 32,
            outbox: Outbox::default(),
            outbox_key: None,
            event_webhooks: Vec::new(),
            settings: BTreeMap::new(),
        }
    }
}

/// Keys of `[settle]` that only count at the start.
const OWN_KEYS: [&str; 9] = [
    "data",
    "ledger",
    "outbox_key",
    "listen",
    "open",
    "cache_mib",
    "write_buffer_mib",
    "break_glass",
    "retirements_alone",
];

/// What one person may not do alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duties {
    /// Operators read documents of scoped databases only for a while and for a reason (`POST /_break_glass`).
    pub break_glass: bool,
    /// Accounts and devices whose rights one person may end within an hour; 0: any number.
    pub retirements_alone: u64,
}

impl Default for Duties {
    fn default() -> Self {
        Self { break_glass: false, retirements_alone: 20 }
    }
}

/// Whether something is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Required {
    Required,
    Off,
}

#[derive(Debug, Default, Deserialize)]
struct Own {
    data: Option<PathBuf>,
    ledger: Option<PathBuf>,
    outbox_key: Option<PathBuf>,
    listen: Option<SocketAddr>,
    open: Option<bool>,
    cache_mib: Option<usize>,
    write_buffer_mib: Option<usize>,
    break_glass: Option<Required>,
    retirements_alone: Option<u64>,
}

impl Config {
    /// Reads a TOML file over the defaults: `[settle]`, `[admins]`, `[outbox]`, `[event_webhooks]`, and CouchDB's sections.
    ///
    /// # Errors
    /// A sentence that names the section and key at fault.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        let file: toml::Table = text.parse().map_err(|error| format!("the configuration is no TOML: {error}"))?;
        for (section, values) in file {
            let toml::Value::Table(values) = values else {
                return Err(format!("`{section}` must be a section, such as [{section}]"));
            };
            match section.as_str() {
                "settle" => {
                    let (own, settings): (toml::Table, toml::Table) =
                        values.into_iter().partition(|(key, _)| OWN_KEYS.contains(&key.as_str()));
                    self.read_section("settle", settings)?;
                    let own: Own = own.try_into().map_err(|error| format!("[settle]: {error}"))?;
                    self.data = own.data.unwrap_or_else(|| self.data.clone());
                    self.ledger = own.ledger.or_else(|| self.ledger.clone());
                    self.outbox_key = own.outbox_key.or_else(|| self.outbox_key.clone());
                    self.listen = own.listen.unwrap_or(self.listen);
                    self.open = own.open.unwrap_or(self.open);
                    if let Some(required) = own.break_glass {
                        self.duties.break_glass = required == Required::Required;
                    }
                    self.duties.retirements_alone = own.retirements_alone.unwrap_or(self.duties.retirements_alone);
                    self.cache_mib = own.cache_mib.unwrap_or(self.cache_mib);
                    self.write_buffer_mib = own.write_buffer_mib.unwrap_or(self.write_buffer_mib);
                }
                "admins" => {
                    for (name, password) in values {
                        let password =
                            password.as_str().ok_or_else(|| format!("[admins] {name}: a string expected"))?;
                        self.admins.insert(name, password.to_owned());
                    }
                }
                "outbox" => self.outbox = sending::outbox(values)?,
                "event_webhooks" => self.event_webhooks = sending::event_webhooks(values)?,
                _ => self.read_section(&section, values)?,
            }
        }
        Ok(())
    }

    fn read_section(&mut self, section: &str, values: toml::Table) -> Result<(), String> {
        let mut check = Settings::default();
        for (key, value) in values {
            let text = match value {
                toml::Value::String(text) => text,
                other => other.to_string(),
            };
            if !check.set(section, &key, &text)? {
                return Err(format!("[{section}] {key}: there is no such setting"));
            }
            self.settings.insert((section.to_owned(), key), text);
        }
        Ok(())
    }
}

/// Settings that may change while the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "settings are independent switches")]
pub struct Settings {
    /// Bytes of one document without attachments.
    pub max_document_bytes: usize,
    /// Bytes of one attachment.
    pub max_attachment_bytes: u64,
    /// Bytes of a document id.
    pub max_document_id_bytes: usize,
    /// Bytes of a request body.
    pub max_request_bytes: u64,
    /// Bytes that the bodies of all requests may hold in memory together.
    pub max_body_memory_bytes: u64,
    /// Bytes of a request's path and query.
    pub max_uri_bytes: usize,
    /// JSON answers are sent in gzip to clients that take it.
    pub compress_responses: bool,
    /// Anonymous requests are refused.
    pub require_valid_user: bool,
    /// … but for `/_up`.
    pub require_valid_user_except_for_up: bool,
    /// `_all_dbs` is for operators.
    pub admin_only_all_dbs: bool,
    /// Databases in one `_dbs_info`.
    pub max_dbs_info: usize,
    /// `_security` of `_users` may be changed.
    pub users_security_editable: bool,
    /// Sent with 401 when set.
    pub www_authenticate: Option<String>,
    /// Seconds a session lives without use.
    pub session_seconds: u64,
    /// Cookies carry `Expires` and `Max-Age`.
    pub persistent_cookies: bool,
    /// `Domain` of cookies.
    pub cookie_domain: Option<String>,
    /// `SameSite` of cookies: `strict`, `lax`, `none`.
    pub same_site: Option<String>,
    /// Cookies are `Secure`: a proxy in front speaks TLS.
    pub secure_cookies: bool,
    /// Fewest characters of a new password.
    pub min_password_characters: usize,
    /// CORS on.
    pub cors: bool,
    /// Allowed origins; `*` for any.
    pub cors_origins: Vec<String>,
    /// Cookies may be sent across origins.
    pub cors_credentials: bool,
    /// Allowed request headers.
    pub cors_headers: Vec<String>,
    /// Allowed methods.
    pub cors_methods: Vec<String>,
    /// Seconds a preflight may be kept.
    pub cors_max_age: u64,
    /// Ids in one `_uuids`.
    pub max_uuids: u64,
    /// Documents in one `_purge`.
    pub max_purge_documents: usize,
    /// Revisions in one `_purge`.
    pub max_purge_revisions: usize,
    /// Seconds for which a device that lost a right may still push what it had, from its first such push (S13).
    pub drain_seconds: u64,
    /// Seconds after a withdrawal at which the last push is taken, whenever the device first called.
    pub drain_cap_seconds: u64,
    /// A draining device's `_changes` is 403 instead of an empty feed.
    pub forbid_draining_changes: bool,
    /// Seconds without a push after which a device that wrote its checkpoint counts as drained.
    pub quiet_seconds: u64,
    /// Seconds without a call after which a device is told of as silent, where a webhook wants `device.silent`.
    pub silent_seconds: u64,
    /// Seconds a session of a named device lives without use.
    pub device_session_seconds: u64,
    /// Seconds for which a link works.
    pub link_seconds: u64,
    /// What links begin with, such as `https://sync.example.org`; nothing: the address that the request came to.
    pub public_url: Option<String>,
    /// Path to which the page of a link leads on, such as `/app/`.
    pub link_next: Option<String>,
    /// Documents that one device may have in escrow.
    pub max_escrow_documents: u64,
    /// Bytes that one device may have in escrow.
    pub max_escrow_bytes: u64,
    /// Documents in one account's scope above which it is reported.
    pub soft_scope_documents: u64,
    /// Documents in one account's scope above which pulls are refused; 0: no limit.
    pub hard_scope_documents: u64,
    /// Documents that one move may place anew.
    pub max_move_documents: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_document_bytes: 8_000_000,
            max_attachment_bytes: 1_073_741_824,
            max_document_id_bytes: settle_protocol::document_id::MAX_ID_BYTES,
            max_request_bytes: 4_294_967_296,
            max_body_memory_bytes: 512 << 20,
            max_uri_bytes: 16_384,
            compress_responses: true,
            require_valid_user: false,
            require_valid_user_except_for_up: false,
            admin_only_all_dbs: true,
            max_dbs_info: 100,
            users_security_editable: false,
            www_authenticate: None,
            session_seconds: 600,
            persistent_cookies: true,
            cookie_domain: None,
            same_site: None,
            secure_cookies: false,
            min_password_characters: 1,
            cors: false,
            cors_origins: Vec::new(),
            cors_credentials: false,
            cors_headers: words(
                "accept, authorization, content-type, origin, referer, if-match, destination, x-requested-with, x-http-method-override, x-couch-full-commit, x-couchdb-www-authenticate, x-couch-persist, x-csrf-token",
            ),
            cors_methods: words("GET, HEAD, POST, PUT, DELETE, TRACE, CONNECT, COPY, OPTIONS"),
            cors_max_age: 600,
            max_uuids: 1000,
            max_purge_documents: 100,
            max_purge_revisions: 1000,
            drain_seconds: 30 * 24 * 3600,
            drain_cap_seconds: 90 * 24 * 3600,
            forbid_draining_changes: false,
            quiet_seconds: 24 * 3600,
            silent_seconds: 7 * 24 * 3600,
            device_session_seconds: 365 * 24 * 3600,
            link_seconds: 24 * 3600,
            public_url: None,
            link_next: None,
            max_escrow_documents: 10_000,
            max_escrow_bytes: 256 << 20,
            soft_scope_documents: 10_000,
            hard_scope_documents: 0,
            max_move_documents: 200_000,
        }
    }
}

/// Section, key, and where the value lives: one line per setting.
macro_rules! settings_table {
    ($($section:literal $key:literal => $field:ident : $kind:ident;)*) => {
        impl Settings {
            /// Sets a value from its text. `false`: there is no such setting, which is no error over the API.
            ///
            /// # Errors
            /// A sentence that says what the value must be.
            pub fn set(&mut self, section: &str, key: &str, text: &str) -> Result<bool, String> {
                match (section, key) {
                    $(($section, $key) => {
                        self.$field = $kind::read(text).map_err(|what| format!("[{section}] {key}: {what} expected, not {text:?}"))?;
                    })*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// All settings that exist: section, key, value as text.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, &'static str, String)> {
                vec![$(($section, $key, $kind::write(&self.$field)),)*]
            }
        }
    };
}

settings_table! {
    "couchdb" "max_document_size" => max_document_bytes: number;
    "couchdb" "max_attachment_size" => max_attachment_bytes: number;
    "couchdb" "max_document_id_length" => max_document_id_bytes: number;
    "couchdb" "users_db_security_editable" => users_security_editable: switch;
    "chttpd" "max_http_request_size" => max_request_bytes: number;
    "chttpd" "max_uri_length" => max_uri_bytes: number;
    "chttpd" "compress_responses" => compress_responses: switch;
    "chttpd" "require_valid_user" => require_valid_user: switch;
    "chttpd" "require_valid_user_except_for_up" => require_valid_user_except_for_up: switch;
    "chttpd" "admin_only_all_dbs" => admin_only_all_dbs: switch;
    "chttpd" "max_db_number_for_dbs_info_req" => max_dbs_info: number;
    "chttpd" "enable_cors" => cors: switch;
    "chttpd" "WWW-Authenticate" => www_authenticate: optional;
    "chttpd_auth" "timeout" => session_seconds: number;
    "chttpd_auth" "allow_persistent_cookies" => persistent_cookies: switch;
    "chttpd_auth" "cookie_domain" => cookie_domain: optional;
    "chttpd_auth" "same_site" => same_site: optional;
    "chttpd_auth" "secure" => secure_cookies: switch;
    "chttpd_auth" "min_password_characters" => min_password_characters: number;
    "cors" "origins" => cors_origins: list;
    "cors" "credentials" => cors_credentials: switch;
    "cors" "headers" => cors_headers: list;
    "cors" "methods" => cors_methods: list;
    "cors" "max_age" => cors_max_age: number;
    "uuids" "max_count" => max_uuids: number;
    "purge" "max_document_id_number" => max_purge_documents: number;
    "purge" "max_revisions_number" => max_purge_revisions: number;
    "settle" "max_body_memory_bytes" => max_body_memory_bytes: number;
    "settle" "drain_seconds" => drain_seconds: number;
    "settle" "drain_cap_seconds" => drain_cap_seconds: number;
    "settle" "forbid_draining_changes" => forbid_draining_changes: switch;
    "settle" "quiet_seconds" => quiet_seconds: number;
    "settle" "silent_seconds" => silent_seconds: number;
    "settle" "device_session_seconds" => device_session_seconds: number;
    "settle" "link_seconds" => link_seconds: number;
    "settle" "public_url" => public_url: optional;
    "settle" "link_next" => link_next: optional;
    "settle" "max_escrow_documents" => max_escrow_documents: number;
    "settle" "max_escrow_bytes" => max_escrow_bytes: number;
    "settle" "soft_scope_documents" => soft_scope_documents: number;
    "settle" "hard_scope_documents" => hard_scope_documents: number;
    "settle" "max_move_documents" => max_move_documents: number;
}

mod number {
    pub(super) fn read<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
        text.trim().parse().map_err(|_| "a whole number")
    }
    pub(super) fn write(value: &impl ToString) -> String {
        value.to_string()
    }
}

mod switch {
    pub(super) fn read(text: &str) -> Result<bool, &'static str> {
        text.trim().parse().map_err(|_| "true or false")
    }
    pub(super) fn write(value: &bool) -> String {
        value.to_string()
    }
}

mod optional {
    pub(super) fn read(text: &str) -> Result<Option<String>, &'static str> {
        if text.contains(['\r', '\n', '\0']) {
            return Err("text without line breaks");
        }
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
    pub(super) fn write(value: &Option<String>) -> String {
        value.clone().unwrap_or_default()
    }
}

mod list {
    pub(super) fn read(text: &str) -> Result<Vec<String>, &'static str> {
        Ok(super::words(text))
    }
    pub(super) fn write(value: &[String]) -> String {
        value.join(", ")
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_over_the_defaults() {
        let mut config = Config::default();
        let text = "[settle]\nlisten = \"127.0.0.1:0\"\n[admins]\nann = \"secret\"\n[chttpd]\nenable_cors = true\n[cors]\norigins = \"https://a.example\"\n";
        config.read(text).expect("valid");
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.admins["ann"], "secret");
        assert_eq!(config.settings[&("chttpd".to_owned(), "enable_cors".to_owned())], "true");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("[settle]\nlisten = 5", "[settle]"),
            ("[settle]\nx = 5", "there is no such setting"),
            ("[cors]\nx = 5", "[cors] x"),
            ("[chttpd]\nenable_cors = \"maybe\"", "true or false"),
            ("[couchdb]\nmax_document_size = -1", "a whole number"),
            ("x = 5", "`x` must be a section"),
            ("[", "no TOML"),
        ] {
            let error = Config::default().read(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_setting_reads_what_it_writes() {
        let mut copy = Settings::default();
        for (section, key, value) in Settings::default().list() {
            assert_eq!(copy.set(section, key, &value), Ok(true), "{section}/{key}");
        }
        assert_eq!(copy, Settings::default());
    }
}
