//! `POST /_accounts/_bulk`: many accounts from one file, each row a part of its own. Several rows share a write; between the writes
//! everybody else's have their turn. A file that cannot be read changes nothing; a row that is refused keeps no other back.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use settle_protocol::query::Query;
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::account_changes::{DeskParts, act, desk_of, rehearse};
use super::links::link_value;
use crate::accounts::import_rows::named_places::NamedPlaces;
use crate::accounts::import_rows::{AccountRow, Format, Options, Problem, read};
use crate::accounts::password::{Credential, made_up};
use crate::clock::random;
use crate::documents::accounts::Desk;
use crate::documents::enlisting::{Became, Entrant, Outcome, Terms, enlist, find_account};
use crate::documents::error::DocumentResult;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Batch, StorageError};

/// Rows of a request.
const MOST_ROWS: usize = 2_000;
/// Bytes of a request.
const MOST_BYTES: u64 = 16 << 20;
/// Rows that share a write: what others wait for is as long as these take.
const ROWS_AT_A_TIME: usize = 16;
/// Passwords that are hashed at the same time.
const HASHES_AT_A_TIME: usize = 2;

/// What becomes of passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passwords {
    /// A column of passwords is a problem.
    Refuse,
    /// They are taken from the file.
    Accept,
    /// They are made up and shown once.
    Generate,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    format: Format,
    passwords: Passwords,
    terms: Terms,
    only_tried: bool,
}

fn wrong(member: &str, what: &str) -> Error {
    Error::bad_request(format!("`{member}` must be {what}."))
}

fn flag_of(query: &Query, member: &str, usually: bool) -> Result<bool, Error> {
    match query.get(member) {
        None => Ok(usually),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(wrong(member, "true or false")),
    }
}

fn asked_of(context: &Context) -> Result<Asked, Error> {
    let content_type = context.request.header("content-type").unwrap_or_default();
    let format = match content_type.split(';').next().unwrap_or_default().trim() {
        "text/csv" => Format::Csv,
        "application/json" | "application/x-ndjson" => Format::Json,
        _ => {
            let reason = "Content-Type must be text/csv, application/json or application/x-ndjson";
            return Err(Error::new(ErrorKind::BadContentType, reason));
        }
    };
    let query = &context.request.query;
    let passwords = match query.get("passwords") {
        None | Some("refuse") => Passwords::Refuse,
        Some("accept") => Passwords::Accept,
        Some("generate") => Passwords::Generate,
        Some(_) => return Err(wrong("passwords", "refuse, accept or generate")),
    };
    let again_since = query.get("again_since").map(str::parse).transpose();
    let terms = Terms {
        prepared: flag_of(query, "prepared", true)?,
        send: flag_of(query, "send", false)?,
        again_since: again_since.map_err(|_| wrong("again_since", "a number of seconds since 1970"))?,
    };
    Ok(Asked { format, passwords, terms, only_tried: flag_of(query, "dry_run", false)? })
}

/// The answer to a file that cannot be read: every problem with its line.
fn problems_answer(problems: &[Problem]) -> Answer {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let more = match problems.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more, see `problems`)", count - 1),
    };
    let row = |problem: &Problem| json!({"line": problem.line, "column": problem.column, "reason": problem.reason});
    let answer = json!({
        "error": "bad_request", "reason": format!("Nothing was changed: {first}{more}"),
        "problems": problems.iter().map(row).collect::<Vec<_>>(), "code": 400,
    });
    Answer::json(400, answer.to_string())
}

/// Rows, and the passwords in clear that were made up for them.
struct Ready {
    entrants: Vec<Entrant>,
    made_up: Vec<Option<String>>,
}

/// Hashes the passwords of new accounts. Those that are there keep theirs, unless an answer was lost.
async fn ready(context: &Context, parts: &DeskParts, rows: &[AccountRow], asked: &Asked) -> Result<Ready, HttpError> {
    let policy = context.services.password_policy();
    let (mut wanted, mut faults) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    {
        let snapshot = context.services.store.snapshot();
        for row in rows {
            let operator = row.name.as_ref().filter(|name| context.services.logins.is_operator(name));
            let mut fault = operator.map(|name| format!("{name} is the name of an operator."));
            let password = match (asked.passwords, &row.password) {
                (Passwords::Generate, _) => Some(made_up(random())),
                (_, Some(password)) => Some(password.0.clone()),
                _ => None,
            };
            let lost = |made: u64| asked.terms.again_since.is_some_and(|since| made >= since);
            let needed = password.filter(|_| !row.done && !asked.only_tried).filter(|_| {
                match find_account(&snapshot, parts.caller(), row) {
                    Ok(Some((_, stored))) => lost(stored.made),
                    Ok(None) => true,
                    Err(_) => false,
                }
            });
            if let Some(password) = &row.password
                && let Err(error) = policy.check(&password.0, row.name.as_deref().unwrap_or_default())
            {
                fault.get_or_insert(error.reason().to_owned());
            }
            wanted.push(needed.filter(|_| fault.is_none()));
            faults.push(fault);
        }
    }
    let made_up: Vec<Option<String>> = match asked.passwords {
        Passwords::Generate => wanted.clone(),
        _ => vec![None; wanted.len()],
    };
    let hashes = futures::stream::iter(wanted).map(|password| async {
        let Some(password) = password else { return Ok(None) };
        let hashed = tokio::task::spawn_blocking(move || Credential::hash(&password, random()));
        let hashed = hashed.await.map_err(|_| HttpError::from(StorageError::Panicked))?;
        hashed.map(Some).map_err(HttpError::from)
    });
    let hashes: Vec<Option<Credential>> = hashes.buffered(HASHES_AT_A_TIME).try_collect().await?;
    let entrants = rows.iter().cloned().zip(hashes).zip(faults);
    let entrant = |((mut row, credential), fault): ((AccountRow, _), _)| {
        row.password = row.password.filter(|_| !asked.only_tried); // nothing was hashed for a try
        Entrant { row, credential, fault }
    };
    let entrants = entrants.map(entrant).collect();
    Ok(Ready { entrants, made_up })
}

/// Does rows one after the other; the first has this number.
fn enlist_all(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    first: usize,
    entrants: &[Entrant],
    terms: &Terms,
    places: &mut NamedPlaces,
) -> DocumentResult<Vec<Outcome>> {
    (first..).zip(entrants).map(|(number, entrant)| enlist(batch, desk, number, entrant, terms, places)).collect()
}

/// Every row, a few in each write; a try is made beside the writer.
async fn done(
    context: &Context,
    parts: DeskParts,
    entrants: Vec<Entrant>,
    mut places: NamedPlaces,
    asked: &Asked,
) -> Result<Vec<Outcome>, HttpError> {
    let terms = asked.terms;
    if asked.only_tried {
        return rehearse(context, parts, move |batch, desk| enlist_all(batch, desk, 0, &entrants, &terms, &mut places))
            .await;
    }
    let entrants = Arc::new(entrants);
    let mut outcomes = Vec::with_capacity(entrants.len());
    for first in (0..entrants.len()).step_by(ROWS_AT_A_TIME) {
        let (entrants, mut known) = (Arc::clone(&entrants), places);
        let written = act(context, parts.clone(), move |batch, desk| {
            let rows = &entrants[first..entrants.len().min(first + ROWS_AT_A_TIME)];
            let some = enlist_all(batch, desk, first, rows, &terms, &mut known)?;
            Ok((some, known))
        });
        let (some, known) = written.await?;
        outcomes.extend(some);
        places = known;
    }
    Ok(outcomes)
}

/// What became of a row, as its sender sees it. Links and passwords are shown this once, those of a try never.
fn row_value(
    context: &Context,
    asked: &Asked,
    row: &AccountRow,
    outcome: &Outcome,
    password: Option<&String>,
) -> Value {
    let mut value = Map::new();
    let mut put = |member: &str, text: Option<&String>| {
        if let Some(text) = text {
            value.insert(member.to_owned(), text.as_str().into());
        }
    };
    put("external_id", row.external_id.as_ref());
    put("name", outcome.name.as_ref());
    put("reason", outcome.reason.as_ref());
    put("place", outcome.place.as_ref().filter(|_| !asked.only_tried || outcome.became != Became::Created));
    if !asked.only_tried {
        put("contact", outcome.contact.as_ref());
        put("password", password.filter(|_| outcome.password_set));
    }
    if outcome.made_since {
        value.insert("made_since".to_owned(), true.into());
    }
    value.insert("line".to_owned(), row.line.into());
    value.insert("status".to_owned(), outcome.became.word().into());
    if let Some(link) = outcome.link.as_ref().filter(|_| !asked.only_tried) {
        value.insert("link".to_owned(), link_value(context, link));
    }
    Value::Object(value)
}

/// `POST /_accounts/_bulk`.
pub(super) async fn bulk(context: &mut Context) -> Handled {
    let asked = asked_of(context)?;
    let body: Bytes = context.read_body(context.settings.max_request_bytes.min(MOST_BYTES)).await?;
    context.asked = blake3::hash(&body).to_hex().to_string();
    let options = Options { passwords: asked.passwords == Passwords::Accept };
    let parsed = tokio::task::spawn_blocking(move || read(&body, asked.format, options));
    let rows = match parsed.await.map_err(|_| StorageError::Panicked)? {
        Ok(rows) => rows,
        Err(problems) => return Ok(problems_answer(&problems)),
    };
    if rows.len() > MOST_ROWS {
        let reason = format!("{} rows: a request takes {MOST_ROWS}. Divide the file; nothing was changed.", rows.len());
        return Err(Error::new(ErrorKind::TooLarge, reason).into());
    }
    let query = &context.request.query;
    let parts = desk_of(context, query.get("database"), query.get("reason").map(str::to_owned))?;
    let time = parts.time();
    let Ready { entrants, made_up } = ready(context, &parts, &rows, &asked).await?;
    let outcomes = done(context, parts, entrants, NamedPlaces::of(&rows), &asked).await?;
    let count = |became: Became| outcomes.iter().filter(|outcome| outcome.became == became).count();
    let all = [Became::Created, Became::Exists, Became::Changed, Became::Refused, Became::Skipped];
    let counts: Map<String, Value> = all.into_iter().map(|one| (one.word().to_owned(), count(one).into())).collect();
    let told = rows.iter().zip(&outcomes).zip(&made_up);
    let told = told.map(|((row, outcome), password)| row_value(context, &asked, row, outcome, password.as_ref()));
    let mut answer = json!({"ok": true, "time": time, "counts": counts, "rows": told.collect::<Vec<_>>()});
    if asked.only_tried {
        answer["dry_run"] = true.into();
    }
    Ok(Answer::json(200, answer.to_string()).header("cache-control", "no-store"))
}
