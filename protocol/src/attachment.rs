//! Attachments as documents name them: inline data, stubs, `follows`; digests; what a revision refers to.
//!
//! Sources: protocol page §5.1 (forms), §5.3 (`revpos`), §5.5 (base64 rules). Bytes at rest are the identity encoding and
//! digests are of it (design §16), so a `Content-Encoding` is undone on arrival and never shows here again.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use crate::error::{Error, Result};
use crate::raw_json::{Kind, RawString, Scanner, write_string};

/// Content type of an attachment that names none.
pub const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

/// Where the bytes of an attachment in a written document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `data`: here, decoded.
    Inline(Vec<u8>),
    /// `stub:true`: in the revision before.
    Stub,
    /// `follows:true`: in a later part of a multipart body, `length` bytes long (encoded bytes, if `gzip`).
    Follows {
        /// Bytes that the part must have; `None` takes the part as it is.
        length: Option<u64>,
        /// The part is gzip-coded.
        gzip: bool,
        /// The MD5 that the client promised, of the bytes as sent.
        md5: Option<[u8; 16]>,
    },
}

/// One entry of `_attachments` in a document that a client wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingAttachment {
    /// Member name; may hold slashes.
    pub name: String,
    /// `content_type`, or the default.
    pub content_type: String,
    /// `revpos` as sent.
    pub revpos: Option<u64>,
    /// The bytes or where they are.
    pub content: Content,
}

/// An attachment of a stored revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Member name.
    pub name: String,
    /// Content type.
    pub content_type: String,
    /// Generation of the revision that brought these bytes (never 0: Couchbase Lite refuses it).
    pub revpos: u64,
    /// Bytes.
    pub length: u64,
    /// MD5 of the bytes, for the wire.
    pub md5: [u8; 16],
    /// BLAKE3 of the bytes: where they are stored.
    pub address: [u8; 32],
}

impl Attachment {
    /// `md5-BASE64`, as clients compare it.
    #[must_use]
    pub fn digest(&self) -> String {
        format!("md5-{}", BASE64.encode(self.md5))
    }
}

/// MD5 of some bytes (CouchDB's attachment digest; never for security).
#[must_use]
pub fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// An MD5 digest that grows with a stream of bytes, so that other crates need not know the hash.
#[derive(Debug, Clone, Default)]
pub struct RunningMd5(Md5);

impl RunningMd5 {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

/// How a read shows the bytes of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// `stub:true` with its length.
    Stub,
    /// `data` in base64.
    Data(&'a [u8]),
    /// `follows:true`: in a part of the same answer.
    Follows,
}

/// Appends one member of `_attachments`: `"name":{…}`.
pub fn write_attachment(out: &mut Vec<u8>, attachment: &Attachment, shown: Shown<'_>) {
    write_string(out, &attachment.name);
    out.extend_from_slice(b":{\"content_type\":");
    write_string(out, &attachment.content_type);
    let digest = attachment.digest();
    out.extend_from_slice(format!(",\"revpos\":{},\"digest\":\"{digest}\",", attachment.revpos.max(1)).as_bytes());
    match shown {
        Shown::Stub => out.extend_from_slice(format!("\"length\":{},\"stub\":true}}", attachment.length).as_bytes()),
        Shown::Follows => {
            out.extend_from_slice(format!("\"length\":{},\"follows\":true}}", attachment.length).as_bytes())
        }
        Shown::Data(bytes) => {
            out.extend_from_slice(b"\"data\":\"");
            out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Checks the name of an attachment.
///
/// # Errors
/// `400 bad_request`; the words `Attachment name ` at the start matter to CouchDB's replicator (§5.5).
pub fn check_attachment_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::bad_request("Attachment name is empty"));
    }
    if name.starts_with('_') {
        return Err(Error::bad_request(format!("Attachment name '{name}' starts with prohibited character '_'")));
    }
    Ok(())
}

/// Reads the value of `_attachments`. Two entries of one name: the last wins.
///
/// # Errors
/// `400 doc_validation` when it is no object; `400 bad_request` for a bad name or bad data.
pub fn read_attachments(scanner: &mut Scanner<'_>) -> Result<Vec<IncomingAttachment>> {
    let bad_member = || Error::document("Bad special document member: _attachments");
    if scanner.kind()? != Kind::Object {
        return Err(bad_member());
    }
    let mut attachments: Vec<Option<IncomingAttachment>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    scanner.object(|name, scanner| {
        let name = name.decode().into_owned();
        check_attachment_name(&name)?;
        if scanner.kind()? != Kind::Object {
            return Err(Error::bad_request(format!("Invalid attachment data for {name}")));
        }
        let attachment = read_attachment(name, scanner)?;
        if let Some(earlier) = places.insert(attachment.name.clone(), attachments.len()) {
            attachments[earlier] = None;
        }
        attachments.push(Some(attachment));
        Ok(())
    })?;
    Ok(attachments.into_iter().flatten().collect())
}

#[derive(Default)]
struct Members<'a> {
    content_type: Option<String>,
    revpos: Option<u64>,
    length: Option<u64>,
    encoded_length: Option<u64>,
    gzip: bool,
    stub: bool,
    follows: bool,
    data: Option<RawString<'a>>,
    digest: Option<String>,
}

fn read_attachment(name: String, scanner: &mut Scanner<'_>) -> Result<IncomingAttachment> {
    let mut members = Members::default();
    let invalid = || Error::bad_request(format!("Invalid attachment data for {name}"));
    scanner.object(|member, scanner| {
        let is_string = scanner.kind()? == Kind::String;
        match member.decode().as_ref() {
            "data" if is_string => members.data = Some(scanner.string()?),
            "data" => return Err(invalid()),
            "content_type" if is_string => members.content_type = Some(scanner.string()?.decode().into_owned()),
            "digest" if is_string => members.digest = Some(scanner.string()?.decode().into_owned()),
            "encoding" => members.gzip = scanner.value()? == "\"gzip\"",
            "stub" => members.stub = scanner.value()? == "true",
            "follows" => members.follows = scanner.value()? == "true",
            "revpos" => members.revpos = scanner.value()?.parse().ok(),
            "length" => members.length = scanner.value()?.parse().ok(),
            "encoded_length" => members.encoded_length = scanner.value()?.parse().ok(),
            _ => {
                scanner.value()?;
            }
        }
        Ok(())
    })?;
    let content = match members {
        Members { stub: true, .. } => Content::Stub,
        Members { follows: true, gzip, .. } => {
            let length = if gzip { members.encoded_length } else { members.length };
            Content::Follows { length, gzip, md5: members.digest.as_deref().and_then(parse_digest) }
        }
        Members { data: Some(data), .. } => Content::Inline(decode_base64(&data.decode()).ok_or_else(invalid)?),
        _ => return Err(invalid()),
    };
    let content_type = members.content_type.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned());
    Ok(IncomingAttachment { content_type, revpos: members.revpos, content, name })
}

/// The bytes of `md5-BASE64`.
fn parse_digest(digest: &str) -> Option<[u8; 16]> {
    BASE64.decode(digest.strip_prefix("md5-")?).ok()?.try_into().ok()
}

/// Base64 with padding; line breaks and blanks inside are allowed, as CouchDB's decoder allows them.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if let Ok(bytes) = BASE64.decode(text) {
        return Some(bytes);
    }
    let compact: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    BASE64.decode(compact).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<IncomingAttachment>> {
        read_attachments(&mut Scanner::of_text(text))
    }

    #[test]
    fn forms() {
        let list = read(
            r#"{"a":{"data":"aGVs\nbG8=","content_type":"text/plain"},"b/c":{"stub":true,"revpos":3},
                "d":{"follows":true,"length":7},"e":{"follows":true,"length":9,"encoded_length":5,"encoding":"gzip"}}"#,
        )
        .expect("valid");
        assert_eq!(list[0].content, Content::Inline(b"hello".to_vec()));
        assert_eq!((list[1].revpos, &list[1].content), (Some(3), &Content::Stub));
        assert_eq!(list[2].content, Content::Follows { length: Some(7), gzip: false, md5: None });
        assert_eq!(list[3].content, Content::Follows { length: Some(5), gzip: true, md5: None });
        assert_eq!(list[3].content_type, DEFAULT_CONTENT_TYPE);
    }

    #[test]
    fn the_last_of_two_wins() {
        let list = read(r#"{"a":{"data":"YQ=="},"a":{"data":"Yg=="}}"#).expect("valid");
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].content, Content::Inline(b"b".to_vec()));
    }

    #[test]
    fn refusals() {
        for (text, word) in [
            ("[]", "doc_validation"),
            (r#"{"_x":{"data":""}}"#, "bad_request"),
            (r#"{"x":{"data":"a"}}"#, "bad_request"),
            (r#"{"x":{"data":5}}"#, "bad_request"),
            (r#"{"x":{}}"#, "bad_request"),
            (r#"{"x":5}"#, "bad_request"),
        ] {
            assert_eq!(read(text).map_err(|e| e.word()), Err(word), "{text}");
        }
    }

    #[test]
    fn shown() {
        let attachment = Attachment {
            name: "a".into(),
            content_type: "t".into(),
            revpos: 2,
            length: 5,
            md5: md5_of(b"hello"),
            address: [0; 32],
        };
        let mut out = Vec::new();
        write_attachment(&mut out, &attachment, Shown::Stub);
        let expected =
            r#""a":{"content_type":"t","revpos":2,"digest":"md5-XUFAKrxLKna5cZ2REBfFkg==","length":5,"stub":true}"#;
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
