//! Event webhooks: what somebody chose to be told of, in order, each at least once, over restarts too.

use serde_json::{Value, json};

use super::gateway::{Answer, BROKEN, Gateway, OK, Post, SECRET, eventually, text};
use crate::restore::drill::settle;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::threats::stage::with_clock;

fn config(url: &str, events: &str) -> String {
    format!("[event_webhooks.ops]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nevents = [{events}]\nretry_seconds = 1\n")
}

fn told(gateway: &Gateway) -> Vec<(String, String)> {
    let event = |got: super::gateway::Got| {
        let event = got.json()["event"].clone();
        (text(&event["action"]).to_owned(), text(&event["account"]).to_owned())
    };
    gateway.got().into_iter().map(event).collect()
}

fn make(post: &Post, name: &str) {
    let body = json!({"name": name, "roles": ["chw"], "password": "tidal-copper-41"});
    post.operator().post("/_accounts", &body).expect(201);
}

#[test]
fn chosen_events_are_told_in_order_signed_and_without_the_rest() {
    let gateway = Gateway::start([]);
    let post = Post::start(&config(&gateway.url, "\"account.create\", \"account.disable\", \"place\""));
    make(&post, "ann");
    make(&post, "bea");
    post.operator().post("/_accounts/ann/disable", &json!({"reason": "on leave"})).expect(200);
    let got = gateway.wait_for(3);
    let pair = |action: &str, account: &str| (action.to_owned(), account.to_owned());
    assert_eq!(
        told(&gateway),
        [pair("account.create", "ann"), pair("account.create", "bea"), pair("account.disable", "ann")]
    );
    for one in &got {
        one.assert_signed();
        assert_eq!(one.header("idempotency-key"), text(&one.json()["id"]));
    }
    let numbers: Vec<u64> = got.iter().filter_map(|one| one.json()["number"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.len() == 3, "{numbers:?}");
    let audit = post.operator().get(&format!("/_audit?since={}&limit=1", numbers[2] - 1)).expect(200).json();
    let mut entry = audit["entries"][0].clone();
    entry.as_object_mut().expect("an entry").remove("number");
    assert_eq!(entry, got[2].json()["event"]);
    let state = post.operator().get("/_outbox").expect(200).json()["webhooks"][0].clone();
    assert_eq!((&state["name"], &state["error"]), (&json!("ops"), &Value::Null));
}

#[test]
fn nothing_is_skipped_while_the_other_side_fails_and_over_kills() {
    let gateway = Gateway::start([BROKEN, BROKEN]);
    let mut post = Post::start(&config(&gateway.url, "\"account.create\""));
    make(&post, "ann");
    gateway.wait_for(1);
    let state = eventually(|| {
        let state = post.operator().get("/_outbox").expect(200).json()["webhooks"][0].clone();
        Some(state).filter(|state| state["error"] != Value::Null)
    });
    assert_eq!(state["error"], json!("the gateway answered 500"), "{state}");
    for name in ["bea", "cyn"] {
        make(&post, name);
    }
    post.server.kill9();
    post.server.restart();
    make(&post, "dee");
    eventually(|| Some(()).filter(|()| told(&gateway).iter().any(|(_, account)| account == "dee")));
    let names: Vec<String> = told(&gateway).into_iter().map(|(_, account)| account).collect();
    let mut order = names.clone();
    order.dedup();
    assert_eq!(order, ["ann", "bea", "cyn", "dee"], "{names:?}");
    let ids: Vec<String> = gateway.got().iter().map(|got| text(&got.json()["id"]).to_owned()).collect();
    assert_eq!((&ids[0], &ids[0]), (&ids[1], &ids[2]), "the same event has the same id");
    // What was told before the restart is not told again once it was noted.
    eventually(|| {
        let told = post.operator().get("/_outbox").expect(200).json()["webhooks"][0]["told"].clone();
        Some(()).filter(|()| told == gateway.got().last().expect("some").json()["number"])
    });
    post.server.restart();
    make(&post, "eve");
    eventually(|| Some(()).filter(|()| told(&gateway).iter().any(|(_, account)| account == "eve")));
    assert_eq!(told(&gateway).len(), names.len() + 1);
}

#[test]
fn mistakes_of_the_configuration_are_told_at_the_start() {
    for (config, part) in [
        ("[event_webhooks.ops]\nurl = \"http://h\"\nsecret = \"short\"\nevents = [\"device\"]", "at least 16"),
        (
            "[event_webhooks.ops]\nurl = \"http://h\"\nsecret = \"0123456789abcdef\"\nevents = [\"device\", \"device.cutt\"]",
            "there is no \"device.cutt\". There are account.activate, account.change, ",
        ),
        ("[outbox]\ngateway = \"webhook\"\nurl = \"http://h:x/\"\nsecret = \"0123456789abcdef\"", "usable address"),
        ("[outbox]\ngateway = \"pigeon\"", "webhook, command or file"),
    ] {
        let failed = crate::support::server::TestServer::options().config(config).try_start();
        let message = failed.err().unwrap_or_default();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_event_that_is_refused_too_often_is_set_aside_and_told_when_somebody_asks() {
    let refuse = Answer::Bytes("HTTP/1.1 422 No\r\ncontent-length: 0\r\n\r\n");
    let busy = Answer::Bytes("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n");
    // Not being there counts for nothing.
    let gateway = Gateway::start([busy.clone(), busy, refuse.clone(), BROKEN, OK, refuse, OK]);
    let mut post = Post::start(&format!("{}attempts = 2\n", config(&gateway.url, "\"account.create\", \"webhook\"")));
    make(&post, "ann");
    make(&post, "bea");
    let accounts = |from: usize| told(&gateway)[from..].iter().map(|(_, account)| account.clone()).collect::<Vec<_>>();
    gateway.wait_for(5);
    assert_eq!(accounts(0)[..5], ["ann", "ann", "ann", "ann", "bea"], "the later one is not held back");
    let state = |post: &Post| post.operator().get("/_outbox").expect(200).json()["webhooks"][0].clone();
    let row = eventually(|| Some(state(&post)).filter(|state| state["set_aside"] == 1 && state["attempts"] == 0));
    let aside = &row["aside"][0];
    assert_eq!((&aside["event"], &aside["attempts"]), (&json!("account.create"), &json!(4)), "{row}");
    assert_eq!((&aside["error"], &aside["state"]), (&json!("the gateway answered 500"), &json!("set_aside")), "{row}");
    // That it was set aside is an event of its own, which this webhook wants: it gets the second refusal.
    gateway.wait_for(7);
    assert_eq!(told(&gateway)[6].0, "webhook.set_aside");
    post.server.restart();
    let id = text(&aside["id"]).to_owned();
    assert_eq!(id, format!("ops:{}", aside["number"]));
    let url = post.server.url().replace("://", &format!("://{ADMIN}:{ADMIN_PASSWORD}@"));
    let (success, said) = settle(&["outbox", "list", "--url", &url]);
    assert!(success && said.contains(&format!("{id}\tset_aside\taccount.create\t4 tries")), "{said}");
    let unknown = settle(&["outbox", "retry", "ops:999", "--url", &url]);
    assert!(!unknown.0 && unknown.1.contains("missing"), "{unknown:?}");
    let (success, said) = settle(&["outbox", "retry", &id, "--reason", "mended", "--url", &url]);
    assert!(success && said.contains("waiting"), "{said}");
    let first = text(&gateway.got()[0].json()["id"]).to_owned();
    eventually(|| Some(()).filter(|()| gateway.got()[7..].iter().any(|got| text(&got.json()["id"]) == first)));
    eventually(|| Some(()).filter(|()| state(&post)["set_aside"] == 0));
    let entries = post.operator().get("/_audit?action=webhook").expect(200).json()["entries"].clone();
    let done: Vec<&str> = entries.as_array().into_iter().flatten().map(|entry| text(&entry["action"])).collect();
    assert_eq!(done, ["webhook.set_aside", "webhook.retry"], "{entries}");
    assert_eq!((&entries[1]["reason"], &entries[1]["details"]["webhook"]), (&json!("mended"), &json!("ops")));
}

#[test]
fn a_phone_that_is_silent_is_told_of_once_for_each_silence() {
    const DAY: i64 = 86_400;
    let Some((clock, options)) = with_clock() else { return };
    let gateway = Gateway::start([]);
    let mut post = Post::with(options.config(&config(&gateway.url, "\"device.silent\"")));
    make(&post, "ann");
    let log_in = |post: &Post, device: &str| {
        let body = json!({"name": "ann", "password": "tidal-copper-41", "device": {"id": device}});
        post.server.anonymous().post("/_session", &body).expect(200).json()["device"]["id"].clone()
    };
    let (silent, calling) = (log_in(&post, "silent-phone"), log_in(&post, "calling-phone"));
    // The house is kept at the start.
    clock.set(6 * DAY);
    log_in(&post, "calling-phone");
    post.server.restart();
    clock.set(8 * DAY);
    post.server.restart();
    let got = gateway.wait_for(1);
    let event = got[0].json()["event"].clone();
    assert_eq!(
        (&event["action"], &event["device"], &event["account"]),
        (&json!("device.silent"), &silent, &json!("ann"))
    );
    clock.set(9 * DAY);
    post.server.restart();
    log_in(&post, "silent-phone");
    clock.set(17 * DAY);
    post.server.restart();
    let devices: Vec<Value> = gateway.wait_for(3).iter().map(|got| got.json()["event"]["device"].clone()).collect();
    assert_eq!(devices.iter().filter(|device| **device == silent).count(), 2, "each silence once: {devices:?}");
    assert_eq!(devices.iter().filter(|device| **device == calling).count(), 1, "{devices:?}");
    assert_eq!(gateway.got().len(), 3);
}
