//! What became of each row of a file: the file once more, with what an operator needs to know at the end of each row.
//!
//! It can be fed in again: the columns that were added are called `import.…:excluded`, which a reader passes over. A cell that a
//! spreadsheet would compute gets an apostrophe, which the reader takes away. CSV stays CSV; JSON becomes an object on each line.

use csv::{QuoteStyle, Terminator, WriterBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::spreadsheet::{STATUS, inert, raw};
use super::{AccountRow, Format, LINE, Link, json_objects, text_of};

/// What became of a row. Empty texts: nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RowResult {
    /// `created`, `exists`, `changed`, `refused`, `skipped`.
    pub status: String,
    /// Why, or what else there is to know.
    pub reason: String,
    /// The account.
    pub name: String,
    /// The link that logs in once, or the message that carries it.
    pub link: String,
    /// The password, if one was made.
    pub password: String,
    /// The place that was made for it.
    pub place: String,
}

/// The column with the account's name.
const NAME: &str = "import.name:excluded";
/// The column with a link. What an earlier result has here stays if there is no newer one.
const LINK: &str = "import.link:excluded";
/// The column with a password. It is there if somebody got one, and no password is written twice.
const PASSWORD: &str = "import.password:excluded";
/// The column with the id of a place that a row made.
const PLACE: &str = "import.place:excluded";
/// The column that says why.
const MESSAGE: &str = "import.message:excluded";

impl RowResult {
    /// The columns that are added, in their order, and what stands there.
    fn cells(&self) -> [(&'static str, &str); 6] {
        let Self { status, reason, name, link, password, place } = self;
        [(STATUS, status), (MESSAGE, reason), (NAME, name), (LINK, link), (PASSWORD, password), (PLACE, place)]
    }
}

/// The file with what became of its rows.
///
/// # Errors
/// When the file is not the one that was read, or there is no memory for it.
pub fn write(file: &[u8], format: Format, results: &[RowResult]) -> Result<Vec<u8>, String> {
    let text = text_of(file).map_err(|problem| problem.to_string())?;
    match format {
        Format::Csv => spreadsheet(text, file.starts_with(super::UTF8_MARK), results),
        Format::Json => lines(text, results),
    }
}

fn require_same(rows: usize, results: &[RowResult]) -> Result<(), String> {
    if rows == results.len() {
        return Ok(());
    }
    Err(format!("the file has {rows} rows now, and had {}", results.len()))
}

fn spreadsheet(text: &str, marked: bool, results: &[RowResult]) -> Result<Vec<u8>, String> {
    let (mut header, rows) = raw(text);
    require_same(rows.len(), results)?;
    let has_passwords = results.iter().any(|result| !result.password.is_empty());
    for (column, _) in RowResult::default().cells() {
        let there = header.iter().any(|known| known.trim() == column);
        if !there && (column != PASSWORD || has_passwords) {
            header.push(column.to_owned());
        }
    }
    let position = |column: &str| header.iter().position(|known| known.trim() == column);
    let out = if marked { super::UTF8_MARK.to_vec() } else { Vec::new() };
    let mut builder = WriterBuilder::new();
    builder.quote_style(QuoteStyle::Necessary).terminator(Terminator::CRLF).has_headers(false);
    let mut writer = builder.from_writer(out);
    let failed = |error: csv::Error| error.to_string();
    writer.write_record(header.iter().map(|name| inert(name).into_owned())).map_err(failed)?;
    for (mut row, result) in rows.into_iter().zip(results) {
        row.resize(header.len(), String::new());
        for (column, cell) in result.cells() {
            let stays = column == LINK && cell.is_empty();
            if let Some(at) = position(column).filter(|_| !stays) {
                cell.clone_into(&mut row[at]);
            }
        }
        writer.write_record(row.iter().map(|cell| inert(cell).into_owned())).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| error.to_string())
}

fn lines(text: &str, results: &[RowResult]) -> Result<Vec<u8>, String> {
    let objects = json_objects(text, &mut Vec::new());
    require_same(objects.len(), results)?;
    let mut out = Vec::new();
    for ((_, mut members), result) in objects.into_iter().zip(results) {
        for (column, text) in result.cells() {
            match column {
                LINK if text.is_empty() && members.contains_key(LINK) => {}
                PASSWORD if text.is_empty() => drop(members.remove(PASSWORD)),
                _ => drop(members.insert(column.to_owned(), text.into())),
            }
        }
        out.extend_from_slice(Value::Object(members).to_string().as_bytes());
        out.push(b'\n');
    }
    Ok(out)
}

impl AccountRow {
    /// The row as an object that reads as the same row, with the line where it stands in its file: how it is sent.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert(LINE.to_owned(), self.line.into());
        let mut put = |name: &str, value: Option<Value>| value.map(|value| members.insert(name.to_owned(), value));
        let text = |text: &Option<String>| text.clone().map(Value::from);
        put("username", text(&self.name));
        put("external_id", text(&self.external_id));
        put("password", self.password.as_ref().map(|password| password.0.clone().into()));
        put("roles", (!self.roles.is_empty()).then(|| self.roles.clone().into()));
        put("contact", self.contact.clone().map(|contact| of_link(&contact)));
        for (name, value) in
            [("phone", &self.phone), ("email", &self.email), ("locale", &self.locale), ("fullname", &self.fullname)]
        {
            put(name, text(value));
        }
        put("token_login", self.link.map(Value::from));
        put(
            "place",
            match self.places.as_slice() {
                [] => None,
                [new @ Link::New(_)] => Some(of_link(new)),
                places => Some(places.iter().map(of_link).collect()),
            },
        );
        Value::Object(members)
    }
}

fn of_link(link: &Link) -> Value {
    match link {
        Link::Id(id) => id.clone().into(),
        Link::New(members) => Value::Object(members.clone()),
    }
}

#[cfg(test)]
mod tests;
