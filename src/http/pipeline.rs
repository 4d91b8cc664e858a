//! A request from its first byte to its answer: endpoint → caller → need → handler → error.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER, SET_COOKIE};
use settle_protocol::{Error, ErrorKind};

use super::endpoint::{Endpoint, Found, find, is_about_database, is_document_edit, is_listing, reads_ranges};
use super::error::HttpError;
use super::handlers;
use super::in_flight::{ended_with_glass, guarded};
use super::request::Request;
use super::response::{Answer, AnswerBody};
use super::{compression, console, cors};
use crate::access::need::{Need, permit};
use crate::access::view::View;
use crate::accounts::caller::{Caller, Proof};
use crate::accounts::error::AccountError;
use crate::accounts::glass;
use crate::accounts::login::{Credentials, LoginError};
use crate::accounts::standing::{Drain, Right};
use crate::accounts::withdrawals::Actor;
use crate::audit::{self, Entry};
use crate::config::Settings;
use crate::documents::databases::Database;
use crate::documents::judging::{Author, Limits};
use crate::documents::scopes::view_of;
use crate::documents::users::USERS;
use crate::documents::watched;
use crate::services::Services;
use crate::services::body_memory::MemoryShare;

/// What the `Server` header says. Clients that look for a kind of server must not take this for a Sync Gateway.
const SERVER_NAME: &str = concat!("Settle/", env!("CARGO_PKG_VERSION"), " (CouchDB API)");

/// What a handler gets.
pub(crate) struct Context {
    pub(crate) services: Arc<Services>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) caller: Caller,
    pub(crate) request: Request,
    pub(crate) database: Option<Arc<Database>>,
    /// What the caller sees of the database.
    pub(crate) view: View,
    /// What this request needs of the caller.
    pub(crate) need: Need,
    /// What the body holds in memory.
    pub(crate) memory: MemoryShare,
    /// What a body about accounts asks for, without its reason.
    pub(crate) asked: String,
}

impl Context {
    /// Who acts on accounts and devices, and why (`reason` of the request's body).
    pub(crate) fn actor(&self, reason: Option<String>) -> Actor {
        Actor { name: self.caller.name.clone().unwrap_or_default(), now: self.services.clock.now(), reason }
    }

    /// Who acts: the account's or operator's name, empty on an open server.
    pub(crate) fn by(&self) -> &str {
        self.caller.name.as_deref().unwrap_or_default()
    }

    /// An entry of the audit log about what this request does.
    pub(crate) fn entry(&self, action: &str) -> Entry {
        Entry::new(self.services.clock.now(), self.by(), action)
    }

    /// How long what this request withdraws may still push: `?drain=none` or a number of seconds, else as configured.
    pub(crate) fn drain(&self) -> Result<Drain, Error> {
        let configured = Drain { window: self.settings.drain_seconds, cap: self.settings.drain_cap_seconds };
        match self.request.query.get("drain") {
            None => Ok(configured),
            Some("none") => Ok(Drain::NONE),
            Some(seconds) => match seconds.parse() {
                Ok(window) => Ok(Drain { window, cap: configured.cap.max(window) }),
                Err(_) => Err(Error::bad_request("`drain` must be none or a number of seconds.")),
            },
        }
    }

    /// For requests that are a push only in one form, such as `_bulk_docs` with `new_edits: false`.
    pub(crate) fn require_everything(&mut self) -> Result<(), HttpError> {
        self.need = Need::Edit;
        if self.view.is_blind() {
            return Err(no_edits());
        }
        self.caller.judged.allow(Right::Everything)?;
        after_restore(&self.services, self.database.as_deref(), &self.caller, self.need)
    }

    /// The database of the path. Handlers below a database always have one.
    pub(crate) fn database(&self) -> Result<Arc<Database>, HttpError> {
        self.database.clone().ok_or_else(|| Error::not_found("Database does not exist.").into())
    }

    /// Reads the body, at most `limit` bytes, within the memory that there is for all bodies.
    pub(crate) async fn read_body(&mut self, limit: u64) -> Result<Bytes, Error> {
        self.request.read_body(limit, &self.memory).await
    }

    /// `http://HOST` as the client wrote it.
    pub(crate) fn base(&self) -> String {
        let host = self.request.header("host").unwrap_or("localhost");
        let scheme = match self.request.header("x-forwarded-proto") {
            Some("https") => "https",
            _ => "http",
        };
        format!("{scheme}://{host}")
    }

    /// Who writes, and what holds it back.
    pub(crate) fn author(&self) -> Author {
        let restricted = self.view.restricted();
        Author {
            account: self.caller.name.clone().unwrap_or_default(),
            device: restricted.map(|restricted| restricted.device).unwrap_or_default(),
            now: self.services.clock.now(),
            pass: self.caller.pass.clone(),
            edits: self.need != Need::Push,
            limits: restricted.map(|_| Limits {
                drain_seconds: self.settings.drain_seconds,
                escrow_documents: self.settings.max_escrow_documents,
                escrow_bytes: self.settings.max_escrow_bytes,
            }),
        }
    }

    /// For endpoints of a scoped database that restricted callers do not know.
    pub(crate) fn require_steward(&self) -> Result<Arc<Database>, HttpError> {
        let database = self.database()?;
        match &self.view {
            View::Everything if database.row.scoped => Ok(database),
            View::Everything => {
                let reason = "This database is not scoped: make one with PUT /NAME?scoped=true.";
                Err(Error::bad_request(reason).into())
            }
            View::Restricted(_) => Err(Error::missing().into()),
        }
    }

    /// Administers the database of this request.
    pub(crate) fn is_database_admin(&self) -> bool {
        let database = self.database.as_ref();
        database.is_some_and(|database| database.security.is_admin(self.caller.name.as_deref(), &self.caller.roles))
    }
}

/// Answers one request. Never fails: what goes wrong becomes an answer.
pub(crate) async fn answer(
    services: Arc<Services>,
    request: hyper::Request<Incoming>,
    network: IpAddr,
) -> hyper::Response<AnswerBody> {
    let settings = services.settings();
    let head = request.method() == "HEAD";
    let gzip = settings.compress_responses && compression::accepts_gzip(request.headers());
    let id = request_id(request.headers().get("x-couch-request-id"));
    let too_long = request.uri().path_and_query().is_some_and(|path| path.as_str().len() > settings.max_uri_bytes);
    let mut answer = if too_long {
        let reason = format!("The path and query are longer than {} bytes.", settings.max_uri_bytes);
        Answer::error(&Error::new(ErrorKind::TooLong, reason).into())
    } else {
        match Request::new(request, network) {
            Ok(request) => {
                let origin = cors::allowed_origin(&settings, &request).filter(|_| !console::is_about(&request));
                let mut answer = dispatch(services, Arc::clone(&settings), request).await;
                if let Some(origin) = origin {
                    cors::add(&settings, origin, &mut answer.headers);
                }
                answer
            }
            Err(error) => Answer::error(&error.into()),
        }
    };
    if head {
        answer = answer.without_body();
    } else if gzip {
        answer = compression::compress(answer);
    }
    answer.headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    if answer.status != 304 {
        answer.headers.insert(HeaderName::from_static("x-couch-request-id"), id);
        answer.headers.insert(HeaderName::from_static("x-couchdb-body-time"), HeaderValue::from_static("0"));
    }
    let mut response = hyper::Response::new(answer.body);
    *response.status_mut() = hyper::StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = answer.headers;
    response
}

async fn dispatch(services: Arc<Services>, settings: Arc<Settings>, request: Request) -> Answer {
    if let Some(answer) = cors::preflight(&settings, &request).filter(|_| !console::is_about(&request)) {
        return answer;
    }
    let shown = Credentials {
        authorization: request.header("authorization"),
        cookie: request.header("cookie"),
        network: request.network,
        reports_wipe: request.segments == ["_device", "wipe_reported"],
    };
    let now = services.clock.now_kept(&services.store);
    let by_link = request.segments.len() == 2 && request.segment(0) == "_links";
    let console = console::is_about(&request); // shows its own login to whoever is not logged in
    let logging_in = by_link || (request.method == "POST" && request.segments == ["_session"]);
    let caller = match services.logins.caller(&shown, &services.cookies(), now).await {
        Ok(caller) => caller,
        Err(LoginError::Account(_)) if console => Caller::anonymous(),
        Err(_) if logging_in => Caller::anonymous(), // an old cookie or password must not keep anybody from logging in
        Err(error) => return challenge(&settings, Answer::error(&error.into())),
    };
    let renewed = caller.renewed_cookie.clone();
    let mut answer = match handle(services, Arc::clone(&settings), caller, request, logging_in || console).await {
        Ok(answer) => answer,
        Err(error) => Answer::error(&error),
    };
    if let Some(cookie) = renewed.and_then(|cookie| HeaderValue::from_str(&cookie).ok())
        && !answer.headers.contains_key(SET_COOKIE)
    {
        answer.headers.insert(SET_COOKIE, cookie);
    }
    if answer.status == 401 { challenge(&settings, answer) } else { answer }
}

/// Another request of the same caller, as if it had come by itself: with it the console asks the API, so that the API alone
/// decides, audits and refuses.
pub(crate) fn within(context: &Context, request: Request) -> BoxFuture<'static, Result<Answer, HttpError>> {
    let (services, settings) = (Arc::clone(&context.services), Arc::clone(&context.settings));
    handle(services, settings, context.caller.clone(), request, false).boxed()
}

async fn handle(
    services: Arc<Services>,
    settings: Arc<Settings>,
    caller: Caller,
    request: Request,
    logging_in: bool,
) -> Result<Answer, HttpError> {
    let up = settings.require_valid_user_except_for_up && request.segments == ["_up"];
    if settings.require_valid_user && caller.proof == Proof::None && !logging_in && !up {
        return Err(AccountError::unauthorized("Authentication required.").into());
    }
    let method = method_of(&request);
    let (endpoint, need) = match find(&method, &request.segments) {
        Found::Endpoint(endpoint, need) => (endpoint, need),
        Found::WrongMethod(allowed) => return Err(HttpError::wrong_method(allowed)),
    };
    // One document with `new_edits=false` is a push like `_bulk_docs`: a withdrawn right may bring it.
    let pushes = endpoint == Endpoint::WriteDocument && request.query.get("new_edits") == Some("false");
    let need = if pushes { Need::Push } else { need };
    let name = request.segment(0);
    if name.starts_with('_') && request.segments.len() == 1 && endpoint == Endpoint::DatabaseInfo {
        // `/_x` that nobody knows: only operators learn that it is not there.
        if services.catalogue.find(name).is_err() {
            permit(Need::Operate, &caller, None)?;
        }
    }
    let below_database = !matches!(endpoint, Endpoint::CreateDatabase) && is_below_database(endpoint);
    let database = below_database.then(|| services.catalogue.find(name)).transpose()?;
    if let Some(database) = database.as_ref().filter(|database| database.name == USERS && is_listing(endpoint))
        && !database.security.is_admin(caller.name.as_deref(), &caller.roles)
    {
        return Err(AccountError::not_server_admin().into());
    }
    permit(need, &caller, database.as_ref().map(|database| &database.security))?;
    let mut may_read_until = None;
    after_restore(&services, database.as_deref(), &caller, need)?;
    if let Some(database) = database.as_ref().filter(|database| database.row.scoped)
        && matches!(need, Need::Pull | Need::Feed | Need::Custody)
        && caller.is_operator()
    {
        let name = caller.name.as_deref().unwrap_or_default();
        match services.duties.break_glass && !is_about_database(endpoint) {
            true => may_read_until = Some(through_glass(&services, name, &database.name, endpoint).await?),
            false => services.note_read(name, &database.name, format!("{endpoint:?}")).await?,
        }
    }
    let view = match &database {
        Some(database) if database.row.scoped => view_of(&services.store.snapshot(), database, &caller)?,
        _ => View::Everything,
    };
    if let (Some(database), Some(restricted)) = (&database, view.restricted())
        && reads_ranges(endpoint)
        && !caller.judged.pushes_only()
    {
        watched::complete(&services.store, database, &restricted.scope).await?;
    }
    if need == Need::Edit && view.is_blind() && is_document_edit(endpoint) {
        return Err(no_edits());
    }
    let memory = services.body_memory.share(settings.max_body_memory_bytes);
    let asked = String::new();
    let mut context = Context { services, settings, caller, request, database, view, need, memory, asked };
    let answer = handlers::call(endpoint, &mut context).await?;
    let answer = guarded(answer, &context);
    let answer = match may_read_until {
        Some(until) => ended_with_glass(answer, &context, until),
        None => answer,
    };
    let answer = if need == Need::Feed { counted(answer, &context) } else { answer };
    Ok(if withdraws(&context) { after_ledger(answer, &context).await? } else { answer })
}

/// The same answer to every edit of somebody who sees no document: it depends on nothing that is stored.
fn no_edits() -> HttpError {
    Error::forbidden("An account that only manages accounts or audits writes no documents.").into()
}

/// Lets an operator read a scoped database whose glass it has broken, and notes the read; gives the time until when it may. What is
/// about no document (security, limits) needs none.
pub(crate) async fn through_glass(
    services: &Services,
    operator: &str,
    database: &str,
    endpoint: impl std::fmt::Debug,
) -> Result<u64, HttpError> {
    let now = services.clock.now();
    let Some(broken) = glass::broken(&services.store.snapshot(), operator, database, now)? else {
        let reason = format!(
            "Operators read documents of this database only for a reason: settle break-glass {database} --reason \"…\" --minutes 30 \
             (POST /_break_glass). The reason and every read are in the audit log."
        );
        return Err(Error::new(ErrorKind::Forbidden, reason).into());
    };
    let entry = Entry::new(now, operator, "glass.read").database(database).detail("endpoint", format!("{endpoint:?}"));
    services.store.write(move |batch| audit::append(batch, &entry)).await?;
    Ok(broken.until)
}

/// While nobody knows what was withdrawn since these data were copied, a scoped database takes pushes and gives nothing out.
/// Operators come from the configuration, not from the copy.
fn after_restore(
    services: &Services,
    database: Option<&Database>,
    caller: &Caller,
    need: Need,
) -> Result<(), HttpError> {
    let pushes = matches!(need, Need::Push | Need::Device | Need::Anyone);
    let concerned = !pushes && !caller.is_operator() && database.is_some_and(|database| database.row.scoped);
    match services.ledger.unconfirmed().filter(|_| concerned) {
        None => Ok(()),
        Some(why) => {
            let reason = format!(
                "This server was restored, and its revocation ledger cannot be used ({why}): pushes go on, reads wait for an \
                 operator to confirm (POST /_handover/confirm_restore)."
            );
            Err(Error::new(ErrorKind::Unavailable, reason).into())
        }
    }
}

/// Whether a request may have taken a right away.
fn withdraws(context: &Context) -> bool {
    let writes = !matches!(context.request.method.as_str(), "GET" | "HEAD");
    let users = context.database.as_ref().is_some_and(|database| database.name == USERS);
    writes && (users || matches!(context.need, Need::Account | Need::Accounts))
}

/// A withdrawal is answered when the ledger beside the data has it, too. If that takes too long, it holds all the same, and the
/// answer says so.
async fn after_ledger(answer: Answer, context: &Context) -> Result<Answer, HttpError> {
    match context.services.ledger.settled().await? {
        true => Ok(answer),
        false => Ok(answer.header("x-settle-ledger", "behind")),
    }
}

/// Counts a feed for as long as it is sent.
fn counted(mut answer: Answer, context: &Context) -> Answer {
    if let AnswerBody::Stream(stream) = &mut answer.body {
        let stream = std::mem::replace(stream, Box::pin(futures::stream::empty()));
        let open = context.services.feeds.open();
        answer.body = AnswerBody::Stream(Box::pin(stream.inspect(move |_| {
            let _ = &open;
        })));
    }
    answer
}

/// Whether the first segment of an endpoint's path is a database.
fn is_below_database(endpoint: Endpoint) -> bool {
    (endpoint as u8) >= (Endpoint::DatabaseInfo as u8)
}

fn method_of(request: &Request) -> String {
    match request.method.as_str() {
        "HEAD" => "GET".to_owned(),
        "POST" => request.header("x-http-method-override").unwrap_or("POST").to_ascii_uppercase(),
        other => other.to_owned(),
    }
}

fn challenge(settings: &Settings, answer: Answer) -> Answer {
    let configured = settings.www_authenticate.as_deref();
    match configured.or_else(|| settings.require_valid_user.then_some("Basic realm=\"server\"")) {
        Some(challenge) if answer.status == 401 => answer.header("www-authenticate", challenge),
        _ => answer,
    }
}

/// The client's own id if it is plain and short (CouchDB 3.5.2), else ten hex digits.
fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match sent.filter(|sent| (1..=36).contains(&sent.len()) && sent.as_bytes().iter().all(plain)) {
        Some(sent) => sent.clone(),
        None => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
            let digits = format!("{number:010x}");
            HeaderValue::from_str(&digits).unwrap_or_else(|_| HeaderValue::from_static("0000000000"))
        }
    }
}
