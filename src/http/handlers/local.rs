//! `_local` documents over HTTP (protocol page §1.1.4).

use settle_protocol::Error;
use settle_protocol::document::IncomingDocument;
use settle_protocol::listing::ListingOptions;

use super::Handled;
use super::database::object_or_empty;
use super::document::location;
use super::pull::queries_of;
use crate::accounts::standing::Right;
use crate::accounts::withdrawals::note_checkpoint;
use crate::documents::error::DocumentError;
use crate::documents::local;
use crate::http::pipeline::Context;
use crate::http::response::{Answer, matches_tag};
use crate::storage::hex;

fn id_of(context: &Context) -> String {
    format!("{}{}", local::PREFIX, context.request.segment(2))
}

/// `GET /db/_local/ID`. Its tag is a hash of the text.
pub(super) fn read(context: &Context) -> Handled {
    let query = &context.request.query;
    if query.get("rev").is_some() || query.get("open_revs").is_some() {
        return Err(Error::missing().into());
    }
    let snapshot = context.services.store.snapshot();
    let owner = local::owner(&context.caller);
    let (database, id) = (context.database()?, id_of(context));
    let text = match local::read(&snapshot, &database, owner, &id, query.flag("revs")) {
        Err(DocumentError::Refused(missing)) => {
            context.services.restarts.note_missing(&database, owner, &id);
            return Err(missing.into());
        }
        read => read?,
    };
    let tag = hex(&blake3::hash(&text).as_bytes()[..16]);
    if matches_tag(context.request.header("if-none-match"), &tag) {
        return Ok(Answer::not_modified(&tag));
    }
    Ok(Answer::json(200, text).etag(&tag))
}

/// `PUT /db/_local/ID`: never a conflict.
pub(super) async fn write(context: &mut Context) -> Handled {
    if context.request.method == "POST" {
        return Err(Error::bad_request("Use PUT to write a _local document.").into());
    }
    let body = context.read_body(context.settings.max_request_bytes.min(64 << 20)).await?;
    let mut document = IncomingDocument::parse(&body)?;
    if document.deleted {
        return delete(context).await;
    }
    if document.body.len() > context.settings.max_document_bytes {
        return Err(settle_protocol::bulk::too_large(String::new()).into());
    }
    let sent = document.revision.take().map(|revision| revision.to_string());
    let sent = sent.or_else(|| context.request.query.get("rev").map(str::to_owned));
    let id = id_of(context);
    store(context, id, sent, document.body).await
}

/// Stores a `_local` document.
pub(super) async fn store(context: &Context, id: String, sent: Option<String>, text: String) -> Handled {
    let database = context.database()?;
    let owner = local::owner(&context.caller);
    context.services.restarts.permit(&context.services.store.snapshot(), &database, owner, &id, &text)?;
    let name = id.clone();
    let (pass, now) = (context.caller.pass.clone(), context.services.clock.now());
    let written = context.services.store.write(move |batch| -> Result<u64, DocumentError> {
        if let Some(pass) = &pass {
            note_checkpoint(batch, pass, &database.name, now)?.allow(Right::Push)?;
        }
        local::write(batch, &database, owner, &name, sent.as_deref(), text)
    });
    let revision = format!("0-{}", written.await?);
    Ok(Answer::written(201, &id, &revision).location(&location(context, &id)))
}

/// `DELETE /db/_local/ID`.
pub(super) async fn delete(context: &mut Context) -> Handled {
    let database = context.database()?;
    let (owner, id) = (local::owner(&context.caller), id_of(context));
    let name = id.clone();
    let deleted = context
        .services
        .store
        .write(move |batch| -> Result<(), DocumentError> { local::delete(batch, &database, owner, &name) });
    deleted.await?;
    Ok(Answer::written(200, &id, "0-0"))
}

/// `GET` and `POST /db/_local_docs`.
pub(super) async fn list(context: &mut Context) -> Handled {
    let mut options = ListingOptions::from_query(&context.request.query)?;
    if context.request.method == "POST" {
        context.request.require_json()?;
        options = options.with_body(&object_or_empty(context).await?)?;
    }
    Ok(Answer::json(200, text_of(context, &options)?))
}

fn text_of(context: &Context, options: &ListingOptions) -> Result<Vec<u8>, crate::http::error::HttpError> {
    let snapshot = context.services.store.snapshot();
    Ok(local::list(&snapshot, &*context.database()?, local::owner(&context.caller), options)?)
}

/// `POST /db/_local_docs/queries`.
pub(super) async fn list_queries(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let body = object_or_empty(context).await?;
    let mut text = b"{\"results\":[".to_vec();
    for (at, query) in queries_of(&body)?.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let options = ListingOptions::from_query(&context.request.query)?.with_body(query)?;
        text.extend_from_slice(&text_of(context, &options)?);
    }
    text.extend_from_slice(b"]}");
    Ok(Answer::json(200, text))
}
