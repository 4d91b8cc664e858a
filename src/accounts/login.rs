//! From credentials to a [`Caller`]: Basic, cookie sessions, logging in and out.
//!
//! Passwords are hashed on blocking threads, a few at a time, and only after the throttle let the attempt pass. A verified
//! Basic pair is remembered for minutes under the account's epoch, so that it costs microseconds (design §7.1). Sessions
//! live in the store and end by logout, expiry, or a new epoch. If the store cannot be read the answer is 503, never 401.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::basic::parse_basic;
use super::caller::{Caller, Proof};
use super::credential_memory::{CredentialMemory, DEFAULT_CAPACITY, DEFAULT_LIFETIME_SECONDS};
use super::error::AccountError;
use super::password::{Credential, SALT_BYTES};
use super::security::ADMIN_ROLE;
use super::session_cookie::{CookieKey, CookieSettings, PresentedCookie, SessionToken, read_cookie};
use super::tables::{ACCOUNTS, AccountRow, SESSIONS, SessionRow};
use super::throttle::{Attempt, Source, Throttle, ThrottleLimits};
use crate::storage::{Family, Read, StorageError, Store};

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
}

/// What a name stands for.
struct Identity {
    operator: bool,
    credential: Option<Credential>,
    epoch: u64,
    roles: Vec<String>,
    needs_second_factor: bool,
}

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
                    batch.put_bytes(Family::Meta, META_COOKIE_KEY.to_vec(), random.to_vec());
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
        if let Some(cookie) = shown.cookie
            && let Some(caller) = self.caller_of_cookie(cookie, cookies, now)?
        {
            return Ok(caller);
        }
        if let Some(header) = shown.authorization
            && let Some(basic) = parse_basic(header)?
        {
            let identity = self.verify(&basic.name, basic.password, shown.network, now).await?;
            let (name, roles) = (Some(basic.name), identity.roles);
            return Ok(Caller { name, roles, proof: Proof::Basic, session: None, renewed_cookie: None });
        }
        Ok(if self.open_server { Caller::of_open_server() } else { Caller::anonymous() })
    }

    fn caller_of_cookie(
        &self,
        header: &str,
        settings: &CookieSettings,
        now: u64,
    ) -> Result<Option<Caller>, LoginError> {
        let PresentedCookie::Session { token, issued_seconds } = read_cookie(header, &self.cookie_key)? else {
            return Ok(None);
        };
        let fingerprint = token.fingerprint();
        let Some(session) = self.store.snapshot().get(&SESSIONS, &fingerprint)? else { return Ok(None) };
        let fresh = settings.is_fresh(issued_seconds, now) && now < session.expires;
        let identity = self.identity(&session.name)?;
        let same = |identity: &Identity| identity.epoch == session.epoch && identity.operator == session.operator;
        let Some(identity) = identity.filter(|identity| fresh && same(identity)) else { return Ok(None) };
        let renewed_cookie = settings.is_renewal_due(issued_seconds, now).then(|| {
            self.extend(fingerprint, now + settings.lifetime_seconds);
            settings.set_cookie(&self.cookie_key, &token, now)
        });
        Ok(Some(Caller {
            name: Some(session.name),
            roles: identity.roles,
            proof: Proof::Cookie,
            session: Some(fingerprint),
            renewed_cookie,
        }))
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

    fn identity(&self, name: &str) -> Result<Option<Identity>, StorageError> {
        if let Some(credential) = self.operators.get(name) {
            return Ok(Some(Identity {
                operator: true,
                credential: Some(credential.clone()),
                epoch: self.operator_epoch,
                roles: vec![ADMIN_ROLE.to_owned()],
                needs_second_factor: false,
            }));
        }
        let account: Option<AccountRow> = self.store.snapshot().get(&ACCOUNTS, &name.to_owned())?;
        Ok(account.and_then(|account| {
            Some(Identity {
                operator: false,
                credential: Some(Credential::from_text(&account.credential?)?),
                epoch: account.epoch,
                roles: account.roles,
                needs_second_factor: account.needs_second_factor,
            })
        }))
    }

    async fn verify(&self, name: &str, password: String, network: IpAddr, now: u64) -> Result<Identity, LoginError> {
        let identity = self.identity(name)?;
        let epoch = identity.as_ref().map_or(0, |identity| identity.epoch);
        if let Some(identity) = identity.as_ref().filter(|identity| !identity.needs_second_factor)
            && self.memory.recognises(name, &password, identity.epoch, now)
        {
            return Ok(Identity { credential: None, roles: identity.roles.clone(), ..*identity });
        }
        let attempt = Attempt { source: Source::Network(network), account: name, epoch };
        self.throttle.check(&attempt, now)?;
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| StorageError::Closed)?;
        self.throttle.check(&attempt, now)?; // again: a burst of guesses waited here together
        let credential = identity.as_ref().and_then(|identity| identity.credential.clone());
        let tried = password.clone();
        let right = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            match credential {
                Some(credential) => credential.verify(&tried),
                None => {
                    Credential::verify_nothing(&tried); // an unknown name takes as long as a known one
                    false
                }
            }
        })
        .await
        .map_err(|_| StorageError::Panicked)?;
        match identity.filter(|identity| right && !identity.needs_second_factor) {
            Some(identity) => {
                self.throttle.record_success(&attempt);
                self.memory.remember(name, &password, epoch, now);
                Ok(identity)
            }
            None => {
                self.throttle.record_failure(&attempt, now);
                Err(AccountError::wrong_name_or_password().into())
            }
        }
    }

    /// `POST /_session`: begins a session.
    ///
    /// # Errors
    /// 401, or 403 while locked out.
    pub async fn log_in(
        &self,
        name: &str,
        password: String,
        network: IpAddr,
        cookies: &CookieSettings,
        now: u64,
        random: [u8; 32],
    ) -> Result<LoggedIn, LoginError> {
        let identity = self.verify(name, password.clone(), network, now).await?;
        let token = SessionToken::from_random(random);
        let row = SessionRow {
            name: name.to_owned(),
            operator: identity.operator,
            epoch: identity.epoch,
            born: now,
            expires: now + cookies.lifetime_seconds,
        };
        let fingerprint = token.fingerprint();
        self.store
            .write(move |batch| -> Result<(), StorageError> {
                batch.put(&SESSIONS, &fingerprint, &row);
                Ok(())
            })
            .await?;
        let weak = identity.credential.as_ref().is_some_and(|c| !identity.operator && c.needs_upgrade());
        let upgrade = if weak { self.hash(password, random).await } else { None };
        Ok(LoggedIn {
            name: name.to_owned(),
            roles: identity.roles,
            cookie: cookies.set_cookie(&self.cookie_key, &token, now),
            upgrade,
        })
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
                batch.delete(&SESSIONS, &fingerprint);
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
                    batch.delete(&SESSIONS, &fingerprint);
                }
                Ok(())
            })
            .await
    }
}
