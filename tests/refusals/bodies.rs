//! Bodies that are no JSON, JSON of the wrong type, and JSON nested beyond reason.

use super::{NO_JSON, Refusals};
use crate::support::http::Request;

/// Every endpoint that reads JSON, below `/refusals` unless it begins with `!`.
const ENDPOINTS: [(&str, &str); 19] = [
    ("POST", ""),
    ("POST", "/_bulk_docs"),
    ("POST", "/_bulk_get"),
    ("POST", "/_revs_diff"),
    ("POST", "/_missing_revs"),
    ("POST", "/_purge"),
    ("POST", "/_changes"),
    ("POST", "/_all_docs"),
    ("POST", "/_all_docs/queries"),
    ("POST", "/_design_docs"),
    ("POST", "/_design_docs/queries"),
    ("POST", "/_local_docs"),
    ("POST", "/_local_docs/queries"),
    ("PUT", "/new"),
    ("PUT", "/_design/new"),
    ("PUT", "/_local/new"),
    ("PUT", "/_security"),
    ("POST", "!/_dbs_info"),
    ("PUT", "!/_node/_local/_config/refusals/key"),
];

fn full(path: &str) -> String {
    path.strip_prefix('!').map_or_else(|| format!("/refusals{path}"), str::to_owned)
}

#[test]
fn a_body_that_is_no_json_is_refused_everywhere() {
    let mut refusals = Refusals::start();
    const BROKEN: [&[u8]; 10] = [
        b"{",
        b"nope",
        b"{\"a\":}",
        b"{} x",
        b"{}{}",
        b"{a:1}",
        b"[1,]",
        b"{\"a\":\"\xff\xfe\"}",
        b"{\"a\":[\"\x01\"]}",
        b"\xef\xbb\xbf{}",
    ];
    for (method, path) in ENDPOINTS {
        for body in BROKEN {
            let request = Request::new(method, &full(path)).header("Content-Type", "application/json").body(body);
            refusals.refused(&request, NO_JSON);
        }
    }
    for body in BROKEN {
        let request = Request::new("POST", "/_session").header("Content-Type", "application/json").body(body);
        refusals.refused(&request, NO_JSON);
        let limit = Request::new("PUT", "/refusals/_revs_limit").body(body);
        refusals.refused(&limit, (400, "bad_request", "The limit must be a positive whole number"));
    }
    refusals.finish();
}

#[test]
fn a_body_without_a_json_type_is_refused_where_couchdb_asks_for_one() {
    let mut refusals = Refusals::start();
    let wanted = (415, "bad_content_type", "Content-Type must be application/json");
    for (method, path) in ENDPOINTS.iter().filter(|(method, _)| *method == "POST") {
        for kind in ["text/plain", "application/jsonx", ""] {
            refusals.refused(&Request::new(method, &full(path)).header("Content-Type", kind).body("{}"), wanted);
        }
    }
    refusals.finish();
}

#[test]
fn json_of_the_wrong_type_is_refused() {
    let mut refusals = Refusals::start();
    const OBJECT: &str = "Request body must be a JSON object";
    for (path, body, reason) in [
        ("/_bulk_docs", "[]", OBJECT),
        ("/_bulk_docs", "{}", "POST body must include `docs` parameter."),
        ("/_bulk_docs", r#"{"docs":{}}"#, "`docs` parameter must be an array."),
        ("/_bulk_docs", r#"{"docs":null}"#, "`docs` parameter must be an array."),
        ("/_bulk_docs", r#"{"docs":[{"_id":"n"},1]}"#, "Document must be a JSON object"),
        ("/_bulk_docs", r#"{"docs":[{"_id":"n"}],"new_edits":"no"}"#, "`new_edits` parameter must be a boolean."),
        ("/_bulk_docs", r#"{"docs":[{"_id":"n"},{"_id":"m","_rev":5}]}"#, "Invalid rev format"),
        ("/_bulk_get", "[]", OBJECT),
        ("/_bulk_get", "{}", "Missing JSON list of 'docs'."),
        ("/_bulk_get", r#"{"docs":"a"}"#, "Missing JSON list of 'docs'."),
        ("/_revs_diff", "[]", OBJECT),
        ("/_revs_diff", r#"{"a":"1-a"}"#, "Invalid list of revisions"),
        ("/_revs_diff", r#"{"a":[1]}"#, "Invalid rev format"),
        ("/_missing_revs", r#"{"a":{}}"#, "Invalid list of revisions"),
        ("/_purge", r#"{"a":["x"]}"#, "Invalid rev format"),
        ("/_purge", r#"{"a":null}"#, "Invalid list of revisions"),
        ("/_all_docs", "[]", OBJECT),
        ("/_all_docs", r#"{"keys":"a"}"#, "`keys` body member must be an array."),
        ("/_all_docs/queries", "{}", "POST body must include `queries` parameter."),
        ("/_all_docs/queries", r#"{"queries":{}}"#, "`queries` parameter must be an array."),
        ("/_all_docs/queries", r#"{"queries":[1]}"#, "`queries` must hold objects"),
        ("/_local_docs", r#"{"keys":{}}"#, "`keys` body member must be an array."),
        ("/_changes", "[]", OBJECT),
        ("/_changes?filter=_doc_ids", r#"{"doc_ids":"a"}"#, "`doc_ids` filter parameter is not a list of doc ids."),
        ("/_changes?filter=_selector", "{}", "Selector must be specified in POST payload"),
        ("", "[]", "Document must be a JSON object"),
    ] {
        refusals.json("POST", &full(path), body, (400, "bad_request", reason));
    }
    for (body, reason) in [("{}", "`keys` member must exist."), (r#"{"keys":5}"#, "`keys` member must be an array.")] {
        refusals.json("POST", "/_dbs_info", body, (400, "bad_request", reason));
    }
    refusals.json("PUT", "/refusals/_security", "[]", (400, "bad_request", OBJECT));
    refusals.json("PUT", "/_node/_local/_config/a/b", "5", (400, "bad_request", "a JSON string expected"));
    for body in ["0", "-1", "1.5", "\"1\"", "4294967296", "{}"] {
        let wanted = (400, "bad_request", "The limit must be a positive whole number");
        refusals.json("PUT", "/refusals/_revs_limit", body, wanted);
        refusals.json("PUT", "/refusals/_purged_infos_limit", body, wanted);
    }
    refusals.finish();
}

#[test]
fn reserved_members_of_the_wrong_type_are_refused_on_every_way_in() {
    let mut refusals = Refusals::start();
    for (members, word, reason) in [
        (r#""_id":5"#, "illegal_docid", "Document id must be a string"),
        (r#""_rev":5"#, "bad_request", "Invalid rev format"),
        (r#""_rev":"1""#, "bad_request", "Invalid rev format"),
        (r#""_deleted":"true""#, "doc_validation", "Bad special document member: _deleted"),
        (r#""_attachments":[]"#, "doc_validation", "Bad special document member: _attachments"),
        (r#""_attachments":{"x":5}"#, "bad_request", "Invalid attachment data for x"),
        (r#""_attachments":{"x":{}}"#, "bad_request", "Invalid attachment data for x"),
        (r#""_attachments":{"x":{"data":5}}"#, "bad_request", "Invalid attachment data for x"),
        (r#""_attachments":{"x":{"data":"a"}}"#, "bad_request", "Invalid attachment data for x"),
        (r#""_attachments":{"":{"data":""}}"#, "bad_request", "Attachment name is empty"),
        (
            r#""_attachments":{"_x":{"data":""}}"#,
            "bad_request",
            "Attachment name '_x' starts with prohibited character '_'",
        ),
        (r#""_revisions":[]"#, "doc_validation", "Bad special document member: _revisions"),
        (r#""_revisions":{"ids":[]}"#, "doc_validation", "_revisions.start isn't an integer."),
        (r#""_revisions":{"start":1}"#, "doc_validation", "_revisions.ids isn't a array."),
        (r#""_revisions":{"start":1,"ids":[1]}"#, "doc_validation", "RevId isn't a string"),
        (r#""_nosuch":1"#, "doc_validation", "Bad special document member: _nosuch"),
        (r#""\u005fnosuch":1"#, "doc_validation", "Bad special document member: _nosuch"),
    ] {
        let wanted = (400, word, reason);
        refusals.json("POST", "/refusals", &format!("{{{members}}}"), wanted);
        refusals.json("PUT", "/refusals/new", &format!("{{{members}}}"), wanted);
        let among_good = format!(r#"{{"docs":[{{"_id":"good"}},{{{members}}}]}}"#);
        refusals.json("POST", "/refusals/_bulk_docs", &among_good, wanted);
    }
    let follows = r#"{"_id":"n","_attachments":{"x":{"follows":true,"length":3}}}"#;
    let reason = "Attachment x follows, but this is no multipart request";
    refusals.json("PUT", "/refusals/n", follows, (400, "bad_request", reason));
    refusals.json("POST", "/refusals/_bulk_docs", &format!(r#"{{"docs":[{follows}]}}"#), (400, "bad_request", reason));
    refusals.finish();
}

#[test]
fn json_nested_beyond_reason_is_refused() {
    let mut refusals = Refusals::start();
    let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let wanted = (400, "bad_request", "JSON is nested too deeply");
    refusals.json("PUT", "/refusals/new", &nested(513), wanted);
    refusals.json("POST", "/refusals", &nested(513), wanted);
    refusals.json("POST", "/refusals/_bulk_docs", &format!(r#"{{"docs":[{}]}}"#, nested(513)), wanted);
    let endless = "[".repeat(3_000_000);
    refusals.json("PUT", "/refusals/new", &format!("{{\"a\":{endless}"), wanted);
    refusals.json("POST", "/refusals/_bulk_docs", &format!("{{\"docs\":{endless}"), wanted);
    refusals.json(
        "POST",
        "/refusals/_revs_diff",
        &format!("{{\"a\":[{endless}"),
        (400, "bad_request", "Invalid rev format"),
    );
    // Bodies that set something are read by another parser, and may be 1 MiB.
    for (method, path) in [("POST", "/_changes"), ("POST", "/_all_docs"), ("PUT", "/_security")] {
        refusals.json(method, &full(path), &format!("{{\"a\":{}", &endless[..900_000]), NO_JSON);
    }
    let selector = format!(r#"{{"selector":{}{{}}{}}}"#, r#"{"$not":"#.repeat(120), "}".repeat(120));
    let request =
        Request::new("POST", "/refusals/_changes?filter=_selector").header("Content-Type", "application/json");
    let status = refusals.admin.send(&request.body(selector)).status;
    refusals.check(&format!("a selector nested 120 deep: {status}"), matches!(status, 200 | 400));
    refusals.finish();
}
