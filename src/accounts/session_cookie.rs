//! The `AuthSession` cookie: what is in it, how it is written, how it is read back.
//!
//! The value is a session's 256 random bits with the time of issue, sealed with the server's key. The store keeps only
//! a hash of the bits, so a stolen store opens no session; the seal makes each copy expire by its own time of issue
//! while a renewed one lives on, as CouchDB's cookies do (protocol page §6.1). To clients the value is opaque. Knows no
//! accounts and no clock; whether the session still exists is asked elsewhere.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use super::error::{AccountError, Result};
use super::http_date::cookie_date;

/// The cookie's name, fixed by CouchDB's clients.
pub const COOKIE_NAME: &str = "AuthSession";

const TOKEN_BYTES: usize = 32;
const TIME_BYTES: usize = 8;
const SEAL_BYTES: usize = 16;
const SEALED_BYTES: usize = TOKEN_BYTES + TIME_BYTES;
const VALUE_BYTES: usize = SEALED_BYTES + SEAL_BYTES;

/// Longest value that is decoded at all; CouchDB's own cookies stay far below.
const LONGEST_VALUE: usize = 4_096;

/// The secret of one session. Shown to nobody but the client that logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken([u8; TOKEN_BYTES]);

impl SessionToken {
    /// A new session's token from fresh random bytes.
    #[must_use]
    pub const fn from_random(bytes: [u8; TOKEN_BYTES]) -> Self {
        Self(bytes)
    }

    /// What the store keeps: a hash that finds the session and gives nothing away.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        blake3::derive_key("settle 2026 session token fingerprint", &self.0)
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SessionToken(..)")
    }
}

/// The server's key for sealing cookies: 32 random bytes, kept with the store. Another key ends all cookies.
#[derive(Clone)]
pub struct CookieKey([u8; 32]);

impl CookieKey {
    /// A key from stored or fresh random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn seal(&self, sealed: &[u8]) -> [u8; SEAL_BYTES] {
        let hash = blake3::keyed_hash(&self.0, sealed);
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&hash.as_bytes()[..SEAL_BYTES]);
        seal
    }
}

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CookieKey(..)")
    }
}

/// Which sites may make a browser send the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Requests of the own site only.
    Strict,
    /// Also when a link from elsewhere is followed.
    Lax,
    /// Everywhere; browsers insist on `Secure` as well.
    None,
}

/// The cookie's attributes, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSettings {
    /// Seconds from issue to expiry (CouchDB: `timeout`, 600).
    pub lifetime_seconds: u64,
    /// Whether `Expires` and `Max-Age` are sent (CouchDB: `allow_persistent_cookies`). Without them
    /// pouchdb-session-authentication throws and the replicator guesses.
    pub persistent: bool,
    /// `Secure`: when this request came over TLS, here or at the proxy.
    pub secure: bool,
    /// `Domain`, if configured. Must be a plain host name; see [`CookieSettings::is_valid_domain`].
    pub domain: Option<String>,
    /// `SameSite`, if configured.
    pub same_site: Option<SameSite>,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self { lifetime_seconds: 600, persistent: true, secure: false, domain: None, same_site: None }
    }
}

impl CookieSettings {
    /// Whether a configured domain can be written into the header as it is: letters, digits, dots and hyphens.
    #[must_use]
    pub fn is_valid_domain(domain: &str) -> bool {
        !domain.is_empty() && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    }

    /// The `Set-Cookie` value that hands a session to its client, at login and at each renewal.
    #[must_use]
    pub fn set_cookie(&self, key: &CookieKey, token: &SessionToken, now_seconds: u64) -> String {
        let mut bytes = [0; VALUE_BYTES];
        bytes[..TOKEN_BYTES].copy_from_slice(&token.0);
        bytes[TOKEN_BYTES..SEALED_BYTES].copy_from_slice(&now_seconds.to_be_bytes());
        let seal = key.seal(&bytes[..SEALED_BYTES]);
        bytes[SEALED_BYTES..].copy_from_slice(&seal);
        self.write(&BASE64_URL_SAFE_NO_PAD.encode(bytes), now_seconds)
    }

    /// The `Set-Cookie` value of a logout and of a failed login: the same attributes with nothing in it, as CouchDB.
    #[must_use]
    pub fn clearing_cookie(&self, now_seconds: u64) -> String {
        self.write("", now_seconds)
    }

    /// Whether a cookie issued then is still good by its age.
    #[must_use]
    pub const fn is_fresh(&self, issued_seconds: u64, now_seconds: u64) -> bool {
        now_seconds < issued_seconds.saturating_add(self.lifetime_seconds)
    }

    /// Whether an answer to a request with a fresh cookie should carry a renewed one: after a tenth of its life.
    #[must_use]
    pub const fn is_renewal_due(&self, issued_seconds: u64, now_seconds: u64) -> bool {
        now_seconds.saturating_sub(issued_seconds) > self.lifetime_seconds / 10
    }

    fn write(&self, value: &str, now_seconds: u64) -> String {
        let mut cookie = format!("{COOKIE_NAME}={value}; Version=1");
        if self.persistent {
            let expires = cookie_date(now_seconds.saturating_add(self.lifetime_seconds));
            cookie.push_str(&format!("; Expires={expires}; Max-Age={}", self.lifetime_seconds));
        }
        if self.secure {
            cookie.push_str("; Secure");
        }
        if let Some(domain) = self.domain.as_deref().filter(|domain| Self::is_valid_domain(domain)) {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        cookie.push_str("; Path=/; HttpOnly");
        cookie.push_str(match self.same_site {
            None => "",
            Some(SameSite::Strict) => "; SameSite=Strict",
            Some(SameSite::Lax) => "; SameSite=Lax",
            Some(SameSite::None) => "; SameSite=None",
        });
        cookie
    }
}

/// What a request's cookies say about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresentedCookie {
    /// No session cookie, or an empty one.
    Nothing,
    /// Well-formed, but not issued with this key, or issued by a CouchDB: stands for nobody, without complaint, so that
    /// phones of a moved server simply log in again.
    Unknown,
    /// Issued by this server. Age and session are still to be checked.
    Session {
        /// Finds the session, by its fingerprint.
        token: SessionToken,
        /// When this copy was issued, in seconds since 1970.
        issued_seconds: u64,
    },
}

/// Reads a `Cookie` header (several headers: joined with `; `). Of several session cookies the first counts, as
/// browsers send the most specific one first.
///
/// # Errors
/// `400 bad_request "Malformed AuthSession cookie. Please clear your cookies."` for a value that neither this server
/// nor CouchDB can have issued (protocol page §6.1).
pub fn read_cookie(header: &str, key: &CookieKey) -> Result<PresentedCookie> {
    match cookie_value(header, COOKIE_NAME) {
        None | Some("") => Ok(PresentedCookie::Nothing),
        Some(value) => read_value(value, key),
    }
}

fn read_value(value: &str, key: &CookieKey) -> Result<PresentedCookie> {
    let bytes = decode(value)
        .ok_or_else(|| AccountError::bad_request("Malformed AuthSession cookie. Please clear your cookies."))?;
    let Ok(bytes) = <[u8; VALUE_BYTES]>::try_from(bytes) else {
        return Ok(PresentedCookie::Unknown);
    };
    let (sealed, seal) = bytes.split_at(SEALED_BYTES);
    if !bool::from(key.seal(sealed).ct_eq(seal)) {
        return Ok(PresentedCookie::Unknown);
    }
    let (mut token, mut time) = ([0; TOKEN_BYTES], [0; TIME_BYTES]);
    token.copy_from_slice(&sealed[..TOKEN_BYTES]);
    time.copy_from_slice(&sealed[TOKEN_BYTES..]);
    Ok(PresentedCookie::Session { token: SessionToken(token), issued_seconds: u64::from_be_bytes(time) })
}

/// The bytes of a value that has the size of ours or the shape of CouchDB's (`name:TIME:hash`).
fn decode(value: &str) -> Option<Vec<u8>> {
    if value.len() > LONGEST_VALUE {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(value.trim_end_matches('=')).ok()?;
    let colons = bytes.iter().filter(|&&byte| byte == b':').count();
    (bytes.len() == VALUE_BYTES || colons >= 2).then_some(bytes)
}

/// The first value of that name, without its quotes. Semicolons within quotes do not end a value.
fn cookie_value<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut quoted = false;
    let mut pairs = header.split(|character: char| {
        quoted ^= character == '"';
        character == ';' && !quoted
    });
    pairs.find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        let value = value.trim();
        (found.trim() == name)
            .then(|| value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::{CookieKey, CookieSettings, PresentedCookie, SameSite, SessionToken, read_cookie};

    const NOW: u64 = 1_795_296_349; // Sat, 21 Nov 2026 21:25:49 GMT
    const KEY: CookieKey = CookieKey::new([3; 32]);

    fn token() -> SessionToken {
        SessionToken::from_random([9; 32])
    }

    /// The value of a cookie issued at `NOW`.
    fn issued() -> String {
        let cookie = CookieSettings::default().set_cookie(&KEY, &token(), NOW);
        cookie.split(['=', ';']).nth(1).unwrap().to_owned()
    }

    #[test]
    fn attributes_are_couchdbs() {
        let settings = CookieSettings::default();
        let rest = "; Version=1; Expires=Sat, 21-Nov-2026 21:35:49 GMT; Max-Age=600; Path=/; HttpOnly";
        assert_eq!(settings.set_cookie(&KEY, &token(), NOW), format!("AuthSession={}{rest}", issued()));
        assert_eq!(settings.clearing_cookie(NOW), format!("AuthSession={rest}"));
    }

    #[test]
    fn configured_attributes_are_added() {
        let settings = CookieSettings {
            lifetime_seconds: 60,
            persistent: false,
            secure: true,
            domain: Some("example.org".into()),
            same_site: Some(SameSite::Lax),
        };
        let expected = "AuthSession=; Version=1; Secure; Domain=example.org; Path=/; HttpOnly; SameSite=Lax";
        assert_eq!(settings.clearing_cookie(NOW), expected);
        let odd = CookieSettings { domain: Some("a\r\nSet-Cookie: b".into()), ..CookieSettings::default() };
        assert!(!odd.clearing_cookie(NOW).contains("Domain"));
    }

    #[test]
    fn what_was_issued_is_read_back_among_other_cookies() {
        let expected = PresentedCookie::Session { token: token(), issued_seconds: NOW };
        let value = issued();
        for header in [
            format!("AuthSession={value}"),
            format!("a=b; AuthSession={value}; c=\"d;AuthSession=x\""),
            format!("c=\"d;AuthSession=x\";AuthSession=\"{value}\""),
            format!(" AuthSession = {value} ; AuthSession=other"),
        ] {
            assert_eq!(read_cookie(&header, &KEY), Ok(expected.clone()), "{header}");
        }
    }

    #[test]
    fn no_cookie_or_an_empty_one_is_nothing() {
        for header in
            ["", ";", "a=b", "AuthSession", "AuthSession=", "AuthSession=\"\"", "XAuthSession=x", "authsession=x"]
        {
            assert_eq!(read_cookie(header, &KEY), Ok(PresentedCookie::Nothing), "{header}");
        }
    }

    #[test]
    fn an_altered_cookie_or_one_of_another_server_stands_for_nobody() {
        let header = format!("AuthSession={}", issued());
        assert_eq!(read_cookie(&header, &CookieKey::new([4; 32])), Ok(PresentedCookie::Unknown));
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(issued()).unwrap();
        for position in [0, 31, 39, 55] {
            bytes[position] ^= 1;
            let header = format!("AuthSession={}", BASE64_URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(read_cookie(&header, &KEY), Ok(PresentedCookie::Unknown), "{position}");
            bytes[position] ^= 1;
        }
        let couchdb = BASE64_URL_SAFE_NO_PAD.encode(b"ann:6921B2F5:\xF0\x9F0123456789");
        assert_eq!(read_cookie(&format!("AuthSession={couchdb}"), &KEY), Ok(PresentedCookie::Unknown));
    }

    #[test]
    fn nonsense_is_a_bad_request() {
        let short = BASE64_URL_SAFE_NO_PAD.encode(b"short");
        for value in ["%%%", "x", short.as_str(), &"Ojo6".repeat(1_300)] {
            let error = read_cookie(&format!("AuthSession={value}"), &KEY).unwrap_err();
            assert_eq!(error.status(), 400, "{value}");
            assert_eq!(error.reason(), "Malformed AuthSession cookie. Please clear your cookies.");
        }
    }

    #[test]
    fn each_copy_lives_from_its_own_issue_and_is_renewed_after_a_tenth() {
        let settings = CookieSettings { lifetime_seconds: 600, ..CookieSettings::default() };
        assert!(settings.is_fresh(1_000, 1_599));
        assert!(!settings.is_fresh(1_000, 1_600));
        assert!(!settings.is_renewal_due(1_000, 1_060));
        assert!(settings.is_renewal_due(1_000, 1_061));
        let short = CookieSettings { lifetime_seconds: 3, ..settings };
        assert!(!short.is_renewal_due(1_000, 1_000));
        assert!(short.is_renewal_due(1_000, 1_001));
    }

    #[test]
    fn secrets_do_not_show_and_fingerprints_differ() {
        assert_eq!(format!("{:?} {KEY:?}", token()), "SessionToken(..) CookieKey(..)");
        assert_ne!(token().fingerprint(), SessionToken::from_random([8; 32]).fingerprint());
        assert_ne!(token().fingerprint(), [9; 32]);
    }
}
