//! What is sent: to whom, in which words, through which gateway; and what ends a message.

#![expect(clippy::disallowed_methods, reason = "a link must get too old")]

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::gateway::{BROKEN, Gateway, Got, Post, eventually, text, webhook};

#[test]
fn a_link_arrives_signed_in_the_language_of_the_person_and_logs_in() {
    let gateway = Gateway::start([]);
    let config = webhook(&gateway.url, "locale = \"sw\"\n[outbox.texts]\nfr = \"Salut {name}: {link} ({hours} h)\"");
    let post = Post::start(&config);
    let id = post.account("bea", &json!({"locale": "fr-CD", "email": "bea@example.org"}));
    let got = gateway.wait_for(1).remove(0);
    got.assert_signed();
    assert!(got.head.starts_with("POST /messages?from=settle HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!(got.header("idempotency-key"), id);
    let message = got.json();
    assert_eq!((text(&message["id"]), text(&message["kind"]), text(&message["account"])), (id.as_str(), "link", "bea"));
    assert_eq!(message["to"], json!({"name": "Bea", "phone": "+256 700 000001", "email": "bea@example.org"}));
    let link = text(&message["link"]);
    assert!(link.starts_with(&format!("{}/_links/", post.server.url())), "{link}");
    assert_eq!(text(&message["text"]), format!("Salut Bea: {link} (24 h)"));
    let done = post.wait_for(&id, "delivered");
    assert_eq!((&done["attempts"], &done["error"], &done["next_try"]), (&json!(1), &Value::Null, &Value::Null));
    assert_eq!(post.log_in(&message, "phone-of-bea"), 200);

    // Who has no language gets that of the configuration; built in, as the programme has none of its own.
    post.account("cyn", &json!({"fullname": "Cyn"}));
    let message = gateway.wait_for(2).remove(1).json();
    assert!(text(&message["text"]).starts_with("Habari Cyn. Kiungo"), "{message}");
}

#[test]
fn a_place_that_changes_hands_sends_the_newcomers_link() {
    let gateway = Gateway::start([]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let operator = post.operator();
    operator.put("/medic?scoped=true", &json!({})).expect(201);
    let below = json!({"_id": "area-1"});
    let documents = json!([
        {"_id": "area-1", "type": "health_center", "name": "Area", "contact": {"_id": "per-ann"}},
        {"_id": "per-ann", "type": "person", "name": "Ann", "parent": below},
    ]);
    operator.post("/medic/_bulk_docs", &json!({"docs": documents})).expect(201);
    let ann = json!({"name": "ann", "password": "tidal-copper-41", "roles": ["chw"], "places": ["area-1"], "contact": "per-ann"});
    operator.post("/_accounts", &ann).expect(201);
    let contact = json!({"name": "Bea", "phone": "+256 1"});
    let body = json!({"contact": contact, "account": {"name": "bea"}, "send": true});
    let tried = operator.post("/medic/_places/area-1/replace?dry_run=true", &body).expect(200).json();
    assert_eq!((&tried["link"], post.listed("").len()), (&Value::Null, 0), "a try sends nothing");
    let handed = operator.post("/medic/_places/area-1/replace", &body).expect(200).json();
    assert_eq!(handed["link"]["token"], Value::Null, "{handed}");
    let message = gateway.wait_for(1).remove(0).json();
    assert_eq!((text(&message["account"]), text(&message["to"]["phone"])), ("bea", "+256 1"));
    assert_eq!(message["id"], handed["link"]["message"]);
    let body = json!({"name": "Cyn", "phone": "+256 2", "send": true});
    operator.post("/medic/_places/area-1/rename_holder", &body).expect(200);
    let message = gateway.wait_for(2).remove(1).json();
    assert_eq!(
        (text(&message["account"]), text(&message["to"]["phone"]), text(&message["to"]["name"])),
        ("bea", "+256 2", "Cyn")
    );
    let body = json!({"contact": {"name": "Dee", "phone": "+256 3"}, "send": true});
    operator.post("/medic/_places/area-1/hand_over", &body).expect(200);
    let message = gateway.wait_for(3).remove(2).json();
    assert_eq!((text(&message["account"]), text(&message["to"]["phone"])), ("bea", "+256 3"));
    assert_eq!(post.log_in(&message, "phone-of-dee"), 200);
}

#[test]
fn a_file_of_accounts_sends_each_of_them_its_own_link_and_none_twice() {
    let gateway = Gateway::start([]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("workers.csv");
    std::fs::write(&file, "username,roles,phone\nbea,chw,+256 1\ncyn,chw,+256 2\ndee,chw,\n").expect("written");
    let import = |result: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
        command.args(["account", "import", "--send"]).arg(&file).arg("--result").arg(folder.path().join(result));
        let url = post.server.url().replace("http://", "http://admin:secret@");
        let output = command.env("SETTLE_URL", url).output().expect("it runs");
        assert!(!output.status.success(), "dee has no telephone");
        std::fs::read_to_string(folder.path().join(result)).expect("a result")
    };
    let result = import("first.csv");
    assert!(!result.contains("/_links/") && result.contains("refused,dee has neither"), "{result}");
    let messages: Vec<Value> = gateway.wait_for(2).iter().map(Got::json).collect();
    for message in &messages {
        assert!(result.contains(&format!("message {}", text(&message["id"]))), "{result}");
        assert_eq!(post.log_in(message, &format!("phone-of-{}", text(&message["account"]))), 200);
    }
    assert_ne!(messages[0]["account"], messages[1]["account"]);
    assert!(!import("second.csv").contains("message "));
    assert_eq!(post.listed("").len(), 2);
}

#[test]
fn what_cannot_be_sent_is_refused_and_nothing_is_made() {
    let post = Post::start("");
    let operator = post.operator();
    let bea = json!({"name": "bea", "roles": ["chw"], "phone": "+256 1", "send": true});
    let refused = operator.post("/_accounts", &bea).expect(400);
    assert!(text(&refused.json()["reason"]).contains("no gateway"), "{}", refused.text());
    operator.get("/_accounts/bea").expect(404);
    assert!(!post.server.data().with_extension("outbox-key").exists(), "no key without a gateway");

    let gateway = Gateway::start([]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let operator = post.operator();
    for (changes, reason) in [
        (json!({"phone": null}), "neither `phone` nor `email`"),
        (json!({"phone": " "}), "neither `phone` nor `email`"),
        (json!({"link": false}), "`send` needs `link`"),
        (json!({"send": "yes"}), "true or false"),
    ] {
        let mut body = bea.clone();
        for (member, value) in changes.as_object().into_iter().flatten() {
            body[member] = value.clone();
        }
        let refused = operator.post("/_accounts", &body).expect(400);
        assert!(text(&refused.json()["reason"]).contains(reason), "{}", refused.text());
        operator.get("/_accounts/bea").expect(404);
    }
    operator.post("/_accounts", &json!({"name": "bea", "roles": ["chw"]})).expect(201);
    operator.post("/_accounts/bea/link", &json!({"send": true})).expect(400);
    assert_eq!(operator.get("/_accounts/bea").json()["link"]["works"], json!(true), "the earlier link was not ended");
    assert!(post.listed("").is_empty() && gateway.got().is_empty());
}

#[test]
fn a_newer_link_a_used_one_and_an_ended_one_call_the_message_off() {
    let gateway = Gateway::start(std::iter::repeat_n(BROKEN, 100));
    let post = Post::start(&webhook(&gateway.url, "").replace("retry_seconds = 1", "retry_seconds = 60"));
    let operator = post.operator();
    let first = post.account("bea", &json!({}));
    post.wait_for(&first, "waiting");
    let token = text(&gateway.wait_for(1)[0].json()["link"]).to_owned();
    let second = operator.post("/_accounts/bea/link", &json!({"send": true})).expect(201).json();
    let second = text(&second["message"]).to_owned();
    assert_eq!(post.message(&first)["state"], json!("cancelled"));
    assert_eq!(post.message(&first)["error"], json!("Another link was made."));
    assert_eq!(post.log_in(&json!({"link": token}), "some-phone-1"), 401);

    // The second one is used although the gateway said that it did not take it.
    let got = gateway.wait_for(2).remove(1).json();
    eventually(|| Some(()).filter(|()| post.message(&second)["state"] == "waiting"));
    assert_eq!(post.log_in(&got, "some-phone-2"), 200);
    assert_eq!(post.message(&second)["error"], json!("The link was used."));

    // A closed account's message is told as cancelled at once.
    let third = operator.post("/_accounts/bea/link", &json!({"send": true})).expect(201).json();
    let third = text(&third["message"]).to_owned();
    gateway.wait_for(3);
    post.wait_for(&third, "waiting");
    operator.post("/_accounts/bea/disable", &json!({})).expect(200);
    let message = post.message(&third);
    assert_eq!((&message["state"], &message["next_try"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(gateway.got().len(), 3);
}

#[test]
fn a_message_is_given_up_with_its_link() {
    let gateway = Gateway::start(std::iter::repeat_n(BROKEN, 100));
    // The second try would come after the link's end.
    let post = Post::start(&webhook(&gateway.url, "").replace("retry_seconds = 1", "retry_seconds = 60"));
    post.server.set_config("settle/link_seconds", "8");
    let id = post.account("bea", &json!({}));
    let message = post.wait_for(&id, "failed");
    assert_eq!(message["error"], json!("the gateway answered 500"));
    std::thread::sleep(Duration::from_secs(9));
    let refused = post.operator().post(&format!("/_outbox/{id}/retry"), &json!({})).expect(409);
    assert!(text(&refused.json()["reason"]).contains("too old"), "{}", refused.text());
}

#[test]
fn a_command_gets_the_message_and_a_file_has_it_on_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (taken, lines) = (folder.path().join("taken.json"), folder.path().join("lines.ndjson"));
    let script = format!("cat > '{}'; env > '{}'", taken.display(), folder.path().join("env").display());
    let command = format!("[outbox]\ngateway = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]");
    let options = crate::support::server::TestServer::options().config(&command);
    let post = Post::with(options.environment("SOME_SECRET", "hidden"));
    let id = post.account("bea", &json!({}));
    post.wait_for(&id, "delivered");
    let message: Value = serde_json::from_str(&std::fs::read_to_string(&taken).expect("a file")).expect("JSON");
    assert_eq!((text(&message["id"]), post.log_in(&message, "phone-of-bea")), (id.as_str(), 200));
    assert!(!std::fs::read_to_string(folder.path().join("env")).expect("a file").contains("hidden"));

    let post = Post::start(&format!("[outbox]\ngateway = \"file\"\nfile = \"{}\"", lines.display()));
    let ids: Vec<String> = (0..30).map(|number| post.account(&format!("bea-{number}"), &json!({}))).collect();
    for id in &ids {
        post.wait_for(id, "delivered");
    }
    let text_of_file = std::fs::read_to_string(&lines).expect("a file");
    let mut sent: Vec<Value> =
        text_of_file.lines().map(|line| serde_json::from_str(line).expect("whole lines")).collect();
    sent.sort_by_key(|message| text(&message["id"]).to_owned());
    let mut wanted = ids.clone();
    wanted.sort();
    assert_eq!(sent.iter().map(|message| text(&message["id"]).to_owned()).collect::<Vec<_>>(), wanted);
    assert_eq!(post.log_in(&sent[7], "some-phone"), 200);
}

#[test]
fn several_devices_log_in_by_several_links_one_after_the_other() {
    let gateway = Gateway::start([]);
    let post = Post::start(&webhook(&gateway.url, ""));
    post.account("bea", &json!({}));
    for number in 0..4 {
        if number > 0 {
            post.operator().post("/_accounts/bea/link", &json!({"send": true})).expect(201);
        }
        let message = gateway.wait_for(number + 1).remove(number).json();
        assert_eq!(post.log_in(&message, &format!("some-phone-{number}")), 200);
        assert_eq!(post.log_in(&message, &format!("some-phone-{number}")), 401, "only once");
    }
    let devices = post.operator().get("/_devices?account=bea").expect(200).json();
    let rows = devices["devices"].as_array().map_or(0, Vec::len);
    assert_eq!(rows, 4, "{devices}");
}
