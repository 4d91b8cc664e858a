//! A gateway that does as it is told, and a server that sends through it.

#![expect(clippy::disallowed_methods, reason = "a gateway may be slow, and messages are waited for")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::http::{Client, Request};
use crate::support::server::{Options, TestServer};

pub(super) const SECRET: &str = "a secret of the gateway";
/// How long something may take to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a gateway answers to one request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// These bytes, then the connection ends.
    Bytes(&'static str),
    /// Nothing for so long, then 200.
    Slow(Duration),
}

pub(super) const OK: Answer = Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
pub(super) const BROKEN: Answer = Answer::Bytes("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n");

/// One request as a gateway got it.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) head: String,
    pub(super) body: String,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// Checks the signature as a gateway does.
    #[track_caller]
    pub(super) fn assert_signed(&self) {
        let time = self.header("x-settle-timestamp");
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(format!("{time}.{}", self.body).as_bytes());
        let wanted: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.header("x-settle-signature"), format!("sha256={wanted}"), "{self:?}");
    }
}

/// A gateway over HTTP: answers what it was told to, then 200, and remembers what it got.
pub(super) struct Gateway {
    pub(super) url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Gateway {
    pub(super) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), answers)
    }

    /// On a port that was kept free for it.
    pub(super) fn on(listener: TcpListener, answers: impl IntoIterator<Item = Answer>) -> Self {
        let gateway = Self {
            url: format!("http://{}/messages?from=settle", listener.local_addr().expect("an address")),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            got: Arc::default(),
        };
        let (answers, got) = (Arc::clone(&gateway.answers), Arc::clone(&gateway.got));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, got) = (Arc::clone(&answers), Arc::clone(&got));
                thread::spawn(move || serve(&stream, &answers, &got));
            }
        });
        gateway
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has got so many requests.
    #[track_caller]
    pub(super) fn wait_for(&self, count: usize) -> Vec<Got> {
        eventually(|| Some(self.got()).filter(|got| got.len() >= count))
    }
}

fn serve(stream: &TcpStream, answers: &Mutex<VecDeque<Answer>>, got: &Mutex<Vec<Got>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    got.lock().unwrap_or_else(PoisonError::into_inner).push(Got { head, body });
    let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(OK);
    let Answer::Bytes(bytes) = (match answer {
        Answer::Slow(pause) => {
            thread::sleep(pause);
            OK
        }
        bytes => bytes,
    }) else {
        return None;
    };
    let mut stream = stream;
    stream.write_all(bytes.as_bytes()).ok()
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(super) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A server with accounts whose links are sent.
pub(super) struct Post {
    pub(super) server: TestServer,
}

/// The configuration that sends to a gateway over HTTP.
pub(super) fn webhook(url: &str, more: &str) -> String {
    format!("[outbox]\ngateway = \"webhook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nretry_seconds = 1\n{more}")
}

impl Post {
    pub(super) fn start(config: &str) -> Self {
        Self::with(TestServer::options().config(config))
    }

    pub(super) fn with(options: Options) -> Self {
        Self { server: options.start() }
    }

    pub(super) fn operator(&self) -> Client {
        self.server.admin()
    }

    /// Makes an account with a link that is sent. Gives the message's id.
    #[track_caller]
    pub(super) fn account(&self, name: &str, changes: &Value) -> String {
        let mut body =
            json!({"name": name, "roles": ["chw"], "fullname": "Bea", "phone": "+256 700 000001", "send": true});
        for (member, value) in changes.as_object().into_iter().flatten() {
            body[member] = value.clone();
        }
        let made = self.operator().post("/_accounts", &body).expect(201).json();
        assert_eq!((&made["link"]["link"], &made["link"]["token"]), (&Value::Null, &Value::Null), "{made}");
        text(&made["link"]["message"]).to_owned()
    }

    pub(super) fn listed(&self, query: &str) -> Vec<Value> {
        let answer = self.operator().get(&format!("/_outbox{query}")).expect(200).json();
        answer["rows"].as_array().cloned().expect("rows")
    }

    pub(super) fn message(&self, id: &str) -> Value {
        let found = self.listed("?limit=1000").into_iter().find(|message| message["id"] == id);
        found.unwrap_or_else(|| panic!("no message {id}"))
    }

    /// Waits until a message is in a state.
    #[track_caller]
    pub(super) fn wait_for(&self, id: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(|| {
                last = self.message(id);
                Some(last.clone()).filter(|message| message["state"] == state)
            })
        }));
        found.unwrap_or_else(|_| panic!("never {state}: {last}"))
    }

    /// Logs in with a link that arrived.
    pub(super) fn log_in(&self, message: &Value, device: &str) -> u16 {
        let token = text(&message["link"]).rsplit('/').next().unwrap_or_default().to_owned();
        let body = json!({"link": token, "device": {"id": device}});
        self.server.anonymous().send(&Request::new("POST", "/_session").json(&body)).status
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
