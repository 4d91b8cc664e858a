//! What an import did or would do: as JSON for programs, in lines for people.

use serde::Serialize;

use super::accounts::Accounts;
use super::compare::{Comparison, Totals};
use super::copy::Refusal;

/// Refusals and differences of a database that are printed; the JSON has more.
const MOST_PRINTED: usize = 20;
const OPERATORS: &str = "Server admins are settings, not documents, and were not looked at: `settle serve --admin \
                         NAME:PASSWORD` makes operators. `_security` of `_users` stays as it is at the target.";

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// URL without credentials.
    pub(super) source: String,
    /// URL without credentials.
    pub(super) target: String,
    pub(super) dry_run: bool,
    pub(super) databases: Vec<Database>,
    pub(super) skipped: Vec<Skipped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accounts: Option<Accounts>,
}

/// A database that is not imported.
#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) name: String,
    pub(super) why: &'static str,
}

/// What became of a database.
#[derive(Debug, Default, Serialize)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) scoped: bool,
    /// It was made, or would be; otherwise it was there.
    pub(super) made: bool,
    /// Live documents at the source when the import began.
    pub(super) source_documents: u64,
    /// Rows of the source's feed that earlier runs had done.
    pub(super) resumed_after: u64,
    /// Leaves that the target lacked.
    pub(super) copied_revisions: u64,
    pub(super) copied_with_attachments: u64,
    /// Leaves that went away while they were asked for.
    pub(super) vanished: u64,
    pub(super) refused: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<Comparison>,
}

impl Database {
    /// Everything arrived, as far as it was looked at.
    pub(super) fn is_good(&self) -> bool {
        self.refused.is_empty() && self.compared.as_ref().is_none_or(Comparison::is_equal)
    }

    fn planned(&self) -> String {
        let into = match (self.made, self.scoped) {
            (true, true) => "a new scoped database",
            (true, false) => "a new database",
            (false, true) => "the scoped database that is there",
            (false, false) => "the database that is there",
        };
        let mut line = format!("{}: {} documents, into {into}", self.name, self.source_documents);
        if self.resumed_after > 0 {
            line.push_str(&format!("; {} were looked at by an earlier run", self.resumed_after));
        }
        line
    }

    fn done(&self, lines: &mut Vec<String>) {
        let mut line = format!("{}: {} revisions copied", self.name, self.copied_revisions);
        if self.copied_with_attachments > 0 {
            line.push_str(&format!(", {} of them with attachments", self.copied_with_attachments));
        }
        if self.resumed_after > 0 {
            line.push_str(&format!("; went on after {} documents of an earlier run", self.resumed_after));
        }
        lines.push(line);
        if self.vanished > 0 {
            lines.push(format!("  {} revisions went away at the source meanwhile", self.vanished));
        }
        for refused in self.refused.iter().take(MOST_PRINTED) {
            lines.push(format!("  refused: {} {}: {}", refused.id, refused.rev, refused.reason));
        }
        push_more(lines, self.refused.len().saturating_sub(MOST_PRINTED) as u64);
        let Some(compared) = &self.compared else { return };
        if compared.is_equal() {
            lines.push(format!("  compared: all is there, {}", told(&compared.target)));
            return;
        }
        lines.push(format!("  NOT EQUAL. Source: {}", told(&compared.source)));
        lines.push(format!("             Target: {}", told(&compared.target)));
        for difference in compared.differences.iter().take(MOST_PRINTED) {
            lines.push(format!("  {}: {}", difference.id, difference.detail));
        }
        push_more(lines, compared.differences.len().saturating_sub(MOST_PRINTED) as u64 + compared.more);
    }
}

fn push_more(lines: &mut Vec<String>, more: u64) {
    lines.extend((more > 0).then(|| format!("  and {more} more")));
}

fn told(totals: &Totals) -> String {
    format!(
        "{} documents, {} deleted, {} revisions, digest {}",
        totals.documents,
        totals.deleted,
        totals.revisions,
        &totals.digest[..totals.digest.len().min(16)]
    )
}

impl Outcome {
    /// In lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let verb = if self.dry_run { "would import" } else { "imported" };
        let mut lines = vec![format!("{verb} from {} into {}", self.source, self.target)];
        for database in &self.databases {
            match self.dry_run {
                true => lines.push(database.planned()),
                false => database.done(&mut lines),
            }
        }
        lines.extend(self.accounts.iter().flat_map(Accounts::told));
        let mut reasons: Vec<&str> = self.skipped.iter().map(|skipped| skipped.why).collect();
        reasons.sort_unstable();
        reasons.dedup();
        for why in reasons {
            let names: Vec<&str> =
                self.skipped.iter().filter(|skipped| skipped.why == why).map(|skipped| skipped.name.as_str()).collect();
            lines.push(match names.as_slice() {
                [first, .., last] => format!("not imported: {} databases, {first} to {last}: {why}", names.len()),
                names => format!("not imported: {}: {why}", names.join(", ")),
            });
        }
        lines.push(OPERATORS.to_owned());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Database, Outcome, Refusal, Skipped, Totals};
    use crate::commands::import::compare::{Difference, Kind};

    fn outcome(database: Database, dry_run: bool) -> Outcome {
        let skipped = |name: &str, why| Skipped { name: name.into(), why };
        Outcome {
            source: "https://old:443".into(),
            target: "http://new:5984".into(),
            dry_run,
            databases: vec![database],
            skipped: vec![skipped("u-a", "one"), skipped("_x", "two"), skipped("u-b", "one")],
            accounts: None,
        }
    }

    #[test]
    fn a_dry_run_says_what_would_be_made() {
        let database = Database { name: "medic".into(), scoped: true, made: true, ..Database::default() };
        let lines = outcome(database, true).lines();
        assert_eq!(lines[0], "would import from https://old:443 into http://new:5984");
        assert_eq!(lines[1], "medic: 0 documents, into a new scoped database");
        assert_eq!(lines[2], "not imported: 2 databases, u-a to u-b: one");
        assert_eq!(lines[3], "not imported: _x: two");
    }

    #[test]
    fn what_is_wrong_is_named_and_the_list_ends() {
        let totals = |documents| Totals { documents, digest: "ab".repeat(32), ..Totals::default() };
        let difference =
            |at: usize| Difference { id: format!("d{at}"), kind: Kind::Missing, detail: "not there".into() };
        let compared = Comparison {
            source: totals(30),
            target: totals(0),
            differences: (0..30).map(difference).collect(),
            more: 5,
        };
        let mut database = Database { name: "medic".into(), compared: Some(compared), ..Database::default() };
        assert!(!database.is_good());
        let text = outcome(std::mem::take(&mut database), false).lines().join("\n");
        assert!(
            text.contains("NOT EQUAL. Source: 30 documents, 0 deleted, 0 revisions, digest abababababababab\n"),
            "{text}"
        );
        assert!(text.contains("  d19: not there\n  and 15 more\n"), "{text}");
        let refused = vec![Refusal { id: "a".into(), rev: "1-a".into(), reason: "413 too large".into() }];
        let database = Database { name: "medic".into(), refused, ..Database::default() };
        assert!(!database.is_good());
        assert!(outcome(database, false).lines().contains(&"  refused: a 1-a: 413 too large".to_owned()));
    }
}
