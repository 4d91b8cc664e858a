//! A small invented district: places, people and half a year of reports, the same at every call.
//!
//! The documents have the shapes that community health apps store: contacts with the chain of their parents, reports with
//! a form, fields and their author. No name, place or number stands for anybody. Nothing here talks to a server or reads a
//! clock.

use serde_json::{Value, json};

const HEALTH_CENTRES: [&str; 2] = ["Msanga", "Koyo Hill"];
const AREAS: [&str; 6] = ["Riverside", "Old Market", "Three Wells", "Eastgate", "Upper Field", "Mango Road"];
const HOUSEHOLDS_PER_AREA: usize = 10;
/// Members of the households, over and over: 3 to 5.
const HOUSEHOLD_SIZES: [usize; 6] = [4, 3, 5, 4, 3, 4];
const VISITS: usize = 6;
/// How many of the areas have a health worker with an account: those of the first health centre.
const WORKERS: usize = 3;
const VACCINES: [&str; 3] = ["bcg", "pentavalent", "measles"];
const WOMEN: [&str; 10] =
    ["Adia", "Bimela", "Chanya", "Dalila", "Esani", "Feyra", "Gimba", "Hasina", "Imara", "Jolisa"];
const MEN: [&str; 10] = ["Abasi", "Baraki", "Chitan", "Dauto", "Ekon", "Farim", "Gathu", "Hamdo", "Issar", "Jelani"];
const FAMILIES: [&str; 12] = [
    "Tarumo", "Belinga", "Sokoye", "Wandera", "Mikoba", "Lasidi", "Okembe", "Ruhara", "Patanu", "Zelembe", "Haduri",
    "Nyalo",
];

/// Contact types, forms and one id, and what people call them.
const KINDS: [(&str, &str); 11] = [
    ("district_hospital", "district hospital"),
    ("health_center", "health centres"),
    ("chw_area", "areas, each with a community health worker"),
    ("clinic", "households"),
    ("person", "people"),
    ("household_visit", "reports of household visits"),
    ("immunisation", "reports of immunisations"),
    ("pregnancy", "reports of pregnancies"),
    ("antenatal_visit", "reports of antenatal visits"),
    ("stock_count", "counts of an area's medicines"),
    ("settings", "document of settings"),
];

/// 1 January 2026, 06:00 UTC, in milliseconds since 1970.
const FIRST_DAY: u64 = 1_767_247_200_000;
const DAY: u64 = 86_400_000;

/// All documents of the district: settings, contacts (parents before children), reports.
#[must_use]
pub fn documents() -> Vec<Value> {
    let mut district = District::default();
    district.documents.push(settings());
    let hospital = district.place("district_hospital", "district", "Maraka District", None);
    district.person("officer", "District officer", &hospital, 44);
    for (centre_number, centre_name) in HEALTH_CENTRES.into_iter().enumerate() {
        let name = format!("{centre_name} Health Centre");
        let centre = district.place("health_center", &format!("centre-{}", centre_number + 1), &name, Some(&hospital));
        let supervisor = format!("supervisor-{}", centre_number + 1);
        district.person(&supervisor, "Supervisor", &centre, 38);
        district.set_contact(&centre);
        for area_number in (centre_number * 3)..(centre_number * 3 + 3) {
            district.area(area_number, &centre);
        }
    }
    district.documents
}

/// The accounts of the demo: the health workers of the first health centre, each with its area, and their supervisor.
#[must_use]
pub fn accounts(password: &str) -> Vec<Value> {
    let account = |name: String, role: &str, place: String| {
        json!({
            "_id": format!("org.couchdb.user:{name}"),
            "type": "user",
            "name": name,
            "password": password,
            "roles": [role],
            "facility_id": place,
            "contact_id": name,
        })
    };
    let workers = (1..=WORKERS).map(|number| account(format!("chw-{number}"), "chw", format!("area-{number}")));
    workers.chain([account("supervisor-1".to_owned(), "supervisor", "centre-1".to_owned())]).collect()
}

/// The `_security` of the demo's database: who may enter, by role.
#[must_use]
pub fn security() -> Value {
    json!({
        "admins": {"names": [], "roles": ["_admin"]},
        "members": {"names": [], "roles": ["chw", "supervisor"]},
    })
}

/// How many documents of each kind, in words for people.
#[must_use]
pub fn tally(documents: &[Value]) -> Vec<(&'static str, usize)> {
    let is = |document: &Value, kind: &str| {
        let kinds = [&document["contact_type"], &document["form"], &document["type"], &document["_id"]];
        kinds.iter().find_map(|kind| kind.as_str()) == Some(kind)
    };
    let count = |kind| documents.iter().filter(|document| is(document, kind)).count();
    KINDS.iter().map(|(kind, name)| (*name, count(*kind))).collect()
}

fn settings() -> Value {
    let of_type = |id: &str, parents: &[&str], person: bool| json!({"id": id, "parents": parents, "person": person});
    json!({
        "_id": "settings",
        "settings": {
            "locale": "en",
            "contact_types": [
                of_type("district_hospital", &[], false),
                of_type("health_center", &["district_hospital"], false),
                of_type("chw_area", &["health_center"], false),
                of_type("clinic", &["chw_area"], false),
                of_type("person", &["district_hospital", "health_center", "chw_area", "clinic"], true),
            ],
            "roles": {
                "chw": {"name": "Community health worker", "offline": true},
                "supervisor": {"name": "Supervisor", "offline": true},
            },
            "replication_depth": [{"role": "chw", "depth": 2}, {"role": "supervisor", "depth": 2, "report_depth": 1}],
            "permissions": {"can_edit": ["chw", "supervisor"], "can_view_reports": ["chw", "supervisor"]},
        },
    })
}

/// A contact that others refer to: its id, and itself with the chain of its parents, ids only.
#[derive(Debug, Clone)]
struct Contact {
    id: String,
    lineage: Value,
}

/// A household on its round of reports: who reports, about whom, from which telephone.
struct Household<'a> {
    number: usize,
    place: &'a Contact,
    members: &'a [Contact],
    worker: &'a Contact,
    phone: &'a str,
}

#[derive(Default)]
struct District {
    documents: Vec<Value>,
    shortcode: u32,
    reports: usize,
    random: u64,
}

impl District {
    /// A number below `limit` that looks accidental: the same at every call of [`documents`].
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn shortcode(&mut self) -> String {
        self.shortcode += 37;
        (10_000 + self.shortcode).to_string()
    }

    fn place(&mut self, kind: &str, id: &str, name: &str, parent: Option<&Contact>) -> Contact {
        let mut document = json!({
            "_id": id,
            "type": kind,
            "name": name,
            "place_id": self.shortcode(),
            "reported_date": FIRST_DAY - 90 * DAY,
        });
        if kind == "chw_area" {
            document["type"] = json!("contact");
            document["contact_type"] = json!(kind);
        }
        self.contact(id, document, parent)
    }

    fn contact(&mut self, id: &str, mut document: Value, parent: Option<&Contact>) -> Contact {
        let mut lineage = json!({"_id": id});
        if let Some(parent) = parent {
            lineage["parent"] = parent.lineage.clone();
            document["parent"] = parent.lineage.clone();
        }
        self.documents.push(document);
        Contact { id: id.to_owned(), lineage }
    }

    fn person(&mut self, id: &str, role: &str, place: &Contact, age: u64) -> Contact {
        let woman = self.below(2) == 0;
        let first = if woman { WOMEN } else { MEN }[self.below(10) as usize];
        let family = FAMILIES[self.below(12) as usize];
        self.named_person(id, &format!("{first} {family}"), if woman { "female" } else { "male" }, role, place, age)
    }

    fn named_person(&mut self, id: &str, name: &str, sex: &str, role: &str, place: &Contact, age: u64) -> Contact {
        let (month, day) = (self.below(12) + 1, self.below(28) + 1);
        let mut document = json!({
            "_id": id,
            "type": "person",
            "name": name,
            "sex": sex,
            "role": role,
            "date_of_birth": format!("{}-{month:02}-{day:02}", 2025 - age),
            "patient_id": self.shortcode(),
            "reported_date": FIRST_DAY - 60 * DAY,
        });
        if age >= 18 {
            document["phone"] = json!(format!("+0000{:07}", self.below(10_000_000)));
        }
        self.contact(id, document, Some(place))
    }

    /// Makes the person added last the primary contact of a place.
    fn set_contact(&mut self, place: &Contact) {
        let Some(person) = self.documents.last() else { return };
        let contact = json!({"_id": person["_id"], "parent": person["parent"]});
        if let Some(document) = self.documents.iter_mut().find(|document| document["_id"] == place.id.as_str()) {
            document["contact"] = contact;
        }
    }

    fn area(&mut self, number: usize, centre: &Contact) {
        let area = self.place("chw_area", &format!("area-{}", number + 1), AREAS[number], Some(centre));
        let worker = self.person(&format!("chw-{}", number + 1), "Community health worker", &area, 31);
        self.set_contact(&area);
        let phone = format!("+0000{:07}", 5_550_000 + number);
        for household in 0..HOUSEHOLDS_PER_AREA {
            self.household(number * HOUSEHOLDS_PER_AREA + household, &area, &worker, &phone);
        }
        for month in 0..VISITS {
            let fields = json!({
                "place_id": area.id,
                "paracetamol": self.below(200),
                "zinc": self.below(60),
                "malaria_tests": self.below(40),
            });
            self.report("stock_count", month as u64 * 30, &worker, &phone, fields);
        }
    }

    fn household(&mut self, number: usize, area: &Contact, worker: &Contact, phone: &str) {
        let id = format!("household-{:02}", number + 1);
        let family = FAMILIES[number % FAMILIES.len()];
        let place = self.place("clinic", &id, &format!("{family} household"), Some(area));
        let size = HOUSEHOLD_SIZES[number % HOUSEHOLD_SIZES.len()] + usize::from(number == 0);
        let mut members = Vec::with_capacity(size);
        for member in 0..size {
            members.push(self.member(number, member, family, &place));
            if member == 0 {
                self.set_contact(&place);
            }
        }
        self.reports(&Household { number, place: &place, members: &members, worker, phone });
    }

    /// The mother, the youngest child, the father, then older children.
    fn member(&mut self, household: usize, member: usize, family: &str, place: &Contact) -> Contact {
        let id = format!("person-{:02}-{}", household + 1, member + 1);
        let pick = self.below(10) as usize;
        let girl = self.below(2) == 0;
        let (first, sex, role, age) = match member {
            0 => (WOMEN[pick], "female", "Mother", 20 + self.below(20)),
            2 => (MEN[pick], "male", "Father", 22 + self.below(25)),
            1 if girl => (WOMEN[pick], "female", "Child", self.below(5)),
            1 => (MEN[pick], "male", "Child", self.below(5)),
            _ if girl => (WOMEN[pick], "female", "Child", 5 + self.below(12)),
            _ => (MEN[pick], "male", "Child", 5 + self.below(12)),
        };
        self.named_person(&id, &format!("{first} {family}"), sex, role, place, age)
    }

    fn reports(&mut self, household: &Household<'_>) {
        for visit in 0..VISITS {
            let fields = json!({
                "place_id": household.place.id,
                "children_under_five": 1,
                "members_at_home": 1 + self.below(household.members.len() as u64),
                "bed_nets": self.below(4),
                "water": (["tap", "well", "river"][self.below(3) as usize]),
                "danger_signs": if self.below(12) == 0 { "fever" } else { "none" },
            });
            self.report("household_visit", visit as u64 * 30, household.worker, household.phone, fields);
        }
        for (number, vaccine) in VACCINES.iter().enumerate() {
            let fields =
                json!({"patient_id": household.members[1].id, "vaccine": vaccine, "dose": 1, "card_seen": true});
            self.report("immunisation", 10 + number as u64 * 45, household.worker, household.phone, fields);
        }
        if household.number.is_multiple_of(3) {
            self.pregnancy(household);
        }
    }

    fn pregnancy(&mut self, household: &Household<'_>) {
        let mother = &household.members[0].id;
        let weeks = 8 + self.below(8);
        let fields = json!({"patient_id": mother, "weeks_at_registration": weeks, "risk": self.below(5) == 0});
        self.report("pregnancy", 5, household.worker, household.phone, fields);
        for visit in 1..=3 {
            let fields = json!({
                "patient_id": mother,
                "visit": visit,
                "weeks": weeks + visit * 6,
                "iron_tablets": 30,
                "next_visit_weeks": weeks + visit * 6 + 4,
            });
            self.report("antenatal_visit", 5 + visit * 42, household.worker, household.phone, fields);
        }
    }

    fn report(&mut self, form: &str, day: u64, worker: &Contact, phone: &str, fields: Value) {
        self.reports += 1;
        let accident = self.below(5 * DAY);
        self.documents.push(json!({
            "_id": format!("report-{:04}", self.reports),
            "type": "data_record",
            "form": form,
            "content_type": "xml",
            "reported_date": FIRST_DAY + day * DAY + accident,
            "from": phone,
            "contact": worker.lineage,
            "fields": fields,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::{accounts, documents, security, tally};

    #[test]
    fn the_district_has_its_size_and_is_always_the_same() {
        let district = documents();
        let counts: Vec<usize> = tally(&district).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 6, 60, 240, 360, 180, 20, 60, 36, 1]);
        assert_eq!(counts.iter().sum::<usize>(), district.len(), "every document is of a known kind");
        assert_eq!(district, documents());
    }

    #[test]
    fn every_chain_of_parents_leads_through_stored_contacts() {
        let district = documents();
        let by_id: BTreeMap<&str, &Value> =
            district.iter().map(|document| (document["_id"].as_str().expect("an id"), document)).collect();
        assert_eq!(by_id.len(), district.len(), "ids are unique");
        for document in &district {
            let (mut links, mut depth) = (vec![&document["parent"], &document["contact"]], 0);
            while let Some(link) = links.pop().filter(|_| depth < 20) {
                depth += 1;
                let Some(id) = link["_id"].as_str() else { continue };
                let stored = by_id.get(id).unwrap_or_else(|| panic!("{} refers to {id}", document["_id"]));
                assert_eq!(stored["parent"]["_id"], link["parent"]["_id"], "the chain of {}", document["_id"]);
                links.push(&link["parent"]);
            }
        }
    }

    #[test]
    fn every_account_stands_for_stored_contacts() {
        let district = documents();
        let stored = |id: &Value| district.iter().find(|document| document["_id"] == *id);
        let accounts = accounts("x");
        assert_eq!(accounts.len(), 4);
        for account in accounts {
            let person = stored(&account["contact_id"]).expect("a stored person");
            assert_eq!(person["parent"]["_id"], account["facility_id"]);
            assert!(stored(&account["facility_id"]).is_some(), "{account}");
            let roles = security()["members"]["roles"].clone();
            assert!(roles.as_array().is_some_and(|roles| roles.contains(&account["roles"][0])), "{account}");
        }
    }

    #[test]
    fn every_report_is_about_somebody_and_has_an_author() {
        let district = documents();
        let ids: Vec<&Value> = district.iter().map(|document| &document["_id"]).collect();
        for report in district.iter().filter(|document| document["type"] == "data_record") {
            let fields = &report["fields"];
            let subject = if fields["patient_id"].is_null() { &fields["place_id"] } else { &fields["patient_id"] };
            assert!(ids.contains(&subject), "{report}");
            assert!(report["contact"]["_id"].as_str().is_some_and(|id| id.starts_with("chw-")), "{report}");
        }
    }
}
