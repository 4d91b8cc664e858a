//! Links: used once, ended by the next one, too old at some time, never burnt by looking, and not to be guessed.

#![expect(clippy::disallowed_methods, reason = "a link must get too old")]

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::village::{DATABASE, Village, text};
use crate::support::http::Request;

fn with_bea() -> (Village, Value) {
    let village = Village::start();
    let body = json!({"name": "bea", "roles": ["chw"], "places": ["area-1"]});
    let made = village.operator().post("/_accounts", &body).expect(201).json();
    (village, made["link"].clone())
}

fn refusal(village: &Village, token: &Value) -> (u16, String) {
    match village.log_in(&json!({"link": token, "device": {"id": "some-phone"}})) {
        Ok(phone) => panic!("{} is logged in", phone.name),
        Err(answer) => (answer.status, text(&answer.json()["reason"]).to_owned()),
    }
}

#[test]
fn a_link_logs_in_once() {
    let (village, link) = with_bea();
    let (address, token) = (text(&link["link"]), text(&link["token"]));
    assert_eq!(address, format!("{}/_links/{token}", village.server.url()));
    assert_eq!(token.len(), 43);
    let phone = village.phone_by_link(&link, "bea-phone");
    assert_eq!((phone.name.as_str(), &phone.standing()["named"]), ("bea", &json!(true)));
    assert!(phone.listed().contains("area-1"));
    assert_eq!(refusal(&village, &link["token"]), (401, "This link was used already. Ask for a new one.".into()));
    // Another device gets another link; the first stays logged in.
    let next = village.operator().post("/_accounts/bea/link", &json!({})).expect(201).json();
    let second = village.phone_by_link(&next, "bea-tablet");
    assert!(phone.listed().contains("area-1") && second.listed().contains("area-1"));
    village.server.client_as("bea", "").get(&format!("/{DATABASE}/area-1")).expect(401);
}

#[test]
fn of_many_who_use_it_at_the_same_moment_one_gets_in() {
    let (village, link) = with_bea();
    let village = &village;
    let link = &link;
    let (entered, refused) = thread::scope(|scope| {
        let tries: Vec<_> = (0..16)
            .map(|number| {
                let body = json!({"link": link["token"], "device": {"id": format!("phone-{number:03}")}});
                scope.spawn(move || village.log_in(&body).map_err(|answer| answer.status))
            })
            .collect();
        let outcomes: Vec<_> = tries.into_iter().map(|one| one.join().expect("no panic")).collect();
        let entered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        (entered, outcomes.into_iter().filter_map(Result::err).collect::<Vec<_>>())
    });
    assert_eq!((entered, refused), (1, vec![401; 15]));
}

#[test]
fn a_new_link_a_new_password_and_a_closed_account_end_it() {
    let (village, first) = with_bea();
    let second = village.operator().post("/_accounts/bea/link", &json!({})).expect(201).json();
    let ended = (401, "This link was ended. Ask for a new one.".to_owned());
    assert_eq!(refusal(&village, &first["token"]), ended);
    village.operator().post("/_accounts/bea/password", &json!({"password": "some-thing-long"})).expect(200);
    assert_eq!(refusal(&village, &second["token"]), ended);
    let third = village.operator().post("/_accounts/bea/link", &json!({})).expect(201).json();
    village.operator().post("/_accounts/bea/disable", &json!({})).expect(200);
    assert_eq!(refusal(&village, &third["token"]), ended);
    village.operator().post("/_accounts/bea/link", &json!({})).expect(403);
    village.operator().post("/_accounts/bea/enable", &json!({})).expect(200);
    assert_eq!(refusal(&village, &third["token"]), ended, "also when the account is open again");
    village.operator().post("/_accounts/nobody/link", &json!({})).expect(404);
}

#[test]
fn a_link_gets_too_old() {
    let (village, _) = with_bea();
    village.server.set_config("settle/link_seconds", "1");
    let link = village.operator().post("/_accounts/bea/link", &json!({})).expect(201).json();
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(refusal(&village, &link["token"]), (401, "This link is too old. Ask for a new one.".into()));
    assert_eq!(village.get("/_accounts/bea")["link"]["works"], json!(false));
}

/// Guesses are slowed, and whoever has a link is not.
#[test]
fn guesses_are_throttled_and_a_right_link_is_not() {
    let (village, link) = with_bea();
    let guess = |number: u8| {
        let mut token = text(&link["token"]).to_owned();
        token.replace_range(0..1, ["A", "B", "C", "D", "E", "F", "G", "H"][usize::from(number)]);
        token
    };
    let guesses: Vec<String> = (0..8).map(guess).filter(|token| token != text(&link["token"])).take(7).collect();
    let mut statuses = Vec::new();
    for token in &guesses {
        statuses.push(refusal(&village, &json!(token)).0);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 403, 403]);
    assert_eq!(refusal(&village, &json!("no token at all")).0, 403);
    village.phone_by_link(&link, "bea-phone");
}

/// Previews of messengers fetch links. What they get has no script and no name, and changes nothing.
#[test]
fn looking_at_a_link_does_not_use_it_up() {
    let (village, link) = with_bea();
    let client = village.server.anonymous();
    let path = format!("/_links/{}", text(&link["token"]));
    let page = client.get(&path).expect(200);
    client.send(&Request::new("HEAD", &path)).expect(200);
    let unknown = client.get("/_links/anything").expect(200);
    let without_nonce = |html: String| {
        let (before, rest) = html.split_once("nonce=\"").expect("a nonce");
        format!("{before}{}", rest.split_once('"').expect("its end").1)
    };
    assert_eq!(
        without_nonce(page.text()),
        without_nonce(unknown.text()),
        "the page does not tell whether a link works"
    );
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((page.header("cache-control"), page.header("referrer-policy")), (Some("no-store"), Some("no-referrer")));
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none';") && policy.contains("form-action 'self'"), "{policy}");
    let html = page.text();
    assert!(!html.contains("<script") && !html.contains("http") && !html.contains("bea"), "{html}");
    assert!(html.contains("<form method=\"post\">"));

    let form = || Request::new("POST", &path).header("content-type", "application/x-www-form-urlencoded");
    client.send(&form().header("sec-fetch-site", "cross-site")).expect(403);
    let done = client.send(&form().header("sec-fetch-site", "same-origin")).expect(200);
    let cookie = done.cookie().expect("a cookie");
    assert!(done.text().contains("logged in as bea"), "{}", done.text());
    let session = client.send(&Request::new("GET", "/_session").header("cookie", &cookie)).json();
    assert_eq!(session["userCtx"]["name"], json!("bea"));
    let again = client.send(&form());
    assert_eq!(again.status, 401);
    assert!(again.text().contains("used already") && again.header("set-cookie").is_none(), "{}", again.text());
}

#[test]
fn the_page_leads_on_within_the_server_only() {
    let (village, link) = with_bea();
    village.server.set_config("settle/public_url", "https://sync.example.org/");
    village.server.set_config("settle/link_next", "//elsewhere.example");
    let client = village.server.anonymous();
    let form = |token: &str| client.send(&Request::new("POST", &format!("/_links/{token}")));
    assert_eq!(form(text(&link["token"])).status, 200);
    village.server.set_config("settle/link_next", "/app/");
    let next = village.operator().post("/_accounts/bea/link", &json!({})).expect(201).json();
    let token = text(&next["token"]);
    assert_eq!(text(&next["link"]), format!("https://sync.example.org/_links/{token}"));
    let answer = form(token);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some(format!("{}/app/", village.server.url()).as_str()))
    );
}
