//! What is written can be read by people, by spreadsheets without harm, and by the importer again.

use super::*;
use crate::accounts::import_rows::{Options, read};

fn results(count: usize) -> Vec<RowResult> {
    let result = |at: usize| RowResult {
        status: "created".into(),
        name: format!("n-{at}"),
        link: format!("http://h/_links/T{at}"),
        ..RowResult::default()
    };
    (0..count).map(result).collect()
}

fn written(text: &str, results: &[RowResult]) -> String {
    String::from_utf8(write(text.as_bytes(), Format::Csv, results).unwrap()).unwrap()
}

fn rows(bytes: &[u8], format: Format) -> Vec<AccountRow> {
    read(bytes, format, Options { passwords: true }).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Rows without the lines where they stand.
fn unlined(bytes: &[u8], format: Format) -> Vec<AccountRow> {
    rows(bytes, format).into_iter().map(|row| AccountRow { line: 0, ..row }).collect()
}

#[test]
fn a_spreadsheet_keeps_its_columns_and_reads_as_the_same_rows() {
    let text = "\u{feff}username,roles,note:excluded,contact.name,phone\r\n\
                ann,chw,\"a, \"\"b\"\"\nc\",Ann,+256 700\r\n,,,,\r\nbob,\"chw,nurse\",,Bob,-5\r\n";
    let out = written(text, &results(2));
    assert!(
        out.starts_with("\u{feff}username,roles,note:excluded,contact.name,phone,import.status:excluded,"),
        "{out}"
    );
    assert!(out.contains("\"a, \"\"b\"\"\nc\"") && out.contains("http://h/_links/T1"), "{out}");
    assert!(!out.contains("import.password"), "nobody asked for passwords: {out}");
    let (before, after) = (unlined(text.as_bytes(), Format::Csv), unlined(out.as_bytes(), Format::Csv));
    assert_eq!(before, after);
    assert_eq!(after[0].phone.as_deref(), Some("+256 700"));
    let again = written(&out, &[RowResult { status: "exists".into(), ..RowResult::default() }, results(2)[1].clone()]);
    assert_eq!(again.lines().next(), out.lines().next(), "no column comes twice");
    assert!(again.contains("exists,,,http://h/_links/T0,"), "a link that nobody replaced stays: {again}");
}

#[test]
fn a_password_is_written_once() {
    let mut two = results(2);
    two[0].password = "aaaa-bbbb".into();
    let out = written("username\nann\nbob\n", &two);
    assert!(out.contains("import.password:excluded") && out.contains("aaaa-bbbb"), "{out}");
    assert!(!written(&out, &results(2)).contains("aaaa"), "the earlier result has it, and this one does not");
    let line = r#"{"username": "ann"}"#;
    let out = write(line.as_bytes(), Format::Json, &two[..1]).unwrap();
    assert!(String::from_utf8_lossy(&out).contains("aaaa-bbbb"));
    let again = write(&out, Format::Json, &results(1)).unwrap();
    assert!(!String::from_utf8_lossy(&again).contains("import.password"));
}

#[test]
fn nothing_is_computed() {
    let evil = ["=cmd()", "+1", "-2+3", "@SUM(1)", "\t=1", "'=x", "''@y"];
    for cell in evil {
        let text = format!("username,fullname,=h:excluded\nann,\"{cell}\",\"{cell}\"\n");
        let mut one = results(1);
        one[0].reason = format!("{cell} is taken");
        let out = written(&text, &one);
        let (header, lines) = raw(out.trim_start_matches('\u{feff}'));
        for cell in header.iter().chain(lines.iter().flatten()) {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?} of {out}");
        }
        let (before, after) = (rows(text.as_bytes(), Format::Csv), rows(out.as_bytes(), Format::Csv));
        assert_eq!(before[0].fullname, after[0].fullname, "{cell}");
        assert_eq!(written(&out, &one), out, "{cell}: the same again");
    }
}

#[test]
fn json_becomes_lines_that_read_as_the_same_rows() {
    let text = r#"[{"username": "ann", "place": {"name": "A"}}, {"name": "bob", "import.link:excluded": "old"}]"#;
    let mut two = results(2);
    two[1].link.clear();
    let out = write(text.as_bytes(), Format::Json, &two).unwrap();
    let lines: Vec<Value> =
        String::from_utf8(out.clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["import.status:excluded"], &lines[1]["import.link:excluded"]),
        (&"created".into(), &"old".into())
    );
    assert_eq!(unlined(text.as_bytes(), Format::Json), unlined(&out, Format::Json));
    assert!(write(text.as_bytes(), Format::Json, &results(3)).is_err(), "another file");
}

#[test]
fn a_row_that_is_sent_is_the_row_that_was_read() {
    let text = "username,external_id,password,roles,place,contact.name,contact.role.title,contact.ok,phone,email,language,token_login\n\
                ann,W-1,\" s3cret \",\"chw,nurse\",\"a-1,a-2\",Ann,Senior,TRUE,+1 2,a@x,sw,FALSE\n\
                bob,,,chw,,,,,,,,\n";
    let before = rows(text.as_bytes(), Format::Csv);
    let sent = Value::Array(before.iter().map(AccountRow::to_json).collect()).to_string();
    let after = rows(sent.as_bytes(), Format::Json);
    assert_eq!(before, after, "also its line");
}
