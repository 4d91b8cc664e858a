//! After a restore: an operator takes responsibility for what the ledger cannot tell, and learns which receipts are newer than
//! the data.

use serde_json::{Value, json};
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::accounts::text_of;
use super::database::object_or_empty;
use crate::accounts::enrolments;
use crate::accounts::ledger::{self, LostReceipt};
use crate::audit;
use crate::documents::administration::oversight_of;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{StorageError, unhex};

/// `POST /_handover/confirm_restore {"reason": …}`: scoped databases give out documents again, although nobody knows what was
/// withdrawn since the data were copied.
pub(super) async fn confirm(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let reason = text_of(&body, "reason")?;
    let Some(why) = context.services.ledger.unconfirmed() else {
        return Ok(Answer::json(200, json!({"ok": true, "changed": false}).to_string()));
    };
    let entry = context.entry("store.restore_confirmed").reason(reason.as_deref()).detail("ledger", why);
    context.services.store.write(move |batch| audit::append(batch, &entry)).await?;
    let services = std::sync::Arc::clone(&context.services);
    let confirmed = tokio::task::spawn_blocking(move || services.ledger.confirm(services.clock.now()));
    let changed = confirmed.await.map_err(|_| StorageError::Panicked)?.map_err(|error| {
        let path = context.services.ledger.path().display();
        Error::new(ErrorKind::Unavailable, format!("A new ledger cannot be written to {path}: {error}"))
    })?;
    Ok(Answer::json(200, json!({"ok": true, "changed": changed}).to_string()))
}

/// `GET /_handover/lost_receipts`: what was promised and may be gone. Whoever has no other receipt since must be asked again; of
/// a device that was erased since, the work is lost. Of accounts in the caller's charge only.
pub(super) fn lost_receipts(context: &Context) -> Handled {
    let snapshot = context.services.store.snapshot();
    let lost = ledger::lost_receipts(&ledger::lines(&snapshot)?);
    let row = |lost: &LostReceipt, account: &str| -> Value {
        let mut row = serde_json::to_value(lost).unwrap_or_default();
        row["account"] = Some(account).filter(|account| !account.is_empty()).into();
        row["state"] = match (lost.given_again_at, lost.erased) {
            (Some(_), _) => "given_again",
            (None, true) => "lost",
            (None, false) => "ask_device",
        }
        .into();
        row
    };
    let charge = oversight_of(&snapshot, &context.caller)?;
    let mut rows = Vec::new();
    for lost in &lost {
        let device = unhex(&lost.device).unwrap_or_default();
        let account = enrolments::account_of(&snapshot, device)?.unwrap_or_default();
        if charge.covers_named(&snapshot, &account)? {
            rows.push(row(lost, &account));
        }
    }
    Ok(Answer::json(200, json!({"receipts": rows}).to_string()))
}
