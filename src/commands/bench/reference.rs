//! What CouchDB 3.5.2 does on this class of machine, and what Settle promises beside it.
//!
//! Constants, written down once from the project's issue, where the same work was measured on two cores with CouchDB's
//! default settings. They are printed as a reference, never measured here. To compare on one's own machine, run the bench
//! with `--url` against one's own CouchDB.
//! A goal in *times CouchDB* counts from the upper end of CouchDB's range.

/// Where the numbers of CouchDB's column come from.
pub const SOURCE: &str =
    "CouchDB 3.5.2 on this class of machine (2 cores), as given in the issue; not measured in this run";

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// Name of the figure.
    pub figure: &'static str,
    /// CouchDB's lowest and highest value, in the figure's unit.
    pub couchdb: Option<(f64, f64)>,
    /// What Settle should reach.
    pub goal: Option<Goal>,
}

/// A goal of the project.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At least so many times CouchDB's highest value.
    TimesCouchdb(f64),
    /// At most this value, in the figure's unit.
    AtMost(f64),
}

const fn reference(figure: &'static str, couchdb: Option<(f64, f64)>, goal: Option<Goal>) -> Reference {
    Reference { figure, couchdb, goal }
}

const REFERENCES: [Reference; 13] = [
    reference("bulk-1", Some((13_000.0, 15_000.0)), Some(Goal::TimesCouchdb(4.0))),
    reference("bulk-4", Some((13_000.0, 15_000.0)), Some(Goal::TimesCouchdb(4.0))),
    reference("put-8", Some((535.0, 535.0)), None),
    reference("put-32", Some((837.0, 837.0)), Some(Goal::TimesCouchdb(12.0))),
    reference("get-basic", Some((1_660.0, 1_660.0)), Some(Goal::TimesCouchdb(12.0))),
    reference("get-cookie", Some((1_660.0, 1_660.0)), Some(Goal::TimesCouchdb(12.0))),
    reference("changes", Some((40_000.0, 40_000.0)), Some(Goal::TimesCouchdb(15.0))),
    reference("changes-docs", Some((17_000.0, 17_000.0)), None),
    reference("bulk-get-1", Some((13_000.0, 22_000.0)), Some(Goal::TimesCouchdb(5.0))),
    reference("bulk-get-4", Some((13_000.0, 22_000.0)), Some(Goal::TimesCouchdb(5.0))),
    reference("memory", Some((153.0, 153.0)), Some(Goal::AtMost(100.0))),
    reference("longpoll-memory", None, Some(Goal::AtMost(200.0))),
    reference("longpoll-wake", None, Some(Goal::AtMost(50.0))),
];

/// The reference of a figure, if there is one.
pub fn find(figure: &str) -> Option<&'static Reference> {
    REFERENCES.iter().find(|reference| reference.figure == figure)
}

impl Reference {
    /// How many times CouchDB's highest value `value` is.
    pub fn times_couchdb(&self, value: f64) -> Option<f64> {
        self.couchdb.map(|(_, highest)| value / highest)
    }

    /// Whether `value` reaches the goal; `None` without a goal.
    pub fn is_met(&self, value: f64) -> Option<bool> {
        match self.goal? {
            Goal::TimesCouchdb(times) => Some(self.times_couchdb(value)? >= times),
            Goal::AtMost(most) => Some(value <= most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, REFERENCES, find};

    #[test]
    fn goals_are_judged_from_the_upper_end_of_the_range() {
        let bulk = find("bulk-1").unwrap();
        assert_eq!((bulk.is_met(59_999.0), bulk.is_met(60_000.0)), (Some(false), Some(true)));
        let memory = find("memory").unwrap();
        assert_eq!((memory.is_met(100.0), memory.is_met(100.1)), (Some(true), Some(false)));
        assert_eq!(find("put-8").unwrap().is_met(1.0), None);
        assert!(find("pull").is_none());
    }

    #[test]
    fn every_multiple_has_something_to_multiply() {
        let multiple = |goal| matches!(goal, Some(Goal::TimesCouchdb(_)));
        assert!(REFERENCES.iter().all(|reference| !multiple(reference.goal) || reference.couchdb.is_some()));
    }
}
