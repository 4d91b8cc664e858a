//! From credentials to a [`Caller`]: Basic, cookie sessions, logging in and out.
//!
//! Passwords are hashed on blocking threads, a few at a time, and only after the throttle let the attempt pass. A verified
//! Basic pair is remembered for minutes under the account's epoch, so that it costs microseconds (design §7.1). Sessions
//! live in the store and end by logout or expiry; what they and former passwords are worth after a withdrawal is decided in
//! `standing.rs`. If the store cannot be read the answer is 503, never 401.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::basic::{BasicCredentials, parse_basic};
use super::caller::{Caller, Proof};
use super::credential_memory::{CredentialMemory, DEFAULT_CAPACITY, DEFAULT_LIFETIME_SECONDS, Epochs};
use super::enrolments::{self, DeviceId, Enrolment, Kind, SEEN_SECONDS, of_client, of_password, of_session};
use super::error::AccountError;
use super::holders::{Holder, Holders};
use super::ledger::{self, Line};
use super::links;
use super::password::{Credential, SALT_BYTES};
use super::security::ADMIN_ROLE;
use super::session_cookie::{CookieKey, CookieSettings, PresentedCookie, SessionToken, read_cookie};
use super::standing::{Judged, Right, Standing, judge};
use super::tables::{ACCOUNTS, AccountRow, SESSIONS, SessionRow};
use super::throttle::{Attempt, Source, Throttle, ThrottleLimits};
use super::wipes::{raise_alarm, was_reported};
use super::withdrawals::{Pass, note_contact};
use crate::audit::{self, Entry};
use crate::storage::{Batch, Family, Read, StorageError, Store, hex};

/// Password checks that run at the same time: each takes 19 MiB and 30 ms of a core.
const HASHES_AT_A_TIME: usize = 2;
const META_COOKIE_KEY: &[u8] = b"cookie_key";

/// Why nobody could be made out.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A decision about the credentials.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// No decision could be made.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a request shows of its caller.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// `Cookie`.
    pub cookie: Option<&'a str>,
    /// Where the connection comes from.
    pub network: IpAddr,
    /// The request reports an erasure: the one call that a device may repeat after its report.
    pub reports_wipe: bool,
}

/// A successful `POST /_session`.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Who.
    pub name: String,
    /// Roles.
    pub roles: Vec<String>,
    /// `Set-Cookie`.
    pub cookie: String,
    /// The stored hash is weaker than today's: a better one to store for this account.
    pub upgrade: Option<Credential>,
    /// The device and what the session is worth; nothing for operators.
    pub device: Option<(DeviceId, Judged)>,
}

/// How a client names its device at login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientDevice {
    /// Its own id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// Its program and version.
    pub app: String,
}

/// A login that is asked for.
#[derive(Debug)]
pub struct LoginRequest {
    /// The account's or operator's name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The device, if the client names one.
    pub device: Option<ClientDevice>,
    /// The device that a session cookie sent along proves: it is not locked out by the failures of others.
    pub proved: Option<Pass>,
    /// Where the connection comes from.
    pub network: IpAddr,
    /// Seconds since 1970.
    pub now: u64,
    /// Seconds a session of a named device lives without use.
    pub device_session_seconds: u64,
}

/// A login by a link that is asked for.
#[derive(Debug)]
pub struct LinkRequest {
    /// The token, as it stands in the link.
    pub token: String,
    /// The device, if the client names one.
    pub device: Option<ClientDevice>,
    /// Where the connection comes from.
    pub network: IpAddr,
    /// Seconds since 1970.
    pub now: u64,
    /// Seconds a session of a named device lives without use.
    pub device_session_seconds: u64,
}

/// What stands for an account when links are guessed: no account can have this name.
const LINK_GUESSES: &str = ":link";

/// What a name and a password of it stand for.
#[derive(Debug, Clone)]
struct Identity {
    operator: bool,
    credential: Option<Credential>,
    epoch: u64,
    roles: Vec<String>,
    needs_second_factor: bool,
}

/// Former passwords of an account that are still verified, newest first.
const FORMER_PASSWORDS: usize = 3;

/// Everything that logging in needs. One per server.
pub struct Logins {
    store: Store,
    operators: HashMap<String, Credential>,
    operator_epoch: u64,
    open_server: bool,
    memory: CredentialMemory,
    throttle: Throttle,
    cookie_key: CookieKey,
    hashing: Arc<Semaphore>,
    holders: Holders,
}

impl Logins {
    /// Opens with the operators of the configuration. `open_server`: without operators, everybody is one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        store: &Store,
        operators: HashMap<String, Credential>,
        open_server: bool,
        random: [u8; 32],
    ) -> Result<Self, StorageError> {
        let cookie_key = store
            .write(move |batch| -> Result<[u8; 32], StorageError> {
                let stored = batch.get_bytes(Family::Meta, META_COOKIE_KEY)?.and_then(|key| key.try_into().ok());
                if stored.is_none() {
                    batch.put_bytes(Family::Meta, META_COOKIE_KEY, random);
                }
                Ok(stored.unwrap_or(random))
            })
            .await?;
        let process_key = blake3::derive_key("settle 2026 credential memory", &random);
        let mut epoch = [0; 8];
        epoch.copy_from_slice(&blake3::derive_key("settle 2026 operator epoch", &random)[..8]);
        Ok(Self {
            store: store.clone(),
            operators,
            operator_epoch: u64::from_be_bytes(epoch),
            open_server,
            memory: CredentialMemory::new(process_key, DEFAULT_CAPACITY, DEFAULT_LIFETIME_SECONDS),
            throttle: Throttle::new(ThrottleLimits::default()),
            cookie_key: CookieKey::new(cookie_key),
            hashing: Arc::new(Semaphore::new(HASHES_AT_A_TIME)),
            holders: Holders::new(store),
        })
    }

    /// Who makes a request.
    ///
    /// # Errors
    /// 401 for wrong Basic credentials (never anonymous instead), 400 for malformed ones, 403 while locked out.
    pub async fn caller(
        &self,
        shown: &Credentials<'_>,
        cookies: &CookieSettings,
        now: u64,
    ) -> Result<Caller, LoginError> {
        let by_cookie = shown
            .cookie
            .map(|cookie| self.caller_of_cookie(cookie, cookies, shown.reports_wipe, now))
            .transpose()?
            .flatten();
        // A withdrawn cookie must not keep anybody from showing the new password beside it.
        let withdrawn = match by_cookie {
            Some(caller) if caller.judged.standing == Standing::Active => return Ok(caller),
            other => other,
        };
        if let Some(header) = shown.authorization
            && let Some(basic) = parse_basic(header)?
        {
            match (self.caller_of_password(basic, shown, now).await, &withdrawn) {
                (shown, None) => return shown,
                (Ok(caller), Some(_)) if caller.judged.standing == Standing::Active => return Ok(caller),
                (_, Some(_)) => {}
            }
        }
        if let Some(caller) = withdrawn {
            return Ok(caller);
        }
        Ok(if self.open_server { Caller::of_open_server() } else { Caller::anonymous() })
    }

    async fn caller_of_password(
        &self,
        basic: BasicCredentials,
        shown: &Credentials<'_>,
        now: u64,
    ) -> Result<Caller, LoginError> {
        let BasicCredentials { name, password } = basic;
        let network = shown.network;
        let identity = self.verify(&name, password, Source::Network(network), network, now).await?;
        let device = of_password(&name, identity.epoch);
        let (pass, judged) = match identity.operator {
            true => (None, Judged::default()),
            false => {
                let pass = Pass { account: name.clone(), device, epoch: identity.epoch };
                let judged = self.judge(&pass, &*self.holders.of(&name, device)?, Kind::Basic, shown.reports_wipe, now);
                (Some(pass), judged)
            }
        };
        let (name, roles) = (Some(name), identity.roles);
        Ok(Caller { name, roles, proof: Proof::Basic, pass, judged, ..Caller::anonymous() })
    }

    fn caller_of_cookie(
        &self,
        header: &str,
        settings: &CookieSettings,
        reports_wipe: bool,
        now: u64,
    ) -> Result<Option<Caller>, LoginError> {
        let PresentedCookie::Session { token, issued_seconds } = read_cookie(header, &self.cookie_key)? else {
            return Ok(None);
        };
        let fingerprint = token.fingerprint();
        let Some(session) = self.store.snapshot().get(&SESSIONS, &fingerprint)? else { return Ok(None) };
        let settings = CookieSettings { lifetime_seconds: session.lifetime, ..settings.clone() };
        if !settings.is_fresh(issued_seconds, now) || now >= session.expires {
            return Ok(None);
        }
        let is_operator = self.is_operator(&session.name);
        let (roles, pass, judged) = if session.operator {
            if !is_operator || session.epoch != self.operator_epoch {
                return Ok(None);
            }
            (vec![ADMIN_ROLE.to_owned()], None, Judged::default())
        } else {
            let SessionRow { name, device, epoch, .. } = &session;
            let holder = self.holders.of(name, *device)?;
            // An epoch that is not remembered is worth nothing, and is told so.
            let roles = holder.account.roles_in(*epoch).filter(|_| !is_operator).unwrap_or_default().to_vec();
            let pass = Pass { account: name.clone(), device: *device, epoch: *epoch };
            let judged = self.judge(&pass, &holder, Kind::Session, reports_wipe, now);
            (roles, Some(pass), judged)
        };
        let renewed_cookie = settings.is_renewal_due(issued_seconds, now).then(|| {
            self.extend(fingerprint, now + settings.lifetime_seconds);
            settings.set_cookie(&self.cookie_key, &token, now)
        });
        Ok(Some(Caller {
            name: Some(session.name),
            roles,
            proof: Proof::Cookie,
            session: Some(fingerprint),
            renewed_cookie,
            pass,
            judged,
        }))
    }

    /// What verified credentials are worth on their device. Notes that the device called, if that is news; nobody waits for it.
    fn judge(&self, pass: &Pass, holder: &Holder, kind: Kind, reports_wipe: bool, now: u64) -> Judged {
        let fresh = || Enrolment {
            account: pass.account.clone(),
            kind,
            enrolled: now,
            epoch: pass.epoch,
            ..Enrolment::default()
        };
        let row = holder.device.as_ref().map_or_else(|| Cow::Owned(fresh()), Cow::Borrowed);
        let judged = holder.judge(pass.epoch, now);
        let first = judged.withdrawal.is_some_and(|withdrawal| row.first_contact < withdrawal.at);
        let alarming = was_reported(&row) && !reports_wipe;
        if first || alarming || now >= row.seen + SEEN_SECONDS {
            let (pass, row) = (pass.clone(), row.into_owned());
            self.store.write_unattended(move |batch| {
                let row = enrolments::find(batch, &pass.account, pass.device)?.unwrap_or(row);
                note_call(batch, &pass, row, &judged, reports_wipe, now)
            });
        }
        judged
    }

    /// Moves a session's end; nobody waits for it.
    fn extend(&self, fingerprint: [u8; 32], expires: u64) {
        self.store.write_unattended(move |batch| {
            if let Some(session) = batch.get(&SESSIONS, &fingerprint)? {
                batch.put(&SESSIONS, &fingerprint, &SessionRow { expires, ..session });
            }
            Ok(())
        });
    }

    /// What a name stands for: with its present password first, then with former ones, newest first.
    fn identities(&self, name: &str) -> Result<Vec<Identity>, StorageError> {
        if let Some(credential) = self.operators.get(name) {
            return Ok(vec![Identity {
                operator: true,
                credential: Some(credential.clone()),
                epoch: self.operator_epoch,
                roles: vec![ADMIN_ROLE.to_owned()],
                needs_second_factor: false,
            }]);
        }
        let account: Option<AccountRow> = self.store.snapshot().get(&ACCOUNTS, &name.to_owned())?;
        Ok(account.map(Identity::of_account).unwrap_or_default())
    }

    async fn verify(
        &self,
        name: &str,
        password: String,
        source: Source<'_>,
        network: IpAddr,
        now: u64,
    ) -> Result<Identity, LoginError> {
        let mut identities = self.identities(name)?;
        identities.retain(|identity| identity.credential.is_some());
        identities.truncate(1 + FORMER_PASSWORDS);
        let epoch = identities.first().map_or(0, |identity| identity.epoch);
        let attempt = Attempt { source, account: name, epoch };
        let usable = |identity: &&Identity| !identity.needs_second_factor;
        let epochs = |identity: &Identity| Epochs { newest: epoch, verified: identity.epoch };
        let remembered = |identity: &&Identity| self.memory.recognises(name, &password, epochs(identity), now);
        let locked = self.throttle.check(&attempt, now);
        // During a lock, what was verified a moment ago may be compared with few tries only: else it would be a way to guess.
        if (locked.is_ok() || self.throttle.spare(&attempt, now))
            && let Some(identity) = identities.iter().filter(usable).find(remembered)
        {
            if locked.is_err() {
                self.throttle.give_back(&attempt);
            }
            return Ok(Identity { credential: None, ..identity.clone() });
        }
        locked?;
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| StorageError::Closed)?;
        self.throttle.check(&attempt, now)?; // again: a burst of guesses waited here together
        let tried = password.clone();
        let right = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if identities.is_empty() {
                Credential::verify_nothing(&tried); // an unknown name takes as long as a known one
            }
            let verifies = |identity: &Identity| identity.credential.as_ref().is_some_and(|hash| hash.verify(&tried));
            identities.into_iter().find(verifies)
        })
        .await
        .map_err(|_| StorageError::Panicked)?;
        match right.filter(|identity| !identity.needs_second_factor) {
            Some(identity) => {
                self.throttle.record_success(&attempt, now);
                self.memory.remember(name, &password, epochs(&identity), now);
                Ok(identity)
            }
            None => {
                self.throttle.record_failure(&attempt, now);
                self.audit_failure(name, network, now);
                Err(AccountError::wrong_name_or_password().into())
            }
        }
    }

    /// Notes a failed login; nobody waits for it. How many there can be is the throttle's business.
    fn audit_failure(&self, name: &str, network: IpAddr, now: u64) {
        let entry = Entry::new(now, "", "login.failed").account(name).detail("network", network.to_string());
        self.store.write_unattended(move |batch| audit::append(batch, &entry));
    }

    /// `POST /_session`: begins a session.
    ///
    /// # Errors
    /// 401, with the reason `retired` or `cut` for a device that is; 403 while locked out.
    pub async fn log_in(
        &self,
        request: LoginRequest,
        cookies: &CookieSettings,
        random: [u8; 32],
    ) -> Result<LoggedIn, LoginError> {
        let LoginRequest { name, password, device, proved, network, now, device_session_seconds } = request;
        let proved = proved.filter(|pass| pass.account == name).map(|pass| hex(&pass.device));
        let source = proved.as_deref().map_or(Source::Network(network), Source::Device);
        let identity = self.verify(&name, password.clone(), source, network, now).await?;
        let token = SessionToken::from_random(random);
        let fingerprint = token.fingerprint();
        let lifetime = if device.is_some() { device_session_seconds } else { cookies.lifetime_seconds };
        let row = SessionRow {
            name: name.clone(),
            operator: identity.operator,
            epoch: identity.epoch,
            born: now,
            expires: now + lifetime,
            lifetime,
            device: match &device {
                _ if identity.operator => [0; 16],
                Some(client) => of_client(&name, &client.id),
                None => of_session(&fingerprint),
            },
        };
        let id = row.device;
        let judged = self
            .store
            .write(move |batch| -> Result<Option<Judged>, LoginError> {
                let judged = match row.operator {
                    true => None,
                    false => Some(enrol(batch, &row, device, now)?),
                };
                if judged.as_ref().is_some_and(is_over) {
                    return Ok(judged);
                }
                let entry = Entry::new(now, &row.name, "login").account(&row.name);
                audit::append(batch, &if row.operator { entry } else { entry.device(&row.device) })?;
                batch.put(&SESSIONS, &fingerprint, &row);
                Ok(judged)
            })
            .await?;
        if let Some(judged) = judged.filter(is_over) {
            judged.allow(Right::Everything)?;
        }
        let weak = identity.credential.as_ref().is_some_and(|c| !identity.operator && c.needs_upgrade());
        let present = judged.is_some_and(|judged| judged.standing == Standing::Active);
        let upgrade = if weak && present { self.hash(password, random).await } else { None };
        let cookies = CookieSettings { lifetime_seconds: lifetime, ..cookies.clone() };
        Ok(LoggedIn {
            name,
            roles: identity.roles,
            cookie: cookies.set_cookie(&self.cookie_key, &token, now),
            upgrade,
            device: judged.map(|judged| (id, judged)),
        })
    }

    /// `POST /_session` with a link: uses the link up and begins a session, both in one write. Nobody needs a password.
    ///
    /// # Errors
    /// 401 for a link that does not work, with the reason; 403 for guesses while locked out. A link that somebody made is
    /// never locked out by others' guesses.
    pub async fn redeem_link(
        &self,
        request: LinkRequest,
        cookies: &CookieSettings,
        random: [u8; 32],
    ) -> Result<LoggedIn, LoginError> {
        let LinkRequest { token, device, network, now, device_session_seconds } = request;
        let link = links::fingerprint(&token);
        let known = match &link {
            Some(link) => links::find(&self.store.snapshot(), link)?.is_some(),
            None => false,
        };
        let Some(link) = link.filter(|_| known) else {
            let attempt = Attempt { source: Source::Network(network), account: LINK_GUESSES, epoch: 0 };
            self.throttle.check(&attempt, now)?;
            self.throttle.record_failure(&attempt, now);
            let entry = Entry::new(now, "", "link.unknown").detail("network", network.to_string());
            self.store.write_unattended(move |batch| audit::append(batch, &entry));
            return Err(AccountError::unauthorized(links::UNKNOWN).into());
        };
        let token = SessionToken::from_random(random);
        let fingerprint = token.fingerprint();
        let lifetime = if device.is_some() { device_session_seconds } else { cookies.lifetime_seconds };
        let begun = self.store.write(move |batch| -> Result<_, LoginError> {
            let (name, account) = links::redeem(batch, &link, now)?;
            let id = match &device {
                Some(client) => of_client(&name, &client.id),
                None => of_session(&fingerprint),
            };
            let epoch = account.epoch;
            let row =
                SessionRow { name, operator: false, epoch, born: now, expires: now + lifetime, lifetime, device: id };
            let judged = enrol(batch, &row, device, now)?;
            let entry = Entry::new(now, &row.name, "login.link").account(&row.name).device(&id);
            audit::append(batch, &entry)?;
            batch.put(&SESSIONS, &fingerprint, &row);
            Ok((row.name, account.roles, id, judged))
        });
        let (name, roles, device, judged) = begun.await?;
        let cookies = CookieSettings { lifetime_seconds: lifetime, ..cookies.clone() };
        let cookie = cookies.set_cookie(&self.cookie_key, &token, now);
        Ok(LoggedIn { name, roles, cookie, upgrade: None, device: Some((device, judged)) })
    }

    /// Forgets links that have been over for long. Called from time to time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_links(&self, now: u64) -> Result<(), StorageError> {
        let over = links::forgettable(&self.store.snapshot(), now)?;
        if over.is_empty() {
            return Ok(());
        }
        self.store.write(move |batch| over.iter().try_for_each(|link| links::forget(batch, link))).await
    }

    /// Whether an operator of the configuration has this name.
    #[must_use]
    pub fn is_operator(&self, name: &str) -> bool {
        self.operators.contains_key(name)
    }

    async fn hash(&self, password: String, random: [u8; 32]) -> Option<Credential> {
        let permit = Arc::clone(&self.hashing).acquire_owned().await.ok()?;
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&blake3::derive_key("settle 2026 upgrade salt", &random)[..SALT_BYTES]);
        let hashed = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Credential::hash(&password, salt)
        });
        hashed.await.ok()?.ok()
    }

    /// `DELETE /_session`: ends the session on the server, so that a copy of the cookie is worth nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_out(&self, session: Option<[u8; 32]>) -> Result<(), StorageError> {
        let Some(fingerprint) = session else { return Ok(()) };
        self.store
            .write(move |batch| {
                if batch.get(&SESSIONS, &fingerprint)?.is_some() {
                    batch.delete(&SESSIONS, &fingerprint);
                    ledger::append(batch, &Line::LoggedOut { session: hex(&fingerprint) })?;
                }
                Ok(())
            })
            .await
    }

    /// Removes sessions that have expired. Called from time to time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_expired(&self, now: u64) -> Result<(), StorageError> {
        let mut expired: Vec<[u8; 32]> = Vec::new();
        self.store.snapshot().scan(Family::Sessions, &crate::storage::Range::prefix(b""), &mut |key, row| {
            if SESSIONS.decode(row)?.expires < now {
                expired.extend(<[u8; 32]>::try_from(key));
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        if expired.is_empty() {
            return Ok(());
        }
        self.store
            .write(move |batch| {
                for fingerprint in expired {
                    if let Some(session) = batch.get(&SESSIONS, &fingerprint)? {
                        forget_nameless(batch, &session, &fingerprint)?;
                    }
                    batch.delete(&SESSIONS, &fingerprint);
                }
                Ok(())
            })
            .await
    }
}

impl Identity {
    fn of_account(account: AccountRow) -> Vec<Self> {
        let active = account.is_active();
        let AccountRow { epoch, roles, needs_second_factor, .. } = account;
        let parsed = |text: Option<String>| text.and_then(|text| Credential::from_text(&text));
        let former = account.former.into_iter().rev().map(|former| Self {
            operator: false,
            credential: parsed(former.credential),
            epoch: former.epoch,
            roles: former.roles,
            needs_second_factor,
        });
        let credential = parsed(account.credential);
        let present = Self { operator: false, credential, epoch, roles, needs_second_factor };
        let present = Some(present).filter(|_| active);
        present.into_iter().chain(former).collect()
    }
}

/// Enrols the device of a new session, and says what the session is worth. Logging in with the present password makes a
/// device active again, unless the device itself was withdrawn. What is over gets no session, but it is noted that it called.
fn enrol(
    batch: &mut Batch<'_>,
    session: &SessionRow,
    client: Option<ClientDevice>,
    now: u64,
) -> Result<Judged, LoginError> {
    let account = batch.get(&ACCOUNTS, &session.name)?.unwrap_or_default();
    let known = enrolments::find(batch, &session.name, session.device)?;
    let is_new = known.is_none();
    let pass = Pass { account: session.name.clone(), device: session.device, epoch: session.epoch };
    let mut device = known.unwrap_or_else(|| Enrolment {
        account: session.name.clone(),
        kind: if client.is_some() { Kind::Named } else { Kind::Session },
        enrolled: now,
        ..Enrolment::default()
    });
    let judged = judge(&account, session.epoch, &device, now);
    if is_over(&judged) {
        if !is_new {
            note_call(batch, &pass, device, &judged, false, now)?;
        }
        return Ok(judged);
    }
    if let Some(client) = client {
        device.client = client.id;
        device.name = client.name;
        device.app = client.app;
    }
    if judged.standing == Standing::Active {
        device.epoch = session.epoch;
        device.drained = None;
        device.wipe = None;
        device.first_contact = 0;
    }
    if is_new {
        let entry = Entry::new(now, &session.name, "device.enrol").account(&session.name).device(&session.device);
        audit::append(batch, &entry.detail("name", device.name.as_str()).detail("app", device.app.as_str()))?;
    }
    note_call(batch, &pass, device, &judged, false, now)?;
    Ok(judged)
}

/// Nothing is left but to be told so.
fn is_over(judged: &Judged) -> bool {
    matches!(judged.standing, Standing::Retired | Standing::Cut)
}

/// Notes that a device called. One that had said it was erased raises an alarm.
fn note_call(
    batch: &mut Batch<'_>,
    pass: &Pass,
    mut device: Enrolment,
    judged: &Judged,
    reports_wipe: bool,
    now: u64,
) -> Result<(), StorageError> {
    device.seen = now;
    note_contact(&mut device, judged, now);
    if !reports_wipe {
        raise_alarm(batch, pass, &mut device, now)?;
    }
    enrolments::put(batch, pass.device, &device);
    Ok(())
}

/// A session without a name takes its device with it, unless that pushed something.
fn forget_nameless(batch: &mut Batch<'_>, session: &SessionRow, fingerprint: &[u8; 32]) -> Result<(), StorageError> {
    if session.operator || session.device != of_session(fingerprint) {
        return Ok(());
    }
    let device = enrolments::find(batch, &session.name, session.device)?;
    if device.is_some_and(|device| device.pushed == 0 && device.cut.is_none() && device.ended.is_none()) {
        enrolments::forget(batch, session.device, &session.name);
    }
    Ok(())
}
