//! What the bench found, as a table for people and as JSON for machines.
//!
//! A figure stands beside the raw limit of the machine from the same run and beside the reference numbers. Goals are judged
//! only in full runs: a tenth of the work says that the bench runs, not how fast the server is.
//! Never measures anything, and never hides a workload that failed.

use serde_json::{Value, json};

use super::raw_limits::{RawLimit, StorageLimits};
use super::reference::{self, Goal};

/// One measured value.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its name: the workload's, or begins with it.
    pub name: &'static str,
    /// The value, in `unit`.
    pub value: f64,
    /// `docs/s`, `rows/s`, `req/s`, `MiB`, `KiB` or `ms`.
    pub unit: &'static str,
    /// What the machine could do at most.
    pub raw: Option<RawLimit>,
    /// Details: delays, sizes, restrictions.
    pub note: String,
    /// Whether the work was so reduced that the goal cannot be judged.
    pub reduced: bool,
}

impl Figure {
    /// A value without a raw limit beside it.
    pub fn new(name: &'static str, value: f64, unit: &'static str, note: impl Into<String>) -> Self {
        Self { name, value, unit, raw: None, note: note.into(), reduced: false }
    }

    /// The same figure with its raw limit, if that was measured.
    #[must_use]
    pub fn with_raw(self, raw: Option<RawLimit>) -> Self {
        Self { raw, ..self }
    }

    fn share_of_raw(&self) -> Option<f64> {
        self.raw.as_ref().map(|raw| self.value / raw.value)
    }
}

/// Everything one run found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was measured, for the heading.
    pub server: String,
    /// Whether the work was a tenth of the full size.
    pub quick: bool,
    /// Processors of this machine, and its load average of the last minute before the run.
    pub machine: (usize, f64),
    /// RocksDB's raw limits, when measured.
    pub limits: Option<StorageLimits>,
    /// Figures in the order of their workloads.
    pub figures: Vec<Figure>,
    /// Workloads that failed, with the reason.
    pub failures: Vec<(String, String)>,
}

impl Report {
    /// The table that is printed without `--json`.
    pub fn to_table(&self) -> String {
        let heading = ["figure", "measured", "unit", "raw limit", "of it", "CouchDB*", "times", "goal", "", "remarks"];
        let mut rows = vec![heading.map(str::to_owned)];
        rows.extend(self.figures.iter().map(|figure| self.row(figure)));
        let mut text = self.heading();
        text.push_str(&aligned(&rows));
        text.push_str(&format!("\n* {}\n", reference::SOURCE));
        if let Some(limits) = self.limits {
            text.push_str(&format!(
                "raw limits of RocksDB here: {} docs/s in synced batches of 500, {} docs/s in synced single writes by one \
                 thread, {} rows/s scanned, {} docs/s by multi-get\n",
                number(limits.batches),
                number(limits.singles),
                number(limits.scan),
                number(limits.fetch)
            ));
        }
        for (workload, reason) in &self.failures {
            text.push_str(&format!("FAILED {workload}: {reason}\n"));
        }
        text
    }

    fn heading(&self) -> String {
        let (processors, load) = self.machine;
        let mut text = format!("{}; {processors} processors, load {load:.1} before the run\n", self.server);
        if load > 0.3 {
            text.push_str("The machine was not idle: the figures are too low.\n");
        }
        if self.quick {
            text.push_str("Quick run, a tenth of the work: goals are not judged.\n");
        }
        text.push('\n');
        text
    }

    fn row(&self, figure: &Figure) -> [String; 10] {
        let reference = reference::find(figure.name);
        let couchdb = reference.and_then(|reference| reference.couchdb);
        let verdict = match self.goal_met(figure) {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            figure.name.to_owned(),
            number(figure.value),
            figure.unit.to_owned(),
            figure.raw.as_ref().map_or_else(String::new, |raw| number(raw.value)),
            figure.share_of_raw().map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)),
            couchdb.map_or_else(String::new, range),
            reference
                .and_then(|reference| reference.times_couchdb(figure.value))
                .map_or_else(String::new, |times| format!("{times:.1}×")),
            reference.and_then(|reference| reference.goal).map_or_else(String::new, goal),
            verdict.to_owned(),
            remarks(figure),
        ]
    }

    /// Whether the figure reaches its goal; `None` without a goal and where it cannot be judged.
    fn goal_met(&self, figure: &Figure) -> Option<bool> {
        if self.quick || figure.reduced {
            return None;
        }
        reference::find(figure.name)?.is_met(figure.value)
    }

    /// The object that `--json` prints.
    pub fn to_json(&self) -> Value {
        let failures: Vec<_> =
            self.failures.iter().map(|(workload, reason)| json!({"workload": workload, "reason": reason})).collect();
        json!({
            "server": self.server,
            "quick": self.quick,
            "processors": self.machine.0,
            "load_before": self.machine.1,
            "storage_limits": self.limits.map(StorageLimits::to_json),
            "couchdb_source": reference::SOURCE,
            "figures": self.figures.iter().map(|figure| self.figure_json(figure)).collect::<Vec<_>>(),
            "failures": failures,
        })
    }

    fn figure_json(&self, figure: &Figure) -> Value {
        let reference = reference::find(figure.name);
        let couchdb = reference.and_then(|reference| reference.couchdb);
        json!({
            "name": figure.name,
            "value": figure.value,
            "unit": figure.unit,
            "raw_limit": figure.raw.as_ref().map(|raw| raw.value),
            "raw_limit_of": figure.raw.as_ref().map(|raw| raw.what.as_str()),
            "share_of_raw_limit": figure.share_of_raw(),
            "couchdb": couchdb.map(|(lowest, highest)| [lowest, highest]),
            "times_couchdb": reference.and_then(|reference| reference.times_couchdb(figure.value)),
            "goal": reference.and_then(|reference| reference.goal).map(goal),
            "goal_met": self.goal_met(figure),
            "note": figure.note,
        })
    }
}

fn remarks(figure: &Figure) -> String {
    let limit = figure.raw.as_ref().map(|raw| format!("limit: {}", raw.what));
    let parts: Vec<_> = limit.into_iter().chain(Some(figure.note.clone()).filter(|note| !note.is_empty())).collect();
    parts.join("; ")
}

fn goal(goal: Goal) -> String {
    match goal {
        Goal::TimesCouchdb(times) => format!("≥ {times}×"),
        Goal::AtMost(most) => format!("≤ {}", number(most)),
    }
}

fn range((lowest, highest): (f64, f64)) -> String {
    if lowest < highest { format!("{}–{}", number(lowest), number(highest)) } else { number(highest) }
}

/// A number for people: thousands separated, decimals only when small.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 1_000.0 {
        return format!("{value:.1}").trim_end_matches(".0").to_owned();
    }
    let digits = format!("{value:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Columns padded to their widest cell: the first and the last two to the left, the others to the right.
fn aligned(rows: &[[String; 10]]) -> String {
    let mut text = String::new();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..10).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 | 2 | 8 | 9 => line.push_str(&format!("{cell:<width$}  ")),
                _ => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Figure, RawLimit, Report, number};

    fn report(quick: bool) -> Report {
        let limit = RawLimit { value: 120_000.0, what: "RocksDB batches".to_owned() };
        let figures = vec![
            Figure::new("bulk-1", 45_000.0, "docs/s", "").with_raw(Some(limit)),
            Figure::new("memory", 87.25, "MiB", "after 50,000 documents"),
            Figure::new("pull", 1_234.5, "docs/s", ""),
        ];
        let failures = vec![("push".to_owned(), "status 500".to_owned())];
        Report { server: "Settle".to_owned(), quick, machine: (2, 0.1), limits: None, figures, failures }
    }

    #[test]
    fn the_table_holds_figures_against_limits_and_goals() {
        let table = report(false).to_table();
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "Settle; 2 processors, load 0.1 before the run");
        assert_eq!(lines[3], "bulk-1 45,000 docs/s 120,000 38 % 13,000–15,000 3.0× ≥ 4× MISSED limit: RocksDB batches");
        assert_eq!(lines[4], "memory 87.2 MiB 153 0.6× ≤ 100 met after 50,000 documents");
        assert_eq!(lines[5], "pull 1,234 docs/s");
        assert!(lines.contains(&"FAILED push: status 500".to_owned()));
    }

    #[test]
    fn reduced_work_is_not_judged() {
        let mut report = report(false);
        report.figures[0].reduced = true;
        assert!(!report.to_table().contains("MISSED"));
    }

    #[test]
    fn quick_runs_judge_nothing() {
        let table = report(true).to_table();
        assert!(!table.contains("MISSED") && !table.contains(" met"), "{table}");
        assert_eq!(report(true).to_json()["figures"][0]["goal_met"], serde_json::Value::Null);
    }

    #[test]
    fn json_has_the_same_content() {
        let json = report(false).to_json();
        assert_eq!(json["figures"][0]["share_of_raw_limit"], 0.375);
        assert_eq!(json["figures"][0]["couchdb"], serde_json::json!([13_000.0, 15_000.0]));
        assert_eq!(json["figures"][1]["goal_met"], true);
        assert_eq!(json["failures"][0]["workload"], "push");
    }

    #[test]
    fn numbers_are_readable() {
        let shown = [0.0, 4.567, 42.0, 99.95, 1_000.4, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.00", "4.57", "42", "100", "1,000", "1,234,567"]);
    }
}
