//! What was answered survives: the server is killed at random moments while four clients write, and started again on the
//! same data. Every answer a client had read completely must still be true, and half a request must never be there.
//!
//! A failing run is repeated with `SETTLE_SEED`. This proves the order of write and answer, not the disk: a killed process
//! loses nothing that the operating system has taken.

#![expect(clippy::disallowed_methods, reason = "a server must live for a while before it is killed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{Client, Request, Response};
use crate::support::server::TestServer;

const KILLS: u64 = 50;
const DATABASE: &str = "/durable";
/// Documents in one `_bulk_docs` request.
const BATCH: u64 = 10;
/// A kill comes at most so long after the writers begin.
const LONGEST_LIFE_MS: u64 = 150;

/// Deterministic chance: splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// The hash part of a revision id.
    fn hash(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

/// What one writer was told, and what it had asked for when the server died.
#[derive(Default)]
struct Told {
    /// Document → its revisions, oldest first, each with the word in its body.
    documents: BTreeMap<String, Vec<(String, u64)>>,
    /// Path of an attachment → its bytes.
    attachments: BTreeMap<String, Vec<u8>>,
    /// Highest acknowledged and highest attempted number of the writer's checkpoint.
    checkpoint: (u64, u64),
    /// Ids (and revisions, if the client chose them) of the batch that was never answered.
    unanswered: Vec<String>,
    requests: usize,
}

impl Told {
    fn add(&mut self, id: &str, revision: &str, word: u64) {
        self.documents.entry(id.to_owned()).or_default().push((revision.to_owned(), word));
    }
}

/// One client: writes in its own manner until the server no longer answers.
struct Writer {
    client: Client,
    chance: Chance,
    /// Distinguishes writers and rounds in ids.
    name: String,
    checkpoint_revision: Option<Value>,
    told: Told,
}

impl Writer {
    fn run(mut self, manner: usize) -> Told {
        for step in 1.. {
            let outcome = match manner {
                0 => self.edit(step),
                1 => self.push(step),
                2 => self.bulk(step),
                _ => self.attach(step),
            };
            if outcome.is_err() {
                break;
            }
            self.told.requests += 1;
        }
        self.told
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> io::Result<Response> {
        let response = self.client.try_send(&Request::new(method, &format!("{DATABASE}{path}")).json(body))?;
        assert!(response.status == 201, "{method} {path}: {} {}", response.status, response.text());
        Ok(response)
    }

    /// Interactive edits of a few documents.
    fn edit(&mut self, step: u64) -> io::Result<()> {
        let id = format!("{}-{}", self.name, self.chance.below(5));
        let mut body = json!({"word": step});
        if let Some((revision, _)) = self.told.documents.get(&id).and_then(|revisions| revisions.last()) {
            body["_rev"] = revision.as_str().into();
        }
        let answer = self.send("PUT", &format!("/{id}"), &body)?.json();
        self.told.add(&id, answer["rev"].as_str().expect("an edit is answered with its revision"), step);
        Ok(())
    }

    /// A phone's push: a batch with the client's own revisions, then the checkpoint.
    fn push(&mut self, step: u64) -> io::Result<()> {
        let rows: Vec<(String, String)> =
            (0..BATCH).map(|row| (format!("{}-{step}-{row}", self.name), self.chance.hash())).collect();
        let docs: Vec<Value> = rows
            .iter()
            .map(|(id, hash)| {
                let revisions = json!({"start": 2, "ids": [hash, "0".repeat(32)]});
                json!({"_id": id, "_rev": format!("2-{hash}"), "_revisions": revisions, "word": step})
            })
            .collect();
        self.told.unanswered = rows.iter().map(|(id, _)| id.clone()).collect();
        let answer = self.send("POST", "/_bulk_docs", &json!({"docs": docs, "new_edits": false}))?;
        assert!(answer.json().as_array().is_some_and(|rows| rows.iter().all(|row| row.get("error").is_none())));
        self.told.unanswered.clear();
        for (id, hash) in &rows {
            self.told.add(id, &format!("2-{hash}"), step);
        }
        self.told.checkpoint.1 = step;
        let mut checkpoint = json!({"last_seq": step});
        if let Some(revision) = self.checkpoint_revision.take() {
            checkpoint["_rev"] = revision;
        }
        let mut answer = self.send("PUT", &format!("/_local/{}", self.name), &checkpoint)?.json();
        self.checkpoint_revision = Some(answer["rev"].take());
        self.told.checkpoint.0 = step;
        Ok(())
    }

    /// A batch whose revisions the server chooses.
    fn bulk(&mut self, step: u64) -> io::Result<()> {
        let ids: Vec<String> = (0..BATCH).map(|row| format!("{}-{step}-{row}", self.name)).collect();
        let docs: Vec<Value> = ids.iter().map(|id| json!({"_id": id, "word": step})).collect();
        self.told.unanswered.clone_from(&ids);
        let answer = self.send("POST", "/_bulk_docs", &json!({"docs": docs}))?.json();
        self.told.unanswered.clear();
        for (row, id) in ids.iter().enumerate() {
            self.told.add(id, answer[row]["rev"].as_str().expect("a new document has a revision"), step);
        }
        Ok(())
    }

    /// Files on new documents, some of them large enough to be stored in pieces.
    fn attach(&mut self, step: u64) -> io::Result<()> {
        let path = format!("{DATABASE}/{}-{step}/photo.jpg", self.name);
        let length = if step.is_multiple_of(5) { 300_000 } else { self.chance.below(5000) };
        let bytes: Vec<u8> = (0..length).map(|_| (self.chance.next() & 0xff) as u8).collect();
        let request = Request::new("PUT", &path).header("Content-Type", "image/jpeg").body(bytes.clone());
        let response = self.client.try_send(&request)?;
        assert!(response.status == 201, "PUT {path}: {} {}", response.status, response.text());
        self.told.attachments.insert(path, bytes);
        Ok(())
    }
}

#[test]
fn what_was_answered_survives_fifty_kills() {
    let seed = seed();
    println!("seed {seed} (repeat with SETTLE_SEED={seed})");
    let mut chance = Chance(seed);
    let mut server = TestServer::start();
    server.admin().put(DATABASE, &json!({})).expect(201);
    let (mut requests, mut documents) = (0, 0);
    for round in 0..KILLS {
        let since = last_seq(&server.admin());
        let told = write_and_kill(&mut server, &mut chance, round);
        server.restart();
        let client = server.admin();
        for writer in &told {
            check_documents(&client, writer, seed);
            check_attachments(&client, writer, seed);
            check_unanswered(&client, writer, seed);
            requests += writer.requests;
            documents += writer.documents.len() + writer.attachments.len();
        }
        check_checkpoint(&client, &told, round, seed);
        check_feed(&client, &since, &told, seed);
    }
    let count = server.admin().get(DATABASE).json()["doc_count"].as_u64().unwrap_or(0);
    println!("{KILLS} kills, {requests} answered requests, {documents} documents acknowledged, {count} stored");
    assert!(count >= documents as u64, "{documents} documents were acknowledged, the database counts {count}");
    assert!(requests > KILLS as usize, "the writers hardly came to write: {requests} requests");
}

fn seed() -> u64 {
    let given = std::env::var("SETTLE_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        u64::from_be_bytes(bytes)
    })
}

/// Lets four clients write, kills the server at a random moment and returns what the clients were told.
fn write_and_kill(server: &mut TestServer, chance: &mut Chance, round: u64) -> Vec<Told> {
    let writers: Vec<_> = (0..4)
        .map(|manner| {
            let client = server.admin().with_timeout(Duration::from_secs(10));
            let name = format!("w{manner}-{round}");
            let chance = Chance(chance.next());
            let writer = Writer { client, chance, name, checkpoint_revision: None, told: Told::default() };
            thread::spawn(move || writer.run(manner))
        })
        .collect();
    thread::sleep(Duration::from_millis(5 + chance.below(LONGEST_LIFE_MS)));
    server.kill9();
    writers.into_iter().map(|writer| writer.join().expect("a writer met a wrong answer")).collect()
}

fn last_seq(client: &Client) -> String {
    let feed = client.get(&format!("{DATABASE}/_changes?since=now")).expect(200).json();
    let position = &feed["last_seq"];
    position.as_str().map_or_else(|| position.to_string(), str::to_owned)
}

/// Every acknowledged revision is known, and the last one of each document (or a successor) is readable.
fn check_documents(client: &Client, told: &Told, seed: u64) {
    if told.documents.is_empty() {
        return;
    }
    let mut asked = serde_json::Map::new();
    for (id, revisions) in &told.documents {
        asked.insert(id.clone(), revisions.iter().map(|(revision, _)| revision.as_str()).collect());
    }
    let missing = client.post(&format!("{DATABASE}/_revs_diff"), &Value::Object(asked)).expect(200).json();
    assert_eq!(missing, json!({}), "acknowledged revisions are lost (seed {seed})");
    let last = told.documents.iter().filter_map(|(id, revisions)| revisions.last().map(|last| (id, last)));
    let docs: Vec<Value> = last.clone().map(|(id, (revision, _))| json!({"id": id, "rev": revision})).collect();
    let path = format!("{DATABASE}/_bulk_get?latest=true");
    let answer = client.post(&path, &json!({"docs": docs})).expect(200).json();
    for ((id, (revision, word)), result) in last.zip(answer["results"].as_array().expect("a list of results")) {
        let document = &result["docs"][0]["ok"];
        let same = document["_rev"] == revision.as_str() && document["word"] == *word;
        let later = document["word"].as_u64().is_some_and(|found| found > *word);
        assert!(same || later, "{id} {revision} was acknowledged, but is {result} (seed {seed})");
    }
}

fn check_attachments(client: &Client, told: &Told, seed: u64) {
    for (path, bytes) in &told.attachments {
        let answer = client.get(path);
        assert_eq!(answer.status, 200, "{path} was acknowledged, but is {} (seed {seed})", answer.text());
        assert!(answer.bytes() == *bytes, "{path} holds other bytes than were acknowledged (seed {seed})");
    }
}

/// The batch that was never answered is there as a whole or not at all.
fn check_unanswered(client: &Client, told: &Told, seed: u64) {
    if told.unanswered.is_empty() {
        return;
    }
    let rows = client.post(&format!("{DATABASE}/_all_docs"), &json!({"keys": told.unanswered})).expect(200).json();
    let rows = rows["rows"].as_array().expect("a list of rows").clone();
    let present = rows.iter().filter(|row| row.get("error").is_none()).count();
    let (batch, half) = (told.unanswered.len(), format!("half a batch is stored: {rows:?} (seed {seed})"));
    assert!(present == 0 || present == batch, "{half}");
}

/// The pushing writer's checkpoint is the acknowledged one, or the one that was on its way.
fn check_checkpoint(client: &Client, told: &[Told], round: u64, seed: u64) {
    let (acknowledged, attempted) = told[1].checkpoint;
    let answer = client.get(&format!("{DATABASE}/_local/w1-{round}"));
    let found = if answer.status == 404 { 0 } else { answer.expect(200).json()["last_seq"].as_u64().unwrap_or(0) };
    let expected = acknowledged..=attempted;
    assert!(expected.contains(&found), "the checkpoint is {found}, not in {expected:?} (seed {seed})");
}

/// A feed that goes on from a token given before the kill names everything that was acknowledged since.
fn check_feed(client: &Client, since: &str, told: &[Told], seed: u64) {
    let feed = client.get(&format!("{DATABASE}/_changes?since={since}")).expect(200).json();
    let rows = feed["results"].as_array().expect("a list of rows");
    let listed: std::collections::BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(listed.len(), rows.len(), "a document is listed twice (seed {seed})");
    let mut lost = String::new();
    for id in told.iter().flat_map(|writer| writer.documents.keys()) {
        if !listed.contains(id.as_str()) {
            let _ = write!(lost, " {id}");
        }
    }
    assert!(lost.is_empty(), "acknowledged, but not in the feed since {since}:{lost} (seed {seed})");
}
