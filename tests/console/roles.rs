//! What an auditor and an administrator of accounts find in the console, and what they must not find: no patient, and no form
//! that the API would refuse.

use serde_json::json;

use super::{Browser, EVIL, PASSWORD, district, phone_of_ann, whole};

/// The parts of the console that the menu names.
fn menu(page: &str) -> Vec<&str> {
    let nav = page.split("</nav>").next().and_then(|start| start.split("<nav").nth(1)).expect("a menu");
    nav.split("</a>")
        .filter_map(|item| item.rsplit('>').next())
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

/// Pages about people, of both roles.
fn pages(device: &str) -> Vec<String> {
    let mut pages: Vec<String> = [
        "",
        "/devices",
        "/devices?place=area-1",
        "/accounts",
        "/accounts?text=ann",
        "/accounts/ann",
        "/grants",
        "/audit",
        "/audit?account=ann",
        "/custody",
        "/custody?id=area-1",
        "/custody?id=pat-1",
        "/custody?id=hh-1",
        "/custody?id=nobody",
    ]
    .map(str::to_owned)
    .to_vec();
    pages.push(format!("/devices/{device}"));
    pages
}

fn no_patient(path: &str, page: &str, asked: &str) {
    for word in ["Hush", "v-1", "nobody cared"] {
        assert!(!page.contains(word), "{path}: {word} in {page}");
    }
    let told = page.replace(&format!("value=\"{asked}\""), "");
    assert!(asked.is_empty() || asked == "area-1" || !told.contains(asked), "{path}: {told}");
}

#[test]
fn an_auditor_reads_about_people_and_finds_no_form_and_no_patient() {
    let server = district(true);
    let device = phone_of_ann(&server);
    let auditor = json!({"name": "rita", "password": PASSWORD, "roles": ["auditor"], "link": false});
    server.admin().post("/_accounts", &auditor).expect(201);
    let grant = json!({"to": "ann", "database": "medic", "place": "district", "rights": "read", "until": 4_000_000_000_u64, "reason": "x"});
    server.admin().post("/_grants", &grant).expect(201);
    let mut rita = Browser::logged_in(&server, "rita", PASSWORD);
    for path in pages(&device) {
        let answer = rita.get(&path);
        let page =
            if path.starts_with("/custody?id=") && !path.ends_with("area-1") { answer.text() } else { whole(&answer) };
        assert_eq!(menu(&page), ["Start", "Phones", "Accounts", "Lent places", "Who cared", "Audit"], "{path}");
        assert_eq!(page.matches("method=\"post\"").count(), 1, "only the way out: {path}: {page}");
        no_patient(&path, &page, path.split_once("?id=").map_or("", |(_, id)| id));
    }
    assert!(whole(&rita.get("/devices")).contains("3 documents") && whole(&rita.get("/grants")).contains("district"));
    assert!(whole(&rita.get("/audit?by=admin")).contains("account: create"));
    let custody = whole(&rita.get("/custody?id=area-1"));
    assert!(custody.contains("with the account ann"), "{custody}");
    let offered = [
        "/handover",
        "/handover/replace?place=area-1",
        "/handover/undo?place=area-1",
        "/accounts/new",
        "/cards",
        "/grants/new",
        "/accounts/ann/change",
        "/accounts/ann/retire",
        "/escrow",
        "/escrow/1",
    ];
    for path in offered {
        assert_eq!(rita.get(path).status, 404, "{path}");
    }
    rita.get("").expect(200);
    let cut = format!("/devices/{device}/cut");
    let fields = [
        ("place", "area-1"),
        ("name", "Bea"),
        ("roles", "chw"),
        ("reason", "left"),
        ("step", "do"),
        ("sure", "true"),
        ("database", "medic"),
    ];
    for path in [
        "/handover/replace",
        "/handover/undo",
        "/accounts/ann/disable",
        "/accounts/ann/link",
        "/accounts/ann/retire",
        "/accounts/ann/change",
        "/accounts/new",
        "/cards",
        &cut,
        "/escrow/1/discard",
    ] {
        assert_eq!(rita.post(path, &fields).status, 404, "{path}");
    }
    let ann = server.admin().get("/_accounts/ann").expect(200).json();
    assert_eq!((&ann["state"], &ann["link"]), (&json!("active"), &json!(null)), "nothing was changed");
}

#[test]
fn an_administrator_of_accounts_works_and_finds_no_patient() {
    let server = district(true);
    let device = phone_of_ann(&server);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    for path in pages(&device) {
        let answer = boss.get(&path);
        let page =
            if path.starts_with("/custody?id=") && !path.ends_with("area-1") { answer.text() } else { whole(&answer) };
        assert_eq!(
            menu(&page),
            ["Start", "Phones", "Hand over", "Accounts", "Lent places", "Who cared", "Audit"],
            "{path}"
        );
        no_patient(&path, &page, path.split_once("?id=").map_or("", |(_, id)| id));
        assert!(!page.contains("exposure") && !page.contains("steward"), "{path}: {page}");
    }
    for path in ["/handover", "/accounts/ann/change", "/accounts/ann/retire", "/cards", "/grants/new"] {
        no_patient(path, &whole(&boss.get(path)), "");
    }
    // What is there and what is not are one page, but for what was typed.
    let asked = |boss: &mut Browser, id: &str| {
        let answer = boss.get(&format!("/custody?id={id}"));
        (answer.status, answer.text().replace(&boss.token, "").replace(id, "ID"))
    };
    let absent = asked(&mut boss, "nobody");
    for id in ["pat-1", "hh-1", "v-1", "per-ann"] {
        assert_eq!(asked(&mut boss, id), absent, "{id}");
    }
    assert!(whole(&boss.get("/custody?id=area-1")).contains("with the account ann"));
    let evil = EVIL.replace('<', "&lt;");
    assert!(whole(&boss.get("/accounts")).contains(evil.split('>').next().expect("a word")));
}
