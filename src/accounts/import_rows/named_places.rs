//! Places that a file makes, by the names with which its later rows call them.
//!
//! A row that makes a place gives it a `place.name` and perhaps a `place.external_id`; rows below it may name the one or the
//! other where they would name an id. Only what stands above in the same file is meant: what else there is has its id.

use std::collections::HashMap;

use serde_json::{Map, Value};

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
#[derive(Debug, Clone, Default)]
pub struct NamedPlaces {
    known: HashMap<String, Known>,
}

/// The new place of a row.
fn new_place(row: &AccountRow) -> Option<&Map<String, Value>> {
    row.places.iter().find_map(|place| match place {
        Link::New(members) => Some(members),
        Link::Id(_) => None,
    })
}

/// What a new place is called.
fn names_of(members: &Map<String, Value>) -> impl Iterator<Item = &str> {
    ["name", "external_id"].into_iter().filter_map(|member| members.get(member).and_then(Value::as_str))
}

impl AccountRow {
    /// What the place that this row makes is called (`name`, `external_id`); nothing if it makes none.
    #[must_use]
    pub fn place_names(&self) -> Option<[Option<&str>; 2]> {
        let members = new_place(self)?;
        Some(["name", "external_id"].map(|member| members.get(member).and_then(Value::as_str)))
    }
}

impl NamedPlaces {
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
            Some(Known::Several) => {
                Err(format!("Several places of this file are called {id}: give each a place.external_id, and use that."))
            }
        }
    }

    /// Notes the place that a row makes, or that was made for it before; `None`: the row was refused.
    pub fn note(&mut self, row: &AccountRow, place: Option<&str>) {
        let Some(members) = new_place(row) else { return };
        for name in names_of(members) {
            let new = place.map_or(Known::Refused(row.line), |place| Known::At(place.to_owned()));
            let known = self.known.entry(name.to_owned()).or_insert_with(|| new.clone());
            match (&*known, &new) {
                (Known::Refused(_), Known::At(_)) => *known = new,
                (Known::At(one), Known::At(other)) if one != other => *known = Known::Several,
                _ => {}
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
        let mut places = NamedPlaces::default();
        places.note(&makes(2, &json!({"name": "River", "external_id": "F-7"})), Some("id-1"));
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
        let mut places = NamedPlaces::default();
        places.note(&makes(2, &json!({"name": "Hill"})), None);
        assert!(places.resolve(&mut named("Hill")).unwrap_err().contains("line 2 was refused"));
        places.note(&makes(3, &json!({"name": "Hill"})), Some("id-3"));
        assert_eq!(places.resolve(&mut named("Hill")), Ok(()));
        places.note(&makes(3, &json!({"name": "Hill"})), Some("id-3"));
        assert_eq!(places.resolve(&mut named("Hill")), Ok(()), "the same again");
        places.note(&makes(4, &json!({"name": "Hill", "external_id": "F-4"})), Some("id-4"));
        assert!(places.resolve(&mut named("Hill")).unwrap_err().contains("Several"));
        let mut row = named("F-4");
        places.resolve(&mut row).unwrap();
        assert_eq!(row.places, named("id-4").places);
    }
}
