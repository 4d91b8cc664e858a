//! Printed cards: a phone that reads the code of a card logs in with it.

use serde_json::{Value, json};

use super::command_line::settle;
use super::village::{Village, text};
use crate::support::http::Response;

/// The texts of all QR codes of a page, read as a camera reads them.
fn codes_of(page: &str) -> Vec<String> {
    let pictures = page.split("<svg ").skip(1).filter_map(|rest| rest.split("</svg>").next());
    pictures.map(read_code).collect()
}

fn read_code(picture: &str) -> String {
    let side: usize = picture.split(['"', ' ']).nth(4).and_then(|side| side.parse().ok()).expect("a side");
    let path = picture.split("d=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
    let mut dark = vec![false; side * side];
    for module in path.split('M').skip(1) {
        let mut numbers = module.split(['h', ' ']).map_while(|number| number.parse::<usize>().ok());
        let (x, y) = (numbers.next().expect("x"), numbers.next().expect("y"));
        dark[y * side + x] = true;
    }
    const PIXELS: usize = 4;
    let shade = |x: usize, y: usize| if dark[y / PIXELS * side + x / PIXELS] { 0 } else { 255 };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(side * PIXELS, side * PIXELS, shade);
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "one code in a picture");
    grids[0].decode().expect("readable").1
}

fn sheet(village: &Village, body: &Value) -> Response {
    village.operator().post("/_accounts/_sheet", body)
}

/// Ann with a password, Bea and Cyn with links that nobody has used; Cyn in the other area.
fn with_workers() -> Village {
    let village = Village::with_ann();
    for (name, place, more) in [
        ("bea", "area-1", json!({"fullname": "Bea <b>", "locale": "sw"})),
        ("cyn", "area-2", json!({"fullname": "Cyn"})),
    ] {
        let mut body = json!({"name": name, "roles": ["chw"], "places": [place]});
        for (member, value) in more.as_object().into_iter().flatten() {
            body[member] = value.clone();
        }
        village.operator().post("/_accounts", &body).expect(201);
    }
    village
}

#[test]
fn a_phone_reads_a_card_and_is_logged_in() {
    let village = with_workers();
    village.server.set_config("settle/public_url", "https://sync.example.org");
    let answer = sheet(&village, &json!({"accounts": ["cyn", "bea", "bea"], "locale": "fr"})).expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let page = answer.text();
    assert!(!page.contains("<script") && !page.contains("{{") && page.contains("Bea &lt;b&gt;"), "{page}");
    let (cyn, bea) = page.split_once("Bea &lt;b&gt;").expect("two cards");
    assert!(
        cyn.contains("<h2>Cyn</h2>") && cyn.contains("Area of per-zoe · cyn") && cyn.contains("Valable jusqu"),
        "{cyn}"
    );
    assert!(bea.contains("Area of per-ann · bea") && bea.contains("Mwisho wa kutumika"), "{bea}");
    let codes = codes_of(&page);
    assert_eq!(codes.len(), 2, "an account has one card");
    for (code, name) in codes.iter().zip(["cyn", "bea"]) {
        assert!(page.contains(&format!("<code>{code}</code>")), "{code}");
        let token = code.strip_prefix("https://sync.example.org/_links/").expect("the public address");
        assert_eq!(village.phone_by_link(&json!({"token": token}), &format!("phone-of-{name}")).name, name);
    }
    let audit = village.get("/_audit?action=sheet");
    assert_eq!(audit["entries"][0]["details"]["cards"], json!(2), "{audit}");
    assert!(!audit.to_string().contains(codes[0].rsplit('/').next().expect("a token")));
}

#[test]
fn a_places_sheet_has_those_who_have_not_begun() {
    let village = with_workers();
    let names = |query: &str, body: &Value| {
        let answer = village.operator().post(&format!("/_accounts/_sheet{query}"), body).expect(200).json();
        answer["accounts"].as_array().into_iter().flatten().map(|name| text(name).to_owned()).collect::<Vec<_>>()
    };
    let tried = |body: Value| names("?dry_run=true", &body);
    assert_eq!(tried(json!({"place": "area-1"})), ["bea"]);
    assert_eq!(tried(json!({"place": "area-1", "all": true})), ["ann", "bea"]);
    assert_eq!(tried(json!({"place": "district"})), ["bea", "cyn"]);
    village.operator().post("/_accounts/bea/disable", &json!({})).expect(200);
    assert_eq!(tried(json!({"place": "district"})), ["cyn"], "who is closed has no card");
    assert_eq!(village.get("/_accounts/cyn")["link"]["works"], json!(true));
    let link = village.operator().post("/_accounts/cyn/link", &json!({})).expect(201).json();
    village.phone_by_link(&link, "phone-of-cyn");
    sheet(&village, &json!({"place": "area-2"})).expect(400);
    assert_eq!(tried(json!({"place": "area-2", "all": true})), ["cyn"]);
}

#[test]
fn what_cannot_be_printed_makes_no_link() {
    let village = with_workers();
    let made = village.get("/_accounts/cyn")["link"]["made"].clone();
    for (body, status) in [
        (json!({}), 400),
        (json!({"accounts": ["cyn"], "place": "area-1"}), 400),
        (json!({"accounts": []}), 400),
        (json!({"accounts": ["cyn", "nobody"]}), 404),
        (json!({"place": "nowhere"}), 400),
        (json!({"place": "area-1", "all": "yes"}), 400),
    ] {
        sheet(&village, &body).expect(status);
    }
    village.operator().post("/_accounts/bea/disable", &json!({})).expect(200);
    sheet(&village, &json!({"accounts": ["cyn", "bea"]})).expect(403);
    assert_eq!(village.get("/_accounts/cyn")["link"]["made"], made);
    assert_eq!(village.get("/_audit?action=sheet")["entries"], json!([]));
}

#[test]
fn an_administrator_prints_for_the_own_places_only() {
    let village = with_workers();
    let body = json!({"name": "meg", "roles": ["account_admin"], "places": ["area-1"], "password": "tidal-copper-41"});
    village.operator().post("/_accounts", &body).expect(201);
    let meg = village.server.client_as("meg", "tidal-copper-41");
    let absent = meg.post("/_accounts/_sheet", &json!({"accounts": ["nobody"]})).expect(404).text();
    assert_eq!(meg.post("/_accounts/_sheet", &json!({"accounts": ["cyn"]})).expect(404).text(), absent);
    let absent = meg.post("/_accounts/_sheet", &json!({"place": "nowhere"})).expect(404).text();
    let refused = meg.post("/_accounts/_sheet", &json!({"place": "area-2"})).expect(404).text();
    assert_eq!(refused.replace("area-2", "nowhere"), absent);
    let page = meg.post("/_accounts/_sheet", &json!({"place": "area-1"})).expect(200).text();
    assert_eq!(codes_of(&page).len(), 1, "bea: ann and meg have passwords");
}

#[test]
fn the_command_writes_a_page_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let village = with_workers();
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("cards.html");
    let path = out.to_str().expect("text");
    let told = settle(&village, &["account", "sheet", "--place", "area-2", "--out", path]).expect("done");
    assert!(told.contains("cards.html has the cards"), "{told}");
    assert_eq!(std::fs::metadata(&out).expect("there").permissions().mode() & 0o777, 0o600);
    let page = std::fs::read_to_string(&out).expect("there");
    let code = codes_of(&page).remove(0);
    let token = code.rsplit('/').next().expect("a token");
    assert_eq!(village.phone_by_link(&json!({"token": token}), "phone-of-cyn").name, "cyn");
    let refused = settle(&village, &["account", "sheet", "bea", "--out", path]).expect_err("it is there already");
    assert!(refused.contains("cannot make"), "{refused}");
    let other = folder.path().join("none.html");
    let refused = settle(&village, &["account", "sheet", "nobody", "--out", other.to_str().expect("text")]);
    assert!(refused.expect_err("nobody").contains("404") && !other.exists());
}
