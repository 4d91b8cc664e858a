//! The repository checks itself: who may use whom, what the protocol crate may depend on, sizes, and leftovers.
//!
//! Pure reading of text: no parser, no build, no network. Each rule is a line of data with its reason, and a failure
//! prints the offending line with that reason. A rule that is wrong is changed here, in the same commit as the shape.

use std::fs;
use std::path::{Path, PathBuf};

/// Part of `src/`, the parts it may use, and why no more. From the top down: a part only uses parts below it.
const LAYERS: &[(&str, &[&str], &str)] = &[
    ("main", &["commands", "telemetry"], "main only turns arguments into one command"),
    (
        "commands",
        &["sending", "http", "services", "documents", "accounts", "audit", "storage", "clock", "config", "telemetry"],
        "a command may start and use everything, and nothing uses a command",
    ),
    (
        "sending",
        &["http", "services", "accounts", "audit", "storage", "clock", "config"],
        "what leaves by itself goes through the HTTP client, and no request knows of it",
    ),
    (
        "http",
        &["services", "documents", "access", "accounts", "audit", "storage", "clock", "config"],
        "HTTP calls downward; what is below does not know that there is HTTP",
    ),
    (
        "services",
        &["documents", "accounts", "audit", "storage", "clock", "config"],
        "the parts are put together here, once; no part reaches up for another",
    ),
    (
        "documents",
        &["access", "accounts", "audit", "storage"],
        "the engine gets time, settings and callers as arguments",
    ),
    ("access", &["accounts"], "decisions are pure: values in, a decision out, no storage and no HTTP"),
    ("accounts", &["audit", "storage"], "accounts know neither documents nor requests"),
    ("audit", &["storage"], "what happened is told by those who did it, in the batch of what they did"),
    ("clock", &["storage"], "the clock keeps its mark in the store and knows nothing else"),
    ("storage", &[], "the store knows bytes and tables, not what they mean"),
    ("config", &[], "the configuration is read by everybody and reads nobody"),
    ("telemetry", &[], "logging starts before everything else"),
];

/// A crate, the only folder that may name it, and why.
const OWNED_CRATES: &[(&str, &str, &str)] = &[
    ("rocksdb", "src/storage/", "a second engine must fit behind `storage` (design §15)"),
    ("hyper", "src/http/", "HTTP's types stay at the edge (design §3)"),
    ("hyper_util", "src/http/", "HTTP's types stay at the edge (design §3)"),
    ("http_body_util", "src/http/", "HTTP's types stay at the edge (design §3)"),
    ("tokio_rustls", "src/http/", "TLS is a matter of connections"),
    ("csv", "src/accounts/", "bulk files of accounts are the only CSV"),
    ("clap", "src/commands/", "the command line is understood in one place"),
    ("argon2", "src/accounts/", "passwords are hashed in one place"),
];

/// What the protocol crate may depend on: nothing that does input or output, waits, or draws random numbers.
const PROTOCOL_CRATES: &[&str] =
    &["serde", "serde_json", "blake3", "md-5", "base64", "thiserror", "regex", "icu_collator", "bytes", "memchr"];

/// What the protocol crate may not name, although the standard library has it.
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::io::stdin", "std::time", "std::thread", "std::process", "std::env", "async fn"];

/// Lines of a file before its tests.
const LONGEST_FILE: usize = 700;
/// Lines of a function, from its name to its last brace.
const LONGEST_FUNCTION: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: its path below the repository, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines without those that are only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The first name below `src/`: `src/http/error.rs` and `src/http.rs` are both of `http`.
    fn part(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        below.split('/').next().map(|name| name.strip_suffix(".rs").unwrap_or(name))
    }

    fn at(&self, line: usize, text: &str, reason: &str) -> String {
        format!("{}:{line}: {}\n    {reason}", self.path, text.trim())
    }
}

/// Every file with one of these endings below a folder of the repository.
fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("node_modules") {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
                found.push(read(&path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let below = path.strip_prefix(root()).unwrap_or(path);
    Source { path: below.to_string_lossy().replace('\\', "/"), text }
}

fn rust_files(folders: &[&str]) -> Vec<Source> {
    let files: Vec<Source> = folders.iter().flat_map(|folder| files(folder, &["rs"])).collect();
    assert!(files.len() > 10, "the repository is not where it was built: {}", root().display());
    files
}

#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The parts that a line reaches through `crate::` (or, in `main.rs`, through `settle::`).
fn parts_named(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for root in ["crate::", "settle::"] {
        for (at, _) in line.match_indices(root) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|letter| is_word(letter) || matches!(letter, '$' | ':')) {
                continue;
            }
            let rest = &line[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => parts.extend(top_level(group).into_iter().map(first_word)),
                None => parts.push(first_word(rest)),
            }
        }
    }
    parts
}

/// The members of `a::b, c::{d, e}}`, split at the outermost commas.
fn top_level(group: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let pieces = group.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    pieces.map(str::trim).filter(|piece| !piece.is_empty()).collect()
}

fn first_word(text: &str) -> &str {
    text.split(|letter| !is_word(letter)).next().unwrap_or_default()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether a line names a crate or path, as `name::…` or `use name`.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let whole = !before.is_some_and(|letter| is_word(letter) || letter == ':' || letter == '"');
        whole && (after.starts_with("::") || (line[..at].trim_end().ends_with("use") && !after.starts_with(is_word)))
    })
}

#[test]
fn the_layers_have_an_order() {
    for (number, (part, below, _)) in LAYERS.iter().enumerate() {
        let lower: Vec<&str> = LAYERS[number + 1..].iter().map(|(name, _, _)| *name).collect();
        for used in *below {
            assert!(lower.contains(used), "LAYERS: `{part}` stands above `{used}` or the two use each other");
        }
    }
}

#[test]
fn parts_use_only_what_is_below_them() {
    let mut problems = Vec::new();
    for file in rust_files(&["src"]).iter().filter(|file| file.path != "src/lib.rs") {
        let part = file.part().unwrap_or_default();
        let Some((_, below, reason)) = LAYERS.iter().find(|(name, _, _)| *name == part) else {
            problems.push(format!("{}: `{part}` is a new part: give it a line in LAYERS", file.path));
            continue;
        };
        for (number, line) in file.code() {
            for used in parts_named(line) {
                if used != part && !below.contains(&used) {
                    problems.push(file.at(number, line, &format!("`{part}` must not use `{used}`: {reason}")));
                }
            }
            let climbs = line.trim_start_matches("pub ").starts_with("use ") && line.contains("super::super");
            if climbs {
                problems.push(file.at(
                    number,
                    line,
                    "another folder is reached by `crate::`, so that this test sees it",
                ));
            }
        }
    }
    none(&problems);
}

#[test]
fn engines_are_named_in_one_folder() {
    let mut problems = Vec::new();
    for file in rust_files(&["src"]) {
        for (name, folder, reason) in OWNED_CRATES.iter().filter(|(_, folder, _)| !file.path.starts_with(folder)) {
            let lines = file.code().filter(|(_, line)| names(line, name) && !is_plain_entry(&file.path, name));
            problems.extend(
                lines.map(|(number, line)| file.at(number, line, &format!("only {folder} names `{name}`: {reason}"))),
            );
        }
    }
    none(&problems);
}

/// `main.rs` parses the command line before it knows which command it is.
fn is_plain_entry(path: &str, name: &str) -> bool {
    path == "src/main.rs" && name == "clap"
}

#[test]
fn the_protocol_is_pure() {
    let mut problems = Vec::new();
    let manifest = read(&root().join("protocol/Cargo.toml"));
    for (number, name) in dependencies(&manifest.text) {
        if !PROTOCOL_CRATES.contains(&name) && name != "proptest" {
            problems.push(manifest.at(
                number,
                name,
                "not in PROTOCOL_CRATES: the protocol does no I/O and is not async",
            ));
        }
    }
    for file in rust_files(&["protocol/src"]) {
        for (number, line) in file.code() {
            for name in IMPURE.iter().filter(|name| line.contains(**name)) {
                let reason = format!("`{name}`: time, randomness and limits are arguments; there is no I/O here");
                problems.push(file.at(number, line, &reason));
            }
        }
    }
    none(&problems);
}

/// Lines of the dependency sections of a manifest: number and name.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(manifest.lines()) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.contains("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with([' ', '#'])) {
            found.push((number, name.trim()));
        }
    }
    found
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let mut problems = Vec::new();
    for manifest in ["Cargo.toml", "protocol/Cargo.toml", "fuzz/Cargo.toml"] {
        let manifest = read(&root().join(manifest));
        let lines: Vec<&str> = manifest.text.lines().collect();
        let dependencies = dependencies(&manifest.text);
        for (number, name) in &dependencies {
            // Neighbours share the comment above them.
            let above = lines.get(number.wrapping_sub(2)).copied().unwrap_or_default();
            let shared = dependencies.iter().any(|(other, _)| other + 1 == *number);
            if !above.starts_with('#') && !shared {
                problems.push(manifest.at(*number, name, "a comment above says what it is for"));
            }
        }
    }
    none(&problems);
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = rust_files(&["src", "protocol", "tests", "fuzz"]);
    let silent = files.iter().filter(|file| !file.text.starts_with("//!"));
    let problems: Vec<String> =
        silent.map(|file| format!("{}: begin with `//!`: what it is for, what it never does", file.path)).collect();
    none(&problems);
}

#[test]
fn files_and_functions_can_be_seen_whole() {
    let mut problems = Vec::new();
    for file in rust_files(&["src", "protocol/src"]).iter().filter(|file| !file.path.ends_with("tests.rs")) {
        let lines: Vec<&str> = file.text.lines().collect();
        let before_tests = lines.iter().position(|line| *line == "#[cfg(test)]").unwrap_or(lines.len());
        if before_tests > LONGEST_FILE {
            problems.push(format!("{}: {before_tests} lines; it wants to be two (at most {LONGEST_FILE})", file.path));
        }
        for (number, line, length) in functions(&lines[..before_tests]) {
            if length > LONGEST_FUNCTION {
                problems.push(file.at(number, line, &format!("{length} lines; at most {LONGEST_FUNCTION}")));
            }
        }
    }
    none(&problems);
}

/// Functions as rustfmt leaves them: from `fn` to the closing brace in the same column. Number, line, length.
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "fn").collect();
        let qualified = words.iter().all(|word| word.starts_with("pub") || matches!(*word, "const" | "async"));
        if !qualified || words.len() == line.split_whitespace().count() || line.ends_with(['}', ';']) {
            continue;
        }
        let ends = |next: &&&str| {
            next.len() > indent && next[..indent].trim().is_empty() && {
                let rest = &next[indent..];
                rest == "}" || (rest.starts_with(')') && rest.ends_with(';'))
            }
        };
        let length = lines[at + 1..].iter().take_while(|next| !ends(next)).count() + 2;
        found.push((at + 1, *line, length));
    }
    found
}

#[test]
fn nothing_is_left_over() {
    let in_code = [concat!("to", "do!("), concat!("db", "g!("), concat!("unimple", "mented!(")];
    let in_comments = [concat!("FIX", "ME"), concat!("X", "XX"), concat!("TO", "DO")];
    let mut all = files("tests", &["rs", "mjs"]);
    all.extend(["src", "protocol", "fuzz"].iter().flat_map(|folder| files(folder, &["rs"])));
    let mut problems = Vec::new();
    for file in &all {
        for (number, line) in (1..).zip(file.text.lines()) {
            let (code, comment) = line.split_once("//").unwrap_or((line, ""));
            let in_code = in_code.iter().filter(|leftover| code.contains(**leftover));
            for leftover in in_code.chain(in_comments.iter().filter(|leftover| comment.contains(**leftover))) {
                problems.push(file.at(number, line, &format!("`{leftover}`: do it now, or write an issue")));
            }
        }
    }
    none(&problems);
}

#[test]
fn what_the_pages_name_is_there() {
    let mut problems = Vec::new();
    let mut pages = files("docs", &["md"]);
    pages.extend(["README.md", "CHANGELOG.md", "src/storage/LAYOUT.md"].map(|page| read(&root().join(page))));
    for page in &pages {
        for (number, line) in (1..).zip(page.text.lines()) {
            let code = line.split('`').skip(1).step_by(2).filter(|word| is_repository_path(word)).map(PathBuf::from);
            let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
            let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
            let links = links.filter(|link| !link.is_empty() && !link.contains("://")).map(|link| folder.join(link));
            for path in code.chain(links).filter(|path| !root().join(path).exists()) {
                problems.push(page.at(number, line, &format!("{} does not exist", path.display())));
            }
        }
    }
    for needed in ["LICENSE", "Makefile", ".ci/run", "tests/recordings/EXCLUDED.toml"] {
        if !root().join(needed).exists() {
            problems.push(format!("{needed} is missing"));
        }
    }
    none(&problems);
}

fn is_repository_path(word: &str) -> bool {
    let folders = ["src/", "protocol/", "tests/", "docs/", "fuzz/", ".ci/"];
    folders.iter().any(|folder| word.starts_with(folder)) && !word.contains(['*', '{', ' ', '…', '<'])
}

#[test]
fn the_reading_itself_works() {
    assert_eq!(parts_named("use crate::{a::b, c::{d, e}, f};"), ["a", "c", "f"]);
    assert_eq!(parts_named("    let x = crate::http::load::find($crate::no, mycrate::no);"), ["http"]);
    assert!(names("use rocksdb::DB;", "rocksdb") && names("    rocksdb::DB::open()", "rocksdb"));
    assert!(!names("property(\"rocksdb.total\")", "rocksdb") && !names("use my_hyper::x;", "hyper"));
    assert!(!names("use hyper_util::x;", "hyper"));
    let source =
        ["    pub(crate) const fn a(", "        b: u8,", "    ) -> u8 {", "        b", "    }", "fn c() {}", "}"];
    assert_eq!(functions(&source), [(1, source[0], 5)]);
    assert_eq!(functions(&["    fn a(", "        b: u8,", "    );", "    }"]), [(1, "    fn a(", 3)]);
    assert_eq!(dependencies("[package]\nname = \"x\"\n[dependencies]\n# why\na = \"1\"\n"), [(5, "a")]);
}
