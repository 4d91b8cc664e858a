//! The real server beside the model: the steps, and what is compared after each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::plain::{Account, CAP, Closed, Device, End, JUMP, Past, Proof, WINDOW, Worth};
use crate::support::chance::Chance;
use crate::support::clock::SetClock;
use crate::support::http::connection::Feed;
use crate::support::http::{Request, Response};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, TestServer};

const DATABASE: &str = "/visits";
const SECOND_PASSWORD: &str = "another secret";
/// The people who may order a wipe.
const OPERATORS: [(&str, &str); 2] = [(ADMIN, ADMIN_PASSWORD), ("second", SECOND_PASSWORD)];
/// Devices of each account.
const DEVICES: usize = 3;
/// Logins of a device that are still tried.
const LOGINS: usize = 3;
/// Seconds for which a first person's wish for a wipe waits.
const CONFIRM: i64 = 7 * 24 * 3600;

/// A cookie.
#[derive(Debug, Clone)]
struct Login {
    cookie: String,
    epoch: usize,
}

/// A phone: what is on it, and its logins.
struct Phone {
    /// Its own name for itself.
    client: String,
    /// The server's id.
    id: String,
    model: Device,
    logins: Vec<Login>,
    /// What it holds: of each document the hashes of its revisions, the oldest first.
    held: BTreeMap<String, Vec<String>>,
    unsent: BTreeSet<(String, String)>,
    /// What it held when its manifest was complete.
    proved: Vec<(String, String)>,
    /// The open manifest.
    manifest: u64,
}

impl Phone {
    /// The newest revision of each document.
    fn leaves(&self) -> Vec<(String, String)> {
        let leaf = |(id, hashes): (&String, &Vec<String>)| Some((id.clone(), revision(hashes.len(), hashes.last()?)));
        self.held.iter().filter_map(leaf).collect()
    }
}

fn revision(generation: usize, hash: &str) -> String {
    format!("{generation}-{hash}")
}

pub(super) struct World {
    server: TestServer,
    clock: Option<SetClock>,
    ahead: i64,
    latest: i64,
    chance: Chance,
    accounts: Vec<Account>,
    phones: Vec<Phone>,
    step: u64,
    documents: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let clock = SetClock::find();
        if clock.is_none() {
            println!("libfaketime is not installed: clocks do not jump (apt-get install faketime)");
        }
        let config = format!(
            "[settle]\ndrain_seconds = {WINDOW}\ndrain_cap_seconds = {CAP}\nquiet_seconds = 1000000000\n\
             device_session_seconds = 1000000000\nretirements_alone = 0\n[admins]\nsecond = \"{SECOND_PASSWORD}\"\n"
        );
        let options = TestServer::options().config(&config);
        let server = clock.iter().fold(options, |options, clock| clock.of(options)).start();
        let account = |name: &str| Account {
            name: name.to_owned(),
            password: format!("{name} begins here"),
            epoch: 1,
            past: Vec::new(),
            closed: Closed::Open,
        };
        let mut world = Self {
            server,
            clock,
            ahead: 0,
            latest: 0,
            chance: Chance::of_seed(seed),
            accounts: vec![account("ann"), account("bob")],
            phones: Vec::new(),
            step: 0,
            documents: 0,
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        let admin = self.server.admin();
        admin.put(&format!("{DATABASE}?scoped=true"), &json!({})).expect(201);
        let security = json!({"members": {"roles": ["chw"]}});
        admin.put(&format!("{DATABASE}/_security"), &security).expect(200);
        let settings = json!({"settings": {"permissions": {"can_edit": ["chw"]}}});
        admin.put(&format!("{DATABASE}/settings"), &settings).expect(201);
        for name in ["ann", "bob"] {
            let place = json!({"type": "clinic", "name": format!("area of {name}")});
            admin.put(&format!("{DATABASE}/area-{name}"), &place).expect(201);
            let person = json!({"type": "person", "parent": {"_id": format!("area-{name}")}});
            admin.put(&format!("{DATABASE}/person-{name}"), &person).expect(201);
        }
        for (number, account) in self.accounts.iter().enumerate() {
            let (name, password) = (&account.name, &account.password);
            let user = json!({"_id": format!("org.couchdb.user:{name}"), "type": "user", "name": name,
                "password": password, "roles": ["chw"], "facility_id": format!("area-{name}")});
            admin.put(&format!("/_users/org.couchdb.user:{name}"), &user).expect(201);
            for device in 0..DEVICES {
                self.phones.push(Phone {
                    client: format!("phone-{name}-{device}"),
                    id: String::new(),
                    model: Device { account: number, ..Device::default() },
                    logins: Vec::new(),
                    held: BTreeMap::new(),
                    unsent: BTreeSet::new(),
                    proved: Vec::new(),
                    manifest: 0,
                });
            }
        }
        for phone in 0..self.phones.len() {
            let password = self.account_of(phone).password.clone();
            self.log_in(phone, &password);
        }
    }

    /// Now, by the server's clock, which never goes back.
    fn now(&mut self) -> i64 {
        let real = UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        self.latest = self.latest.max(i64::try_from(real).expect("before the end of time") + self.ahead);
        self.latest
    }

    fn account_of(&self, phone: usize) -> &Account {
        &self.accounts[self.phones[phone].model.account]
    }

    fn worth(&mut self, phone: usize, epoch: usize) -> Worth {
        let now = self.now();
        self.phones[phone].model.worth(self.account_of(phone), epoch, now)
    }

    fn send(&self, login: &Login, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = Request::new(method, path).header("Cookie", &login.cookie);
        self.server.anonymous().send(&match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// A login of a phone calls: that begins the window of what was withdrawn.
    fn calls(&mut self, phone: usize, epoch: usize) {
        let now = self.now();
        let account = self.account_of(phone).clone();
        self.phones[phone].model.calls(&account, epoch, now);
    }

    fn pick_login(&mut self, phone: usize) -> Option<Login> {
        let logins = self.phones[phone].logins.clone();
        self.chance.pick(&logins).cloned()
    }

    pub(super) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step += 1;
            self.set_clock(self.ahead + 2); // no two steps in the same second
            let phone = usize::try_from(self.chance.below(self.phones.len() as u64)).expect("an index");
            let what = self.chance.below(100);
            println!("step {}: {what} phone {phone}", self.step);
            match what {
                0..20 => self.edit(phone),
                20..38 => self.push(phone),
                38..45 => self.pull(phone),
                45..62 => self.send_manifest(phone),
                62..73 => self.log_in_again(phone),
                73..84 => self.withdraw(phone),
                84..91 => self.wipe(phone),
                91..96 => self.jump(),
                96..98 => self.server.kill9(),
                _ => self.server.restart(),
            }
            if what >= 96 {
                self.server.restart_if_stopped();
            }
            self.compare();
        }
        let seen: BTreeSet<&str> = self.phones.iter().map(|phone| self.worth_word(phone)).collect();
        println!("at the end the phones are {seen:?}");
    }

    fn worth_word(&self, phone: &Phone) -> &'static str {
        let account = &self.accounts[phone.model.account];
        phone.model.worth(account, phone.model.epoch, self.latest).word()
    }

    /// The phone writes a document, sometimes about somebody of another area, and keeps it.
    fn edit(&mut self, phone: usize) {
        let known: Vec<String> = self.phones[phone].held.keys().cloned().collect();
        let known = self.chance.pick(&known).cloned().filter(|_| self.chance.percent(30));
        let hash = format!("{:016x}{:016x}", self.chance.next(), self.chance.next());
        let id = known.unwrap_or_else(|| {
            self.documents += 1;
            format!("visit-{}", self.documents)
        });
        let phone = &mut self.phones[phone];
        let hashes = phone.held.entry(id.clone()).or_default();
        hashes.push(hash);
        let newest = revision(hashes.len(), &hashes[hashes.len() - 1]);
        phone.unsent.retain(|(known, _)| *known != id);
        phone.unsent.insert((id, newest));
    }

    fn document(&self, phone: usize, id: &str) -> Value {
        let owner = &self.account_of(phone).name;
        // Whom it is about follows from the document's number, so that every revision says the same.
        let number: u64 = id.rsplit('-').next().and_then(|text| text.parse().ok()).expect("a number");
        let other = if owner == "ann" { "bob" } else { "ann" };
        let about = if number.is_multiple_of(5) { other } else { owner };
        let hashes = &self.phones[phone].held[id];
        let newest: Vec<&String> = hashes.iter().rev().collect();
        json!({"_id": id, "_rev": revision(hashes.len(), newest[0]), "type": "data_record", "form": "visit",
            "_revisions": {"start": hashes.len(), "ids": newest}, "number": number,
            "fields": {"patient_id": format!("person-{about}")}})
    }

    fn push(&mut self, phone: usize) {
        let Some(login) = self.pick_login(phone) else { return };
        let worth = self.worth(phone, login.epoch);
        let unsent: Vec<(String, String)> = self.phones[phone].unsent.iter().cloned().collect();
        let some: Vec<&(String, String)> = unsent.iter().filter(|_| self.chance.percent(70)).collect();
        let single = !some.is_empty() && self.chance.percent(30);
        let answers: Vec<(Response, Vec<(String, String)>)> = if single {
            let one = |(id, rev): &&(String, String)| {
                let path = format!("{DATABASE}/{id}?new_edits=false");
                let answer = self.send(&login, "PUT", &path, Some(&self.document(phone, id)));
                (answer, vec![(id.clone(), rev.clone())])
            };
            some.iter().map(one).collect()
        } else {
            let documents: Vec<Value> = some.iter().map(|(id, _)| self.document(phone, id)).collect();
            let body = json!({"new_edits": false, "docs": documents});
            let answer = self.send(&login, "POST", &format!("{DATABASE}/_bulk_docs"), Some(&body));
            vec![(answer, some.into_iter().cloned().collect())]
        };
        for (answer, sent) in answers {
            let text = answer.text();
            if worth.pushes() {
                assert_eq!(answer.status, 201, "{worth:?} may push: {text}");
                assert!(single || text.trim() == "[]", "{text}");
                self.phones[phone].unsent.retain(|one| !sent.contains(one));
            } else {
                assert_eq!((answer.status, reason(&answer)), (401, worth.word().to_owned()), "{text}");
            }
        }
        self.calls(phone, login.epoch);
    }

    fn pull(&mut self, phone: usize) {
        let Some(login) = self.pick_login(phone) else { return };
        let worth = self.worth(phone, login.epoch);
        let path = format!("{DATABASE}/_changes?since=0&include_docs=true");
        let answer = self.send(&login, "GET", &path, None);
        let rows = || answer.json()["results"].as_array().map(Vec::len);
        match worth {
            Worth::Active => assert!(answer.status == 200 && rows() > Some(0), "{}", answer.text()),
            Worth::Draining => assert!(answer.status == 200 && rows() == Some(0), "{}", answer.text()),
            _ => assert_eq!((answer.status, reason(&answer)), (401, worth.word().to_owned())),
        }
        self.calls(phone, login.epoch);
    }

    /// Everything the phone holds, in two parts, with a crash between them now and then.
    fn send_manifest(&mut self, phone: usize) {
        let Some(login) = self.pick_login(phone) else { return };
        self.phones[phone].manifest += 1;
        let name = format!("m{}", self.phones[phone].manifest);
        let mut parts: [BTreeMap<String, Vec<String>>; 2] = Default::default();
        let leaves = self.phones[phone].leaves();
        for (id, rev) in leaves.clone() {
            let part = usize::from(self.chance.percent(50));
            parts[part].entry(id).or_default().push(rev);
        }
        let unsent = self.phones[phone].unsent.clone();
        for (number, part) in parts.into_iter().enumerate() {
            let last = number == 1;
            let worth = self.worth(phone, login.epoch);
            let mut body = json!({"manifest": name, "revs": part, "final": last});
            if last {
                body["total"] = leaves.len().into();
            }
            let answer = self.send(&login, "POST", &format!("{DATABASE}/_manifest"), Some(&body));
            self.calls(phone, login.epoch);
            if !worth.pushes() {
                assert_eq!((answer.status, reason(&answer)), (401, worth.word().to_owned()), "{}", answer.text());
                return;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = answer.json();
            let asked: BTreeSet<(String, String)> = match last {
                true => leaves.iter().cloned().collect(),
                false => pairs(&json!(part)),
            };
            let missing: BTreeSet<(String, String)> = asked.intersection(&unsent).cloned().collect();
            assert_eq!(pairs(&answer["missing"]), missing, "{answer}");
            assert_eq!(answer["receipt"].is_object(), last && missing.is_empty(), "{answer}");
            if answer["receipt"].is_object() && worth == Worth::Draining {
                self.phones[phone].model.proof = Some((Proof::Manifest, login.epoch));
                self.phones[phone].proved = leaves.clone();
            }
            if !last && self.chance.percent(10) {
                self.server.kill9();
                self.server.restart_if_stopped();
            }
        }
        self.check_proved(phone);
    }

    /// What was held when the manifest was complete is in the database or in escrow.
    fn check_proved(&self, phone: usize) {
        let proved = &self.phones[phone].proved;
        if proved.is_empty() {
            return;
        }
        let escrow = self.server.admin().get(&format!("{DATABASE}/_escrow")).expect(200).json();
        let escrowed = escrow["rows"].as_array().into_iter().flatten();
        let escrowed: BTreeSet<(String, String)> = escrowed.map(|row| (text(&row["id"]), text(&row["rev"]))).collect();
        for (id, rev) in proved {
            let stored = self.server.admin().get(&format!("{DATABASE}/{id}?rev={rev}")).status == 200;
            assert!(stored || escrowed.contains(&(id.clone(), rev.clone())), "{id} {rev} was proved and is gone");
        }
    }

    fn log_in_again(&mut self, phone: usize) {
        let account = self.account_of(phone).clone();
        let former = account.past.last().map(|past| past.password.clone());
        let password = former.filter(|_| self.chance.percent(25)).unwrap_or(account.password);
        self.log_in(phone, &password);
    }

    /// The epoch that a password belongs to: the present one first, then the newest three.
    fn epoch_of(account: &Account, password: &str) -> Option<usize> {
        let present = (account.is_open() && account.password == password).then_some(account.epoch);
        let room = if account.is_open() { 3 } else { 4 };
        let mut former = account.past.iter().rev().take(room);
        let of_former = |past: &Past| past.epoch;
        present.or_else(|| former.find(|past| past.password == password).map(of_former))
    }

    fn log_in(&mut self, phone: usize, password: &str) {
        let account = self.account_of(phone).clone();
        let Some(epoch) = Self::epoch_of(&account, password) else { return };
        let worth = self.worth(phone, epoch);
        let client = &self.phones[phone].client;
        let body = json!({"name": account.name, "password": password, "device": {"id": client, "name": "a phone"}});
        let answer = self.server.anonymous().post("/_session", &body);
        if matches!(worth, Worth::Retired | Worth::Cut) {
            assert_eq!((answer.status, reason(&answer)), (401, worth.word().to_owned()), "{}", answer.text());
            return;
        }
        assert_eq!(answer.status, 200, "{worth:?}: {}", answer.text());
        let cookie = answer.cookie().expect("a cookie");
        let answer = answer.json();
        assert_eq!(answer["device"]["standing"], worth.word(), "{answer}");
        let phone_of = &mut self.phones[phone];
        phone_of.id = text(&answer["device"]["id"]);
        phone_of.logins.push(Login { cookie, epoch });
        if phone_of.logins.len() > LOGINS {
            phone_of.logins.remove(0);
        }
        if worth == Worth::Active {
            let model = &mut phone_of.model;
            (model.epoch, model.proof, model.contact) = (epoch, None, 0);
            (model.asked, model.order, model.reported) = (None, None, false);
            phone_of.proved.clear();
        }
        self.calls(phone, epoch);
    }

    fn withdraw(&mut self, phone: usize) {
        let (number, device) = (self.phones[phone].model.account, self.phones[phone].id.clone());
        let name = self.accounts[number].name.clone();
        let feed = self.open_feed(phone);
        let immediate = self.chance.percent(20);
        let query = if immediate { "?drain=none" } else { "" };
        let admin = self.server.admin();
        let what = self.chance.below(100);
        let end = End { at: self.now(), immediate };
        let answer = match what {
            0..45 => {
                let password = format!("{name} number {}", self.accounts[number].epoch);
                if self.chance.percent(50) {
                    let path = format!("/_users/org.couchdb.user:{name}");
                    let mut user = admin.get(&path).expect(200).json();
                    user["password"] = password.as_str().into();
                    let answer = admin.put(&format!("{path}{query}"), &user);
                    assert_eq!(answer.status, 201, "{}", answer.text());
                } else {
                    let path = format!("/_accounts/{name}/password{query}");
                    admin.post(&path, &json!({"password": password})).expect(200);
                }
                let account = &mut self.accounts[number];
                let was_open = account.is_open();
                match was_open {
                    true => account.end_epoch(end),
                    // What was set while it was closed was never good for a login: it leaves nothing behind.
                    false => account.epoch += 1,
                }
                if immediate {
                    account.end_all_at_once();
                }
                account.password = password;
                println!("  password of {name}, open {was_open}, immediate {immediate}");
                return self.no_more_from(feed, phone);
            }
            45..60 if self.accounts[number].closed == Closed::Open => {
                println!("  disable {name}, immediate {immediate}");
                self.accounts[number].end_epoch(end);
                self.accounts[number].closed = Closed::Disabled;
                admin.post(&format!("/_accounts/{name}/disable{query}"), &json!({}))
            }
            45..75 if self.accounts[number].closed == Closed::Disabled => {
                println!("  enable {name}");
                self.accounts[number].closed = Closed::Open;
                admin.post(&format!("/_accounts/{name}/enable"), &json!({}))
            }
            60..90 => {
                println!("  retire device {phone}, immediate {immediate}");
                let model = &mut self.phones[phone].model;
                match &mut model.end {
                    Some(end) => end.immediate |= immediate && !model.cut,
                    none if !model.cut => *none = Some(end),
                    _ => {}
                }
                admin.post(&format!("/_devices/{device}/retire{query}"), &json!({}))
            }
            90..97 => {
                println!("  cut device {phone}");
                self.phones[phone].model.cut = true;
                admin.post(&format!("/_devices/{device}/cut"), &json!({"reason": "lost"}))
            }
            _ if self.step > 100 && self.accounts[number].closed != Closed::Retired => {
                println!("  retire {name}, immediate {immediate}");
                let account = &mut self.accounts[number];
                match account.closed {
                    Closed::Open => account.end_epoch(end),
                    _ if immediate => account.end_all_at_once(),
                    _ => {}
                }
                account.closed = Closed::Retired;
                admin.post(&format!("/_accounts/{name}/retire{query}"), &json!({}))
            }
            _ => return,
        };
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.no_more_from(feed, phone);
    }

    /// A feed of an active login, open before the withdrawal.
    fn open_feed(&mut self, phone: usize) -> Option<(Feed, Login)> {
        let login = self.pick_login(phone)?;
        let active = self.worth(phone, login.epoch) == Worth::Active && self.chance.percent(40);
        active.then(|| {
            let path = format!("{DATABASE}/_changes?feed=continuous&since=now&heartbeat=500");
            let request = Request::new("GET", &path).header("Cookie", &login.cookie);
            let mut feed = self.server.anonymous().open_feed(&request);
            feed.next_line(Duration::from_secs(20)).expect("a heartbeat");
            self.calls(phone, login.epoch);
            (feed, login)
        })
    }

    /// After the commit of a withdrawal no document comes through a feed that was open, and the feed ends.
    fn no_more_from(&mut self, feed: Option<(Feed, Login)>, phone: usize) {
        let Some((mut feed, login)) = feed else { return };
        if self.worth(phone, login.epoch) == Worth::Active {
            return;
        }
        self.documents += 1;
        let (id, owner) = (format!("late-{}", self.documents), &self.account_of(phone).name);
        let late = json!({"type": "data_record", "form": "x", "fields": {"patient_id": format!("person-{owner}")}});
        self.server.admin().put(&format!("{DATABASE}/{id}"), &late).expect(201);
        loop {
            match feed.next_line(Duration::from_secs(20)) {
                Ok(Some(line)) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    assert!(!line.contains("\"changes\""), "a withdrawn login was told {line}");
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(error.kind() != std::io::ErrorKind::TimedOut, "the feed goes on");
                    break;
                }
            }
        }
    }

    fn wipe(&mut self, phone: usize) {
        if self.phones[phone].model.reported {
            return;
        }
        if let Some(order) = self.phones[phone].model.order.clone().filter(|_| self.chance.percent(30)) {
            return self.report(phone, &order);
        }
        let (who, overrides) = (usize::from(self.chance.percent(50)), self.chance.percent(50));
        let now = self.now();
        let account = self.account_of(phone).clone();
        let path = format!("/_devices/{}/wipe", self.phones[phone].id);
        let body = if overrides { json!({"override": {"reason": "it fell into the lake"}}) } else { json!({}) };
        let (name, password) = OPERATORS[who];
        let answer = self.server.client_as(name, password).post(&path, &body);
        let model = &mut self.phones[phone].model;
        let asked = model.asked.filter(|(_, at)| now <= at + CONFIRM);
        let wanted = if model.order.is_some() {
            200
        } else if !model.ended_for_good(&account) {
            409
        } else if model.proof_for(model.epoch).is_some() {
            200
        } else {
            match (overrides, asked) {
                (false, _) => 409,
                (true, None) => 202,
                (true, Some((first, _))) if first == who => 409,
                (true, Some(_)) => {
                    model.proof = Some((Proof::Overridden, model.epoch));
                    200
                }
            }
        };
        assert_eq!(answer.status, wanted, "{}", answer.text());
        match wanted {
            200 => model.order = Some(text(&answer.json()["order"])),
            202 => model.asked = Some((who, now)),
            _ => {}
        }
        if wanted == 200 {
            let proof = model.proof_for(model.epoch).expect("no wipe without proof or two people");
            if proof == Proof::Manifest {
                self.check_proved(phone);
            }
        }
    }

    fn report(&mut self, phone: usize, order: &str) {
        let Some(login) = self.pick_login(phone) else { return };
        let wrong = self.send(&login, "POST", "/_device/wipe_reported", Some(&json!({"order": "another"})));
        assert_eq!(wrong.status, 409, "{}", wrong.text());
        let body = json!({"order": order, "erased": ["visits"]});
        let answer = self.send(&login, "POST", "/_device/wipe_reported", Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.calls(phone, login.epoch);
        self.phones[phone].model.reported = true;
    }

    fn set_clock(&mut self, ahead: i64) {
        if let Some(clock) = &self.clock {
            self.ahead = ahead;
            clock.set(ahead);
        }
    }

    /// The system's clock jumps; back is not believed.
    fn jump(&mut self) {
        let to = if self.chance.percent(30) { self.ahead - 2 * JUMP } else { self.ahead + JUMP };
        println!("  the clock goes to {to:+}");
        self.now();
        if to < self.ahead {
            // Back, a look, and forth again: nothing may have come alive in between.
            let before = self.ahead;
            self.set_clock(to);
            self.compare();
            self.set_clock(before);
        } else {
            self.set_clock(to);
        }
    }

    /// The server says of some logins what the model says; the rest did not call.
    fn compare(&mut self) {
        for phone in 0..self.phones.len() {
            if self.chance.percent(40) {
                continue; // it is offline
            }
            for login in self.phones[phone].logins.clone() {
                self.compare_login(phone, &login);
            }
            if self.chance.percent(10) {
                self.check_proved(phone);
            }
        }
        // Whatever was noted on the way is durable when this is.
        let path = format!("{DATABASE}/_local/step-{}", self.step);
        self.server.admin().put(&path, &json!({})).expect(201);
    }

    fn compare_login(&mut self, phone: usize, login: &Login) {
        let worth = self.worth(phone, login.epoch);
        let said = self.send(login, "GET", "/_device", None);
        assert_eq!(said.status, 200, "{}", said.text());
        let said = said.json();
        let context = format!("phone {phone}, epoch {}, {:?}: {said}", login.epoch, self.phones[phone].model);
        assert_eq!(said["standing"], worth.word(), "{context}");
        assert_eq!(said["push_until"].is_u64(), worth == Worth::Draining, "{context}");
        let ordered = self.phones[phone].model.order.is_some() && !self.phones[phone].model.reported;
        if !self.phones[phone].model.reported {
            assert_eq!(said["next"] == "wipe", ordered, "{context}");
        }
        let area = format!("{DATABASE}/area-{}", self.account_of(phone).name);
        let read = self.send(login, "GET", &area, None);
        let wanted = match worth {
            Worth::Active => (200, String::new()),
            Worth::Draining => (403, "draining".to_owned()),
            other => (401, other.word().to_owned()),
        };
        assert_eq!((read.status, reason(&read)), wanted, "{context}");
        let all = format!("{DATABASE}/_all_docs");
        assert_eq!(self.send(login, "GET", &all, None).status, wanted.0, "{context}");
        let diff = self.send(login, "POST", &format!("{DATABASE}/_revs_diff"), Some(&json!({"x": ["1-aa"]})));
        assert_eq!(diff.status == 200, worth.pushes(), "{context}: {}", diff.text());
        if worth != Worth::Active {
            let edit = self.send(login, "PUT", &format!("{DATABASE}/edit"), Some(&json!({"type": "data_record"})));
            assert_eq!((edit.status, reason(&edit)), wanted, "{context}");
        }
        self.calls(phone, login.epoch);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn reason(answer: &Response) -> String {
    match answer.status {
        200..300 => String::new(),
        _ => text(&answer.json()["reason"]),
    }
}

/// Documents and revisions out of `{"id": ["rev", …]}`.
fn pairs(value: &Value) -> BTreeSet<(String, String)> {
    let documents = value.as_object().into_iter().flatten();
    let of_document = |(id, revs): (&String, &Value)| {
        let revs = revs.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        revs.into_iter().map(|rev| (id.clone(), rev)).collect::<Vec<_>>()
    };
    documents.flat_map(of_document).collect()
}
