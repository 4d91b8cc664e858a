//! The order of JSON values in CouchDB: what `$lt` and its relatives compare by, and the order of view keys.
//!
//! Types come first (null, false, true, numbers, strings, arrays, objects); strings then follow the root collation of
//! Unicode's CLDR, which is what CouchDB asks of ICU. `icu_collator` brings that table compiled in, so the order of
//! accents, of Devanagari or of Ethiopic is the real one and not our guess. Compared with CouchDB only the version of
//! the table can differ. Two strings may be equal here and differ in their bytes (`é` composed and decomposed).
//!
//! Nothing here reads a locale, and nothing stored depends on this order: document ids are ordered by bytes elsewhere.

use icu_collator::options::CollatorOptions;
use icu_collator::{Collator, CollatorBorrowed, CollatorPreferences};
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use std::sync::LazyLock;

/// Building the collator looks its tables up once; comparing then allocates nothing.
static ROOT_COLLATOR: LazyLock<CollatorBorrowed<'static>> = LazyLock::new(|| {
    Collator::try_new(CollatorPreferences::default(), CollatorOptions::default())
        .expect("the root collation is compiled into the binary")
});

/// Orders two JSON values as CouchDB orders view keys.
///
/// - Numbers compare by their mathematical value: `1` and `1.0` are equal, and integers keep all their digits.
/// - Arrays compare element by element; the one that ends first is the smaller.
/// - Objects compare member by member (name, then value); the one that ends first is the smaller. Members are taken in
///   the order `serde_json` holds them, which is by name; CouchDB takes them in the order they were written.
///
/// The result is a total preorder, so slices can be sorted and searched with it. Recursion goes as deep as the
/// shallower value, and `serde_json` reads no value deeper than 128 levels.
///
/// Source: CouchDB 3.5, `couch_ejson_compare`; protocol page, "view keys use ICU collation".
#[must_use]
pub fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => compare_strings(left, right),
        (Value::Array(left), Value::Array(right)) => compare_arrays(left, right),
        (Value::Object(left), Value::Object(right)) => compare_objects(left, right),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// Orders two strings by the root collation at its usual three levels: letters, then accents, then case.
///
/// `"a" < "A" < "á" < "b"`, and punctuation before digits before letters. Canonically equivalent strings are equal.
#[must_use]
pub fn compare_strings(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    ROOT_COLLATOR.compare(left, right)
}

/// The place of a value's type among the types.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    }
}

fn compare_arrays(left: &[Value], right: &[Value]) -> Ordering {
    left.iter()
        .zip(right)
        .map(|(left, right)| compare(left, right))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| left.len().cmp(&right.len()))
}

fn compare_objects(left: &Map<String, Value>, right: &Map<String, Value>) -> Ordering {
    left.iter()
        .zip(right)
        .map(|((left_name, left), (right_name, right))| {
            compare_strings(left_name, right_name).then_with(|| compare(left, right))
        })
        .find(|order| order.is_ne())
        .unwrap_or_else(|| left.len().cmp(&right.len()))
}

/// A JSON number as integer, where it was written as one.
fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => compare_integer_to_float(left, float(right)),
        (None, Some(right)) => compare_integer_to_float(right, float(left)).reverse(),
        (None, None) => float(left).partial_cmp(&float(right)).unwrap_or(Ordering::Equal),
    }
}

/// The value of a number that is no integer. JSON knows no NaN, so the fallback is never compared.
fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(0.0)
}

/// Compares without rounding the integer: 2^53 + 1 is greater than 2^53 written as a float.
fn compare_integer_to_float(integer: i128, float: f64) -> Ordering {
    // Saturates beyond 2^127, which is far beyond any integer of JSON here (|integer| < 2^64).
    let whole = float.trunc() as i128;
    integer.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::{compare, compare_strings};
    use serde_json::{Value, json};
    use std::cmp::Ordering;

    /// Checks every pair, so that the list is an order and not merely a chain of neighbours.
    fn assert_ascending(values: &[Value]) {
        for (index, left) in values.iter().enumerate() {
            for (other, right) in values.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{left} and {right}");
            }
        }
    }

    #[test]
    fn types_come_in_the_order_couchdb_documents() {
        assert_ascending(&[
            json!(null),
            json!(false),
            json!(true),
            json!(1),
            json!(2),
            json!(3.0),
            json!(4),
            json!("a"),
            json!("A"),
            json!("aa"),
            json!("b"),
            json!("B"),
            json!("ba"),
            json!("bb"),
            json!(["a"]),
            json!(["b"]),
            json!(["b", "c"]),
            json!(["b", "c", "a"]),
            json!(["b", "d"]),
            json!(["b", "d", "e"]),
            json!({"a": 1}),
            json!({"a": 2}),
            json!({"b": 1}),
            json!({"b": 2}),
            json!({"b": 2, "c": 2}),
        ]);
    }

    #[test]
    fn strings_follow_unicode_not_bytes() {
        for (smaller, greater) in [
            ("", "a"),
            ("_", "-"),
            ("_", "0"),
            ("~", "0"),
            ("9", "a"),
            ("a", "Z"),
            ("resume", "résumé"),
            ("résumé", "resumes"),
            ("e", "é"),
            ("é", "f"),
            ("z", "α"),
            ("क", "ख"),
            ("ሀ", "ለ"),
            ("b", "\u{fff0}"),
        ] {
            assert_eq!(compare_strings(smaller, greater), Ordering::Less, "{smaller} < {greater}");
            assert_eq!(compare_strings(greater, smaller), Ordering::Greater, "{greater} > {smaller}");
        }
    }

    #[test]
    fn composed_and_decomposed_letters_are_equal() {
        assert_eq!(compare_strings("caf\u{e9}", "cafe\u{301}"), Ordering::Equal);
    }

    #[test]
    fn numbers_keep_all_their_digits() {
        assert_ascending(&[
            json!(-1e300),
            json!(i64::MIN),
            json!(-1.5),
            json!(-1),
            json!(-0.5),
            json!(0),
            json!(0.5),
            json!(9_007_199_254_740_992.0),
            json!(9_007_199_254_740_993_i64),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e300),
        ]);
        assert_eq!(compare(&json!(1), &json!(1.0)), Ordering::Equal);
        assert_eq!(compare(&json!(0), &json!(-0.0)), Ordering::Equal);
    }
}
