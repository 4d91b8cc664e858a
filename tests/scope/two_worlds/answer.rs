//! An answer as text, without what may differ between two worlds for reasons that tell nothing.
//!
//! Positions are global: a token contains the number of writes to the whole database, and every account may see it grow;
//! during a backfill it also contains where that began. So the tokens of rows are replaced by the order of their first
//! appearance in the answer (whether two answers share a token depends on writes out of sight), and those that stand for
//! the end of the log (`last_seq`, `update_seq` and the like) by a word. Times, sizes on disk, random names, session
//! cookies and the address of the server are set aside. Everything else stays as it came.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::support::http::{Request, Response};

static ROW_TOKEN: LazyLock<Regex> = LazyLock::new(|| pattern(r#""seq":"([^"]*)""#));
static END_TOKEN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#""(last_seq|update_seq|purge_seq|_local_seq|committed_update_seq)":("[^"]*"|\d+)"#));
static SET_ASIDE_MEMBER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#""(instance_start_time|disk_size|data_size|received|uuid)":("[^"]*"|\d+)|"(sizes)":\{[^}]*\}"#)
});
static BOUNDARY: LazyLock<Regex> = LazyLock::new(|| pattern(r#"boundary="?([0-9A-Za-z_-]+)"?"#));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this test is well-formed")
}

/// An answer made comparable, and the tokens in it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) tokens: Vec<String>,
}

impl Shown {
    /// Reads an answer of the server at this address.
    pub(super) fn read(request: &Request, response: &Response, address: &str) -> Self {
        let mut rows: Vec<String> = Vec::new();
        let raw = response.text();
        let tokens = ROW_TOKEN.captures_iter(&raw).map(|found| found[1].to_owned());
        let ends = END_TOKEN.captures_iter(&raw).filter(|found| &found[1] == "last_seq");
        let tokens = tokens.chain(ends.map(|found| found[2].trim_matches('"').to_owned())).collect();
        let body = ROW_TOKEN.replace_all(&raw, |found: &Captures<'_>| {
            let at = rows.iter().position(|known| *known == found[1]).unwrap_or_else(|| {
                rows.push(found[1].to_owned());
                rows.len() - 1
            });
            format!("\"seq\":\"row {at}\"")
        });
        let body = END_TOKEN.replace_all(&body, "\"$1\":\"position\"");
        let body = SET_ASIDE_MEMBER.replace_all(&body, "\"$1$3\":\"set aside\"");
        let same_length = body == raw && !(request.method == "HEAD" && has_tokens(&request.path));
        let mut text = format!("{}\n", response.status);
        for (name, value) in response.headers.iter() {
            if !Response::OF_ONE_ANSWER.contains(&name) && (name != "content-length" || same_length) {
                text.push_str(&format!("{name}: {value}\n"));
            }
        }
        text.push_str(&format!("\n{body}"));
        let boundaries: Vec<String> = BOUNDARY.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        for boundary in boundaries {
            text = text.replace(&boundary, "BOUNDARY");
        }
        text = text.replace(address, "ADDRESS");
        Self { text, tokens }
    }
}

/// Answers to this path hold tokens, whose length is the world's own.
fn has_tokens(path: &str) -> bool {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    ["", "/", "/_changes", "/_all_docs"].contains(&path) || query.contains("local_seq=true")
}

#[test]
fn only_what_tells_nothing_is_set_aside() {
    let request = Request::new("GET", "/a");
    let answer = |body: &str| Response { status: 200, headers: Default::default(), body: body.as_bytes().to_vec() };
    let read = |body: &str| Shown::read(&request, &answer(body), "127.0.0.1:1").text;
    let first = read(r#"{"results":[{"seq":"5-a","id":"x"},{"seq":"7-b","id":"y"}],"last_seq":"9-c","pending":3}"#);
    let wanted = r#"{"results":[{"seq":"row 0","id":"x"},{"seq":"row 1","id":"y"}],"last_seq":"position","pending":3}"#;
    assert_eq!(first, format!("200\n\n{wanted}"));
    let twice = read("{\"seq\":\"7-b\"}\n{\"seq\":\"5-a\"}\n{\"seq\":\"7-b\"}");
    assert_eq!(twice, "200\n\n{\"seq\":\"row 0\"}\n{\"seq\":\"row 1\"}\n{\"seq\":\"row 0\"}");
    assert_eq!(read(r#"{"sizes":{"file":3},"doc_count":4}"#), "200\n\n{\"sizes\":\"set aside\",\"doc_count\":4}");
    assert_eq!(read("see http://127.0.0.1:1/a"), "200\n\nsee http://ADDRESS/a");
}
