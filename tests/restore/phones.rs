//! Real PouchDB phones through a restore: what the restored server lacks comes back without anybody's doing; a withdrawn phone
//! stays out; what was promised to a phone that is erased is reported as lost.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::drill::{AREA, Drill};
use crate::clients::node_is_ready;
use crate::support::server::TestServer;

struct Phones {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Phones {
    fn start(url: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let mut node = Command::new("node");
        node.arg("restore.mjs").current_dir(folder).env("SETTLE_URL", url).env("SETTLE_DATABASE", AREA);
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = node.spawn().expect("node starts");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let input = child.stdin.take().expect("piped");
        Self { child, input, lines, said: Vec::new() }
    }

    fn wait_for(&mut self, step: &str, server: &TestServer) {
        let wanted = format!("done {step}");
        while self.said.last() != Some(&wanted) {
            match self.lines.recv_timeout(Duration::from_secs(180)) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("{step}: {error}; the phones said {:?}\nserver log:\n{}", self.said, server.log()),
            }
        }
    }

    fn go_on(&mut self) {
        writeln!(self.input, "go").expect("node listens");
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn everything_comes_back_and_the_withdrawn_phone_stays_out() {
    if !node_is_ready() {
        return;
    }
    let drill = Drill::start();
    // The phones know one address: the same port after each start.
    let address = drill.server.address().to_owned();
    let Drill { folder, mut server } = drill;
    server.stop();
    let server = TestServer::options().data(&folder.path().join("data")).listen(&address).start();
    let mut drill = Drill { folder, server };
    for name in ["live", "retired", "offline"] {
        drill.account(name);
    }
    let mut phones = Phones::start(&drill.url());
    phones.wait_for("before", &drill.server);
    let backup = drill.backup();
    phones.go_on();
    phones.wait_for("after", &drill.server);
    drill.server.admin().post("/_accounts/retired/retire", &json!({})).expect(200);
    drill.restore(&backup);
    drill.server.restart();
    let count = |drill: &Drill, prefix: &str| {
        let range = format!("/{AREA}/_all_docs?startkey=%22{prefix}-%22&endkey=%22{prefix}-~%22");
        let rows = drill.server.admin().get(&range).expect(200).json();
        rows["rows"].as_array().expect("rows").len()
    };
    assert_eq!(count(&drill, "offline-after"), 0, "the restored server lacks them");
    phones.go_on();
    phones.wait_for("restored", &drill.server);
    for (prefix, documents) in
        [("live-before", 10), ("live-after", 100), ("offline-after", 150), ("retired-after", 150)]
    {
        assert_eq!(count(&drill, prefix), documents, "{prefix}\n{:?}\n{}", phones.said, drill.server.log());
    }
    phones.go_on();
}

/// The next line of a ledger, as the server would write it.
fn append_line(text: &mut String, line: &Value) {
    let last = text.lines().last().expect("a line");
    let last: Value = serde_json::from_str(last).expect("JSON");
    let number = last["number"].as_u64().expect("a number") + 1;
    let before: Vec<u8> = last["hash"].as_str().expect("a hash").as_bytes().chunks(2).map(byte).collect();
    let line = line.to_string();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"settle ledger 1\0").update(&before).update(&number.to_be_bytes()).update(line.as_bytes());
    text.push_str(&format!("{{\"number\":{number},\"hash\":\"{}\",\"line\":{line}}}\n", hasher.finalize().to_hex()));
}

fn byte(digits: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(digits).expect("text"), 16).expect("hex")
}

#[test]
fn receipts_that_are_newer_than_the_data_are_listed_and_an_erased_phone_is_a_loss() {
    let mut drill = Drill::start();
    drill.account("ann");
    let one = drill.device(&drill.log_in("ann", Some("phone-one")));
    let two = drill.device(&drill.log_in("ann", Some("phone-two")));
    let path = "/_handover/lost_receipts";
    assert_eq!(drill.server.admin().get(path).expect(200).json(), json!({"receipts": []}));
    drill.server.stop();
    let mut text = std::fs::read_to_string(drill.ledger()).expect("read");
    for device in [&one, &two] {
        let drained = json!({"at": 2, "evidence": "manifest", "by": []});
        append_line(&mut text, &json!({"what": "drained", "account": "ann", "device": device, "drained": drained}));
        append_line(&mut text, &json!({"what": "receipt", "device": device, "database": AREA, "root": "ab", "at": 3}));
    }
    append_line(&mut text, &json!({"what": "wipe_reported", "account": "ann", "device": two, "at": 4}));
    std::fs::write(drill.ledger(), text).expect("written");
    drill.server.restart();
    let lost = drill.server.admin().get(path).expect(200).json();
    let told: Vec<_> = lost["receipts"].as_array().expect("rows").iter().collect();
    assert_eq!(told.len(), 2, "{lost}");
    assert_eq!(
        (&told[0]["device"], &told[0]["state"], &told[0]["account"]),
        (&json!(one), &json!("ask_device"), &json!("ann"))
    );
    assert_eq!((&told[1]["device"], &told[1]["state"]), (&json!(two), &json!("lost")));
    let entry = &drill.audit("store.restored")[0]["details"];
    let mut again = vec![one.clone(), two.clone()];
    again.sort();
    assert_eq!(entry["drain_again"], json!(again), "what a lost store proved is not proved any more");
    let device = drill.server.admin().get(&format!("/_devices/{one}")).expect(200).json();
    assert_eq!(device["evidence"], json!(null), "so nobody can have it erased before it drains again");
    assert_eq!(drill.server.client_as("ann", "pass-of-ann").get(path).status, 404);
}
