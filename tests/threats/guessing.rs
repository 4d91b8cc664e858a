//! T3, T2: guessing passwords, and a thousand people behind one address. Whoever knows the own password is not locked out by
//! the guesses of a neighbour, and no lock can be guessed past.

use serde_json::{Value, json};

use super::stage::{DATABASE, log_in, password, reason, stage, try_log_in, with_clock};
use crate::support::http::Request;
use crate::support::server::TestServer;

const USERS: usize = 1_000;
const SHARED: &str = "shared-1234";
/// PBKDF2 with SHA-1 and one round, so that a thousand logins take no minute.
const SHARED_KEY: &str = "76e51fa6413da3365b1131e4844bb4a7ab67ce9f";

/// A thousand accounts as a bulk import makes them: all with the same password.
fn a_thousand_accounts(server: &TestServer) {
    let accounts: Vec<Value> = (0..USERS)
        .map(|number| {
            json!({"_id": format!("org.couchdb.user:user{number}"), "type": "user", "name": format!("user{number}"),
                "roles": ["chw"], "password_scheme": "pbkdf2", "iterations": 1, "salt": "salt", "derived_key": SHARED_KEY})
        })
        .collect();
    let answer = server.admin().post("/_users/_bulk_docs", &json!({"docs": accounts})).expect(201);
    assert!(!answer.text().contains("\"error\""), "{}", answer.text());
}

fn status(server: &TestServer, name: &str, password: &str) -> u16 {
    server.client_as(name, password).send(&Request::new("GET", "/_session")).status
}

/// Guesses at every account until the whole address is locked; the accounts' own limits are not reached.
fn attack(server: &TestServer) {
    let mut locked = 0;
    for round in 0..4 {
        for number in 0..USERS {
            let answer = status(server, &format!("user{number}"), &format!("guess {round}"));
            assert!(matches!(answer, 401 | 403), "{answer}");
            locked += usize::from(answer == 403);
        }
    }
    // Names that were never seen from here are locked with the address.
    assert_eq!(status(server, "nobody", "anything"), 403, "the address is locked; {locked} guesses were refused");
}

#[test]
fn one_attacker_behind_the_address_of_a_thousand_users_locks_out_nobody_else() {
    let Some((clock, options)) = with_clock() else { return };
    let server = stage(options);
    a_thousand_accounts(&server);
    let everybody = |when: &str| {
        let out: Vec<usize> =
            (0..USERS).filter(|number| status(&server, &format!("user{number}"), SHARED) != 200).collect();
        assert!(out.is_empty(), "{when}: {} users are locked out, such as {:?}", out.len(), out.first());
    };
    let phone = log_in(&server, "ann", "anns-phone");
    everybody("before");
    attack(&server);
    everybody("during the attack");
    clock.set(1_000); // what was verified is forgotten
    attack(&server);
    everybody("during the next attack, when every password must be verified again");
    phone.get(&server, &format!("{DATABASE}/visit-ann")).expect(200);
    try_log_in(&server, "ann", &password("ann"), "anns-new-phone").expect(200);
}

#[test]
fn an_enrolled_device_logs_in_again_while_its_account_is_under_attack() {
    let Some((clock, options)) = with_clock() else { return };
    let server = stage(options);
    let phone = log_in(&server, "ann", "anns-phone");
    clock.set(1_000); // her password was verified long ago
    for number in 0..10 {
        try_log_in(&server, "ann", &format!("guess {number}"), "thiefs-phone");
    }
    let stranger = try_log_in(&server, "ann", &password("ann"), "another-phone");
    assert_eq!(stranger.status, 403, "from this address nothing more is tried: {}", stranger.text());
    let body = json!({"name": "ann", "password": password("ann"), "device": {"id": phone.client}});
    let own = phone.send(&server, "POST", "/_session", Some(&body));
    assert_eq!(own.status, 200, "the device shows its cookie: {}", own.text());
    let forged = phone.send(&server, "POST", "/_session", Some(&json!({"name": "ben", "password": "x"})));
    assert_eq!(forged.status, 401, "the cookie speaks for its own account only");
    for number in 0..110 {
        let body = json!({"name": "ann", "password": format!("guess {number}")});
        phone.send(&server, "POST", "/_session", Some(&body));
    }
    let guessed = phone.send(&server, "POST", "/_session", Some(&body));
    assert_eq!(guessed.status, 403, "a stolen phone is no way to guess");
}

#[test]
fn a_lock_cannot_be_guessed_past_while_the_password_is_remembered() {
    let server = stage(TestServer::options());
    let basic = |password: &str| server.client_as("ann", password).get(&format!("{DATABASE}/visit-ann"));
    assert_eq!(basic(&password("ann")).status, 200);
    for number in 0..5 {
        assert_eq!(basic(&format!("guess {number}")).status, 401);
    }
    assert_eq!(basic("guess").status, 403, "locked");
    assert_eq!(basic(&password("ann")).status, 200, "her sync goes on");
    for number in 0..200 {
        assert_eq!(basic(&format!("further guess {number}")).status, 403);
    }
    let answer = basic(&password("ann"));
    assert_eq!(answer.status, 403, "after a hundred guesses the lock holds for everybody: {}", reason(&answer));
}
