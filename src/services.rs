//! Builds every part once: store, catalogue, logins, settings, clock. What runs in the background is started here.

pub mod body_memory;
pub mod history;
pub mod operator_reads;
pub mod outbox;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use self::body_memory::BodyMemory;
use self::operator_reads::OperatorReads;
use self::outbox::Outbox;
use crate::accounts::external_ids;
use crate::accounts::ledger_copy::Ledger;
use crate::accounts::login::Logins;
use crate::accounts::password::{Credential, PasswordPolicy};
use crate::accounts::session_cookie::{CookieSettings, SameSite};
use crate::accounts::silences;
use crate::accounts::withdrawals::{note_quiet, quiet_devices};
use crate::audit::{self, Entry};
use crate::clock::{Clock, random};
use crate::config::{Config, Duties, Settings};
use crate::documents::attachments::remove_unreferred;
use crate::documents::databases::Catalogue;
use crate::documents::error::DocumentResult;
use crate::documents::grants;
use crate::documents::manifests::forget_old;
use crate::documents::receipts::ReceiptKey;
use crate::documents::restarts::Restarts;
use crate::documents::tables::DatabaseRow;
use crate::documents::users::USERS;
use crate::storage::{Batch, Family, Memory, Range, Read, StorageResult, Store};

/// How often the clock's mark is kept and expired sessions are forgotten.
const HOUSEKEEPING_SECONDS: u64 = 30;
/// How often the revocation ledger notes that the store was in use.
const MARK_SECONDS: u64 = 600;
/// Databases that every CouchDB has.
const SYSTEM_DATABASES: [&str; 2] = ["_users", "_replicator"];

/// Everything a request may need.
pub struct Services {
    /// The store.
    pub store: Store,
    /// All databases.
    pub catalogue: Catalogue,
    /// Who is calling.
    pub logins: Logins,
    /// Signs receipts.
    pub receipts: ReceiptKey,
    /// Time.
    pub clock: Clock,
    /// What request bodies hold.
    pub body_memory: BodyMemory,
    /// The copy of the revocation ledger.
    pub ledger: Arc<Ledger>,
    /// Replications that run through a restore.
    pub restarts: Restarts,
    /// Reads of scoped databases by operators.
    reads: OperatorReads,
    /// What had happened at the last mark of the ledger.
    marked: AtomicU64,
    /// What one person may not do alone.
    pub duties: Duties,
    /// Feeds that are being sent or held.
    pub feeds: Feeds,
    settings: RwLock<Arc<Settings>>,
    texts: Mutex<BTreeMap<(String, String), String>>,
    compacting: Mutex<BTreeMap<String, u64>>,
    erasing: Mutex<()>,
    /// How messages leave.
    pub outbox: Outbox,
    /// A grant was made: when one begins or ends next must be looked up again.
    pub grants_changed: tokio::sync::Notify,
}

impl Services {
    /// Opens the store and builds every part.
    ///
    /// # Errors
    /// When the store cannot be opened, or an operator's password is none.
    pub async fn open(config: &Config) -> anyhow::Result<Arc<Self>> {
        let memory = Memory { cache_bytes: config.cache_mib << 20, write_buffer_bytes: config.write_buffer_mib << 20 };
        let store = Store::open(&config.data, memory, random::<16>)?;
        remove_unreferred(&store).await?;
        let operators = operators(config)?;
        let open_server = operators.is_empty() && config.open;
        let logins = Logins::open(&store, operators, open_server, random()).await?;
        let mut texts = config.settings.clone();
        texts.extend(kept_settings(&store)?);
        let (catalogue, clock) = (Catalogue::open(&store)?, Clock::open(&store)?);
        let ledger = history::open(&store, &catalogue, &clock, config).await?;
        let restarts = Restarts::open(&store.snapshot())?;
        let services = Arc::new(Self {
            receipts: store.write(|batch| ReceiptKey::open(batch, random())).await?,
            body_memory: BodyMemory::default(),
            marked: AtomicU64::new(history::activity(&store, &catalogue)?),
            restarts,
            reads: OperatorReads::default(),
            catalogue,
            clock,
            ledger,
            duties: config.duties,
            feeds: Feeds::default(),
            settings: RwLock::new(Arc::new(settings_from(&texts))),
            texts: Mutex::new(texts),
            compacting: Mutex::default(),
            erasing: Mutex::default(),
            outbox: Outbox::open(config)?,
            grants_changed: tokio::sync::Notify::default(),
            logins,
            store,
        });
        for name in SYSTEM_DATABASES {
            if services.catalogue.find(name).is_err() {
                services.create_database(name, false, "").await?;
            }
        }
        services.list_external_ids().await?;
        tokio::spawn(Arc::clone(&services.ledger).follow());
        services.erase_deleted();
        Ok(services)
    }

    /// Makes the list of external ids in a store that is older than it.
    async fn list_external_ids(&self) -> DocumentResult<()> {
        let users = self.catalogue.find(USERS)?.id();
        let complete = move |batch: &mut Batch<'_>| match external_ids::is_incomplete(batch)? {
            true => external_ids::complete(batch, crate::documents::users::external_ids(batch, users)?),
            false => Ok(()),
        };
        Ok(self.store.write(complete).await?)
    }

    /// The settings as they stand.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every setting that has a value: what was set, and the defaults of those that exist.
    #[must_use]
    pub fn setting_texts(&self) -> BTreeMap<(String, String), String> {
        let known = Settings::default().list().into_iter();
        let mut all: BTreeMap<(String, String), String> =
            known.map(|(section, key, value)| ((section.to_owned(), key.to_owned()), value)).collect();
        all.extend(self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all.retain(|_, value| !value.is_empty());
        all
    }

    /// Changes a setting (`None`: back to its default) and keeps it. The audit log learns its name, not its value: that may be
    /// a secret.
    ///
    /// # Errors
    /// `400` when a known setting cannot have this value.
    pub async fn change_setting(
        &self,
        section: &str,
        key: &str,
        value: Option<String>,
        by: &str,
    ) -> DocumentResult<()> {
        if let Some(value) = &value {
            let refused = |reason: String| settle_protocol::Error::bad_request(reason);
            Settings::default().set(section, key, value).map_err(refused)?;
        }
        let stored = setting_key(section, key);
        let kept = value.clone();
        let action = if value.is_some() { "config.set" } else { "config.remove" };
        let entry = Entry::new(self.clock.now(), by, action).detail("section", section).detail("key", key);
        self.store
            .write(move |batch| -> DocumentResult<()> {
                match kept {
                    Some(value) => batch.put_bytes(Family::Meta, stored, value.into_bytes()),
                    None => batch.delete_bytes(Family::Meta, stored),
                }
                Ok(audit::append(batch, &entry)?)
            })
            .await?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (section.to_owned(), key.to_owned());
        match value {
            Some(value) => drop(texts.insert(place, value)),
            None => drop(texts.remove(&place)),
        }
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings_from(&texts));
        Ok(())
    }

    /// The attributes of session cookies.
    #[must_use]
    pub fn cookies(&self) -> CookieSettings {
        let settings = self.settings();
        CookieSettings {
            lifetime_seconds: settings.session_seconds,
            persistent: settings.persistent_cookies,
            secure: settings.secure_cookies,
            domain: settings.cookie_domain.clone().filter(|domain| CookieSettings::is_valid_domain(domain)),
            same_site: match settings.same_site.as_deref().map(str::to_ascii_lowercase).as_deref() {
                Some("strict") => Some(SameSite::Strict),
                Some("lax") => Some(SameSite::Lax),
                Some("none") => Some(SameSite::None),
                _ => None,
            },
        }
    }

    /// What a new password must be like.
    #[must_use]
    pub fn password_policy(&self) -> PasswordPolicy {
        match self.settings().min_password_characters {
            0 | 1 => PasswordPolicy::default(),
            minimum_characters => PasswordPolicy { minimum_characters, ..PasswordPolicy::recommended() },
        }
    }

    /// Makes a database with the defaults, for somebody or (empty) the server itself.
    ///
    /// # Errors
    /// As [`Catalogue::create`].
    pub async fn create_database(&self, name: &str, scoped: bool, by: &str) -> DocumentResult<()> {
        let entry = Entry::new(self.clock.now(), by, "database.create").database(name).detail("scoped", scoped);
        let row = DatabaseRow {
            id: 0,
            uuid: random(),
            created: self.clock.now(),
            revs_limit: 1000,
            purged_infos_limit: 1000,
            scoped,
            watches: scoped,
            security: crate::accounts::security::Security::default().text().to_owned(),
        };
        self.catalogue.create(name, row, entry).await
    }

    /// Erases deleted databases in the background.
    pub fn erase_deleted(self: &Arc<Self>) {
        let services = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            let _one_at_a_time = services.erasing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = services.catalogue.erase_deleted(&runtime) {
                tracing::warn!(%error, "rows of a deleted database could not be erased yet");
            }
        });
    }

    /// Compacts a database in the background; once at a time.
    pub fn compact(self: &Arc<Self>, name: &str) {
        let started = self.clock.now();
        let mut compacting = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        if compacting.insert(name.to_owned(), started).is_some() {
            return;
        }
        drop(compacting);
        let (services, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            if let Ok(database) = services.catalogue.find(&name)
                && let Err(error) = crate::documents::maintenance::compact(&services.store, &database).await
            {
                tracing::warn!(%error, database = name, "compaction did not finish");
            }
            services.compacting.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    /// Databases that are being compacted, and since when.
    #[must_use]
    pub fn compactions(&self) -> BTreeMap<String, u64> {
        self.compacting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs until the server stops: keeps the clock's mark, forgets expired sessions, looks which devices are drained and which
    /// are silent, forgets old manifests.
    pub async fn keep_house(self: Arc<Self>) {
        let mut marked_at = self.clock.now();
        loop {
            self.clock.keep(&self.store);
            if let Err(error) = self.logins.forget_expired(self.clock.now()).await {
                tracing::warn!(%error, "expired sessions could not be forgotten");
            }
            if let Err(error) = self.logins.forget_links(self.clock.now()).await {
                tracing::warn!(%error, "old links could not be forgotten");
            }
            if let Err(error) = self.infer_drained().await {
                tracing::warn!(%error, "which devices are drained could not be looked up");
            }
            if let Err(error) = self.tell_silences().await {
                tracing::warn!(%error, "which devices are silent could not be looked up");
            }
            if let Err(error) = self.forget_manifests().await {
                tracing::warn!(%error, "old manifests could not be forgotten");
            }
            if self.clock.now() >= marked_at + MARK_SECONDS {
                marked_at = self.clock.now();
                self.mark().await;
                self.write_down_reads().await;
            }
            tokio::time::sleep(Duration::from_secs(HOUSEKEEPING_SECONDS)).await;
        }
    }
}

/// How many feeds are open.
#[derive(Debug, Clone, Default)]
pub struct Feeds(Arc<AtomicU64>);

impl Feeds {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, until what it gives is dropped.
    #[must_use]
    pub fn open(&self) -> OpenFeed {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenFeed(Arc::clone(&self.0))
    }
}

/// One open feed.
#[derive(Debug)]
pub struct OpenFeed(Arc<AtomicU64>);

impl Drop for OpenFeed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Services {
    /// Runs until the server stops: lets grants begin and end when their time comes.
    pub async fn keep_grants(self: Arc<Self>) {
        loop {
            let now = self.clock.now();
            let settled = self.store.write(move |batch| grants::settle_all(batch, now)).await;
            let due = settled.and_then(|()| grants::next_due(&self.store.snapshot(), now));
            let due = due.unwrap_or_else(|error| {
                tracing::warn!(%error, "grants could not be looked up; trying again");
                None
            });
            let pause = due.map_or(HOUSEKEEPING_SECONDS, |due| due.saturating_sub(now).min(HOUSEKEEPING_SECONDS));
            let pause = tokio::time::sleep(Duration::from_secs(pause.max(1)));
            tokio::select! {
                () = pause => {}
                () = self.grants_changed.notified() => {}
            }
        }
    }

    async fn forget_manifests(&self) -> StorageResult<()> {
        let now = self.clock.now();
        for database in self.catalogue.all() {
            forget_old(&self.store, database.id(), now).await?;
        }
        Ok(())
    }

    /// Notes in the revocation ledger that the store was in use, if it was since the last mark.
    async fn mark(&self) {
        let marked = async {
            let activity = history::activity(&self.store, &self.catalogue)?;
            if self.marked.swap(activity, Ordering::Relaxed) != activity {
                history::mark(&self.store, self.clock.now()).await?;
            }
            StorageResult::Ok(())
        };
        if let Err(error) = marked.await {
            tracing::warn!(%error, "the revocation ledger could not be marked");
        }
    }

    /// The last things before the server stops: the clock's mark and the ledger's, on the disk.
    pub async fn finish(&self) {
        self.clock.keep(&self.store);
        self.write_down_reads().await;
        self.mark().await;
        if let Err(error) = self.ledger.copy() {
            tracing::warn!(%error, "the revocation ledger is not up to date");
        }
    }

    /// Notes that an operator reads a scoped database.
    ///
    /// # Errors
    /// When it cannot be noted; then nothing must be read.
    pub async fn note_read(&self, operator: &str, database: &str, endpoint: String) -> StorageResult<()> {
        self.reads.note(&self.store, operator, database, endpoint, self.clock.now()).await
    }

    async fn write_down_reads(&self) {
        if let Err(error) = self.reads.write_down(&self.store, self.clock.now()).await {
            tracing::warn!(%error, "reads of operators could not be noted yet");
        }
    }

    /// Devices that have not called for long, where somebody wants to be told.
    async fn tell_silences(&self) -> StorageResult<()> {
        let (seconds, now) = (self.settings().silent_seconds, self.clock.now());
        if !self.outbox.is_told(silences::ACTION) {
            return Ok(());
        }
        for (account, device) in silences::begun(&self.store.snapshot(), seconds, now)? {
            self.store.write(move |batch| silences::note(batch, &account, device, seconds, now)).await?;
        }
        Ok(())
    }

    /// Devices of clients that send no manifest count as drained after a quiet period.
    async fn infer_drained(&self) -> StorageResult<()> {
        let (quiet, now) = (self.settings().quiet_seconds, self.clock.now());
        for pass in quiet_devices(&self.store.snapshot(), quiet, now)? {
            self.store.write(move |batch| note_quiet(batch, &pass, quiet, now)).await?;
        }
        Ok(())
    }
}

fn operators(config: &Config) -> anyhow::Result<HashMap<String, Credential>> {
    let mut operators = HashMap::new();
    for (name, password) in &config.admins {
        let hashed = Credential::is_stored_text(password).then(|| Credential::from_text(password));
        let credential = match hashed {
            Some(Some(credential)) => credential,
            Some(None) => anyhow::bail!("the hash of administrator {name} is of a kind that cannot be verified"),
            None => Credential::hash(password, random()).map_err(|error| anyhow::anyhow!("{error}"))?,
        };
        operators.insert(name.clone(), credential);
    }
    Ok(operators)
}

const META_SETTING: &[u8] = b"setting/";

fn setting_key(section: &str, key: &str) -> Vec<u8> {
    [META_SETTING, section.as_bytes(), b"\0", key.as_bytes()].concat()
}

fn kept_settings(store: &Store) -> StorageResult<BTreeMap<(String, String), String>> {
    let mut kept = BTreeMap::new();
    store.snapshot().scan(Family::Meta, &Range::prefix(META_SETTING), &mut |key, value| {
        let name = String::from_utf8_lossy(key.get(META_SETTING.len()..).unwrap_or_default()).into_owned();
        if let Some((section, key)) = name.split_once('\0') {
            kept.insert((section.to_owned(), key.to_owned()), String::from_utf8_lossy(value).into_owned());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(kept)
}

fn settings_from(texts: &BTreeMap<(String, String), String>) -> Settings {
    let mut settings = Settings::default();
    for ((section, key), value) in texts {
        if let Err(problem) = settings.set(section, key, value) {
            tracing::warn!("{problem}; the default is used");
        }
    }
    settings
}
