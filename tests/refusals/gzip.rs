//! Compressed bodies: broken ones, unknown codings, and bombs.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Refusals;
use crate::support::http::Request;

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

fn bulk(body: impl Into<Vec<u8>>) -> Request {
    let request = Request::new("POST", "/refusals/_bulk_docs").header("Content-Type", "application/json");
    request.header("Content-Encoding", "gzip").body(body)
}

#[test]
fn broken_gzip_is_refused() {
    let mut refusals = Refusals::start();
    let good = packed(br#"{"docs":[{"_id":"packed"}]}"#);
    let mut torn = good.clone();
    torn[15] ^= 0xff;
    let cut = &good[..good.len() - 3];
    let attached = format!("/refusals/a/x?rev={}", refusals.revision);
    for body in [&b"no gzip"[..], b"\x1f\x8b", b"", cut, &torn] {
        refusals.refused(&bulk(body), (400, "bad_request", "Request body is not properly gzipped."));
        let attachment = Request::new("PUT", &attached).header("Content-Encoding", "gzip").body(body);
        refusals.refused(&attachment, (400, "bad_request", "The attachment is not properly gzipped."));
    }
    let reason = "br is not a supported content encoding.";
    let coded = Request::new("PUT", "/refusals/n").header("Content-Encoding", "br").body("{}");
    refusals.refused(&coded, (415, "bad_content_type", reason));
    let coded = Request::new("PUT", &attached).header("Content-Encoding", "br").body("x");
    refusals.refused(&coded, (415, "bad_content_type", "Only gzip and identity content-encodings are supported"));
    refusals.admin.send(&bulk(good)).expect(201);
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn bombs_are_stopped_at_the_limits() {
    let mut refusals = Refusals::start();
    refusals.server.set_config("chttpd/max_http_request_size", "1000000");
    refusals.server.set_config("couchdb/max_attachment_size", "1000000");
    let bomb = packed(&vec![b' '; 200_000_000]);
    assert!(bomb.len() < 300_000, "it would be refused by its packed size");
    refusals.refused(&bulk(bomb.clone()), (413, "too_large", "the request entity is too large"));
    let attached = format!("/refusals/a/x?rev={}", refusals.revision);
    let attachment = Request::new("PUT", &attached).header("Content-Encoding", "gzip").body(bomb.clone());
    refusals.refused(&attachment, (413, "attachment_too_large", "x"));
    let document = format!(
        r#"{{"_attachments":{{"x":{{"follows":true,"encoding":"gzip","length":9,"encoded_length":{}}}}}}}"#,
        bomb.len()
    );
    let body = [format!("--b\r\n\r\n{document}\r\n--b\r\n\r\n").as_bytes(), &bomb, b"\r\n--b--"].concat();
    let parts = Request::new("PUT", "/refusals/n").header("Content-Type", "multipart/related;boundary=b").body(body);
    refusals.refused(&parts, (413, "attachment_too_large", "x"));
    refusals.finish();
}
