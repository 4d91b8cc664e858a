//! Event webhooks: what somebody chose to be told of, in order, each at least once, over restarts too.

use serde_json::{Value, json};

use super::gateway::{BROKEN, Gateway, Post, SECRET, eventually, text};

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
        ("[outbox]\ngateway = \"webhook\"\nurl = \"http://h:x/\"\nsecret = \"0123456789abcdef\"", "usable address"),
        ("[outbox]\ngateway = \"pigeon\"", "webhook, command or file"),
    ] {
        let failed = crate::support::server::TestServer::options().config(config).try_start();
        let message = failed.err().unwrap_or_default();
        assert!(message.contains(part), "{message}");
    }
}
