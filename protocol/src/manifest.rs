//! A part of a manifest: what a device says it holds of a database. Source: `docs/handover-protocol.md` §4.

use crate::bulk::object_scanner;
use crate::document_id::{IdKind, check_document_id};
use crate::error::{Error, Result};
use crate::raw_json::{Kind, Scanner};
use crate::revision::Revision;

/// Longest name of a manifest.
const NAME_CHARACTERS: std::ops::RangeInclusive<usize> = 1..=64;

/// A part of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestPart {
    /// The device's own name for the manifest.
    pub manifest: String,
    /// Document ids with revisions, in the order sent; a document may come more than once.
    pub revisions: Vec<(String, Vec<Revision>)>,
    /// Nothing follows: a receipt is asked for.
    pub last: bool,
    /// How many revisions all parts have together, if the device counts them.
    pub total: Option<u64>,
}

impl ManifestPart {
    /// Reads a request body.
    ///
    /// # Errors
    /// `400` with a reason that names the member.
    pub fn parse(bytes: &[u8], max_id_bytes: usize) -> Result<Self> {
        let mut scanner = object_scanner(bytes)?;
        let mut part = Self::default();
        scanner.object(|name, scanner| match name.decode().as_ref() {
            "manifest" if scanner.kind()? == Kind::String => {
                part.manifest = scanner.string()?.decode().into_owned();
                Ok(())
            }
            "revs" if scanner.kind()? == Kind::Object => read_revisions(scanner, max_id_bytes, &mut part.revisions),
            "revs" => Err(Error::bad_request("`revs` must be an object: document ids with lists of revisions.")),
            "final" => match scanner.value()? {
                "true" => {
                    part.last = true;
                    Ok(())
                }
                "false" => Ok(()),
                _ => Err(Error::bad_request("`final` must be true or false.")),
            },
            "total" => {
                let number = scanner.value()?.parse();
                part.total = Some(number.map_err(|_| Error::bad_request("`total` must be a whole number."))?);
                Ok(())
            }
            _ => scanner.value().map(drop),
        })?;
        scanner.end()?;
        if !is_manifest_name(&part.manifest) {
            return Err(Error::bad_request("`manifest` must be 1 to 64 characters of A-Z, a-z, 0-9, dot, _ and -."));
        }
        Ok(part)
    }
}

/// Whether a manifest may have this name.
#[must_use]
pub fn is_manifest_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    NAME_CHARACTERS.contains(&name.len()) && name.bytes().all(plain)
}

/// Ids and revisions go into lines of text: what would break a line cannot be listed.
fn is_one_line(text: &str) -> bool {
    !text.contains(['\0', '\n'])
}

fn read_revisions(
    scanner: &mut Scanner<'_>,
    max_id_bytes: usize,
    list: &mut Vec<(String, Vec<Revision>)>,
) -> Result<()> {
    scanner.object(|id, scanner| {
        let id = id.decode().into_owned();
        if check_document_id(&id, max_id_bytes)? == IdKind::Local {
            return Err(Error::bad_request(
                "`_local` documents never leave a device; they do not belong in a manifest.",
            ));
        }
        let mut revisions = Vec::new();
        if scanner.kind()? != Kind::Array {
            return Err(Error::bad_request(format!("`revs` of {id} must be a list of revisions.")));
        }
        scanner.array(|scanner| {
            if scanner.kind()? != Kind::String {
                return Err(Error::bad_request("Invalid rev format"));
            }
            let text = scanner.string()?.decode();
            if !is_one_line(&text) || !is_one_line(&id) {
                return Err(Error::bad_request("Ids and revisions of a manifest cannot hold NUL or line ends."));
            }
            revisions.push(Revision::parse(&text)?);
            Ok(())
        })?;
        list.push((id, revisions));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ManifestPart> {
        ManifestPart::parse(text.as_bytes(), 512)
    }

    #[test]
    fn parts_are_read() {
        let part = parse(r#"{"x":[1],"manifest":"m.1","revs":{"a":["1-x","2-y"],"b":[]},"final":true,"total":2}"#);
        let part = part.expect("valid");
        assert_eq!((part.manifest.as_str(), part.last, part.total), ("m.1", true, Some(2)));
        assert_eq!(
            part.revisions.iter().map(|(id, revs)| (id.as_str(), revs.len())).collect::<Vec<_>>(),
            [("a", 2), ("b", 0)]
        );
        assert_eq!(
            parse(r#"{"manifest":"m"}"#).map(|part| (part.last, part.total, part.revisions.len())),
            Ok((false, None, 0))
        );
    }

    #[test]
    fn mistakes_are_named() {
        let long = format!(r#"{{"manifest":"{}"}}"#, "m".repeat(65));
        for (text, part) in [
            ("[]", "must be a JSON object"),
            ("{}", "`manifest`"),
            (r#"{"manifest":7}"#, "`manifest`"),
            (r#"{"manifest":"a/b"}"#, "`manifest`"),
            (long.as_str(), "`manifest`"),
            (r#"{"manifest":"m","revs":[]}"#, "`revs`"),
            (r#"{"manifest":"m","revs":{"a":"1-x"}}"#, "`revs` of a"),
            (r#"{"manifest":"m","revs":{"a":["x"]}}"#, "Invalid rev format"),
            (r#"{"manifest":"m","revs":{"_local/a":["0-1"]}}"#, "`_local`"),
            (r#"{"manifest":"m","revs":{"a\u0000":["1-x"]}}"#, "NUL"),
            (r#"{"manifest":"m","revs":{"a":["1-x\n"]}}"#, "NUL"),
            (r#"{"manifest":"m","final":"yes"}"#, "`final`"),
            (r#"{"manifest":"m","total":-1}"#, "`total`"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.status(), 400, "{text}");
            assert!(error.reason().contains(part), "{text}: {}", error.reason());
        }
    }
}
