//! Places that a file makes, by the names with which its later rows call them.
//!
//! A row that makes a place gives it a `place.name` and perhaps a `place.external_id`; rows below it may name the one or the
//! other where they would name an id. Only what stands above in the same file is meant: what else there is has its id.

use std::collections::HashMap;

use serde_json::Value;

use super::{AccountRow, Link};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// A place with this id.
    At(String),
    /// A place that was not made, because the row on this line was refused.
    Refused(u64),
    /// Several places.
    Several,
}

/// The places of a file, as far as it was gone through.
#[derive(Debug, Clone)]
pub struct NamedPlaces {
    known: HashMap<String, Known>,
}

impl AccountRow {
    /// What the place that this row makes is called (`name`, `external_id`); nothing if it makes none.
    #[must_use]
    pub fn place_names(&self) -> Option<[Option<&str>; 2]> {
        let members = self.places.iter().find_map(|place| match place {
            Link::New(members) => Some(members),
            Link::Id(_) => None,
        })?;
        Some(["name", "external_id"].map(|member| members.get(member).and_then(Value::as_str)))
    }

    /// Whether it names this place, as one of its own or above a new one.
    #[must_use]
    pub fn names_place(&self, id: &str) -> bool {
        self.places.iter().any(|place| match place {
            Link::Id(place) => place == id,
            Link::New(members) => {
                let parent = members.get("parent").unwrap_or(&Value::Null);
                parent.get("_id").unwrap_or(parent) == id
            }
        })
    }
}

impl NamedPlaces {
    /// Those of a file of which no row was done yet. A name that several rows give to a place stands for none of them, wherever it
    /// is used.
    #[must_use]
    pub fn of(rows: &[AccountRow]) -> Self {
        let mut makers: HashMap<&str, usize> = HashMap::new();
        let mut known = HashMap::new();
        for (number, row) in rows.iter().enumerate() {
            for name in row.place_names().into_iter().flatten().flatten() {
                if makers.insert(name, number).is_some_and(|other| other != number) {
                    known.insert(name.to_owned(), Known::Several);
                }
            }
        }
        Self { known }
    }

    /// Writes ids where a row names places from above it: those of the account, and the parent of a new place.
    ///
    /// # Errors
    /// What is wrong with a name: several places have it, or its row was refused.
    pub fn resolve(&self, row: &mut AccountRow) -> Result<(), String> {
        for place in &mut row.places {
            match place {
                Link::Id(id) => self.replace(id)?,
                Link::New(members) => match members.get_mut("parent") {
                    Some(Value::String(id)) => self.replace(id)?,
                    Some(Value::Object(parent)) => {
                        if let Some(Value::String(id)) = parent.get_mut("_id") {
                            self.replace(id)?;
                        }
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn replace(&self, id: &mut String) -> Result<(), String> {
        match self.known.get(id.as_str()) {
            None => Ok(()),
            Some(Known::At(place)) => {
                id.clone_from(place);
                Ok(())
            }
            Some(Known::Refused(line)) => Err(format!("The place {id} was not made: line {line} was refused.")),
            Some(Known::Several) => Err(format!(
                "Several places of this file are called {id}: give each a place.external_id, and use that."
            )),
        }
    }

    /// Notes the place that a row makes, or that was made for it before; `None`: the row was refused.
    pub fn note(&mut self, row: &AccountRow, place: Option<&str>) {
        for name in row.place_names().into_iter().flatten().flatten() {
            let known = self.known.entry(name.to_owned()).or_insert(Known::Refused(row.line));
            if *known != Known::Several {
                *known = place.map_or(Known::Refused(row.line), |place| Known::At(place.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn makes(line: u64, place: &Value) -> AccountRow {
        let members = place.as_object().unwrap().clone();
        AccountRow { line, places: vec![Link::New(members)], ..AccountRow::default() }
    }

    fn named(place: &str) -> AccountRow {
        AccountRow { places: vec![Link::Id(place.to_owned())], ..AccountRow::default() }
    }

    #[test]
    fn names_stand_for_places_from_above() {
        let river = makes(2, &json!({"name": "River", "external_id": "F-7"}));
        let mut places = NamedPlaces::of(std::slice::from_ref(&river));
        places.note(&river, Some("id-1"));
        for name in ["River", "F-7"] {
            let mut row = named(name);
            assert_eq!(places.resolve(&mut row), Ok(()));
            assert_eq!(row.places, named("id-1").places);
        }
        let mut other = named("area-9");
        assert_eq!((places.resolve(&mut other), other.places), (Ok(()), named("area-9").places));
        for parent in [json!("River"), json!({"_id": "F-7"})] {
            let mut below = makes(3, &json!({"name": "Bank", "parent": parent}));
            places.resolve(&mut below).unwrap();
            let Link::New(members) = &below.places[0] else { panic!("a new place") };
            assert!(members["parent"] == "id-1" || members["parent"]["_id"] == "id-1", "{members:?}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_was_refused_is_said() {
        let rows = [
            makes(2, &json!({"name": "Hill", "external_id": "F-2"})),
            makes(2, &json!({"name": "Hill", "external_id": "F-3"})), // JSON has many rows on a line
            makes(3, &json!({"name": "Same", "external_id": "Same"})),
        ];
        let mut places = NamedPlaces::of(&rows);
        assert!(places.resolve(&mut named("Hill")).unwrap_err().contains("Several"), "also before they are made");
        places.note(&rows[0], None);
        places.note(&rows[1], Some("id-3"));
        assert!(places.resolve(&mut named("Hill")).unwrap_err().contains("Several"));
        assert!(places.resolve(&mut named("F-2")).unwrap_err().contains("line 2 was refused"));
        places.note(&rows[2], Some("id-4"));
        for (name, id) in [("F-3", "id-3"), ("Same", "id-4")] {
            let mut row = named(name);
            places.resolve(&mut row).unwrap();
            assert_eq!(row.places, named(id).places);
        }
    }
}
