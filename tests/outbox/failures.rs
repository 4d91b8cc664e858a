//! Gateways that are down, slow, or mad; servers that are killed. A message arrives all the same, under the same id.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gateway::{Answer, BROKEN, Gateway, OK, Post, eventually, text, webhook};

/// The same message each time.
fn ids(gateway: &Gateway) -> Vec<String> {
    gateway.got().iter().map(|got| text(&got.json()["id"]).to_owned()).collect()
}

#[test]
fn after_500_the_same_message_comes_again() {
    let gateway = Gateway::start([BROKEN, OK]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let id = post.account("bea", &json!({}));
    let done = post.wait_for(&id, "delivered");
    assert_eq!((ids(&gateway), &done["attempts"]), (vec![id.clone(), id], &json!(2)));
    let got = gateway.got();
    assert_eq!(got[0].json()["link"], got[1].json()["link"]);
    got[1].assert_signed();
}

#[test]
fn garbage_and_answers_that_break_off_are_no_answers() {
    let half = Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    for answer in [Answer::Bytes("\0\x01 not HTTP at all\r\n\r\n"), Answer::Bytes(""), half] {
        let shown = format!("{answer:?}");
        let gateway = Gateway::start([answer, OK]);
        let post = Post::start(&webhook(&gateway.url, ""));
        let id = post.account("bea", &json!({}));
        post.wait_for(&id, "delivered");
        assert_eq!(ids(&gateway), [id.clone(), id], "{shown}");
    }
}

#[test]
fn a_gateway_that_is_down_gets_it_when_it_is_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let post = Post::start(&webhook(&format!("http://{address}/"), ""));
    let id = post.account("bea", &json!({}));
    let message = eventually(|| Some(post.message(&id)).filter(|message| message["error"] != Value::Null));
    assert_eq!(message["state"], json!("waiting"), "{message}");
    assert!(text(&message["error"]).contains("cannot connect"), "{message}");
    assert!(message["next_try"].as_u64() >= message["made"].as_u64(), "{message}");
    let gateway = Gateway::on(TcpListener::bind(address).expect("the same port"), []);
    post.wait_for(&id, "delivered");
    assert_eq!(ids(&gateway), [id]);
}

#[test]
fn what_is_refused_is_not_tried_again_until_somebody_asks() {
    let refuse = Answer::Bytes("HTTP/1.1 422 No\r\ncontent-length: 7\r\n\r\nbad num");
    let gateway = Gateway::start([refuse]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let id = post.account("bea", &json!({}));
    let failed = post.wait_for(&id, "failed");
    assert_eq!((&failed["error"], &failed["attempts"]), (&json!("the gateway answered 422"), &json!(1)));
    assert_eq!(post.listed("?state=failed").len(), 1);
    let metrics = post.operator().get("/_metrics").expect(200).text();
    assert!(metrics.contains("settle_outbox_messages{state=\"failed\"} 1\n"), "{metrics}");
    post.operator().post(&format!("/_outbox/{id}/retry"), &json!({"reason": "the number is right"})).expect(200);
    post.wait_for(&id, "delivered");
    assert_eq!(ids(&gateway), [id.clone(), id.clone()]);
    post.operator().post(&format!("/_outbox/{id}/retry"), &json!({})).expect(409);
    assert_eq!(post.log_in(&gateway.got()[1].json(), "phone-of-bea"), 200);
}

#[test]
fn a_message_is_given_up_after_so_many_tries() {
    let gateway = Gateway::start(std::iter::repeat_n(BROKEN, 50));
    let post = Post::start(&webhook(&gateway.url, "attempts = 2"));
    let id = post.account("bea", &json!({}));
    let failed = post.wait_for(&id, "failed");
    assert_eq!(failed["attempts"], json!(2));
    post.operator().post(&format!("/_outbox/{id}/retry"), &json!({})).expect(200);
    let failed = post.wait_for(&id, "failed");
    assert_eq!(failed["attempts"], json!(4), "as often as at first");
}

#[test]
fn a_gateway_that_asks_for_peace_gets_it() {
    let later = Answer::Bytes("HTTP/1.1 429 Later\r\nretry-after: 4\r\ncontent-length: 0\r\n\r\n");
    let gateway = Gateway::start([later]);
    let post = Post::start(&webhook(&gateway.url, ""));
    let id = post.account("bea", &json!({}));
    gateway.wait_for(1);
    let begun = Instant::now();
    gateway.wait_for(2);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    post.wait_for(&id, "delivered");
}

/// Four slow tries at a time: the fifth waits, writes do not.
#[test]
fn a_slow_gateway_holds_nothing_but_its_own_messages() {
    let pause = Duration::from_secs(12);
    let gateway = Gateway::start(std::iter::repeat_n(Answer::Slow(pause), 4));
    let post = Post::start(&webhook(&gateway.url, ""));
    let operator = post.operator();
    operator.put("/visits", &json!({})).expect(201);
    let begun = Instant::now();
    let sent: Vec<String> = (0..5).map(|number| post.account(&format!("bea-{number}"), &json!({}))).collect();
    gateway.wait_for(4);
    for number in 0..50 {
        operator.put(&format!("/visits/doc-{number}"), &json!({})).expect(201);
    }
    assert_eq!(post.listed("?state=sending").len(), 4);
    assert!(begun.elapsed() < pause, "{:?}", begun.elapsed());
    for id in &sent {
        post.wait_for(id, "delivered");
    }
    assert_eq!(gateway.got().len(), 5);
}

#[test]
fn a_gateway_that_never_answers_is_not_waited_for() {
    let gateway = Gateway::start([Answer::Slow(Duration::from_secs(60))]);
    let post = Post::start(&webhook(&gateway.url, "timeout_seconds = 1"));
    let id = post.account("bea", &json!({}));
    let done = post.wait_for(&id, "delivered");
    assert_eq!(done["attempts"], json!(2));
}

#[test]
fn what_was_staged_is_delivered_after_a_kill() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut post = Post::start(&webhook(&format!("http://{address}/"), ""));
    let id = post.account("bea", &json!({}));
    post.server.kill9();
    let gateway = Gateway::on(TcpListener::bind(address).expect("the same port"), []);
    post.server.restart();
    post.wait_for(&id, "delivered");
    assert_eq!(ids(&gateway), [id]);
    assert_eq!(post.log_in(&gateway.got()[0].json(), "phone-of-bea"), 200);
}

#[test]
fn what_was_being_sent_at_a_kill_is_sent_again_under_the_same_id() {
    let gateway = Gateway::start([Answer::Slow(Duration::from_secs(60))]);
    let mut post = Post::start(&webhook(&gateway.url, ""));
    let id = post.account("bea", &json!({}));
    gateway.wait_for(1);
    assert_eq!(post.message(&id)["state"], json!("sending"));
    post.server.kill9();
    post.server.restart();
    let done = post.wait_for(&id, "delivered");
    assert_eq!((ids(&gateway), &done["attempts"]), (vec![id.clone(), id], &json!(2)));
    assert_eq!(gateway.got()[0].json()["link"], gateway.got()[1].json()["link"]);
}
