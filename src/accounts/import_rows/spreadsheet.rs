//! CSV: RFC 4180 with a header line, as spreadsheets write it; quoted commas, quotes and line breaks, CRLF, UTF-8 mark.
//!
//! Dots in the names of columns make nested members. The `csv` crate takes what is broken as well as it can; here a
//! quote that is not closed would swallow half the file, so the quotes are checked first.

use std::borrow::Cow;

use csv::{ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::{EXCLUDED, MOST_CELL_BYTES, MOST_PROBLEMS, MOST_ROWS, Object, Options, Problem, flag_of, line_at};

/// The column in which the CHT notes what became of a row.
pub(super) const STATUS: &str = "import.status:excluded";
/// The most columns of a file.
const MOST_COLUMNS: usize = 200;
/// Names between the dots of a column's name.
const MOST_NAMES: usize = 16;

/// A column: where its cells go.
enum Column {
    /// Nowhere.
    Ignored,
    /// Nowhere; a cell with something in it is a problem.
    Nameless,
    /// To the member of this name.
    Plain(String),
    /// Into members of members.
    Nested(Vec<String>),
}

/// The rows of a file as nested objects; rows of empty cells are none.
pub(super) fn objects(text: &str, options: Options, problems: &mut Vec<Problem>) -> Vec<Object> {
    if let Err(problem) = check_quotes(text) {
        problems.push(problem);
        return Vec::new();
    }
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut records = reader.records();
    let header = match records.next() {
        Some(Ok(header)) => header,
        _ => {
            problems.push(Problem::of_line(1, "the file is empty; the first line names the columns"));
            return Vec::new();
        }
    };
    let columns = match columns(&header, options) {
        Ok(columns) => columns,
        Err(found) => {
            problems.extend(found);
            return Vec::new();
        }
    };
    let mut objects = Vec::new();
    let (mut line, mut counted) = (1, 0);
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                problems.push(Problem::of_line(1, error.to_string()));
                return Vec::new();
            }
        };
        // The crate's own line numbers are those before the LF of a CRLF and before blank lines.
        let begun = record.position().map_or(counted, |position| position.byte() as usize);
        let begun = begun + text.as_bytes()[begun..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        line += line_at(&text.as_bytes()[counted..], begun - counted) - 1;
        counted = begun;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if record.len() != columns.len() && problems.len() < MOST_PROBLEMS {
            let reason = format!(
                "{} cells, but the first line names {} columns; a comma within a cell needs quotes around the cell",
                record.len(),
                columns.len()
            );
            problems.push(Problem::of_line(line, reason));
            continue;
        }
        if objects.len() == MOST_ROWS {
            problems.push(Problem::of_line(line, format!("more than {MOST_ROWS} rows; divide the file")));
            return Vec::new();
        }
        objects.push((line, object(&record, &columns, line, problems)));
    }
    objects
}

fn columns(header: &StringRecord, options: Options) -> Result<Vec<Column>, Vec<Problem>> {
    if let Some(separator) = [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")]
        .into_iter()
        .find(|(separator, _)| header.len() == 1 && header.get(0).is_some_and(|name| name.contains(*separator)))
    {
        let reason = format!("the columns are separated by {}; save the file with commas", separator.1);
        return Err(vec![Problem::of_line(1, reason)]);
    }
    if header.len() > MOST_COLUMNS {
        return Err(vec![Problem::of_line(1, format!("more than {MOST_COLUMNS} columns"))]);
    }
    let mut problems = Vec::new();
    let mut columns = Vec::with_capacity(header.len());
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    for (at, name) in names.iter().enumerate() {
        let mut problem = |reason: String| problems.push(Problem::new(1, name, reason));
        let path: Vec<String> = name.split('.').map(|part| part.trim().to_owned()).collect();
        if name.is_empty() {
            columns.push(Column::Nameless);
            continue;
        }
        if let Some(first) = names[..at].iter().position(|other| other == name) {
            problem(format!("is the name of column {} and of column {}", first + 1, at + 1));
        } else if *name == "password" && !options.passwords {
            // Also if all its cells are empty: a file made for passwords will have them next time.
            let advice = format!("leave it away (links are sent instead), call it `password{EXCLUDED}`, or allow it");
            problem(format!("passwords do not belong into files; {advice}"));
        } else if path.iter().any(String::is_empty) || path.len() > MOST_NAMES {
            problem("dots must stand between names, and not too many of them".to_owned());
        } else if let Some(within) = names.iter().find(|other| is_within(name, other)) {
            problem(format!("cannot be text and have a member too (`{within}`)"));
        }
        columns.push(match path.as_slice() {
            _ if *name == STATUS => Column::Plain(STATUS.to_owned()),
            _ if name.contains(EXCLUDED) => Column::Ignored,
            [_] => Column::Plain((*name).to_owned()),
            _ => Column::Nested(path),
        });
    }
    if problems.is_empty() { Ok(columns) } else { Err(problems) }
}

/// Whether `other` is a member of the column `name`.
fn is_within(name: &str, other: &str) -> bool {
    !name.contains(EXCLUDED)
        && !other.contains(EXCLUDED)
        && other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
}

fn object(record: &StringRecord, columns: &[Column], line: u64, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut members = Map::new();
    for (cell, (column, at)) in record.iter().zip(columns.iter().zip(1..)) {
        let cell = as_meant(cell);
        if cell.trim().is_empty() {
            continue;
        }
        match column {
            Column::Ignored => {}
            Column::Nameless => {
                problems.push(Problem::new(line, &format!("column {at}"), "has no name in the first line"));
            }
            Column::Plain(name) => {
                members.insert(name.clone(), cell.into());
            }
            // Text as written, so that telephone numbers keep their zeros; only TRUE and FALSE are more than text.
            Column::Nested(path) => {
                let text = cell.trim();
                insert(&mut members, path, flag_of(text).map_or_else(|| Value::from(text), Value::Bool));
            }
        }
    }
    members
}

/// With what a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A cell that a spreadsheet does not compute: an apostrophe stands before what looks like a formula, unless it came with one. [`as_meant`]
/// takes it away.
pub(super) fn inert(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(FORMULA) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

/// A cell without the apostrophe that [`inert`], or a spreadsheet, puts before what looks like a formula.
fn as_meant(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.trim_start_matches('\'').starts_with(FORMULA) => rest,
        _ => cell,
    }
}

/// The first line of a file and its rows as they are written, without rows of empty cells; of a file that was read without a problem.
pub(super) fn raw(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut records = reader.records().filter_map(Result::ok);
    let texts = |record: StringRecord| record.iter().map(str::to_owned).collect::<Vec<String>>();
    let header = records.next().map(texts).unwrap_or_default();
    let rows = records.filter(|record| record.iter().any(|cell| !cell.trim().is_empty())).map(texts).collect();
    (header, rows)
}

fn insert(members: &mut Map<String, Value>, path: &[String], value: Value) {
    let [name, rest @ ..] = path else { return };
    if rest.is_empty() {
        members.insert(name.clone(), value);
    } else if let Value::Object(inner) = members.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())) {
        insert(inner, rest, value);
    }
}

/// Where a reader of CSV stands.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before a cell.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Within quotes.
    Quoted,
    /// After a quote within quotes: the end, or the first of two.
    Closed,
}

/// A quote opens a cell, closes it, or is doubled within quotes; line ends are LF or CRLF; no cell is huge.
fn check_quotes(text: &str) -> Result<(), Problem> {
    let (mut state, mut line, mut opened, mut length) = (State::Start, 1, 1, 0);
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == b'\r' && state != State::Quoted && bytes.get(at + 1) != Some(&b'\n') {
            return Err(Problem::of_line(line, "a line end that is only CR; save the file as \"CSV UTF-8\""));
        }
        state = match (state, byte) {
            (State::Quoted, b'"') => State::Closed,
            (State::Quoted, _) => State::Quoted,
            (_, b',' | b'\n' | b'\r') => State::Start,
            (State::Start, b'"') => {
                opened = line;
                State::Quoted
            }
            (State::Closed, b'"') => State::Quoted,
            (State::Closed, _) => {
                return Err(Problem::of_line(line, "text after a closing quote; within quotes, write a quote twice"));
            }
            (State::Plain, b'"') => {
                return Err(Problem::of_line(line, "a quote within a cell; put the cell in quotes and write it twice"));
            }
            (State::Start | State::Plain, _) => State::Plain,
        };
        length = if state == State::Start { 0 } else { length + 1 };
        if length > MOST_CELL_BYTES + 2 {
            let begun = if state == State::Quoted { opened } else { line };
            return Err(Problem::of_line(begun, format!("a cell of more than {} KiB", MOST_CELL_BYTES >> 10)));
        }
        line += u64::from(byte == b'\n');
    }
    match state {
        State::Quoted => Err(Problem::of_line(opened, "a quote that is never closed")),
        _ => Ok(()),
    }
}
