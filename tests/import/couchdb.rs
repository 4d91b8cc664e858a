//! What a CouchDB 3.5 sends and Settle as a source does not: attachments that it keeps gzipped, tokens on every k-th row
//! only, revisions that went away between feed and question, a lower-case boundary without quotes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::import;
use crate::support::server::TestServer;

const XML: &[u8] = b"<form>one two three one two three</form>";
const OLD: &str = "1-0123456789abcdef0123456789abcdef";
const NEW: &str = "2-fedcba9876543210fedcba9876543210";

fn digest(bytes: &[u8]) -> String {
    format!("md5-{}", STANDARD.encode(Md5::digest(bytes)))
}

fn gzipped() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(8));
    encoder.write_all(XML).expect("memory");
    encoder.finish().expect("memory")
}

fn form(attachment: Value) -> Value {
    json!({"_id": "form:x", "_rev": OLD, "type": "form", "_attachments": {"xml": attachment},
           "_revisions": {"start": 1, "ids": [&OLD[2..]]}})
}

/// What a CouchDB of this content answers.
fn answer(method: &str, path: &str, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
    let json = |value: Value| (200, "application/json", format!("{value}\n").into_bytes());
    match (method, path) {
        ("GET", "/") => json(json!({"couchdb": "Welcome", "version": "3.5.0", "uuid": "x"})),
        ("GET", "/medic") => json(json!({"db_name": "medic", "doc_count": 3, "instance_start_time": "1795296516",
                                         "update_seq": "4-g1AA", "props": {}})),
        ("GET", "/medic/_security") => json(json!({"members": {"roles": ["chw"]}, "admins": {"roles": ["_admin"]}})),
        ("GET", "/medic/_revs_limit") => (200, "application/json", b"1500\n".to_vec()),
        ("GET", _) if path.starts_with("/medic/_changes") => {
            let rows = "{\"seq\":null,\"id\":\"form:x\",\"changes\":[{\"rev\":\"1-0123456789abcdef0123456789abcdef\"}]},\r\n\
                        {\"seq\":null,\"id\":\"purged\",\"changes\":[{\"rev\":\"1-0123456789abcdef0123456789abcdef\"}]},\r\n\
                        {\"seq\":\"4-g1AA\",\"id\":\"visit\",\"changes\":[{\"rev\":\"1-0123456789abcdef0123456789abcdef\"}]}";
            let first = path.contains("since=0");
            let text = format!(
                "{{\"results\":[\n{}\n],\n\"last_seq\":\"4-g1AA\",\"pending\":0}}\n\n",
                if first { rows } else { "" }
            );
            (200, "application/json", text.into_bytes())
        }
        ("POST", _) if path.starts_with("/medic/_bulk_get") => json(bulk_get(path, body)),
        ("GET", _) if path.starts_with("/medic/form%3Ax?") => {
            (200, "multipart/mixed; boundary=outer", open_revisions())
        }
        ("GET", _) if path.starts_with("/medic/form%3Ax/xml?") => (200, "application/xml", XML.to_vec()),
        _ => (404, "application/json", b"{\"error\":\"not_found\",\"reason\":\"missing\"}\n".to_vec()),
    }
}

fn bulk_get(path: &str, body: &[u8]) -> Value {
    let asked: Value = serde_json::from_slice(body).expect("JSON");
    let results = asked["docs"].as_array().expect("docs").iter().map(|asked| {
        let docs = match asked["id"].as_str() {
            Some("form:x") => {
                let mut stub = json!({"content_type": "application/xml", "revpos": 1, "digest": digest(&gzipped()),
                                      "length": XML.len(), "stub": true});
                if path.contains("att_encoding_info=true") {
                    stub["encoding"] = "gzip".into();
                    stub["encoded_length"] = gzipped().len().into();
                }
                json!([{"ok": form(stub)}])
            }
            // It was edited since: `latest=true` gives the leaf below the one that the feed named.
            Some("visit") => json!([{"ok": {"_id": "visit", "_rev": NEW, "n": 100.0,
                                            "_revisions": {"start": 2, "ids": [&NEW[2..], &OLD[2..]]}}}]),
            id => json!([{"error": {"id": id, "rev": OLD, "error": "not_found", "reason": "missing"}}]),
        };
        json!({"id": asked["id"], "docs": docs})
    });
    json!({"results": results.collect::<Vec<Value>>()})
}

/// `open_revs` of a document whose attachment is kept gzipped.
fn open_revisions() -> Vec<u8> {
    let bytes = gzipped();
    let document =
        form(json!({"content_type": "application/xml", "revpos": 1, "digest": digest(&bytes), "length": XML.len(),
                               "follows": true, "encoding": "gzip", "encoded_length": bytes.len()}));
    let head = format!(
        "--outer\r\nContent-Type: multipart/related; boundary=\"inner\"\r\n\r\n\
         --inner\r\nContent-Type: application/json\r\n\r\n{document}\r\n--inner\r\n\
         Content-Disposition: attachment; filename=\"xml\"\r\nContent-Type: application/xml\r\n\
         Content-Length: {}\r\nContent-Encoding: gzip\r\n\r\n",
        bytes.len()
    );
    [head.as_bytes(), &bytes, b"\r\n--inner--", b"\r\n--outer--"].concat()
}

/// Serves until the test's process ends; `host:port`.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || converse(&stream));
        }
    });
    address
}

fn converse(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let (method, path) = line.trim_end().strip_suffix(" HTTP/1.1")?.split_once(' ')?;
        let (method, path) = (method.to_owned(), path.to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header == "\r\n" {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, content_type, body) = answer(&method, &path, &body);
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
        (&*stream).write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

#[test]
fn a_couchdbs_gzipped_attachments_and_moving_revisions_arrive() {
    let (source, target) = (format!("http://admin:secret@{}", serve()), TestServer::start());
    let said = import(&source, &target, &["--database", "medic"]);
    assert!(said.success, "{} {}", said.errors, said.outcome);
    let medic = said.database("medic");
    let counts = ["copied_revisions", "copied_with_attachments", "vanished"].map(|count| medic[count].as_u64());
    assert_eq!(counts, [Some(2), Some(1), Some(1)]);
    assert_eq!(medic["compared"]["target"]["documents"], 2);

    let form = target.admin().get("/medic/form:x").expect(200).json();
    assert_eq!(form["_rev"], OLD);
    let stub = json!({"content_type": "application/xml", "revpos": 1, "digest": digest(XML), "length": XML.len(), "stub": true});
    assert_eq!(form["_attachments"]["xml"], stub);
    assert_eq!(target.admin().get("/medic/form:x/xml").expect(200).bytes(), XML);
    let visit = target.admin().get("/medic/visit?revs=true").expect(200).json();
    assert_eq!((visit["_rev"].as_str(), visit["_revisions"]["start"].as_u64()), (Some(NEW), Some(2)));
    assert_eq!(target.admin().get("/medic/_revs_limit").expect(200).json(), 1_500);
    assert_eq!(target.admin().get("/medic/_security").expect(200).json()["members"]["roles"], json!(["chw"]));

    let again = import(&source, &target, &["--database", "medic"]);
    assert_eq!((again.success, &again.database("medic")["resumed_after"]), (true, &json!(3)));

    let changed = json!({"_rev": OLD, "_attachments": {"xml": {"content_type": "application/xml", "data": "eA=="}}});
    target.admin().put("/medic/form:x", &changed).expect(201);
    assert!(!import(&source, &target, &["--database", "medic"]).success);
}
