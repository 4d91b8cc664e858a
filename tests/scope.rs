//! Scoped databases: who sees and may write what, over time, and what is kept of pushes that were refused.
//!
//! `visibility` and `sequences` run the data of `tests/acceptance/`; `two_worlds` looks for anything that tells a caller
//! about documents of others; `hostile` and `escrow` say what becomes of what a device may not write, `moves` what a move
//! does beside the scripts, `told` what becomes of a pull while the documents change. `operator` and `device` are the two
//! kinds of clients. A caller is restricted unless it is called operator or steward.

mod device;
mod escrow;
mod hostile;
mod moves;
mod operator;
mod sequences;
mod told;
mod two_worlds;
mod visibility;
mod world;

use std::fmt::Debug;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::http::{Client, Request, Response};

/// What a script does or finds, or in words why that is not possible.
type Outcome<T> = Result<T, String>;

const OUTSIDE_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One request whose answer has one of these statuses.
fn exchange(client: &Client, request: &Request, statuses: &[u16]) -> Outcome<Response> {
    let what = format!("{} {}", request.method, request.path);
    let response = client.try_send(request).map_err(|error| format!("{what}: no answer: {error}"))?;
    if statuses.contains(&response.status) {
        return Ok(response);
    }
    Err(format!("{what}: {} {}, wanted {statuses:?}", response.status, response.text().trim_end()))
}

/// An id or a token as a part of a path; the slash of a design document stays.
fn encoded(text: &str) -> String {
    let (prefix, name) = match text.strip_prefix("_design/") {
        Some(name) => ("_design/", name),
        None => ("", text),
    };
    format!("{prefix}{}", utf8_percent_encode(name, OUTSIDE_SEGMENT))
}

/// The text of a member, or nothing.
fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts<T: FromIterator<String>>(value: &Value) -> T {
    list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Adds a line when two things differ.
fn compare<T: PartialEq + Debug>(differences: &mut Vec<String>, what: &str, wanted: &T, got: &T) {
    if wanted != got {
        differences.push(format!("{what}: wanted {wanted:?}, got {got:?}"));
    }
}

/// Whether a case is to be run: all are, unless `SETTLE_CASE` holds a part of the id.
fn is_wanted(id: &str) -> bool {
    std::env::var("SETTLE_CASE").map_or(true, |part| id.contains(&part))
}
