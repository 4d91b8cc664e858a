//! What an import says to whoever started it.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::accounts::import_rows::result_file::RowResult;

/// Refused rows that are shown; all are in the file.
const SHOWN: usize = 10;

/// How many rows became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) created: usize,
    pub(super) changed: usize,
    pub(super) exists: usize,
    pub(super) skipped: usize,
    pub(super) unchecked: usize,
    pub(super) refused: usize,
}

impl Counts {
    pub(super) fn of<'r>(results: impl IntoIterator<Item = &'r RowResult>) -> Self {
        let mut counts = Self::default();
        for result in results {
            *match result.status.as_str() {
                "created" => &mut counts.created,
                "changed" => &mut counts.changed,
                "exists" => &mut counts.exists,
                "skipped" => &mut counts.skipped,
                "unchecked" => &mut counts.unchecked,
                _ => &mut counts.refused,
            } += 1;
        }
        counts
    }

    pub(super) const fn all(&self) -> usize {
        self.created + self.changed + self.exists + self.skipped + self.unchecked + self.refused
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.created, "created"),
            (self.changed, "changed"),
            (self.exists, "there already"),
            (self.skipped, "skipped"),
            (self.unchecked, "not checked"),
            (self.refused, "refused"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        formatter.write_str(&if said.is_empty() { "nothing yet".to_owned() } else { said.join(", ") })
    }
}

/// The end of an import: how many, what was refused, and where the rest is. `results` with the lines of their rows.
pub(super) fn told_in_words<'r>(
    first: &str,
    path: &Path,
    results: impl Iterator<Item = (u64, &'r RowResult)> + Clone,
) -> String {
    let mut text = format!("{first}\n");
    for (line, result) in results.clone().filter(|(_, result)| result.status == "refused").take(SHOWN) {
        text.push_str(&format!("  line {line}: {}\n", result.reason));
    }
    let mut results = results;
    let secrets = results.any(|(_, result)| !result.link.is_empty() || !result.password.is_empty());
    let care =
        if secrets { " It has what logs people in: give it to nobody, and delete it when it was used." } else { "" };
    text.push_str(&format!("{} has every row with what became of it.{care}\n", path.display()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        let row = |status: &str, link: &str| RowResult {
            status: status.to_owned(),
            reason: if status == "refused" { "taken".to_owned() } else { String::new() },
            name: "ann".to_owned(),
            link: link.to_owned(),
            ..RowResult::default()
        };
        let results = [row("created", "http://h"), row("exists", ""), row("refused", "")];
        let counts = Counts::of(&results);
        assert_eq!((counts.all(), counts.to_string().as_str()), (3, "1 created, 1 there already, 1 refused"));
        let told = told_in_words("w.csv: done.", Path::new("w.result.csv"), (2..).zip(&results));
        assert!(told.starts_with("w.csv: done.\n  line 4: taken\nw.result.csv has every row"), "{told}");
        assert!(told.contains("give it to nobody"));
        assert!(!told_in_words("x", Path::new("y"), (3..).zip(&results[1..])).contains("nobody"));
    }
}
