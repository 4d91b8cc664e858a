//! What outlives what: messages over kills at any moment, none over a restore; and the way to the gateway over TLS.

#![expect(clippy::disallowed_methods, reason = "a server must live for a while before it is killed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::gateway::{Answer, BROKEN, Gateway, Post, eventually, text, webhook};
use crate::import::tls::{authority, terminate_before};
use crate::restore::drill::Drill;
use crate::support::chance::Chance;
use crate::support::http::Request;
use crate::support::server::TestServer;

const KILLS: u64 = 12;
/// A kill comes at most so long after the acts begin.
const LONGEST_LIFE_MS: u64 = 250;

/// Accounts are made while messages are sent, and the server is killed again and again. Every link that somebody was promised
/// arrives; whatever arrives is the link of an account that is there; no id is another's.
#[test]
fn every_promised_link_arrives_whenever_the_server_is_killed() {
    let mut chance = Chance::of_law(1);
    let gateway = Gateway::start([BROKEN, BROKEN, BROKEN]);
    let mut post = Post::start(&webhook(&gateway.url, ""));
    let mut promised = BTreeMap::new();
    for round in 0..KILLS {
        let life = Duration::from_millis(chance.below(LONGEST_LIFE_MS));
        let client = post.operator();
        let maker = thread::spawn(move || {
            let mut made = Vec::new();
            for step in 0.. {
                let name = format!("worker-{round}-{step}");
                let body = json!({"name": name, "roles": ["chw"], "phone": "+256 1", "send": true});
                match client.try_send(&Request::new("POST", "/_accounts").json(&body)) {
                    Ok(answer) => made.push((text(&answer.expect(201).json()["link"]["message"]).to_owned(), name)),
                    Err(_) => break,
                }
            }
            made
        });
        thread::sleep(life);
        post.server.kill9();
        promised.extend(maker.join().expect("no panic"));
        post.server.restart();
    }
    assert!(promised.len() > 10, "{} were made", promised.len());
    eventually(|| {
        Some(()).filter(|()| post.listed("?state=waiting").is_empty() && post.listed("?state=sending").is_empty())
    });
    let got = gateway.got();
    let arrived: BTreeSet<(String, String)> =
        got.iter().map(|got| (text(&got.json()["id"]).to_owned(), text(&got.json()["account"]).to_owned())).collect();
    for (id, name) in &promised {
        assert!(arrived.contains(&(id.clone(), name.clone())), "{name} waits for ever");
    }
    let links: BTreeMap<String, String> =
        got.iter().map(|got| (text(&got.json()["id"]).to_owned(), text(&got.json()["link"]).to_owned())).collect();
    assert_eq!(links.len(), arrived.len(), "an id has one account");
    for one in &got {
        assert_eq!(Some(text(&one.json()["link"])), links.get(text(&one.json()["id"])).map(String::as_str));
    }
    for (_, name) in &arrived {
        post.operator().get(&format!("/_accounts/{name}")).expect(200);
    }
}

/// The links of a restored copy were ended: what waited in it is not sent.
#[test]
fn a_restored_copy_sends_nothing_that_waited_in_it() {
    // While it is being sent: what is found so at a start is due at once.
    let gateway = Gateway::start([Answer::Slow(Duration::from_secs(120))]);
    let mut drill = Drill::start_with(&webhook(&gateway.url, ""));
    let bea = json!({"name": "bea", "roles": ["chw"], "phone": "+256 1", "send": true});
    drill.server.admin().post("/_accounts", &bea).expect(201);
    gateway.wait_for(1);
    let backup = drill.backup();
    drill.restore(&backup);
    let sent = gateway.got().len();
    drill.server.restart();
    let listed = || drill.server.admin().get("/_outbox").expect(200).json()["rows"][0].clone();
    eventually(|| Some(()).filter(|()| listed()["state"] == "cancelled"));
    thread::sleep(Duration::from_secs(2));
    assert_eq!((listed()["account"].clone(), gateway.got().len()), (json!("bea"), sent));
}

#[test]
fn a_gateway_behind_https_is_reached_and_one_with_a_foreign_certificate_is_not() {
    let gateway = Gateway::start([]);
    let address = gateway.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let config = webhook(&format!("https://localhost:{}/messages", terminate_before(&address)), "");
    let start = |authority: &Path| {
        let options =
            TestServer::options().config(&config).environment("SSL_CERT_FILE", &authority.display().to_string());
        Post::with(options)
    };
    let nothing = tempfile::NamedTempFile::new().expect("a file");
    let post = start(nothing.path());
    let id = post.account("bea", &json!({}));
    let message = eventually(|| Some(post.message(&id)).filter(|message| message["error"].is_string()));
    assert!(text(&message["error"]).contains("no secure connection"), "{message}");
    assert!(gateway.got().is_empty());
    let post = start(&authority());
    let id = post.account("bea", &json!({}));
    post.wait_for(&id, "delivered");
    gateway.wait_for(1).remove(0).assert_signed();
}
