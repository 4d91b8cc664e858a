//! Whatever is too large: documents, attachments, requests, addresses, heads.

use super::{PATIENCE, Refusals, head};
use crate::support::http::Request;

#[test]
fn documents_above_the_limit_are_refused() {
    let mut refusals = Refusals::start();
    refusals.server.set_config("couchdb/max_document_size", "1000");
    let long = format!(r#"{{"_id":"n","a":"{}"}}"#, "x".repeat(1000));
    refusals.json("PUT", "/refusals/n", &long, (413, "document_too_large", ""));
    refusals.json("POST", "/refusals", &long, (413, "document_too_large", "n"));
    let batch = format!(r#"{{"docs":[{{"_id":"good"}},{long}]}}"#);
    refusals.json("POST", "/refusals/_bulk_docs", &batch, (413, "document_too_large", "n"));
    let local = long.replace("\"n\"", "\"_local/n\"");
    refusals.json(
        "POST",
        "/refusals/_bulk_docs",
        &format!(r#"{{"docs":[{local}]}}"#),
        (413, "document_too_large", "_local/n"),
    );
    refusals.server.set_config("couchdb/max_document_size", "1006");
    refusals.admin.send(&Request::new("PUT", "/refusals/n").body(long)).expect(201);
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn local_documents_above_the_limit_are_refused() {
    let mut refusals = Refusals::start();
    refusals.server.set_config("couchdb/max_document_size", "1000");
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(1000));
    refusals.json("PUT", "/refusals/_local/n", &long, (413, "document_too_large", ""));
    refusals.finish();
}

#[test]
fn attachments_above_the_limit_are_refused() {
    let mut refusals = Refusals::start();
    refusals.server.set_config("couchdb/max_attachment_size", "1000");
    let wanted = (413, "attachment_too_large", "big");
    let path = format!("/refusals/a/big?rev={}", refusals.revision);
    refusals.refused(&Request::new("PUT", &path).body(vec![0; 1001]), wanted);
    refusals.refused(&Request::new("PUT", &path).body(vec![0; 1001]).chunked(), wanted);
    let data = "AAAA".repeat(334);
    let document = format!(r#"{{"_id":"n","_attachments":{{"big":{{"data":"{data}"}}}}}}"#);
    refusals.json("PUT", "/refusals/n", &document, wanted);
    refusals.json("POST", "/refusals", &document, wanted);
    refusals.json("POST", "/refusals/_bulk_docs", &format!(r#"{{"docs":[{{"_id":"good"}},{document}]}}"#), wanted);
    let related = |length: usize| {
        let document = format!(r#"{{"_attachments":{{"big":{{"follows":true,"length":{length}}}}}}}"#);
        let body = format!("--b\r\n\r\n{document}\r\n--b\r\n\r\n{}\r\n--b--", "x".repeat(length));
        Request::new("PUT", "/refusals/n").header("Content-Type", "multipart/related;boundary=b").body(body)
    };
    refusals.refused(&related(1001), wanted);
    refusals.admin.send(&related(1000)).expect(201);
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn requests_above_the_limit_are_refused() {
    let mut refusals = Refusals::start();
    refusals.server.set_config("chttpd/max_http_request_size", "2000");
    let wanted = (413, "too_large", "the request entity is too large");
    let long = format!(r#"{{"docs":[{{"_id":"n","a":"{}"}}]}}"#, "x".repeat(2000));
    let request = Request::new("POST", "/refusals/_bulk_docs").header("Content-Type", "application/json").body(long);
    refusals.refused(&request, wanted);
    refusals.refused(&request.clone().chunked(), wanted);
    refusals.refused(&Request { path: "/refusals".to_owned(), ..request.clone() }, wanted);
    refusals.refused(&Request { path: "/refusals/_all_docs".to_owned(), ..request }, wanted);
    let part = format!("--b\r\n\r\n{{\"a\":\"{}\"}}\r\n--b--", "x".repeat(2000));
    let request = Request::new("PUT", "/refusals/n").header("Content-Type", "multipart/related;boundary=b").body(part);
    refusals.refused(&request, wanted);
    refusals.refused(&request.chunked(), wanted);
    let login = Request::new("POST", "/_session").header("Content-Type", "application/json").body("x".repeat(70_000));
    refusals.refused(&login, wanted);
    refusals.finish();
}

#[test]
fn an_address_above_the_limit_is_refused() {
    let mut refusals = Refusals::start();
    let wanted = (414, "too_long", "The path and query are longer than 16384 bytes.");
    for path in [
        format!("/refusals/{}", "x".repeat(16_384)),
        format!("/refusals/a?{}", "x".repeat(16_384)),
        format!("/refusals/a?x=\"{}\"", "x".repeat(16_384)),
    ] {
        refusals.refused(&Request::new("GET", &path), wanted);
        refusals.json("PUT", &path, "{}", wanted);
    }
    for length in [70_000, 200_000] {
        let path = format!("/refusals/{}", "x".repeat(length));
        let mut connection = refusals.connect();
        // The server may close while the line is still being written.
        let _ = connection.write_raw(head(&format!("GET {path} HTTP/1.1"), "").as_bytes());
        let status = connection.read_response("GET").map(|answer| answer.status);
        refusals.check(&format!("a path of {length} bytes: {status:?}"), !matches!(status, Ok(..=399 | 500..)));
        refusals.unchanged("a long path");
    }
    refusals.finish();
}

#[test]
fn floods_of_headers_are_refused() {
    let mut refusals = Refusals::start();
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let large = |kib: usize| format!("X-Large: {}\r\n", "y".repeat(kib << 10));
    let endless = "X: y\r\n".repeat(30_000);
    for (what, more) in [
        ("200 headers", &many),
        ("one header of 130 KiB", &large(130)),
        ("one header of 160 KiB", &large(160)),
        ("one header of 200 KiB", &large(200)),
        ("30,000 headers", &endless),
    ] {
        let mut connection = refusals.connect();
        let request = head("PUT /refusals/flood HTTP/1.1", &format!("{more}Content-Length: 2\r\n"));
        let _ = connection.write_raw(request.as_bytes());
        let _ = connection.write_raw(b"{}");
        let (answer, closed) = connection.read_raw(PATIENCE);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 431 ");
        refusals.check(&format!("{what}: closed {closed}, answer {answer:?}"), closed && refused);
        refusals.unchanged(what);
    }
    refusals.finish();
}
