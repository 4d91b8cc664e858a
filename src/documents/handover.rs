//! The last step of a last sync, on the writer: everything that a device listed is here, so it gets its receipt, and if it was
//! withdrawn it is drained. One batch with the audit entry and the line of the ledger.

use super::databases::still_there;
use super::error::DocumentResult;
use super::manifests::{Checked, Holder, close};
use super::receipts::{self, Receipt, ReceiptKey};
use super::scopes::scope_at;
use super::tables::{COUNTERS, DATABASES, DatabaseKey};
use crate::accounts::enrolments::{self, Enrolment, Kind};
use crate::accounts::ledger::{self, Line};
use crate::accounts::standing::{Evidence, Judged, Right, Standing};
use crate::accounts::withdrawals::{Actor, note_drained};
use crate::audit;
use crate::storage::{Batch, Read, StorageResult, hex};

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// With this key.
    pub key: &'a ReceiptKey,
    /// The server's identity.
    pub server: [u8; 16],
    /// The history of the store.
    pub incarnation: [u8; 16],
}

/// A receipt, and what it changed.
#[derive(Debug, Clone)]
pub struct Given {
    /// The receipt.
    pub receipt: Receipt,
    /// What the device's credentials are worth now.
    pub standing: Standing,
    /// Databases of which the device has a copy and no receipt yet: it is drained when it has them all.
    pub waiting_for: Vec<String>,
}

/// Gives a receipt for a manifest that was compared completely. `None`: something that was compared may have been taken away,
/// or a part was added; compare again.
///
/// # Errors
/// `401` or `403` when the right was withdrawn meanwhile, `404` when the database is gone, or a failure of the store.
pub fn give(
    batch: &mut Batch<'_>,
    holder: &Holder,
    name: &str,
    checked: &Checked,
    issuer: Issuer<'_>,
    now: u64,
) -> DocumentResult<Option<Given>> {
    let database = still_there(batch, &holder.database)?;
    let judged = holder.pass.judge(batch, now)?;
    judged.allow(Right::Push)?;
    if !checked.still_holds(batch, holder, name)? {
        return Ok(None);
    }
    let pass = &holder.pass;
    // Whoever sees no document does not learn how often something was written either.
    let blind = database.scoped && scope_at(batch, database.id, &pass.account, None)?.0.blind;
    let counters = batch.get(&COUNTERS, &DatabaseKey(database.id))?.filter(|_| !blind).unwrap_or_default();
    let receipt = issuer.key.sign(Receipt {
        version: 0,
        server: hex(&issuer.server),
        incarnation: hex(&issuer.incarnation),
        database: holder.database.name.clone(),
        database_uuid: hex(&database.uuid),
        device: hex(&pass.device),
        account: pass.account.clone(),
        manifest: name.to_owned(),
        documents: checked.root.documents,
        revisions: checked.root.revisions,
        escrowed: checked.found.escrowed_count,
        root: checked.root.finish(),
        position: counters.position,
        time: now,
        key: String::new(),
        signature: String::new(),
    })?;
    receipts::keep(batch, database.id, &pass.device, &receipt);
    close(batch, holder, name, checked);
    let (root, database) = (receipt.root.clone(), receipt.database.clone());
    ledger::append(batch, &Line::Receipt { device: receipt.device.clone(), database, root, at: now })?;
    let actor = Actor { name: pass.account.clone(), now, reason: None };
    let entry = actor.entry("device.receipt").account(&pass.account).device(&pass.device).database(&receipt.database);
    audit::append(batch, &entry.detail("receipt", serde_json::to_value(&receipt).unwrap_or_default()))?;
    let row = enrolments::find(batch, &pass.account, pass.device)?.unwrap_or_default();
    let waiting_for = without_receipt(batch, holder, &row, &judged)?;
    // Several phones may show the same password; what one of them holds says nothing about the others.
    if row.kind != Kind::Basic && waiting_for.is_empty() {
        note_drained(batch, pass, Evidence::Manifest, Vec::new(), &actor)?;
    }
    Ok(Some(Given { receipt, standing: pass.judge(batch, now)?.standing, waiting_for }))
}

/// Databases of a withdrawn device that have no receipt since the withdrawal and since its last push there.
fn without_receipt(
    reader: &impl Read,
    holder: &Holder,
    row: &Enrolment,
    judged: &Judged,
) -> StorageResult<Vec<String>> {
    let mut waiting = Vec::new();
    let Some(withdrawal) = judged.withdrawal else { return Ok(waiting) };
    for (name, pushed) in row.databases.iter().filter(|(name, _)| **name != holder.database.name) {
        let Some(database) = reader.get(&DATABASES, name)? else { continue };
        let receipt = receipts::newest(reader, database.id, &holder.pass.device)?;
        if receipt.is_none_or(|receipt| receipt.time < withdrawal.at.max(*pushed)) {
            waiting.push(name.clone());
        }
    }
    Ok(waiting)
}
