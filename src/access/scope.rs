//! What an account may see, and whether it sees a document (design §6.2, §6.3).
//!
//! A scope is computed from the account (places, contact, roles) and the settings of the database whenever it is needed; a
//! change of either takes a position in the log, so the scope of an account at any earlier position can be computed as
//! well. [`Scope::sees`] is the one decision behind lists, reads and pushes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use settle_protocol::sequence::Position;

use super::facts::USER_PREFIX;
use super::placement::{Anchor, Entry, Filter, Placement, Way, of_contact, of_everybody, of_unassigned, of_user};
use crate::accounts::caller::{ACCOUNT_ADMIN, AUDITOR};

/// What the settings of a database say about scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScopeSettings {
    /// `replication_depth`, without entries that do not count.
    pub depths: Vec<DepthRule>,
    /// Roles that may see records about nobody; empty while that is switched off.
    pub unassigned: Vec<String>,
    /// Roles that may write, if that is restricted.
    pub can_edit: Option<Vec<String>>,
}

/// One entry of `replication_depth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepthRule {
    /// For whom.
    pub role: String,
    /// Steps below a place; `None`: no whole number, so the role has no rule. Negative: without limit.
    pub depth: Option<i64>,
    /// The same for reports.
    pub report_depth: Option<i64>,
    /// Also the primary contacts of the places in range.
    pub primary: bool,
}

impl ScopeSettings {
    /// Reads the body of the document `settings`: its member `settings`, or the members themselves.
    #[must_use]
    pub fn of(members: &str) -> Self {
        let whole: Value = serde_json::from_str(&format!("{{{members}}}")).unwrap_or_default();
        let settings = whole.get("settings").filter(|inner| inner.is_object()).unwrap_or(&whole);
        let whole_number = |value: Option<&Value>| match value? {
            Value::Number(number) => {
                number.as_i64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))
            }
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let rules = settings.get("replication_depth").and_then(Value::as_array).into_iter().flatten();
        let depths = rules.filter_map(|rule| {
            Some(DepthRule {
                role: rule.get("role")?.as_str()?.to_owned(),
                depth: whole_number(rule.get("depth")),
                report_depth: whole_number(rule.get("report_depth")),
                primary: rule.get("replicate_primary_contacts").and_then(Value::as_bool).unwrap_or(false),
            })
        });
        let holders = |permission: &str| -> Option<Vec<String>> {
            let roles = settings.get("permissions")?.get(permission)?.as_array()?;
            Some(roles.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let switched_on = settings.get("district_admins_access_unallocated_messages").and_then(Value::as_bool);
        Self {
            depths: depths.collect(),
            unassigned: match switched_on {
                Some(true) => holders("can_view_unallocated_data_records").unwrap_or_default(),
                _ => Vec::new(),
            },
            can_edit: holders("can_edit"),
        }
    }

    /// Depth, report depth (`None`: no limit) and primary contacts for these roles: the deepest rule wins (`docs/scope.md`).
    #[must_use]
    pub fn depth_of(&self, roles: &[String]) -> (Option<u8>, Option<u8>, bool) {
        let mut best: Option<(i64, i64, bool)> = None;
        for role in roles {
            let Some(rule) = self.depths.iter().find(|rule| rule.role == *role) else { continue };
            let Some(depth) = rule.depth else { continue };
            let depth = if depth < 0 { i64::MAX } else { depth };
            let reports = rule.report_depth.filter(|depth| *depth >= 0).unwrap_or(i64::MAX);
            best = Some(match best {
                Some((deepest, more_reports, primary)) if deepest == depth => {
                    (depth, reports.max(more_reports), primary || rule.primary)
                }
                Some(deeper) if deeper.0 > depth => deeper,
                _ => (depth, reports, rule.primary),
            });
        }
        let limit = |depth: i64| u8::try_from(depth).ok().filter(|depth| *depth < u8::MAX);
        best.map_or((None, None, false), |(depth, reports, primary)| (limit(depth), limit(reports), primary))
    }
}

/// What an account says about its scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Ids of its places.
    pub places: Vec<String>,
    /// The person it acts as.
    pub contact: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Places that somebody lets it see for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<Granted>,
}

impl Member {
    /// Its places and those that were granted to it, by id, and how far below each it reaches.
    pub fn reaches<'m>(&'m self, settings: &ScopeSettings) -> impl Iterator<Item = (&'m str, Reach)> + use<'m> {
        let (depth, report_depth, primary) = settings.depth_of(&self.roles);
        let own = self
            .places
            .iter()
            .map(move |id| (id.as_str(), Reach { place: of_contact(id), depth, report_depth, primary, write: true }));
        let granted = self.granted.iter().map(|granted| {
            let reach = Reach {
                place: of_contact(&granted.place),
                depth: granted.depth,
                report_depth: granted.report_depth,
                primary: false,
                write: granted.write,
            };
            (granted.place.as_str(), reach)
        });
        own.chain(granted)
    }
}

/// A place that somebody who holds it lets another account see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Granted {
    /// The id of the place.
    pub place: String,
    /// Contacts and records down to this depth; `None`: all.
    pub depth: Option<u8>,
    /// Records down to this depth; `None`: as contacts.
    pub report_depth: Option<u8>,
    /// Also to write there.
    pub write: bool,
}

/// Roles that manage something and see no document by themselves (design §10).
pub const ADMINISTRATIVE_ROLES: [&str; 2] = [ACCOUNT_ADMIN, AUDITOR];

/// Whether these roles only manage or audit: whoever has no other sees no document of a scoped database, not even forms and
/// settings.
#[must_use]
pub fn only_manages(roles: &[String]) -> bool {
    !roles.is_empty() && roles.iter().all(|role| ADMINISTRATIVE_ROLES.contains(&role.as_str()))
}

/// A place in a scope, and how far below it the scope reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// The place.
    pub place: Anchor,
    /// Contacts down to this depth; `None`: all.
    pub depth: Option<u8>,
    /// Records down to this depth; `None`: all.
    pub report_depth: Option<u8>,
    /// Also primary contacts of places in range.
    pub primary: bool,
    /// What is in reach may be written, too.
    pub write: bool,
}

/// What an account may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The id of its user-settings.
    pub user: String,
    /// Where what belongs to the account itself is filed.
    pub own: Anchor,
    /// Its places, and those that were granted to it, in order.
    pub reaches: Vec<Reach>,
    /// The person it acts as.
    pub contact: Option<Anchor>,
    /// Records about nobody.
    pub unassigned: bool,
    /// May write at all.
    pub can_edit: bool,
    /// No document at all is in it: its account only manages.
    pub blind: bool,
}

/// One range of the feed that a scope reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Under which anchor.
    pub anchor: Anchor,
    /// In which way.
    pub way: Way,
    /// At which depth.
    pub depth: u8,
    /// Below the report depth: only reports of this author.
    pub only_author: Option<Anchor>,
}

impl Scope {
    /// The scope of an account.
    #[must_use]
    pub fn of(account: &str, member: &Member, settings: &ScopeSettings) -> Self {
        let holds = |roles: &[String]| member.roles.iter().any(|role| roles.contains(role));
        let blind = only_manages(&member.roles);
        let reaches = member.reaches(settings).map(|(_, reach)| reach);
        let mut reaches: Vec<Reach> = reaches.filter(|_| !blind).collect();
        reaches.sort_unstable();
        reaches.dedup();
        let user = format!("{USER_PREFIX}{account}");
        Self {
            own: of_user(&user),
            user,
            reaches,
            contact: member.contact.as_deref().map(of_contact),
            unassigned: holds(&settings.unassigned) && !blind,
            can_edit: settings.can_edit.as_ref().is_none_or(|roles| holds(roles)),
            blind,
        }
    }

    /// The part of it that may be written: without places that were granted to be read only.
    #[must_use]
    pub fn writable(&self) -> Self {
        let reaches = self.reaches.iter().filter(|reach| reach.write).copied().collect();
        Self { reaches, ..self.clone() }
    }

    /// Whether a place is one of its own or granted ones.
    fn holds(&self, place: &Anchor) -> bool {
        self.reaches.iter().any(|reach| reach.place == *place)
    }

    /// Whether it sees a document now, or saw it at a position.
    #[must_use]
    pub fn sees(&self, placement: &Placement, at: Option<Position>) -> bool {
        self.passes(placement.filter_at(at), &placement.entries, at)
    }

    /// As [`Scope::sees`], for a document that is not filed yet.
    #[must_use]
    pub fn passes(&self, filter: &Filter, entries: &[Entry], at: Option<Position>) -> bool {
        if self.blind {
            return false;
        }
        let (everybody, unassigned) = (of_everybody(), of_unassigned());
        let shown = entries.iter().filter(|entry| entry.way.is_shown() && entry.holds(at)).any(|entry| {
            entry.anchor == self.own
                || entry.anchor == everybody
                || (self.unassigned && entry.anchor == unassigned)
                || self.reaches(entry, filter)
        });
        shown && !self.is_hidden(filter, entries, at)
    }

    /// Whether it may have seen a document at some time before a position, by any of the filters the document had.
    #[must_use]
    pub fn saw(&self, placement: &Placement, before: Position) -> bool {
        let earlier: Vec<Entry> = placement
            .entries
            .iter()
            .filter(|entry| entry.joined < before)
            .map(|entry| Entry { left: None, ..*entry })
            .collect();
        let past = placement.past.iter().map(|(filter, _)| filter);
        past.chain([&placement.filter]).any(|filter| self.passes(filter, &earlier, None))
    }

    /// Whether an entry lies in the scope's places and depths.
    fn reaches(&self, entry: &Entry, filter: &Filter) -> bool {
        let own = filter.report && filter.author.is_some() && filter.author == self.contact;
        self.reaches.iter().any(|reach| reach.covers(&entry.anchor, entry.way, entry.depth, own))
    }

    /// Private reports (S2, S14): the subject is the account's own person, one of its places, or was once the primary
    /// contact of one, and the author is out of range.
    fn is_hidden(&self, filter: &Filter, entries: &[Entry], at: Option<Position>) -> bool {
        if !filter.private || !filter.report || filter.author.is_none() {
            return false;
        }
        let Some(subject) = filter.subject else { return false };
        let about_us = self.contact == Some(subject)
            || self.holds(&subject)
            || filter.former_of.iter().any(|place| self.holds(place));
        let is_author = |entry: &&Entry| matches!(entry.way, Way::Author | Way::AuthorPrimary) && entry.holds(at);
        about_us && !entries.iter().filter(is_author).any(|entry| self.reaches(entry, filter))
    }

    /// The ranges of the feed that hold everything in this scope. `deepest`: the deepest line in the database.
    #[must_use]
    pub fn cursors(&self, deepest: u8) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        if self.blind {
            return cursors;
        }
        let plain = |anchor, way| Cursor { anchor, way, depth: 0, only_author: None };
        cursors.push(plain(self.own, Way::Contact));
        cursors.push(plain(of_everybody(), Way::Contact));
        if self.unassigned {
            cursors.push(plain(of_unassigned(), Way::Record));
        }
        for reach in &self.reaches {
            for way in [Way::Contact, Way::Record, Way::Primary, Way::PrimaryRecord] {
                for depth in 0..=reach.depth.unwrap_or(deepest).min(deepest) {
                    let whole = reach.covers(&reach.place, way, depth, false);
                    let only_author = if whole { None } else { self.contact };
                    if whole || (only_author.is_some() && reach.covers(&reach.place, way, depth, true)) {
                        cursors.push(Cursor { anchor: reach.place, way, depth, only_author });
                    }
                }
            }
        }
        cursors.sort_unstable();
        // Where one reach reads a range whole, another one's part of it says nothing new.
        cursors.dedup_by_key(|cursor| (cursor.anchor, cursor.way, cursor.depth));
        cursors
    }

    /// Whether one of [`Scope::cursors`] is this.
    #[must_use]
    pub fn reads(&self, cursor: &Cursor) -> bool {
        if self.blind {
            return false;
        }
        let record = cursor.way.is_record();
        if cursor.anchor == of_unassigned() {
            return self.unassigned && record;
        }
        if !self.holds(&cursor.anchor) {
            return !record && (cursor.anchor == self.own || cursor.anchor == of_everybody());
        }
        let own = cursor.only_author.is_some() && cursor.only_author == self.contact;
        let Cursor { anchor, way, depth, .. } = cursor;
        way.is_shown() && self.reaches.iter().any(|reach| reach.covers(anchor, *way, *depth, own))
    }

    /// The anchors whose changes concern this scope.
    #[must_use]
    pub fn anchors(&self) -> Vec<Anchor> {
        let mut anchors = vec![self.own];
        if self.blind {
            return anchors;
        }
        anchors.push(of_everybody());
        if self.unassigned {
            anchors.push(of_unassigned());
        }
        anchors.extend(self.reaches.iter().map(|reach| reach.place));
        anchors.sort_unstable();
        anchors.dedup();
        anchors
    }
}

impl Reach {
    /// Whether what is filed under an anchor, in a way and at a depth, lies within. `own`: a report of the account's own
    /// person, for which the report depth does not count.
    fn covers(&self, anchor: &Anchor, way: Way, depth: u8, own: bool) -> bool {
        let by_way = match way {
            Way::Contact | Way::Record | Way::Author => true,
            Way::Primary | Way::PrimaryRecord | Way::AuthorPrimary => self.primary,
        };
        self.place == *anchor
            && by_way
            && self.depth.is_none_or(|limit| depth <= limit)
            && (own || !way.is_record() || self.report_depth.is_none_or(|limit| depth <= limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rules: &str) -> ScopeSettings {
        ScopeSettings::of(&format!(r#""settings":{{"replication_depth":{rules}}}"#))
    }

    fn roles(roles: &[&str]) -> Vec<String> {
        roles.iter().map(|role| (*role).to_owned()).collect()
    }

    #[test]
    fn the_deepest_rule_wins_and_brings_its_own_report_depth() {
        let rules = settings(
            r#"[{"role":"a","depth":1,"report_depth":5},{"role":"a","depth":9},{"role":"b","depth":"2","report_depth":1},
                {"role":"c","depth":2,"report_depth":"3","replicate_primary_contacts":true},{"role":"d","depth":"x"},
                {"role":"e","depth":-1,"report_depth":1},{"role":"f","depth":2.0}]"#,
        );
        for (held, expected) in [
            (&["a"][..], (Some(1), Some(5), false)),
            (&["a", "b"], (Some(2), Some(1), false)),
            (&["b", "c"], (Some(2), Some(3), true)),
            (&["d"], (None, None, false)),
            (&["a", "d", "nobody"], (Some(1), Some(5), false)),
            (&["b", "e"], (None, Some(1), false)),
            (&["f", "b"], (Some(2), None, false)),
            (&[], (None, None, false)),
        ] {
            assert_eq!(rules.depth_of(&roles(held)), expected, "{held:?}");
        }
    }

    #[test]
    fn a_scope_sees_what_its_cursors_read() {
        let granted = Granted { place: "f".into(), depth: Some(1), report_depth: Some(3), write: false };
        let member = Member {
            places: vec!["f".into()],
            contact: Some("me".into()),
            roles: roles(&["s"]),
            granted: vec![granted],
        };
        let rules = settings(r#"[{"role":"s","depth":2,"report_depth":1}]"#);
        let scope = Scope::of("ann", &member, &rules);
        for way in Way::ALL {
            for depth in 0..5 {
                for own in [false, true] {
                    let entry = Entry { anchor: of_contact("f"), way, depth, joined: 1, left: None };
                    let author = own.then(|| of_contact("me"));
                    let filter = Filter { report: true, author, ..Filter::default() };
                    let read = scope.cursors(6).iter().any(|cursor| {
                        (cursor.anchor, cursor.way, cursor.depth) == (entry.anchor, way, depth)
                            && cursor.only_author.is_none_or(|author| filter.author == Some(author))
                    });
                    assert_eq!(scope.passes(&filter, &[entry], None), read, "{way:?} {depth} {own}");
                    assert!(scope.cursors(6).iter().all(|cursor| scope.reads(cursor)));
                }
            }
        }
    }
}
