//! Ids, revisions, database names, escapes and query parameters that cannot be.

use super::Refusals;
use crate::support::http::Request;

#[test]
fn ids_that_cannot_be_are_refused_on_every_way_in() {
    let mut refusals = Refusals::start();
    let long = "x".repeat(513);
    const RESERVED: &str = "Only reserved document ids may start with underscore.";
    for (id, reason) in [
        ("", "Document id must not be empty"),
        ("_x", RESERVED),
        ("_", RESERVED),
        ("_design/", "Illegal document id `_design/`"),
        ("_local/", "Illegal document id `_local/`"),
        (&long, "Document id is too long"),
    ] {
        let wanted = (400, "illegal_docid", reason);
        let document = format!(r#"{{"_id":"{id}"}}"#);
        refusals.json("POST", "/refusals", &document, wanted);
        refusals.json("POST", "/refusals/_bulk_docs", &format!(r#"{{"docs":[{{"_id":"good"}},{document}]}}"#), wanted);
    }
    for (path, reason) in [("_x", RESERVED), ("_", RESERVED), ("%5Fx", RESERVED), (&long, "Document id is too long")] {
        refusals.json("PUT", &format!("/refusals/{path}"), "{}", (400, "illegal_docid", reason));
    }
    refusals.json("PUT", &format!("/refusals/{long}/note"), "{}", (400, "illegal_docid", "Document id is too long"));
    let copy = Request::new("COPY", "/refusals/a").header("Destination", "_x");
    refusals.refused(&copy, (400, "illegal_docid", RESERVED));
    let copy = Request::new("COPY", "/refusals/a").header("Destination", &long);
    refusals.refused(&copy, (400, "illegal_docid", "Document id is too long"));
    refusals.refused(
        &Request::new("COPY", "/refusals/a"),
        (400, "bad_request", "Destination header is mandatory for COPY."),
    );
    let no_id = r#"{"docs":[{"_rev":"1-a"}],"new_edits":false}"#;
    refusals.json("POST", "/refusals/_bulk_docs", no_id, (400, "illegal_docid", "Document id must not be empty"));
    refusals.finish();
}

#[test]
fn escapes_that_cannot_be_are_refused() {
    let mut refusals = Refusals::start();
    for escape in ["%", "%4", "%zz", "%4g", "a%"] {
        let wanted = (400, "bad_request", "invalid_url_encoding");
        for path in [format!("/{escape}"), format!("/refusals/{escape}"), format!("/refusals/a/{escape}")] {
            refusals.refused(&Request::new("GET", &path), wanted);
            refusals.json("PUT", &path, "{}", wanted);
        }
        refusals.refused(&Request::new("GET", &format!("/refusals/a?rev={escape}")), wanted);
        refusals.refused(&Request::new("GET", &format!("/refusals?{escape}=1")), wanted);
    }
    for bytes in ["%ff", "a%C3", "%ED%A0%80", "%C0%80"] {
        let wanted = (400, "illegal_docid", "Document id must be valid UTF-8");
        refusals.refused(&Request::new("GET", &format!("/refusals/{bytes}")), wanted);
        refusals.json("PUT", &format!("/refusals/{bytes}"), "{}", wanted);
        let wanted = (400, "bad_request", "invalid_url_encoding");
        refusals.refused(&Request::new("GET", &format!("/refusals/a?rev={bytes}")), wanted);
    }
    refusals.finish();
}

#[test]
fn revisions_that_cannot_be_are_refused() {
    let mut refusals = Refusals::start();
    let wanted = (400, "bad_request", "Invalid rev format");
    for bad in ["1", "x-a", "-a", "1.5-a", "-1-a", "99999999999999999999-a", "1-gggggggggggggggggggggggggggggggg"] {
        refusals.json("PUT", &format!("/refusals/a?rev={bad}"), "{}", wanted);
        refusals.json("PUT", "/refusals/a", &format!(r#"{{"_rev":"{bad}"}}"#), wanted);
        refusals.refused(&Request::new("DELETE", &format!("/refusals/a?rev={bad}")), wanted);
        refusals.refused(&Request::new("GET", &format!("/refusals/a?rev={bad}")), wanted);
        refusals.refused(&Request::new("DELETE", &format!("/refusals/a/note?rev={bad}")), wanted);
        refusals.refused(&Request::new("DELETE", "/refusals/a").header("If-Match", bad), wanted);
        refusals.json("POST", "/refusals/_revs_diff", &format!(r#"{{"a":["{bad}"]}}"#), wanted);
        refusals.json("POST", "/refusals/_purge", &format!(r#"{{"a":["{bad}"]}}"#), wanted);
    }
    let conflict = (409, "conflict", "Document update conflict.");
    refusals.json("PUT", "/refusals/a", "{}", conflict);
    refusals.json("PUT", "/refusals/a?rev=1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{}", conflict);
    refusals.json("PUT", "/refusals/new?rev=1-a", "{}", conflict);
    refusals.refused(&Request::new("DELETE", "/refusals/a"), conflict);
    let different = "Document rev from request body and query string have different values";
    refusals.json("PUT", "/refusals/a?rev=1-a", r#"{"_rev":"1-b"}"#, (400, "bad_request", different));
    let no_revision = "When `new_edits: false`, the document needs `_rev` or `_revisions` specified";
    refusals.json("PUT", "/refusals/new?new_edits=false", "{}", (400, "bad_request", no_revision));
    let start = "_revisions.start must be at least the number of _revisions.ids";
    for history in [r#"{"start":0,"ids":["a"]}"#, r#"{"start":-1,"ids":["a"]}"#, r#"{"start":1,"ids":["b","a"]}"#] {
        let document = format!(r#"{{"_revisions":{history}}}"#);
        refusals.json("PUT", "/refusals/new?new_edits=false", &document, (403, "forbidden", start));
    }
    refusals.finish();
}

#[test]
fn a_generation_at_the_end_of_numbers_is_survived() {
    let mut refusals = Refusals::start();
    let last = "18446744073709551615-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let document = format!(r#"{{"_rev":"{last}"}}"#);
    let request = Request::new("PUT", "/refusals/last?new_edits=false").body(document.clone());
    let first = refusals.admin.send(&request);
    refusals.check("the last generation is stored or refused", first.status < 500);
    for request in [
        Request::new("PUT", "/refusals/last").body(document),
        Request::new("DELETE", &format!("/refusals/last?rev={last}")),
        Request::new("PUT", &format!("/refusals/last/note?rev={last}")).body("x"),
    ] {
        let status = refusals.admin.send(&request).status;
        refusals.check(&format!("{} on the last generation is {status}, no failure", request.method), status < 500);
    }
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn parameters_that_cannot_be_are_refused() {
    let mut refusals = Refusals::start();
    for (path, word, reason) in [
        ("/_all_docs?limit=-1", "query_parse_error", "Invalid value for positive integer: \"-1\""),
        ("/_all_docs?limit=x", "query_parse_error", "Invalid value for integer: \"x\""),
        ("/_all_docs?skip=-1", "query_parse_error", "Invalid value for positive integer: \"-1\""),
        (
            "/_all_docs?limit=99999999999999999999",
            "query_parse_error",
            "Invalid value for integer: \"99999999999999999999\"",
        ),
        ("/_all_docs?descending=yes", "query_parse_error", "Invalid boolean parameter: \"yes\""),
        ("/_all_docs?include_docs=1", "query_parse_error", "Invalid boolean parameter: \"1\""),
        ("/_all_docs?startkey=a", "bad_request", "invalid UTF-8 JSON"),
        ("/_all_docs?keys=5", "bad_request", "`keys` parameter must be an array."),
        ("/_changes?limit=-1", "bad_request", "The limit value should be a non-negative integer"),
        ("/_changes?limit=x", "bad_request", "The limit value should be a non-negative integer"),
        ("/_changes?feed=x", "bad_request", "Supported `feed` types: normal, continuous, live, longpoll, eventsource"),
        ("/_changes?style=x", "bad_request", "Supported `style` values: main_only, all_docs"),
        ("/_changes?filter=x", "bad_request", "`filter` must be of the form `designname/filtername`"),
        ("/_changes?filter=_x", "bad_request", "unknown builtin filter name"),
        ("/_changes?timeout=x", "bad_request", "The timeout value should be a non-negative integer"),
        (
            "/_changes?feed=longpoll&heartbeat=0",
            "bad_request",
            "The heartbeat value should be a positive integer (in milliseconds).",
        ),
        ("/a?open_revs=5", "bad_request", "Invalid list of revisions"),
        ("/a?open_revs=[5]", "bad_request", "Invalid rev format"),
        ("/a?open_revs=%5B", "bad_request", "invalid UTF-8 JSON"),
        ("/a?atts_since=x", "bad_request", "invalid UTF-8 JSON"),
    ] {
        refusals.refused(&Request::new("GET", &format!("/refusals{path}")), (400, word, reason));
    }
    for count in ["x", "-1", "1.5"] {
        let wanted = (400, "bad_request", "count must be a positive integer");
        refusals.refused(&Request::new("GET", &format!("/_uuids?count={count}")), wanted);
    }
    refusals.refused(&Request::new("GET", "/_uuids?count=1001"), (400, "bad_request", "count parameter too large"));
    for name in ["A", "0a", "a.b", "_x", "a%20b"] {
        let rule = "Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / \
            are allowed. Must begin with a letter.";
        let reason = format!("Name: '{}'. {rule}", name.replace("%20", " "));
        refusals.refused(&Request::new("PUT", &format!("/{name}")), (400, "illegal_database_name", &reason));
    }
    refusals.refused(
        &Request::new("PUT", "/refusals"),
        (412, "file_exists", "The database could not be created, the file already exists."),
    );
    refusals.refused(
        &Request::new("PATCH", "/refusals/a"),
        (405, "method_not_allowed", "Only DELETE,GET,HEAD,POST,PUT,COPY allowed"),
    );
    refusals.finish();
}
