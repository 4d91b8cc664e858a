//! `/db/_manifest`: what a device says it holds, what the server lacks of it, and the receipt (`docs/handover-protocol.md` §4).

use std::sync::Arc;

use serde_json::{Value, json};
use settle_protocol::manifest::{ManifestPart, is_manifest_name};
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use crate::accounts::standing::Standing;
use crate::clock::random;
use crate::documents::error::DocumentError;
use crate::documents::handover::{Given, Issuer, give};
use crate::documents::manifests::{self, Compared, Holder};
use crate::documents::receipts::{self, Receipt};
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::services::Services;
use crate::storage::StorageError;

/// Bytes of one part.
const MAX_PART_BYTES: u64 = 16 << 20;
/// How often a manifest is compared again because something was taken away meanwhile.
const COMPARISONS: usize = 5;

fn holder_of(context: &Context) -> Result<Holder, HttpError> {
    let reason = "A manifest is sent by a device: log in with an account; operators and the anonymous have no device.";
    let pass = context.caller.pass.clone().ok_or_else(|| Error::bad_request(reason))?;
    Ok(Holder { database: context.database()?, view: context.view.clone(), pass })
}

/// `GET /_handover/key`.
pub(super) fn key(context: &Context) -> Answer {
    let key = context.services.receipts.public();
    Answer::json(200, json!({"algorithm": "ed25519", "key": key}).to_string())
}

/// `GET /db/_manifest/NAME`: how much of it was received, or its receipt.
pub(super) fn read(context: &Context) -> Handled {
    let holder = holder_of(context)?;
    let name = context.request.segment(2);
    let snapshot = context.services.store.snapshot();
    if let Some(open) = manifests::find(&snapshot, &holder, name)? {
        return Ok(Answer::json(200, json!({"ok": true, "manifest": name, "received": open.received}).to_string()));
    }
    let receipt = receipts::newest(&snapshot, holder.database.id(), &holder.pass.device)?;
    match receipt.filter(|receipt| receipt.manifest == name && is_manifest_name(name)) {
        Some(receipt) => {
            let received = receipt.revisions;
            let body = json!({"ok": true, "manifest": name, "received": received, "receipt": receipt});
            Ok(Answer::json(200, body.to_string()))
        }
        None => Err(Error::missing().into()),
    }
}

/// `POST /db/_manifest`.
pub(super) async fn receive(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let holder = holder_of(context)?;
    let limit = MAX_PART_BYTES.min(context.settings.max_request_bytes);
    let body = context.read_body(limit).await.map_err(|error| match error.kind() {
        ErrorKind::TooLarge => {
            let reason = format!("A part of a manifest has at most {limit} bytes: send it in several parts.");
            Error::new(ErrorKind::TooLarge, reason)
        }
        _ => error,
    })?;
    let longest_id = context.settings.max_document_id_bytes;
    let part = blocking(move || Ok(ManifestPart::parse(&body, longest_id)?)).await?;
    let work = Work { services: Arc::clone(&context.services), holder, part: Arc::new(part) };
    if work.part.last { work.finish().await } else { work.receive().await }
}

/// Comparing reads a lot: never on an async thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DocumentError> + Send + 'static,
) -> Result<T, HttpError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Panicked)??)
}

struct Work {
    services: Arc<Services>,
    holder: Holder,
    part: Arc<ManifestPart>,
}

impl Work {
    /// A part that others follow: it is kept, and the answer says what is missing of it.
    async fn receive(self) -> Handled {
        let received = self.keep().await?;
        let (services, holder, part) = (Arc::clone(&self.services), self.holder.clone(), Arc::clone(&self.part));
        let compared = blocking(move || Ok(manifests::compare(&services.store.snapshot(), &holder, &part)?)).await?;
        Ok(self.answer(received, compared, Value::Null))
    }

    async fn keep(&self) -> Result<u64, HttpError> {
        let services = &self.services;
        let now = services.clock.now();
        let kept = manifests::receive(&services.store, &self.holder, &self.part, random(), now).await?;
        Ok(kept.received)
    }

    /// The last part: a receipt, or what is missing of all parts.
    async fn finish(self) -> Handled {
        let open = manifests::find(&self.services.store.snapshot(), &self.holder, &self.part.manifest)?;
        let mut received = match open {
            None => {
                if let Some(receipt) = self.given_before()? {
                    return self.given(receipt.revisions, Compared::default(), self.standing_with(receipt)?);
                }
                None
            }
            Some(open) if self.part.revisions.is_empty() => Some(open.received),
            Some(_) => Some(self.keep().await?),
        };
        for _ in 0..COMPARISONS {
            let (services, holder, part) = (Arc::clone(&self.services), self.holder.clone(), Arc::clone(&self.part));
            let checked = blocking(move || Ok(manifests::check(&services.store.snapshot(), &holder, &part)?)).await?;
            self.check_total(checked.root.revisions)?;
            if !checked.found.missing.is_empty() {
                // It stays open: the device pushes, and does not have to send its list again.
                if received.is_none() {
                    received = Some(self.keep().await?);
                }
                return Ok(self.answer(received.unwrap_or_default(), checked.found, Value::Null));
            }
            let (services, holder, name) =
                (Arc::clone(&self.services), self.holder.clone(), self.part.manifest.clone());
            let (now, found, count) = (services.clock.now(), checked.found.clone(), checked.root.revisions);
            let given = self.services.store.write(move |batch| {
                let (server, incarnation) = (services.store.server_id(), services.store.incarnation());
                let issuer = Issuer { key: &services.receipts, server, incarnation };
                give(batch, &holder, &name, &checked, issuer, now)
            });
            if let Some(given) = given.await? {
                return self.given(count, found, given);
            }
        }
        let reason = "Documents were being removed while the manifest was compared. Send the last part again.";
        Err(Error::new(ErrorKind::Unavailable, reason).into())
    }

    /// What the device counted must be what arrived: parts that were forgotten must not be taken for a device without work.
    fn check_total(&self, received: u64) -> Result<(), Error> {
        let reason = match self.part.total {
            Some(total) if total != received => {
                format!("{received} revisions of this manifest are here, not {total}. Send all of its parts again.")
            }
            None if received == 0 => {
                "Nothing was received of this manifest, or it was forgotten. Send its parts again; a \
                                      device that holds nothing says so with \"total\": 0."
                    .to_owned()
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Conflict, reason))
    }

    /// The answer with the receipt may have been lost: the same question again gets it again.
    fn given_before(&self) -> Result<Option<Receipt>, HttpError> {
        if !self.part.revisions.is_empty() {
            return Ok(None);
        }
        let snapshot = self.services.store.snapshot();
        let receipt = receipts::newest(&snapshot, self.holder.database.id(), &self.holder.pass.device)?;
        let same = |receipt: &Receipt| {
            receipt.manifest == self.part.manifest && self.part.total.is_none_or(|total| total == receipt.revisions)
        };
        Ok(receipt.filter(same))
    }

    fn standing_with(&self, receipt: Receipt) -> Result<Given, HttpError> {
        let judged = self.holder.pass.judge(&self.services.store.snapshot(), self.services.clock.now())?;
        Ok(Given { receipt, standing: judged.standing, waiting_for: Vec::new() })
    }

    fn given(&self, received: u64, found: Compared, given: Given) -> Handled {
        let Given { receipt, standing, waiting_for } = given;
        let more = match standing {
            Standing::Active => json!({"receipt": receipt, "standing": standing}),
            _ => json!({"receipt": receipt, "standing": standing, "waiting_for": waiting_for}),
        };
        Ok(self.answer(received, found, more))
    }

    fn answer(&self, received: u64, found: Compared, more: Value) -> Answer {
        let Compared { missing, escrowed, more: cut, .. } = found;
        let missing: serde_json::Map<String, Value> =
            missing.into_iter().map(|(id, revisions)| (id, revisions.into())).collect();
        let escrowed: Vec<Value> = escrowed.into_iter().map(|(id, rev)| json!({"id": id, "rev": rev})).collect();
        let mut body = json!({
            "ok": true, "manifest": self.part.manifest, "received": received, "missing": missing, "escrowed": escrowed,
        });
        if cut {
            body["more"] = true.into();
        }
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Answer::json(200, body.to_string())
    }
}
