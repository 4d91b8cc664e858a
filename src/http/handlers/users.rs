//! The guard in front of `_users`: who may read which document there, and what is prepared before a write.

use settle_protocol::Error;

use super::second_person::act_alone;
use crate::access::facts::Facts;
use crate::accounts::caller::Caller;
use crate::accounts::error::AccountError;
use crate::accounts::tables::ACCOUNTS;
use crate::accounts::user_document::{ID_PREFIX, UserDocument, may_read, may_write};
use crate::clock::random;
use crate::documents::error::DocumentError;
use crate::documents::read::Found;
use crate::documents::users::{USERS, UserAuthor, prepare};
use crate::documents::write::Write;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::storage::{Batch, Read as _, StorageError};

fn is_users(context: &Context) -> bool {
    context.database.as_ref().is_some_and(|database| database.name == USERS)
}

/// What a caller may read of `_users`; of other databases, everything. Holds what it needs, for threads that read for a
/// request.
#[derive(Debug, Clone)]
pub(super) struct ReadGuard {
    /// In `_users`: who reads, and whether as an administrator of the database.
    users: Option<(Caller, bool)>,
}

impl ReadGuard {
    /// The guard for a request.
    pub(super) fn of(context: &Context) -> Self {
        Self { users: is_users(context).then(|| (context.caller.clone(), context.is_database_admin())) }
    }

    /// Whether a document may be read.
    pub(super) fn check(&self, id: &str) -> Result<(), AccountError> {
        match &self.users {
            Some((caller, database_admin)) => may_read(id, &caller.author(*database_admin)),
            None => Ok(()),
        }
    }

    /// What a reader of `_users` sees: operators everything, others no salt and no key.
    pub(super) fn show(&self, found: &mut Found) {
        let shows_all = self.users.as_ref().is_none_or(|(caller, _)| caller.is_operator());
        if shows_all || found.id.starts_with("_design/") {
            return;
        }
        if let Ok(document) = UserDocument::parse(&format!("{{{}}}", found.body.text)) {
            let text = document.without_secrets().to_body();
            text[1..text.len() - 1].clone_into(&mut found.body.text);
        }
    }
}

/// See [`ReadGuard::check`].
pub(super) fn guard_read(context: &Context, id: &str) -> Result<(), AccountError> {
    ReadGuard::of(context).check(id)
}

/// See [`ReadGuard::show`].
pub(super) fn show(context: &Context, found: &mut Found) {
    ReadGuard::of(context).show(found);
}

fn author_of(context: &Context) -> Result<UserAuthor, HttpError> {
    Ok(UserAuthor {
        name: context.caller.name.clone(),
        server_admin: context.caller.is_operator(),
        database_admin: context.is_database_admin(),
        drain: context.drain()?,
        now: context.services.clock.now(),
    })
}

/// Who lets accounts follow their documents when some are purged; `None`: the database has no accounts.
pub(super) fn purger(context: &Context) -> Result<Option<UserAuthor>, HttpError> {
    if is_users(context) { author_of(context).map(Some) } else { Ok(None) }
}

/// Prepares writes to `_users`; those to other databases pass as they are. One refusal refuses the whole request.
pub(super) async fn prepare_writes(context: &Context, mut writes: Vec<Write>) -> Result<Vec<Write>, HttpError> {
    if !is_users(context) {
        if context.database.as_ref().is_some_and(|database| database.row.scoped) {
            for write in writes.iter_mut().filter(|write| !write.deleted && write.facts.is_none()) {
                write.facts = Some(Facts::of(&write.id, &write.body)); // here rather than on the writer
            }
        }
        return Ok(writes);
    }
    for write in &writes {
        may_write(&write.id, &context.caller.author(context.is_database_admin()))?;
    }
    let author = author_of(context)?;
    let policy = context.services.password_policy();
    let prepared = tokio::task::spawn_blocking(move || {
        for write in &mut writes {
            prepare(write, author.clone(), &policy, random())?;
        }
        Ok::<_, DocumentError>(writes)
    });
    Ok(prepared.await.map_err(|_| StorageError::Panicked)??)
}

/// The same for one write.
pub(super) async fn prepare_write(context: &Context, write: Write) -> Result<Write, HttpError> {
    let prepared = prepare_writes(context, vec![write]).await?.pop();
    Ok(prepared.ok_or(StorageError::Panicked)?)
}

/// Hands writes to the writer. In `_users` a deleted account that has a place counts as a retirement: too many of them wait for a
/// second person. Others are what they are in CouchDB. `deleted`: ids of the documents that are.
pub(super) async fn write_counted<T: Send + 'static>(
    context: &Context,
    deleted: &[String],
    work: impl FnOnce(&mut Batch<'_>) -> Result<T, DocumentError> + Send + 'static,
) -> Result<T, HttpError> {
    if !is_users(context) || !some_have_places(context, deleted)? {
        return Ok(context.services.store.write(work).await?);
    }
    let asked = serde_json::json!(deleted).to_string();
    act_alone(context, &asked, context.actor(None), move |batch| Ok(work(batch)?)).await
}

fn some_have_places(context: &Context, ids: &[String]) -> Result<bool, StorageError> {
    let snapshot = context.services.store.snapshot();
    for name in ids.iter().filter_map(|id| id.strip_prefix(ID_PREFIX)) {
        if snapshot.get(&ACCOUNTS, &name.to_owned())?.is_some_and(|account| !account.places.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Design documents are for administrators of the database, on every way of writing.
pub(super) fn guard_design(context: &Context, id: &str) -> Result<(), Error> {
    if !id.starts_with("_design/") || context.is_database_admin() {
        return Ok(());
    }
    const REASON: &str = "You are not a db or server admin.";
    match context.caller.name {
        None => Err(Error::new(settle_protocol::ErrorKind::Unauthorized, REASON)),
        Some(_) => Err(Error::forbidden(REASON)),
    }
}
