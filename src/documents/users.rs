//! `_users`: ordinary documents with CouchDB's rules, and the account rows that logging in reads.
//!
//! A password is hashed before the writer; beside the stored document the rules are checked; and in the same batch the
//! account row follows the document's winner. A changed credential ends the account's epoch: what was born in it may only push.

use settle_protocol::Revision;

use super::error::{DocumentError, DocumentResult};
use super::tables::DocumentRow;
use super::write::{Mode, Write, Writing};
use crate::accounts::error::AccountError;
use crate::accounts::password::{Credential, PasswordPolicy, SALT_BYTES};
use crate::accounts::standing::{Cause, Drain};
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::accounts::user_document::{Author, UserDocument, may_delete, name_of_id};
use crate::accounts::withdrawals::{Actor, end_epoch};
use crate::audit::{self, Entry};
use crate::storage::Read;

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
    keeps_epoch: bool,
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
    write.user = Some(Box::new(UserWrite { author, document, keeps_epoch: false }));
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
        let Some(row) = writing.document(id)? else { return Ok(()) };
        let winner = row.tree.winner().filter(|winner| !winner.deleted);
        let body = match winner {
            Some(winner) => writing.body(id, &row, &winner.revision)?,
            None => None,
        };
        let facts = body.and_then(|body| UserDocument::parse(&format!("{{{}}}", body.text)).ok()?.facts());
        let account = writing.batch.get(&ACCOUNTS, &name.to_owned())?.unwrap_or_default();
        let mut row = AccountRow { epoch: account.epoch, former: account.former.clone(), ..AccountRow::default() };
        let deleted = facts.is_none();
        if let Some(facts) = facts {
            row.credential = facts.credential.map(|credential| credential.to_text());
            row.roles = facts.roles;
            row.needs_second_factor = facts.needs_second_factor;
            row.places = facts.places;
            row.contact = facts.contact;
            row.closed = account.closed;
        }
        if row.credential != account.credential && !self.keeps_epoch {
            if account.credential.is_some() && account.is_open() {
                let cause = if deleted { Cause::AccountDeleted } else { Cause::PasswordChanged };
                let actor =
                    Actor { name: self.author.name.clone().unwrap_or_default(), now: self.author.now, reason: None };
                end_epoch(writing.batch, name, &account, &mut row, cause, self.author.drain, &actor)?;
            } else {
                row.epoch += 1;
            }
        }
        self.audit(writing, name, &account, &row)?;
        super::scopes::note_member(writing.batch, name, &account, &row)?;
        writing.batch.put(&ACCOUNTS, &name.to_owned(), &row);
        Ok(())
    }
}

impl UserWrite {
    /// What changed about an account, beside its password.
    fn audit(
        &self,
        writing: &mut Writing<'_, '_>,
        name: &str,
        before: &AccountRow,
        now: &AccountRow,
    ) -> DocumentResult<()> {
        let same = before.roles == now.roles && before.places == now.places && before.contact == now.contact;
        if same && before.credential.is_some() == now.credential.is_some() {
            return Ok(());
        }
        let action = match (before.epoch, now.credential.is_some()) {
            (0, _) => "account.create",
            (_, false) if before.credential.is_some() => "account.delete",
            _ => "account.change",
        };
        let by = self.author.name.as_deref().unwrap_or_default();
        let entry = Entry::new(self.author.now, by, action).account(name).detail("roles", now.roles.clone());
        let entry = entry.detail("places", now.places.clone()).detail("contact", now.contact.clone());
        Ok(audit::append(writing.batch, &entry)?)
    }
}

/// The version that a write replaces: the leaf an edit extends, or the nearest ancestor of a replicated one that is there.
/// A history that meets no known revision is judged beside the winner: it could win over it.
fn stored_before(writing: &Writing<'_, '_>, write: &Write, row: &DocumentRow) -> DocumentResult<Option<UserDocument>> {
    let revision: Option<Revision> = match &write.mode {
        Mode::Interactive { base, .. } => base.clone(),
        Mode::Replicated { path } => path.iter().find(|revision| row.tree.find(revision).is_some()).cloned(),
    };
    let winner = || row.tree.winner().map(|winner| winner.revision.clone());
    let Some(revision) = revision.or_else(winner) else { return Ok(None) };
    let body = writing.body(&write.id, row, &revision)?;
    Ok(body.and_then(|body| UserDocument::parse(&format!("{{{}}}", body.text)).ok()))
}

/// Stores a better hash of the same password: a new revision of the document, the same epoch.
///
/// # Errors
/// When the document changed meanwhile, or the store fails.
pub fn upgrade(writing: &mut Writing<'_, '_>, name: &str, credential: &Credential) -> DocumentResult<()> {
    let author = UserAuthor { name: None, server_admin: true, database_admin: true, drain: Drain::NONE, now: 0 };
    edit(writing, name, author, true, |document| document.set_credential(credential)).map(drop)
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
    edit(writing, name, author, false, |document| document.set_credential(credential))
}

/// Takes the password out of an account's document, without another epoch: the account has none already. `false`: there is no
/// such document.
///
/// # Errors
/// When the store fails.
pub(super) fn withdraw_password(writing: &mut Writing<'_, '_>, name: &str) -> DocumentResult<bool> {
    let author = UserAuthor { name: None, server_admin: true, database_admin: true, drain: Drain::NONE, now: 0 };
    edit(writing, name, author, true, UserDocument::remove_credential)
}

/// Changes the document of an account. `false`: there is none.
fn edit(
    writing: &mut Writing<'_, '_>,
    name: &str,
    author: UserAuthor,
    keeps_epoch: bool,
    change: impl FnOnce(&mut UserDocument),
) -> DocumentResult<bool> {
    let id = format!("{}{name}", crate::accounts::user_document::ID_PREFIX);
    let Some(row) = writing.document(&id)? else { return Ok(false) };
    let Some(winner) = row.tree.winner().filter(|winner| !winner.deleted).cloned() else { return Ok(false) };
    let Some(body) = writing.body(&id, &row, &winner.revision)? else { return Ok(false) };
    let mut document = UserDocument::parse(&format!("{{{}}}", body.text))?;
    change(&mut document);
    let user = UserWrite { author, document: Some(document.clone()), keeps_epoch };
    writing.write(Write {
        id,
        mode: Mode::edit(Some(winner.revision)),
        deleted: false,
        body: members_of(&document),
        attachments: Vec::new(),
        user: Some(Box::new(user)),
        facts: None,
    })?;
    Ok(true)
}
