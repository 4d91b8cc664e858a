//! Answers that are open when a right is withdrawn: feeds end, bodies break off, and nothing more of a document is sent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::world::{DATABASE, Device, World};
use crate::support::http::Request;
use crate::support::http::connection::Feed;

/// Longest wait for the end of a feed: far below its heartbeat and timeout, far above what it takes (`settle bench handover`).
const AT_ONCE: Duration = Duration::from_secs(20);
/// Bytes of a body that no socket buffers whole.
const LARGE: usize = 64 << 20;

fn open(device: &Device, query: &str) -> Feed {
    let request = Request::new("GET", &format!("/{DATABASE}/_changes?{query}"));
    device.client.open_feed(&device.authorized(request))
}

/// Everything that comes until the feed ends; panics when it does not end in time.
fn to_the_end(feed: &mut Feed, patience: Duration) -> String {
    let (begun, mut text) = (Instant::now(), String::new());
    loop {
        match feed.next_line(patience.saturating_sub(begun.elapsed()).max(Duration::from_millis(1))) {
            Ok(Some(line)) => text.push_str(&String::from_utf8_lossy(&line)),
            Ok(None) => return text,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => panic!("it goes on: {text}"),
            Err(_) => return text,
        }
    }
}

/// What comes within a time, of a feed that stays open.
fn within(feed: &mut Feed, patience: Duration) -> String {
    let (begun, mut text) = (Instant::now(), String::new());
    while let Some(left) = patience.checked_sub(begun.elapsed()) {
        match feed.next_line(left.max(Duration::from_millis(1))) {
            Ok(Some(line)) => text.push_str(&String::from_utf8_lossy(&line)),
            Ok(None) => panic!("it ended: {text}"),
            Err(_) => break,
        }
    }
    text
}

fn a_line(feed: &mut Feed) -> String {
    let line = feed.next_line(AT_ONCE).expect("a line").expect("an open feed");
    String::from_utf8_lossy(&line).into_owned()
}

#[test]
fn feeds_of_a_draining_device_are_held_and_say_nothing() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    world.change_password("ann", "another", "");
    phone.own();
    let token = world.token();
    for feed in ["longpoll", "continuous", "eventsource"] {
        let mut feed = open(&phone, &format!("feed={feed}&since={token}&heartbeat=200&include_docs=true"));
        world.server.admin().post("/medic", &json!({"secret": true})).expect(201);
        let said = within(&mut feed, Duration::from_millis(900)) + &a_line(&mut feed);
        assert!(said.contains('\n') && !said.contains("secret") && !said.contains("seq"), "{said}");
    }
    let mut feed = open(&phone, &format!("feed=longpoll&since={token}&timeout=500"));
    let answer: Value = serde_json::from_str(&to_the_end(&mut feed, AT_ONCE)).expect("JSON");
    assert_eq!((&answer["results"], &answer["last_seq"]), (&json!([]), &json!(token)));
}

#[test]
fn a_held_feed_ends_when_the_device_is_cut() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    world.operate(&format!("/_devices/{}/retire", phone.id));
    let mut feed = open(&phone, "feed=continuous&since=0&heartbeat=60000");
    world.operate(&format!("/_devices/{}/cut", phone.id));
    to_the_end(&mut feed, AT_ONCE);
}

#[test]
fn an_open_feed_ends_when_the_right_to_read_does() {
    for end in ["password", "retire", "cut"] {
        let world = World::start();
        let phone = world.device("ann", "phone-of-ann");
        let bystander = world.device("ben", "phone-of-ben");
        let mut feeds = ["longpoll", "continuous", "eventsource"]
            .map(|feed| open(&phone, &format!("feed={feed}&since=now&heartbeat=60000&include_docs=true")));
        let mut other = open(&bystander, "feed=continuous&since=now&heartbeat=60000");
        match end {
            "password" => world.change_password("ann", "another", ""),
            how => drop(world.operate(&format!("/_devices/{}/{how}", phone.id))),
        }
        world.server.admin().put("/medic/afterwards", &json!({"secret": true})).expect(201);
        for feed in &mut feeds {
            let said = to_the_end(feed, AT_ONCE);
            assert!(!said.contains("afterwards"), "{end}: {said}");
        }
        assert!(a_line(&mut other).contains("afterwards"), "others go on");
    }
}

/// Asks, reads a little, cuts the device, reads the rest. Gives the bytes that came.
fn cut_in_the_middle(world: &World, device: &Device, request: &str, body: &str) -> usize {
    let mut stream = TcpStream::connect(world.server.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let head = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nCookie: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        device.cookie,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut space = vec![0; 64 << 10];
    let mut received = stream.read(&mut space).expect("the beginning");
    assert!(space.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&space[..200]));
    world.operate(&format!("/_devices/{}/cut", device.id));
    loop {
        match stream.read(&mut space) {
            Ok(0) => return received,
            Ok(count) => received += count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return received,
            Err(error) => panic!("after {received} bytes: {error}"),
        }
    }
}

#[test]
fn a_large_attachment_breaks_off_when_the_device_is_cut() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    let photo = Request::new("PUT", "/medic/doc/photo").header("Content-Type", "image/x").body(vec![7; LARGE]);
    world.server.admin().send(&photo).expect(201);
    let received = cut_in_the_middle(&world, &phone, "GET /medic/doc/photo", "");
    assert!(received < LARGE, "{received} bytes came");
}

#[test]
fn a_large_bulk_get_breaks_off_when_the_device_is_cut() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    let text = "x".repeat(4 << 20);
    let mut asked = Vec::new();
    for number in 0..LARGE / text.len() {
        let id = format!("d{number}");
        world.server.admin().put(&format!("/medic/{id}"), &json!({"text": text})).expect(201);
        asked.push(json!({"id": id}));
    }
    let body = json!({"docs": asked}).to_string();
    let received = cut_in_the_middle(&world, &phone, "POST /medic/_bulk_get", &body);
    assert!(received < LARGE, "{received} bytes came");
}
