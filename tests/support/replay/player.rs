//! Plays the steps of one conversation and tells the first difference, with the request and the answer it came from.
//!
//! Databases and settings of the conversation are put back afterwards, whatever happened.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::http::{Client, Request, Response};
use super::super::server::{ADMIN, ADMIN_PASSWORD};
use super::answer::{self, Kind};
use super::conversation::{Conversation, Expect, ReadUntil, Step};
use super::json::{Json, Members};
use super::outgoing::{self, Credentials};
use super::variables::Variables;
use super::{Difference, pattern, shorten};

/// How long a feed is read that no `read` limits in time.
const READ_LIMIT: Duration = Duration::from_secs(20);
/// How long a request in the background may take once it is waited for.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(60);
/// Long enough for the server to have taken a request sent in the background.
const START_PAUSE: Duration = Duration::from_millis(400);
const RETRY_PAUSE: Duration = Duration::from_millis(150);
/// Long enough for changed settings to be in force.
const SETTINGS_PAUSE: Duration = Duration::from_millis(300);
/// Longest excerpt of a body in a message, in characters.
const EXCERPT: usize = 2000;

type Exchange = Result<Response, Difference>;

/// Plays a conversation against the server at `address`; `tag` is a fresh lower-case word, the root of its database
/// names. The message of a failure holds the step, its request and answer, and what was expected.
pub(crate) fn play(conversation: &Conversation, address: &str, tag: &str) -> Result<(), String> {
    let mut player = Player::new(address, tag);
    let mut before = Members::default();
    let outcome = player
        .configure(&conversation.server_config, &mut before)
        .map_err(|difference| format!("  before the first step: {difference}"))
        .and_then(|()| player.play_steps(&conversation.steps));
    player.clean_up(conversation);
    let restored = player
        .configure(&before, &mut Members::default())
        .map_err(|difference| format!("  after the last step: {difference}"));
    outcome.and(restored)
}

struct Player {
    client: Client,
    variables: Variables,
    credentials: Credentials,
    background: HashMap<String, Receiver<Exchange>>,
    /// The request and answer of the current step, for the message of a failure.
    request: Option<Request>,
    answer: Option<Response>,
}

impl Player {
    fn new(address: &str, tag: &str) -> Self {
        let mut variables = Variables::default();
        let known = [("host", address), ("admin", ADMIN), ("password", ADMIN_PASSWORD), ("tag", tag)];
        known.into_iter().for_each(|(name, value)| variables.set(name, value));
        variables.set("base", format!("http://{address}"));
        [("db", ""), ("db2", "_b"), ("db3", "_c")]
            .into_iter()
            .for_each(|(name, suffix)| variables.set(name, format!("rec_{tag}{suffix}")));
        let admin = ADMIN.to_owned();
        let password = ADMIN_PASSWORD.to_owned();
        Self {
            client: Client::new(address),
            variables,
            credentials: Credentials { admin, password, cookies: HashMap::new() },
            background: HashMap::new(),
            request: None,
            answer: None,
        }
    }

    fn play_steps(&mut self, steps: &[Step]) -> Result<(), String> {
        for (index, step) in steps.iter().enumerate() {
            (self.request, self.answer) = (None, None);
            self.play_step(step).map_err(|difference| {
                let exchange = describe(self.request.as_ref(), self.answer.as_ref());
                format!("  step {} {:?}\n    {difference}\n{exchange}", index + 1, step.name)
            })?;
        }
        Ok(())
    }

    fn play_step(&mut self, step: &Step) -> Result<(), Difference> {
        if let Some(pause) = step.wait_ms {
            thread::sleep(Duration::from_millis(pause));
        }
        if let Some(name) = &step.finish {
            let answer = self.finish(name)?;
            return self.check(step, answer);
        }
        let Some(recorded) = &step.request else { return Ok(()) };
        let request = outgoing::request(recorded, &self.variables, &self.credentials)?;
        self.request = Some(request.clone());
        if let Some(name) = &step.start {
            self.start(name, request, step.read);
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_millis(step.retry_ms.unwrap_or(0));
        loop {
            let answer = exchange(&self.client, &request, step.read)?;
            match self.check(step, answer) {
                Err(Difference::Mismatch(_)) if Instant::now() < deadline => thread::sleep(RETRY_PAUSE),
                outcome => return outcome,
            }
        }
    }

    /// Sends a request in the background and goes on a moment later.
    fn start(&mut self, name: &str, request: Request, read: Option<ReadUntil>) {
        let (sender, receiver) = mpsc::channel();
        let client = self.client.clone();
        thread::spawn(move || {
            // Nobody listens any more when the conversation has failed meanwhile.
            let _ = sender.send(exchange(&client, &request, read));
        });
        self.background.insert(name.to_owned(), receiver);
        thread::sleep(START_PAUSE);
    }

    fn finish(&mut self, name: &str) -> Exchange {
        let started = self.background.remove(name);
        let started = started.ok_or_else(|| Difference::bad(format!("nothing named {name:?} was started")))?;
        started.recv_timeout(BACKGROUND_LIMIT).unwrap_or_else(|error| {
            Err(Difference::mismatch(match error {
                RecvTimeoutError::Timeout => "the request in the background did not end",
                RecvTimeoutError::Disconnected => "the request in the background was lost",
            }))
        })
    }

    fn check(&mut self, step: &Step, answer: Response) -> Result<(), Difference> {
        let outcome = self.check_answer(step, &answer);
        self.answer = Some(answer);
        outcome
    }

    fn check_answer(&mut self, step: &Step, answer: &Response) -> Result<(), Difference> {
        let expect = &step.expect;
        if let Some(jar) = &step.save_cookie {
            self.credentials.cookies.insert(jar.clone(), session_cookie(answer)?);
        }
        if let Some(status) = expect.status.as_ref().filter(|status| !status.allows(answer.status)) {
            let message = format!("the status\n      expected {status}\n      got      {}", answer.status);
            return Err(Difference::Mismatch(message));
        }
        let wanted = wanted_body(expect);
        let captures_body = || step.capture.iter().any(|(_, place)| place.plain().starts_with('/'));
        let kind = wanted.map(|(kind, _)| kind).or_else(|| captures_body().then_some(Kind::Json));
        let body = kind.map(|kind| answer::value_of(answer, kind)).transpose()?;
        // Captures come first, so that a step may refer to what it captured.
        self.capture(&step.capture, answer, body.as_ref())?;
        self.check_headers(&expect.headers, answer)?;
        match (wanted, &body) {
            (Some((Kind::Multipart, parts)), Some(body)) => {
                pattern::compare_parts(parts, body, &self.variables, "multipart")?;
            }
            (Some((_, wanted)), Some(body)) => pattern::compare(wanted, body, &self.variables, "$")?,
            _ => {}
        }
        self.check_raw_body(expect, answer)
    }

    fn capture(&mut self, wanted: &Members, answer: &Response, body: Option<&Json>) -> Result<(), Difference> {
        for (name, place) in wanted.iter() {
            let place = place.plain();
            match place.strip_prefix("header:") {
                Some(header) => self.variables.set(name, answer.header(header).unwrap_or_default()),
                None => {
                    let found = body.and_then(|body| body.pointer(&place));
                    let nothing = || Difference::mismatch(format!("nothing to capture at {place:?} of the body"));
                    self.variables.set(name, found.ok_or_else(nothing)?.clone());
                }
            }
        }
        Ok(())
    }

    fn check_headers(&self, wanted: &Members, answer: &Response) -> Result<(), Difference> {
        for (name, wanted) in wanted.iter() {
            let wanted = wanted.plain();
            let fits = match answer.header(name) {
                None => wanted == "$absent",
                Some(_) if wanted == "$absent" => false,
                Some(value) => pattern::fits_text(&wanted, &Json::from(value), &self.variables)?,
            };
            if !fits {
                let wanted = self.variables.replace(&wanted);
                let got = answer.header(name).unwrap_or("no such header");
                return Err(Difference::mismatch(format!(
                    "the header {name}\n      expected {wanted}\n      got      {got}"
                )));
            }
        }
        Ok(())
    }

    /// Compares what is expected of the body as text, as bytes and as heartbeats.
    fn check_raw_body(&self, expect: &Expect, answer: &Response) -> Result<(), Difference> {
        let differs = |what: &str, wanted: &str, got: &str| {
            let (wanted, got) = (shorten(wanted, EXCERPT), shorten(got, EXCERPT));
            Err(Difference::mismatch(format!("the {what}\n      expected {wanted:?}\n      got      {got:?}")))
        };
        if let Some(wanted) = &expect.text {
            let got = answer::text(answer);
            if !pattern::fits_text(wanted, &Json::from(got.as_str()), &self.variables)? {
                return differs("text", &self.variables.replace(wanted), &got);
            }
        }
        if let Some(wanted) = &expect.base64 {
            let got = STANDARD.encode(answer.bytes());
            if got != *wanted {
                return differs("bytes", wanted, &got);
            }
        }
        match (expect.heartbeats, answer::heartbeats(answer)) {
            (Some(wanted), got) if got < wanted => {
                differs("number of heartbeats", &format!("at least {wanted}"), &got.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Changes settings through CouchDB's configuration API (`null` removes one) and notes what was there.
    fn configure(&self, settings: &Members, before: &mut Members) -> Result<(), Difference> {
        for (key, value) in settings.iter() {
            let path = format!("/_node/_local/_config/{key}");
            let old = self.send_as_admin("GET", &path, None)?;
            let known = if old.status == 200 { answer::value_of(&old, Kind::Json)? } else { Json::Null };
            before.insert(key.to_owned(), known);
            if matches!(value, Json::Null) {
                self.send_as_admin("DELETE", &path, None)?;
                continue;
            }
            let answer = self.send_as_admin("PUT", &path, Some(self.variables.expand(value).to_string()))?;
            if answer.status != 200 {
                let message = format!("could not set {key}: {} {}", answer.status, answer.text());
                return Err(Difference::Mismatch(message));
            }
        }
        if settings.len() > 0 {
            thread::sleep(SETTINGS_PAUSE);
        }
        Ok(())
    }

    /// Removes what the conversation made. A server that fails here has failed before, and the next database is fresh.
    fn clean_up(&self, conversation: &Conversation) {
        for path in &conversation.cleanup {
            let path = self.variables.replace(path);
            // The server may be writing the document too, so that the first revision seen is gone already.
            for _ in 0..5 {
                let Ok(found) = self.send_as_admin("GET", &path, None) else { return };
                let revision =
                    answer::value_of(&found, Kind::Json).ok().and_then(|body| body.get("_rev").map(Json::plain));
                let Some(revision) = revision.filter(|_| found.status == 200) else { break };
                let _ = self.send_as_admin("DELETE", &format!("{path}?rev={revision}"), None);
            }
        }
        for name in ["{db}", "{db2}", "{db3}"] {
            if conversation.source.contains(name) {
                let _ = self.send_as_admin("DELETE", &format!("/{}", self.variables.replace(name)), None);
            }
        }
    }

    fn send_as_admin(&self, method: &str, path: &str, body: Option<String>) -> Exchange {
        let mut request = Request::new(method, path).basic(&self.credentials.admin, &self.credentials.password);
        request.body = body.map(String::into_bytes);
        exchange(&self.client, &request, None)
    }
}

/// One request and its answer, on a connection of its own.
fn exchange(client: &Client, request: &Request, read: Option<ReadUntil>) -> Exchange {
    let answer = match read {
        None => client.try_send(request),
        Some(until) => read_feed(client, request, until),
    };
    answer.map_err(|error| Difference::mismatch(format!("no answer to {} {}: {error}", request.method, request.path)))
}

/// Reads the whole lines of a feed until there are enough or the time is over.
fn read_feed(client: &Client, request: &Request, until: ReadUntil) -> io::Result<Response> {
    let mut feed = client.connect()?.into_feed(request)?;
    let deadline = Instant::now() + until.ms.map_or(READ_LIMIT, Duration::from_millis);
    let mut body = Vec::new();
    let mut filled = 0;
    while until.lines.is_none_or(|wanted| filled < wanted) {
        match feed.next_line(deadline.saturating_duration_since(Instant::now())) {
            Ok(Some(line)) => {
                filled += usize::from(!line.trim_ascii().is_empty());
                body.extend(line);
            }
            Ok(None) => break,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Response { body, ..feed.head.clone() })
}

/// The expectation of a body that is compared as a value.
fn wanted_body(expect: &Expect) -> Option<(Kind, &Json)> {
    let json = expect.json.as_ref().map(|wanted| (Kind::Json, wanted));
    json.or_else(|| expect.lines.as_ref().map(|wanted| (Kind::Lines, wanted)))
        .or_else(|| expect.events.as_ref().map(|wanted| (Kind::Events, wanted)))
        .or_else(|| expect.multipart.as_ref().map(|wanted| (Kind::Multipart, wanted)))
}

fn session_cookie(answer: &Response) -> Result<String, Difference> {
    let header = answer.header("set-cookie").unwrap_or_default();
    let value = header.strip_prefix("AuthSession=").and_then(|rest| rest.split(';').next());
    value.map(str::to_owned).ok_or_else(|| Difference::mismatch("no AuthSession cookie in the answer"))
}

/// A request and its answer for the message of a failure.
fn describe(request: Option<&Request>, answer: Option<&Response>) -> String {
    let mut out = String::new();
    let mut add = |mark: &str, text: &str| {
        shorten(text, EXCERPT).lines().for_each(|line| out.push_str(&format!("    {mark} {line}\n")));
    };
    if let Some(request) = request {
        add(">", &format!("{} {}", request.method, request.path));
        request.headers.iter().for_each(|(name, value)| add(">", &format!("{name}: {value}")));
        add(">", &String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()));
    }
    if let Some(answer) = answer {
        add("<", &answer.status.to_string());
        answer.headers.iter().for_each(|(name, value)| add("<", &format!("{name}: {value}")));
        add("<", &answer::text(answer));
    }
    out
}
