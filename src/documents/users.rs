//! `_users`: ordinary documents with CouchDB's rules, and the account rows that logging in reads.
//!
//! A password is hashed before the writer; beside the stored document the rules are checked; and in the same batch the
//! account row follows the document's winner. A changed credential ends the account's epoch: what was born in it may only push.

use std::ops::ControlFlow;

use settle_protocol::Revision;

use super::administration::winner;
use super::error::{DocumentError, DocumentResult};
use super::tables::{DatabaseId, DocumentRow};
use super::write::{Mode, Write, Writing};
use crate::accounts::error::AccountError;
use crate::accounts::external_ids;
use crate::accounts::password::{Credential, PasswordPolicy, SALT_BYTES};
use crate::accounts::standing::{Cause, Drain};
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::accounts::user_document::{Author, ID_PREFIX, UserDocument, may_delete, name_of_id};
use crate::accounts::withdrawals::{Actor, cut_former, end_epoch};
use crate::audit::{self, Entry};
use crate::storage::{Range, Read, StorageResult};

/// The name of the database of accounts.
pub const USERS: &str = "_users";

/// Who writes, kept while the write waits for the writer.
#[derive(Debug, Clone)]
pub struct UserAuthor {
    /// The account's name.
    pub name: Option<String>,
    /// Has `_admin`.
    pub server_admin: bool,
    /// Administers `_users`.
    pub database_admin: bool,
    /// How long what this write withdraws may still push.
    pub drain: Drain,
    /// Seconds since 1970.
    pub now: u64,
}

impl UserAuthor {
    fn borrowed(&self) -> Author<'_> {
        Author { name: self.name.as_deref(), server_admin: self.server_admin, database_admin: self.database_admin }
    }
}

/// What the rules need to know about one write to `_users`.
#[derive(Debug, Clone)]
pub struct UserWrite {
    author: UserAuthor,
    /// `None` for design documents, which are no accounts.
    document: Option<UserDocument>,
    epoch: Epoch,
}

impl UserWrite {
    /// What purges do to accounts: they follow what is left of their documents.
    #[must_use]
    pub(super) const fn of_purge(author: UserAuthor) -> Self {
        Self { author, document: None, epoch: Epoch::Follows }
    }
}

/// What a write does to the epoch of its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    /// It ends when the credential changes.
    Follows,
    /// It goes on: a better hash of the same password.
    Keeps,
    /// It ends: another person has the account now.
    Ends,
}

impl From<AccountError> for DocumentError {
    fn from(error: AccountError) -> Self {
        use settle_protocol::{Error, ErrorKind};
        let kind = match error.status() {
            400 => ErrorKind::BadRequest,
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Forbidden,
            404 => ErrorKind::NotFound,
            503 => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, error.reason().to_owned()).into()
    }
}

/// Prepares a write to `_users`: hashes a password (slow; call it off the async threads).
///
/// # Errors
/// 400 for a body that is none or a password against the policy, 403 for one that is no string.
pub fn prepare(
    write: &mut Write,
    author: UserAuthor,
    policy: &PasswordPolicy,
    salt: [u8; SALT_BYTES],
) -> DocumentResult<()> {
    let mut document = None;
    if !write.id.starts_with("_design/") {
        let mut parsed = UserDocument::parse(&format!("{{{}}}", write.body))?;
        if !write.deleted && parsed.hash_password(policy, salt)? {
            write.body = members_of(&parsed);
        }
        document = Some(parsed);
    }
    write.user = Some(Box::new(UserWrite { author, document, epoch: Epoch::Follows }));
    Ok(())
}

fn members_of(document: &UserDocument) -> String {
    let text = document.to_body();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default().to_owned()
}

impl UserWrite {
    /// Checks the rules beside the stored document, and puts back a credential that a reader was not shown.
    ///
    /// # Errors
    /// 403 with CouchDB's words, or a failure of the store.
    pub(super) fn judge(&self, writing: &Writing<'_, '_>, write: &mut Write, row: &DocumentRow) -> DocumentResult<()> {
        let Some(document) = &self.document else { return Ok(()) };
        let author = self.author.borrowed();
        let stored = stored_before(writing, write, row)?;
        if write.deleted {
            return Ok(may_delete(stored.as_ref(), &author)?);
        }
        let mut document = document.clone();
        document.restore_withheld(stored.as_ref());
        document.check(&write.id, stored.as_ref(), &author)?;
        write.body = members_of(&document);
        Ok(())
    }

    /// Lets the account follow the document's winner.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn remember(&self, writing: &mut Writing<'_, '_>, id: &str) -> DocumentResult<()> {
        let Some(name) = name_of_id(id) else { return Ok(()) };
        let body = match writing.document(id)? {
            Some(row) => match row.tree.winner().filter(|winner| !winner.deleted) {
                Some(winner) => writing.body(id, &row, &winner.revision)?,
                None => None,
            },
            None => None, // purged
        };
        let facts = body.and_then(|body| UserDocument::parse(&format!("{{{}}}", body.text)).ok()?.facts());
        let account = writing.batch.get(&ACCOUNTS, &name.to_owned())?.unwrap_or_default();
        let mut row = AccountRow { epoch: account.epoch, former: account.former.clone(), ..AccountRow::default() };
        if let Some(facts) = facts {
            row.exists = true;
            row.credential = facts.credential.map(|credential| credential.to_text());
            row.roles = facts.roles;
            row.needs_second_factor = facts.needs_second_factor;
            row.places = facts.places;
            row.contact = facts.contact;
            row.external_id = facts.external_id;
            row.closed = account.closed;
            row.prepared = account.prepared;
            row.made = if account.exists { account.made } else { self.author.now };
        }
        let other = row.credential != account.credential || row.exists != account.exists || self.epoch == Epoch::Ends;
        if other && self.epoch != Epoch::Keeps {
            if account.exists && account.is_open() {
                let cause = if row.exists { Cause::PasswordChanged } else { Cause::AccountDeleted };
                end_epoch(writing.batch, name, &account, &mut row, cause, self.author.drain, &self.actor())?;
            } else {
                row.epoch += 1; // nobody ever logged in with what is replaced
                if self.author.drain == Drain::NONE {
                    cut_former(writing.batch, name, &mut row)?;
                }
            }
        }
        self.audit(writing, name, &account, &row)?;
        external_ids::follow(writing.batch, name, &account, &row);
        super::scopes::note_member(writing.batch, name, &account, &row)?;
        super::custody::note_account(writing.batch, name, &account, &row, &self.actor())?;
        writing.batch.put(&ACCOUNTS, &name.to_owned(), &row);
        Ok(())
    }
}

impl UserWrite {
    fn actor(&self) -> Actor {
        Actor { name: self.author.name.clone().unwrap_or_default(), now: self.author.now, reason: None }
    }

    /// What changed about an account, beside its password.
    fn audit(
        &self,
        writing: &mut Writing<'_, '_>,
        name: &str,
        before: &AccountRow,
        now: &AccountRow,
    ) -> DocumentResult<()> {
        let same = before.roles == now.roles && before.places == now.places && before.contact == now.contact;
        let credential = before.credential.is_some() == now.credential.is_some();
        if same && credential && before.exists == now.exists {
            return Ok(());
        }
        let action = match (before.exists, now.exists) {
            (false, _) => "account.create",
            (true, false) => "account.delete",
            (true, true) => "account.change",
        };
        let by = self.author.name.as_deref().unwrap_or_default();
        let entry = Entry::new(self.author.now, by, action).account(name).detail("roles", now.roles.clone());
        let entry = entry.detail("places", now.places.clone()).detail("contact", now.contact.clone());
        Ok(audit::append(writing.batch, &entry)?)
    }
}

/// The version that a write replaces: the leaf an edit extends, or the nearest ancestor of a replicated one that is there.
/// A history that meets no known revision is judged beside the winner: it could win over it. What is made anew where
/// something was deleted replaces nothing.
fn stored_before(writing: &Writing<'_, '_>, write: &Write, row: &DocumentRow) -> DocumentResult<Option<UserDocument>> {
    let revision: Option<Revision> = match &write.mode {
        Mode::Interactive { base, .. } => base.clone(),
        Mode::Replicated { path } => path.iter().find(|revision| row.tree.find(revision).is_some()).cloned(),
    };
    let anew = matches!(write.mode, Mode::Interactive { base: None, .. }) && row.tree.is_deleted();
    let winner = || row.tree.winner().filter(|_| !anew).map(|winner| winner.revision.clone());
    let Some(revision) = revision.or_else(winner) else { return Ok(None) };
    let body = writing.body(&write.id, row, &revision)?;
    Ok(body.and_then(|body| UserDocument::parse(&format!("{{{}}}", body.text)).ok()))
}

/// Accounts whose documents have an `external_id`: what the list of those is made from in a store that is older than it.
///
/// # Errors
/// When the store fails.
pub fn external_ids(reader: &impl Read, users: DatabaseId) -> StorageResult<Vec<(String, String)>> {
    let mut known = Vec::new();
    reader.scan(ACCOUNTS.family(), &Range::prefix(b""), &mut |name, row| {
        let name = String::from_utf8_lossy(name).into_owned();
        if ACCOUNTS.decode(row)?.exists {
            let document = winner(reader, users, &format!("{ID_PREFIX}{name}"))?;
            let id = document["external_id"].as_str().map(str::trim).filter(|id| !id.is_empty());
            known.extend(id.map(|id| (name, id.to_owned())));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(known)
}

/// Stores a better hash of the same password: a new revision of the document, the same epoch.
///
/// # Errors
/// When the document changed meanwhile, or the store fails.
pub fn upgrade(writing: &mut Writing<'_, '_>, name: &str, credential: &Credential) -> DocumentResult<()> {
    let author = UserAuthor { name: None, server_admin: true, database_admin: true, drain: Drain::NONE, now: 0 };
    edit(writing, name, author, Epoch::Keeps, |document| document.set_credential(credential)).map(drop)
}

/// Gives an account another password: a new revision of its document, and a new epoch.
///
/// # Errors
/// When the document changed meanwhile, or the store fails. `false`: there is no such account.
pub fn set_password(
    writing: &mut Writing<'_, '_>,
    name: &str,
    credential: &Credential,
    author: UserAuthor,
) -> DocumentResult<bool> {
    edit(writing, name, author, Epoch::Follows, |document| document.set_credential(credential))
}

/// Takes the password out of an account's document, without another epoch: the account has none already. `false`: there is no
/// such document.
///
/// # Errors
/// When the store fails.
pub(super) fn withdraw_password(writing: &mut Writing<'_, '_>, name: &str) -> DocumentResult<bool> {
    let author = UserAuthor { name: None, server_admin: true, database_admin: true, drain: Drain::NONE, now: 0 };
    edit(writing, name, author, Epoch::Keeps, UserDocument::remove_credential)
}

/// Changes the document of an account. `false`: there is none.
///
/// # Errors
/// What the rules of `_users` say, or a failure of the store.
pub(super) fn edit(
    writing: &mut Writing<'_, '_>,
    name: &str,
    author: UserAuthor,
    epoch: Epoch,
    change: impl FnOnce(&mut UserDocument),
) -> DocumentResult<bool> {
    let id = format!("{ID_PREFIX}{name}");
    let Some(row) = writing.document(&id)? else { return Ok(false) };
    let Some(winner) = row.tree.winner().filter(|winner| !winner.deleted).cloned() else { return Ok(false) };
    let Some(body) = writing.body(&id, &row, &winner.revision)? else { return Ok(false) };
    let mut document = UserDocument::parse(&format!("{{{}}}", body.text))?;
    change(&mut document);
    put(writing, name, author, epoch, Some(winner.revision), &document)?;
    Ok(true)
}

/// Makes the document of an account that has none, or had one that was deleted.
///
/// # Errors
/// `409 conflict` when there is one, what the rules of `_users` say, or a failure of the store.
pub(super) fn make(
    writing: &mut Writing<'_, '_>,
    name: &str,
    author: UserAuthor,
    document: &UserDocument,
) -> DocumentResult<()> {
    put(writing, name, author, Epoch::Follows, None, document)
}

fn put(
    writing: &mut Writing<'_, '_>,
    name: &str,
    author: UserAuthor,
    epoch: Epoch,
    base: Option<Revision>,
    document: &UserDocument,
) -> DocumentResult<()> {
    let user = UserWrite { author, document: Some(document.clone()), epoch };
    writing.write(Write {
        id: format!("{ID_PREFIX}{name}"),
        mode: Mode::edit(base),
        deleted: false,
        body: members_of(document),
        attachments: Vec::new(),
        user: Some(Box::new(user)),
        facts: None,
    })?;
    Ok(())
}

/// Deletes the document of an account. What its devices hold may still come, for as long as the author's drain says.
///
/// # Errors
/// When the store fails. `false`: there is none.
pub(super) fn delete(writing: &mut Writing<'_, '_>, name: &str, author: UserAuthor) -> DocumentResult<bool> {
    let id = format!("{ID_PREFIX}{name}");
    let Some(row) = writing.document(&id)? else { return Ok(false) };
    let Some(winner) = row.tree.winner().filter(|winner| !winner.deleted).cloned() else { return Ok(false) };
    let document = UserDocument::parse("{}")?;
    let user = UserWrite { author, document: Some(document), epoch: Epoch::Follows };
    writing.write(Write {
        id,
        mode: Mode::edit(Some(winner.revision)),
        deleted: true,
        body: String::new(),
        attachments: Vec::new(),
        user: Some(Box::new(user)),
        facts: None,
    })?;
    Ok(true)
}
