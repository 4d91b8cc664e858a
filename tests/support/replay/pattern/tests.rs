//! The matcher against pairs that fit and pairs that must not: one that accepts everything would prove nothing.

use super::super::Difference;
use super::super::json::Json;
use super::super::variables::Variables;
use super::{compare, compare_parts};

const REVISION: &str = r#""2-0123456789abcdef0123456789abcdef""#;

fn variables() -> Variables {
    let mut variables = Variables::default();
    variables.set("rev", "1-abc");
    variables.set("count", json("7"));
    variables.set("object", json(r#"{"a":1,"b":[2.0]}"#));
    variables
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[track_caller]
fn accepts(pattern: &str, actual: &str) {
    assert_eq!(compare(&json(pattern), &json(actual), &variables(), "$"), Ok(()), "{pattern} and {actual}");
}

#[track_caller]
fn refuses(pattern: &str, actual: &str) {
    let outcome = compare(&json(pattern), &json(actual), &variables(), "$");
    assert!(matches!(outcome, Err(Difference::Mismatch(_))), "{pattern} and {actual}: {outcome:?}");
}

#[test]
fn literals_fit_only_themselves() {
    for value in ["null", "true", "false", "0", "1", "2.5", r#""""#, r#""a""#, "[]", "[1]", "{}", r#"{"a":1}"#] {
        accepts(value, value);
        for other in ["null", "true", "false", "0", "1", "2.5", r#""""#, r#""a""#, "[]", "[1]", "{}", r#"{"a":1}"#] {
            if other != value {
                refuses(value, other);
            }
        }
    }
    accepts("1", "1.0");
    refuses(r#""1""#, "1");
}

#[test]
fn objects_have_exactly_the_members_shown() {
    accepts(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#);
    refuses(r#"{"a":1}"#, r#"{"a":1,"b":2}"#);
    refuses(r#"{"a":1,"b":2}"#, r#"{"a":1}"#);
    refuses(r#"{"a":{"b":1}}"#, r#"{"a":{"b":2}}"#);
    accepts(r#"{"a":"$absent","b":1}"#, r#"{"b":1}"#);
    refuses(r#"{"a":"$absent","b":1}"#, r#"{"a":null,"b":1}"#);
    accepts(r#"{"{rev}":1}"#, r#"{"1-abc":1}"#);
    refuses(r#"{"{rev}":1}"#, r#"{"{rev}":1}"#);
}

#[test]
fn arrays_have_exactly_the_elements_in_order() {
    accepts("[1,2]", "[1,2]");
    refuses("[1,2]", "[2,1]");
    refuses("[1,2]", "[1]");
    refuses("[1]", "[1,2]");
}

#[test]
fn includes_looks_only_at_the_members_named() {
    accepts(r#"{"$includes":{"a":1}}"#, r#"{"a":1,"b":2}"#);
    refuses(r#"{"$includes":{"a":1}}"#, r#"{"b":2}"#);
    refuses(r#"{"$includes":{"a":1}}"#, r#"{"a":2}"#);
    refuses(r#"{"$includes":{"a":"$absent"}}"#, r#"{"a":1}"#);
    refuses(r#"{"$includes":{}}"#, "[]");
    accepts(r#"{"$includes":{},"b":1}"#, r#"{"$includes":{},"b":1}"#);
}

#[test]
fn unordered_and_contains_use_each_element_once() {
    accepts(r#"{"$unordered":[1,2]}"#, "[2,1]");
    refuses(r#"{"$unordered":[1,2]}"#, "[2,1,3]");
    refuses(r#"{"$unordered":[1,1]}"#, "[1,2]");
    refuses(r#"{"$unordered":[1]}"#, "1");
    accepts(r#"{"$contains":[3]}"#, "[1,2,3]");
    refuses(r#"{"$contains":[3,3]}"#, "[1,2,3]");
    refuses(r#"{"$contains":[4]}"#, "[1,2,3]");
}

#[test]
fn each_and_either_look_into_their_choices() {
    accepts(r#"{"$each":"$int"}"#, "[1,2]");
    accepts(r#"{"$each":"$int"}"#, "[]");
    refuses(r#"{"$each":"$int"}"#, r#"[1,"2"]"#);
    refuses(r#"{"$each":"$any"}"#, "{}");
    accepts(r#"{"$either":[1,"$str"]}"#, r#""x""#);
    refuses(r#"{"$either":[1,"$str"]}"#, "2");
}

#[test]
fn types_have_wildcards() {
    accepts(r#""$any""#, "null");
    accepts(r#""$str""#, r#""""#);
    refuses(r#""$str""#, "1");
    accepts(r#""$int""#, "-1");
    refuses(r#""$int""#, "1.5");
    refuses(r#""$int""#, "true");
    accepts(r#""$bool""#, "false");
    refuses(r#""$bool""#, "0");
    accepts(r#""$seq""#, "0");
    accepts(r#""$seq""#, r#""12-x""#);
    refuses(r#""$seq""#, r#""""#);
    refuses(r#""$seq""#, "-1");
    refuses(r#""$seq""#, "null");
}

#[test]
fn identifiers_have_wildcards() {
    accepts(r#""$rev""#, REVISION);
    accepts(r#""$rev:2""#, REVISION);
    refuses(r#""$rev:1""#, REVISION);
    refuses(r#""$rev:""#, REVISION);
    refuses(r#""$rev""#, r#""2-0123456789ABCDEF0123456789abcdef""#);
    refuses(r#""$rev""#, r#""2-0123""#);
    refuses(r#""$rev""#, r#""-0123456789abcdef0123456789abcdef""#);
    accepts(r#""$uuid""#, r#""0123456789abcdef0123456789abcdef""#);
    refuses(r#""$uuid""#, r#""0123456789abcdef0123456789abcde""#);
    accepts(r#""$digest""#, r#""md5-rL0Y20zC+Fzt72VPzMSk2A==""#);
    refuses(r#""$digest""#, r#""md5-rL0Y20zC+Fzt72VPzMSk2==""#);
    refuses(r#""$digest""#, r#""sha-rL0Y20zC+Fzt72VPzMSk2A==""#);
}

#[test]
fn expressions_fit_the_whole_text() {
    accepts(r#""$re:a|bc""#, r#""bc""#);
    refuses(r#""$re:a|bc""#, r#""abc""#);
    accepts(r#""$re:a.b""#, r#""a\nb""#);
    refuses(r#""$re:a""#, r#""a\n""#);
    refuses(r#""$re:[0-9]+""#, "12");
    accepts(r#""$re:\"{rev}\"""#, r#""\"1-abc\"""#);
    accepts(r#""$re:.*(\\{\"a\":){3}1\\}{3}.*""#, r#""{\"a\":{\"a\":{\"a\":1}}}""#);
}

#[test]
fn variables_stand_for_their_values() {
    accepts(r#""{rev}""#, r#""1-abc""#);
    refuses(r#""{rev}""#, r#""{rev}""#);
    accepts(r#""{count}""#, "7");
    refuses(r#""{count}""#, r#""7""#);
    accepts(r#""{object}""#, r#"{"b":[2],"a":1}"#);
    refuses(r#""{object}""#, r#"{"b":[2],"a":1,"c":1}"#);
    refuses(r#""{object}""#, r#"{"b":[3],"a":1}"#);
    accepts(r#""{count}x""#, r#""7x""#);
    accepts(r#""$=$any {count}""#, r#""$any 7""#);
    refuses(r#""$=$any""#, r#""x""#);
}

#[test]
fn a_wrong_recording_is_no_mismatch() {
    for pattern in [r#""$revision""#, r#""$re:(""#, r#"{"$either":["$nonsense",1]}"#, r#"{"$contains":["$oops"]}"#] {
        let outcome = compare(&json(pattern), &json("[1]"), &variables(), "$");
        let outcome = outcome.and(compare(&json(pattern), &json(r#""x""#), &variables(), "$"));
        assert!(
            matches!(outcome, Err(Difference::BadRecording(_))) || pattern == r#""$re:(""#,
            "{pattern}: {outcome:?}"
        );
    }
}

#[test]
fn parts_fit_with_further_headers_but_not_with_other_content() {
    let part = r#"[{"headers":{"content-type":"application/json","content-length":"9"},"json":{"a":1}}]"#;
    let verdict = |pattern: &str| compare_parts(&json(pattern), &json(part), &variables(), "parts").is_ok();
    assert!(verdict(r#"[{"headers":{"content-type":"application/json"},"json":{"a":"$int"}}]"#));
    assert!(verdict(r#"{"$unordered":[{"json":{"a":1}}]}"#));
    assert!(!verdict(r#"[{"headers":{"content-type":"text/plain"},"json":{"a":1}}]"#));
    assert!(!verdict(r#"[{"headers":{"content-length":"$absent"},"json":{"a":1}}]"#));
    assert!(!verdict(r#"[{"json":{"a":2}}]"#));
    assert!(!verdict(r#"[{"text":"x"}]"#));
    assert!(!verdict("[]"));
    assert!(!verdict(r#"{"$unordered":[{"json":{"a":1}},{"json":{"a":1}}]}"#));
    assert!(!verdict(r#"{"$unordered":[]}"#));
}

#[test]
fn a_difference_names_its_place() {
    let outcome = compare(&json(r#"{"rows":[{"id":"a"}]}"#), &json(r#"{"rows":[{"id":"b"}]}"#), &variables(), "$");
    let message = "at $.rows[0].id\n      expected \"a\"\n      got      \"b\"".to_owned();
    assert_eq!(outcome, Err(Difference::Mismatch(message)));
}
