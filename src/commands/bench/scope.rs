//! `settle bench scope`: what a restricted caller's pulls, moves and writes cost while the country around them grows.
//!
//! One server, filled step by step; at each size the same figures are taken from the same area (first pulls from areas all over the country), so that what depends on
//! the size of the database shows. Times are from request to answer over loopback, the server's own and the wire's. What is
//! written is written while files are merged; pulls and moves are measured when that is over. Every area has an account before it has
//! documents, and so has every health centre, as in a country at work; but one area at each size, and the regions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Client, finish, log_in, quantile, sorted_milliseconds};
use super::country::{self, AREA_DOCUMENTS, AREAS};
use super::server::Server;
use crate::commands::child_server::Scratch;
use crate::http::load::Target;

const DATABASE: &str = "settle_bench";
const PASSWORD: &str = "loopback-and-thrown-away";
/// A country's server has memory for its cache; the default is for a small machine.
const CONFIGURATION: &str = "[settle]\ncache_mib = 3072\nwrite_buffer_mib = 256\n";
/// Documents in one `_bulk_docs` of the load.
const BATCH: usize = 500;
/// How long it waits until the server has merged what was written.
const PATIENCE: Duration = Duration::from_secs(240);
/// Phones that pull for the first time at each size.
const FIRST_PULLS: u64 = 7;
/// Pulls of each kind whose median is told.
const REPEATED: usize = 50;

/// One row of the table: a figure at every size.
struct Row {
    name: &'static str,
    unit: &'static str,
    goal: &'static str,
    values: Vec<f64>,
}

/// Runs the bench and prints the table.
pub(super) async fn run(
    program: &std::path::Path,
    scratch: &Scratch,
    sizes: &[u64],
    as_json: bool,
) -> anyhow::Result<()> {
    let server = Server::start_with(program, &scratch.path, CONFIGURATION)?;
    let mut admin = Client::open(&server.target).await?;
    set_up(&mut admin).await?;
    let mut rows: Vec<Row> = Vec::new();
    let (mut areas, mut compared) = (0, 0);
    for size in sizes {
        let wanted = size.div_ceil(AREA_DOCUMENTS).max(AREAS + 2);
        eprintln!("filling up to {size} documents …");
        let unheld = wanted - 2; // an area without an account
        enlist(&mut admin, (areas..wanted).filter(|area| *area != unheld)).await?;
        fill(&server.target, areas, wanted).await?;
        areas = wanted;
        admin = Client::open(&server.target).await?; // the one before was idle for too long
        let (plain, rate) = write_rates(&server.target, &mut admin, areas).await?;
        compared += COMPARED_AREAS * COMPARED_TURNS;
        eprintln!("waiting for the merging of files …");
        let merging = server.rest(PATIENCE).await;
        eprintln!("measuring …");
        admin = Client::open(&server.target).await?; // again idle for too long
        let mut figures = vec![
            ("documents", "", "", ((areas + compared) * AREA_DOCUMENTS) as f64),
            ("bulk writes, plain database", "docs/s", "", plain),
            ("bulk writes, scoped", "docs/s", "", rate),
            ("of the plain rate", "%", ">= 60", rate / plain * 100.0),
            ("merging of files afterwards", "s", "", merging),
        ];
        figures.extend(measure(&server.target, &mut admin, areas).await?);
        figures.extend(newly_held(&server.target, &mut admin, unheld).await?);
        figures.push(("memory", "MiB", "", server.memory().unwrap_or_default()));
        figures.push(("disk", "MiB", "", server.disk().unwrap_or_default()));
        for (name, unit, goal, value) in figures {
            match rows.iter_mut().find(|row| row.name == name) {
                Some(row) => row.values.push(value),
                None => rows.push(Row { name, unit, goal, values: vec![value] }),
            }
        }
        print_rows(&rows, as_json);
    }
    Ok(())
}

fn print_rows(rows: &[Row], as_json: bool) {
    if as_json {
        let rows: Vec<Value> =
            rows.iter().map(|row| json!({"figure": row.name, "unit": row.unit, "values": row.values})).collect();
        println!("{}", Value::Array(rows));
        return;
    }
    println!("\n{:<44} {:>8} {:>8}", "figure", "unit", "goal");
    for row in rows {
        let values: String = row.values.iter().map(|value| format!(" {value:>12.2}")).collect();
        println!("{:<44} {:>8} {:>8}{values}", row.name, row.unit, row.goal);
    }
}

/// The first area whose documents are written for comparison, far from those of the country.
const COMPARED_FROM: u64 = 1_000_000;
/// Areas that are written at a turn, one by each connection: 9,124 documents.
const COMPARED_AREAS: u64 = 2;
/// How often the two databases take turns: the machine is faster and slower from one second to the next, in some turns a write
/// buffer is flushed, and the plain database is empty at first, so that its first turns are quicker by half.
const COMPARED_TURNS: u64 = 27;

/// Documents per second, written into a plain database and into the scoped one: the median of several turns.
async fn write_rates(target: &Target, admin: &mut Client, areas: u64) -> anyhow::Result<(f64, f64)> {
    let (mut plain, mut scoped) = (Vec::new(), Vec::new());
    admin.bytes("PUT", "/settle_bench_plain", b"").await?;
    for turn in 0..COMPARED_TURNS {
        let first = COMPARED_FROM + (areas * COMPARED_TURNS + turn) * COMPARED_AREAS;
        enlist(admin, first..first + COMPARED_AREAS).await?;
        for (path, rates) in [("settle_bench_plain", &mut plain), (DATABASE, &mut scoped)] {
            let path = format!("/{path}/_bulk_docs");
            rates.push(write_rate(target, &path, first..first + COMPARED_AREAS).await?);
        }
    }
    admin.bytes("DELETE", "/settle_bench_plain", b"").await?;
    Ok((median(plain), median(scoped)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Writes areas into a database, each by a connection of its own, as phones do; documents per second.
async fn write_rate(target: &Target, path: &str, areas: std::ops::Range<u64>) -> anyhow::Result<f64> {
    let count = (areas.end - areas.start) * AREA_DOCUMENTS;
    let mut writers = Vec::new();
    for area in areas {
        let bodies: Vec<Vec<u8>> = country::area(area).chunks(BATCH).map(country::bulk).collect();
        writers.push((Client::open(target).await?, bodies));
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut client, bodies) in writers {
        let path = path.to_owned();
        tasks.spawn(async move {
            for body in &bodies {
                client.bytes("POST", &path, body).await?;
            }
            anyhow::Ok(())
        });
    }
    finish(tasks).await?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn set_up(admin: &mut Client) -> anyhow::Result<()> {
    admin.bytes("PUT", &format!("/{DATABASE}?scoped=true"), b"").await?;
    let security = json!({"members": {"roles": ["chw", "supervisor"]}, "admins": {"roles": ["_admin"]}});
    admin.bytes("PUT", &format!("/{DATABASE}/_security"), security.to_string().as_bytes()).await?;
    let settings = json!({"settings": {"replication_depth": [{"role": "supervisor", "depth": 2, "report_depth": 1}]}});
    admin.bytes("PUT", &format!("/{DATABASE}/settings"), settings.to_string().as_bytes()).await?;
    Ok(())
}

/// Gives areas an account each, and their health centres.
async fn enlist(admin: &mut Client, areas: impl Iterator<Item = u64>) -> anyhow::Result<()> {
    let person = |kind: &str, number: u64, role: &str| {
        let name = format!("{kind}{number}");
        json!({"_id": format!("org.couchdb.user:{name}"), "name": name, "type": "user", "roles": [role],
               "facility_id": country::id(kind, number)})
    };
    let areas: Vec<u64> = areas.collect();
    let centres: BTreeSet<u64> = areas.iter().map(|area| area / country::AREAS).collect();
    let people = areas.iter().map(|area| person("area", *area, "chw"));
    let people: Vec<Value> =
        people.chain(centres.iter().map(|centre| person("centre", *centre, "supervisor"))).collect();
    for some in people.chunks(BATCH) {
        admin.bytes("POST", "/_users/_bulk_docs", &country::bulk(some)).await?;
    }
    Ok(())
}

/// What the first pull of a place costs that was in nobody's scope until then.
async fn newly_held(target: &Target, admin: &mut Client, area: u64) -> anyhow::Result<Figures> {
    let phone = account(admin, target, &format!("late{area}"), "chw", &country::id("area", area)).await?;
    let (milliseconds, ids, _) = pull(&mut Client::open(&phone).await?, "0").await?;
    let region = country::region_of(area);
    let above = account(admin, target, &format!("region{region}"), "chw", &country::id("region", region)).await?;
    let mut above = Client::open(&above).await?;
    let (until_first_row, _, _) = pull(&mut above, "0&limit=1").await?;
    let info = above.json("GET", &format!("/{DATABASE}"), b"").await?;
    Ok(vec![
        ("area that nobody held, first ids", "ms", "", milliseconds),
        ("  its rows ", "", "", ids.len() as f64),
        ("region that nobody held, first row", "ms", "", until_first_row),
        ("  the region's documents", "", "", info["doc_count"].as_f64().unwrap_or_default()),
    ])
}

async fn account(admin: &mut Client, target: &Target, name: &str, role: &str, place: &str) -> anyhow::Result<Target> {
    let path = format!("/_users/org.couchdb.user:{name}");
    let body = json!({"name": name, "password": PASSWORD, "type": "user", "roles": [role], "facility_id": place});
    let (status, _) = admin.raw("PUT", &path, body.to_string().as_bytes()).await?;
    ensure!(matches!(status, 201 | 409), "{path} was answered with {status}");
    let own = Target::parse(&format!("http://{name}:{PASSWORD}@{}", target.host()))?;
    log_in(&own).await
}

/// Writes areas with two connections.
async fn fill(target: &Target, from: u64, to: u64) -> anyhow::Result<()> {
    let mut admin = Client::open(target).await?;
    let path: Arc<str> = format!("/{DATABASE}/_bulk_docs").into();
    for chunk in country::frame(to).chunks(BATCH) {
        admin.bytes("POST", &path, &country::bulk(chunk)).await?;
    }
    let mut tasks = JoinSet::new();
    for number in 0..2_u64 {
        let mut client = Client::open(target).await?;
        let path = Arc::clone(&path);
        tasks.spawn(async move {
            for area in (from..to).filter(|area| area % 2 == number) {
                for chunk in country::area(area).chunks(BATCH) {
                    client.bytes("POST", &path, &country::bulk(chunk)).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    finish(tasks).await?;
    Ok(())
}

type Figures = Vec<(&'static str, &'static str, &'static str, f64)>;

async fn measure(target: &Target, admin: &mut Client, areas: u64) -> anyhow::Result<Figures> {
    let chw = account(admin, target, "chw0", "chw", &country::id("area", 0)).await?;
    let supervisor = account(admin, target, "supervisor0", "supervisor", &country::id("centre", 0)).await?;
    let mut figures = first_pulls(target, admin, areas).await?;
    let mut phone = Client::open(&chw).await?;
    let (_, _, mut token) = pull(&mut phone, "0").await?;
    let (mut empty, mut twenty, mut bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..REPEATED {
        let (_, _, last) = pull(&mut phone, &token).await?;
        let began = Instant::now();
        bytes = phone.bytes("GET", &changes(&last), b"").await?.len();
        empty.push(began.elapsed());
        let patients = (0..20).map(|number| country::patient_of(0, number * 31));
        let visit = areas * 1000 + round as u64 + 10;
        let reports: Vec<Value> = patients.map(|patient| country::report(patient, visit)).collect();
        admin.bytes("POST", &format!("/{DATABASE}/_bulk_docs"), &country::bulk(&reports)).await?;
        let (milliseconds, rows, next) = pull(&mut phone, &last).await?;
        ensure!(rows.len() == 20, "a pull of 20 changes has {} rows", rows.len());
        twenty.push(Duration::from_secs_f64(milliseconds / 1000.0));
        token = next;
    }
    figures.push(("empty pull, median", "ms", "<= 1", quantile(&sorted_milliseconds(empty), 0.5)));
    figures.push(("empty pull, body", "bytes", "<= 1000", bytes as f64));
    figures.push(("pull of 20 changes, median", "ms", "<= 1", quantile(&sorted_milliseconds(twenty), 0.5)));
    let mut above = Client::open(&supervisor).await?;
    let (first, ids, token) = pull(&mut above, "0").await?;
    figures.push(("supervisor, first pull, ids", "ms", "", first));
    figures.push(("  the supervisor's rows", "", "", ids.len() as f64));
    figures.extend(moves(target, admin, areas).await?);
    figures.extend(depth_change(admin, &mut above, &token).await?);
    figures.extend(wave(target, admin, areas).await?);
    Ok(figures)
}

/// Phones that pull for the first time, in areas all over the country, nearly all of them never pulled before: the medians.
async fn first_pulls(target: &Target, admin: &mut Client, areas: u64) -> anyhow::Result<Figures> {
    let (mut times, mut rows, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=FIRST_PULLS {
        let area = areas * number / (FIRST_PULLS + 1);
        let place = country::id("area", area);
        let mut phone = Client::open(&account(admin, target, &format!("new{area}"), "chw", &place).await?).await?;
        let (milliseconds, ids, _) = pull(&mut phone, "0").await?;
        times.push(milliseconds);
        rows.push(ids.len() as f64);
        rates.push(documents(&mut phone, &ids).await?);
    }
    Ok(vec![
        ("first pull, ids", "ms", "<= 30", median(times)),
        ("  its rows", "", "", median(rows)),
        ("first pull, documents by _bulk_get", "docs/s", ">= 60000", median(rates)),
    ])
}

fn changes(token: &str) -> String {
    format!("/{DATABASE}/_changes?style=all_docs&since={token}")
}

/// A pull of ids: milliseconds, ids with revisions, the next token.
async fn pull(phone: &mut Client, token: &str) -> anyhow::Result<(f64, Vec<(String, String)>, String)> {
    let began = Instant::now();
    let answer = phone.bytes("GET", &changes(token), b"").await?;
    let elapsed = began.elapsed().as_secs_f64() * 1000.0;
    let answer: Value = serde_json::from_slice(answer)?;
    let rows = answer["results"].as_array().context("no results")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ids = rows.iter().map(|row| (text(&row["id"]), text(&row["changes"][0]["rev"]))).collect();
    Ok((elapsed, ids, text(&answer["last_seq"])))
}

/// The bodies as PouchDB asks for them, a hundred at a time.
async fn documents(phone: &mut Client, ids: &[(String, String)]) -> anyhow::Result<f64> {
    let bodies: Vec<Vec<u8>> = ids
        .chunks(100)
        .map(|chunk| {
            let wanted: Vec<Value> = chunk.iter().map(|(id, rev)| json!({"id": id, "rev": rev})).collect();
            json!({"docs": wanted}).to_string().into_bytes()
        })
        .collect();
    let began = Instant::now();
    for body in &bodies {
        phone.bytes("POST", &format!("/{DATABASE}/_bulk_get?revs=true&latest=true"), body).await?;
    }
    Ok(ids.len() as f64 / began.elapsed().as_secs_f64())
}

/// Moves a household and a whole area there and back while another account writes all the time.
async fn moves(target: &Target, admin: &mut Client, areas: u64) -> anyhow::Result<Figures> {
    let other = areas - 1;
    let (household, area) = (country::household_of(0, 7), country::id("area", 1));
    let mut figures = Vec::new();
    for (name, waits, goal, what, there, back) in [
        (
            "move of a household",
            "  others' writes waited at most",
            "",
            household,
            country::id("area", 2),
            country::id("area", 0),
        ),
        (
            "move of an area",
            "  others' writes waited at most ",
            "<= 300",
            area,
            country::id("centre", 1),
            country::id("centre", 0),
        ),
    ] {
        let path = format!("/{DATABASE}/_places/{what}/move");
        let mut spent = Vec::new();
        let mut moved = 0;
        let writing = tokio::spawn(steady_writes(target.clone(), other, areas));
        tokio::time::sleep(Duration::from_millis(200)).await;
        for to in [&there, &back, &there, &back] {
            let began = Instant::now();
            let answer = admin.json("POST", &path, json!({"to": to}).to_string().as_bytes()).await?;
            spent.push(began.elapsed());
            moved = answer["moved"].as_u64().unwrap_or_default();
        }
        figures.push((name, "ms", goal, quantile(&sorted_milliseconds(spent), 0.5)));
        figures.push((if goal.is_empty() { "  its documents" } else { "  its documents " }, "", "", moved as f64));
        figures.push((waits, "ms", if goal.is_empty() { "" } else { "<= 100" }, writing.await??));
    }
    Ok(figures)
}

/// Single writes for two seconds; the longest wait in milliseconds.
async fn steady_writes(target: Target, area: u64, salt: u64) -> anyhow::Result<f64> {
    let mut client = Client::open(&target).await?;
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let report = country::report(country::patient_of(area, number), 500_000 + salt * 100 + number);
        number += 1;
        let sent = Instant::now();
        let (status, _) = client.raw("POST", &format!("/{DATABASE}"), report.to_string().as_bytes()).await?;
        ensure!(matches!(status, 201 | 409), "a write was answered with {status}");
        longest = longest.max(sent.elapsed());
    }
    Ok(longest.as_secs_f64() * 1000.0)
}

/// Gives supervisors one level more, and takes it back.
async fn depth_change(admin: &mut Client, above: &mut Client, token: &str) -> anyhow::Result<Figures> {
    let path = format!("/{DATABASE}/settings");
    let mut token = pull(above, token).await?.2;
    let mut figures = Vec::new();
    for (name, depth) in [("pull after depth 2 → 3", 3), ("pull after depth 3 → 2, with lost rows", 2)] {
        let stored = admin.json("GET", &path, b"").await?;
        let settings = json!({"_rev": stored["_rev"], "settings": {
            "replication_depth": [{"role": "supervisor", "depth": depth, "report_depth": 1}]}});
        admin.bytes("PUT", &path, settings.to_string().as_bytes()).await?;
        let since = if depth == 2 { format!("{token}&lost=true") } else { token.clone() };
        let (milliseconds, _, next) = pull(above, &since).await?;
        figures.push((name, "ms", "", milliseconds));
        token = next;
    }
    Ok(figures)
}

/// A thousand phones that each pull 20 changes within one minute, here squeezed into as long as it takes.
async fn wave(target: &Target, admin: &mut Client, areas: u64) -> anyhow::Result<Figures> {
    const PHONES: u64 = 1_000;
    const ACCOUNTS: u64 = 20;
    let accounts = ACCOUNTS.min(areas);
    let mut sessions = Vec::new();
    for number in 0..accounts {
        let place = country::id("area", number);
        sessions.push(account(admin, target, &format!("chw{number}"), "chw", &place).await?);
    }
    let mut tokens = Vec::new();
    for (number, session) in (0..).zip(&sessions) {
        let mut phone = Client::open(session).await?;
        tokens.push(pull(&mut phone, "now").await?.2);
        let visit = 900_000 + areas;
        let reports =
            (0..20).map(|patient| country::report(country::patient_of(number, patient * 17), visit + patient));
        let reports: Vec<Value> = reports.collect();
        admin.bytes("POST", &format!("/{DATABASE}/_bulk_docs"), &country::bulk(&reports)).await?;
    }
    let gap = Duration::from_millis(60_000 / PHONES);
    let mut tasks = JoinSet::new();
    for number in 0..PHONES {
        let which = (number % accounts) as usize;
        let (session, token) = (sessions[which].clone(), tokens[which].clone());
        tasks.spawn(async move {
            tokio::time::sleep(gap * number as u32).await;
            let mut phone = Client::open(&session).await?;
            let began = Instant::now();
            let (_, rows, _) = pull(&mut phone, &token).await?;
            ensure!(rows.len() >= 20, "a phone of the wave got {} rows", rows.len());
            anyhow::Ok(began.elapsed())
        });
    }
    let delays = sorted_milliseconds(finish(tasks).await?);
    Ok(vec![
        ("1,000 phones in a minute, median", "ms", "", quantile(&delays, 0.5)),
        ("1,000 phones in a minute, p99", "ms", "<= 100", quantile(&delays, 0.99)),
    ])
}
