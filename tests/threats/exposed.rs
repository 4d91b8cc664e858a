//! The exposure of a device beside what is really on it: people move between two areas while it pulls. One that asks for lost
//! rows and drops them holds exactly what is listed as held; one that keeps everything holds no more than is listed at all.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::stage::{DATABASE, Phone, log_in, stage};
use crate::support::chance::Chance;
use crate::support::server::TestServer;

const PEOPLE: u64 = 12;
const STEPS: u64 = 60;

/// A phone with its copy.
struct Copy {
    phone: Phone,
    since: String,
    drops: bool,
    held: BTreeSet<String>,
}

impl Copy {
    fn pull(&mut self, server: &TestServer) {
        let lost = if self.drops { "&lost=true" } else { "" };
        let path = format!("{DATABASE}/_changes?since={}{lost}", self.since);
        let answer = self.phone.get(server, &path).expect(200).json();
        for row in answer["results"].as_array().into_iter().flatten() {
            let id = row["id"].as_str().expect("an id").to_owned();
            match row["lost"] == true || row["deleted"] == true {
                true => self.held.remove(&id),
                false => self.held.insert(id),
            };
        }
        self.since = answer["last_seq"].as_str().expect("a token").to_owned();
    }

    fn people(&self) -> BTreeSet<String> {
        self.held.iter().filter(|id| id.starts_with("mover-") || id.starts_with("person-")).cloned().collect()
    }
}

/// Ids of people in an exposure: those held, and all. Page by page.
fn exposed(server: &TestServer, device: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut held, mut all, mut after) = (BTreeSet::new(), BTreeSet::new(), String::new());
    loop {
        let path = format!("/_devices/{device}/exposure?database=visits&limit=5{after}");
        let page = server.admin().get(&path).expect(200).json();
        for contact in page["contacts"].as_array().into_iter().flatten() {
            let id = contact["id"].as_str().expect("an id").to_owned();
            if !id.starts_with("area-") && contact["deleted"] == false {
                if contact["when"] == "held" {
                    held.insert(id.clone());
                }
                all.insert(id);
            }
        }
        match &page["next"] {
            Value::String(next) => after = format!("&after={next}"),
            _ => return (held, all),
        }
    }
}

fn put(server: &TestServer, id: &str, area: &str) {
    let path = format!("{DATABASE}/{id}");
    let mut person = json!({"type": "person", "name": id, "parent": {"_id": area}});
    let known = server.admin().get(&path);
    if known.status == 200 {
        person["_rev"] = known.json()["_rev"].clone();
    }
    server.admin().put(&path, &person).expect(201);
}

#[test]
fn t1_an_exposure_lists_what_is_on_the_device_and_little_more() {
    let mut chance = Chance::of_law(1301);
    let server = stage(TestServer::options());
    let copy = |client: &str, drops| Copy {
        phone: log_in(&server, "ann", client),
        since: "0".to_owned(),
        drops,
        held: BTreeSet::new(),
    };
    let mut copies = [copy("tidy-phone", true), copy("stock-phone", false)];
    let mut ever: BTreeSet<String> = BTreeSet::from(["person-ann".to_owned()]);
    for step in 0..STEPS {
        let id = format!("mover-{}", chance.below(PEOPLE));
        let area = if chance.percent(50) { "area-ann" } else { "area-ben" };
        put(&server, &id, area);
        if area == "area-ann" {
            ever.insert(id);
        }
        let number = usize::from(chance.percent(50));
        if chance.percent(60) {
            copies[number].pull(&server);
        }
        // What is noted about a pull is durable when this is.
        server.admin().put(&format!("{DATABASE}/_local/step-{step}"), &json!({})).expect(201);
        for copy in &copies {
            let (held, all) = exposed(&server, &copy.phone.id);
            let on_device = copy.people();
            assert!(on_device.is_subset(&all), "on the device {on_device:?}, listed {all:?}");
            assert!(all.is_subset(&ever), "listed {all:?}, ever in reach {ever:?}");
            if copy.drops && copy.since != "0" {
                assert_eq!(held, on_device, "a device that drops what it loses");
            }
        }
    }
}
