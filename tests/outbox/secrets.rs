//! Where a token must not be: logs, the audit log, what the API shows, the store. And who may see and touch a message.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::gateway::{BROKEN, Gateway, Post, text, webhook};
use crate::support::server::TestServer;

fn files_below(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, found),
            path => found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default())),
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn token_of(message: &Value) -> String {
    text(&message["link"]).rsplit('/').next().unwrap_or_default().to_owned()
}

#[test]
fn a_token_is_in_no_log_no_answer_and_no_file() {
    let gateway = Gateway::start([BROKEN, BROKEN]);
    let options = TestServer::options().config(&webhook(&gateway.url, "")).environment("SETTLE_LOG", "trace");
    let mut post = Post::with(options);
    let id = post.account("bea", &json!({}));
    let token = token_of(&gateway.wait_for(1).remove(0).json());
    assert_eq!(token.len(), 43);
    let operator = post.operator();
    let answers = |post: &Post| {
        let shown = ["/_outbox", "/_accounts", "/_accounts/bea", "/_audit?limit=1000", "/_users/org.couchdb.user:bea"];
        shown.map(|path| operator.get(path).expect(200).text()).join("\n") + &post.server.log()
    };
    let while_waiting = answers(&post);
    post.wait_for(&id, "delivered");
    let all = while_waiting + &answers(&post);
    for word in ["message.stage", "message.deliver", &id] {
        assert!(all.contains(word), "{word}");
    }
    assert!(!all.contains(&token), "{all}");
    post.server.stop();
    let mut files = Vec::new();
    files_below(&post.server.data(), &mut files);
    assert!(files.iter().any(|(_, bytes)| contains(bytes, id.as_bytes())), "what is looked for could be found");
    let plain = URL_SAFE_NO_PAD.decode(&token).expect("a token");
    let digits: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
    for (file, bytes) in files {
        for form in [token.as_bytes(), &plain, digits.as_bytes()] {
            assert!(!contains(&bytes, form), "{file}");
        }
    }
}

#[test]
fn without_the_key_beside_the_data_a_message_opens_no_link() {
    let gateway = Gateway::start(std::iter::repeat_n(BROKEN, 50));
    let mut post = Post::start(&webhook(&gateway.url, ""));
    let id = post.account("bea", &json!({}));
    gateway.wait_for(1);
    post.server.stop();
    let key = post.server.data().with_extension("outbox-key");
    std::fs::remove_file(&key).expect("the key is beside the data");
    let sent = gateway.got().len();
    post.server.restart();
    let failed = post.wait_for(&id, "failed");
    assert!(text(&failed["error"]).contains("another key"), "{failed}");
    assert_eq!(gateway.got().len(), sent);
}

#[test]
fn a_message_that_is_called_off_takes_its_link_with_it() {
    let gateway = Gateway::start([BROKEN, BROKEN]);
    let post = Post::start(&webhook(&gateway.url, "").replace("retry_seconds = 1", "retry_seconds = 60"));
    let id = post.account("bea", &json!({}));
    let message = gateway.wait_for(1).remove(0).json();
    post.wait_for(&id, "waiting");
    let path = format!("/_outbox/{id}/cancel");
    let tried = post.operator().post(&format!("{path}?dry_run=true"), &json!({})).expect(200).json();
    assert_eq!(tried["message"]["state"], json!("cancelled"));
    assert_eq!(post.message(&id)["state"], json!("waiting"), "it was only tried");
    let done = post.operator().post(&path, &json!({"reason": "wrong number"})).expect(200).json();
    assert_eq!(done["message"]["state"], json!("cancelled"));
    assert_eq!(post.log_in(&message, "some-phone"), 401);
    post.operator().post(&path, &json!({})).expect(409);
    let audit = post.operator().get("/_audit?action=message.cancel").expect(200).json();
    assert_eq!(
        (audit["entries"].as_array().map(Vec::len), &audit["entries"][0]["reason"]),
        (Some(1), &json!("wrong number"))
    );
}

/// Two areas with an administrator of accounts each.
#[test]
fn only_who_manages_an_account_knows_of_its_messages() {
    let gateway = Gateway::start([]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let operator = post.operator();
    operator.put("/medic?scoped=true", &json!({})).expect(201);
    let area = |id: &str| json!({"_id": id, "type": "health_center", "name": id});
    operator.post("/medic/_bulk_docs", &json!({"docs": [area("area-1"), area("area-2")]})).expect(201);
    let secret = "tidal-copper-41";
    for (name, role, place) in
        [("meg", "account_admin", "area-1"), ("max", "account_admin", "area-2"), ("cho", "chw", "area-1")]
    {
        let body = json!({"name": name, "roles": [role], "places": [place], "password": secret});
        operator.post("/_accounts", &body).expect(201);
    }
    let id = post.account("bea", &json!({"places": ["area-1"]}));
    post.wait_for(&id, "delivered");
    post.account("zed", &json!({"places": ["area-2"]}));
    let (meg, max, cho) = (
        post.server.client_as("meg", secret),
        post.server.client_as("max", secret),
        post.server.client_as("cho", secret),
    );
    let own = meg.get("/_outbox").expect(200).json();
    let names: Vec<&str> = own["rows"].as_array().into_iter().flatten().map(|row| text(&row["account"])).collect();
    assert_eq!((names, &own["webhooks"]), (vec!["bea"], &Value::Null));
    let absent = max.post(&format!("/_outbox/{}/retry", "0".repeat(32)), &json!({})).expect(404);
    for act in ["retry", "cancel"] {
        let refused = max.post(&format!("/_outbox/{id}/{act}"), &json!({})).expect(404);
        assert_eq!(refused.text(), absent.text());
        max.post(&format!("/_outbox/none/{act}"), &json!({})).expect(404);
    }
    assert_eq!(cho.get("/_outbox").expect(404).text(), cho.get("/_accounts").text());
    let anonymous = post.server.anonymous();
    assert_eq!(anonymous.get("/_outbox").text(), anonymous.get("/_accounts").text());
}

#[test]
fn the_list_has_pages_and_filters() {
    let gateway = Gateway::start([]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let made: Vec<String> = (0..5).map(|number| post.account(&format!("bea-{number}"), &json!({}))).collect();
    for id in &made {
        post.wait_for(id, "delivered");
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = post.operator().get(&format!("/_outbox{query}")).expect(200).json();
        let rows = page["rows"].as_array().cloned().expect("rows");
        assert!(rows.len() <= 2);
        seen.extend(rows.iter().map(|row| text(&row["id"]).to_owned()));
        match page["next"].as_str() {
            Some(next) => query = format!("?limit=2&start_after={next}"),
            None => break,
        }
    }
    let mut wanted = made.clone();
    wanted.sort();
    wanted.reverse();
    assert_eq!(seen, wanted, "the newest first, each once");
    assert_eq!(post.listed("?account=bea-3").len(), 1);
    assert_eq!((post.listed("?state=delivered").len(), post.listed("?state=waiting").len()), (5, 0));
    for query in ["?state=lost", "?limit=0", "?start_after=x"] {
        post.operator().get(&format!("/_outbox{query}")).expect(400);
    }
}
