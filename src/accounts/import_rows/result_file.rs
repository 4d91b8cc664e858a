//! What became of each row of a file: the file once more, with what an operator needs to know at the end of each row.
//!
//! It can be fed in again: the columns that were added are called `import.…:excluded`, which a reader passes over. A cell that a
//! spreadsheet would compute gets an apostrophe, which the reader takes away. CSV stays CSV; JSON becomes an object on each line.

use csv::{QuoteStyle, Terminator, WriterBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::spreadsheet::{inert, raw};
use super::{AccountRow, Format, Link, json_objects, text_of};

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

/// The columns that are added, in their order.
pub const COLUMNS: [&str; 6] = [
    "import.status:excluded",
    "import.message:excluded",
    "import.name:excluded",
    "import.link:excluded",
    "import.password:excluded",
    "import.place:excluded",
];

impl RowResult {
    fn cells(&self) -> [&str; 6] {
        [&self.status, &self.reason, &self.name, &self.link, &self.password, &self.place]
    }
}

/// The file with what became of its rows. A link or a password that an earlier result file had stays where there is no newer one.
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

fn spreadsheet(text: &str, marked: bool, results: &[RowResult]) -> Result<Vec<u8>, String> {
    let (header, rows) = raw(text);
    if rows.len() != results.len() {
        return Err(format!("the file has {} rows now, and had {}", rows.len(), results.len()));
    }
    let mut columns = header.clone();
    // A column of passwords is only there if somebody wanted some.
    let wanted = |at: usize| at != 4 || results.iter().any(|result| !result.password.is_empty());
    let mut places = Vec::new();
    for (at, name) in COLUMNS.iter().enumerate() {
        let there = header.iter().position(|known| known.trim() == *name);
        let place = there.or_else(|| wanted(at).then_some(columns.len()));
        if place == Some(columns.len()) {
            columns.push((*name).to_owned());
        }
        places.push(place);
    }
    let out = if marked { super::UTF8_MARK.to_vec() } else { Vec::new() };
    let mut builder = WriterBuilder::new();
    builder.quote_style(QuoteStyle::Necessary).terminator(Terminator::CRLF).has_headers(false);
    let mut writer = builder.from_writer(out);
    let failed = |error: csv::Error| error.to_string();
    writer.write_record(columns.iter().map(|name| once_inert(name))).map_err(failed)?;
    for (mut row, result) in rows.into_iter().zip(results) {
        row.resize(columns.len(), String::new());
        for (at, (cell, place)) in result.cells().into_iter().zip(&places).enumerate() {
            let Some(place) = *place else { continue };
            let kept = matches!(at, 3 | 4) && cell.is_empty();
            if !kept {
                cell.clone_into(&mut row[place]);
            }
        }
        writer.write_record(row.iter().map(|cell| once_inert(cell))).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| error.to_string())
}

/// What came in with an apostrophe has it already.
fn once_inert(cell: &str) -> String {
    if cell.starts_with('\'') { cell.to_owned() } else { inert(cell).into_owned() }
}

fn lines(text: &str, results: &[RowResult]) -> Result<Vec<u8>, String> {
    let objects = json_objects(text, &mut Vec::new());
    if objects.len() != results.len() {
        return Err(format!("the file has {} rows now, and had {}", objects.len(), results.len()));
    }
    let mut out = Vec::new();
    for ((_, mut members), result) in objects.into_iter().zip(results) {
        for (at, (name, text)) in COLUMNS.iter().zip(result.cells()).enumerate() {
            let kept = matches!(at, 3 | 4) && text.is_empty() && members.contains_key(*name);
            if !kept && (at != 4 || !text.is_empty()) {
                members.insert((*name).to_owned(), text.into());
            }
        }
        out.extend_from_slice(Value::Object(members).to_string().as_bytes());
        out.push(b'\n');
    }
    Ok(out)
}

impl AccountRow {
    /// The row as an object that reads as the same row: how it is sent.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
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
        put("place", match self.places.as_slice() {
            [] => None,
            [new @ Link::New(_)] => Some(of_link(new)),
            places => Some(places.iter().map(of_link).collect()),
        });
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
