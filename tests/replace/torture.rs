//! Files as spreadsheets, people and attackers make them, over HTTP: each is either read as it is meant, or a clear 400 with the
//! line, and nothing changed.

use serde_json::json;

use super::bulk::{rows, send, statuses};
use super::village::{Village, text};

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

#[test]
fn broken_files_change_nothing_and_say_where() {
    let village = Village::start();
    let before = village.state();
    let head = "username,roles,place,fullname\n";
    let row = |text: &str| [head.as_bytes(), text.as_bytes()].concat();
    let big = "x".repeat(1 << 20);
    let files: Vec<(Vec<u8>, u64, &str)> = vec![
        (Vec::new(), 1, "empty"),
        (row("bea,chw,area-1,\"Bea\n"), 2, "never closed"),
        (row("bea,chw,area-1,\"Bea\" x\n"), 2, "closing quote"),
        (row("bea,chw,area-1,B\"ea\n"), 2, "quote"),
        (row("bea,chw,area-1\n"), 2, "3 cells"),
        (row("bea,chw,area-1,Bea,more\n"), 2, "5 cells"),
        (row("bea,chw,area-1,\"1\n2\n3\"\ncy,chw,area-1\n"), 5, "3 cells"),
        (row("bea,chw,area-1,B\0ea\n"), 2, "NUL"),
        (row("bea,chw,area-1,B\x07ea\n"), 2, "control"),
        ([head.as_bytes(), b"bea,chw,area-1,B\xff\xfea\n"].concat(), 2, "UTF-8"),
        (utf16("username,roles\nbea,chw\n"), 1, "UTF-16"),
        (row(&format!("bea,chw,area-1,{big}\n")), 2, "64 KiB"),
        (row(&format!("bea,chw,area-1,\"{big}\"\n")), 2, "64 KiB"),
        (row("bea,chw,area-1,Bea\rcy,chw,area-1,Cy\r"), 2, "only CR"),
        (row("bea,chw,area-1,Bea\nbea,chw,area-2,Bea\n"), 3, "also on line 2"),
        (row(",chw,area-1,Bea\n"), 2, "username or an external_id"),
        (b"username,roles,roles\nbea,chw,nurse\n".to_vec(), 1, "column 2 and of column 3"),
        (b"username,name,roles\nbea,bea,chw\n".to_vec(), 2, "says the same"),
        (b"username,roles,shoe_size\nbea,chw,44\n".to_vec(), 2, "no such column"),
        (b"username;roles\nbea;chw\n".to_vec(), 1, "semicolons"),
        (b"username,roles,place..name\nbea,chw,x\n".to_vec(), 1, "dots"),
        (b"username,roles,contact.name,contact.password\nbea,chw,x,y\n".to_vec(), 2, "password"),
        (b"username,roles,contact._id,contact._rev\nbea,chw,x,1-a\n".to_vec(), 2, "begin with _"),
    ];
    for (file, line, words) in files {
        let shown = String::from_utf8_lossy(&file[..file.len().min(80)]).into_owned();
        let answer = send(&village.operator(), "", file);
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["problems"][0]["line"], json!(line), "{shown}: {answer}");
        assert!(text(&answer["problems"][0]["reason"]).contains(words), "{shown}: {answer}");
        assert!(text(&answer["reason"]).starts_with("Nothing was changed: line "), "{answer}");
        assert_eq!(village.state(), before, "{shown}");
    }
    let many: String = (0..500).map(|row| format!("u{row},chw,area-1\n")).collect();
    let answer = send(&village.operator(), "", format!("{head}{many}")).expect(400).json();
    assert_eq!(answer["problems"].as_array().map(Vec::len), Some(100), "no more than a person reads");
    for body in ["[1]", "[{\"username\":\"bea\"", "{\"username\":7}", "[[]]", "\"x\"", "[{\"username\":\"a\"}]x"] {
        let request = crate::support::http::Request::new("POST", "/_accounts/_bulk");
        let answer = village.operator().send(&request.header("Content-Type", "application/json").body(body));
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    assert_eq!(village.state(), before);
}

#[test]
fn what_is_strange_but_meant_is_taken() {
    let village = Village::start();
    let file = "\u{feff}username,roles,place,contact.name,contact.role.title,contact.is_chw,fullname,why:excluded,x:excluded.y\r\n\
        bea,\"chw,nurse\",area-1,\"Bea, \"\"B\"\"\r\nsecond line\",Senior,TRUE,'=cmd()|calc,\"=1+1\",\r\n\
        ,,,,,,,,\r\n\
        \r\n\
        cy,chw:nurse,\"area-1,area-2\",Łukasz 李,,FALSE,=HYPERLINK(1),,\r\n";
    let answer = village.bulk("", file);
    assert_eq!(statuses(&answer), ["created", "created"], "{answer}");
    assert_eq!((&rows(&answer)[0]["line"], &rows(&answer)[1]["line"]), (&json!(2), &json!(6)));
    let contact = village.document(text(&rows(&answer)[0]["contact"]));
    assert_eq!((&contact["name"], &contact["role"]["title"]), (&json!("Bea, \"B\"\r\nsecond line"), &json!("Senior")));
    assert_eq!(contact["is_chw"], json!(true));
    assert_eq!(village.document(text(&rows(&answer)[1]["contact"]))["name"], json!("Łukasz 李"));
    let named = |name: &str| village.get(&format!("/_accounts/{name}"))["fullname"].clone();
    assert_eq!((named("bea"), named("cy")), (json!("=cmd()|calc"), json!("=HYPERLINK(1)")), "text is text here");
    assert_eq!(village.get("/_accounts/cy")["places"], json!(["area-1", "area-2"]));
    assert_eq!(statuses(&village.bulk("", file)), ["exists", "exists"]);
    let done = "username,roles,place,import.status:excluded\nann,chw,area-1,imported\nbob,chw,area-1,skipped\ndi,chw,area-1,error\n";
    assert_eq!(statuses(&village.bulk("", done)), ["skipped", "skipped", "created"]);
}
