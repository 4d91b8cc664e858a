//! Pushes: judge, merge, number, store. Everything here runs on the writer, beside the data it judges.
//!
//! The laws of the tree are in `settle_protocol::revision_tree`; this file reads the stored tree, applies one write, and
//! writes tree, body, log row and counters into the same batch. A refused document writes nothing.

use std::collections::{BTreeSet, HashMap};

use settle_protocol::attachment::{Attachment, Content, IncomingAttachment};
use settle_protocol::document::IncomingDocument;
use settle_protocol::revision_tree::{Merged, Node};
use settle_protocol::sequence::Position;
use settle_protocol::{Error, ErrorKind, Revision};

use super::attachments::{ArrivedBytes, refer, refer_again, release};
use super::databases::{Database, still_there};
use super::error::{DocumentError, DocumentResult};
use super::escrow;
use super::judging::Author;
use super::known::Known;
use super::provenance::{PROVENANCE, ProvenanceKey, ProvenanceRow};
use super::scopes::{self, SETTINGS_ACTION, topic, whole};
use super::tables::{
    BODIES, Body, BodyKey, CHANGES, COUNTERS, ChangeKey, ChangeRow, Counters, DOCUMENTS, DatabaseId, DatabaseKey,
    DocumentKey, DocumentRow,
};
use super::users::UserWrite;
use crate::access::facts::{Facts, SETTINGS};
use crate::access::placement::Anchor;
use crate::access::scope::ScopeSettings;
use crate::accounts::standing::{Right, Standing};
use crate::accounts::withdrawals::note_push;
use crate::audit::{self, Entry};
use crate::storage::{Batch, Read, StorageResult, Value};

/// How a revision comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// An edit made here, on top of a leaf or of nothing.
    Interactive {
        /// The revision the client edited.
        base: Option<Revision>,
        /// A history sent along (`_revisions`): a document that is not stored yet continues it, as in CouchDB.
        claimed: Vec<Revision>,
    },
    /// A revision made elsewhere, with its history (newest first).
    Replicated {
        /// Never empty.
        path: Vec<Revision>,
    },
}

impl Mode {
    /// An edit of this revision, or of nothing.
    #[must_use]
    pub fn edit(base: Option<Revision>) -> Self {
        Self::Interactive { base, claimed: Vec::new() }
    }
}

/// Where the bytes of an attachment are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the revision before.
    Stub,
    /// Arrived with this write.
    Arrived(ArrivedBytes),
}

/// An attachment of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteAttachment {
    /// Its name.
    pub name: String,
    /// Its type.
    pub content_type: String,
    /// `revpos` as sent.
    pub revpos: Option<u64>,
    /// Its bytes.
    pub source: Source,
}

/// A document ready to be written: parsed, its attachments hashed.
#[derive(Debug, Clone)]
pub struct Write {
    /// Its id, checked.
    pub id: String,
    /// How it comes about.
    pub mode: Mode,
    /// A tombstone.
    pub deleted: bool,
    /// Its members as text.
    pub body: String,
    /// Its attachments, in order.
    pub attachments: Vec<WriteAttachment>,
    /// In `_users`: what the rules there need.
    pub user: Option<Box<UserWrite>>,
    /// In a scoped database: what the body says about where it belongs, if that was read before the writer.
    pub facts: Option<Facts>,
}

impl Write {
    /// A write from a parsed document. Inline attachments are hashed here, off the writer.
    ///
    /// # Errors
    /// `400` for a `follows` attachment, which only a multipart body can bring.
    pub fn new(id: String, mode: Mode, document: IncomingDocument) -> Result<Self, Error> {
        let attachments = document.attachments.into_iter().map(write_attachment).collect::<Result<_, _>>()?;
        Ok(Self { id, mode, deleted: document.deleted, body: document.body, attachments, user: None, facts: None })
    }
}

impl WriteAttachment {
    /// An attachment that stays as it is.
    #[must_use]
    pub fn kept(attachment: &Attachment) -> Self {
        Self {
            name: attachment.name.clone(),
            content_type: attachment.content_type.clone(),
            revpos: None,
            source: Source::Stub,
        }
    }
}

fn write_attachment(attachment: IncomingAttachment) -> Result<WriteAttachment, Error> {
    let source = match attachment.content {
        Content::Inline(bytes) => Source::Arrived(ArrivedBytes::in_memory(bytes)),
        Content::Stub => Source::Stub,
        Content::Follows { .. } => {
            let reason = format!("Attachment {} follows, but this is no multipart request", attachment.name);
            return Err(Error::bad_request(reason));
        }
    };
    let IncomingAttachment { name, content_type, revpos, .. } = attachment;
    Ok(WriteAttachment { name, content_type, revpos, source })
}

/// The database of one request on the writer: its counters are read once and written once.
pub struct Writing<'b, 'a> {
    /// The open batch.
    pub batch: &'b mut Batch<'a>,
    pub(super) id: DatabaseId,
    /// The database's name.
    name: String,
    pub(super) scoped: bool,
    /// Records have rows of the feed under watched places only.
    pub(super) watches: bool,
    pub(super) author: Author,
    pub(super) counters: Counters,
    /// Facts of the revision just written.
    pub(super) fresh: Option<(Revision, Facts)>,
    /// Contacts whose place or meaning this request changed.
    pub(super) touched: BTreeSet<String>,
    /// Topics of the anchors whose feeds this request changed; some more than once.
    pub(super) reached: Vec<u64>,
    /// What it looked up.
    pub(super) known: Known,
    /// Something is in escrow, or may be by now; unknown until it is asked for.
    escrowed: Option<bool>,
    /// What the author's credentials are worth.
    pub(super) standing: Standing,
    /// An account, and whether it gave a place away once; unknown until it is asked for.
    pub(super) gave_away: Option<(String, bool)>,
    revs_limit: usize,
    before: Counters,
    /// The depth of the deepest line, once it was looked up.
    pub(super) deepest: Option<u8>,
}

impl<'b, 'a> Writing<'b, 'a> {
    /// Begins work of the server itself; the database must still be there.
    ///
    /// # Errors
    /// `404` when it was deleted, or a failure of the store.
    pub fn begin(batch: &'b mut Batch<'a>, database: &Database) -> DocumentResult<Self> {
        Self::begin_as(batch, database, Author::default())
    }

    /// Begins work of an author; the database must still be there, and the author's credentials still be worth it.
    ///
    /// # Errors
    /// `404` when it was deleted, `401` or `403` when the right was withdrawn meanwhile, or a failure of the store.
    pub fn begin_as(batch: &'b mut Batch<'a>, database: &Database, author: Author) -> DocumentResult<Self> {
        let row = still_there(batch, database)?;
        let mut standing = Standing::Active;
        if let Some(pass) = &author.pass {
            let judged = pass.judge(batch, author.now)?;
            judged.allow(if author.edits { Right::Everything } else { Right::Push })?;
            let database = (!author.edits).then_some(database.name.as_str());
            note_push(batch, pass, &judged, database, author.now)?;
            standing = judged.standing;
        }
        let counters = batch.unnoted(|batch| batch.get(&COUNTERS, &DatabaseKey(row.id)))?.unwrap_or_default();
        Ok(Self {
            batch,
            id: row.id,
            name: database.name.clone(),
            scoped: row.scoped,
            watches: row.watches,
            author,
            counters,
            fresh: None,
            touched: BTreeSet::new(),
            reached: Vec::new(),
            known: Known::default(),
            escrowed: None,
            standing,
            gave_away: None,
            revs_limit: row.revs_limit as usize,
            before: counters,
            deepest: None,
        })
    }

    /// Admits what waited for this work, writes the counters, announces new positions. Must be called, or the log is torn.
    ///
    /// # Errors
    /// When the store fails.
    pub fn end(mut self) -> DocumentResult<()> {
        self.admit_waiting()?;
        if self.counters != self.before {
            self.batch.put(&COUNTERS, &DatabaseKey(self.id), &self.counters);
        }
        if self.counters.position != self.before.position {
            self.batch.announce(whole(self.id), self.counters.position);
        }
        self.reached.sort_unstable();
        self.reached.dedup();
        for topic in &self.reached {
            self.batch.announce(*topic, self.counters.position);
        }
        Ok(())
    }

    /// Whoever follows this anchor is told that something changed.
    pub(super) fn reach(&mut self, anchor: &Anchor) {
        self.reached.push(topic(self.id, anchor));
    }

    /// The device of a restricted author.
    pub(super) fn device(&self) -> Option<[u8; 16]> {
        self.author.limits.map(|_| self.author.device)
    }

    /// Notes how deep the lines of this database go.
    pub(super) fn deepen(&mut self, line: usize) -> StorageResult<()> {
        let depth = u8::try_from(line.saturating_sub(1)).unwrap_or(u8::MAX);
        let known = match self.deepest {
            Some(known) => known,
            None => scopes::deepest(self.batch, self.id)?,
        };
        if depth > known {
            scopes::set_deepest(self.batch, self.id, depth);
        }
        self.deepest = Some(known.max(depth));
        Ok(())
    }

    /// The number of the database.
    #[must_use]
    pub fn database(&self) -> DatabaseId {
        self.id
    }

    /// Counts purges (`purge_seq`).
    pub fn count_purges(&mut self, purges: u64) -> u64 {
        self.counters.purges += purges;
        self.counters.purges
    }

    /// The stored document.
    ///
    /// # Errors
    /// When the store fails.
    pub fn document(&self, id: &str) -> StorageResult<Option<DocumentRow>> {
        let row = self.batch.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(self.id, id))?;
        row.map(|row| DOCUMENTS.decode(&row)).transpose()
    }

    /// The stored body of a revision; `None` when it was never given or is compacted away.
    ///
    /// # Errors
    /// When the store fails.
    pub fn body(&self, id: &str, row: &DocumentRow, revision: &Revision) -> StorageResult<Option<Body>> {
        self.batch.get(&BODIES, &BodyKey::new(self.id, row.cluster, id, revision))
    }

    /// Writes one document and says which revision it is now stored as.
    ///
    /// # Errors
    /// `409 conflict`, `412 missing_stub`, what the rules of `_users` say, or a failure of the store. Nothing of this
    /// document was written then.
    pub fn write(&mut self, mut write: Write) -> DocumentResult<Revision> {
        let stored = self.document(&write.id)?;
        let before = stored.as_ref().map(Before::of);
        let mut row = stored.unwrap_or_default();
        let user = write.user.take();
        if let Some(user) = &user {
            user.judge(self, &mut write, &row)?;
        }
        let (revision, attachments) = match &write.mode {
            Mode::Interactive { base, claimed } => self.edit(&write, &mut row, base.as_ref(), claimed)?,
            Mode::Replicated { path } => match self.replicate(&write, &mut row, path)? {
                Some(attachments) => (path[0].clone(), attachments),
                None => {
                    self.note_sent_again(&write.id, &path[0]);
                    return Ok(path[0].clone());
                }
            },
        };
        let id = user.is_some().then(|| write.id.clone());
        self.store(write, before, row, &revision, attachments)?;
        if let (Some(user), Some(id)) = (user, id) {
            user.remember(self, &id)?;
        }
        Ok(revision)
    }

    /// §2.4: which leaf is extended, and the name of the new revision.
    fn edit(
        &self,
        write: &Write,
        row: &mut DocumentRow,
        base: Option<&Revision>,
        claimed: &[Revision],
    ) -> DocumentResult<(Revision, Vec<Attachment>)> {
        let parent: Option<Node> = match base {
            Some(base) if row.tree.is_leaf(base) => row.tree.find(base).cloned(),
            Some(_) => return Err(Error::conflict().into()),
            None => match row.tree.winner() {
                Some(winner) if !winner.deleted => return Err(Error::conflict().into()),
                tombstone => tombstone.cloned(),
            },
        };
        let claimed = if row.tree.is_empty() { claimed } else { &[] };
        let parent = parent.map(|node| node.revision).or_else(|| claimed.first().cloned());
        let last = || Error::bad_request("The revision has the last generation there is; it cannot be edited.");
        let generation = parent.as_ref().map_or(0, |parent| parent.generation).checked_add(1).ok_or_else(last)?;
        let before = self.stub_source(write, row, parent.as_slice())?;
        let attachments = resolve(write, generation, before.as_ref(), true)?;
        let named: Vec<(&str, &str, [u8; 16])> =
            attachments.iter().map(|a| (a.name.as_str(), a.content_type.as_str(), a.md5)).collect();
        let revision = Revision::of_edit(parent.as_ref(), write.deleted, &write.body, &named);
        let merged = if claimed.is_empty() {
            row.tree.extend(parent.as_ref(), revision.clone(), write.deleted)
        } else {
            row.tree.merge(&[std::slice::from_ref(&revision), claimed].concat(), write.deleted)
        };
        if merged == Merged::Known {
            return Err(Error::conflict().into());
        }
        Ok((revision, attachments))
    }

    /// §2.5: `None` when the revision was there already.
    fn replicate(
        &mut self,
        write: &Write,
        row: &mut DocumentRow,
        path: &[Revision],
    ) -> DocumentResult<Option<Vec<Attachment>>> {
        let newest = path.first().ok_or_else(|| Error::bad_request("a revision has no history"))?;
        if row.tree.find(newest).is_some_and(|node| node.stored) {
            self.learn_ancestors(&write.id, row, path)?;
            return Ok(None);
        }
        let before = self.stub_source(write, row, &path[1..])?;
        let attachments = resolve(write, newest.generation, before.as_ref(), false)?;
        row.tree.merge(path, write.deleted);
        Ok(Some(attachments))
    }

    /// A known revision may come with more of its history than is stored. Usually nothing anybody follows changes by that;
    /// but a leaf may turn out to be its ancestor, and then the document changes like by any write.
    fn learn_ancestors(&mut self, id: &str, row: &mut DocumentRow, path: &[Revision]) -> StorageResult<()> {
        if path.len() <= row.tree.path(&path[0]).len() {
            return Ok(());
        }
        let before = Before::of(row);
        let known = row.tree.clone();
        row.tree.merge(path, false);
        for cut in row.tree.stem(self.revs_limit) {
            self.drop_body(id, row, &cut)?;
        }
        let same_leaves = {
            let (now, then) = (row.tree.leaves(), known.leaves());
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| now.revision == then.revision)
        };
        if !same_leaves {
            self.place(id, Some(before), row.clone())?;
        } else if row.tree != known {
            self.rewrite(id, row);
        }
        Ok(())
    }

    /// The body that stubs point to (§5.3): that of the nearest of these ancestors that has one.
    fn stub_source(&self, write: &Write, row: &DocumentRow, ancestors: &[Revision]) -> StorageResult<Option<Body>> {
        if !write.attachments.iter().any(|attachment| attachment.source == Source::Stub) {
            return Ok(None);
        }
        let Some(known) = ancestors.iter().find(|ancestor| row.tree.find(ancestor).is_some()) else { return Ok(None) };
        for node in row.tree.path(known) {
            if node.stored
                && let Some(body) = self.body(&write.id, row, &node.revision)?
            {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    fn store(
        &mut self,
        write: Write,
        before: Option<Before>,
        mut row: DocumentRow,
        revision: &Revision,
        attachments: Vec<Attachment>,
    ) -> DocumentResult<()> {
        for (attachment, given) in attachments.iter().zip(&write.attachments) {
            match &given.source {
                Source::Arrived(arrived) => refer(self.batch, self.id, arrived)?,
                Source::Stub => refer_again(self.batch, self.id, attachment.address)?,
            }
        }
        row.attachments |= !attachments.is_empty();
        if self.scoped && before.is_none() {
            row.cluster = self.cluster_of(&write)?;
        }
        let provenance = if self.scoped { Some(self.provenance(&write)?) } else { None };
        let Write { id, body, facts, .. } = write;
        self.counters.body_bytes += body.len() as u64;
        let key = BodyKey::new(self.id, row.cluster, &id, revision);
        self.batch.put(&BODIES, &key, &Body { attachments, text: body, provenance });
        for cut in row.tree.stem(self.revs_limit) {
            self.drop_body(&id, &row, &cut)?;
        }
        if self.scoped {
            if self.may_hold_escrow()? {
                escrow::settle(self.batch, self.id, &id, revision)?;
            }
            self.fresh = facts.map(|facts| (revision.clone(), facts));
        }
        self.place(&id, before, row)?;
        self.fresh = None;
        Ok(())
    }

    /// A restricted device sent a revision that is stored already.
    pub(super) fn note_sent_again(&mut self, id: &str, revision: &Revision) {
        if let Some(device) = self.device().filter(|_| self.scoped) {
            escrow::note_sent_again(self.batch, self.id, id, &device, revision);
        }
    }

    /// Of what is written next.
    fn provenance(&mut self, write: &Write) -> StorageResult<ProvenanceRow> {
        let arrival = self.arrival(write)?;
        Ok(ProvenanceRow {
            account: self.author.account.clone(),
            device: self.author.device,
            position: self.counters.position + 1,
            time: self.author.now,
            trusted: self.author.limits.is_none(),
            arrival,
        })
    }

    /// Whether a look into escrow can find anything.
    pub(super) fn may_hold_escrow(&mut self) -> StorageResult<bool> {
        let known = match self.escrowed {
            Some(known) => known,
            None => escrow::live(self.batch, self.id)? > 0,
        };
        self.escrowed = Some(known);
        Ok(known)
    }

    /// This request puts something into escrow.
    pub(super) fn expect_escrow(&mut self) {
        self.escrowed = Some(true);
    }

    /// Sets (`Some`) or removes one attachment of a document, as a new revision with the same body.
    ///
    /// # Errors
    /// `409` for a wrong or missing revision, `404` for a document or an attachment to remove that is not there.
    pub fn write_attachment(
        &mut self,
        id: &str,
        base: Option<Revision>,
        name: &str,
        attachment: Option<WriteAttachment>,
        user: Option<Box<UserWrite>>,
    ) -> DocumentResult<Revision> {
        let row = if self.author_sees(id)? { self.document(id)? } else { None };
        let body = match (&row, &base) {
            (None, None) if attachment.is_none() => return Err(Error::missing().into()),
            (None, None) => Body::default(),
            (None, Some(_)) => return Err(Error::new(ErrorKind::MissingRevision, "missing_rev").into()),
            (Some(row), None) if row.tree.is_deleted() && attachment.is_some() => Body::default(),
            (Some(_), None) => return Err(Error::conflict().into()),
            (Some(row), Some(base)) => {
                let body = if row.tree.find(base).is_some() { self.body(id, row, base)? } else { None };
                body.ok_or_else(|| Error::new(ErrorKind::MissingRevision, "missing_rev"))?
            }
        };
        let mut attachments: Vec<WriteAttachment> = body.attachments.iter().map(WriteAttachment::kept).collect();
        let at = attachments.iter().position(|kept| kept.name == name);
        match (at, attachment) {
            (Some(at), Some(attachment)) => attachments[at] = attachment,
            (None, Some(attachment)) => attachments.push(attachment),
            (Some(at), None) => drop(attachments.remove(at)),
            (None, None) => return Err(Error::not_found("Document is missing attachment").into()),
        }
        let write = Write {
            id: id.to_owned(),
            mode: Mode::edit(base),
            deleted: false,
            body: body.text,
            attachments,
            user,
            facts: None,
        };
        self.submit(write)
    }

    /// Removes the body of a revision, if it is there.
    ///
    /// # Errors
    /// When the store fails.
    pub fn drop_body(&mut self, id: &str, row: &DocumentRow, revision: &Revision) -> StorageResult<()> {
        let key = BodyKey::new(self.id, row.cluster, id, revision);
        let Some(body) = self.batch.get(&BODIES, &key)? else { return Ok(()) };
        for attachment in &body.attachments {
            release(self.batch, self.id, attachment.address)?;
        }
        self.counters.body_bytes = self.counters.body_bytes.saturating_sub(body.text.len() as u64);
        if let Some(provenance) = &body.provenance {
            self.batch.put(&PROVENANCE, &ProvenanceKey::new(self.id, id, revision), provenance);
        }
        self.batch.delete(&BODIES, &key);
        Ok(())
    }

    /// Gives a changed document the next position: its old log row goes, a new one comes, and in a scoped database it is
    /// filed. An empty tree removes it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn place(&mut self, id: &str, before: Option<Before>, mut row: DocumentRow) -> StorageResult<()> {
        if let Some(before) = before {
            self.batch.delete(&CHANGES, &ChangeKey { database: self.id, position: before.position });
            match before.deleted {
                true => self.counters.deleted -= 1,
                false => self.counters.documents -= 1,
            }
        }
        self.counters.position += 1;
        let old_position = before.map(|before| before.position);
        let Some(change) = ChangeRow::of(id, &row.tree) else {
            if self.scoped {
                return self.file(id, old_position, row, None);
            }
            self.batch.delete_bytes(DOCUMENTS.family(), DocumentKey::bytes(self.id, id));
            return Ok(());
        };
        match change.deleted {
            true => self.counters.deleted += 1,
            false => self.counters.documents += 1,
        }
        let mut log = Vec::with_capacity(96);
        change.encode(&mut log);
        row.position = self.counters.position;
        let log_key = CHANGES.key(&ChangeKey { database: self.id, position: row.position });
        self.batch.put_bytes(CHANGES.family(), &log_key, &log);
        if !self.scoped {
            self.rewrite(id, &row);
            return Ok(());
        }
        if id == SETTINGS {
            self.note_settings(&row)?;
        }
        self.file(id, old_position, row, Some(&log))
    }

    /// Settings say how deep roles see: they count from the position of their document, and the audit log has them.
    fn note_settings(&mut self, row: &DocumentRow) -> StorageResult<()> {
        let winner = row.tree.winner().filter(|winner| !winner.deleted).map(|winner| winner.revision.clone());
        let body = match winner {
            Some(winner) => self.body(SETTINGS, row, &winner)?,
            None => None,
        };
        let settings = body.map(|body| ScopeSettings::of(&body.text)).unwrap_or_default();
        if scopes::note_settings(self.batch, self.id, row.position, &settings)? {
            let entry = Entry::new(self.author.now, &self.author.account, SETTINGS_ACTION).database(&self.name);
            let settings = serde_json::to_value(&settings).unwrap_or_default();
            audit::append(self.batch, &entry.detail("settings", settings))?;
        }
        Ok(())
    }

    /// Rewrites a document without giving it a new position (compaction changes nothing anybody can see).
    pub fn rewrite(&mut self, id: &str, row: &DocumentRow) {
        self.batch.put_value(DOCUMENTS.family(), &DocumentKey::bytes(self.id, id), row);
    }
}

/// What a stored document was before this write.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    position: Position,
    deleted: bool,
}

impl Before {
    /// Of a stored row.
    #[must_use]
    pub fn of(row: &DocumentRow) -> Self {
        Self { position: row.position, deleted: row.tree.is_deleted() }
    }
}

/// Attachments of the new revision: arrived ones get this generation, stubs are carried over (§5.3).
fn resolve(write: &Write, generation: u64, before: Option<&Body>, interactive: bool) -> Result<Vec<Attachment>, Error> {
    let invalid =
        |name: &str| Error::new(ErrorKind::MissingStub, format!("Invalid attachment stub in {} for {name}", write.id));
    let stored = before.map_or(&[][..], |body| &body.attachments);
    let stored: HashMap<&str, &Attachment> = stored.iter().map(|kept| (kept.name.as_str(), kept)).collect();
    let mut attachments = Vec::with_capacity(write.attachments.len());
    for given in &write.attachments {
        attachments.push(match &given.source {
            Source::Arrived(arrived) => Attachment {
                name: given.name.clone(),
                content_type: given.content_type.clone(),
                revpos: match given.revpos {
                    Some(revpos) if !interactive => revpos.clamp(1, generation.max(1)),
                    _ => generation.max(1),
                },
                length: arrived.length,
                md5: arrived.md5,
                address: arrived.address,
            },
            Source::Stub => {
                let kept = *stored.get(given.name.as_str()).ok_or_else(|| invalid(&given.name))?;
                if interactive && given.revpos.is_some_and(|revpos| revpos != kept.revpos) {
                    return Err(invalid(&given.name));
                }
                kept.clone()
            }
        });
    }
    Ok(attachments)
}

/// Whether an error fails only its own document in a batch, or the whole request (§1.1.2).
#[must_use]
pub fn is_row(error: &DocumentError) -> bool {
    match error {
        DocumentError::Refused(error) => error.kind() != ErrorKind::MissingStub,
        DocumentError::Storage(_) => false,
    }
}
