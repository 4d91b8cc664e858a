//! The three ways to hand a place over (`cht-rules.md` D.8), through the console; afterwards it tells who cared for a household on
//! each day, also for what arrived weeks late.

use super::{Browser, PASSWORD, Phone, fill, whole};
use crate::support::clock::SetClock;
use crate::support::server::TestServer;

const DAY: i64 = 86_400;

/// A server whose days can be chosen; nothing where libfaketime is not installed.
fn in_days() -> Option<(TestServer, SetClock)> {
    let Some(clock) = SetClock::find() else {
        println!("libfaketime is not installed: nothing was tested (apt-get install faketime)");
        return None;
    };
    let server = clock.of(TestServer::options()).start();
    fill(&server, true);
    Some((server, clock))
}

/// The day of the server, as forms call it.
fn today(server: &TestServer) -> String {
    let custody = server.admin().get("/medic/_custody/area-1").expect(200).json();
    let at = custody["at"].as_i64().expect("a time");
    let days = at / DAY;
    // The calendar of days since 1970, by Hinnant.
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z - era * 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let (day, month) =
        (of_year - (153 * from_march + 2) / 5 + 1, if from_march < 10 { from_march + 3 } else { from_march - 9 });
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + i64::from(month <= 2))
}

/// Goes through the wizard as the administrator of the district. Gives what it says before, and what it says afterwards.
fn hand_over(server: &TestServer, how: &str, name: &str, account: &str) -> (String, String) {
    let mut boss = Browser::logged_in(server, "boss", PASSWORD);
    whole(&boss.get("/handover/replace?place=area-1"));
    let fields = [
        ("place", "area-1"),
        ("database", "medic"),
        ("how", how),
        ("name", name),
        ("account", account),
        ("reason", "x"),
    ];
    let preview = whole(&boss.post_checked("/handover/replace", &fields));
    assert!(preview.contains(&format!("name=\"how\" value=\"{how}\"")), "{preview}");
    let done = whole(&boss.post("/handover/replace", &[&fields[..], &[("step", "do")]].concat()));
    assert!(done.contains("/_links/") || done.contains("&#x2f;_links&#x2f;"), "{done}");
    (preview, done)
}

/// What the console answers to who cared for something at the end of a day: the words of its answer.
fn cared(server: &TestServer, id: &str, day: &str) -> String {
    let mut operator = Browser::logged_in(server, "admin", "secret");
    let page = whole(&operator.get(&format!("/custody?id={id}&day={day}")));
    let answer = page.split("role=\"status\"").nth(1).and_then(|rest| rest.split("</p>").next()).expect("an answer");
    answer.to_owned()
}

#[test]
fn each_way_to_hand_over_leaves_who_cared_on_which_day() {
    let Some((server, clock)) = in_days() else { return };
    let phone = Phone::of_ann(&server);
    let mut days = vec![today(&server)];
    let wait = |days: &mut Vec<String>| {
        clock.set(i64::try_from(days.len()).expect("few") * 3 * DAY);
        days.push(today(&server));
    };
    wait(&mut days);
    let (preview, done) = hand_over(&server, "replace", "Bea", "bea");
    assert!(preview.contains("<b>ann</b> is retired") && done.contains(">bea</a>"), "{preview}{done}");
    wait(&mut days);
    let (preview, done) = hand_over(&server, "rename_holder", "Cyn", "");
    assert!(preview.contains("<b>bea</b> goes on") && preview.contains("for earlier work, too"), "{preview}");
    assert!(done.contains(">bea</a>") && !done.contains("take it back"), "only a replacement is taken back: {done}");
    wait(&mut days);
    let (preview, _) = hand_over(&server, "hand_over", "Dan", "");
    assert!(preview.contains("<b>bea</b> goes on") && preview.contains("stays in the data"), "{preview}");
    wait(&mut days);
    phone.push("late", "pat-1");

    for id in ["hh-1", "pat-1", "late", "area-1"] {
        let told: Vec<String> = days.iter().map(|day| cared(&server, id, day)).collect();
        for (told, words) in told.iter().zip(["account ann", "<b>Bea</b>", "<b>Cyn</b>", "<b>Dan</b>", "<b>Dan</b>"]) {
            assert!(told.contains(words), "{id}: {words}: {told}");
        }
    }
    let provenance = server.admin().get("/medic/late?provenance=true").expect(200).json();
    assert_eq!(provenance["_provenance"][0]["received_after_handover"], true, "{provenance}");
    let page = whole(&Browser::logged_in(&server, "boss", PASSWORD).get("/custody?id=area-1"));
    for how in [
        "got an account for the place",
        "replaced the one before",
        "took over the account of",
        "took over the account and the phone",
    ] {
        assert!(page.contains(how), "{how}: {page}");
    }
}

#[test]
fn what_goes_with_a_new_account_is_refused_without_one() {
    let server = super::district(false);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    whole(&boss.get("/handover/replace?place=area-1"));
    for (how, field) in [("rename_holder", "account"), ("hand_over", "place_name"), ("steal", "phone")] {
        let fields =
            [("place", "area-1"), ("how", how), ("name", "Bea"), (field, "bea"), ("reason", "x"), ("step", "do")];
        let refused = boss.post("/handover/replace", &fields).expect(400).text();
        assert!(refused.contains("Not done"), "{refused}");
    }
    assert_eq!(server.admin().get("/_accounts/ann").expect(200).json()["fullname"], super::EVIL);
}
