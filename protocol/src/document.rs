//! A document: the reserved `_` members understood, everything else kept as the client's own JSON text.
//!
//! Sources: protocol page §1.1 (reserved members), §2.5 (`_revisions`), §7.2 (JSON). The body is the text of the ordinary
//! members, joined by commas and without the outer braces, so that a read can splice it behind a fresh `_id` and `_rev`.

use std::collections::HashMap;

use crate::attachment::{IncomingAttachment, read_attachments};
use crate::error::{Error, Result};
use crate::raw_json::{Kind, RawString, Scanner, write_string};
use crate::revision::{Hash, Revision};

/// `_revisions` as a client sent it: a path, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Generation of the newest.
    pub start: i64,
    /// Hashes, newest first.
    pub hashes: Vec<Hash>,
}

impl History {
    /// The path as revisions, newest first.
    ///
    /// # Errors
    /// `403 forbidden` for a generation that does not fit the number of hashes: PouchDB and the replicator pass over a
    /// forbidden document, while any other refusal would block them for good (§2.5, advice).
    pub fn path(&self) -> Result<Vec<Revision>> {
        let start = u64::try_from(self.start).unwrap_or(0);
        if self.hashes.is_empty() || start < self.hashes.len() as u64 {
            return Err(Error::forbidden("_revisions.start must be at least the number of _revisions.ids"));
        }
        let generations = (1..=start).rev();
        Ok(generations
            .zip(&self.hashes)
            .map(|(generation, hash)| Revision { generation, hash: hash.clone() })
            .collect())
    }
}

/// A document as a client wrote it, understood but not yet judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncomingDocument {
    /// `_id`.
    pub id: Option<String>,
    /// `_rev`.
    pub revision: Option<Revision>,
    /// `_revisions`.
    pub history: Option<History>,
    /// `_deleted`.
    pub deleted: bool,
    /// `_attachments`, in the order sent.
    pub attachments: Vec<IncomingAttachment>,
    /// The ordinary members: `"a":1,"b":{…}`, without braces.
    pub body: String,
}

impl IncomingDocument {
    /// Reads one document that must be the whole text.
    ///
    /// # Errors
    /// `400`: no JSON, no object, or a reserved member that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut scanner = Scanner::new(bytes)?;
        let kind = scanner.kind()?;
        if kind != Kind::Object {
            scanner.value()?;
            scanner.end()?;
            return Err(Error::bad_request("Document must be a JSON object"));
        }
        let document = Self::read(&mut scanner)?;
        scanner.end()?;
        Ok(document)
    }

    /// Reads a document where the scanner stands.
    ///
    /// # Errors
    /// As [`IncomingDocument::parse`].
    pub fn read(scanner: &mut Scanner<'_>) -> Result<Self> {
        if scanner.kind()? != Kind::Object {
            scanner.value()?;
            return Err(Error::bad_request("Document must be a JSON object"));
        }
        let mut document = Self::default();
        let mut body = BodyMembers::default();
        scanner.object(|name, scanner| {
            if name.raw.starts_with(['_', '\\']) {
                let decoded = name.decode();
                if decoded.starts_with('_') {
                    return document.reserved_member(&decoded, name, &mut body, scanner);
                }
            }
            body.add(name, scanner.value()?);
            Ok(())
        })?;
        document.body = body.join();
        Ok(document)
    }

    fn reserved_member<'a>(
        &mut self,
        decoded: &str,
        name: RawString<'a>,
        body: &mut BodyMembers<'a>,
        scanner: &mut Scanner<'a>,
    ) -> Result<()> {
        let kind = scanner.kind()?;
        match decoded {
            "_id" if kind == Kind::String => self.id = Some(scanner.string()?.decode().into_owned()),
            "_id" => return Err(Error::new(crate::ErrorKind::IllegalDocumentId, "Document id must be a string")),
            "_rev" if kind == Kind::String => self.revision = Some(Revision::parse(&scanner.string()?.decode())?),
            "_rev" => return Err(Error::bad_request("Invalid rev format")),
            "_deleted" => {
                self.deleted = match scanner.value()? {
                    "true" => true,
                    "false" => false,
                    _ => return Err(bad_member(decoded)),
                }
            }
            "_revisions" if kind == Kind::Object => self.history = Some(read_history(scanner)?),
            "_attachments" => self.attachments = read_attachments(scanner)?,
            "_revs_info" | "_local_seq" | "_conflicts" | "_deleted_conflicts" => {
                scanner.value()?;
            }
            "_access"
            | "_replication_state"
            | "_replication_state_time"
            | "_replication_state_reason"
            | "_replication_id"
            | "_replication_stats" => body.add(name, scanner.value()?),
            _ => return Err(bad_member(decoded)),
        }
        Ok(())
    }

    /// The path of a replicated write: `_revisions` if given, else the bare `_rev` (§2.5: `_revisions` wins).
    ///
    /// # Errors
    /// `400` when neither is there, `403` for a nonsensical `_revisions`.
    pub fn replicated_path(&self) -> Result<Vec<Revision>> {
        match (&self.history, &self.revision) {
            (Some(history), _) => history.path(),
            (None, Some(revision)) => Ok(vec![revision.clone()]),
            (None, None) => {
                let reason = "When `new_edits: false`, the document needs `_rev` or `_revisions` specified";
                Err(Error::bad_request(reason))
            }
        }
    }
}

fn bad_member(name: &str) -> Error {
    Error::document(format!("Bad special document member: {name}"))
}

/// Ordinary members in order; of two with one name the last value wins, as in CouchDB (§7.2).
#[derive(Default)]
struct BodyMembers<'a> {
    members: Vec<(RawString<'a>, &'a str)>,
    index: HashMap<String, usize>,
}

impl<'a> BodyMembers<'a> {
    /// Up to this many members are compared one by one; beyond, an index is kept.
    const SMALL: usize = 24;

    fn add(&mut self, name: RawString<'a>, value: &'a str) {
        if let Some(at) = self.position(name) {
            self.members[at].1 = value;
            return;
        }
        if self.members.len() >= Self::SMALL {
            if self.index.is_empty() {
                let names = self.members.iter().enumerate();
                self.index = names.map(|(at, (name, _))| (name.decode().into_owned(), at)).collect();
            }
            self.index.insert(name.decode().into_owned(), self.members.len());
        }
        self.members.push((name, value));
    }

    fn position(&self, name: RawString<'_>) -> Option<usize> {
        if self.index.is_empty() {
            let same = |other: &RawString<'_>| other.raw == name.raw || other.decode() == name.decode();
            return self.members.iter().position(|(other, _)| same(other));
        }
        self.index.get(name.decode().as_ref()).copied()
    }

    fn join(&self) -> String {
        let length: usize = self.members.iter().map(|(name, value)| name.raw.len() + value.len() + 4).sum();
        let mut body = String::with_capacity(length);
        for (name, value) in &self.members {
            if !body.is_empty() {
                body.push(',');
            }
            body.push('"');
            body.push_str(name.raw);
            body.push_str("\":");
            body.push_str(value);
        }
        body
    }
}

fn read_history(scanner: &mut Scanner<'_>) -> Result<History> {
    let no_list = || Error::document("_revisions.ids isn't a array.");
    let mut start = None;
    let mut hashes = None;
    scanner.object(|name, scanner| {
        match name.decode().as_ref() {
            "start" => {
                let value = scanner.value()?;
                start = Some(value.parse().map_err(|_| Error::document("_revisions.start isn't an integer."))?);
            }
            "ids" if scanner.kind()? == Kind::Array => {
                let mut list = Vec::new();
                scanner.array(|scanner| {
                    if scanner.kind()? != Kind::String {
                        return Err(Error::document("RevId isn't a string"));
                    }
                    let text = scanner.string()?.decode();
                    let hash = Hash::parse(&text).map_err(|_| Error::document("RevId isn't a valid hexadecimal"))?;
                    list.push(hash);
                    Ok(())
                })?;
                hashes = Some(list);
            }
            "ids" => return Err(no_list()),
            _ => {
                scanner.value()?;
            }
        }
        Ok(())
    })?;
    let start = start.ok_or_else(|| Error::document("_revisions.start isn't an integer."))?;
    Ok(History { start, hashes: hashes.ok_or_else(no_list)? })
}

/// Builds the JSON text of a stored document: `{"_id":…,"_rev":…,` body `,` members `}`.
#[derive(Debug)]
pub struct DocumentWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> DocumentWriter<'a> {
    /// Begins a document with its id, revision and stored body; `_deleted` follows the body.
    pub fn begin(out: &'a mut Vec<u8>, id: &str, revision: &Revision, body: &str, deleted: bool) -> Self {
        out.extend_from_slice(b"{\"_id\":");
        write_string(out, id);
        out.extend_from_slice(b",\"_rev\":\"");
        write_revision_text(out, revision);
        out.push(b'"');
        if !body.is_empty() {
            out.push(b',');
            out.extend_from_slice(body.as_bytes());
        }
        if deleted {
            out.extend_from_slice(b",\"_deleted\":true");
        }
        Self { out }
    }

    /// Begins a further member and gives the buffer to write its value to. `name` must need no escapes.
    pub fn member(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// `_revisions` of a path, newest first.
    pub fn revisions(&mut self, path: &[&Revision]) {
        let Some(newest) = path.first() else { return };
        let out = self.member("_revisions");
        out.extend_from_slice(format!("{{\"start\":{},\"ids\":[", newest.generation).as_bytes());
        for (at, revision) in path.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(out, &revision.hash.to_string());
        }
        out.extend_from_slice(b"]}");
    }

    /// A member that lists revisions, such as `_conflicts`; left out when there are none.
    pub fn revision_list(&mut self, name: &str, revisions: &[&Revision]) {
        if !revisions.is_empty() {
            write_revisions(self.member(name), revisions);
        }
    }

    /// Closes the document.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends `["1-a","2-b"]`.
pub fn write_revisions(out: &mut Vec<u8>, revisions: &[&Revision]) {
    out.push(b'[');
    for (at, revision) in revisions.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.push(b'"');
        write_revision_text(out, revision);
        out.push(b'"');
    }
    out.push(b']');
}

/// Appends the revision as it stands inside a JSON string (a hash that a client made up may need escapes).
pub fn write_revision_text(out: &mut Vec<u8>, revision: &Revision) {
    let Hash::Text(text) = &revision.hash else { return revision.write_to(out) };
    out.extend_from_slice(revision.generation.to_string().as_bytes());
    out.push(b'-');
    let mut quoted = Vec::new();
    write_string(&mut quoted, text);
    out.extend_from_slice(&quoted[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IncomingDocument> {
        IncomingDocument::parse(text.as_bytes())
    }

    #[test]
    fn the_body_is_the_clients_text() {
        let text = r#" {"_id":"a", "n" : 1.0, "_rev":"1-a","big":1234567890123456789012345678901234567890,"s":"\u00e9\/", "o":{ "_x":1 }} "#;
        let document = parse(text).expect("valid");
        assert_eq!(
            document.body,
            r#""n":1.0,"big":1234567890123456789012345678901234567890,"s":"\u00e9\/","o":{ "_x":1 }"#
        );
        assert_eq!(document.id.as_deref(), Some("a"));
        let mut out = Vec::new();
        DocumentWriter::begin(&mut out, "a", &Revision::parse("1-a").expect("rev"), &document.body, true).end();
        let out = String::from_utf8(out).expect("text");
        assert_eq!(out, format!(r#"{{"_id":"a","_rev":"1-a",{},"_deleted":true}}"#, document.body));
    }

    #[test]
    fn the_last_of_duplicate_members_wins() {
        assert_eq!(parse(r#"{"a":1,"b":2,"\u0061":3}"#).expect("valid").body, r#""a":3,"b":2"#);
        let many: Vec<String> = (0..100).map(|n| format!("\"k{}\":{n}", n % 50)).collect();
        let body = parse(&format!("{{{}}}", many.join(","))).expect("valid").body;
        let expected: Vec<String> = (0..50).map(|n| format!("\"k{n}\":{}", n + 50)).collect();
        assert_eq!(body, expected.join(","));
    }

    #[test]
    fn reserved_members() {
        for (text, word, reason) in [
            (r#"{"_x":1}"#, "doc_validation", "Bad special document member: _x"),
            (r#"{"_":1}"#, "doc_validation", "Bad special document member: _"),
            (r#"{"\u005fx":1}"#, "doc_validation", "Bad special document member: _x"),
            (r#"{"_deleted":"true"}"#, "doc_validation", "Bad special document member: _deleted"),
            (r#"{"_attachments":[]}"#, "doc_validation", "Bad special document member: _attachments"),
            (r#"{"_revisions":[1]}"#, "doc_validation", "Bad special document member: _revisions"),
            (r#"{"_revisions":{"start":"2","ids":[]}}"#, "doc_validation", "_revisions.start isn't an integer."),
            (r#"{"_revisions":{"start":2,"ids":"x"}}"#, "doc_validation", "_revisions.ids isn't a array."),
            (r#"{"_revisions":{"start":2,"ids":[1]}}"#, "doc_validation", "RevId isn't a string"),
            (r#"{"_id":5}"#, "illegal_docid", "Document id must be a string"),
            (r#"{"_rev":"x"}"#, "bad_request", "Invalid rev format"),
            ("[]", "bad_request", "Document must be a JSON object"),
            ("{} x", "bad_request", "invalid UTF-8 JSON"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.word(), error.reason()), (word, reason), "{text}");
        }
        assert_eq!(parse(r#"{"_conflicts":[1],"_local_seq":1,"a":1}"#).expect("dropped").body, r#""a":1"#);
        assert_eq!(parse(r#"{"_replication_id":"x"}"#).expect("kept").body, r#""_replication_id":"x""#);
    }

    #[test]
    fn history() {
        let document = parse(r#"{"_rev":"1-z","_revisions":{"start":3,"ids":["c","b"]}}"#).expect("valid");
        let path: Vec<String> = document.replicated_path().expect("path").iter().map(ToString::to_string).collect();
        assert_eq!(path, ["3-c", "2-b"]);
        for nonsense in [
            r#"{"start":1,"ids":["c","b"]}"#,
            r#"{"start":-1,"ids":["a"]}"#,
            r#"{"start":0,"ids":["a"]}"#,
            r#"{"start":1,"ids":[]}"#,
        ] {
            let document = parse(&format!(r#"{{"_revisions":{nonsense}}}"#)).expect("valid");
            assert_eq!(document.replicated_path().map_err(|e| e.word()), Err("forbidden"), "{nonsense}");
        }
    }
}
