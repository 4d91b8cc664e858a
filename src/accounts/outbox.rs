//! The outbox: messages that carry a link to whoever is to use it, kept from the batch that made the link until a gateway has
//! taken them. Who delivers them is not decided here (`src/sending/`).
//!
//! The token of a link is stored sealed, because it must survive a crash, with a key that is not in the store; it is erased when
//! the message is delivered, cancelled, or its link does not work any more. A message is never lost and may be sent twice: its id
//! stays the same, so that a gateway can tell.

use std::ops::ControlFlow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::ledger;
use super::links::{self, FreshLink, LinkFingerprint};
use super::tables::ACCOUNTS;
use super::withdrawals::Actor;
use crate::audit;
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, from_json_row, hex, json_row, unhex};

const MESSAGE: u8 = b'm';
const OPEN: u8 = b'a';
const DUE: u8 = b'd';
const CORRUPT: StorageError = StorageError::Corrupt { table: "outbox", problem: "malformed row" };
/// The topic of messages that are to be sent. That of the ledger is the one before.
pub const TOPIC: u64 = ledger::TOPIC + 1;
/// Seconds for which a message that is over is remembered.
const REMEMBERED_SECONDS: u64 = 30 * 24 * 3600;

/// Names a message, everywhere and for ever: seconds since 1970, then 8 random bytes.
pub type MessageId = [u8; 16];

/// Seals tokens. Kept outside the store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey([u8; 32]);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SealingKey")
    }
}

impl SealingKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Seals a token, or opens it: 32 bytes that depend on key and message, each used for one token, are added without carry.
    fn sealed(&self, id: MessageId, token: [u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let pad = *hasher.update(b"settle outbox 1\0").update(&id).finalize().as_bytes();
        std::array::from_fn(|at| token[at] ^ pad[at])
    }
}

/// What staging a message needs.
#[derive(Debug, Clone)]
pub struct Staging {
    /// Seals the token.
    pub key: SealingKey,
    /// What the address of the link begins with, such as `https://sync.example.org`.
    pub base: String,
}

/// Who gets a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recipient {
    /// What the person is called.
    pub name: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Language.
    pub locale: Option<String>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// For its first or next try.
    #[default]
    Waiting,
    /// The gateway is being asked. After a crash it is not known whether it has it, and it is sent again.
    Sending,
    /// The gateway has it.
    Delivered,
    /// Nobody tries any more.
    Failed,
    /// The link is over, or somebody called it off.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Sending, Self::Delivered, Self::Failed, Self::Cancelled];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A message that carries a link. Times are seconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// Whose link.
    pub account: String,
    /// Who gets it.
    pub to: Recipient,
    /// What the address begins with.
    pub base: String,
    /// Fingerprint of the link's token, as hex digits.
    pub link: String,
    /// When the link stops working.
    pub expires: u64,
    /// The sealed token as hex digits; empty once it is erased.
    pub sealed: String,
    /// How far it has come.
    pub state: State,
    /// Tries so far, counted before each.
    pub attempts: u32,
    /// Tries when somebody asked for more.
    pub forgiven: u32,
    /// Why the last try failed, or why it was cancelled. Never what a gateway answered: that may hold the link.
    pub error: Option<String>,
    /// When it is tried next.
    pub next: u64,
    /// When it was made.
    pub made: u64,
    /// Who made it.
    pub by: String,
    /// When it was delivered, given up or cancelled.
    pub ended: u64,
}

impl Message {
    fn fingerprint(&self) -> StorageResult<LinkFingerprint> {
        unhex(&self.link).ok_or(CORRUPT)
    }

    /// The token of the link. `None`: it was erased, or sealed with another key.
    #[must_use]
    pub fn token(&self, id: MessageId, key: &SealingKey) -> Option<String> {
        let token = URL_SAFE_NO_PAD.encode(key.sealed(id, unhex(&self.sealed)?));
        (links::fingerprint(&token) == unhex(&self.link)).then_some(token)
    }

    /// Why the link of this message does not work any more; `None`: it does.
    ///
    /// # Errors
    /// When the store fails.
    pub fn over(&self, reader: &impl Read, now: u64) -> StorageResult<Option<&'static str>> {
        let Some(link) = links::find(reader, &self.fingerprint()?)? else { return Ok(Some(links::UNKNOWN)) };
        let account = reader.get(&ACCOUNTS, &self.account)?;
        Ok(links::problem(&link, account.as_ref(), now))
    }

    /// Whether it can still be sent: it waits, is being sent, or was given up while its link works.
    const fn is_open(&self) -> bool {
        !self.sealed.is_empty()
    }
}

fn message_key(id: MessageId) -> Vec<u8> {
    [&[MESSAGE][..], &id].concat()
}

fn due_key(next: u64, id: MessageId) -> Vec<u8> {
    [&[DUE][..], &next.to_be_bytes(), &id].concat()
}

fn read(bytes: &[u8]) -> StorageResult<Message> {
    from_json_row(bytes).ok_or(CORRUPT)
}

fn id_in(key: &[u8]) -> StorageResult<MessageId> {
    key.last_chunk().copied().ok_or(CORRUPT)
}

/// Stores a message and what finds it: when it is due, and that its account has one that is open.
fn put(batch: &mut Batch<'_>, id: MessageId, before: Option<&Message>, message: &Message) -> StorageResult<()> {
    if let Some(before) = before.filter(|before| before.state == State::Waiting) {
        batch.delete_bytes(Family::Outbox, due_key(before.next, id));
    }
    if message.state == State::Waiting {
        batch.put_bytes(Family::Outbox, due_key(message.next, id), Vec::new());
    }
    let open = links::account_key(&message.account);
    if message.is_open() {
        batch.put_bytes(Family::Outbox, open, id);
    } else if batch.get_bytes(Family::Outbox, &open)?.as_deref() == Some(&id) {
        batch.delete_bytes(Family::Outbox, open);
    }
    batch.put_bytes(Family::Outbox, message_key(id), json_row(message));
    Ok(())
}

/// A message by its id.
///
/// # Errors
/// When the store fails.
pub fn find(reader: &impl Read, id: MessageId) -> StorageResult<Option<Message>> {
    reader.get_bytes(Family::Outbox, &message_key(id))?.map(|row| read(&row)).transpose()
}

/// The message of an account that can still be sent.
fn open_of(reader: &impl Read, account: &str) -> StorageResult<Option<(MessageId, Message)>> {
    let Some(id) = reader.get_bytes(Family::Outbox, &links::account_key(account))? else { return Ok(None) };
    let id = id_in(&id)?;
    Ok(find(reader, id)?.map(|message| (id, message)))
}

/// Stages a message with a link that was just made in this batch. `random`: fresh random bytes.
///
/// # Errors
/// When the store fails.
pub fn stage(
    batch: &mut Batch<'_>,
    account: &str,
    to: Recipient,
    link: &FreshLink,
    staging: &Staging,
    random: [u8; 8],
    actor: &Actor,
) -> StorageResult<MessageId> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&actor.now.to_be_bytes());
    id[8..].copy_from_slice(&random);
    let token: [u8; 32] =
        URL_SAFE_NO_PAD.decode(&link.token).ok().and_then(|token| token.try_into().ok()).ok_or(CORRUPT)?;
    let message = Message {
        account: account.to_owned(),
        to,
        base: staging.base.clone(),
        link: hex(&links::fingerprint(&link.token).ok_or(CORRUPT)?),
        expires: link.expires,
        sealed: hex(&staging.key.sealed(id, token)),
        next: actor.now,
        made: actor.now,
        by: actor.name.clone(),
        ..Message::default()
    };
    replaced(batch, account, actor)?;
    put(batch, id, None, &message)?;
    audit::append(batch, &actor.entry("message.stage").account(account).detail("message", hex(&id)))?;
    announce(batch)?;
    Ok(id)
}

/// Wakes whoever sends. The number of the newest audit entry grows with every message.
fn announce(batch: &mut Batch<'_>) -> StorageResult<()> {
    let number = audit::head(batch)?.number;
    batch.announce(TOPIC, number);
    Ok(())
}

/// A message is over: its token is erased.
fn end(
    batch: &mut Batch<'_>,
    id: MessageId,
    before: &Message,
    state: State,
    why: Option<&str>,
    actor: &Actor,
) -> StorageResult<()> {
    let error = why.map(str::to_owned);
    let after = Message { state, error, sealed: String::new(), ended: actor.now, ..before.clone() };
    put(batch, id, Some(before), &after)?;
    note(batch, id, &after, actor)
}

/// The audit entry of a message that came to its end.
fn note(batch: &mut Batch<'_>, id: MessageId, message: &Message, actor: &Actor) -> StorageResult<()> {
    let action = match message.state {
        State::Waiting | State::Sending => "message.retry",
        State::Delivered => "message.deliver",
        State::Failed => "message.fail",
        State::Cancelled => "message.cancel",
    };
    let entry = actor.entry(action).account(&message.account).detail("message", hex(&id));
    let entry = entry.detail("attempts", message.attempts);
    audit::append(batch, &message.error.iter().fold(entry, |entry, error| entry.detail("error", error.as_str())))
}

/// The account's earlier link has ended: so has the message that carries it, whatever became of it.
///
/// # Errors
/// When the store fails.
pub(super) fn replaced(batch: &mut Batch<'_>, account: &str, actor: &Actor) -> StorageResult<()> {
    match open_of(batch, account)? {
        Some((id, message)) => give_up(batch, id, &message, "Another link was made.", actor),
        None => Ok(()),
    }
}

/// A link was used. A message that waits with it must not be sent any more; one that is being sent has arrived by now, and its
/// gateway is about to say so.
///
/// # Errors
/// When the store fails.
pub(super) fn used(batch: &mut Batch<'_>, account: &str, link: &LinkFingerprint, now: u64) -> StorageResult<()> {
    match open_of(batch, account)? {
        Some((id, message)) if message.fingerprint()? == *link && message.state != State::Sending => {
            let actor = Actor { now, ..Actor::default() };
            give_up(batch, id, &message, "The link was used.", &actor)
        }
        _ => Ok(()),
    }
}

/// A message whose link is over: cancelled, or if it was given up already, only its token goes.
fn give_up(batch: &mut Batch<'_>, id: MessageId, message: &Message, why: &str, actor: &Actor) -> StorageResult<()> {
    if message.state == State::Failed {
        return put(batch, id, Some(message), &Message { sealed: String::new(), ..message.clone() });
    }
    end(batch, id, message, State::Cancelled, Some(why), actor)
}

/// Messages whose time has come, the oldest first, at most `limit`.
///
/// # Errors
/// When the store fails.
pub fn due(reader: &impl Read, now: u64, limit: usize) -> StorageResult<Vec<MessageId>> {
    let mut found = Vec::new();
    let range = Range::between(vec![DUE], due_key(now.saturating_add(1), [0; 16]));
    reader.scan(Family::Outbox, &range, &mut |key, _| {
        if found.len() == limit {
            return Ok(ControlFlow::Break(()));
        }
        found.push(id_in(key)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// When the next message is due.
///
/// # Errors
/// When the store fails.
pub fn next_due(reader: &impl Read) -> StorageResult<Option<u64>> {
    let mut next = None;
    reader.scan(Family::Outbox, &Range::prefix(&[DUE]), &mut |key, _| {
        next = Some(u64::from_be_bytes(*key[1..].first_chunk().ok_or(CORRUPT)?));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(next)
}

/// Takes a message that is due, for one try. `None`: its link is over meanwhile, or somebody called it off.
///
/// # Errors
/// When the store fails.
pub fn claim(batch: &mut Batch<'_>, id: MessageId, now: u64) -> StorageResult<Option<Message>> {
    let waiting = |message: &Message| message.state == State::Waiting && message.next <= now;
    let Some(message) = find(batch, id)?.filter(waiting) else { return Ok(None) };
    if let Some(why) = message.over(batch, now)? {
        give_up(batch, id, &message, why, &Actor { now, ..Actor::default() })?;
        return Ok(None);
    }
    let sending = Message { state: State::Sending, attempts: message.attempts + 1, ..message.clone() };
    put(batch, id, Some(&message), &sending)?;
    Ok(Some(sending))
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway has it.
    Delivered,
    /// The gateway will never take it.
    Refused(String),
    /// It may work later: not before this time, in seconds since 1970.
    Again(String, u64),
}

/// Notes what came of the try that is message's newest. `most`: tries after which it is given up.
///
/// # Errors
/// When the store fails.
pub fn finish(
    batch: &mut Batch<'_>,
    id: MessageId,
    attempt: u32,
    outcome: Outcome,
    most: u32,
    now: u64,
) -> StorageResult<()> {
    let current = |message: &Message| message.state == State::Sending && message.attempts == attempt;
    let Some(message) = find(batch, id)?.filter(current) else { return Ok(()) };
    let actor = Actor { now, ..Actor::default() };
    let (error, next) = match outcome {
        Outcome::Delivered => return end(batch, id, &message, State::Delivered, None, &actor),
        Outcome::Refused(error) => (error, None),
        Outcome::Again(error, next) => {
            let last = attempt - message.forgiven >= most || next >= message.expires;
            (error, Some(next).filter(|_| !last))
        }
    };
    let state = if next.is_some() { State::Waiting } else { State::Failed };
    let ended = if next.is_some() { 0 } else { now };
    let after = Message { state, error: Some(error), next: next.unwrap_or(0), ended, ..message.clone() };
    put(batch, id, Some(&message), &after)?;
    if next.is_none() { note(batch, id, &after, &actor) } else { Ok(()) }
}

/// Why something was not done with a message.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is in no state for it; in words.
    #[error("{0}")]
    State(String),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Lets a message be tried again at once, as often as a new one.
///
/// # Errors
/// When it is being sent, was delivered, or its link is over; or when the store fails.
pub fn retry(batch: &mut Batch<'_>, id: MessageId, before: &Message, actor: &Actor) -> Result<(), Refused> {
    if !matches!(before.state, State::Waiting | State::Failed) {
        let why = format!("This message is {}: make another link to send one again.", before.state.word());
        return Err(Refused::State(why));
    }
    if let Some(why) = before.over(batch, actor.now)? {
        return Err(Refused::State(why.to_owned()));
    }
    let after =
        Message { state: State::Waiting, next: actor.now, ended: 0, forgiven: before.attempts, ..before.clone() };
    put(batch, id, Some(before), &after)?;
    note(batch, id, &after, actor)?;
    Ok(announce(batch)?)
}

/// Calls a message off, and ends its link: nobody else knows it, and a try that failed may have brought it to the wrong person.
///
/// # Errors
/// When it was delivered or is over already; or when the store fails.
pub fn cancel(batch: &mut Batch<'_>, id: MessageId, before: &Message, actor: &Actor) -> Result<(), Refused> {
    if matches!(before.state, State::Delivered | State::Cancelled) {
        return Err(Refused::State(format!("This message is {} already.", before.state.word())));
    }
    links::end(batch, &before.fingerprint()?, actor)?;
    Ok(end(batch, id, before, State::Cancelled, Some("It was called off."), actor)?)
}

/// Open messages by account: those that can still be sent.
fn open_messages(reader: &impl Read) -> StorageResult<Vec<MessageId>> {
    let mut found = Vec::new();
    reader.scan(Family::Outbox, &Range::prefix(&[OPEN]), &mut |_, id| {
        found.push(id_in(id)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// How many messages can still be sent, by state.
///
/// # Errors
/// When the store fails.
pub fn open_by_state(reader: &impl Read) -> StorageResult<[(State, u64); 3]> {
    let mut counts = [State::Waiting, State::Sending, State::Failed].map(|state| (state, 0));
    for id in open_messages(reader)? {
        let state = find(reader, id)?.map(|message| message.state);
        for (_, count) in counts.iter_mut().filter(|(known, _)| Some(*known) == state) {
            *count += 1;
        }
    }
    Ok(counts)
}

/// What was being sent when the server stopped waits again: nobody knows whether it arrived.
///
/// # Errors
/// When the store fails.
pub fn recover(batch: &mut Batch<'_>, now: u64) -> StorageResult<()> {
    for id in open_messages(batch)? {
        if let Some(message) = find(batch, id)?.filter(|message| message.state == State::Sending) {
            put(batch, id, Some(&message), &Message { state: State::Waiting, next: now, ..message.clone() })?;
        }
    }
    Ok(())
}

/// Messages that can still be sent although their links are over, at most `limit`.
///
/// # Errors
/// When the store fails.
pub fn outdated(reader: &impl Read, now: u64, limit: usize) -> StorageResult<Vec<MessageId>> {
    let mut found = Vec::new();
    for id in open_messages(reader)? {
        if found.len() == limit {
            break;
        }
        let message = find(reader, id)?.filter(|message| message.state != State::Sending);
        if message.map(|message| message.over(reader, now)).transpose()?.flatten().is_some() {
            found.push(id);
        }
    }
    Ok(found)
}

/// Erases the token of a message whose link is over, and cancels it if it waits.
///
/// # Errors
/// When the store fails.
pub fn tidy(batch: &mut Batch<'_>, id: MessageId, now: u64) -> StorageResult<()> {
    let open = |message: &Message| message.is_open() && message.state != State::Sending;
    let Some(message) = find(batch, id)?.filter(open) else { return Ok(()) };
    match message.over(batch, now)? {
        Some(why) => give_up(batch, id, &message, why, &Actor { now, ..Actor::default() }),
        None => Ok(()),
    }
}

/// Messages, the newest first, from the one behind `after` on, until `visit` breaks.
///
/// # Errors
/// When the store fails.
pub fn list(
    reader: &impl Read,
    after: Option<MessageId>,
    mut visit: impl FnMut(MessageId, Message) -> StorageResult<ControlFlow<()>>,
) -> StorageResult<()> {
    let end = after.map_or_else(|| vec![MESSAGE + 1], message_key);
    reader.scan(Family::Outbox, &Range::between(vec![MESSAGE], end).reversed(), &mut |key, row| {
        visit(id_in(key)?, read(row)?)
    })
}

/// Messages that have been over for so long that they may be forgotten, the oldest first, at most `limit`.
///
/// # Errors
/// When the store fails.
pub fn forgettable(reader: &impl Read, now: u64, limit: usize) -> StorageResult<Vec<MessageId>> {
    let mut found = Vec::new();
    reader.scan(Family::Outbox, &Range::prefix(&[MESSAGE]), &mut |key, row| {
        let message = read(row)?;
        if message.made.saturating_add(REMEMBERED_SECONDS) >= now || found.len() == limit {
            return Ok(ControlFlow::Break(()));
        }
        if !message.is_open() && message.ended.saturating_add(REMEMBERED_SECONDS) < now {
            found.push(id_in(key)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Forgets a message that is over.
pub fn forget(batch: &mut Batch<'_>, id: MessageId) {
    batch.delete_bytes(Family::Outbox, message_key(id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_token_opens_with_its_key_and_message_only() {
        let token = [7; 32];
        let text = URL_SAFE_NO_PAD.encode(token);
        let key = SealingKey::new([1; 32]);
        let message = Message {
            link: hex(&links::fingerprint(&text).expect("a token")),
            sealed: hex(&key.sealed([2; 16], token)),
            ..Message::default()
        };
        assert!(!message.sealed.contains(&hex(&token)));
        assert_eq!(message.token([2; 16], &key), Some(text));
        assert_eq!(message.token([3; 16], &key), None);
        assert_eq!(message.token([2; 16], &SealingKey::new([2; 32])), None);
        assert_eq!(Message { sealed: String::new(), ..message }.token([2; 16], &key), None);
        assert_eq!(format!("{key:?}"), "SealingKey");
    }
}
