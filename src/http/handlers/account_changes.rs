//! `/_accounts`: making, listing, changing and deleting accounts.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use settle_protocol::Error;

use super::Handled;
use super::accounts::text_of;
use super::database::object_or_empty;
use super::links::{base_of_links, link_value};
use super::second_person::act_alone;
use crate::access::view::View;
use crate::accounts::caller::Caller;
use crate::accounts::links;
use crate::accounts::outbox::Staging;
use crate::accounts::password::Credential;
use crate::accounts::standing::{Drain, Right};
use crate::accounts::tables::{ACCOUNTS, AccountRow, Closed};
use crate::accounts::user_document::{ID_PREFIX, UserDocument};
use crate::accounts::withdrawals::Actor;
use crate::clock::random;
use crate::documents::accounts::{self, AccountChange, Created, Desk, NewAccount, text_members};
use crate::documents::administration::{charge_of, oversight_of};
use crate::documents::databases::Database;
use crate::documents::error::DocumentResult;
use crate::documents::parties::Party;
use crate::documents::read::{Wanted, find};
use crate::documents::replacing::Attempt;
use crate::documents::users::USERS;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Batch, Family, Range, Read, Snapshot, StorageError, StorageResult};

/// Accounts in one list.
const MOST_LISTED: usize = 1_000;
const USUALLY_LISTED: usize = 100;

/// What [`Desk`] needs, kept while the work waits for the writer.
#[derive(Clone)]
pub(super) struct DeskParts {
    users: Arc<Database>,
    scoped: Option<Arc<Database>>,
    actor: Actor,
    caller: Caller,
    drain: Drain,
    link_seconds: u64,
    staging: Option<Staging>,
    random: [u8; 32],
}

impl DeskParts {
    fn desk(&self) -> Desk<'_> {
        Desk {
            users: &self.users,
            scoped: self.scoped.as_deref(),
            actor: self.actor.clone(),
            caller: self.caller.clone(),
            drain: self.drain,
            link_seconds: self.link_seconds,
            staging: self.staging.as_ref(),
            random: self.random,
        }
    }

    /// Who made the request.
    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The time of the request, in seconds since 1970.
    pub(super) const fn time(&self) -> u64 {
        self.actor.now
    }

    /// Whether the credentials behind the request are still worth something: asked on the writer, beside what they change.
    fn require_standing(&self, batch: &Batch<'_>) -> DocumentResult<()> {
        if let Some(pass) = &self.caller.pass {
            pass.judge(batch, self.actor.now)?.allow(Right::Everything)?;
        }
        Ok(())
    }
}

/// Who acts on accounts, and where their places are: in the database of the path, the one that is named, or else the only
/// scoped one.
pub(super) fn desk_of(context: &Context, named: Option<&str>, reason: Option<String>) -> Result<DeskParts, HttpError> {
    let catalogue = &context.services.catalogue;
    let scoped = match (&context.database, named) {
        (Some(database), _) => Some(Arc::clone(database)),
        (None, Some(name)) => Some(catalogue.find(name)?),
        (None, None) => {
            let found = catalogue.names().into_iter().filter_map(|name| catalogue.find(&name).ok());
            let mut scoped: Vec<_> = found.filter(|database| database.row.scoped).collect();
            scoped.pop().filter(|_| scoped.is_empty())
        }
    };
    if scoped.as_ref().is_some_and(|database| !database.row.scoped) {
        return Err(Error::bad_request("`database` must be a scoped database.").into());
    }
    Ok(DeskParts {
        users: catalogue.find(USERS)?,
        scoped,
        actor: context.actor(reason),
        caller: context.caller.clone(),
        drain: context.drain()?,
        link_seconds: context.settings.link_seconds,
        staging: context.services.outbox.staging(base_of_links(context)),
        random: random(),
    })
}

/// Does something about accounts in one batch, or only tries it (`?dry_run=true`). What is too much for one person waits for a
/// second one.
pub(super) async fn act<T: Send + 'static>(
    context: &Context,
    parts: DeskParts,
    work: impl FnOnce(&mut Batch<'_>, &Desk<'_>) -> DocumentResult<T> + Send + 'static,
) -> Result<T, HttpError> {
    let only_tried = context.request.query.flag("dry_run");
    act_alone(context, &context.asked, parts.actor.clone(), move |batch| {
        parts.require_standing(batch)?;
        let done = work(batch, &parts.desk())?;
        if only_tried { Err(Attempt::Tried(Box::new(done))) } else { Ok(done) }
    })
    .await
}

/// Only tries something about accounts, over the state as it is now and beside the writer: for what takes long.
pub(super) async fn rehearse<T: Send + 'static>(
    context: &Context,
    parts: DeskParts,
    work: impl FnOnce(&mut Batch<'_>, &Desk<'_>) -> DocumentResult<T> + Send + 'static,
) -> Result<T, HttpError> {
    let store = context.services.store.clone();
    let tried = tokio::task::spawn_blocking(move || {
        store.rehearse(|batch| {
            parts.require_standing(batch)?;
            work(batch, &parts.desk())
        })
    });
    Ok(tried.await.map_err(|_| StorageError::Panicked)??)
}

fn wrong(member: &str, what: &str) -> Error {
    Error::bad_request(format!("`{member}` must be {what}."))
}

/// Texts in a list, or one text with commas between them.
pub(super) fn texts_of(body: &Map<String, Value>, member: &str) -> Result<Option<Vec<String>>, Error> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            Ok(Some(text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()))
        }
        Some(Value::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.map(Some).ok_or_else(|| wrong(member, "a list of texts"))
        }
        Some(_) => Err(wrong(member, "a list of texts")),
    }
}

/// A place or a contact: an id, or an object to be made.
pub(super) fn party_of(member: &str, value: &Value) -> Result<Option<Party>, Error> {
    match value {
        Value::Null => Ok(None),
        Value::String(id) if !id.is_empty() => Ok(Some(Party::Id(id.clone()))),
        Value::Object(members) => Ok(Some(Party::New(members.clone()))),
        _ => Err(wrong(member, "an id, or an object with the members of a new document")),
    }
}

fn places_of(body: &Map<String, Value>) -> Result<Option<Vec<Party>>, Error> {
    let Some(value) = body.get("places").or_else(|| body.get("place")) else { return Ok(None) };
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let places: Result<Vec<_>, Error> = items.iter().map(|item| party_of("places", item)).collect();
    Ok(Some(places?.into_iter().flatten().collect()))
}

/// `true` or `false` in a body; `false` if it is absent.
pub(super) fn flag_in(body: &Map<String, Value>, member: &str) -> Result<bool, Error> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(wrong(member, "true or false")),
    }
}

/// The hash of the password in a body.
pub(super) async fn credential_of(
    context: &Context,
    body: &Map<String, Value>,
) -> Result<Option<Credential>, HttpError> {
    let Some(password) = text_of(body, "password")? else { return Ok(None) };
    let name = text_of(body, "name")?.unwrap_or_default();
    context.services.password_policy().check(&password, &name)?;
    let hashed = tokio::task::spawn_blocking(move || Credential::hash(&password, random()));
    Ok(Some(hashed.await.map_err(|_| StorageError::Panicked)??))
}

/// A new account as a body wants it.
pub(super) async fn new_account(context: &Context, body: &Map<String, Value>) -> Result<NewAccount, HttpError> {
    let credential = credential_of(context, body).await?;
    let name = text_of(body, "name")?;
    if let Some(name) = name.as_ref().filter(|name| context.services.logins.is_operator(name)) {
        let reason = format!("{name} is the name of an operator.");
        return Err(Error::new(settle_protocol::ErrorKind::Conflict, reason).into());
    }
    let link = match body.get("link") {
        None | Some(Value::Null) => credential.is_none(),
        Some(_) => flag_in(body, "link")?,
    };
    let send = flag_in(body, "send")?;
    if send && body.get("link") == Some(&Value::Bool(false)) {
        return Err(Error::bad_request("What is sent is a link: `send` needs `link`.").into());
    }
    Ok(NewAccount {
        name,
        credential,
        roles: texts_of(body, "roles")?.unwrap_or_default(),
        places: places_of(body)?.unwrap_or_default(),
        contact: body.get("contact").map(|value| party_of("contact", value)).transpose()?.flatten(),
        fullname: text_of(body, "fullname")?,
        phone: text_of(body, "phone")?,
        email: text_of(body, "email")?,
        locale: text_of(body, "locale")?,
        external_id: text_of(body, "external_id")?,
        link,
        send,
        prepared: flag_in(body, "prepared")?,
    })
}

/// An account that was made, as its maker sees it. A link is shown this once; that of a try leads nowhere and is not.
fn created_answer(context: &Context, created: &Created) -> Answer {
    let tried = context.request.query.flag("dry_run");
    let mut answer = json!({"ok": true, "name": created.name});
    for (member, written) in [("place", &created.place), ("contact", &created.contact)] {
        if let Some((id, revision)) = written {
            answer[member] = json!({"id": id, "rev": revision});
        }
    }
    if tried {
        answer["dry_run"] = true.into();
    } else if let Some(link) = &created.link {
        answer["link"] = link_value(context, link);
    }
    Answer::json(if tried { 200 } else { 201 }, answer.to_string()).header("cache-control", "no-store")
}

/// `POST /_accounts`: makes an account, with a place and a contact if they are new.
pub(super) async fn create(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let wanted = new_account(context, &body).await?;
    let desk = desk_of(context, text_of(&body, "database")?.as_deref(), text_of(&body, "reason")?)?;
    let created = act(context, desk, move |batch, desk| accounts::create(batch, desk, &wanted)).await?;
    Ok(created_answer(context, &created))
}

async fn change_of(context: &Context, body: &Map<String, Value>) -> Result<AccountChange, HttpError> {
    let mut texts = Vec::new();
    for member in text_members().filter(|member| body.contains_key(*member)) {
        texts.push((member, text_of(body, member)?));
    }
    let contact = body.get("contact").map(|value| party_of("contact", value)).transpose()?;
    Ok(AccountChange {
        credential: credential_of(context, body).await?,
        roles: texts_of(body, "roles")?,
        places: places_of(body)?,
        contact,
        texts,
    })
}

fn check_name_of(context: &Context, body: &Map<String, Value>) -> Result<String, Error> {
    let name = context.request.segment(1).to_owned();
    match text_of(body, "name")?.is_none_or(|given| given == name) {
        true => Ok(name),
        false => Err(Error::bad_request("`name` must be that of the path: accounts cannot be renamed.")),
    }
}

/// `PATCH /_accounts/NAME`: changes what the body has; `null` takes a text or the contact away.
pub(super) async fn change(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    change_with(context, &body).await
}

async fn change_with(context: &Context, body: &Map<String, Value>) -> Handled {
    let name = check_name_of(context, body)?;
    let wanted = change_of(context, body).await?;
    let desk = desk_of(context, text_of(body, "database")?.as_deref(), text_of(body, "reason")?)?;
    let changed = name.clone();
    act(context, desk, move |batch, desk| accounts::change(batch, desk, &changed, &wanted)).await?;
    Ok(Answer::json(200, json!({"ok": true, "name": name}).to_string()))
}

/// `PUT /_accounts/NAME`: makes the account, or changes it if it is there. One that is not in the caller's charge is a name that is
/// taken, as for `POST`.
pub(super) async fn put(context: &mut Context) -> Handled {
    let mut body = object_or_empty(context).await?;
    let name = check_name_of(context, &body)?;
    let stored = {
        let snapshot = context.services.store.snapshot();
        let charge = charge_of(&snapshot, &context.caller)?;
        let stored = snapshot.get(&ACCOUNTS, &name)?.filter(|row| row.exists);
        stored.map(|row| charge.covers(&snapshot, &row)).transpose()?
    };
    if stored == Some(true) {
        return change_with(context, &body).await;
    }
    body.insert("name".to_owned(), name.into());
    let wanted = new_account(context, &body).await?;
    let desk = desk_of(context, text_of(&body, "database")?.as_deref(), text_of(&body, "reason")?)?;
    let created = act(context, desk, move |batch, desk| accounts::create(batch, desk, &wanted)).await?;
    Ok(created_answer(context, &created))
}

/// `DELETE /_accounts/NAME`: deletes an account. What its devices hold may still come, for the drain.
pub(super) async fn delete(context: &mut Context) -> Handled {
    let name = context.request.segment(1).to_owned();
    let desk = desk_of(context, None, context.request.query.get("reason").map(str::to_owned))?;
    act(context, desk, move |batch, desk| accounts::remove(batch, desk, &name)).await?;
    Ok(Answer::ok(200))
}

const fn state_word(row: &AccountRow) -> &'static str {
    match row.closed {
        Closed::Open if row.prepared => "prepared",
        Closed::Open => "active",
        Closed::Disabled => "disabled",
        Closed::Retired => "retired",
    }
}

/// An account as those see it who manage it. Never its credential.
fn view(snapshot: &Snapshot<'_>, users: &Database, name: &str, row: &AccountRow, now: u64) -> Result<Value, HttpError> {
    let found = find(snapshot, users.id(), &View::Everything, &format!("{ID_PREFIX}{name}"), &Wanted::Winner)?;
    let document = UserDocument::parse(&format!("{{{}}}", found.body.text))?;
    let link = links::of_account(snapshot, name)?.map(|link| {
        let works = links::problem(&link, Some(row), now).is_none();
        json!({"made": link.made, "expires": link.expires, "used": link.used > 0, "works": works})
    });
    let mut account = json!({
        "name": name,
        "state": state_word(row),
        "roles": row.roles,
        "places": row.places,
        "contact": row.contact,
        "password": row.credential.is_some(),
        "epoch": row.epoch,
        "made": (row.made > 0).then_some(row.made),
        "link": link,
    });
    for member in text_members() {
        let text = document.get(member).and_then(|text| serde_json::from_str::<Value>(text).ok());
        account[member] = text.unwrap_or_default();
    }
    Ok(account)
}

/// `GET /_accounts/NAME`.
pub(super) fn read(context: &Context) -> Handled {
    let name = context.request.segment(1).to_owned();
    let snapshot = context.services.store.snapshot();
    let row = snapshot.get(&ACCOUNTS, &name)?.filter(|row| row.exists).ok_or_else(Error::missing)?;
    if !oversight_of(&snapshot, &context.caller)?.covers(&snapshot, &row)? {
        return Err(Error::missing().into());
    }
    let users = context.services.catalogue.find(USERS)?;
    Ok(Answer::json(200, view(&snapshot, &users, &name, &row, context.services.clock.now())?.to_string()))
}

/// What a list is to hold.
struct Filter<'a> {
    place: Option<&'a str>,
    role: Option<&'a str>,
    state: Option<&'a str>,
    text: Option<String>,
}

impl Filter<'_> {
    fn takes_row(&self, row: &AccountRow) -> bool {
        let has =
            |list: &[String], wanted: Option<&str>| wanted.is_none_or(|wanted| list.iter().any(|one| one == wanted));
        row.exists
            && has(&row.places, self.place)
            && has(&row.roles, self.role)
            && self.state.is_none_or(|state| state == state_word(row))
    }

    fn takes(&self, account: &Value) -> bool {
        let Some(text) = &self.text else { return true };
        let mut members = ["name", "contact"].into_iter().chain(text_members());
        members.any(|member| account[member].as_str().is_some_and(|found| found.to_lowercase().contains(text)))
    }
}

/// How many rows are asked for.
pub(super) fn listed(context: &Context) -> Result<usize, Error> {
    match context.request.query.get("limit").map(str::parse::<usize>) {
        None => Ok(USUALLY_LISTED),
        Some(Ok(limit)) if (1..=MOST_LISTED).contains(&limit) => Ok(limit),
        Some(_) => Err(wrong("limit", &format!("1 to {MOST_LISTED}"))),
    }
}

/// Rows of an answer, up to as many as are asked for.
pub(super) struct Listed {
    limit: usize,
    rows: Vec<Value>,
}

impl Listed {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, rows: Vec::new() }
    }

    /// Takes one more. One behind the last that is asked for says that there are more.
    pub(super) fn add(&mut self, row: Value) -> ControlFlow<()> {
        self.rows.push(row);
        if self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_full(&self) -> bool {
        self.rows.len() > self.limit
    }

    /// `rows`, and in `next` the `name` of the last one if there are more.
    pub(super) fn answer(mut self, name: &str) -> Value {
        let more = self.is_full();
        self.rows.truncate(self.limit);
        let next = self.rows.last().filter(|_| more).map(|row| row[name].clone());
        json!({"rows": self.rows, "next": next})
    }
}

/// `GET /_accounts?place=…&role=…&state=…&text=…&limit=…&start_after=NAME`: by name.
pub(super) fn list(context: &Context) -> Handled {
    let query = &context.request.query;
    let filter = Filter {
        place: query.get("place"),
        role: query.get("role"),
        state: query.get("state"),
        text: query.get("text").map(str::to_lowercase),
    };
    let mut rows = Listed::new(listed(context)?);
    let snapshot = context.services.store.snapshot();
    let users = context.services.catalogue.find(USERS)?;
    let now = context.services.clock.now();
    let charge = oversight_of(&snapshot, &context.caller)?;
    let mut after = query.get("start_after").map(str::to_owned);
    loop {
        let page = page_of(&snapshot, after.as_deref())?;
        after = page.last().map(|(name, _)| name.clone());
        for (name, row) in page.iter().filter(|(_, row)| filter.takes_row(row)) {
            if !charge.covers(&snapshot, row)? {
                continue;
            }
            let account = view(&snapshot, &users, name, row, now)?;
            if filter.takes(&account) && rows.add(account).is_break() {
                break;
            }
        }
        if after.is_none() || rows.is_full() {
            break;
        }
    }
    Ok(Answer::json(200, rows.answer("name").to_string()))
}

/// The next accounts by name.
fn page_of(snapshot: &Snapshot<'_>, after: Option<&str>) -> StorageResult<Vec<(String, AccountRow)>> {
    let from = after.map_or_else(Vec::new, |name| [name.as_bytes(), b"\0"].concat());
    let range = Range { from, to: None, descending: false };
    let mut page = Vec::new();
    snapshot.scan(Family::Accounts, &range, &mut |name, row| {
        page.push((String::from_utf8_lossy(name).into_owned(), ACCOUNTS.decode(row)?));
        Ok(if page.len() < MOST_LISTED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(page)
}
