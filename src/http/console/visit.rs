//! One visit of a page: who comes, what they typed, and the API as they may use it.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use serde_json::{Map, Value};
use settle_protocol::{Error, ErrorKind};

use super::address::Address;
use super::form::{Browser, Form, LONGEST};
use crate::access::need::{Need, permit};
use crate::access::view::View;
use crate::accounts::caller::Proof;
use crate::accounts::login::ClientDevice;
use crate::accounts::standing::Right;
use crate::clock::random;
use crate::documents::scopes::view_of;
use crate::http::endpoint::{Found, find};
use crate::http::error::HttpError;
use crate::http::pipeline::{Context, within};
use crate::http::request::Request;
use crate::http::response::{Answer, AnswerBody};

/// Headers of the browser's request that the API takes into account.
const PASSED_ON: [&str; 2] = ["host", "x-forwarded-proto"];

/// Bytes of an answer that a page is made of.
const LARGEST_ANSWER: usize = 8 << 20;

/// One visit.
pub(super) struct Visit<'a> {
    pub(super) context: &'a Context,
    pub(super) form: Form,
    browser: Browser,
    stewarded: OnceLock<Vec<String>>,
}

impl<'a> Visit<'a> {
    /// Reads what was typed.
    pub(super) async fn begin(context: &'a mut Context) -> Result<Self, HttpError> {
        let browser = Browser::of(&context.request, random());
        let form = if context.request.method == "POST" {
            let kind = context.request.header("content-type").unwrap_or_default();
            if kind.split(';').next().unwrap_or_default().trim() != "application/x-www-form-urlencoded" {
                return Err(
                    Error::new(ErrorKind::BadContentType, "The console takes forms of its own pages only.").into()
                );
            }
            let body = context.read_body(LONGEST).await?;
            Form::parse(&body)?
        } else {
            Form::default()
        };
        Ok(Self { context, form, browser, stewarded: OnceLock::new() })
    }

    /// Whether a form was sent.
    pub(super) fn submits(&self) -> bool {
        self.context.request.method == "POST"
    }

    /// Refuses forms that were not sent from a page of this session.
    pub(super) fn check_form(&self) -> Result<(), HttpError> {
        Ok(self.browser.check(&self.context.request, &self.form, self.context.caller.session.as_ref())?)
    }

    /// The token that every form of a page carries.
    pub(super) fn token(&self) -> String {
        self.browser.token(self.context.caller.session.as_ref())
    }

    /// How this browser calls itself as a device.
    pub(super) fn device(&self) -> ClientDevice {
        let app = crate::accounts::enrolments::CONSOLE_APP.to_owned();
        ClientDevice { id: self.browser.device_id(), name: "console".to_owned(), app }
    }

    /// Whether somebody is logged in with a session that is still good for everything. Whoever only shows a password, as
    /// programs do, is not: a browser repeats it without being asked.
    pub(super) fn is_logged_in(&self) -> bool {
        let caller = &self.context.caller;
        caller.proof == Proof::Cookie && caller.judged.allow(Right::Everything).is_ok()
    }

    /// The answer on its way out, with the cookie of a browser that is new.
    pub(super) fn end(&self, answer: Answer) -> Answer {
        if !self.browser.is_new {
            return answer;
        }
        let secure =
            self.context.services.cookies().secure || self.context.request.header("x-forwarded-proto") == Some("https");
        let cookie = HeaderValue::from_str(&self.browser.cookie(secure));
        let mut answer = answer;
        if let Ok(cookie) = cookie {
            answer.headers.append(hyper::header::SET_COOKIE, cookie);
        }
        answer
    }

    /// A member of the page's query; `None` when it was left empty.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.context.request.query.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// An address with those members of the page's query that have these names.
    pub(super) fn filtered(&self, address: Address, names: &[&str]) -> Address {
        names.iter().fold(address, |address, name| address.with_some(name, self.query(name)))
    }

    /// The addresses of a list's first page, unless this is it, and of its next one, if the API says what that begins after.
    pub(super) fn pages(&self, page: &Address, next: &Value) -> (Option<String>, Option<String>) {
        let first = self.query("after").map(|_| page.to_string());
        (first, next.as_str().map(|next| page.clone().with("after", next).to_string()))
    }

    /// One page of a list that the API gives whole, and the addresses of the first page and the next one.
    pub(super) fn cut<'r, T>(
        &self,
        rows: &'r [T],
        length: usize,
        page: &Address,
    ) -> (&'r [T], Option<String>, Option<String>) {
        let skipped: usize = self.query("after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let rest = rows.get(skipped..).unwrap_or_default();
        let next = (rest.len() > length).then(|| page.clone().with("after", &(skipped + length).to_string()));
        (&rest[..rest.len().min(length)], (skipped > 0).then(|| page.to_string()), next.map(|next| next.to_string()))
    }

    pub(super) fn now(&self) -> u64 {
        self.context.services.clock.now()
    }

    /// Whether the person may ask for this at all, by the need in the table of endpoints.
    pub(super) fn may(&self, segments: &[&str]) -> bool {
        let segments: Vec<String> = segments.iter().map(|segment| (*segment).to_owned()).collect();
        match find("GET", &segments) {
            Found::Endpoint(_, need) => permit(need, &self.context.caller, None).is_ok(),
            Found::WrongMethod(_) => false,
        }
    }

    /// The scoped databases, by name.
    pub(super) fn databases(&self) -> Vec<String> {
        let catalogue = &self.context.services.catalogue;
        let mut scoped = Vec::new();
        for name in catalogue.names() {
            if catalogue.find(&name).is_ok_and(|database| database.row.scoped) {
                scoped.push(name);
            }
        }
        scoped.sort();
        scoped
    }

    /// The scoped database that the page is about: the one it names, or the first there is.
    pub(super) fn database(&self) -> Option<String> {
        let databases = self.databases();
        let named = self.query("database").or_else(|| self.form.field("database"));
        match named {
            Some(named) => databases.into_iter().find(|database| database == named),
            None => databases.into_iter().next(),
        }
    }

    /// Scoped databases of which the person sees everything, as stewards do.
    pub(super) fn stewarded(&self) -> &[String] {
        self.stewarded.get_or_init(|| {
            let (services, caller) = (&self.context.services, &self.context.caller);
            let mut databases = self.databases();
            databases.retain(|name| {
                let Ok(database) = services.catalogue.find(name) else { return false };
                let whole = || matches!(view_of(&services.store.snapshot(), &database, caller), Ok(View::Everything));
                permit(Need::Pull, caller, Some(&database.security)).is_ok() && whole()
            });
            databases
        })
    }

    /// Whether the person may change accounts, phones and places, and not only look at them.
    pub(super) fn manages(&self) -> bool {
        permit(Need::Accounts, &self.context.caller, None).is_ok()
    }

    /// Whether the person runs the server.
    pub(super) fn operates(&self) -> bool {
        permit(Need::Operate, &self.context.caller, None).is_ok()
    }

    /// For pages that lead to such a change: who may not make it finds nothing.
    pub(super) fn require_manager(&self) -> Result<(), HttpError> {
        if self.manages() { Ok(()) } else { Err(Error::missing().into()) }
    }

    /// Scoped databases in which the person may ask who cared: stewards about everything, whoever oversees accounts about places.
    pub(super) fn with_custody(&self) -> Vec<String> {
        if self.may(&["_accounts"]) { self.databases() } else { self.stewarded().to_vec() }
    }

    /// Whether links can be sent to people.
    pub(super) fn sends(&self) -> bool {
        self.context.services.outbox.key().is_some()
    }

    /// Asks the API as the person who is logged in, and gives its answer as it is.
    pub(super) async fn pass_on(
        &self,
        method: Method,
        address: &Address,
        accept: &'static str,
        body: Option<Value>,
    ) -> Result<Answer, HttpError> {
        let of = &self.context.request;
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            if let Some(value) = of.headers.get(name) {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::on_behalf(of, method, address.as_str(), headers, body.into())?;
        within(self.context, request).await
    }

    /// Asks the API; what it refuses is an error with its reason.
    pub(super) async fn ask(&self, method: Method, address: &Address, body: Option<Value>) -> Result<Value, HttpError> {
        value_of(self.pass_on(method, address, "application/json", body).await?).await
    }

    /// Reads something.
    pub(super) async fn get(&self, address: &Address) -> Result<Value, HttpError> {
        self.ask(Method::GET, address, None).await
    }

    /// Does something.
    pub(super) async fn post(&self, address: &Address, body: Value) -> Result<Value, HttpError> {
        self.ask(Method::POST, address, Some(body)).await
    }

    /// Does something with fields of the form, if those that are needed were filled in.
    pub(super) async fn post_form(
        &self,
        address: &Address,
        needed: &[&str],
        fields: &[&str],
    ) -> Result<Value, HttpError> {
        self.require(needed)?;
        self.post(address, Value::Object(self.body_of(fields))).await
    }

    /// Refuses a form with a field that was left empty and is needed.
    pub(super) fn require(&self, fields: &[&str]) -> Result<(), HttpError> {
        match fields.iter().find(|name| self.form.field(name).is_none()) {
            Some(name) => Err(Error::bad_request(format!("`{name}` is missing.")).into()),
            None => Ok(()),
        }
    }

    /// Whether a box of the form was ticked.
    pub(super) fn ticked(&self, name: &str) -> bool {
        self.form.field(name).is_some()
    }

    /// The body of a request with these fields of the form; those that were left empty are absent.
    pub(super) fn body_of(&self, fields: &[&str]) -> Map<String, Value> {
        let given = fields.iter().filter_map(|name| Some(((*name).to_owned(), self.form.field(name)?.into())));
        given.collect()
    }
}

/// The bytes of an answer, which may come in parts.
async fn whole(body: AnswerBody) -> Result<Bytes, HttpError> {
    let mut parts = match body {
        AnswerBody::Full(bytes) => return Ok(bytes),
        AnswerBody::Stream(parts) => parts,
    };
    let mut bytes = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Error::new(ErrorKind::Internal, "The answer broke off."))?;
        if bytes.len() + part.len() > LARGEST_ANSWER {
            return Err(Error::new(ErrorKind::Internal, "The answer is too large for a page.").into());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// What an answer of the API says; what it refuses is an error with its reason.
async fn value_of(answer: Answer) -> Result<Value, HttpError> {
    let bytes = whole(answer.body).await?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if answer.status < 400 {
        return Ok(value);
    }
    let reason = text(&value["reason"]);
    Err(HttpError { status: answer.status, word: "refused", reason, retry_after: None, allow: None })
}

/// A text of the API's answer, or nothing.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A number of the API's answer, or 0.
pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// The rows of a list.
pub(super) fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Texts of a list.
pub(super) fn texts(value: &Value) -> Vec<String> {
    rows(value).iter().map(text).collect()
}
