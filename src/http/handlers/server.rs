//! The server itself: welcome, health, ids, lists of databases, tasks.

use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};
use settle_protocol::listing::ListingOptions;
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::database::info_of;
use crate::access::need::{Need, permit};
use crate::http::pipeline::Context;
use crate::http::response::{Answer, matches_tag};
use crate::storage::hex;

/// The CouchDB whose API this is.
const API_VERSION: &str = "3.5.0";
/// The name of the only node.
pub(super) const NODE: &str = "settle@127.0.0.1";

/// `GET /`. The `uuid` never changes: it is part of every PouchDB's replication id.
pub(super) fn welcome(context: &Context) -> Answer {
    let body = json!({
        "couchdb": "Welcome",
        "version": API_VERSION,
        "git_sha": env!("CARGO_PKG_VERSION"),
        "uuid": hex(&context.services.store.server_id()),
        "features": ["pluggable-storage-engines", "scheduler"],
        "vendor": {"name": "Settle", "version": env!("CARGO_PKG_VERSION")},
    });
    Answer::json(200, body.to_string())
}

/// `GET /_up`: ready only when writes are durable.
pub(super) fn up(context: &Context) -> Answer {
    let ledger = &context.services.ledger;
    match context.services.store.is_healthy() {
        true => match (ledger.unconfirmed(), ledger.problem()) {
            (None, None) => Answer::json(200, &b"{\"status\":\"ok\",\"seeds\":{}}"[..]),
            (why, _) => {
                let word = if why.is_some() { "unconfirmed" } else { "behind" };
                Answer::json(200, json!({"status": "ok", "seeds": {}, "ledger": word}).to_string())
            }
        },
        false => Answer::json(503, &b"{\"status\":\"writes_are_not_durable\"}"[..]).header("retry-after", "5"),
    }
}

/// `GET /_uuids?count=N`.
pub(super) fn uuids(context: &Context) -> Handled {
    let count = context.request.query.get("count").unwrap_or("1");
    let invalid = || Error::bad_request("count must be a positive integer");
    let count: u64 = count.parse().map_err(|_| invalid())?;
    if count > context.settings.max_uuids {
        return Err(Error::bad_request("count parameter too large").into());
    }
    let uuids: Vec<String> = (0..count).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let tag = uuids.first().cloned().unwrap_or_default();
    let mut answer = Answer::json(200, json!({"uuids": uuids}).to_string()).etag(&tag);
    answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(answer.header("pragma", "no-cache").header("expires", "Mon, 01 Jan 1990 00:00:00 GMT"))
}

/// Names in the range that the query asks for.
fn names_in_range(context: &Context) -> Result<Vec<String>, Error> {
    let options = ListingOptions::from_query(&context.request.query)?;
    let mut names = context.services.catalogue.names();
    if options.descending {
        names.reverse();
    }
    let end = options.end.as_ref().and_then(Value::as_str).filter(|_| options.exclusive_end).map(str::to_owned);
    names.retain(|name| crate::documents::listing::in_range(&options, name) && end.as_deref() != Some(name.as_str()));
    let skip = usize::try_from(options.skip).unwrap_or(usize::MAX);
    let limit = usize::try_from(options.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    Ok(names.into_iter().skip(skip).take(limit).collect())
}

/// `GET /_all_dbs`.
pub(super) fn all_databases(context: &Context) -> Handled {
    if context.settings.admin_only_all_dbs {
        permit(Need::Operate, &context.caller, None)?;
    }
    let text = serde_json::to_vec(&names_in_range(context)?).unwrap_or_default();
    let tag = hex(&blake3::hash(&text).as_bytes()[..16]);
    if matches_tag(context.request.header("if-none-match"), &tag) {
        return Ok(Answer::not_modified(&tag));
    }
    Ok(Answer::json(200, text).etag(&tag))
}

/// `GET` and `POST /_dbs_info`.
pub(super) async fn databases_info(context: &mut Context) -> Handled {
    let names = if context.request.method == "POST" {
        context.request.require_json()?;
        let body = context.read_body(context.settings.max_request_bytes.min(64 << 20)).await?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| Error::invalid_json())?;
        let keys = body.get("keys").ok_or_else(|| Error::bad_request("`keys` member must exist."))?;
        let keys = keys.as_array().ok_or_else(|| Error::bad_request("`keys` member must be an array."))?;
        if keys.len() > context.settings.max_dbs_info {
            return Err(Error::bad_request("too_many_keys").into());
        }
        let text = |key: &Value| key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        keys.iter().map(text).collect()
    } else {
        names_in_range(context)?
    };
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        rows.push(match context.services.catalogue.find(&name) {
            Ok(database) => json!({"key": name, "info": info_of(context, &database)?}),
            Err(_) => json!({"key": name, "error": "not_found"}),
        });
    }
    Ok(Answer::json(200, Value::Array(rows).to_string()))
}

/// `GET /_active_tasks`.
pub(super) fn active_tasks(context: &Context) -> Answer {
    let tasks: Vec<Value> = context
        .services
        .compactions()
        .into_iter()
        .map(|(name, started)| {
            json!({"type": "database_compaction", "database": name, "node": NODE, "started_on": started,
                   "updated_on": context.services.clock.now()})
        })
        .collect();
    Answer::json(200, Value::Array(tasks).to_string())
}

/// `GET /_membership`.
pub(super) fn membership() -> Answer {
    Answer::json(200, json!({"all_nodes": [NODE], "cluster_nodes": [NODE]}).to_string())
}

/// The node of a path must be the only one there is.
pub(super) fn check_node(name: &str) -> Result<(), Error> {
    if matches!(name, "_local" | NODE) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, format!("no such node: {name}")))
}
