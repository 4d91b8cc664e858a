//! What a Mango selector means, told by small documents: the five persons of the recordings where they suffice.
//!
//! The expectations follow CouchDB 3.5 (`mango_selector` and its documentation); where this server differs on purpose
//! the test says so. `recordings/mango` holds the conversations on top of this.

use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};
use settle_protocol::collation;
use settle_protocol::selector::{Fields, Selector, SelectorError};

fn persons() -> Vec<Value> {
    vec![
        json!({"_id": "amal", "area": "north", "weight": 3, "home": {"village": "N", "no": 3}, "tags": ["a", "b"]}),
        json!({"_id": "bina", "area": "north", "weight": 5, "home": {"village": "N", "no": 5}, "tags": []}),
        json!({"_id": "cara", "area": "south", "weight": 4, "home": {"village": "S", "no": 4}, "tags": ["b"]}),
        json!({"_id": "dina", "area": "south", "weight": 6, "home": {"village": "S", "no": 6}}),
        json!({"_id": "edda", "area": "west", "weight": 5.0, "home": {"village": "W", "no": 5}, "tags": ["a"]}),
    ]
}

/// The first letters of the persons that match.
#[track_caller]
fn found(selector: Value) -> String {
    let selector = Selector::parse(&selector).expect("a selector");
    let letters = persons().into_iter().filter(|person| selector.matches(person));
    letters.map(|person| person["_id"].as_str().expect("an id")[..1].to_owned()).collect()
}

#[track_caller]
fn matches(selector: Value, document: Value) -> bool {
    Selector::parse(&selector).expect("a selector").matches(&document)
}

#[track_caller]
fn refused(selector: Value) -> (String, String) {
    let error = Selector::parse(&selector).expect_err("a refusal");
    (error.word().to_owned(), error.reason())
}

#[test]
fn fields_and_subfields() {
    assert_eq!(found(json!({})), "abcde");
    assert_eq!(found(json!({"area": "north"})), "ab");
    assert_eq!(found(json!({"area": "north", "weight": 5})), "b");
    assert_eq!(found(json!({"home.village": "S"})), "cd");
    assert_eq!(found(json!({"home": {"village": "S", "no": {"$gt": 4}}})), "d");
    assert_eq!(found(json!({"home": {"$eq": {"village": "S", "no": 4}}})), "c");
    assert_eq!(found(json!({"tags.0": "a"})), "ae");
    assert_eq!(found(json!({"tags": ["a", "b"]})), "a");
    assert_eq!(found(json!({"area": {}})), "");
    assert!(matches(json!({"a": {}}), json!({"a": {}})));
}

#[test]
fn names_with_dots_and_dollars_are_escaped() {
    assert!(matches(json!({"a\\.b": 1}), json!({"a.b": 1})));
    assert!(!matches(json!({"a.b": 1}), json!({"a.b": 1})));
    assert!(matches(json!({"\\$a": 1}), json!({"$a": 1})));
    assert!(matches(json!({"a.b\\.c": 1}), json!({"a": {"b.c": 1}})));
}

#[test]
fn positions_in_arrays_have_one_spelling() {
    let document = json!({"a": [[7, 8], {"b": 9}], "o": {"01": 1}});
    assert!(matches(json!({"a.0.1": 8}), document.clone()));
    assert!(matches(json!({"a.1.b": 9}), document.clone()));
    assert!(matches(json!({"o.01": 1}), document.clone()));
    for path in ["a.01.b", "a.+1.b", "a.-1", "a.2", "a.b", "a.99999999999999999999999"] {
        assert!(!matches(json!({path: {"$exists": true}}), document.clone()), "{path}");
        assert!(!matches(json!({path: {"$exists": false}}), document.clone()), "{path}");
    }
}

#[test]
fn comparisons() {
    assert_eq!(found(json!({"weight": {"$lt": 5}})), "ac");
    assert_eq!(found(json!({"weight": {"$lte": 5}})), "abce");
    assert_eq!(found(json!({"weight": {"$gt": 4, "$lt": 6}})), "be");
    assert_eq!(found(json!({"weight": {"$gte": 5}})), "bde");
    assert_eq!(found(json!({"weight": {"$eq": 5}})), "be");
    assert_eq!(found(json!({"weight": {"$ne": 5}})), "acd");
    assert_eq!(found(json!({"weight": {"$lt": "a"}})), "abcde");
    assert_eq!(found(json!({"area": {"$gt": "North"}})), "cde");
    assert!(matches(json!({"a": {"$lt": "Z"}}), json!({"a": "b"})), "letters before case");
}

#[test]
fn ids_compare_by_bytes() {
    assert_eq!(found(json!({"_id": {"$gte": "b", "$lt": "d"}})), "bc");
    assert_eq!(found(json!({"_id": {"$gt": null}})), "abcde");
    assert_eq!(found(json!({"_id": {"$lt": {}}})), "", "an id is greater than anything that is no string");
    assert!(!matches(json!({"_id": {"$lt": "Z"}}), json!({"_id": "b"})));
    assert_eq!(found(json!({"_id": {"$in": ["edda", "Amal", "cara", 5]}})), "ce");
}

#[test]
fn a_missing_field_meets_nothing_but_exists_false() {
    let operators = [
        json!({"$eq": null}),
        json!({"$ne": 1}),
        json!({"$lt": 9}),
        json!({"$gt": null}),
        json!({"$in": [null]}),
        json!({"$nin": [1]}),
        json!({"$nin": []}),
        json!({"$exists": true}),
        json!({"$type": "null"}),
        json!({"$not": {"$eq": 1}}),
        json!({"$not": {"$regex": "x"}}),
        json!({"$not": {"$size": 1}}),
        json!({"$nor": [1]}),
    ];
    for operator in operators {
        assert!(!matches(json!({"missing": operator}), json!({"a": 1})), "{operator}");
        assert!(!matches(json!({"a.missing": operator}), json!({"a": 1})), "{operator} below a number");
    }
    assert!(matches(json!({"missing": {"$exists": false}}), json!({"a": 1})));
    assert!(matches(json!({"$not": {"missing": {"$exists": true}}}), json!({"a": 1})));
    assert!(matches(json!({"a.b.c": {"$exists": false}}), json!({"a": {}})));
    assert!(!matches(json!({"a.missing": {"$exists": false}}), json!({"a": 1})), "CouchDB: no way there");
    assert!(matches(json!({"a": null}), json!({"a": null})));
    assert!(!matches(json!({"a": {"$exists": false}}), json!({"a": null})));
}

#[test]
fn combinations_and_negations() {
    assert_eq!(found(json!({"$or": [{"area": "west"}, {"weight": 3}]})), "ae");
    assert_eq!(found(json!({"$and": [{"area": "north"}, {"weight": 3}]})), "a");
    assert_eq!(found(json!({"$nor": [{"area": "west"}, {"weight": 3}]})), "bcd");
    assert_eq!(found(json!({"$not": {"area": "north", "weight": 3}})), "bcde");
    assert_eq!(found(json!({"$not": {"$nor": [{"area": "west"}, {"weight": 3}]}})), "ae");
    assert_eq!(found(json!({"$not": {"$not": {"weight": {"$gt": 4}}}})), "bde");
    assert_eq!(found(json!({"$not": {"$or": [{"area": "north"}, {"weight": {"$gte": 6}}]}})), "ce");
    assert_eq!(found(json!({"weight": {"$or": [3, {"$gt": 5}]}})), "ad");
    assert_eq!(found(json!({"area": {"$not": {"$regex": "th$"}}})), "e");
    assert_eq!(found(json!({"tags": {"$not": {"$size": 1}}})), "ab", "dina has no tags at all");
}

#[test]
fn each_comparison_is_the_opposite_of_its_negation() {
    for operator in ["$lt", "$lte", "$eq", "$ne", "$gte", "$gt"] {
        for weight in [4, 5, 6] {
            let condition = json!({"weight": {operator: 5}});
            let plain = matches(condition.clone(), json!({"weight": weight}));
            assert_eq!(matches(json!({"$not": condition}), json!({"weight": weight})), !plain, "{operator} {weight}");
        }
    }
}

#[test]
fn empty_lists() {
    assert_eq!(found(json!({"$and": []})), "abcde");
    assert_eq!(found(json!({"$or": []})), "abcde");
    assert_eq!(found(json!({"$nor": []})), "abcde");
    assert_eq!(found(json!({"tags": {"$in": []}})), "");
    assert_eq!(found(json!({"tags": {"$nin": []}})), "abce");
    assert_eq!(found(json!({"tags": {"$all": []}})), "");
    assert_eq!(found(json!({"$and": [{}]})), "", "below the top {{}} means equal to {{}}");
}

#[test]
fn lists() {
    assert_eq!(found(json!({"weight": {"$in": [6, 9, 3]}})), "ad");
    assert_eq!(found(json!({"weight": {"$in": [5]}})), "be");
    assert_eq!(found(json!({"weight": {"$nin": [6, 9, 3]}})), "bce");
    assert_eq!(found(json!({"tags": {"$in": ["b", "z"]}})), "ac");
    assert_eq!(found(json!({"tags": {"$nin": ["b", "z"]}})), "be");
    assert_eq!(found(json!({"tags": {"$size": 1}})), "ce");
    assert_eq!(found(json!({"area": {"$size": 5}})), "");
    assert_eq!(found(json!({"tags": {"$all": ["b", "a"]}})), "a");
    assert_eq!(found(json!({"tags": {"$all": [["a"]]}})), "e");
    assert!(!matches(json!({"a": {"$all": [1]}}), json!({"a": [1.0]})), "$all compares exactly");
}

#[test]
fn selectors_inside_arrays_and_objects() {
    let document = json!({"marks": [70, 82], "kin": [{"name": "Ravi", "age": 4}, {"name": "Uma"}], "none": []});
    let is = |selector| matches(selector, document.clone());
    assert!(is(json!({"marks": {"$elemMatch": {"$gte": 80, "$lt": 85}}})));
    assert!(!is(json!({"marks": {"$elemMatch": {"$gte": 75, "$lt": 80}}})));
    assert!(is(json!({"kin": {"$elemMatch": {"name": "Ravi", "age": {"$lt": 5}}}})));
    assert!(!is(json!({"kin": {"$elemMatch": {"name": "Uma", "age": {"$lt": 5}}}})));
    assert!(is(json!({"marks": {"$allMatch": {"$gt": 60}}})));
    assert!(!is(json!({"marks": {"$allMatch": {"$gt": 75}}})));
    assert!(!is(json!({"none": {"$allMatch": {"$gt": 75}}})), "an empty array has no match");
    assert!(is(json!({"kin.0": {"$keyMapMatch": {"$eq": "age"}}})));
    assert!(!is(json!({"kin.1": {"$keyMapMatch": {"$eq": "age"}}})));
    assert!(!is(json!({"marks": {"$keyMapMatch": {"$eq": "0"}}})));
    assert!(!is(json!({"kin": {"$elemMatch": {"$not": {"age": 4}}}})), "missing fields also inside arrays");
    assert!(is(json!({"kin": {"$elemMatch": {"$nor": [{"name": "Ravi"}, {"name": "Mira"}]}}})));
    assert!(!is(json!({"$not": {"marks": {"$elemMatch": {"$eq": 70}}}})));
    assert!(is(json!({"$not": {"marks": {"$elemMatch": {"$eq": 71}}}})));
}

#[test]
fn types_patterns_and_remainders() {
    let examples = [json!(null), json!(false), json!(1.5), json!(""), json!([]), json!({})];
    for (name, its_own) in ["null", "boolean", "number", "string", "array", "object"].iter().zip(&examples) {
        for value in &examples {
            assert_eq!(matches(json!({"a": {"$type": name}}), json!({"a": value})), value == its_own, "{name} {value}");
        }
    }
    assert!(!matches(json!({"a": {"$type": "text"}}), json!({"a": ""})));
    assert_eq!(found(json!({"area": {"$regex": "^[ns].*th$"}})), "abcd");
    assert_eq!(found(json!({"weight": {"$regex": "5"}})), "");
    assert_eq!(found(json!({"area": {"$beginsWith": "no"}})), "ab");
    assert_eq!(found(json!({"area": {"$beginsWith": "No"}})), "");
    assert_eq!(found(json!({"weight": {"$mod": [2, 1]}})), "ab", "5.0 is no integer");
    assert!(matches(json!({"a": {"$mod": [3, -1]}}), json!({"a": -4})));
    assert!(matches(json!({"a": {"$mod": [-1, 0]}}), json!({"a": i64::MIN})));
    assert!(matches(json!({"a": {"$mod": [10, 5]}}), json!({"a": u64::MAX})));
    assert!(matches(json!({"a": {"$regex": "^\\w+@\\w+\\.\\w{2,}$"}}), json!({"a": "uma@घर.np"})));
}

#[test]
fn errors_are_worded_as_couchdb_words_them() {
    let bad = |operator: &str, argument: Value| {
        let expected = format!("Bad argument for operator {operator}: {argument}");
        assert_eq!(refused(json!({"a": {operator: argument}})), ("bad_arg".into(), expected));
    };
    bad("$in", json!(5));
    bad("$nin", json!({}));
    bad("$exists", json!(1));
    bad("$type", json!(1));
    bad("$mod", json!([0, 1]));
    bad("$mod", json!([1]));
    bad("$mod", json!([1.5, 1]));
    bad("$regex", json!("("));
    bad("$regex", json!("(?=a)"));
    bad("$size", json!(-1));
    bad("$size", json!(1.0));
    bad("$all", json!("a"));
    bad("$elemMatch", json!(5));
    bad("$allMatch", json!([]));
    bad("$keyMapMatch", json!("a"));
    bad("$and", json!({}));
    bad("$or", json!(1));
    bad("$nor", json!(1));
    bad("$not", json!(1));
    let unknown = ("invalid_operator".to_owned(), "Invalid operator: $foo".to_owned());
    assert_eq!(refused(json!({"a": {"$foo": 1}})), unknown);
    assert_eq!(refused(json!({"$foo": 1})), unknown);
    assert_eq!(refused(json!({"a": {"$elemMatch": {"$foo": 1}}})), unknown);
    assert_eq!(refused(json!({"a": {"$beginsWith": 1}})).1, "Invalid operator: $beginsWith");
    assert_eq!(refused(json!({"$text": "x"})), ("not_supported".into(), "Unsupported operator: $text".into()));
    for selector in [json!("x"), json!(null), json!([]), json!(1)] {
        let expected = ("invalid_selector_json".to_owned(), "Selector error: expected a JSON object".to_owned());
        assert_eq!(refused(selector), expected);
    }
    let nameless = [json!({"": 1}), json!({"$gt": 1}), json!({"$not": {}}), json!({"a..b": 1}), json!({"a.": 1})];
    for selector in nameless {
        assert_eq!(Selector::parse(&selector).err(), Some(SelectorError::MissingFieldName), "{selector}");
    }
}

#[test]
fn limits_hold() {
    let too_large = |selector: Value| {
        let error = Selector::parse(&selector).expect_err("a limit");
        assert!(matches!(error, SelectorError::TooLarge(_)), "{error}");
        assert_eq!(error.word(), "invalid_selector");
    };
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"$not": inner, "a": 1}));
    too_large(nested(100));
    too_large(json!({"a": {"$eq": (0..100).fold(json!(1), |inner, _| json!([inner]))}}));
    too_large(json!({"a": {"$in": vec![1; 60_000]}}));
    too_large(json!({"$or": vec![json!({"a": 1}); 1_001]}));
    too_large(json!({"a": {"$all": vec![1; 1_001]}}));
    too_large(json!({"$or": vec![json!({"a": {"$regex": "a"}}); 17]}));
    too_large(json!({"a".repeat(600): {"b".repeat(600): 1}}));
    assert_eq!(refused(json!({"a": {"$regex": "a{1000}{1000}"}})).0, "bad_arg");
    assert_eq!(refused(json!({"a": {"$regex": "a".repeat(2_000)}})).0, "bad_arg");
    let (_, reason) = refused(json!({"a": {"$in": "ü".repeat(10_000)}}));
    assert!(reason.len() < 300, "{reason}");
    assert!(matches(json!({"a": {"$in": (0..40_000).collect::<Vec<_>>()}}), json!({"a": 39_999})));
}

#[test]
fn projection() {
    let project = |fields: Value, document: Value| Fields::parse(&fields).expect("fields").project(&document);
    let edda = persons().remove(4);
    assert_eq!(project(json!([]), edda.clone()), edda);
    assert_eq!(
        project(json!(["home.village", "tags", "gone", "weight.x"]), edda),
        json!({"home": {"village": "W"}, "tags": ["a"]})
    );
    let document = json!({"a": [{"b": 1, "c": 2}], "d.e": 3});
    assert_eq!(project(json!(["a.0.b", "d\\.e"]), document.clone()), json!({"a": {"0": {"b": 1}}, "d.e": 3}));
    assert_eq!(project(json!(["a.0.b", "a"]), document.clone()), json!({"a": [{"b": 1, "c": 2}]}));
    assert_eq!(project(json!(["a", "a.0.b"]), document), json!({"a": [{"b": 1, "c": 2}]}));
    for (fields, word) in [
        (json!("a"), "invalid_fields"),
        (json!([1]), "invalid_field"),
        (json!(["a..b"]), "invalid_field"),
        (json!([""]), "invalid_field"),
        (json!(vec!["a"; 1_001]), "invalid_selector"),
    ] {
        assert_eq!(Fields::parse(&fields).err().map(|error| error.word()), Some(word), "{fields}");
    }
}

/// JSON in which operators, their arguments and fields meet often enough to reach every branch.
fn hostile_json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c.\\\\($*é]{0,4}".prop_map(Value::from),
    ];
    let name = proptest::sample::select(vec![
        "$and",
        "$or",
        "$nor",
        "$not",
        "$elemMatch",
        "$allMatch",
        "$keyMapMatch",
        "$in",
        "$nin",
        "$all",
        "$mod",
        "$size",
        "$regex",
        "$beginsWith",
        "$type",
        "$exists",
        "$lt",
        "$ne",
        "$eq",
        "$gte",
        "$foo",
        "a",
        "b.0",
        "a\\.b",
        "",
        "_id",
    ]);
    scalar.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics(selector in hostile_json(), document in hostile_json()) {
        if let Ok(selector) = Selector::parse(&selector) {
            let _ = selector.matches(&document);
        }
        if let Ok(fields) = Fields::parse(&selector) {
            let _ = fields.project(&document);
        }
    }

    /// `$not` is exact where the field exists.
    #[test]
    fn negation_is_exact_on_a_field_that_exists(condition in hostile_json(), value in hostile_json()) {
        let document = json!({"x": value});
        let plain = Selector::parse(&json!({"x": {"$eq": condition}})).expect("$eq takes anything");
        let negated = Selector::parse(&json!({"$not": {"x": {"$eq": condition}}})).expect("$not takes any selector");
        prop_assert_eq!(plain.matches(&document), !negated.matches(&document));
    }

    #[test]
    fn collation_is_an_order(a in hostile_json(), b in hostile_json(), c in hostile_json()) {
        prop_assert_eq!(collation::compare(&a, &b), collation::compare(&b, &a).reverse());
        let mut sorted = [a, b, c];
        sorted.sort_by(collation::compare);
        prop_assert_eq!(collation::compare(&sorted[0], &sorted[2]).is_le(), true);
        prop_assert_eq!(collation::compare(&sorted[0], &sorted[1]).is_le(), true);
    }
}
