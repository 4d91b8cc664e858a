//! A database: information, create, delete, security, limits, compaction, purge.

use serde_json::{Map, Value, json};
use settle_protocol::bulk::parse_revisions_by_id;
use settle_protocol::document::write_revisions;
use settle_protocol::raw_json::write_string;
use settle_protocol::{Error, Revision};

use super::second_person::asked_in;
use super::users::{purger, write_counted};
use super::{Handled, escaped};
use crate::access::need::Need;
use crate::accounts::error::AccountError;
use crate::accounts::security::Security;
use crate::audit;
use crate::documents::databases::Database;
use crate::documents::maintenance;
use crate::documents::scoped_feed::visible_ids;
use crate::documents::tables::Counters;
use crate::documents::users::USERS;
use crate::documents::write::Writing;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;

/// Bytes of a body that sets something.
const MAX_SETTING_BYTES: u64 = 1 << 20;

/// The information object of a database.
pub(super) fn info_of(context: &Context, database: &Database) -> Result<Value, HttpError> {
    let snapshot = context.services.store.snapshot();
    let mut counters = database.counters(&snapshot)?;
    let mut file = context.services.store.disk_bytes();
    let mut purge_seq = database.tokens.token(counters.purges);
    if context.caller.judged.pushes_only() {
        // A withdrawn right does not learn how the database grows.
        counters = Counters { position: counters.position, ..Counters::default() };
        (file, purge_seq) = (0, "0".to_owned());
    } else if let Some(restricted) = context.view.restricted() {
        // Of what is out of scope, not even the number is told.
        let documents = visible_ids(&snapshot, restricted, database)?.len() as u64;
        counters = Counters { documents, position: context.view.position(counters.position), ..Counters::default() };
        (file, purge_seq) = (0, "0".to_owned());
    }
    let mut info = json!({
        "instance_start_time": database.row.created.to_string(),
        "db_name": database.name,
        "purge_seq": purge_seq,
        "update_seq": database.tokens.token(counters.position),
        "sizes": {
            "file": file,
            "external": counters.body_bytes,
            "active": counters.body_bytes,
        },
        "props": if database.row.scoped { json!({"scoped": true}) } else { json!({}) },
        "doc_del_count": counters.deleted,
        "doc_count": counters.documents,
        "disk_format_version": 8,
        "compact_running": context.services.compactions().contains_key(&database.name),
        "cluster": {"q": 1, "n": 1, "w": 1, "r": 1},
    });
    if context.view.restricted().is_some() && !context.caller.judged.pushes_only() {
        let limit = context.settings.soft_scope_documents;
        info["scope"] =
            json!({"documents": counters.documents, "soft_limit": limit, "over": counters.documents > limit});
    }
    Ok(info)
}

/// `GET /db`.
pub(super) fn info(context: &Context) -> Handled {
    let database = context.database()?;
    Ok(Answer::json(200, info_of(context, &database)?.to_string()))
}

/// `PUT /db`.
pub(super) async fn create(context: &mut Context) -> Handled {
    let name = context.request.segment(0).to_owned();
    let scoped = match context.request.query.get("scoped") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::bad_request("`scoped` must be true or false").into()),
    };
    context.services.create_database(&name, scoped, context.by()).await?;
    Ok(Answer::ok(201).location(&format!("{}/{}", context.base(), escaped(&name))))
}

/// `DELETE /db`.
pub(super) async fn delete(context: &mut Context) -> Handled {
    if context.request.query.get("rev").is_some() {
        let reason =
            "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?";
        return Err(Error::bad_request(reason).into());
    }
    let name = context.request.segment(0);
    context.services.catalogue.delete(name, context.entry("database.delete").database(name)).await?;
    context.services.erase_deleted();
    Ok(Answer::ok(200))
}

/// `POST /db/_ensure_full_commit`: everything answered is durable already.
pub(super) fn ensure_full_commit(context: &Context) -> Handled {
    context.request.require_json()?;
    let start = context.database()?.row.created;
    Ok(Answer::json(201, format!("{{\"ok\":true,\"instance_start_time\":\"{start}\"}}")))
}

/// `GET /db/_security`.
pub(super) fn read_security(context: &Context) -> Handled {
    Ok(Answer::json(200, context.database()?.security.text().to_owned()))
}

/// `PUT /db/_security`.
pub(super) async fn write_security(context: &mut Context) -> Handled {
    let name = context.database()?.name.clone();
    if name == USERS && !context.settings.users_security_editable {
        return Err(AccountError::forbidden("You can't edit the security object of the user database.").into());
    }
    let body = context.read_body(MAX_SETTING_BYTES).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Error::invalid_json())?;
    let security = Security::parse(text)?.text().to_owned();
    // Who may open a database is no secret, and what an account could see depends on it.
    let told: Value = serde_json::from_str(&security).unwrap_or_default();
    let group = |name: &str| told.get(name).cloned().unwrap_or_default();
    let entry = context.entry("database.security").database(&name).detail("admins", group("admins"));
    let entry =
        entry.detail("members", if told.get("members").is_some() { group("members") } else { group("readers") });
    context.services.catalogue.change(&name, entry, move |row| row.security = security).await?;
    Ok(Answer::ok(200))
}

/// `GET /db/_revs_limit`, and of `_purged_infos_limit`.
pub(super) fn read_limit(context: &Context, purged: bool) -> Handled {
    let row = &context.database()?.row;
    let limit = if purged { row.purged_infos_limit } else { row.revs_limit };
    Ok(Answer::json(200, limit.to_string()))
}

/// `PUT /db/_revs_limit`, and of `_purged_infos_limit`.
pub(super) async fn write_limit(context: &mut Context, purged: bool) -> Handled {
    let name = context.database()?.name.clone();
    let body = context.read_body(MAX_SETTING_BYTES).await?;
    let limit = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let limit = limit.filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| Error::bad_request("The limit must be a positive whole number"))?;
    let which = if purged { "purged_infos_limit" } else { "revs_limit" };
    let entry = context.entry("database.limit").database(&name).detail(which, limit);
    let change = context.services.catalogue.change(&name, entry, move |row| match purged {
        true => row.purged_infos_limit = limit,
        false => row.revs_limit = limit,
    });
    change.await?;
    Ok(Answer::ok(200))
}

/// `POST /db/_compact`.
pub(super) fn compact(context: &Context) -> Handled {
    context.request.require_json()?;
    context.services.compact(&context.database()?.name);
    Ok(Answer::ok(202))
}

/// `POST /db/_purge`.
pub(super) async fn purge(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let body = context.read_body(context.settings.max_request_bytes.min(256 << 20)).await?;
    let asked = parse_revisions_by_id(&body)?;
    if asked.len() > context.settings.max_purge_documents {
        return Err(Error::bad_request("Exceeded maximum number of documents.").into());
    }
    if asked.iter().map(|(_, revisions)| revisions.len()).sum::<usize>() > context.settings.max_purge_revisions {
        return Err(Error::bad_request("Exceeded maximum number of revisions.").into());
    }
    let database = context.database()?;
    let remembered = u64::from(database.row.purged_infos_limit);
    let entry = context.entry("database.purge").database(&database.name);
    let (purger, ids) = (purger(context)?, asked.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
    let purged = write_counted(context, &ids, move |batch| {
        let mut writing = Writing::begin(batch, &database)?;
        let purged = maintenance::purge(&mut writing, &asked, remembered, purger)?;
        writing.end()?;
        audit::append(batch, &entry.detail("documents", purged.len()))?;
        Ok(purged)
    });
    let purged = purged.await?;
    let mut text = b"{\"purge_seq\":null,\"purged\":{".to_vec();
    for (at, (id, revisions)) in purged.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        write_string(&mut text, id);
        text.push(b':');
        write_revisions(&mut text, &revisions.iter().collect::<Vec<&Revision>>());
    }
    text.extend_from_slice(b"}}");
    Ok(Answer::json(201, text))
}

/// `GET /db/_purged_infos`.
pub(super) fn purged_infos(context: &Context) -> Handled {
    let database = context.database()?;
    if context.view.restricted().is_some() {
        return Err(AccountError::not_server_admin().into()); // it names documents
    }
    Ok(Answer::json(200, maintenance::purged_infos(&context.services.store.snapshot(), database.id())?))
}

/// A JSON object as the body, or an empty one.
pub(super) async fn object_or_empty(context: &mut Context) -> Result<Map<String, Value>, HttpError> {
    let limit = context.settings.max_request_bytes.min(256 << 20);
    let body = context.read_body(limit).await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => {
            if context.need == Need::Accounts {
                context.asked = asked_in(&object);
            }
            Ok(object)
        }
        Ok(_) => Err(Error::bad_request("Request body must be a JSON object").into()),
        Err(_) => Err(Error::invalid_json().into()),
    }
}
