//! What a pull asks for: `_changes` and listings (`_bulk_get` has a file of its own).

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Map, Value};
use settle_protocol::changes::{ChangesOptions, Feed, Filter};
use settle_protocol::listing::ListingOptions;
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::database::object_or_empty;
use crate::accounts::guard::Guard;
use crate::accounts::standing::Right;
use crate::documents::changes::Changes;
use crate::documents::listing::{Extent, Listing};
use crate::documents::local;
use crate::documents::output::Output;
use crate::documents::scoped_feed::visible_ids;
use crate::http::pipeline::Context;
use crate::http::response::{Answer, stream_pieces};
use crate::storage::{StorageError, Store};

/// `GET` and `POST /db/_changes`.
pub(super) async fn changes(context: &mut Context) -> Handled {
    let body = match context.request.method.as_str() {
        "POST" => {
            context.request.require_json()?;
            Some(Value::Object(object_or_empty(context).await?))
        }
        _ => None,
    };
    let options =
        ChangesOptions::parse(&context.request.query, context.request.header("last-event-id"), body.as_ref())?;
    if context.caller.judged.pushes_only() {
        if context.settings.forbid_draining_changes {
            context.caller.judged.allow(Right::Everything)?;
        }
        return super::draining::changes(context, &options);
    }
    if context.view.is_blind() {
        return super::draining::changes(context, &options);
    }
    if let Filter::Function(name) = &options.filter {
        let reason = format!("Filter {name} is a function of a design document; Settle does not run JavaScript yet.");
        return Err(Error::new(ErrorKind::NotImplemented, reason).into());
    }
    let feed = options.feed;
    let store = context.services.store.clone();
    let most = context.settings.hard_scope_documents;
    if let Some(restricted) = context.view.restricted().filter(|_| most > 0) {
        let documents = visible_ids(&store.snapshot(), restricted, &*context.database()?)?.len() as u64;
        if documents > most {
            let reason = format!(
                "There are {documents} documents in your area, more than the {most} that a device may hold. Pushes go on; ask \
                 your supervisor to divide the area."
            );
            return Err(Error::new(ErrorKind::Forbidden, reason).into());
        }
    }
    let mut changes = Changes::open(
        &store,
        context.database()?,
        options,
        &context.view,
        context.services.clock.now(),
        context.settings.drain_seconds,
    )?;
    if let Some(pass) = context.caller.pass.clone() {
        changes.guard(Guard::new(&store, pass));
    }
    let stream = futures::stream::try_unfold((changes, store), |(mut changes, store)| async move {
        let pieces = changes.next().await.map_err(io::Error::from)?;
        Ok::<_, io::Error>(pieces.map(|pieces| (stream_pieces(store.clone(), pieces), (changes, store))))
    });
    let flat = stream.map(|pieces| match pieces {
        Ok(pieces) => pieces.left_stream(),
        Err(error) => futures::stream::once(async { Err::<Bytes, io::Error>(error) }).right_stream(),
    });
    let answer = Answer::stream(200, Box::pin(flat.flatten()));
    Ok(match feed {
        Feed::EventSource => answer.content_type("text/event-stream").header("cache-control", "no-cache"),
        _ => answer,
    })
}

/// `GET` and `POST /db/_all_docs`, `_design_docs`.
pub(super) async fn listing(context: &mut Context, extent: Extent) -> Handled {
    let mut options = ListingOptions::from_query(&context.request.query)?;
    if context.request.method == "POST" {
        context.request.require_json()?;
        options = options.with_body(&object_or_empty(context).await?)?;
    }
    let store = context.services.store.clone();
    let listing =
        Listing::new(&store, context.database()?, extent, options, local::owner(&context.caller), context.view.clone());
    Ok(Answer::stream(200, Box::pin(pages(store, vec![listing], None))))
}

/// `POST /db/_all_docs/queries`, `_design_docs/queries`.
pub(super) async fn listing_queries(context: &mut Context, extent: Extent) -> Handled {
    context.request.require_json()?;
    let body = object_or_empty(context).await?;
    let store = context.services.store.clone();
    let mut listings = Vec::new();
    for query in queries_of(&body)? {
        let options = ListingOptions::from_query(&context.request.query)?.with_body(query)?;
        listings.push(Listing::new(
            &store,
            context.database()?,
            extent,
            options,
            local::owner(&context.caller),
            context.view.clone(),
        ));
    }
    Ok(Answer::stream(200, Box::pin(pages(store, listings, Some(())))))
}

/// The `queries` of a body.
pub(super) fn queries_of(body: &Map<String, Value>) -> Result<Vec<&Map<String, Value>>, Error> {
    let missing = || Error::bad_request("POST body must include `queries` parameter.");
    let queries = body.get("queries").ok_or_else(missing)?.as_array();
    let queries = queries.ok_or_else(|| Error::bad_request("`queries` parameter must be an array."))?;
    let objects = queries.iter().map(Value::as_object);
    objects.map(|query| query.ok_or_else(|| Error::bad_request("`queries` must hold objects"))).collect()
}

/// Sends listings page by page; several are wrapped in `{"results":[…]}`.
fn pages(
    store: Store,
    listings: Vec<Listing>,
    wrapped: Option<()>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    struct State {
        store: Store,
        rest: std::vec::IntoIter<Listing>,
        current: Option<Listing>,
        started: bool,
        wrapped: bool,
        done: bool,
    }
    let state = State {
        store,
        rest: listings.into_iter(),
        current: None,
        started: false,
        wrapped: wrapped.is_some(),
        done: false,
    };
    let stream = futures::stream::try_unfold(state, |mut state| async move {
        let mut out = Output::default();
        if !state.started && state.wrapped {
            out.text.extend_from_slice(b"{\"results\":[");
        }
        let first = !std::mem::replace(&mut state.started, true);
        loop {
            if let Some(mut listing) = state.current.take() {
                let (listing, page) = tokio::task::spawn_blocking(move || {
                    let page = listing.page();
                    (listing, page)
                })
                .await
                .map_err(|_| io::Error::other(StorageError::Panicked.to_string()))?;
                if let Some(page) = page.map_err(io::Error::from)? {
                    state.current = Some(listing);
                    out.append(page);
                    return Ok::<_, io::Error>(Some((stream_pieces(state.store.clone(), out.into_pieces()), state)));
                }
            }
            match state.rest.next() {
                Some(listing) => {
                    if !first && state.wrapped {
                        out.text.push(b',');
                    }
                    state.current = Some(listing);
                }
                None if state.done => return Ok(None),
                None => {
                    state.done = true;
                    out.text.extend_from_slice(if state.wrapped { b"]}\n" } else { b"\n" });
                    return Ok(Some((stream_pieces(state.store.clone(), out.into_pieces()), state)));
                }
            }
        }
    });
    stream
        .map(|pieces| match pieces {
            Ok(pieces) => pieces.left_stream(),
            Err(error) => futures::stream::once(async { Err(error) }).right_stream(),
        })
        .flatten()
}
