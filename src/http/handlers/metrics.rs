//! `/_metrics`: figures of the process, of each database, and of the devices out there, as Prometheus text.

use std::fmt::Write as _;

use super::Handled;
use super::node::resident_bytes;
use crate::accounts::standing::Standing;
use crate::accounts::{event_cursors, ledger, outbox};
use crate::documents::administration::Charge;
use crate::documents::escrow;
use crate::documents::radar::{Figures, Sighting, Wanted, is_silent, look};
use crate::documents::tables::Counters;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::services::Services;
use crate::storage::{Snapshot, StorageError, StorageResult};

/// Days without a call that devices are counted by.
const SILENT_DAYS: [u64; 3] = [1, 7, 30];

/// Gauges as text.
#[derive(Default)]
struct Gauges(String);

impl Gauges {
    fn add(&mut self, name: &str, help: &str, rows: &[(String, u64)]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP settle_{name} {help}\n# TYPE settle_{name} gauge");
        for (labels, value) in rows {
            let _ = writeln!(self.0, "settle_{name}{labels} {value}");
        }
    }

    fn plain(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, &[(String::new(), value)]);
    }
}

/// `GET /_metrics` and `/_node/{name}/_prometheus`.
pub(super) async fn metrics(context: &Context) -> Handled {
    let services = std::sync::Arc::clone(&context.services);
    let written = tokio::task::spawn_blocking(move || -> StorageResult<String> {
        let mut gauges = Gauges::default();
        let snapshot = services.store.snapshot();
        of_process(&services, &snapshot, &mut gauges);
        of_databases(&services, &snapshot, &mut gauges);
        of_devices(&services, &snapshot, &mut gauges)?;
        of_outbox(&services, &snapshot, &mut gauges)?;
        Ok(gauges.0)
    });
    let text = written.await.map_err(|_| StorageError::Panicked)??;
    Ok(Answer::json(200, text).content_type("text/plain; version=0.0.4"))
}

fn of_process(services: &Services, snapshot: &Snapshot<'_>, gauges: &mut Gauges) {
    gauges.plain("up", "1 while writes are durable.", u64::from(services.store.is_healthy()));
    gauges.plain("resident_memory_bytes", "Resident memory of the process.", resident_bytes());
    gauges.plain("store_disk_bytes", "Bytes of the store's files.", services.store.disk_bytes());
    gauges.plain("writer_queue_requests", "Writes that wait.", services.store.queued_writes() as u64);
    let held = services.body_memory.held_bytes();
    gauges.plain("body_memory_bytes", "Bytes that request bodies hold in memory.", held);
    let written = services.ledger.written();
    let behind = ledger::length(snapshot).unwrap_or_default().saturating_sub(written);
    gauges.plain("ledger_behind_lines", "Lines of the revocation ledger that its file lacks.", behind);
    let unconfirmed = u64::from(services.ledger.unconfirmed().is_some());
    gauges.plain("restore_unconfirmed", "1 while scoped databases wait for an operator after a restore.", unconfirmed);
    gauges.plain("open_feeds", "Feeds that are being sent or held.", services.feeds.count());
}

fn of_databases(services: &Services, snapshot: &Snapshot<'_>, gauges: &mut Gauges) {
    let names = services.catalogue.names();
    let databases: Vec<_> = names.iter().filter_map(|name| services.catalogue.find(name).ok()).collect();
    let per_database = |figure: fn(&Counters) -> u64| -> Vec<(String, u64)> {
        let counted = databases.iter().filter_map(|database| {
            let counters = database.counters(snapshot).ok()?;
            Some((format!("{{database=\"{}\"}}", database.name), figure(&counters)))
        });
        counted.collect()
    };
    gauges.add("documents", "Documents that are not deleted.", &per_database(|counters| counters.documents));
    gauges.add("deleted_documents", "Tombstones.", &per_database(|counters| counters.deleted));
    gauges.add("position", "Newest position of the log.", &per_database(|counters| counters.position));
    let escrowed = databases.iter().filter(|database| database.row.scoped).filter_map(|database| {
        let live = escrow::live(snapshot, database.id()).ok()?;
        Some((format!("{{database=\"{}\"}}", database.name), live))
    });
    let escrowed: Vec<(String, u64)> = escrowed.collect();
    gauges.add("escrow_documents", "Refused revisions that wait for a decision.", &escrowed);
}

fn of_devices(services: &Services, snapshot: &Snapshot<'_>, gauges: &mut Gauges) -> StorageResult<()> {
    let now = services.clock.now();
    let names = services.catalogue.names();
    let databases: Vec<_> = names.iter().filter_map(|name| services.catalogue.find(name).ok()).collect();
    let sightings = look(snapshot, &databases, &Charge::Everybody, &Wanted::default(), now)?;
    let mut figures = Figures::default();
    for sighting in &sightings {
        figures.add(sighting, SILENT_DAYS[0], now);
    }
    let standings = [Standing::Active, Standing::Draining, Standing::Drained, Standing::Retired, Standing::Cut];
    let by_standing = standings.map(|standing| {
        let word = serde_json::to_value(standing).unwrap_or_default();
        (format!("{{standing={word}}}"), figures.standings.get(&standing).copied().unwrap_or_default())
    });
    gauges.add("devices", "Devices by standing.", &by_standing);
    let silent = |days: u64| {
        let silent = |sighting: &&Sighting| is_silent(sighting, days, now);
        (format!("{{days=\"{days}\"}}"), sightings.iter().filter(silent).count() as u64)
    };
    let help = "Devices that may still bring something and have not called for so many days.";
    gauges.add("devices_silent", help, &SILENT_DAYS.map(silent));
    gauges.plain("devices_pending", "Devices that say they hold unsent work.", figures.pending);
    gauges.plain("pending_documents", "Documents that devices say they did not send yet.", figures.pending_documents);
    gauges.plain("devices_escrowed", "Devices whose work waits for a decision.", figures.escrowed);
    gauges.plain("devices_alarm", "Devices that called after they said they were erased.", figures.alarms);
    Ok(())
}

fn of_outbox(services: &Services, snapshot: &Snapshot<'_>, gauges: &mut Gauges) -> StorageResult<()> {
    let counts = outbox::open_by_state(snapshot)?;
    let by_state = counts.map(|(state, count)| (format!("{{state=\"{}\"}}", state.word()), count));
    gauges.add(
        "outbox_messages",
        "Links that wait, are being sent, or were given up and can be sent again.",
        &by_state,
    );
    let mut failing = Vec::new();
    for webhook in &services.outbox.webhooks {
        let cursor = event_cursors::find(snapshot, &webhook.name)?.unwrap_or_default();
        failing.push((format!("{{webhook=\"{}\"}}", webhook.name), u64::from(cursor.attempts)));
    }
    gauges.add("event_webhook_failed_tries", "Tries in a row that an event webhook did not take.", &failing);
    Ok(())
}
