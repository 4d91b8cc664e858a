//! Request shapes of `_bulk_docs`, `_bulk_get`, `_revs_diff`, `_missing_revs` and `_purge`.
//!
//! Sources: protocol page §1.1.2, §1.1.3, §2.7, §2.9. One pass over the body; documents stay raw text.

use crate::document::IncomingDocument;
use crate::error::{Error, Result};
use crate::raw_json::{Kind, Scanner};
use crate::revision::Revision;

/// `POST /db/_bulk_docs`.
#[derive(Debug, Clone, Default)]
pub struct BulkDocs {
    /// The documents in request order.
    pub documents: Vec<IncomingDocument>,
    /// `false`: replicated revisions, stored as they are.
    pub new_edits: bool,
    /// `all_or_nothing:true` was asked for (answered 417).
    pub all_or_nothing: bool,
}

impl BulkDocs {
    /// Reads a request body. `max_document_bytes` bounds each document's body text.
    ///
    /// # Errors
    /// `400`/`413` for the whole request: nothing of it may be stored (§1.1.2).
    pub fn parse(bytes: &[u8], max_document_bytes: usize) -> Result<Self> {
        let mut scanner = object_scanner(bytes)?;
        let mut request = Self { new_edits: true, ..Self::default() };
        let mut seen = false;
        scanner.object(|name, scanner| match name.decode().as_ref() {
            "docs" if scanner.kind()? == Kind::Array => {
                seen = true;
                request.documents.clear();
                scanner.array(|scanner| {
                    let document = IncomingDocument::read(scanner)?;
                    if document.body.len() > max_document_bytes {
                        return Err(too_large(document.id.unwrap_or_default()));
                    }
                    request.documents.push(document);
                    Ok(())
                })
            }
            "docs" => Err(Error::bad_request("`docs` parameter must be an array.")),
            "new_edits" => {
                request.new_edits = match scanner.value()? {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Error::bad_request("`new_edits` parameter must be a boolean.")),
                };
                Ok(())
            }
            "all_or_nothing" => {
                request.all_or_nothing = scanner.value()? == "true";
                Ok(())
            }
            _ => scanner.value().map(drop),
        })?;
        scanner.end()?;
        if !seen {
            return Err(Error::bad_request("POST body must include `docs` parameter."));
        }
        Ok(request)
    }
}

/// A `_bulk_docs` request whose documents are still text, for several threads to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkOutline<'a> {
    /// The text of each document; not checked.
    pub documents: Vec<&'a str>,
    /// As in [`BulkDocs`].
    pub new_edits: bool,
    /// As in [`BulkDocs`].
    pub all_or_nothing: bool,
}

impl<'a> BulkOutline<'a> {
    /// Reads everything but the documents. If [`BulkOutline::read`] succeeds for all of them, the request is what
    /// [`BulkDocs::parse`] makes of it.
    ///
    /// # Errors
    /// For what may be wrong; [`BulkDocs::parse`] says in which words.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut scanner = object_scanner(bytes)?;
        let mut outline = Self { documents: Vec::new(), new_edits: true, all_or_nothing: false };
        let mut seen = false;
        scanner.object(|name, scanner| match name.decode().as_ref() {
            "docs" if !seen => {
                seen = true;
                outline.documents = scanner.unchecked_elements()?;
                Ok(())
            }
            "docs" => Err(Error::invalid_json()),
            "new_edits" => {
                outline.new_edits = match scanner.value()? {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Error::invalid_json()),
                };
                Ok(())
            }
            "all_or_nothing" => {
                outline.all_or_nothing = scanner.value()? == "true";
                Ok(())
            }
            _ => scanner.value().map(drop),
        })?;
        scanner.end()?;
        if seen { Ok(outline) } else { Err(Error::invalid_json()) }
    }

    /// Reads the text of one document, whose body may have at most `max_document_bytes`.
    ///
    /// # Errors
    /// As [`BulkDocs::parse`].
    pub fn read(text: &[u8], max_document_bytes: usize) -> Result<IncomingDocument> {
        let document = IncomingDocument::parse(text)?;
        if document.body.len() > max_document_bytes {
            return Err(too_large(document.id.unwrap_or_default()));
        }
        Ok(document)
    }
}

/// `413 document_too_large`, whose reason is the id of the document.
#[must_use]
pub fn too_large(id: String) -> Error {
    Error::new(crate::ErrorKind::DocumentTooLarge, id)
}

/// A scanner before the object that a request body must be.
///
/// # Errors
/// `400 bad_request`: no JSON, or no object.
pub fn object_scanner(bytes: &[u8]) -> Result<Scanner<'_>> {
    let mut scanner = Scanner::new(bytes)?;
    if scanner.kind()? == Kind::Object {
        return Ok(scanner);
    }
    scanner.value()?;
    scanner.end()?;
    Err(Error::bad_request("Request body must be a JSON object"))
}

/// One entry of `_bulk_get`: what was asked, or why it cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkGetEntry {
    /// `id` as sent, if it was a string.
    pub id: Option<String>,
    /// `rev` as sent, if it was a string.
    pub rev: Option<String>,
    /// The parsed revision; `None` asks for all leaves.
    pub revision: Option<Revision>,
    /// `atts_since`.
    pub atts_since: Option<Vec<Revision>>,
    /// A bad entry fails alone (§1.1.3).
    pub refused: Option<Error>,
}

/// Reads the `docs` of a `_bulk_get`.
///
/// # Errors
/// `400 bad_request` when there is no list; bad entries are rows, not errors.
pub fn parse_bulk_get(bytes: &[u8]) -> Result<Vec<BulkGetEntry>> {
    let mut scanner = object_scanner(bytes)?;
    let mut entries = None;
    scanner.object(|name, scanner| {
        if name.raw != "docs" || scanner.kind()? != Kind::Array {
            return scanner.value().map(drop);
        }
        let mut list = Vec::new();
        scanner.array(|scanner| {
            list.push(read_bulk_get_entry(scanner)?);
            Ok(())
        })?;
        entries = Some(list);
        Ok(())
    })?;
    scanner.end()?;
    entries.ok_or_else(|| Error::bad_request("Missing JSON list of 'docs'."))
}

fn read_bulk_get_entry(scanner: &mut Scanner<'_>) -> Result<BulkGetEntry> {
    let mut entry = BulkGetEntry { id: None, rev: None, revision: None, atts_since: None, refused: None };
    if scanner.kind()? != Kind::Object {
        scanner.value()?;
        entry.refused = Some(Error::bad_request("document must be a JSON object"));
        return Ok(entry);
    }
    let (mut members, mut bad_id, mut bad_atts) = (0, false, false);
    scanner.object(|name, scanner| {
        members += 1;
        match name.decode().as_ref() {
            "id" if scanner.kind()? == Kind::String => entry.id = Some(scanner.string()?.decode().into_owned()),
            "id" => bad_id = scanner.value().map(|_| true)?,
            "rev" if scanner.kind()? == Kind::String => entry.rev = Some(scanner.string()?.decode().into_owned()),
            "rev" => entry.rev = Some(scanner.value()?.to_owned()),
            "atts_since" => {
                let value = serde_json::from_str(scanner.value()?).map_err(|_| Error::invalid_json())?;
                match crate::query::revision_list(&value) {
                    Ok(revisions) => entry.atts_since = Some(revisions),
                    Err(_) => bad_atts = true,
                }
            }
            _ => {
                scanner.value()?;
            }
        }
        Ok(())
    })?;
    let illegal = |reason| Some(Error::new(crate::ErrorKind::IllegalDocumentId, reason));
    entry.refused = match (&entry.id, &entry.rev) {
        _ if members == 0 => Some(Error::bad_request("document must be a JSON object")),
        _ if bad_id => illegal("Document id must be a string"),
        (None, _) => Some(Error::bad_request("document id missed")),
        _ if bad_atts => Some(Error::bad_request("att_since value must be array of revs.")),
        (_, Some(rev)) => match Revision::parse(rev) {
            Ok(revision) => {
                entry.revision = Some(revision);
                None
            }
            Err(error) => Some(error),
        },
        (Some(_), None) => None,
    };
    Ok(entry)
}

/// `{id: [rev, …]}` of `_revs_diff`, `_missing_revs` and `_purge`, in request order.
///
/// # Errors
/// `400 bad_request`: no object, `"Invalid list of revisions"`, `"Invalid rev format"`.
pub fn parse_revisions_by_id(bytes: &[u8]) -> Result<Vec<(String, Vec<Revision>)>> {
    let mut scanner = object_scanner(bytes)?;
    let mut list: Vec<(String, Vec<Revision>)> = Vec::new();
    scanner.object(|name, scanner| {
        if scanner.kind()? != Kind::Array {
            return Err(Error::bad_request("Invalid list of revisions"));
        }
        let mut revisions = Vec::new();
        scanner.array(|scanner| {
            if scanner.kind()? != Kind::String {
                return Err(Error::bad_request("Invalid rev format"));
            }
            revisions.push(Revision::parse(&scanner.string()?.decode())?);
            Ok(())
        })?;
        list.push((name.decode().into_owned(), revisions));
        Ok(())
    })?;
    scanner.end()?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Result<BulkDocs> {
        BulkDocs::parse(text.as_bytes(), 1000)
    }

    #[test]
    fn bulk_docs() {
        let request = bulk(r#" {"new_edits":false, "x":[1], "docs":[{"_id":"a","v":1},{}]} "#).expect("valid");
        assert!(!request.new_edits);
        assert_eq!(request.documents.len(), 2);
        assert_eq!(request.documents[0].body, "\"v\":1");
        for (text, reason) in [
            ("[]", "Request body must be a JSON object"),
            ("{}", "POST body must include `docs` parameter."),
            (r#"{"docs":1}"#, "`docs` parameter must be an array."),
            (r#"{"docs":[1]}"#, "Document must be a JSON object"),
            (r#"{"docs":[],"new_edits":1}"#, "`new_edits` parameter must be a boolean."),
            (r#"{"docs":[]} x"#, "invalid UTF-8 JSON"),
            (r#"{"docs":[{"_x":1}]}"#, "Bad special document member: _x"),
        ] {
            assert_eq!(bulk(text).map_err(|e| e.reason().to_owned()).err().as_deref(), Some(reason), "{text}");
        }
        let large = format!(r#"{{"docs":[{{"_id":"big","v":"{}"}}]}}"#, "x".repeat(1000));
        let error = bulk(&large).expect_err("too large");
        assert_eq!((error.status(), error.word(), error.reason()), (413, "document_too_large", "big"));
    }

    #[test]
    fn an_outline_is_read_as_the_whole_or_not_at_all() {
        let good = [
            r#"{"docs":[]}"#,
            r#" {"new_edits":false, "x":[1], "docs":[ {"_id":"a","v":[1,{"b":"],"}]} , {} ]} "#,
            r#"{"docs":[{"a":"\"]},\\"},{"_id":"é","b":[[],{}]}],"all_or_nothing":true}"#,
        ];
        let bad = [
            r#"{"docs":[{},]}"#,
            r#"{"docs":[,{}]}"#,
            r#"{"docs":[{} {}]}"#,
            r#"{"docs":[{"a":[1}]}]}"#,
            r#"{"docs":[1]}"#,
            r#"{"docs":[{}],"docs":[{}]}"#,
            r#"{"docs":[{}]"#,
            r#"{"docs":[{}"#,
            r#"{"docs":{}}"#,
            r#"{"docs":[{}],"new_edits":1}"#,
            r#"{"docs":[{}]} x"#,
            r#"{"docs":[{"_x":1}]}"#,
            r#"{"docs":[{"_id":"big","v":"0123456789"}]}"#,
            "{}",
            "[]",
        ];
        let read = |text: &str| -> Result<BulkDocs> {
            let outline = BulkOutline::parse(text.as_bytes())?;
            let documents = outline.documents.iter().map(|text| BulkOutline::read(text.as_bytes(), 32));
            let documents = documents.collect::<Result<_>>()?;
            Ok(BulkDocs { documents, new_edits: outline.new_edits, all_or_nothing: outline.all_or_nothing })
        };
        let text = |request: Result<BulkDocs>| request.map(|request| format!("{request:?}")).ok();
        for request in good {
            let whole = text(BulkDocs::parse(request.as_bytes(), 32));
            assert!(whole.is_some(), "{request}");
            assert_eq!(text(read(request)), whole, "{request}");
        }
        for request in bad {
            assert!(read(&request.replace("0123456789", &"x".repeat(40))).is_err(), "{request}");
        }
    }

    #[test]
    fn bulk_get_entries_fail_alone() {
        let text = r#"{"docs":[{"id":"a"},{"id":"a","rev":"1-x","atts_since":["1-a"]},{"id":5},{"rev":"1-x"},{},7,{"id":"a","rev":"x"},
            {"id":"a","atts_since":1}]}"#;
        let entries = parse_bulk_get(text.as_bytes()).expect("valid");
        let reasons: Vec<Option<&str>> =
            entries.iter().map(|entry| entry.refused.as_ref().map(Error::reason)).collect();
        assert_eq!(
            reasons,
            [
                None,
                None,
                Some("Document id must be a string"),
                Some("document id missed"),
                Some("document must be a JSON object"),
                Some("document must be a JSON object"),
                Some("Invalid rev format"),
                Some("att_since value must be array of revs."),
            ]
        );
        assert_eq!(parse_bulk_get(b"{\"docs\":[]}").expect("empty"), []);
        assert!(parse_bulk_get(b"{}").is_err());
    }

    #[test]
    fn revisions_by_id() {
        let list = parse_revisions_by_id(br#"{"a":["1-x","2-y"],"b":[]}"#).expect("valid");
        assert_eq!((list.len(), list[0].1.len()), (2, 2));
        for bad in ["[]", r#"{"a":1}"#, r#"{"a":[1]}"#, r#"{"a":["x"]}"#] {
            assert_eq!(parse_revisions_by_id(bad.as_bytes()).map_err(|e| e.status()), Err(400), "{bad}");
        }
    }
}
