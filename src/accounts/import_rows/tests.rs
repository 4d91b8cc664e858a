//! The torture set: files as spreadsheets and people really make them.

use serde_json::{Value, json};

use super::{AccountRow, FilePassword, Format, Link, MOST_CELL_BYTES, MOST_PROBLEMS, MOST_ROWS, Options, read};

const NO_PASSWORDS: Options = Options { passwords: false };

fn csv(text: &str) -> Vec<AccountRow> {
    read(text.as_bytes(), Format::Csv, NO_PASSWORDS).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn json_rows(text: &str) -> Vec<AccountRow> {
    read(text.as_bytes(), Format::Json, NO_PASSWORDS).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Each problem as it is shown.
fn problems(bytes: impl AsRef<[u8]>, format: Format) -> Vec<String> {
    let problems = read(bytes.as_ref(), format, NO_PASSWORDS).expect_err("the file has a problem");
    problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(text: &str, line: u64, words: &str) {
    let found = problems(text, Format::Csv);
    let begins = |problem: &String| {
        problem.starts_with(&format!("line {line}:")) || problem.starts_with(&format!("line {line},"))
    };
    assert!(found.first().is_some_and(|first| begins(first) && first.contains(words)), "{found:?}");
}

fn new(value: Value) -> Link {
    Link::New(value.as_object().unwrap().clone())
}

fn ids(names: &[&str]) -> Vec<Link> {
    names.iter().map(|name| Link::Id((*name).to_owned())).collect()
}

#[test]
fn the_chts_columns_become_a_typed_row() {
    let text = "username,roles,fullname,phone,email,language,token_login,external_id,place.name,place.type,place.parent,\
                contact.name,contact.role.title,contact.is_chw,row:excluded,import.status:excluded\n\
                asha,\"chw,nurse:chw\",Asha Devi,+977 98-41,a@x.org,ne,TRUE,W-17,River,health_center,d-1,\
                Asha,Senior,TRUE,anything,\n";
    let expected = AccountRow {
        line: 2,
        external_id: Some("W-17".into()),
        name: Some("asha".into()),
        password: None,
        roles: vec!["chw".into(), "nurse".into()],
        places: vec![new(json!({"name": "River", "type": "health_center", "parent": "d-1"}))],
        contact: Some(new(json!({"name": "Asha", "role": {"title": "Senior"}, "is_chw": true}))),
        phone: Some("+977 98-41".into()),
        email: Some("a@x.org".into()),
        locale: Some("ne".into()),
        fullname: Some("Asha Devi".into()),
        link: Some(true),
        done: false,
    };
    assert_eq!(csv(text), [expected]);
}

#[test]
fn references_are_ids_and_empty_cells_are_nothing() {
    let rows = csv("name,type,facility_id,contact_id,phone,token_login,contact.x:excluded\n\
                    ann,chw,\"a, b ,a\",p1,0041,FALSE,y\n\
                    ben, , , ,\t, ,\n");
    assert_eq!((rows[0].places.clone(), rows[0].contact.clone()), (ids(&["a", "b"]), Some(Link::Id("p1".into()))));
    assert_eq!((rows[0].phone.as_deref(), rows[0].link), (Some("0041"), Some(false)), "zeros at the front stay");
    assert_eq!(rows[1], AccountRow { line: 3, name: Some("ben".into()), ..AccountRow::default() });
}

#[test]
fn quotes_hold_commas_line_breaks_and_quotes() {
    let rows = csv("username,fullname,contact.notes\nann,\"Ann, of \"\"Hill\"\"\",\"one\ntwo\r\nthree\"\nben,\"\",x\n");
    assert_eq!(rows[0].fullname.as_deref(), Some("Ann, of \"Hill\""));
    assert_eq!(rows[0].contact, Some(new(json!({"notes": "one\ntwo\r\nthree"}))));
    assert_eq!((rows[1].line, rows[1].fullname.clone()), (5, None), "lines within cells count");
}

#[test]
fn byte_order_mark_crlf_blank_lines_and_a_missing_last_line_end() {
    let plain = csv("username,roles\nann,chw\nben,chw\n");
    for text in [
        "\u{feff}username,roles\nann,chw\nben,chw",
        "username,roles\r\nann,chw\r\nben,chw\r\n",
        "\u{feff}\"username\",\"roles\"\r\n\"ann\",\"chw\"\r\nben,chw",
        " username , roles \nann,chw\nben, chw \n,\n , \n",
    ] {
        assert_eq!(csv(text), plain, "{text:?}");
    }
    let rows = csv("username,roles\n\n,\nann,chw\n\n\nben,chw\n");
    assert_eq!((rows[0].line, rows[1].line), (4, 7));
    assert_eq!(csv("username\n"), []);
}

#[test]
fn letters_of_all_scripts_pass() {
    let rows = csv("username,fullname,place.name\nasha,आशा देवी,ගඟ 🌊\n");
    assert_eq!(rows[0].fullname.as_deref(), Some("आशा देवी"));
    assert_eq!(rows[0].places, [new(json!({"name": "ගඟ 🌊"}))]);
}

#[test]
fn rows_that_an_import_has_done_are_marked() {
    let rows = csv("import.status:excluded,import.message:excluded,username\n\
                    imported,Imported successfully,ann\nskipped,,ben\nerror,Username taken,cem\n,,dot\n");
    let done: Vec<bool> = rows.iter().map(|row| row.done).collect();
    assert_eq!(done, [true, true, false, false]);
}

#[test]
fn passwords_are_refused_unless_allowed() {
    let text = "username,password\nann, s3cret \n";
    refused(text, 1, "passwords do not belong into files");
    refused("username,password\nann,\n", 1, "password:excluded");
    assert_eq!(csv("username,password:excluded\nann,x\n")[0].password, None);
    let rows = read(text.as_bytes(), Format::Csv, Options { passwords: true }).unwrap();
    assert_eq!(rows[0].password, Some(FilePassword(" s3cret ".into())), "as written");
    assert!(!format!("{rows:?}").contains("s3cret"));
    refused("username,contact.password\nann,x\n", 2, "stored readable");
    assert!(problems(r#"[{"username":"a","password":"x"}]"#, Format::Json)[0].contains("do not belong"));
    assert_eq!(json_rows(r#"[{"username":"a","password":null}]"#)[0].password, None);
}

#[test]
fn a_header_that_cannot_be_meant_is_refused() {
    refused("", 1, "is empty");
    refused("username;roles\nann;chw\n", 1, "separated by semicolons");
    refused("username\troles\nann\tchw\n", 1, "separated by tabs");
    refused("username,roles,username\nann,chw,ben\n", 1, "column 1 and of column 3");
    refused("username,place,place.name\nann,p,x\n", 1, "cannot be text and have a member");
    refused("username,place.parent,place.parent._id\nann,p,x\n", 1, "cannot be text and have a member");
    refused("username,place..name\nann,x\n", 1, "dots must stand between names");
    refused("username,usrname\nann,x\n", 2, "no such column; to keep it for yourself, call it `usrname:excluded`");
    refused("username,name\nann,ben\n", 2, "says the same as");
    refused(&format!("username{}\n", ",x".repeat(300)), 1, "more than 200 columns");
    refused("username,\nann,x\n", 2, "has no name in the first line");
    assert_eq!(csv("username,,\nann,,\n").len(), 1, "nameless columns without cells");
}

#[test]
fn broken_rows_are_refused_with_their_line() {
    refused("username,roles\nann,chw\nben\n", 3, "1 cells, but the first line names 2 columns");
    refused("username,roles\nann,chw,nurse\n", 2, "needs quotes around the cell");
    refused("username,fullname\nann,\"x\ny\"\nben,\"never closed\ncem,chw\n", 4, "never closed");
    refused("username,fullname\nann,\"x\"y\n", 2, "after a closing quote");
    refused("username,fullname\nann,5\" nail\n", 2, "a quote within a cell");
    refused("username,fullname\rann,x\r", 1, "only CR");
    refused("username,fullname\nann,a\u{7}b\n", 2, "control character (U+0007)");
    refused("username,token_login\nann,yes\n", 2, "TRUE or FALSE");
    refused("username,roles\nann,chw\n,chw\n", 3, "needs a username or an external_id");
    refused("username\nann\nben\nann\n", 4, "`ann` is also on line 2");
    refused("external_id\n7\n8\n7\n", 4, "`7` is also on line 2");
    refused("username,contact._rev\nann,1-x\n", 2, "are the server's");
    assert_eq!(csv("username,contact._id\nann,c1\n")[0].contact, Some(new(json!({"_id": "c1"}))));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let found = problems(b"username\nann\nb\xe9n\n", Format::Csv);
    assert!(found[0].starts_with("line 3: bytes that are no UTF-8"), "{found:?}");
    let found = problems(b"username\nann\nb\0n\n", Format::Csv);
    assert!(found[0].starts_with("line 3: a NUL"), "{found:?}");
    let found = problems(b"\xff\xfeu\0s\0e\0r\0", Format::Csv);
    assert!(found[0].contains("UTF-16"), "{found:?}");
    let found = problems(b"[{\"username\":\"a\xff\"}]", Format::Json);
    assert!(found[0].contains("no UTF-8"), "{found:?}");
}

#[test]
fn nothing_is_without_end() {
    let huge = "x".repeat(MOST_CELL_BYTES + 1);
    refused(&format!("username,fullname\nann,x\nben,{huge}\n"), 3, "more than 64 KiB");
    refused(&format!("username,fullname\nann,\"{huge}\n{huge}\"\n"), 2, "more than 64 KiB");
    let fits = "x".repeat(MOST_CELL_BYTES);
    assert_eq!(csv(&format!("username,fullname\nann,\"{fits}\"\n"))[0].fullname.as_ref(), Some(&fits));
    let json = format!("[{{\"username\":\"ann\",\n\"fullname\":\"{huge}\"}}]");
    assert!(problems(json, Format::Json)[0].contains("line 1, fullname: more than 64 KiB"));
    let rows: String = (0..=MOST_ROWS).map(|row| format!("u{row}\n")).collect();
    refused(&format!("username\n{rows}"), MOST_ROWS as u64 + 2, "divide the file");
    assert_eq!(problems(vec![b' '; super::MOST_BYTES + 1], Format::Csv), ["line 1: the file has more than 64 MiB"]);
    let many: String = (0..1_000).map(|_| "x\n").collect();
    assert_eq!(problems(format!("username,roles\n{many}"), Format::Csv).len(), MOST_PROBLEMS);
    let deep = format!("[{{\"username\":\"a\",\"contact\":{}1{}}}]", "{\"a\":".repeat(40), "}".repeat(40));
    assert!(problems(deep, Format::Json)[0].contains("nested more than 16 deep"));
    let deeper = format!("[{{\"username\":\"a\",\"contact\":{}{}}}]", "[".repeat(100_000), "]".repeat(100_000));
    assert!(problems(deeper, Format::Json)[0].contains("line 1"));
}

#[test]
fn every_problem_is_told_in_order_of_lines_and_no_row_counts() {
    let found = problems("username,roles,token_login\nann,chw,x\nben\ncem,chw,TRUE\nann,chw,\n", Format::Csv);
    let lines: Vec<&str> = found.iter().map(|problem| &problem[..6]).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 5"], "{found:?}");
}

#[test]
fn json_in_an_array_or_line_by_line_gives_the_same_rows() {
    let array = r#"[
        {"username": "ann", "roles": ["chw", "nurse", "chw"], "place": ["p1", "p2"], "contact": {"name": "Ann", "age": 7},
         "token_login": true, "phone": "0041"},

        {"username": "ben", "roles": "chw:nurse", "place": "p1", "contact": "c1", "note:excluded": [1]}
    ]"#;
    let rows = json_rows(array);
    assert_eq!((rows[0].line, rows[1].line), (2, 5));
    assert_eq!((rows[0].roles.len(), rows[0].places.clone()), (2, ids(&["p1", "p2"])));
    assert_eq!(rows[0].contact, Some(new(json!({"name": "Ann", "age": 7}))));
    assert_eq!((rows[1].roles.join(" "), rows[1].contact.clone()), ("chw nurse".into(), Some(Link::Id("c1".into()))));
    let lines: Vec<Value> = serde_json::from_str(array).unwrap();
    let text: String = lines.iter().map(|row| format!("{row}\r\n\r\n")).collect();
    let mut line_by_line = json_rows(&format!("\u{feff}{text}"));
    assert_eq!((line_by_line[0].line, line_by_line[1].line), (1, 3));
    (line_by_line[0].line, line_by_line[1].line) = (2, 5);
    assert_eq!(line_by_line, rows);
    assert_eq!(json_rows("[]"), []);
    assert_eq!(json_rows(" \n"), []);
}

#[test]
fn broken_json_is_refused_with_its_line() {
    for (text, words) in [
        ("[{\"username\":\"a\"},\n{\"username\" \"b\"}]", "line 2"),
        ("{\"username\":\"a\"}\n{\"username\":\n", "line 3"),
        ("[{\"username\":\"a\"},\n\n7]", "line 3: a row must be an object"),
        ("{\"username\":\"a\"}\n\"b\"\n", "line 2: a row must be an object"),
        ("[{\"username\":\"a\"}] x", "line 1"),
        ("[{\"username\":5}]", "line 1, username: must be text"),
        ("[{\"username\":\"a\",\"phone\":977}]", "phone: must be text"),
        ("[{\"username\":\"a\",\n\"roles\":[\"chw\",7]}]", "roles: must be text"),
        ("[{\"username\":\"a\",\"roles\":{\"a\":1}}]", "roles: must be text"),
        ("[{\"username\":\"a\",\"contact\":[\"x\"]}]", "contact: must be text"),
        ("[{\"username\":\"a\",\"usernme\":\"b\"}]", "usernme: there is no such column"),
        ("[{\"username\":\"a\",\"contact\":{\"x\":{\"password\":\"p\"}}}]", "contact.x.password: a password"),
        ("username,roles\nann,chw\n", "line 1: no JSON"),
    ] {
        let found = problems(text, Format::Json);
        assert!(found[0].contains(words), "{text}: {found:?}");
    }
}
