//! What users of other servers reported about withdrawn rights: an old cookie in the way of the new password (`sync_gateway#4552`),
//! sessions that outlive a password (`sync_gateway#3106`) or the same one saved again (express-pouchdb#268), devices that take their own
//! withdrawal back or get in under another id (thunderbolt#360, #383, #525).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::stage::{DATABASE, MARK, Phone, add_account, log_in, password, reason, stage, try_log_in, visit};
use crate::support::http::Request;
use crate::support::server::TestServer;

const NEW: &str = "quite another password";

fn read(phone: &Phone) -> Request {
    phone.request("GET", &format!("{DATABASE}/visit-ann"), None)
}

#[test]
fn an_old_cookie_keeps_nobody_from_using_the_new_password() {
    for drain in ["", "?drain=none"] {
        let server = stage(TestServer::options());
        let phone = log_in(&server, "ann", "anns-phone");
        let ended = if drain.is_empty() { 403 } else { 401 };
        server.admin().post(&format!("/_accounts/ann/password{drain}"), &json!({"password": NEW})).expect(200);
        assert_eq!(server.anonymous().send(&read(&phone)).status, ended);
        let basic = |word: &str| format!("Basic {}", STANDARD.encode(format!("ann:{word}")));
        let with = |word: &str| server.anonymous().send(&read(&phone).header("Authorization", &basic(word)));
        assert_eq!(with("a guess").status, ended, "a wrong password beside it does not help");
        assert_eq!(with(&password("ann")).status, ended, "the old one neither");
        assert!(with(NEW).expect(200).text().contains(MARK), "the new one beside the old cookie");
        let body = json!({"name": "ann", "password": NEW, "device": {"id": "anns-phone"}});
        let again = server.anonymous().send(&phone.request("POST", "/_session", Some(&body))).expect(200);
        let again = Phone { cookie: again.cookie().expect("a cookie"), ..phone };
        server.anonymous().send(&read(&again)).expect(200);
    }
}

#[test]
fn the_same_password_saved_again_ends_the_sessions_all_the_same() {
    let server = stage(TestServer::options());
    let by_document = log_in(&server, "ann", "anns-phone");
    let admin = server.admin();
    let mut document = admin.get("/_users/org.couchdb.user:ann").expect(200).json();
    document["password"] = password("ann").into();
    admin.put("/_users/org.couchdb.user:ann", &document).expect(201);
    let by_account = log_in(&server, "ann", "anns-tablet");
    admin.post("/_accounts/ann/password", &json!({"password": password("ann")})).expect(200);
    for phone in [&by_document, &by_account] {
        let answer = server.anonymous().send(&read(phone));
        assert_eq!((answer.status, reason(&answer)), (403, "draining".to_owned()), "{}", phone.client);
    }
    let again = log_in(&server, "ann", "anns-phone");
    server.anonymous().send(&read(&again)).expect(200);
}

#[test]
fn no_device_takes_its_own_withdrawal_back() {
    let server = stage(TestServer::options());
    add_account(&server, "cyn");
    let phone = log_in(&server, "ann", "anns-phone");
    let admin = server.admin();
    admin.post(&format!("/_devices/{}/retire", phone.id), &json!({})).expect(200);
    let own = "/_users/org.couchdb.user:ann";
    let mut document = admin.get(own).expect(200).json();
    document["password"] = NEW.into();
    for (method, path, body) in [
        ("PUT", own.to_owned(), document),
        ("DELETE", own.to_owned(), json!({})),
        ("POST", format!("/_devices/{}/retire?drain=999999999", phone.id), json!({})),
        ("POST", "/_accounts/ann/enable".to_owned(), json!({})),
        ("POST", "/_device".to_owned(), json!({"pending": 0, "standing": "active", "ended": null, "cut": null})),
        ("DELETE", "/_session".to_owned(), json!({})),
    ] {
        let sent = phone.send(&server, method, &path, Some(&body));
        if path != "/_session" && path != "/_device" {
            assert!(matches!(sent.status, 403 | 404), "{method} {path}: {}", sent.text());
        }
    }
    // Logging in again, it is the same device; and no other account's password makes it another one's.
    let again = log_in(&server, "ann", "anns-phone");
    assert_eq!(again.id, phone.id);
    let answer = server.anonymous().send(&read(&again));
    assert_eq!((answer.status, reason(&answer)), (403, "draining".to_owned()));
    let of_another = try_log_in(&server, "cyn", &password("cyn"), "anns-phone").expect(200).json();
    assert_ne!(of_another["device"]["id"], json!(phone.id));
    admin.post(&format!("/_devices/{}/cut", phone.id), &json!({})).expect(200);
    let before = super::stage::everything(&server);
    let pushed = again.push(&server, &[again.revision("visit-late", visit("ann", 1))]);
    assert_eq!((pushed.status, reason(&pushed)), (401, "cut".to_owned()));
    assert_eq!(super::stage::everything(&server), before);
}
