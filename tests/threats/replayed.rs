//! T6: the whole traffic of a device, recorded on the wire and played again after each change of its standing. No document
//! comes out, and nothing goes in beyond what the drain allows.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{DATABASE, MARK, Phone, everything, log_in, reason, stage, visit};
use crate::support::http::Client;
use crate::support::http::connection::Connection;
use crate::support::server::TestServer;

/// Between a device and the server: keeps what the device sends. While it `swallows`, nothing of it arrives.
struct Recorder {
    address: String,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    swallows: Arc<AtomicBool>,
}

impl Recorder {
    fn before(server: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (requests, swallows) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, silent, to) = (Arc::clone(&requests), Arc::clone(&swallows), server.address().to_owned());
        thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                let (kept, silent, to) = (Arc::clone(&kept), Arc::clone(&silent), to.clone());
                thread::spawn(move || pass_on(device, &to, &kept, silent.load(Ordering::SeqCst)));
            }
        });
        Self { address, requests, swallows }
    }

    fn recorded(&self) -> Vec<Vec<u8>> {
        self.requests.lock().expect("no test thread failed").clone()
    }
}

/// One connection carries one request: this client opens one for each.
fn pass_on(mut device: TcpStream, to: &str, kept: &Mutex<Vec<Vec<u8>>>, swallow: bool) {
    let mut server = TcpStream::connect(to).expect("the server");
    let mut answers = (server.try_clone().expect("a stream"), device.try_clone().expect("a stream"));
    let back = thread::spawn(move || {
        // Whichever side closes first ends it.
        let _ = std::io::copy(&mut answers.0, &mut answers.1);
        let _ = answers.1.shutdown(Shutdown::Both);
    });
    let (mut request, mut space) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(count @ 1..) = device.read(&mut space) {
        request.extend_from_slice(&space[..count]);
        if swallow {
            if is_whole(&request) {
                break;
            }
        } else if server.write_all(&space[..count]).is_err() {
            break;
        }
    }
    let _ = device.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    kept.lock().expect("no test thread failed").push(request);
    let _ = back.join();
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// What the answers to recorded requests say, all together.
fn replay(server: &TestServer, requests: &[Vec<u8>]) -> (Vec<u16>, String) {
    let (mut statuses, mut said) = (Vec::new(), String::new());
    for request in requests {
        let mut connection = Connection::open(server.address(), Duration::from_secs(20)).expect("a connection");
        connection.write_raw(request).expect("sent");
        let method = String::from_utf8_lossy(request).split(' ').next().unwrap_or_default().to_owned();
        let answer = connection.read_response(&method).expect("an answer");
        statuses.push(answer.status);
        said.push_str(&answer.text());
    }
    (statuses, said)
}

#[test]
fn t6_recorded_traffic_brings_no_document_out_and_nothing_more_in() {
    let server = stage(TestServer::options());
    let recorder = Recorder::before(&server);
    let through = Client::new(&recorder.address);
    let phone = log_in(&server, "ann", "anns-phone");
    day(&phone, &through);
    // Two pushes that never arrived: the network was gone, and somebody listened.
    recorder.swallows.store(true, Ordering::SeqCst);
    let mut undelivered = Vec::new();
    for number in 0..4 {
        let name = format!("visit-unsent-{number}");
        let documents = [phone.revision(&name, visit("ann", number))];
        let body = json!({"new_edits": false, "docs": documents});
        through
            .try_send(&phone.request("POST", &format!("{DATABASE}/_bulk_docs"), Some(&body)))
            .expect_err("swallowed");
        // By its name: an earlier request may be recorded after this one.
        let is_it = |request: &Vec<u8>| String::from_utf8_lossy(request).contains(&name);
        undelivered.push(loop {
            match recorder.recorded().into_iter().find(is_it) {
                Some(request) => break request,
                None => thread::yield_now(),
            }
        });
    }
    let day: Vec<Vec<u8>> = recorder.recorded().into_iter().filter(|request| !undelivered.contains(request)).collect();
    assert!(day.len() >= 15 && undelivered.len() == 4, "{} {}", day.len(), undelivered.len());
    let (statuses, said) = replay(&server, &day);
    assert!(said.contains(MARK) && statuses.iter().all(|status| *status < 500), "the recording is one: {statuses:?}");
    let admin = server.admin();

    let quiet = |when: &str| {
        let before = everything(&server);
        let (statuses, said) = replay(&server, &day);
        assert!(!said.contains(MARK), "{when}: something came out: {said}");
        assert_eq!(everything(&server), before, "{when}: something went in: {statuses:?}");
    };
    admin.post("/_accounts/ann/password", &json!({"password": "quite another one"})).expect(200);
    quiet("after the password was changed");
    let before = everything(&server).len();
    replay(&server, &undelivered[..1]);
    assert_eq!(everything(&server).len(), before + 1, "work of before still arrives: that is the drain");
    replay(&server, &undelivered[..1]);
    assert_eq!(everything(&server).len(), before + 1, "once");

    let closed = |when: &str, request: usize, word: &str| {
        quiet(when);
        let before = everything(&server);
        let answer = phone.get(&server, &format!("{DATABASE}/visit-ann"));
        assert_eq!((answer.status, reason(&answer)), (401, word.to_owned()), "{when}");
        let (statuses, _) = replay(&server, &undelivered[request..=request]);
        assert_eq!((statuses, everything(&server)), (vec![401], before), "{when}");
    };
    let manifest = json!({"manifest": "m1", "revs": {}, "total": 0, "final": true});
    phone.send(&server, "POST", &format!("{DATABASE}/_manifest"), Some(&manifest)).expect(200);
    closed("after its last manifest", 1, "drained");
    admin.post("/_accounts/ann/disable?drain=none", &json!({})).expect(200);
    closed("after the account was disabled", 2, "cut");
    admin.post(&format!("/_devices/{}/cut", phone.id), &json!({})).expect(200);
    closed("after the device was cut", 3, "cut");
    phone.send(&server, "DELETE", "/_session", None).expect(200);
    let before = everything(&server);
    let (statuses, said) = replay(&server, &day);
    assert!(!said.contains(MARK) && statuses.iter().all(|status| *status < 500), "after logging out: {statuses:?}");
    assert_eq!(everything(&server), before);
}

/// A day of a phone: everything it may do, once.
fn day(phone: &Phone, through: &Client) {
    let send = |method: &str, path: &str, body: Option<Value>, status: u16| {
        let answer = through.send(&phone.request(method, &format!("{DATABASE}{path}"), body.as_ref()));
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer
    };
    send("GET", "", None, 200);
    send("PUT", "/_local/checkpoint", Some(json!({"at": 0})), 201);
    send("GET", "/_local/checkpoint", None, 200);
    send("GET", "/_changes?since=0&include_docs=true&style=all_docs", None, 200);
    send("POST", "/_bulk_get?revs=true", Some(json!({"docs": [{"id": "visit-ann"}, {"id": "person-ann"}]})), 200);
    send("GET", "/_all_docs?include_docs=true", None, 200);
    send("GET", "/visit-ann?revs=true", None, 200);
    send("GET", "/visit-ann?open_revs=all", None, 200);
    send("HEAD", "/visit-ann", None, 200);
    send("POST", "/_reconcile", Some(json!({"ids": ["visit-ann"]})), 200);
    let pushed = phone.revision("visit-pushed", visit("ann", 1));
    send("POST", "/_revs_diff", Some(json!({"visit-pushed": [pushed["_rev"]]})), 200);
    send("POST", "/_bulk_docs", Some(json!({"new_edits": false, "docs": [pushed]})), 201);
    let single = phone.revision("visit-single", visit("ann", 2));
    send("PUT", "/visit-single?new_edits=false", Some(single), 201);
    send("PUT", "/visit-edited", Some(visit("ann", 3)), 201);
    send("POST", "/_bulk_docs", Some(json!({"docs": [visit("ann", 4)]})), 201);
    send("POST", "/_ensure_full_commit", Some(json!({})), 201);
}
