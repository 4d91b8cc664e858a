//! Random requests of a restricted caller, over every endpoint it can reach.
//!
//! Three kinds of requests are not made, because their answer has to depend on documents of others: a document that the
//! caller could see under an id that others hold, a contact below a foreign place with a lineage of the own area (S4),
//! and a contact with a foreign shortcode (S6).

use serde_json::{Value, json};

use super::super::encoded;
use crate::support::chance::Chance;
use crate::support::http::Request;

/// Documents that both worlds have and the caller sees, at least at times.
pub(super) const INSIDE: [&str; 18] = [
    "area-1",
    "hh-1",
    "pat-1",
    "pat-2",
    "pat-n",
    "per-chw1",
    "area-3",
    "hh-3",
    "pat-3",
    "r-0",
    "r-1",
    "r-2",
    "r-3",
    "form:visit",
    "messages-fr",
    "settings",
    "org.couchdb.user:chw1",
    "task~org.couchdb.user:chw1~1",
];

/// Documents that the caller never sees: some are in one world only, some in both with different contents.
pub(super) const OUTSIDE: [&str; 20] = [
    "reg-kivu",
    "fac-lake",
    "per-sup",
    "area-2",
    "per-chw2",
    "hh-9",
    "pat-9",
    "area-x",
    "pat-x",
    "per-float",
    "rep-out-0",
    "rep-out-1",
    "both-0",
    "both-1",
    "else-0",
    "org.couchdb.user:chw2",
    "task~org.couchdb.user:chw2~1",
    "migration-log",
    "_design/medic",
    "free-0",
];

const NOWHERE: [&str; 3] = ["nope-0", "nope-1", "_design/none"];
const ATTACHMENTS: [&str; 3] = ["note.txt", "photo", "none"];
const NOWHERE_REVISION: &str = "3-00000000000000000000000000000001";

/// A request that may hold a token of the world it is sent to, as `{since}`.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) request: Request,
    /// The id of a document that there may be afterwards and that only the caller makes.
    pub(super) creates: Option<String>,
}

impl Draft {
    fn get(path: impl AsRef<str>) -> Self {
        Self::of(Request::new("GET", path.as_ref()))
    }

    fn post(path: &str, body: &Value) -> Self {
        Self::of(Request::new("POST", path).json(body))
    }

    fn of(request: Request) -> Self {
        Self { request: request.header("Accept", "application/json"), creates: None }
    }
}

/// What requests are made of, and how they are chosen.
pub(super) struct Drafts {
    pub(super) chance: Chance,
    /// Ids that the caller made.
    pub(super) made: Vec<String>,
    fresh: u64,
}

/// Which revisions a document has, as far as a request may know.
pub(super) type Revisions<'a> = &'a dyn Fn(&str) -> Vec<String>;

impl Drafts {
    pub(super) fn new(chance: Chance) -> Self {
        Self { chance, made: Vec::new(), fresh: 0 }
    }

    fn pick(&mut self, from: &[&str]) -> String {
        self.chance.pick(from).map(|text| (*text).to_owned()).unwrap_or_default()
    }

    /// An id of any kind.
    fn id(&mut self) -> String {
        match self.chance.below(10) {
            0..=3 => self.pick(&OUTSIDE),
            4 => self.pick(&NOWHERE),
            _ => self.own(),
        }
    }

    /// An id that the caller sees, or made.
    fn own(&mut self) -> String {
        match self.chance.below(3) {
            0 if !self.made.is_empty() => self.chance.pick(&self.made).cloned().unwrap_or_default(),
            _ => self.pick(&INSIDE),
        }
    }

    fn ids(&mut self) -> Vec<String> {
        (0..1 + self.chance.below(6)).map(|_| self.id()).collect()
    }

    fn revision(&mut self, id: &str, revisions: Revisions<'_>) -> String {
        let known = revisions(id);
        match self.chance.pick(&known).filter(|_| self.fresh % 5 != 4) {
            Some(revision) => revision.clone(),
            None => NOWHERE_REVISION.to_owned(),
        }
    }

    /// Some of these query options, joined.
    fn options(&mut self, from: &[&str], percent: u64) -> String {
        let chosen: Vec<&str> = from.iter().copied().filter(|_| self.chance.percent(percent)).collect();
        chosen.join("&")
    }

    pub(super) fn next(&mut self, revisions: Revisions<'_>) -> Draft {
        self.fresh += 1;
        match self.chance.below(17) {
            0..=2 => self.read(revisions),
            3 => self.attachment(revisions),
            4 => self.put(revisions),
            5 => self.post_document(revisions),
            6 => self.delete(revisions),
            7 => self.copy(revisions),
            8 => self.bulk_get(revisions),
            9 => self.bulk_docs(revisions),
            10 => self.diff(revisions),
            11 | 12 => self.changes(),
            13 => self.all_docs(),
            14 => self.local(),
            15 => self.reconcile(),
            _ => self.other(),
        }
    }

    fn read(&mut self, revisions: Revisions<'_>) -> Draft {
        let id = self.id();
        let revision = self.revision(&id, revisions);
        let flags = [
            "revs=true",
            "revs_info=true",
            "conflicts=true",
            "deleted_conflicts=true",
            "local_seq=true",
            "meta=true",
            "attachments=true",
            "latest=true",
            "provenance=true",
            "att_encoding_info=true",
        ];
        let mut query = self.options(&flags, 15);
        query.push_str(&match self.chance.below(6) {
            0 => format!("&rev={revision}"),
            1 => "&open_revs=all".to_owned(),
            2 => format!("&open_revs={}", encoded(&json!([revision, NOWHERE_REVISION]).to_string())),
            _ => String::new(),
        });
        let method = if self.chance.percent(20) { "HEAD" } else { "GET" };
        let mut request = Request::new(method, &format!("/{}?{}", encoded(&id), query.trim_start_matches('&')));
        if self.chance.percent(15) {
            request = request.header("If-None-Match", &format!("\"{revision}\""));
        }
        if self.chance.percent(15) {
            return Draft { request, creates: None };
        }
        Draft::of(request)
    }

    fn attachment(&mut self, revisions: Revisions<'_>) -> Draft {
        let (id, name) = (self.id(), self.pick(&ATTACHMENTS));
        let revision = self.revision(&id, revisions);
        let query = if self.chance.percent(60) { format!("?rev={revision}") } else { String::new() };
        let method = self.pick(&["GET", "GET", "HEAD", "PUT", "DELETE"]);
        let request = Request::new(&method, &format!("/{}/{name}{query}", encoded(&id)));
        if method == "PUT" {
            return Draft::of(request.header("Content-Type", "text/plain").body(format!("note {}", self.fresh)));
        }
        Draft { request, creates: None }
    }

    /// A body that the caller could see under any id it may use.
    fn visible_body(&mut self) -> Value {
        let subject = self.pick(&["10001", "10001", "pat-2", "H11", "C-late"]);
        match self.chance.below(3) {
            0 => json!({"type": "person", "name": format!("Person {}", self.fresh), "parent": {"_id": "hh-1"}}),
            1 => json!({"type": "data_record", "form": "visit", "fields": {"patient_id": subject, "n": self.fresh}}),
            _ => json!({"type": "data_record", "form": "visit", "contact": {"_id": "per-chw1"}, "fields": {}}),
        }
    }

    /// A body that the caller could see nowhere, whatever others have stored.
    fn hidden_body(&mut self) -> Value {
        let foreign = self.pick(&OUTSIDE);
        match self.chance.below(8) {
            0 => json!({"v": self.fresh}),
            1 => json!({"type": "person", "name": "x", "parent": {"_id": foreign}}),
            2 => json!({"type": "person", "name": "x", "parent": foreign}),
            3 => json!({"type": "data_record", "form": "visit", "fields": {"patient_id": foreign}}),
            4 => json!({"type": "data_record", "form": "visit", "fields": {"patient_id": "10009"}}),
            5 => json!({"type": "data_record", "form": "visit", "fields": {"patient_id": "_all"}}),
            6 => json!({"type": "task", "user": "org.couchdb.user:chw2", "owner": "pat-1"}),
            _ => json!({"type": "form", "title": "x"}),
        }
    }

    /// A document for any way of writing, under an id that allows it.
    fn document(&mut self) -> Value {
        let (id, mut body) = match self.chance.below(10) {
            0..=2 => (self.pick(&OUTSIDE), self.hidden_body()),
            3 => (self.own(), self.hidden_body()),
            4..=6 => (self.own(), self.visible_body()),
            7 => (format!("late-{}", self.chance.below(3)), self.visible_body()),
            _ => (format!("new-{}", self.fresh), self.visible_body()),
        };
        body["_id"] = json!(id);
        body
    }

    fn remember(&mut self, mut draft: Draft, id: &str) -> Draft {
        draft.creates = (!OUTSIDE.contains(&id) && !INSIDE.contains(&id)).then(|| id.to_owned());
        draft
    }

    fn put(&mut self, revisions: Revisions<'_>) -> Draft {
        let mut body = self.document();
        let id = body["_id"].as_str().unwrap_or_default().to_owned();
        if self.chance.percent(70) {
            body["_rev"] = json!(self.revision(&id, revisions));
        }
        let batch = if self.chance.percent(10) { "?new_edits=false" } else { "" };
        let draft = Draft::of(Request::new("PUT", &format!("/{}{batch}", encoded(&id))).json(&body));
        self.remember(draft, &id)
    }

    fn post_document(&mut self, revisions: Revisions<'_>) -> Draft {
        let mut body = self.document();
        let id = body["_id"].as_str().unwrap_or_default().to_owned();
        if self.chance.percent(50) {
            body["_rev"] = json!(self.revision(&id, revisions));
        }
        let draft = Draft::post("", &body);
        self.remember(draft, &id)
    }

    fn delete(&mut self, revisions: Revisions<'_>) -> Draft {
        let id = if self.chance.percent(70) { self.id() } else { format!("new-{}", self.fresh / 2) };
        // The own area and household stay, or little would be left to see.
        if ["area-1", "hh-1", "pat-1"].contains(&id.as_str()) {
            return self.read(revisions);
        }
        let revision = self.revision(&id, revisions);
        let query = if self.chance.percent(85) { format!("?rev={revision}") } else { String::new() };
        Draft::of(Request::new("DELETE", &format!("/{}{query}", encoded(&id))))
    }

    fn copy(&mut self, revisions: Revisions<'_>) -> Draft {
        let (id, target) = (self.id(), format!("copy-{}", self.fresh));
        let revision = self.revision(&id, revisions);
        let query = if self.chance.percent(30) { format!("?rev={revision}") } else { String::new() };
        let request = Request::new("COPY", &format!("/{}{query}", encoded(&id))).header("Destination", &target);
        let draft = Draft::of(request);
        self.remember(draft, &target)
    }

    fn bulk_get(&mut self, revisions: Revisions<'_>) -> Draft {
        let mut asked = Vec::new();
        for id in self.ids() {
            let revision = self.revision(&id, revisions);
            asked.push(match self.chance.below(3) {
                0 => json!({"id": id, "rev": revision}),
                1 => json!({"id": id, "atts_since": [revision]}),
                _ => json!({"id": id}),
            });
        }
        let query = self.options(&["revs=true", "attachments=true", "latest=true"], 40);
        Draft::post(&format!("/_bulk_get?{query}"), &json!({"docs": asked}))
    }

    fn bulk_docs(&mut self, revisions: Revisions<'_>) -> Draft {
        let interactive = self.chance.percent(40);
        let mut documents: Vec<Value> = Vec::new();
        for _ in 0..1 + self.chance.below(5) {
            let mut document = self.document();
            let id = document["_id"].as_str().unwrap_or_default().to_owned();
            if documents.iter().any(|other| other["_id"] == document["_id"]) {
                continue;
            }
            if interactive {
                if self.chance.percent(60) {
                    document["_rev"] = json!(self.revision(&id, revisions));
                }
            } else {
                self.give_history(&mut document, &revisions(&id));
            }
            documents.push(document);
        }
        let mut made = documents.iter().filter_map(|document| document["_id"].as_str());
        let made = made.rfind(|id| !OUTSIDE.contains(id) && !INSIDE.contains(id)).map(str::to_owned);
        let mut draft = Draft::post("/_bulk_docs", &json!({"docs": documents, "new_edits": interactive}));
        draft.creates = made;
        draft
    }

    /// A revision of the caller's own making, on top of a known one or of none.
    fn give_history(&mut self, document: &mut Value, known: &[String]) {
        let hash = format!("{:032x}", u128::from(self.chance.next()));
        let parent = if self.chance.percent(70) { known.last().and_then(|rev| rev.split_once('-')) } else { None };
        let (start, ids) = match parent {
            Some((generation, tail)) => (generation.parse().unwrap_or(0) + 1, vec![hash.as_str(), tail]),
            None => (1, vec![hash.as_str()]),
        };
        document["_rev"] = json!(format!("{start}-{hash}"));
        document["_revisions"] = json!({"start": start, "ids": ids});
    }

    fn diff(&mut self, revisions: Revisions<'_>) -> Draft {
        let mut asked = json!({});
        for id in self.ids() {
            let mut listed = revisions(&id);
            listed.push(NOWHERE_REVISION.to_owned());
            asked[id] = json!(listed);
        }
        let path = self.pick(&["/_revs_diff", "/_revs_diff", "/_missing_revs"]);
        Draft::post(&path, &asked)
    }

    fn changes(&mut self) -> Draft {
        let flags = [
            "style=all_docs",
            "include_docs=true",
            "attachments=true",
            "conflicts=true",
            "lost=true",
            "lost=true",
            "descending=true",
            "seq_interval=3",
            "limit=0",
            "limit=1",
            "limit=3",
            "limit=7",
        ];
        let mut query = self.options(&flags, 20);
        query.push_str(match self.chance.below(6) {
            0 | 1 => "&since={since}",
            2 => "&since=now",
            3 => "&since=0",
            _ => "",
        });
        query.push_str(match self.chance.below(8) {
            0 => "&feed=longpoll&timeout=20",
            1 => "&feed=continuous&timeout=20",
            2 => "&feed=normal",
            _ => "",
        });
        let ids = json!(self.ids());
        let base = format!("/_changes?{query}");
        match self.chance.below(8) {
            0 => Draft::post(&format!("{base}&filter=_doc_ids"), &json!({"doc_ids": ids})),
            1 => Draft::get(format!("{base}&filter=_doc_ids&doc_ids={}", encoded(&ids.to_string()))),
            2 => Draft::get(format!("{base}&filter=_design")),
            3 => Draft::post(&format!("{base}&filter=_selector"), &json!({"selector": {"type": "person"}})),
            4 => Draft::post(&base, &json!({})),
            _ => Draft::get(base),
        }
    }

    fn all_docs(&mut self) -> Draft {
        let path = self.pick(&["/_all_docs", "/_all_docs", "/_all_docs", "/_design_docs"]);
        let flags = [
            "include_docs=true",
            "conflicts=true",
            "attachments=true",
            "update_seq=true",
            "descending=true",
            "limit=3",
            "skip=2",
            "inclusive_end=false",
        ];
        let query = self.options(&flags, 20);
        let [first, last] = [self.id(), self.id()].map(|id| encoded(&json!(id).to_string()));
        let ids = json!(self.ids());
        match self.chance.below(6) {
            0 => Draft::post(&format!("{path}?{query}"), &json!({"keys": ids})),
            1 => Draft::get(format!("{path}?{query}&keys={}", encoded(&ids.to_string()))),
            2 => Draft::get(format!("{path}?{query}&startkey={first}&endkey={last}")),
            3 => Draft::get(format!("{path}?{query}&key={first}")),
            4 => Draft::post(
                &format!("{path}/queries"),
                &json!({"queries": [{"keys": ids, "include_docs": true}, {"limit": 2, "skip": 1}, {"start_key": "p"}]}),
            ),
            _ => Draft::get(format!("{path}?{query}")),
        }
    }

    fn local(&mut self) -> Draft {
        let id = self.pick(&["mine-0", "mine-1", "theirs-0", "theirs-1"]);
        match self.chance.below(5) {
            0 => Draft::get(format!("/_local_docs?{}", self.options(&["include_docs=true", "limit=1"], 40))),
            1 => Draft::of(Request::new("DELETE", &format!("/_local/{id}"))),
            2 => Draft::of(Request::new("PUT", &format!("/_local/{id}")).json(&json!({"n": self.fresh}))),
            _ => Draft::get(format!("/_local/{id}")),
        }
    }

    fn reconcile(&mut self) -> Draft {
        let ids = self.ids();
        Draft::post("/_reconcile", &json!({"ids": ids}))
    }

    fn other(&mut self) -> Draft {
        const PATHS: [(&str, &str); 34] = [
            ("GET", ""),
            ("GET", ""),
            ("GET", ""),
            ("HEAD", ""),
            ("GET", "/_security"),
            ("PUT", "/_security"),
            ("GET", "/_revs_limit"),
            ("GET", "/_purged_infos"),
            ("GET", "/_purged_infos"),
            ("GET", "/_purged_infos_limit"),
            ("POST", "/_ensure_full_commit"),
            ("GET", "/_escrow"),
            ("GET", "/_escrow/1"),
            ("GET", "/_escrow/9999"),
            ("POST", "/_escrow/1/accept"),
            ("POST", "/_escrow/1/discard"),
            ("POST", "/_escrow/2/reassign"),
            ("POST", "/_places/hh-1/move"),
            ("POST", "/_places/hh-9/move"),
            ("POST", "/_places/nope-0/move"),
            ("POST", "/_places/hh-9/move?dry_run=true"),
            ("GET", "/_places"),
            ("POST", "/_compact"),
            ("POST", "/_view_cleanup"),
            ("POST", "/_purge"),
            ("POST", "/_find"),
            ("GET", "/_index"),
            ("GET", "/_design/medic/_info"),
            ("GET", "/_design/medic/_view/x"),
            ("GET", "/_design/none/_view/x"),
            ("GET", "/_shards"),
            ("GET", "/_custody/pat-9"),
            ("GET", "/_manifest"),
            ("DELETE", ""),
        ];
        let (method, path) = *self.chance.pick(&PATHS).unwrap_or(&PATHS[0]);
        let request = Request::new(method, path);
        match (method, path) {
            ("POST", "/_purge") => Draft::of(request.json(&json!({"hh-9": [NOWHERE_REVISION]}))),
            ("POST", path) if path.ends_with("reassign") => Draft::of(request.json(&json!({"subject": "pat-1"}))),
            ("POST", path) if path.contains("move") => Draft::of(request.json(&json!({"to": "area-1"}))),
            ("POST", "/_find") => Draft::of(request.json(&json!({"selector": {"type": "person"}}))),
            ("POST" | "PUT", _) => Draft::of(request.json(&json!({}))),
            _ => Draft::of(request),
        }
    }
}
