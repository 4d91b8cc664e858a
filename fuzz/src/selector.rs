//! Any JSON as a selector against any JSON as a document.
//!
//! The lines are: selector, fields, a document, another value. Nothing may panic; a selector in a list of one, or twice in
//! a list, means what it means alone; a projection of a projection is the projection; the order of values is an order.

use serde_json::{Value, json};
use settle_protocol::collation::compare;
use settle_protocol::selector::{Fields, Selector};

/// Reads the lines as JSON and matches.
///
/// # Panics
/// When a law of the matcher is broken.
pub fn run(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n').map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut next = || lines.next().flatten().unwrap_or_default();
    let (selector, fields, document, other) = (next(), next(), next(), next());
    matches(&selector, &document);
    matches(&selector, &other);
    if let Ok(fields) = Fields::parse(&fields) {
        let projected = fields.project(&document);
        assert_eq!(fields.project(&projected), projected, "a projection is cut down already");
    }
    assert_eq!(compare(&document, &other), compare(&other, &document).reverse(), "an order has two directions");
    assert!(compare(&document, &document).is_eq());
    for third in [&selector, &fields] {
        if compare(&document, &other).is_le() && compare(&other, third).is_le() {
            assert!(compare(&document, third).is_le(), "an order is transitive");
        }
    }
}

fn matches(selector: &Value, document: &Value) {
    let Ok(parsed) = Selector::parse(selector) else { return };
    let alone = parsed.matches(document);
    if *selector == json!({}) {
        assert!(alone, "no condition");
        return; // within a list it is the condition to equal `{}`, as in CouchDB
    }
    for same in [
        json!({ "$and": [selector] }),
        json!({ "$or": [selector] }),
        json!({ "$and": [selector, selector] }),
        json!({ "$or": [selector, selector] }),
    ] {
        // A limit may stop the larger one.
        if let Ok(parsed) = Selector::parse(&same) {
            assert_eq!(parsed.matches(document), alone, "{same}");
        }
    }
}
