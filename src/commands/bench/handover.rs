//! `settle bench handover`: how soon a withdrawn right ends while ten thousand feeds are open, what a manifest costs, and what
//! the standing adds to every request.
//!
//! Feeds and manifests are measured against a server of its own, over loopback, together with the client's share. The
//! standing check and Basic authentication take microseconds, so they are measured inside this process, on a store of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::client::{Client, Load, Request, closed_loop, contains, quantile, sorted_milliseconds};
use super::goals::{Figure, figure, print};
use super::longpoll::{open_files, spread};
use super::samples;
use super::server::Server;
use crate::accounts::enrolments::{self, Enrolment};
use crate::accounts::holders::Holders;
use crate::accounts::login::{Credentials, Logins};
use crate::accounts::password::Credential;
use crate::accounts::session_cookie::CookieSettings;
use crate::accounts::standing::Right;
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::accounts::withdrawals::Pass;
use crate::clock::random;
use crate::commands::child_server::Scratch;
use crate::documents::administration::Charge;
use crate::documents::radar::{Wanted, look};
use crate::http::load::{Connection, LARGE_BUFFER, SMALL_BUFFER, Target};
use crate::storage::{Memory, StorageError, Store};

const DATABASE: &str = "settle_bench";
const NAME: &str = "ann";
const PASSWORD: &str = "loopback-and-thrown-away";
/// Open feeds.
const FEEDS: u64 = 10_000;
/// Documents of a manifest.
const LISTED: u64 = 10_000;
/// Connections that are being opened at the same time.
const OPENING: usize = 64;
/// Open files that are needed for anything but feeds.
const RESERVED_FILES: u64 = 200;
/// Devices that the radar looks at.
const FLEET: u64 = 20_000;
/// How often what takes microseconds is done.
const REPEATED: u32 = 100_000;

/// Runs the bench and prints the table.
pub(super) async fn run(program: &Path, scratch: &Scratch, quick: bool, as_json: bool) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    let part = if quick { 10 } else { 1 };
    eprintln!("standing and Basic …");
    figures.extend(in_process(&scratch.path.join("standing"), REPEATED / part).await?);
    let server = Server::start(program, &scratch.path)?;
    set_up(&server.target).await?;
    eprintln!("manifests …");
    figures.extend(manifests(&server.target, LISTED / u64::from(part)).await?);
    eprintln!("requests …");
    figures.extend(requests(&server.target, Duration::from_secs(10) / part).await?);
    let allowed = open_files().unwrap_or(1_024).saturating_sub(RESERVED_FILES);
    let feeds = (FEEDS / u64::from(part)).min(allowed);
    for withdrawal in [Withdrawal::Cut, Withdrawal::Password] {
        eprintln!("{} with {feeds} feeds …", withdrawal.name());
        figures.extend(withdraw(&server.target, withdrawal, feeds).await?);
    }
    print(&figures, as_json);
    Ok(())
}

async fn set_up(target: &Target) -> anyhow::Result<()> {
    let mut admin = Client::open(target).await?;
    admin.bytes("PUT", &format!("/{DATABASE}"), b"").await?;
    let security = json!({"members": {"roles": ["chw"]}}).to_string();
    admin.bytes("PUT", &format!("/{DATABASE}/_security"), security.as_bytes()).await?;
    let user = json!({"name": NAME, "password": PASSWORD, "type": "user", "roles": ["chw"]}).to_string();
    admin.bytes("PUT", &format!("/_users/org.couchdb.user:{NAME}"), user.as_bytes()).await?;
    Ok(())
}

/// Logs in on a named device; what every further request carries, and the server's id of the device.
async fn log_in(target: &Target, password: &str, device: &str) -> anyhow::Result<(Target, String)> {
    let body = json!({"name": NAME, "password": password, "device": {"id": device}}).to_string();
    let mut connection = Connection::open(target, LARGE_BUFFER).await?;
    let mut answer = Vec::new();
    let head = connection.exchange("POST", "/_session", body.as_bytes(), &mut answer).await?;
    ensure!(head.is_success(), "the login was answered with status {}", head.status);
    let cookie = head.cookie.context("the answer to POST /_session has no cookie")?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let id = answer["device"]["id"].as_str().context("the answer names no device")?;
    Ok((target.with_cookie(&cookie), id.to_owned()))
}

/// Ways to end the rights behind the feeds.
#[derive(Debug, Clone, Copy)]
enum Withdrawal {
    Cut,
    Password,
}

impl Withdrawal {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Password => "password change",
        }
    }

    fn figures(self) -> [&'static str; 2] {
        match self {
            Self::Cut => ["cut: answered", "cut: feeds ended, p99"],
            Self::Password => ["password change: answered", "password change: feeds ended, p99"],
        }
    }
}

/// Opens feeds, withdraws the right behind them, writes a document, and waits for every feed to end. No feed may tell of the
/// document.
async fn withdraw(target: &Target, withdrawal: Withdrawal, count: u64) -> anyhow::Result<Vec<Figure>> {
    let (own, device) = log_in(target, PASSWORD, &format!("bench-{withdrawal:?}")).await?;
    let leaked = Arc::new(AtomicU64::new(0));
    let mut feeds = open_feeds(&own, count, &leaked).await?;
    let mut admin = Client::open(target).await?;
    let (path, body) = match withdrawal {
        Withdrawal::Cut => (format!("/_devices/{device}/cut"), json!({})),
        Withdrawal::Password => (format!("/_accounts/{NAME}/password"), json!({"password": "another loopback one"})),
    };
    let asked = Instant::now();
    admin.bytes("POST", &path, body.to_string().as_bytes()).await?;
    let answered = Instant::now();
    let late = json!({"_id": format!("late-{withdrawal:?}")}).to_string();
    admin.bytes("POST", &format!("/{DATABASE}"), late.as_bytes()).await?;
    let mut ended = Vec::new();
    let all = async {
        while let Some(feed) = feeds.join_next().await {
            ended.push(feed.context("a task of the bench failed")?.saturating_duration_since(answered));
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.context("not every feed ended in 60 s")??;
    let leaked = leaked.load(Ordering::SeqCst);
    ensure!(leaked == 0, "{leaked} feeds told of a document that was written after the right had ended");
    let sorted = sorted_milliseconds(ended);
    let [name, p99] = withdrawal.figures();
    let milliseconds = answered.duration_since(asked).as_secs_f64() * 1_000.0;
    let note = format!("from the answer on; {count} feeds; {}; no byte of a document", spread(&sorted));
    Ok(vec![
        figure(name, "ms", None, milliseconds, "the commit is in it"),
        figure(p99, "ms", Some(1_000.0), quantile(&sorted, 0.99), note),
    ])
}

/// Opens continuous feeds; each task ends with the moment of its feed's end.
async fn open_feeds(target: &Target, count: u64, leaked: &Arc<AtomicU64>) -> anyhow::Result<JoinSet<Instant>> {
    let path: Arc<str> =
        format!("/{DATABASE}/_changes?feed=continuous&since=now&heartbeat=60000&include_docs=true").into();
    let opening = Arc::new(Semaphore::new(OPENING));
    let (opened, mut progress) = mpsc::unbounded_channel();
    let mut feeds = JoinSet::new();
    for _ in 0..count {
        let permit = Arc::clone(&opening).acquire_owned().await?;
        let (target, path, opened, leaked) = (target.clone(), Arc::clone(&path), opened.clone(), Arc::clone(leaked));
        feeds.spawn(async move {
            let begun = async {
                let mut connection = Connection::open(&target, SMALL_BUFFER).await?;
                connection.send("GET", &path, b"").await?;
                let head = connection.head().await?;
                Ok::<_, crate::http::load::LoadError>((connection, head))
            };
            let begun = begun.await;
            drop(permit);
            // Nobody listens any more when another feed could not be opened.
            let _ = opened.send(begun.as_ref().is_ok_and(|(_, head)| head.is_success()));
            if let Ok((mut connection, head)) = begun {
                let tells = |data: &[u8]| {
                    leaked.fetch_add(u64::from(contains(data, "\"changes\"")), Ordering::SeqCst);
                };
                // However it ends, it has ended.
                let _ = connection.body(&head, tells).await;
            }
            Instant::now()
        });
    }
    for number in 0..count {
        match progress.recv().await {
            Some(true) => {}
            _ => bail!("feed number {number} could not be opened"),
        }
    }
    Ok(feeds)
}

/// A push of documents and a manifest of all of them, with its receipt.
async fn manifests(target: &Target, documents: u64) -> anyhow::Result<Vec<Figure>> {
    let (own, _) = log_in(target, PASSWORD, "bench-manifest").await?;
    let mut phone = Client::open(&own).await?;
    for first in (0..documents).step_by(500) {
        let body = samples::bulk(first..documents.min(first + 500), false);
        phone.bytes("POST", &format!("/{DATABASE}/_bulk_docs"), &body).await?;
    }
    let revision = |number| (samples::id(number), json!([format!("1-{}", samples::revision_hash(number))]));
    let revisions: serde_json::Map<String, Value> = (0..documents).map(revision).collect();
    let mut delays = Vec::new();
    for round in 0..10 {
        let body = json!({"manifest": format!("m{round}"), "revs": revisions, "final": true}).to_string();
        let began = Instant::now();
        let answer = phone.json("POST", &format!("/{DATABASE}/_manifest"), body.as_bytes()).await?;
        delays.push(began.elapsed());
        ensure!(answer["receipt"].is_object(), "no receipt: {answer}");
    }
    let sorted = sorted_milliseconds(delays);
    let note = format!("{documents} documents in one part, receipt included; {}", spread(&sorted));
    Ok(vec![figure("manifest, median", "ms", Some(150.0), quantile(&sorted, 0.5), note)])
}

/// The radar over twenty thousand devices, each of an account of its own.
async fn radar(store: &Store) -> anyhow::Result<Figure> {
    store
        .write(|batch| -> Result<(), StorageError> {
            for number in 0..FLEET {
                let account = format!("chw{number}");
                let row = AccountRow { epoch: 1, places: vec![format!("area{number}")], ..AccountRow::default() };
                let device = Enrolment { account: account.clone(), epoch: 1, seen: number, ..Enrolment::default() };
                batch.put(&ACCOUNTS, &account, &row);
                enrolments::put(batch, enrolments::of_client(&account, "phone"), &device);
            }
            Ok(())
        })
        .await?;
    let wanted = Wanted { silent_days: Some(7), ..Wanted::default() };
    let began = Instant::now();
    let found = look(&store.snapshot(), &[], &Charge::Everybody, &wanted, 100_000_000)?;
    let texts: usize = found.iter().map(|sighting| sighting.to_json(100_000_000).to_string().len()).sum();
    let milliseconds = began.elapsed().as_secs_f64() * 1_000.0;
    ensure!(found.len() as u64 >= FLEET, "{} of {FLEET} silent devices were found", found.len());
    let note = format!("{FLEET} devices of as many accounts, all of them silent; {} KiB of JSON", texts >> 10);
    Ok(figure("radar", "ms", Some(1_000.0), milliseconds, note))
}

struct Gets(u64);

impl Load for Gets {
    fn request(&self, number: u64, request: &mut Request) {
        request.method = "GET";
        request.path = format!("/{DATABASE}/{}", samples::id(samples::mixed(number) % self.0));
    }

    fn accepts(&self, answer: &[u8]) -> bool {
        contains(answer, "\"_rev\":\"1-")
    }
}

/// GET with a cookie of an account, whose standing is looked up, and of an operator, who has none.
async fn requests(target: &Target, duration: Duration) -> anyhow::Result<Vec<Figure>> {
    let (account, _) = log_in(target, PASSWORD, "bench-requests").await?;
    let operator = super::client::log_in(target).await?;
    let mut figures = Vec::new();
    for (name, target) in [("GET by an operator, median", operator), ("GET by an account, median", account)] {
        let pace = closed_loop(&target, 1, duration / 2, Arc::new(Gets(1_000)), true).await?;
        figures.push(figure(name, "µs", None, pace.median * 1_000.0, format!("one connection, cookie; {pace}")));
    }
    Ok(figures)
}

/// What the standing and a remembered password cost, without HTTP.
async fn in_process(folder: &Path, times: u32) -> anyhow::Result<Vec<Figure>> {
    let store = Store::open(folder, Memory { cache_bytes: 64 << 20, write_buffer_bytes: 64 << 20 }, random::<16>)?;
    let credential = Credential::hash(PASSWORD, random()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let row = AccountRow {
        epoch: 2,
        credential: Some(credential.to_text()),
        roles: vec!["chw".to_owned()],
        places: vec!["area".to_owned()],
        ..AccountRow::default()
    };
    let pass = Pass { account: NAME.to_owned(), device: enrolments::of_client(NAME, "bench-phone"), epoch: 2 };
    let device = Enrolment {
        account: NAME.to_owned(),
        client: "bench-phone".to_owned(),
        name: "Ann's phone".to_owned(),
        app: "visits 4.2".to_owned(),
        seen: u64::MAX / 2,
        epoch: 2,
        ..Enrolment::default()
    };
    let id = pass.device;
    store
        .write(move |batch| -> Result<(), StorageError> {
            batch.put(&ACCOUNTS, &NAME.to_owned(), &row);
            enrolments::put(batch, id, &device);
            Ok(())
        })
        .await?;
    let began = Instant::now();
    for _ in 0..times {
        pass.judge(&store.snapshot(), 1_000)?.allow(Right::Everything)?;
    }
    let read = began.elapsed();
    let holders = Holders::new(&store);
    let began = Instant::now();
    for _ in 0..times {
        holders.of(&pass.account, pass.device)?.judge(pass.epoch, 1_000).allow(Right::Everything)?;
    }
    let judged = began.elapsed();
    let logins = Logins::open(&store, HashMap::new(), false, random()).await?;
    let authorization = format!("Basic {}", BASE64.encode(format!("{NAME}:{PASSWORD}")));
    let network = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let cookies = CookieSettings::default();
    let mut basic = Duration::ZERO;
    for round in 0..=times {
        let shown = Credentials { authorization: Some(&authorization), cookie: None, network, reports_wipe: false };
        let began = Instant::now();
        let caller = logins.caller(&shown, &cookies, 1_000).await?;
        ensure!(caller.name.is_some(), "the password was not known");
        // The first one verifies the hash.
        basic += if round == 0 { Duration::ZERO } else { began.elapsed() };
    }
    let radar = radar(&store).await?;
    store.close();
    let each = |total: Duration| total.as_secs_f64() * 1_000_000.0 / f64::from(times);
    let note = |what: &str| format!("{what}, {times} times");
    Ok(vec![
        figure("standing check", "µs", Some(2.0), each(judged), note("rows that nobody wrote since the last check")),
        figure(
            "standing check behind a write",
            "µs",
            None,
            each(read),
            note("account and device from a fresh snapshot"),
        ),
        radar,
        figure(
            "Basic, remembered password",
            "µs",
            Some(20.0),
            each(basic),
            note("header to caller, standing included"),
        ),
    ])
}
