//! Changing members of a body that a client wrote: what is not changed stays byte for byte.

use settle_protocol::raw_json::Scanner;
use settle_protocol::{Error, Revision};

use super::error::DocumentResult;
use super::write::{Mode, Write, WriteAttachment, Writing};

/// A member's name and its new value as JSON text; `None`: without it.
pub type Change<'a> = (&'a str, Option<String>);

/// The members of a body with some of them changed. New ones go to the end, in the order given.
///
/// # Errors
/// `400` for a body that is none.
pub fn with_members(members: &str, changes: &[Change<'_>]) -> Result<String, Error> {
    let whole = format!("{{{members}}}");
    let mut out = String::with_capacity(whole.len() + 64);
    let mut found = vec![false; changes.len()];
    let mut add = |name: &str, text: &str| {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(name).to_string());
        out.push(':');
        out.push_str(text);
    };
    Scanner::of_text(&whole).object(|name, value| {
        let name = name.decode().into_owned();
        let text = value.value()?;
        match changes.iter().position(|(changed, _)| *changed == name) {
            None => add(&name, text),
            Some(at) if found[at] => {}
            Some(at) => {
                found[at] = true;
                if let Some(text) = &changes[at].1 {
                    add(&name, text);
                }
            }
        }
        Ok(())
    })?;
    for (at, (name, text)) in changes.iter().enumerate() {
        if let Some(text) = text.as_ref().filter(|_| !found[at]) {
            add(name, text);
        }
    }
    Ok(out)
}

/// The text of one member; `None` when it is not there.
///
/// # Errors
/// `400` for a body that is none.
pub fn member(members: &str, wanted: &str) -> Result<Option<String>, Error> {
    let whole = format!("{{{members}}}");
    let mut found = None;
    Scanner::of_text(&whole).object(|name, value| {
        let matches = name.decode() == wanted;
        let text = value.value()?;
        if matches {
            found = Some(text.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

impl Writing<'_, '_> {
    /// The winner of a document that is not deleted, and its members as text.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn winner_text(&self, id: &str) -> DocumentResult<Option<(Revision, String)>> {
        let Some(row) = self.document(id)? else { return Ok(None) };
        let Some(winner) = row.tree.winner().filter(|winner| !winner.deleted) else { return Ok(None) };
        let body = self.body(id, &row, &winner.revision)?;
        Ok(body.map(|body| (winner.revision.clone(), body.text)))
    }

    /// A new revision on top of the winner, with some members changed.
    ///
    /// # Errors
    /// `404` when the document is not there, or as [`Writing::write`].
    pub(super) fn change_members(&mut self, id: &str, changes: &[Change<'_>]) -> DocumentResult<Revision> {
        let row = self.document(id)?.ok_or_else(Error::missing)?;
        let winner = row.tree.winner().filter(|winner| !winner.deleted).ok_or_else(Error::missing)?;
        let body = self.body(id, &row, &winner.revision)?.ok_or_else(Error::missing)?;
        self.write(Write {
            id: id.to_owned(),
            mode: Mode::edit(Some(winner.revision.clone())),
            deleted: false,
            body: with_members(&body.text, changes)?,
            attachments: body.attachments.iter().map(WriteAttachment::kept).collect(),
            user: None,
            facts: None,
        })
    }

    /// A document that is not there yet, or was deleted.
    ///
    /// # Errors
    /// `409` when it is there, or as [`Writing::write`].
    pub(super) fn make_document(&mut self, id: &str, members: &str) -> DocumentResult<Revision> {
        self.write(Write {
            id: id.to_owned(),
            mode: Mode::edit(None),
            deleted: false,
            body: members.to_owned(),
            attachments: Vec::new(),
            user: None,
            facts: None,
        })
    }

    /// A tombstone on top of the winner.
    ///
    /// # Errors
    /// As [`Writing::write`].
    pub(super) fn delete_document(&mut self, id: &str, base: Revision) -> DocumentResult<Revision> {
        self.write(Write {
            id: id.to_owned(),
            mode: Mode::edit(Some(base)),
            deleted: true,
            body: String::new(),
            attachments: Vec::new(),
            user: None,
            facts: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let body = r#""n":1.0,"é":[ 1e2 ],"name":"old","gone":{}"#;
        let changes =
            [("name", Some("\"new\"".to_owned())), ("gone", None), ("added", Some("{\"_id\":\"x\"}".to_owned()))];
        let expected = r#""n":1.0,"é":[ 1e2 ],"name":"new","added":{"_id":"x"}"#;
        assert_eq!(with_members(body, &changes).expect("a body"), expected);
        assert_eq!(with_members("", &changes[1..]).expect("a body"), r#""added":{"_id":"x"}"#);
        assert_eq!(member(body, "n").expect("a body").as_deref(), Some("1.0"));
        assert_eq!(member(body, "absent").expect("a body"), None);
    }
}
