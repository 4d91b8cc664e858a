//! `since`: what is no token is refused, a token of another database begins again from the start.

use serde_json::{Value, json};

use super::Refusals;
use crate::support::http::Request;

fn rows(answer: &Value) -> usize {
    answer["results"].as_array().map_or(usize::MAX, Vec::len)
}

#[test]
fn a_since_that_is_no_token_is_refused() {
    let mut refusals = Refusals::start();
    let wanted = (400, "bad_request", "Malformed sequence supplied in 'since' parameter.");
    for junk in ["5", "-1", "x", "", "5-", "5-AAAA", "5-!!!!", "null", "[]", "%22%22", "0-0", "1e9"] {
        refusals.refused(&Request::new("GET", &format!("/refusals/_changes?since={junk}")), wanted);
    }
    let long = format!("5-{}", "A".repeat(10_000));
    refusals.refused(&Request::new("GET", &format!("/refusals/_changes?since={long}")), wanted);
    refusals.refused(&Request::new("GET", "/refusals/_changes").header("Last-Event-ID", "junk"), wanted);
    refusals.finish();
}

#[test]
fn a_token_of_another_database_begins_again() {
    let refusals = Refusals::start();
    let admin = &refusals.admin;
    admin.put("/elsewhere", &json!({})).expect(201);
    for number in 0..5 {
        admin.put(&format!("/elsewhere/{number}"), &json!({})).expect(201);
    }
    let end = |path: &str| admin.get(path).expect(200).json()["last_seq"].as_str().unwrap_or_default().to_owned();
    let (here, there) = (end("/refusals/_changes"), end("/elsewhere/_changes"));
    let since = |token: &str| rows(&admin.get(&format!("/refusals/_changes?since={token}")).expect(200).json());
    assert_eq!(since("0"), 1);
    assert_eq!((since(&here), since(&format!("%22{here}%22"))), (0, 0), "the own token, plain and quoted");
    assert_eq!((since(&there), since(&format!("%22{there}%22"))), (1, 1), "another database's token");
    admin.delete("/elsewhere").expect(200);
    admin.put("/elsewhere", &json!({})).expect(201);
    admin.put("/elsewhere/new", &json!({})).expect(201);
    let again = admin.get(&format!("/elsewhere/_changes?since={there}")).expect(200).json();
    assert_eq!(rows(&again), 1, "a token of a database of this name that was deleted");
    admin.delete("/elsewhere").expect(200);
    refusals.finish();
}
