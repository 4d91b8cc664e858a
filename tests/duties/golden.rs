//! The table of design §10: every line of the endpoint table × everybody who may ask, with the answer's status and error, beside a
//! file that a person can read. `SETTLE_GOLDEN=write` writes file and page anew; then look at what changed.
//!
//! `=` behind an answer: about something that is there and about something that is not it is the same to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::sample::{About, Thing, about, absent, present, request};
use super::stage::{Caller, Stage};
use crate::support::http::{Request, Response};
use crate::support::server::TestServer;

const GOLDEN: &str = "tests/duties/golden.txt";
const PAGE: &str = "docs/roles.md";
/// Columns of the table on the page: everybody whose rights stand.
const ROLES: usize = 9;
/// Columns of a line of the file.
const WIDTH: usize = 120;

/// A line of the endpoint table with one of its methods.
struct Line {
    method: String,
    shape: String,
    need: String,
}

/// What each caller was answered, in their order.
struct Row {
    line: Line,
    answers: Vec<String>,
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for (methods, shape, need) in settle::http::endpoint_table() {
        for method in methods.split(',') {
            lines.push(Line { method: method.to_owned(), shape: shape.clone(), need: format!("{need:?}") });
        }
    }
    // Who has logged out asks nothing more.
    lines.sort_by_key(|line| line.method == "DELETE" && line.shape == "/_session");
    lines
}

/// An answer without what may differ between two things of the same kind.
fn shown(response: &Response, thing: &Thing) -> String {
    let headers = response.headers.iter().filter(|(name, _)| !Response::OF_ONE_ANSWER.contains(name));
    let headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
    let text = format!("{} {headers:?} {}", response.status, response.text());
    // A number is in no answer to somebody who may not have it, and in many others by chance.
    if thing.name.len() < 5 { text } else { text.replace(&thing.name, "THING") }
}

fn outcome(response: &Response) -> String {
    let body: Value = serde_json::from_slice(&response.bytes()).unwrap_or_default();
    match (response.status, body["error"].as_str()) {
        (200..400, _) | (_, None) => response.status.to_string(),
        (status, Some(error)) => format!("{status} {error}"),
    }
}

fn is_read(line: &Line) -> bool {
    let asks = ["_bulk_get", "_revs_diff", "_missing_revs", "_reconcile", "_all_docs", "_changes"];
    line.method == "GET" || (line.method == "POST" && asks.iter().any(|ask| line.shape.ends_with(ask)))
}

/// Everything that is asked, and things that reading does not use up.
struct Walk {
    stage: Stage,
    kept: BTreeMap<String, Thing>,
}

impl Walk {
    fn thing(&mut self, about: About, reads: bool) -> Thing {
        if !reads {
            return present(&mut self.stage, about, false);
        }
        let key = format!("{about:?}");
        if let Some(thing) = self.kept.get(&key) {
            return thing.clone();
        }
        let thing = present(&mut self.stage, about, true);
        self.kept.insert(key, thing.clone());
        thing
    }

    fn answer(&mut self, caller: &Caller, line: &Line) -> String {
        let about = about(&line.method, &line.shape);
        let thing = self.thing(about, is_read(line));
        let number = self.stage.number();
        let send = |thing: &Thing| {
            let request: Request = request(&line.method, &line.shape, thing, number);
            self.stage.send(&caller.shown, &request)
        };
        if about == About::Nothing {
            return outcome(&send(&thing));
        }
        let none = absent(about, &thing);
        let (without, with) = (send(&none), send(&thing));
        let same = if shown(&without, &none) == shown(&with, &thing) { " =" } else { "" };
        format!("{}{same}", outcome(&with))
    }
}

fn walk() -> (Vec<&'static str>, Vec<Row>) {
    let stage = Stage::start_with(TestServer::options().config("[settle]\nretirements_alone = 0\n"));
    let mut callers = stage.roles();
    callers.extend(stage.ended());
    stage.somebody("helper", "chw", &["area-a"]);
    let mut walk = Walk { stage, kept: BTreeMap::new() };
    let mut rows: Vec<Row> = lines().into_iter().map(|line| Row { line, answers: Vec::new() }).collect();
    // One caller after the other, the operator last: what they do to the server is the same for whoever follows.
    let (roles, ended) = callers.split_at(ROLES);
    let order = roles[..ROLES - 1].iter().chain(ended).chain(&roles[ROLES - 1..]);
    let mut answered: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for caller in order {
        let answers = rows.iter().map(|row| walk.answer(caller, &row.line)).collect();
        answered.insert(caller.title, answers);
    }
    for (at, row) in rows.iter_mut().enumerate() {
        row.answers = callers.iter().map(|caller| answered[caller.title][at].clone()).collect();
    }
    assert!(!walk.stage.server.log().contains("panicked"), "{}", walk.stage.server.log());
    (callers.iter().map(|caller| caller.title).collect(), rows)
}

/// The callers of each answer, the answer of the first caller first.
fn grouped<'a>(titles: &[&'a str], answers: &[String]) -> Vec<(String, Vec<&'a str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (title, answer) in titles.iter().zip(answers) {
        match groups.iter_mut().find(|(known, _)| known == answer) {
            Some((_, titles)) => titles.push(title),
            None => groups.push((answer.clone(), vec![title])),
        }
    }
    groups.sort();
    groups
}

fn file_of(titles: &[&str], rows: &[Row]) -> String {
    let mut out = format!(
        "Who is answered what, about the first area of two. Written by tests/duties/golden.rs (SETTLE_GOLDEN=write).\n\
         = : the same to the byte as about something that is not there.\n\
         Callers: {}.\n",
        titles.join(", ")
    );
    for Row { line, answers } in rows {
        out.push_str(&format!("\n{} {}   [{}]\n", line.method, line.shape, line.need));
        let groups = grouped(titles, answers);
        if let [(answer, _)] = groups.as_slice() {
            out.push_str(&format!("    {answer:28}everybody\n"));
            continue;
        }
        for (answer, titles) in groups {
            let mut text = format!("    {answer:28}");
            for (at, title) in titles.iter().enumerate() {
                let comma = if at + 1 < titles.len() { ", " } else { "" };
                let width = text.len() - text.rfind('\n').map_or(0, |at| at + 1);
                if width + title.len() + 1 > WIDTH {
                    text = format!("{}\n{:32}", text.trim_end(), "");
                }
                text.push_str(&format!("{title}{comma}"));
            }
            out.push_str(&format!("{}\n", text.trim_end()));
        }
    }
    out
}

/// Let in, or the status of the refusal. What else went wrong is said to those who are let in.
fn verdict(answer: &str) -> &str {
    match answer.get(..3) {
        Some(status @ ("401" | "403" | "404")) => status,
        _ => "yes",
    }
}

/// The short table: endpoints that answer everybody alike share a line.
fn page_of(titles: &[&str], rows: &[Row], columns: std::ops::Range<usize>) -> String {
    let mut lines: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for Row { line, answers } in rows {
        let verdicts: Vec<&str> = answers[columns.clone()].iter().map(|answer| verdict(answer)).collect();
        let path =
            line.shape.replace("{db}", "db").replace("{name}", "…").replace("{id}", "doc").replace("{rest…}", "…");
        let named = format!("`{} {path}`", line.method);
        match lines.iter_mut().find(|(known, _)| *known == verdicts) {
            Some((_, names)) => names.push(named),
            None => lines.push((verdicts, vec![named])),
        }
    }
    let heads: Vec<&str> = titles[columns].to_vec();
    let mut out = format!("| {} | endpoints |\n|{}---|\n", heads.join(" | "), "---|".repeat(heads.len()));
    for (verdicts, names) in lines {
        out.push_str(&format!("| {} | {} |\n", verdicts.join(" | "), names.join(", ")));
    }
    out
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Replaces what stands between two marks of the page.
fn with_table(page: &str, mark: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{PAGE} has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{PAGE} has no {end}"));
    format!("{before}{begin}{table}{end}{after}")
}

#[test]
fn every_endpoint_answers_everybody_as_the_table_says() {
    let (titles, rows) = walk();
    let file = file_of(&titles, &rows);
    let page = fs::read_to_string(path_of(PAGE)).expect("the page");
    let table = with_table(&page, "roles", &page_of(&titles, &rows, 0..ROLES));
    let table = with_table(&table, "standings", &page_of(&titles, &rows, ROLES..titles.len()));
    if std::env::var("SETTLE_GOLDEN").is_ok_and(|flag| flag == "write") {
        fs::write(path_of(GOLDEN), &file).expect("written");
        fs::write(path_of(PAGE), &table).expect("written");
        return;
    }
    let golden = fs::read_to_string(path_of(GOLDEN)).unwrap_or_default();
    let differs = golden.lines().zip(file.lines()).find(|(golden, now)| golden != now);
    let said = "look at it, and write it anew with SETTLE_GOLDEN=write if it is right";
    assert!(golden == file, "{GOLDEN}: {differs:?}; {said}");
    assert!(page == table, "{PAGE} is not what the servers answers say; {said}");
}
