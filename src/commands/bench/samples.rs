//! The documents of the bench: reports of a community health worker, about 500 bytes each.
//!
//! Everything follows from a document's number, so that ids need not be remembered, two runs write the same bytes, and
//! every server gets the same work. The values repeat as real ones do, so compression gains what it gains in the field.
//! Never random from outside, never anybody's data.

use std::fmt::Write;

const FORMS: [&str; 6] =
    ["pregnancy_home_visit", "pnc_danger_sign", "assessment_child", "stock_count", "delivery", "immunization"];
const SIGNS: [&str; 5] = ["none", "fever", "fast_breathing", "diarrhoea_2_days", "chest_indrawing"];
const NAMES: [&str; 8] = ["Amina", "Baraka", "Chiku", "Daudi", "Esther", "Faraja", "Grace", "Hassan"];

/// The finalizer of splitmix64: a well mixed number for every number.
pub fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The id of document `number`, shaped like a random UUID.
pub fn id(number: u64) -> String {
    let (high, low) = (mixed(number), mixed(!number));
    let (second, third) = ((high >> 16) & 0xffff, high & 0xfff);
    format!("{:08x}-{second:04x}-4{third:03x}-{:04x}-{:012x}", high >> 32, 0x8000 | (low >> 50), low & 0xffff_ffff_ffff)
}

/// The hash part of the first revision of document `number`, for writes with `new_edits:false`.
pub fn revision_hash(number: u64) -> String {
    format!("{:016x}{:016x}", mixed(number ^ 0xA5A5), mixed(number ^ 0x5A5A))
}

/// Document `number` without underscore members, as one JSON object.
pub fn body(number: u64) -> String {
    let mut text = String::with_capacity(600);
    text.push('{');
    members(&mut text, number);
    text.push('}');
    text
}

/// Document `number` with its `_id`.
pub fn with_id(number: u64) -> String {
    let mut text = format!("{{\"_id\":\"{}\",", id(number));
    members(&mut text, number);
    text.push('}');
    text
}

/// Document `number` with id, first revision and history, as a replicator pushes it.
pub fn with_history(number: u64) -> String {
    let (id, hash) = (id(number), revision_hash(number));
    let mut text =
        format!("{{\"_id\":\"{id}\",\"_rev\":\"1-{hash}\",\"_revisions\":{{\"start\":1,\"ids\":[\"{hash}\"]}},");
    members(&mut text, number);
    text.push('}');
    text
}

/// A `_bulk_docs` body with the documents of `numbers`.
pub fn bulk(numbers: std::ops::Range<u64>, new_edits: bool) -> Vec<u8> {
    let document = if new_edits { with_id } else { with_history };
    let documents: Vec<_> = numbers.map(document).collect();
    let tail = if new_edits { "" } else { ",\"new_edits\":false" };
    format!("{{\"docs\":[{}]{tail}}}", documents.join(",")).into_bytes()
}

fn members(text: &mut String, number: u64) {
    let chance = mixed(number ^ 0x0F0F_0F0F);
    let pick = |list: &[&'static str], shift: u32| list[(chance >> shift) as usize % list.len()];
    let (patient, worker, area) = (number % 9_000, number % 1_000, number % 100);
    let written = write!(
        text,
        "\"type\":\"data_record\",\"form\":\"{form}\",\"content_type\":\"xml\",\"reported_date\":{date},\
         \"from\":\"+2547{phone:08}\",\"contact\":{{\"_id\":\"{worker_id}\",\"parent\":{{\"_id\":\"{area_id}\"}}}},\
         \"fields\":{{\"patient_id\":\"{patient:05}\",\"patient_name\":\"{name} {surname}\",\"visit\":{visit},\
         \"temperature\":{degrees}.{tenth},\"danger_sign\":\"{sign}\",\"referred\":{referred},\
         \"note\":\"Seen at home, advice given, next visit in {days} days.\"}}",
        form = pick(&FORMS, 3),
        date = 1_760_000_000_000_u64 + number * 61_003,
        phone = chance % 100_000_000,
        worker_id = id(worker + (1 << 40)),
        area_id = id(area + (1 << 41)),
        name = pick(&NAMES, 7),
        surname = pick(&NAMES, 13),
        visit = chance % 8,
        degrees = 36 + chance % 4,
        tenth = (chance >> 5) % 10,
        sign = pick(&SIGNS, 17),
        referred = chance.is_multiple_of(11),
        days = 1 + chance % 28,
    );
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::{body, bulk, id, with_history, with_id};
    use serde_json::Value;
    use std::collections::HashSet;

    #[test]
    fn documents_are_json_of_about_500_bytes_and_always_the_same() {
        let total: usize = (0..1_000).map(|number| with_id(number).len()).sum();
        assert!((450_000..550_000).contains(&total), "{total}");
        for number in [0, 7, u64::MAX / 100_000] {
            let document: Value = serde_json::from_str(&with_history(number)).unwrap();
            assert_eq!(document["_id"], id(number));
            assert_eq!(document["type"], "data_record");
            assert_eq!(document["_rev"].as_str().unwrap()[2..], document["_revisions"]["ids"][0].as_str().unwrap()[..]);
            assert!(serde_json::from_str::<Value>(&body(number)).unwrap().get("_id").is_none());
            assert_eq!(body(number), body(number));
        }
    }

    #[test]
    fn ids_are_distinct_and_shaped_like_uuids() {
        let ids: HashSet<_> = (0..50_000).map(id).collect();
        assert_eq!(ids.len(), 50_000);
        assert!(
            ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]))
        );
    }

    #[test]
    fn bulk_bodies_hold_the_range() {
        let request: Value = serde_json::from_slice(&bulk(5..8, false)).unwrap();
        assert_eq!(request["new_edits"], false);
        assert_eq!(request["docs"].as_array().unwrap().len(), 3);
        assert!(serde_json::from_slice::<Value>(&bulk(5..8, true)).unwrap().get("new_edits").is_none());
    }
}
