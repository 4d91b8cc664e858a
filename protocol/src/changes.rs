//! The changes feed: options of a request and the bytes of its rows.
//!
//! Sources: protocol page §3.2 (parameters), §3.3 (rows and framing), §3.5 (filters). Which rows there are, and when to
//! wait, is decided elsewhere.

use serde_json::Value;

use crate::document::write_revision_text;
use crate::error::{Error, Result};
use crate::query::Query;
use crate::raw_json::write_string;
use crate::revision::Revision;
use crate::selector::{Fields, Selector};
use crate::sequence::Since;

/// How a feed is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Everything there is, then the end.
    Normal,
    /// As normal, but an empty answer waits for the first row.
    Longpoll,
    /// A row per line, for ever.
    Continuous,
    /// Server-sent events.
    EventSource,
}

/// Which rows pass.
#[derive(Debug, Clone)]
pub enum Filter {
    /// All.
    None,
    /// Ids in this list (sorted).
    DocumentIds(Vec<String>),
    /// Design documents.
    Design,
    /// Documents whose body matches; `fields` projects an included document.
    Selector {
        /// The matcher.
        selector: Box<Selector>,
        /// Dotted paths to keep of `doc`.
        fields: Option<Fields>,
    },
    /// A function of a design document: needs JavaScript, which Settle does not run yet.
    Function(String),
}

/// Longest `timeout` and `heartbeat` in milliseconds (`changes_timeout`, §7.1).
pub const MAX_WAIT_MS: u64 = 60_000;

/// Everything a `_changes` request says.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "the parameters of §3.2 are independent switches")]
pub struct ChangesOptions {
    /// `feed`.
    pub feed: Feed,
    /// `since`, or `Last-Event-ID`.
    pub since: Since,
    /// `limit`: rows at most.
    pub limit: Option<u64>,
    /// `descending`: newest first, ignoring `since`.
    pub descending: bool,
    /// `include_docs`.
    pub include_docs: bool,
    /// `conflicts`: with `include_docs`, adds `_conflicts`.
    pub conflicts: bool,
    /// `attachments`: with `include_docs`, adds the bytes.
    pub attachments: bool,
    /// `style=all_docs`: all leaves instead of the winner.
    pub all_leaves: bool,
    /// End a waiting feed after this many milliseconds without a row; `None` when a heartbeat keeps it open.
    pub timeout_ms: Option<u64>,
    /// A newline at least this often.
    pub heartbeat_ms: Option<u64>,
    /// `seq` on every k-th row only.
    pub seq_interval: Option<u64>,
    /// `lost=true`: also rows for documents that went out of the caller's scope (Settle's own).
    pub lost: bool,
    /// `filter`.
    pub filter: Filter,
}

impl ChangesOptions {
    /// Reads the query, the `Last-Event-ID` header and the JSON body of a POST (`None` for GET or an empty body).
    ///
    /// # Errors
    /// `400 bad_request` with CouchDB's reasons.
    pub fn parse(query: &Query, last_event_id: Option<&str>, body: Option<&Value>) -> Result<Self> {
        let get = |name| query.get_any_case(name);
        let flag = |name| get(name) == Some("true");
        let heartbeat_ms = get("heartbeat").map(parse_heartbeat).transpose()?;
        let timeout = get("timeout").map(|text| number(text, "timeout")).transpose()?.unwrap_or(MAX_WAIT_MS);
        Ok(Self {
            feed: parse_feed(get("feed"))?,
            since: Since::parse(
                last_event_id.or_else(|| get("last-event-id")).or_else(|| get("since")).unwrap_or("0"),
            )?,
            limit: get("limit").map(|text| number(text, "limit")).transpose()?,
            descending: flag("descending"),
            include_docs: flag("include_docs"),
            conflicts: flag("conflicts"),
            attachments: flag("attachments"),
            all_leaves: match get("style") {
                None | Some("main_only") => false,
                Some("all_docs") => true,
                Some(_) => return Err(Error::bad_request("Supported `style` values: main_only, all_docs")),
            },
            timeout_ms: heartbeat_ms.is_none().then_some(timeout.min(MAX_WAIT_MS)),
            heartbeat_ms,
            seq_interval: get("seq_interval").map(|text| number(text, "seq_interval")).transpose()?.filter(|k| *k > 1),
            lost: flag("lost"),
            filter: parse_filter(query, body)?,
        })
    }
}

fn parse_feed(feed: Option<&str>) -> Result<Feed> {
    match feed {
        None | Some("normal") => Ok(Feed::Normal),
        Some("longpoll") => Ok(Feed::Longpoll),
        Some("continuous" | "live") => Ok(Feed::Continuous),
        Some("eventsource") => Ok(Feed::EventSource),
        Some(_) => {
            let reason = "Supported `feed` types: normal, continuous, live, longpoll, eventsource";
            Err(Error::bad_request(reason))
        }
    }
}

fn parse_heartbeat(text: &str) -> Result<u64> {
    match text.parse::<i64>() {
        _ if text == "true" => Ok(MAX_WAIT_MS),
        Ok(ms) if ms > 0 => Ok((ms as u64).min(MAX_WAIT_MS)),
        Ok(_) => Err(Error::bad_request("The heartbeat value should be a positive integer (in milliseconds).")),
        Err(_) => {
            let reason = "Invalid heartbeat value. Expecting a positive integer value (in milliseconds).";
            Err(Error::bad_request(reason))
        }
    }
}

fn number(text: &str, name: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::bad_request(format!("The {name} value should be a non-negative integer")))
}

fn parse_filter(query: &Query, body: Option<&Value>) -> Result<Filter> {
    let Some(filter) = query.get_any_case("filter").filter(|filter| !filter.is_empty()) else {
        return Ok(Filter::None);
    };
    match filter {
        "_doc_ids" => parse_document_ids(query, body).map(Filter::DocumentIds),
        "_design" => Ok(Filter::Design),
        "_selector" => parse_selector(body),
        "_view" => match query.get_any_case("view") {
            Some(view) => Ok(Filter::Function(format!("_view:{view}"))),
            None => Err(Error::bad_request("`view` filter parameter is not provided.")),
        },
        _ if filter.starts_with('_') => Err(Error::bad_request("unknown builtin filter name")),
        _ => match filter.split_once('/') {
            Some((design, name)) if !design.is_empty() && !name.is_empty() => Ok(Filter::Function(filter.to_owned())),
            _ => Err(Error::bad_request("`filter` must be of the form `designname/filtername`")),
        },
    }
}

fn parse_document_ids(query: &Query, body: Option<&Value>) -> Result<Vec<String>> {
    let no_list = || Error::bad_request("`doc_ids` filter parameter is not a list of doc ids.");
    let from_query = match query.get_any_case("doc_ids") {
        Some(text) if body.is_none_or(|body| body.get("doc_ids").is_none()) => {
            Some(serde_json::from_str::<Value>(text).map_err(|_| no_list())?)
        }
        _ => None,
    };
    let list = from_query.as_ref().or_else(|| body.and_then(|body| body.get("doc_ids"))).ok_or_else(no_list)?;
    let ids = list.as_array().ok_or_else(no_list)?;
    let mut ids: Vec<String> =
        ids.iter().map(|id| id.as_str().map(str::to_owned).ok_or_else(no_list)).collect::<Result<_>>()?;
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn parse_selector(body: Option<&Value>) -> Result<Filter> {
    let selector = body.and_then(|body| body.get("selector"));
    let selector = selector.ok_or_else(|| Error::bad_request("Selector must be specified in POST payload"))?;
    let selector = Selector::parse(selector).map_err(|error| Error::bad_request(error.reason()))?;
    let fields = body.and_then(|body| body.get("fields")).map(Fields::parse).transpose();
    let fields = fields.map_err(|error| Error::bad_request(error.reason()))?;
    Ok(Filter::Selector { selector: Box::new(selector), fields })
}

/// Appends `{"seq":S,"id":ID,"changes":[{"rev":R},…]` and `"deleted":true`, without the closing brace, so that `doc` can
/// follow. `seq` is the token without quotes, or nothing for `null`.
pub fn write_row_start(
    out: &mut Vec<u8>,
    seq: Option<impl FnOnce(&mut Vec<u8>)>,
    id: &str,
    revisions: impl Iterator<Item = Revision>,
    deleted: bool,
) {
    match seq {
        Some(write_token) => {
            out.extend_from_slice(b"{\"seq\":\"");
            write_token(out);
            out.extend_from_slice(b"\",\"id\":");
        }
        None => out.extend_from_slice(b"{\"seq\":null,\"id\":"),
    }
    write_string(out, id);
    out.extend_from_slice(b",\"changes\":[");
    for (at, revision) in revisions.enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"rev\":\"" } else { b"{\"rev\":\"" });
        write_revision_text(out, &revision);
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
    if deleted {
        out.extend_from_slice(b",\"deleted\":true");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(pairs: &[(&str, &str)], body: Option<Value>) -> Result<ChangesOptions> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ChangesOptions::parse(&Query::new(pairs), None, body.as_ref())
    }

    #[test]
    fn defaults_and_names_in_any_case() {
        let options = parse(&[("FEED", "longpoll"), ("Limit", "0")], None).expect("valid");
        assert_eq!((options.feed, options.limit, options.since), (Feed::Longpoll, Some(0), Since::Beginning));
        assert_eq!((options.timeout_ms, options.heartbeat_ms), (Some(60_000), None));
        let options = parse(&[("heartbeat", "true"), ("timeout", "5")], None).expect("valid");
        assert_eq!((options.timeout_ms, options.heartbeat_ms), (None, Some(60_000)));
    }

    #[test]
    fn refusals() {
        for pair in [
            ("feed", "x"),
            ("since", "5"),
            ("limit", "-1"),
            ("heartbeat", "0"),
            ("heartbeat", "false"),
            ("style", "x"),
            ("filter", "_x"),
            ("filter", "x"),
            ("filter", "_view"),
            ("filter", "_doc_ids"),
            ("filter", "_selector"),
        ] {
            assert_eq!(parse(&[pair], None).map_err(|e| e.word()).err(), Some("bad_request"), "{pair:?}");
        }
    }

    #[test]
    fn filters() {
        let ids = parse(&[("filter", "_doc_ids")], Some(json!({"doc_ids": ["b", "a", "b"]}))).expect("valid");
        assert!(matches!(ids.filter, Filter::DocumentIds(ids) if ids == ["a", "b"]));
        let ignored = parse(&[], Some(json!({"doc_ids": ["b"]}))).expect("valid");
        assert!(matches!(ignored.filter, Filter::None));
        assert!(parse(&[("filter", "_doc_ids"), ("doc_ids", "[b]")], None).is_err());
    }
}
