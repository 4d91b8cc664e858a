//! Clients that are slow, vanish, close half a connection, or speak HTTP strangely.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::{DATABASE, PATIENCE, Refusals, head};
use crate::support::http::Request;

/// Longer than a server needs to answer what it could answer.
const MOMENT: Duration = Duration::from_millis(300);

/// Sends bytes, then reads until the server closes or has said nothing for too long; whether it closed.
fn raw(refusals: &Refusals, bytes: &[u8], wait: Duration) -> (String, bool) {
    let mut connection = refusals.connect();
    // What the server refuses it need not read to its end.
    let _ = connection.write_raw(bytes);
    let (answer, closed) = connection.read_raw(wait);
    (String::from_utf8_lossy(&answer).into_owned(), closed)
}

/// A connection that this side can close for writing only.
fn stream(refusals: &Refusals) -> TcpStream {
    let stream = TcpStream::connect(refusals.server.address()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream
}

#[test]
fn slow_clients_hold_nobody_up() {
    let mut refusals = Refusals::start();
    let mut slow: Vec<_> = (0..20).map(|_| refusals.connect()).collect();
    for connection in &mut slow {
        connection.write_raw(b"GET /refusals/a HTTP/1.1\r\nHost: x\r\nX-Slow").expect("sent");
    }
    let mut body = refusals.connect();
    let request = head("PUT /refusals/slow HTTP/1.1", "Content-Length: 100\r\n");
    body.write_raw(request.as_bytes()).expect("sent");
    for connection in &mut slow {
        refusals.admin.get("/refusals/a").expect(200);
        connection.write_raw(b"l").expect("sent");
        body.write_raw(b"{").expect("sent");
        thread::sleep(Duration::from_millis(50));
    }
    drop((slow, body));
    refusals.unchanged("slow clients that vanish");
    refusals.finish();
}

#[test]
fn an_answer_comes_after_the_client_has_closed_for_writing() {
    let mut refusals = Refusals::start();
    let requests = (0..20).flat_map(|number| {
        let write = format!("PUT /refusals/half-{number} HTTP/1.1");
        [("GET /refusals/a HTTP/1.1".to_owned(), "", "HTTP/1.1 200 "), (write, "{}", "HTTP/1.1 201 ")]
    });
    for (line, body, wanted) in requests {
        let mut stream = stream(&refusals);
        let request = head(&line, &format!("Content-Length: {}\r\n", body.len())) + body;
        stream.write_all(request.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("open until here");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        refusals.check(&format!("{line}: {read:?} {answer:?}"), answer.starts_with(wanted));
    }
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn half_a_body_stores_nothing() {
    let mut refusals = Refusals::start();
    let attachment = format!("PUT /refusals/a/x?rev={} HTTP/1.1", refusals.revision);
    let related = "Content-Type: multipart/related;boundary=b\r\n";
    let bulk = "Content-Type: application/json\r\n";
    for (line, more, body) in [
        ("PUT /refusals/n HTTP/1.1", "Content-Length: 10\r\n", "{\"a\":1}"),
        ("PUT /refusals/n HTTP/1.1", "Transfer-Encoding: chunked\r\n", "7\r\n{\"a\":1}\r\n"),
        ("PUT /refusals/n HTTP/1.1", "Transfer-Encoding: chunked\r\n", "7\r\n{\"a\":1}\r\n0\r\n"),
        (&attachment, "Content-Length: 10\r\n", "123456789"),
        (&attachment, "Transfer-Encoding: chunked\r\n", "3\r\n123\r\n"),
        (
            "POST /refusals/_bulk_docs HTTP/1.1",
            &format!("{bulk}Content-Length: 30\r\n"),
            "{\"docs\":[{\"_id\":\"n\"}]}",
        ),
        ("PUT /refusals/n HTTP/1.1", &format!("{related}Content-Length: 40\r\n"), "--b\r\n\r\n{}\r\n--b-"),
    ] {
        for half in [true, false] {
            let mut stream = stream(&refusals);
            stream.write_all((head(line, more) + body).as_bytes()).expect("sent");
            let what = format!("{line} {more:?} {body:?}, {}", if half { "closed for writing" } else { "vanished" });
            if half {
                stream.shutdown(Shutdown::Write).expect("open until here");
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                let answer = String::from_utf8_lossy(&answer).into_owned();
                let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
                refusals.check(&format!("{what}: {answer}"), refused);
            }
            drop(stream);
            thread::sleep(Duration::from_millis(20));
            refusals.unchanged(&what);
        }
    }
    refusals.finish();
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let mut refusals = Refusals::start();
    let requests = [
        head("GET /refusals/a HTTP/1.1", ""),
        head("PUT /refusals/a HTTP/1.1", "Content-Length: 2\r\n") + "{}",
        "\r\n\r\n".to_owned() + &head("GET /refusals/missing HTTP/1.1", ""),
        head("HEAD /refusals/a HTTP/1.1", ""),
        head("GET /refusals/%zz HTTP/1.1", ""),
        head("PUT /refusals/n HTTP/1.1", "Transfer-Encoding: chunked\r\n") + "2\r\n[]\r\n0\r\n\r\n",
        head("GET /_up HTTP/1.1", ""),
    ];
    let mut connection = refusals.connect();
    connection.write_raw(requests.concat().as_bytes()).expect("sent");
    for (method, wanted) in
        [("GET", 200), ("PUT", 409), ("GET", 404), ("HEAD", 200), ("GET", 400), ("PUT", 400), ("GET", 200)]
    {
        let status = connection.read_response(method).map(|answer| answer.status);
        refusals
            .check(&format!("{method}: {status:?}, not {wanted}"), matches!(status, Ok(status) if status == wanted));
    }
    refusals.finish();
}

#[test]
fn a_refused_body_does_not_become_the_next_request() {
    let mut refusals = Refusals::start();
    let inner = head("PUT /refusals/smuggled HTTP/1.1", "Content-Length: 2\r\n") + "{}";
    for line in ["POST /refusals/_bulk_docs HTTP/1.1", "PUT /refusals/%zz HTTP/1.1", "PATCH /refusals/a HTTP/1.1"] {
        let outer = head(line, &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", inner.len()));
        let next = head("GET /_up HTTP/1.1", "Connection: close\r\n");
        let (answer, closed) = raw(&refusals, (outer + &inner + &next).as_bytes(), PATIENCE);
        let answers = answer.matches("HTTP/1.1 ").count();
        refusals.check(&format!("{line}: {answer}"), closed && answers <= 2 && answer.starts_with("HTTP/1.1 4"));
        refusals.unchanged(line);
    }
    refusals.finish();
}

#[test]
fn framing_in_two_minds_is_refused_and_the_connection_closed() {
    let mut refusals = Refusals::start();
    let inner = head("PUT /refusals/smuggled HTTP/1.1", "Content-Length: 2\r\n") + "{}";
    for more in [
        "Content-Length: 3\r\nContent-Length: 300\r\n",
        "Content-Length: 3, 300\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
    ] {
        let request = head("PUT /refusals/n HTTP/1.1", more) + "0\r\n\r\n" + &inner;
        let (answer, closed) = raw(&refusals, request.as_bytes(), PATIENCE);
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        let once = answer.matches("HTTP/1.1 ").count() <= 1;
        refusals.check(&format!("{more:?}: closed {closed}, {answer}"), closed && refused && once);
        refusals.unchanged(more);
    }
    refusals.finish();
}

#[test]
fn both_framings_at_once_never_smuggle() {
    let mut refusals = Refusals::start();
    let inner = head("PUT /refusals/smuggled HTTP/1.1", "Content-Length: 2\r\n") + "{}";
    for more in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n",
    ] {
        let request = head("PUT /refusals/n HTTP/1.1", more) + "0\r\n\r\n" + &inner;
        let (answer, closed) = raw(&refusals, request.as_bytes(), Duration::from_secs(2));
        refusals.check(&format!("{more:?}: closed {closed}, {answer}"), closed && answer.starts_with("HTTP/1.1 400 "));
        refusals.unchanged(more);
    }
    refusals.finish();
}

#[test]
fn bytes_that_are_no_http_are_refused() {
    let mut refusals = Refusals::start();
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET /refusals\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /refusals HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /refusals HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /refusals HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET /refusals HTTP/1.1\r\n A: folded\r\n\r\n",
        b"GET /refusals HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (answer, closed) = raw(&refusals, bytes, PATIENCE);
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        refusals.check(&format!("{}: {closed} {answer}", String::from_utf8_lossy(bytes)), closed && refused);
    }
    for chunks in ["x\r\n", "-1\r\n", "fffffffffffffffff\r\n", "2\r\n{}x\r\n0\r\n\r\n"] {
        let request = head("PUT /refusals/n HTTP/1.1", "Transfer-Encoding: chunked\r\n") + chunks;
        let (answer, closed) = raw(&refusals, request.as_bytes(), PATIENCE);
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        refusals.check(&format!("chunks {chunks:?}: {closed} {answer}"), closed && refused);
        refusals.unchanged(chunks);
    }
    refusals.finish();
}

#[test]
fn unusual_but_legal_requests_are_understood() {
    let mut refusals = Refusals::start();
    let status = |request: String, wanted: &str| {
        let (answer, _) = raw(&refusals, request.as_bytes(), MOMENT);
        let first = answer.lines().next().unwrap_or_default().to_owned();
        (request.lines().next().unwrap_or_default().to_owned() + " → " + &first, first.starts_with(wanted))
    };
    let checks = [
        status(head("GET /refusals/a HTTP/1.0", ""), "HTTP/1.0 200 "),
        status(head("GET http://elsewhere:1/refusals/a HTTP/1.1", ""), "HTTP/1.1 200 "),
        status("\r\n\r\n\r\n".to_owned() + &head("GET /refusals/a HTTP/1.1", ""), "HTTP/1.1 200 "),
        status(head("get /refusals/a HTTP/1.1", ""), "HTTP/1.1 405 "),
        status(head("NOSUCH /refusals/a HTTP/1.1", ""), "HTTP/1.1 405 "),
        status(head("PUT /refusals/n HTTP/1.1", "Content-Length: 2\r\nContent-Length: 2\r\n") + "[]", "HTTP/1.1 400 "),
    ];
    for (what, holds) in checks {
        refusals.check(&what, holds);
    }
    let (answer, closed) = raw(&refusals, head("GET /refusals/a HTTP/1.0", "").as_bytes(), PATIENCE);
    refusals.check(&format!("HTTP/1.0 ends with the connection: {answer}"), closed);
    refusals.finish();
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let mut refusals = Refusals::start();
    let mut connection = refusals.connect();
    let request = head("PUT /refusals/a HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 2\r\n");
    connection.write_raw(request.as_bytes()).expect("sent");
    let (interim, closed) = connection.read_raw(MOMENT * 3);
    let interim = String::from_utf8_lossy(&interim).into_owned();
    refusals.check(&format!("{interim:?}"), !closed && interim == "HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_raw(b"{}").expect("sent");
    let status = connection.read_response("PUT").map(|answer| answer.status);
    refusals.check(&format!("{status:?}"), matches!(status, Ok(409)));
    refusals.finish();
}

#[test]
fn head_never_has_a_body() {
    let mut refusals = Refusals::start();
    for path in [
        "/",
        "/_up",
        "/_all_dbs",
        "/_uuids",
        "/_session",
        "/_active_tasks",
        "/_metrics",
        "/nosuch",
        "/refusals",
        "/refusals/a",
        "/refusals/a?open_revs=all",
        "/refusals/a?attachments=true",
        "/refusals/a/note",
        "/refusals/a/nosuch",
        "/refusals/missing",
        "/refusals/_all_docs",
        "/refusals/_changes",
        "/refusals/_security",
        "/refusals/_local/x",
        "/refusals/_local_docs",
        "/refusals/%zz",
        "/refusals/_bulk_docs",
        "/refusals/_find",
    ] {
        let mut connection = refusals.connect();
        let request = head(&format!("HEAD {path} HTTP/1.1"), "") + &head("GET /_up HTTP/1.1", "Connection: close\r\n");
        connection.write_raw(request.as_bytes()).expect("sent");
        let first = connection.read_response("HEAD").map(|answer| answer.status);
        let get = refusals.admin.try_send(&Request::new("GET", path)).map(|answer| answer.status);
        let same = first.as_ref().ok() == get.as_ref().ok();
        let second = connection.read_response("GET").map(|answer| answer.text());
        let what = format!("HEAD {path}: {first:?}, GET {get:?}, then {second:?}");
        refusals.check(&what, same && second.is_ok_and(|text| text.contains("\"ok\"")));
    }
    refusals.finish();
}

#[test]
fn a_feed_whose_reader_vanishes_is_given_up() {
    let mut refusals = Refusals::start();
    for feed in ["longpoll&since=now", "continuous&heartbeat=50", "eventsource&heartbeat=50"] {
        let mut connection = refusals.connect();
        let line = format!("GET {DATABASE}/_changes?feed={feed} HTTP/1.1");
        connection.write_raw(head(&line, "").as_bytes()).expect("sent");
        let (start, closed) = connection.read_raw(MOMENT);
        refusals.check(feed, !closed && start.starts_with(b"HTTP/1.1 200 "));
    }
    refusals.unchanged("feeds");
    refusals.finish();
}
