//! Lines about long work, on standard error, not more often than every few seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::copy::Copied;

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(3);

/// What is told while a database is copied and compared.
#[derive(Debug)]
pub(super) struct Progress {
    database: String,
    began: Instant,
    told: Mutex<Instant>,
    /// Rows of the feed that earlier runs had done.
    first: u64,
}

impl Progress {
    /// Begins now; `first` rows of the feed were done before.
    pub(super) fn new(database: &str, first: u64) -> Self {
        let now = Instant::now();
        Self { database: database.to_owned(), began: now, told: Mutex::new(now), first }
    }

    /// After a page: rows of the feed so far, rows that are left if the source says so, and what was written.
    pub(super) fn page(&self, rows: u64, left: Option<u64>, copied: &Copied) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let text = told(rows, left, copied, rows.saturating_sub(self.first) as f64 / seconds);
        self.say(&text, left == Some(0));
    }

    /// While it is compared: documents read of one side.
    pub(super) fn compared(&self, side: &str, documents: u64) {
        self.say(&format!("comparing, {documents} documents of {side} read"), false);
    }

    fn say(&self, text: &str, now: bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if now || told.elapsed() >= PAUSE {
            *told = Instant::now();
            eprintln!("{}: {text}", self.database);
        }
    }
}

/// `rate` is rows in a second.
fn told(rows: u64, left: Option<u64>, copied: &Copied, rate: f64) -> String {
    let mut text = format!("{rows} documents looked at");
    if let Some(left) = left {
        text.push_str(&format!(", {left} left"));
    }
    text.push_str(&format!(", {} revisions copied, {} with attachments", copied.revisions, copied.with_attachments));
    if let Some(left) = left.filter(|left| *left > 0 && rate > 0.0) {
        text.push_str(&format!(", about {:.0} s more", left as f64 / rate));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Copied, told};

    #[test]
    fn what_is_left_is_told_where_the_source_says_it() {
        let copied = Copied { revisions: 7, with_attachments: 2, ..Copied::default() };
        let text = told(1_000, Some(3_000), &copied, 500.0);
        assert_eq!(text, "1000 documents looked at, 3000 left, 7 revisions copied, 2 with attachments, about 6 s more");
        assert_eq!(told(1, None, &copied, 1.0), "1 documents looked at, 7 revisions copied, 2 with attachments");
    }
}
