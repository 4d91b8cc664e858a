//! Files with many accounts, read into typed rows: CSV with the CHT's columns, or JSON.
//!
//! Decides what a file may look like and what its columns mean; whether such an account may exist is decided where it
//! is made. A file with a problem gives no rows at all, but every problem with its line, so that a programme repairs its
//! spreadsheet once and not a hundred times. Passwords do not belong into files: they are refused unless asked for.
//! Pure: bytes in, rows or problems out.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub mod named_places;
pub mod result_file;
mod spreadsheet;

/// The most rows of a file.
pub const MOST_ROWS: usize = 100_000;
/// The most bytes of a file.
pub const MOST_BYTES: usize = 64 << 20;
/// The most bytes of one cell, and of one text in JSON.
pub const MOST_CELL_BYTES: usize = 64 << 10;
/// The most problems that are reported of one file.
pub const MOST_PROBLEMS: usize = 100;
/// Names of columns and members that contain this are ignored.
pub const EXCLUDED: &str = ":excluded";
/// In JSON, the line of the file that a row was taken from: what is said of it names that.
const LINE: &str = "import.line:excluded";

/// How deep the fields of a contact or place may be nested.
const MOST_DEPTH: usize = 16;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values; the first line names the columns.
    Csv,
    /// An array of objects, or one object after the other (a line for each).
    Json,
}

/// What a file may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// A `password` column is read instead of being a problem.
    pub passwords: bool,
}

/// A contact or a place of a row: one that is there, or one to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// Its document's id.
    Id(String),
    /// The members of its new document, nested where the columns had dots.
    New(Map<String, Value>),
}

/// A password from a file. Shows itself to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePassword(pub String);

impl std::fmt::Debug for FilePassword {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FilePassword(…)")
    }
}

/// An account as a file wants it. What the file leaves empty is `None` or empty here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccountRow {
    /// The line where it begins; 1 is the first line of the file.
    pub line: u64,
    /// The programme's own name for the person or account (`external_id`): what a repeated import goes by.
    pub external_id: Option<String>,
    /// The name to log in with (`username`, `name`).
    pub name: Option<String>,
    /// Only with [`Options::passwords`].
    pub password: Option<FilePassword>,
    /// Roles (`roles`, the CHT's older `type`): text with commas or colons between them, or a list in JSON.
    pub roles: Vec<String>,
    /// Places that are there (`place`, `facility_id`: ids with commas between them, or a list in JSON), or one new place
    /// (`place.…`).
    pub places: Vec<Link>,
    /// The person it acts as (`contact`, `contact_id`: an id; or `contact.…`).
    pub contact: Option<Link>,
    /// Telephone number, as written.
    pub phone: Option<String>,
    /// E-mail address, as written.
    pub email: Option<String>,
    /// Language (`language`, `locale`).
    pub locale: Option<String>,
    /// The name to be shown.
    pub fullname: Option<String>,
    /// Wants a link to log in (`token_login`).
    pub link: Option<bool>,
    /// An earlier import is done with it: `import.status:excluded` is `imported` or `skipped`, as the CHT writes it.
    pub done: bool,
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line; 1 is the first.
    pub line: u64,
    /// Column or member, if it is about one.
    pub column: Option<String>,
    /// What is wrong and what to do.
    pub reason: String,
}

impl Problem {
    fn new(line: u64, column: &str, reason: impl Into<String>) -> Self {
        Self { line, column: Some(column.to_owned()), reason: reason.into() }
    }

    fn of_line(line: u64, reason: impl Into<String>) -> Self {
        Self { line, column: None, reason: reason.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) => write!(formatter, "line {}, {column}: {}", self.line, self.reason),
            None => write!(formatter, "line {}: {}", self.line, self.reason),
        }
    }
}

/// Reads a whole file.
///
/// # Errors
/// Every problem found, in order of lines, at most [`MOST_PROBLEMS`]; then no row counts.
pub fn read(bytes: &[u8], format: Format, options: Options) -> Result<Vec<AccountRow>, Vec<Problem>> {
    let text = text_of(bytes).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let objects = match format {
        Format::Csv => spreadsheet::objects(text, options, &mut problems),
        Format::Json => json_objects(text, &mut problems),
    };
    let mut rows = Vec::with_capacity(objects.len());
    for (line, members) in objects {
        rows.push(Reader { line, options, problems: &mut problems }.row(members));
    }
    find_repeated(&rows, &mut problems);
    if problems.is_empty() {
        return Ok(rows);
    }
    problems.sort_by_key(|problem| problem.line);
    problems.truncate(MOST_PROBLEMS);
    Err(problems)
}

/// The file's text without its byte order mark.
fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MOST_BYTES {
        return Err(Problem::of_line(1, format!("the file has more than {} MiB", MOST_BYTES >> 20)));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Problem::of_line(1, "the file is UTF-16; save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    let broken =
        |at: usize, what: &str| Problem::of_line(line_at(bytes, at), format!("{what}; save the file as UTF-8"));
    let text = std::str::from_utf8(bytes).map_err(|error| broken(error.valid_up_to(), "bytes that are no UTF-8"))?;
    match memchr::memchr(0, bytes) {
        Some(at) => Err(broken(at, "a NUL character")),
        None => Ok(text),
    }
}

/// The number of the line in which a byte stands.
fn line_at(bytes: &[u8], at: usize) -> u64 {
    1 + memchr::memchr_iter(b'\n', &bytes[..at.min(bytes.len())]).count() as u64
}

/// A row's line and members, before they are understood.
type Object = (u64, Map<String, Value>);

fn json_objects(text: &str, problems: &mut Vec<Problem>) -> Vec<Object> {
    let bytes = text.as_bytes();
    let mut pieces: Vec<&RawValue> = Vec::new();
    let outcome = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map(|array| pieces = array)
    } else {
        serde_json::Deserializer::from_str(text).into_iter().try_for_each(|piece| {
            pieces.push(piece?);
            Ok(())
        })
    };
    if let Err(error) = outcome {
        let line = error.line().max(1) as u64;
        problems.push(Problem::of_line(line, format!("no JSON array of objects, nor an object on each line: {error}")));
        return Vec::new();
    }
    if pieces.len() > MOST_ROWS {
        problems.push(Problem::of_line(1, format!("more than {MOST_ROWS} rows; divide the file")));
        return Vec::new();
    }
    let mut objects = Vec::with_capacity(pieces.len());
    let (mut line, mut counted) = (1, 0);
    for piece in pieces {
        let at = piece.get().as_ptr() as usize - bytes.as_ptr() as usize;
        line += line_at(&bytes[counted..], at - counted) - 1;
        counted = at;
        match serde_json::from_str(piece.get()) {
            Ok(Value::Object(members)) => objects.push((line, members)),
            Ok(_) => problems.push(Problem::of_line(line, "a row must be an object")),
            Err(error) => problems.push(Problem::of_line(line, format!("a row that cannot be read: {error}"))),
        }
    }
    objects
}

/// Names and external ids must be the row's own.
fn find_repeated(rows: &[AccountRow], problems: &mut Vec<Problem>) {
    for (column, value) in [
        ("username", (|row| row.name.as_deref()) as fn(&AccountRow) -> Option<&str>),
        ("external_id", |row| row.external_id.as_deref()),
    ] {
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for row in rows {
            let Some(value) = value(row) else { continue };
            if let Some(first) = seen.insert(value, row.line) {
                problems.push(Problem::new(row.line, column, format!("`{value}` is also on line {first}")));
            }
        }
    }
}

/// Understands the members of one row.
struct Reader<'a> {
    line: u64,
    options: Options,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, column: &str, reason: impl Into<String>) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem::new(self.line, column, reason));
        }
    }

    fn row(&mut self, members: Map<String, Value>) -> AccountRow {
        let mut row = AccountRow { line: self.line, ..AccountRow::default() };
        let mut seen: HashMap<&str, String> = HashMap::new();
        for (column, value) in members {
            if column == spreadsheet::STATUS {
                row.done = matches!(value.as_str(), Some("imported" | "skipped"));
            }
            if column == LINE
                && let Some(line) = value.as_u64()
            {
                row.line = line;
            }
            if column.contains(EXCLUDED) || is_empty(&value) {
                continue;
            }
            let Some(field) = field_of(&column) else {
                let advice = format!("there is no such column; to keep it for yourself, call it `{column}{EXCLUDED}`");
                self.problem(&column, advice);
                continue;
            };
            if let Some(other) = seen.insert(field, column.clone()) {
                self.problem(&column, format!("says the same as `{other}`; keep one of them"));
                continue;
            }
            match field {
                "name" => row.name = self.text(&column, value),
                "external_id" => row.external_id = self.text(&column, value),
                "password" => row.password = self.password(&column, value),
                "roles" => row.roles = self.list(&column, value, &[',', ':']),
                "place" => row.places = self.places(&column, value),
                "contact" => row.contact = self.link(&column, value),
                "phone" => row.phone = self.text(&column, value),
                "email" => row.email = self.text(&column, value),
                "locale" => row.locale = self.text(&column, value),
                "fullname" => row.fullname = self.text(&column, value),
                _ => row.link = self.flag(&column, &value),
            }
        }
        if row.name.is_none() && row.external_id.is_none() {
            self.problem("username", "a row needs a username or an external_id");
        }
        row
    }

    fn text(&mut self, column: &str, value: Value) -> Option<String> {
        let Value::String(text) = value else {
            self.problem(column, "must be text");
            return None;
        };
        if let Some(reason) = fault_of(&text) {
            self.problem(column, reason);
            return None;
        }
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// As written, blanks included.
    fn password(&mut self, column: &str, value: Value) -> Option<FilePassword> {
        if !self.options.passwords {
            let reason =
                "passwords do not belong into files; leave the column away (links are sent instead), or allow it";
            self.problem(column, reason);
            return None;
        }
        match value {
            Value::String(text) if fault_of(&text).is_none() => Some(FilePassword(text)),
            _ => {
                self.problem(column, "must be text");
                None
            }
        }
    }

    fn flag(&mut self, column: &str, value: &Value) -> Option<bool> {
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => flag_of(text.trim()),
            _ => None,
        };
        if flag.is_none() {
            self.problem(column, "must be TRUE or FALSE");
        }
        flag
    }

    /// Texts between separators, or a list of texts; each once.
    fn list(&mut self, column: &str, value: Value, separators: &[char]) -> Vec<String> {
        let texts = match value {
            Value::Array(values) => values.into_iter().filter_map(|value| self.text(column, value)).collect(),
            other => match self.text(column, other) {
                Some(text) => text.split(separators).map(|part| part.trim().to_owned()).collect(),
                None => Vec::new(),
            },
        };
        let mut list: Vec<String> = Vec::new();
        for text in texts {
            if !text.is_empty() && !list.contains(&text) {
                list.push(text);
            }
        }
        list
    }

    fn places(&mut self, column: &str, value: Value) -> Vec<Link> {
        match value {
            Value::Object(_) => self.link(column, value).into_iter().collect(),
            other => self.list(column, other, &[',']).into_iter().map(Link::Id).collect(),
        }
    }

    fn link(&mut self, column: &str, value: Value) -> Option<Link> {
        let Value::Object(members) = value else { return self.text(column, value).map(Link::Id) };
        let members = self.new_document(column, members, 1);
        (!members.is_empty()).then_some(Link::New(members))
    }

    /// The members of a new document without those that are empty or excluded.
    fn new_document(&mut self, column: &str, members: Map<String, Value>, depth: usize) -> Map<String, Value> {
        if depth > MOST_DEPTH {
            self.problem(column, format!("nested more than {MOST_DEPTH} deep"));
            return Map::new();
        }
        let mut kept = Map::new();
        for (name, value) in members {
            let column = format!("{column}.{name}");
            if name.contains(EXCLUDED) || is_empty(&value) {
                continue;
            }
            if name.eq_ignore_ascii_case("password") {
                self.problem(&column, "a password would be stored readable in a document; leave it away");
            } else if depth == 1 && name.starts_with('_') && name != "_id" {
                self.problem(&column, "members that begin with _ are the server's");
            } else if let Value::Object(inner) = value {
                let inner = self.new_document(&column, inner, depth + 1);
                if !inner.is_empty() {
                    kept.insert(name, Value::Object(inner));
                }
            } else if let Some(reason) = value.as_str().and_then(fault_of) {
                self.problem(&column, reason);
            } else {
                kept.insert(name, value);
            }
        }
        kept
    }
}

/// What a column is about: its own name and the CHT's.
fn field_of(column: &str) -> Option<&'static str> {
    Some(match column {
        "username" | "name" => "name",
        "external_id" => "external_id",
        "password" => "password",
        "roles" | "type" => "roles",
        "place" | "places" | "facility_id" => "place",
        "contact" | "contact_id" => "contact",
        "phone" => "phone",
        "email" => "email",
        "language" | "locale" => "locale",
        "fullname" => "fullname",
        "token_login" => "token_login",
        _ => return None,
    })
}

/// `TRUE` and `FALSE`, as spreadsheets write them.
fn flag_of(text: &str) -> Option<bool> {
    match text {
        "TRUE" | "true" | "True" => Some(true),
        "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// Why a text cannot be taken.
fn fault_of(text: &str) -> Option<String> {
    if text.len() > MOST_CELL_BYTES {
        return Some(format!("more than {} KiB", MOST_CELL_BYTES >> 10));
    }
    let unfit = text.chars().find(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'));
    unfit.map(|letter| format!("a control character (U+{:04X})", u32::from(letter)))
}

#[cfg(test)]
mod tests;
