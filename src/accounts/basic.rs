//! Name and password out of an `Authorization` header.
//!
//! What is no Basic header stands for nobody, as in CouchDB: other schemes, near misses (`Basic: …`), a text without a
//! colon, and `_:_`, which old clients send to log out. Never looks up an account and never falls back: who sends a
//! name and a password is either that person or refused.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::error::{AccountError, Result};

const SCHEME: &str = "basic ";

/// The usual alphabet; padding may be missing, because some embedded clients leave it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A name and a password as sent; not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    /// The account's name; may be empty or unknown.
    pub name: String,
    /// The password in clear; may be empty and may hold colons.
    pub password: String,
}

impl std::fmt::Debug for BasicCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BasicCredentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads the value of an `Authorization` header (protocol page §6.2). `None`: nobody logs in by it.
///
/// The scheme's case does not matter (RFC 9110 §11.1; CouchDB knows only `Basic`).
///
/// # Errors
/// `400 bad_request "Authorization header has invalid base64 value"`. Bytes that are not UTF-8 fail like a wrong
/// password, 401, because no stored password can equal them.
pub fn parse_basic(header: &str) -> Result<Option<BasicCredentials>> {
    let Some((scheme, encoded)) = header.split_at_checked(SCHEME.len()) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Ok(None);
    }
    let decoded = LENIENT
        .decode(encoded.trim_matches(' '))
        .map_err(|_| AccountError::bad_request("Authorization header has invalid base64 value"))?;
    let text = String::from_utf8(decoded).map_err(|_| AccountError::wrong_name_or_password())?;
    match text.split_once(':') {
        None | Some(("_", "_")) => Ok(None),
        Some((name, password)) => Ok(Some(BasicCredentials { name: name.to_owned(), password: password.to_owned() })),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::{BasicCredentials, parse_basic};

    fn parsed(text: &[u8]) -> Option<(String, String)> {
        let header = format!("Basic {}", BASE64_STANDARD.encode(text));
        parse_basic(&header).unwrap().map(|BasicCredentials { name, password }| (name, password))
    }

    #[test]
    fn name_and_password_part_at_the_first_colon() {
        assert_eq!(parsed("gül b@x:pä ss:wörd".as_bytes()), Some(("gül b@x".into(), "pä ss:wörd".into())));
        assert_eq!(parsed(b"cem:"), Some(("cem".into(), String::new())));
        assert_eq!(parsed(b":pw"), Some((String::new(), "pw".into())));
    }

    #[test]
    fn what_is_no_basic_header_stands_for_nobody() {
        for header in ["", "Basic", "Basic: YTpi", "Bearer YTpi", "Negotiate x", "Basic\tYTpi", "ééééé"] {
            assert_eq!(parse_basic(header), Ok(None), "{header}");
        }
        assert_eq!(parsed(b"no colon"), None);
        assert_eq!(parsed(b"_:_"), None);
        assert_eq!(parsed(b"_:_x"), Some(("_".into(), "_x".into())));
    }

    #[test]
    fn broken_base64_is_a_bad_request_and_broken_text_a_wrong_password() {
        let error = parse_basic("Basic ***").unwrap_err();
        assert_eq!((error.status(), error.reason()), (400, "Authorization header has invalid base64 value"));
        let latin1 = format!("Basic {}", BASE64_STANDARD.encode(b"ann:p\xE4ss"));
        assert_eq!(parse_basic(&latin1).unwrap_err().status(), 401);
    }

    #[test]
    fn missing_padding_and_another_case_are_forgiven() {
        let expected = BasicCredentials { name: "a".into(), password: "bc".into() };
        for header in ["Basic YTpiYw==", "Basic YTpiYw", "basic YTpiYw==", "BASIC  YTpiYw== "] {
            assert_eq!(parse_basic(header).unwrap(), Some(expected.clone()), "{header}");
        }
        assert_eq!(format!("{expected:?}"), "BasicCredentials { name: \"a\", .. }");
    }
}
