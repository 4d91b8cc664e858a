//! The memory that all request bodies share: what does not fit at the moment is 503, what never fits 413.

use std::time::{Duration, Instant};

use super::{DATABASE, Refusals, head};
use crate::support::http::{Request, Response};

const LIMIT: usize = 1_000_000;
const BUSY: (u16, &str, &str) = (
    503,
    "service unavailable",
    "The server has no memory for another request body at the moment; nothing was changed, try again shortly.",
);
const NEVER: (u16, &str, &str) = (413, "too_large", "the request entity is too large");

fn start() -> Refusals {
    let refusals = Refusals::start();
    refusals.server.set_config("settle/max_body_memory_bytes", &LIMIT.to_string());
    refusals
}

/// What the server says its request bodies hold.
#[track_caller]
fn held(refusals: &Refusals) -> u64 {
    let metrics = refusals.admin.get("/_metrics").expect(200).text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("settle_body_memory_bytes "));
    line.and_then(|bytes| bytes.parse().ok()).expect("the metrics tell it")
}

#[track_caller]
fn wait_until_held(refusals: &Refusals, bytes: u64) {
    let began = Instant::now();
    while held(refusals) != bytes {
        assert!(began.elapsed() < Duration::from_secs(20), "{} instead of {bytes} bytes are held", held(refusals));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A batch of one document, `length` bytes long.
fn batch(id: &str, length: usize) -> Vec<u8> {
    let frame = format!(r#"{{"docs":[{{"_id":"{id}","a":""}}]}}"#).len();
    format!(r#"{{"docs":[{{"_id":"{id}","a":"{}"}}]}}"#, "x".repeat(length - frame)).into_bytes()
}

fn bulk(body: Vec<u8>) -> Request {
    Request::new("POST", "/refusals/_bulk_docs").header("Content-Type", "application/json").body(body)
}

fn related(length: usize) -> Request {
    let document = format!(r#"{{"_attachments":{{"x":{{"follows":true,"length":{length}}}}}}}"#);
    let body = format!("--b\r\n\r\n{document}\r\n--b\r\n\r\n{}\r\n--b--", "x".repeat(length));
    Request::new("PUT", "/refusals/m").header("Content-Type", "multipart/related;boundary=b").body(body)
}

#[test]
fn a_body_that_finds_no_memory_is_refused_until_there_is_some() {
    let mut refusals = start();
    let slow = batch("slow", 700_000);
    let mut connection = refusals.connect();
    let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", slow.len());
    let request = head(&format!("POST {DATABASE}/_bulk_docs HTTP/1.1"), &lines);
    connection.write_raw(request.as_bytes()).expect("written");
    connection.write_raw(&slow[..600_000]).expect("written");
    wait_until_held(&refusals, 600_000);

    let request = bulk(batch("n", 400_001));
    refusals.refused(&request, BUSY);
    refusals.refused(&request.clone().chunked(), BUSY);
    refusals.refused(&related(400_001), BUSY);
    let attached = format!("{DATABASE}/a/x?rev={}", refusals.revision);
    refusals.refused(&Request::new("PUT", &attached).body(vec![0; 400_001]), BUSY);
    let waits = |answer: &Response| answer.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok());
    refusals.check("Retry-After", refusals.admin.try_send(&request).is_ok_and(|answer| waits(&answer)));
    wait_until_held(&refusals, 600_000);
    refusals.admin.send(&bulk(batch("fits", 300_000))).expect(201);

    connection.write_raw(&slow[600_000..]).expect("written");
    assert_eq!(connection.read_response("POST").expect("answered").status, 201);
    wait_until_held(&refusals, 0);
    refusals.admin.send(&request).expect(201);
    refusals.admin.send(&related(400_001)).expect(201);
    wait_until_held(&refusals, 0);
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn a_body_that_never_fits_is_too_large() {
    let mut refusals = start();
    for request in [bulk(batch("n", LIMIT + 1)), related(LIMIT + 1)] {
        refusals.refused(&request, NEVER);
        refusals.refused(&request.chunked(), NEVER);
    }
    wait_until_held(&refusals, 0);
    refusals.admin.send(&bulk(batch("n", LIMIT))).expect(201);
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn what_goes_to_a_file_holds_no_memory() {
    let mut refusals = start();
    refusals.server.set_config("settle/max_body_memory_bytes", "2000000");
    let attached = format!("{DATABASE}/a/x?rev={}", refusals.revision);
    refusals.admin.send(&Request::new("PUT", &attached).body(vec![0; 5_000_000])).expect(201);
    refusals.admin.send(&related(5_000_000)).expect(201);
    wait_until_held(&refusals, 0);
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn a_client_that_hangs_up_gives_its_memory_back() {
    let refusals = start();
    let mut connection = refusals.connect();
    let lines = "Content-Type: application/json\r\nContent-Length: 900000\r\n";
    let request = head(&format!("POST {DATABASE}/_bulk_docs HTTP/1.1"), lines);
    connection.write_raw(request.as_bytes()).expect("written");
    connection.write_raw(&[b' '; 500_000]).expect("written");
    wait_until_held(&refusals, 500_000);
    drop(connection);
    wait_until_held(&refusals, 0);
    refusals.finish();
}
