//! `/_node/…`: configuration, figures of the process, backup.

use serde_json::{Map, Value, json};
use settle_protocol::Error;

use super::Handled;
use super::server::{NODE, check_node};
use crate::audit;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::StorageError;

/// `GET /_node/{name}`.
pub(super) fn name(context: &Context) -> Handled {
    check_node(context.request.segment(1))?;
    Ok(Answer::json(200, json!({"name": NODE}).to_string()))
}

/// `GET /_node/{name}/_stats`, `_system`, `_versions`.
pub(super) fn facts(context: &Context) -> Handled {
    check_node(context.request.segment(1))?;
    let resident = resident_bytes();
    let facts = match context.request.segment(2) {
        "_versions" => json!({"settle": {"version": env!("CARGO_PKG_VERSION")}, "javascript_engine": {"name": "none"}}),
        "_system" => json!({
            "memory": {"other": resident},
            "message_queues": {"writer": context.services.store.queued_writes()},
        }),
        "_stats" => json!({"couchdb": {"open_databases": {"value": context.services.catalogue.names().len()}}}),
        _ => return Err(Error::missing().into()),
    };
    Ok(Answer::json(200, facts.to_string()))
}

/// Resident memory of this process, from `/proc`; 0 where there is none.
pub(super) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

fn unknown_value() -> Error {
    Error::not_found("unknown_config_value")
}

/// `GET /_node/{name}/_config[/section[/key]]`.
pub(super) fn read_config(context: &Context) -> Handled {
    let request = &context.request;
    check_node(request.segment(1))?;
    let (section, key) = (request.segment(3), request.segment(4));
    let mut tree: Map<String, Value> = Map::new();
    for ((of, name), value) in context.services.setting_texts() {
        let values = tree.entry(of).or_insert_with(|| Value::Object(Map::new()));
        values[name] = Value::String(value);
    }
    let answer = match request.segments.len() {
        3 => Value::Object(tree),
        4 => tree.remove(section).unwrap_or_else(|| json!({})),
        _ => tree.get(section).and_then(|values| values.get(key)).cloned().ok_or_else(unknown_value)?,
    };
    Ok(Answer::json(200, answer.to_string()))
}

/// `PUT` and `DELETE /_node/{name}/_config/section/key`: answers the old value.
pub(super) async fn write_config(context: &mut Context) -> Handled {
    check_node(context.request.segment(1))?;
    let section = context.request.segment(3).to_owned();
    let key = context.request.segment(4).to_owned();
    if section == "admins" {
        let reason = "Operators are set in the configuration file or on the command line, and change with a restart.";
        return Err(Error::forbidden(reason).into());
    }
    let old = context.services.setting_texts().remove(&(section.clone(), key.clone()));
    let value = if context.request.method == "DELETE" {
        old.as_ref().ok_or_else(unknown_value)?;
        None
    } else {
        let body = context.read_body(1 << 20).await?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| Error::invalid_json())?;
        Some(body.as_str().ok_or_else(|| Error::bad_request("a JSON string expected"))?.to_owned())
    };
    context.services.change_setting(&section, &key, value, context.by()).await?;
    Ok(Answer::json(200, Value::String(old.unwrap_or_default()).to_string()))
}

/// `POST /_backup`: a checkpoint in a new folder below the data folder, made while the server goes on.
pub(super) async fn backup(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let store = context.services.store.clone();
    let name = format!("{}-{}", context.services.clock.now(), uuid::Uuid::new_v4().simple());
    let path = store.path().join("backups").join(name);
    let target = path.clone();
    let made = tokio::task::spawn_blocking(move || store.backup(&target));
    made.await.map_err(|_| StorageError::Panicked)??;
    let entry = context.entry("store.backup").detail("path", path.display().to_string());
    context.services.store.write(move |batch| audit::append(batch, &entry)).await?;
    Ok(Answer::json(201, json!({"ok": true, "path": path}).to_string()))
}
