//! Forms: what was typed, and whether it was typed on a page of ours.
//!
//! A form counts when it carries the token of its session and browser, and when neither `Sec-Fetch-Site` nor `Origin` says
//! that another site sent it. The token is made from the session and from a cookie that browsers send to nobody but pages of
//! the console (`SameSite=Strict`), so it is worth nothing in another session or without that cookie.

use std::collections::BTreeMap;

use settle_protocol::{Error, ErrorKind};
use subtle::ConstantTimeEq as _;

use crate::http::request::{Request, decode};
use crate::storage::{hex, unhex};

/// Bytes of a form.
pub(super) const LONGEST: u64 = 64 << 10;
/// The cookie that makes a browser known to the console.
const COOKIE: &str = "SettleConsole";
/// How long a browser keeps it, in seconds: a year.
const COOKIE_SECONDS: u64 = 365 * 86_400;
/// The field with the token.
pub(super) const TOKEN: &str = "token";

/// What was typed, by the names of the fields. Spaces around it count for nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads the body of a form.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(|_| Error::bad_request("The form is no text."))?;
        let mut fields = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            fields.insert(decode(name)?, value);
        }
        Ok(Self(fields))
    }

    /// A field, trimmed; `None` when it was left empty.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Every field that was not left empty.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.trim())).filter(|(_, value)| !value.is_empty())
    }

    /// A field as it was typed: passwords.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// A browser that has been here, by its cookie.
#[derive(Clone, Copy)]
pub(super) struct Browser {
    secret: [u8; 16],
    /// The cookie is not there yet.
    pub(super) is_new: bool,
}

impl Browser {
    /// The browser behind a request; `fresh` is for one that comes for the first time.
    pub(super) fn of(request: &Request, fresh: [u8; 16]) -> Self {
        let cookies = request.header("cookie").unwrap_or_default().split(';');
        let mut values = cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        match values.find_map(unhex) {
            Some(secret) => Self { secret, is_new: false },
            None => Self { secret: fresh, is_new: true },
        }
    }

    /// The cookie to set.
    pub(super) fn cookie(&self, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        let value = hex(&self.secret);
        format!("{COOKIE}={value}; Max-Age={COOKIE_SECONDS}; Path=/_console; HttpOnly; SameSite=Strict{secure}")
    }

    /// The id under which this browser is one device of whoever logs in.
    pub(super) fn device_id(&self) -> String {
        format!("console-{}", hex(&blake3::derive_key("settle 2026 console device", &self.secret)[..8]))
    }

    /// The token of the forms of a session (`None`: of the login).
    pub(super) fn token(&self, session: Option<&[u8; 32]>) -> String {
        let mut bound = self.secret.to_vec();
        bound.extend(session.into_iter().flatten());
        hex(&blake3::derive_key("settle 2026 console form token", &bound)[..16])
    }

    /// Whether a form was sent from a page of ours in this session.
    pub(super) fn check(&self, request: &Request, form: &Form, session: Option<&[u8; 32]>) -> Result<(), Error> {
        let refused = || {
            let reason = "This form was not sent from a page of this console, or it is out of date. Nothing was changed. Go \
                          back, load the page again, and send the form once more.";
            Err(Error::new(ErrorKind::Forbidden, reason))
        };
        if self.is_new || !is_same_site(request) {
            return refused();
        }
        let expected = self.token(session);
        match bool::from(expected.as_bytes().ct_eq(form.raw(TOKEN).as_bytes())) {
            true => Ok(()),
            false => refused(),
        }
    }
}

/// Whether nothing says that a request was made by another site. `Origin` is `null` because pages are `no-referrer`.
fn is_same_site(request: &Request) -> bool {
    if request.header("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return false;
    }
    let host = request.header("host").unwrap_or_default();
    match request.header("origin") {
        None | Some("null") => true,
        Some(origin) => origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed() {
        let form = Form::parse(b"name=+Bea%20%C3%96+&empty=&password=+x+&a=1&a=2").expect("a form");
        assert_eq!((form.field("name"), form.field("empty"), form.field("nosuch")), (Some("Bea Ö"), None, None));
        assert_eq!((form.raw("password"), form.field("a")), (" x ", Some("2")));
        assert!(Form::parse(b"a=%zz").is_err() && Form::parse(b"\xff").is_err());
    }

    #[test]
    fn tokens_belong_to_a_browser_and_a_session() {
        let browser = |secret| Browser { secret: [secret; 16], is_new: false };
        let tokens = [
            browser(1).token(None),
            browser(1).token(Some(&[1; 32])),
            browser(1).token(Some(&[2; 32])),
            browser(2).token(Some(&[1; 32])),
        ];
        for (number, token) in tokens.iter().enumerate() {
            assert!(!tokens[..number].contains(token) && token.len() == 32);
        }
        assert_eq!(browser(1).token(None), tokens[0]);
        assert!(!browser(1).cookie(false).contains("Secure") && browser(1).cookie(true).ends_with("; Secure"));
        assert!(browser(1).device_id() != browser(2).device_id());
    }
}
