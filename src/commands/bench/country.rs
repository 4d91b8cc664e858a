//! A synthetic country for `settle bench scope`: regions, health centres, areas, households, patients, reports.
//!
//! Every area has the same size, so that what one CHW pulls stays the same while the country grows. Ids are hashed numbers,
//! as scattered as real UUIDs. Nothing here is random: the same number makes the same document.

use serde_json::{Value, json};

/// Households of an area.
const HOUSEHOLDS: u64 = 240;
/// Patients of a household.
const PATIENTS: u64 = 3;
/// Reports about a patient of an ordinary area.
const REPORTS: u64 = 5;
/// Areas of a health centre.
pub const AREAS: u64 = 10;
/// Health centres of a region.
const CENTRES: u64 = 10;

/// Documents of one area: itself, its worker, households, patients, reports.
pub const AREA_DOCUMENTS: u64 = 2 + HOUSEHOLDS * (1 + PATIENTS + PATIENTS * REPORTS);

/// The id of a thing.
#[must_use]
pub fn id(kind: &str, number: u64) -> String {
    let hash = blake3::hash(format!("{kind}{number}").as_bytes()).to_hex();
    let hex = hash.as_str();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// The lineage above an area, as documents embed it.
fn above_area(area: u64) -> Value {
    let centre = area / AREAS;
    json!({"_id": id("centre", centre), "parent": {"_id": id("region", centre / CENTRES)}})
}

fn in_area(area: u64) -> Value {
    json!({"_id": id("area", area), "parent": above_area(area)})
}

fn household(number: u64) -> Value {
    json!({"_id": id("household", number), "parent": in_area(number / HOUSEHOLDS)})
}

/// A report about a patient; `visit` makes it another one.
#[must_use]
pub fn report(patient: u64, visit: u64) -> Value {
    let area = patient / (HOUSEHOLDS * PATIENTS);
    json!({
        "_id": id("report", patient * 1_000_000 + visit),
        "type": "data_record",
        "form": "home_visit",
        "content_type": "xml",
        "reported_date": 1_924_992_000_000_u64 + visit,
        "contact": {"_id": id("worker", area), "parent": in_area(area)},
        "from": "+243990000051",
        "fields": {"patient_id": (100_000 + patient).to_string(), "temperature": 37.5, "danger_signs": ["none"],
                   "note": "Seen at home; next visit in two weeks."},
    })
}

/// The documents above all areas.
#[must_use]
pub fn frame(areas: u64) -> Vec<Value> {
    let centres = areas.div_ceil(AREAS);
    let regions = (0..centres.div_ceil(CENTRES)).map(
        |region| json!({"_id": id("region", region), "type": "district_hospital", "name": format!("Region {region}")}),
    );
    let centres = (0..centres).map(|centre| {
        json!({"_id": id("centre", centre), "type": "health_center", "name": format!("Centre {centre}"),
               "parent": {"_id": id("region", centre / CENTRES)}})
    });
    regions.chain(centres).collect()
}

/// The documents of an area, contacts before what is about them.
#[must_use]
pub fn area(number: u64) -> Vec<Value> {
    let mut documents = Vec::with_capacity(AREA_DOCUMENTS as usize);
    documents.push(json!({"_id": id("area", number), "type": "contact", "contact_type": "chw_area",
                          "name": format!("Area {number}"), "parent": above_area(number),
                          "contact": {"_id": id("worker", number)}}));
    documents.push(json!({"_id": id("worker", number), "type": "person", "name": format!("Worker {number}"),
                          "parent": in_area(number)}));
    for home in number * HOUSEHOLDS..(number + 1) * HOUSEHOLDS {
        documents.push(json!({"_id": id("household", home), "type": "clinic", "name": format!("Household {home}"),
                              "parent": in_area(number)}));
        for patient in home * PATIENTS..(home + 1) * PATIENTS {
            documents.push(
                json!({"_id": id("patient", patient), "type": "person", "name": format!("Patient {patient}"),
                                  "patient_id": (100_000 + patient).to_string(), "parent": household(home),
                                  "date_of_birth": "2001-04-05", "phone": ""}),
            );
            documents.extend((0..REPORTS).map(|visit| report(patient, visit)));
        }
    }
    documents
}

/// The region of an area.
#[must_use]
pub fn region_of(area: u64) -> u64 {
    area / AREAS / CENTRES
}

/// The number of a patient of an area.
#[must_use]
pub fn patient_of(area: u64, number: u64) -> u64 {
    area * HOUSEHOLDS * PATIENTS + number % (HOUSEHOLDS * PATIENTS)
}

/// The id of a household of an area.
#[must_use]
pub fn household_of(area: u64, number: u64) -> String {
    id("household", area * HOUSEHOLDS + number % HOUSEHOLDS)
}

/// A body for `_bulk_docs`.
#[must_use]
pub fn bulk(documents: &[Value]) -> Vec<u8> {
    json!({"docs": documents}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_area_has_its_size_and_its_own_ids() {
        let ids = |number| -> BTreeSet<String> {
            area(number).iter().filter_map(|document| document["_id"].as_str().map(str::to_owned)).collect()
        };
        assert_eq!(ids(0).len() as u64, AREA_DOCUMENTS);
        assert!(ids(0).is_disjoint(&ids(1)));
        assert_eq!(frame(101).len(), 2 + 11);
    }
}
