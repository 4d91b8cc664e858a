//! Mango selectors: does this document match, and which of its fields were asked for.
//!
//! A selector is checked and put in order once (`Selector::parse`); after that a match cannot fail. Negations are
//! pushed down to the single conditions while parsing, as CouchDB does, which decides what a missing field means:
//! **a condition on a field that is not there is never met, negated or not; only `{"$exists": false}` is.**
//!
//! Never evaluated here: `$text` (there is no text index), `$where`, geography, and which index would serve a query.
//! The work is bounded: a selector has limited size, depth and number of conditions, patterns run in linear time.

use crate::collation;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use thiserror::Error;

/// JSON levels in one selector, arguments included.
const MAX_DEPTH: usize = 48;
/// JSON values in one selector, those in the lists of `$in` included.
const MAX_VALUES: usize = 50_000;
/// Single conditions, and elements of `$all`: each may cost one pass over an array of the document.
const MAX_CONDITIONS: usize = 1_000;
/// Patterns in one selector; each may hold [`MAX_PATTERN_MEMORY`] twice (program and cache).
const MAX_PATTERNS: usize = 16;
/// Bytes of one pattern's text.
const MAX_PATTERN_LENGTH: usize = 1_000;
/// Bytes of one compiled pattern.
const MAX_PATTERN_MEMORY: usize = 512 * 1024;
/// Fields in one projection.
const MAX_FIELDS: usize = 1_000;
/// Bytes of one path. Each condition keeps its own copy, so this bounds the memory of a selector.
const MAX_PATH_LENGTH: usize = 1_000;
/// Bytes of a client's own text repeated in an error.
const MAX_QUOTED: usize = 200;

/// A selector, or a list of fields, that cannot be used. The answer is always status 400.
///
/// `_find` answers with [`word`](Self::word) and [`reason`](Self::reason); `_changes?filter=_selector` answers the same
/// reasons under the word `bad_request`. Wording: CouchDB 3.5, `mango_error`; where CouchDB prints an Erlang term, the
/// JSON text stands here (equal for numbers, as in `Bad argument for operator $in: 5`).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// The selector is a string, a number, a list or nothing.
    #[error("Selector error: expected a JSON object")]
    NotAnObject,
    /// A name beginning with `$` that is no operator.
    #[error("Invalid operator: {0}")]
    InvalidOperator(String),
    /// An operator that CouchDB knows and this server does not evaluate.
    #[error("Unsupported operator: {0}")]
    NotSupported(String),
    /// The operator is known, its argument has the wrong type or is a pattern that cannot be run.
    #[error("Bad argument for operator {operator}: {argument}")]
    BadArgument {
        /// The operator, with its `$`.
        operator: String,
        /// The argument as JSON text, shortened.
        argument: String,
    },
    /// A condition stands on no field, or a path has an empty part (`a..b`).
    #[error("One or more conditions is missing a field name.")]
    MissingFieldName,
    /// One of this server's limits; CouchDB has none.
    #[error("Selector error: {0}")]
    TooLarge(&'static str),
    /// `fields` is no list.
    #[error("Fields must be an array of strings, not: {0}")]
    FieldsNotAnArray(String),
    /// An entry of `fields` is no path.
    #[error("Invalid JSON for field spec: {0}")]
    InvalidField(String),
}

impl SelectorError {
    /// CouchDB's word for the `error` member of the answer.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotAnObject => "invalid_selector_json",
            Self::InvalidOperator(_) => "invalid_operator",
            Self::NotSupported(_) => "not_supported",
            Self::BadArgument { .. } => "bad_arg",
            Self::MissingFieldName | Self::TooLarge(_) => "invalid_selector",
            Self::FieldsNotAnArray(_) => "invalid_fields",
            Self::InvalidField(_) => "invalid_field",
        }
    }

    /// The sentence for the `reason` member of the answer.
    #[must_use]
    pub fn reason(&self) -> String {
        self.to_string()
    }
}

/// A checked selector, ready to be held against any number of documents.
#[derive(Debug, Clone)]
pub struct Selector {
    root: Node,
}

impl Selector {
    /// Checks a selector, as found in `_find` and in the body of `_changes?filter=_selector`.
    ///
    /// `{}` matches everything. Paths are dotted (`home.village`), `\.` keeps a dot and `\$` a leading dollar in a
    /// name, a number is a position in an array (`tags.0`). Objects without operator are sub-fields. Sources: CouchDB
    /// 3.5, `mango_selector` and the documentation's page "Mango Queries".
    ///
    /// # Errors
    /// Any [`SelectorError`] but those about fields.
    pub fn parse(value: &Value) -> Result<Self, SelectorError> {
        let Value::Object(members) = value else {
            return Err(SelectorError::NotAnObject);
        };
        if members.is_empty() {
            return Ok(Self { root: Node::All(Vec::new()) });
        }
        measure(value, MAX_DEPTH, &mut 0)?;
        let root = Parser::default().node(value, &Path::default(), false)?;
        match &root {
            Node::Field { path, .. } if path.0.is_empty() => Err(SelectorError::MissingFieldName),
            _ => Ok(Self { root }),
        }
    }

    /// Whether a document matches. What the selector shall see must be in it, `_id`, `_rev` and `_deleted` as well.
    ///
    /// Values compare by [`collation::compare`], so `1` equals `1.0`; `_id` alone compares by bytes.
    #[must_use]
    pub fn matches(&self, document: &Value) -> bool {
        self.root.matches(document)
    }
}

/// The list of fields an answer is cut down to: `fields` of `_find`, and of a `_changes` body beside the selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    paths: Vec<Path>,
}

impl Fields {
    /// Checks a list of paths, written as in a selector. An empty list means all fields.
    ///
    /// # Errors
    /// [`SelectorError::FieldsNotAnArray`], [`SelectorError::InvalidField`], and [`SelectorError::TooLarge`] for more
    /// than 1,000 fields.
    pub fn parse(value: &Value) -> Result<Self, SelectorError> {
        let Value::Array(items) = value else {
            return Err(SelectorError::FieldsNotAnArray(quoted(value)));
        };
        if items.len() > MAX_FIELDS {
            return Err(SelectorError::TooLarge("more than 1000 fields"));
        }
        let mut paths = Vec::new();
        for item in items {
            let text = item.as_str().filter(|text| text.len() <= MAX_PATH_LENGTH);
            let path = text.and_then(Path::parse).ok_or_else(|| SelectorError::InvalidField(quoted(item)))?;
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        Ok(Self { paths })
    }

    /// The part of a document under these paths. Missing fields are left out; a position of an array (`tags.0`)
    /// becomes a member named `"0"`. CouchDB 3.5, `mango_fields:extract`.
    #[must_use]
    pub fn project(&self, document: &Value) -> Value {
        if self.paths.is_empty() {
            return document.clone();
        }
        let mut result = Value::Object(Map::new());
        for path in &self.paths {
            if let Lookup::Found(value) = path.look_up(document) {
                place(&mut result, &path.0, value);
            }
        }
        result
    }
}

/// Writes a value at a path, making objects on the way. Where an earlier, shorter path has already copied something
/// that is no object, that copy holds the value already.
fn place(target: &mut Value, path: &[String], value: &Value) {
    match (path, target) {
        ([], target) => *target = value.clone(),
        ([name, rest @ ..], Value::Object(members)) => {
            let member = members.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            place(member, rest, value);
        }
        _ => {}
    }
}

/// The names on the way to a field. Empty: the value at hand itself, as in `{"$elemMatch": {"$gt": 3}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Path(Vec<String>);

/// What lies at the end of a path. CouchDB tells "missing" from "no way there" and `$exists: false` is true only for
/// the first: with `{"a": 5}`, `b` is missing, while `a.b` leads through a number.
enum Lookup<'document> {
    Found(&'document Value),
    Missing,
    NoWay,
}

impl Path {
    /// Splits at dots; after a backslash a dot does not split, and backslashes themselves are dropped. `None` if a part
    /// is empty.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut previous_is_backslash = false;
        let mut part_began = false;
        for character in text.chars() {
            match character {
                '.' if !previous_is_backslash => {
                    if !part_began {
                        return None;
                    }
                    parts.push(String::new());
                }
                '\\' => {}
                _ => parts.last_mut()?.push(character),
            }
            part_began = character != '.' || previous_is_backslash;
            previous_is_backslash = character == '\\';
        }
        part_began.then_some(Self(parts))
    }

    /// This path, continued by a field name of a selector.
    fn join(&self, name: &str) -> Result<Self, SelectorError> {
        if name.is_empty() && self.0.is_empty() {
            return Ok(Self::default());
        }
        if self.0.iter().map(|part| part.len() + 1).sum::<usize>() + name.len() > MAX_PATH_LENGTH {
            return Err(SelectorError::TooLarge("a path longer than 1000 bytes"));
        }
        let tail = Self::parse(name).ok_or(SelectorError::MissingFieldName)?;
        Ok(Self(self.0.iter().cloned().chain(tail.0).collect()))
    }

    fn look_up<'document>(&self, document: &'document Value) -> Lookup<'document> {
        let mut value = document;
        for name in &self.0 {
            value = match value {
                Value::Object(members) => match members.get(name) {
                    Some(member) => member,
                    None => return Lookup::Missing,
                },
                Value::Array(elements) => match position(name).and_then(|position| elements.get(position)) {
                    Some(element) => element,
                    None => return Lookup::NoWay,
                },
                _ => return Lookup::NoWay,
            };
        }
        Lookup::Found(value)
    }

    fn order(&self) -> Order {
        if self.0.len() == 1 && self.0[0] == "_id" { Order::Bytes } else { Order::Collation }
    }
}

/// A position in an array has one spelling: no sign, no leading zero. So no element can be asked for under many names.
fn position(name: &str) -> Option<usize> {
    let canonical = name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { name.parse().ok() } else { None }
}

/// How the values of one field compare.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// [`collation::compare`].
    Collation,
    /// Document ids: strings by bytes, and greater than anything else (CouchDB takes Erlang's order of terms there).
    Bytes,
}

impl Order {
    fn compare(self, left: &Value, right: &Value) -> Ordering {
        match (self, left, right) {
            (Self::Bytes, Value::String(left), Value::String(right)) => left.cmp(right),
            (Self::Bytes, Value::String(_), _) => Ordering::Greater,
            (Self::Bytes, _, Value::String(_)) => Ordering::Less,
            _ => collation::compare(left, right),
        }
    }
}

/// A selector with every negation pushed down to its conditions.
#[derive(Debug, Clone)]
enum Node {
    /// Every part matches; so an empty list matches.
    All(Vec<Node>),
    /// Some part matches, or the list is empty: CouchDB reads `"$or": []` as no restriction.
    Any(Vec<Node>),
    /// The field exists and meets the condition.
    Field { path: Path, order: Order, condition: Condition },
}

impl Node {
    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(value)),
            Self::Any(parts) => parts.is_empty() || parts.iter().any(|part| part.matches(value)),
            Self::Field { path, order, condition } => match path.look_up(value) {
                Lookup::Found(value) => condition.is_met(value, *order),
                Lookup::Missing => matches!(condition, Condition::Exists(false)),
                Lookup::NoWay => false,
            },
        }
    }
}

/// One condition on a value that exists.
#[derive(Debug, Clone)]
enum Condition {
    Compare(Comparison, Value),
    /// The list is sorted in the field's order, so that thousands of ids cost a binary search.
    In(Vec<Value>),
    Exists(bool),
    Type(String),
    Remainder {
        divisor: i128,
        remainder: i128,
    },
    Pattern(Regex),
    BeginsWith(String),
    Size(u64),
    Contains(Vec<Value>),
    SomeElement(Box<Node>),
    EveryElement(Box<Node>),
    SomeKey(Box<Node>),
    Not(Box<Condition>),
}

impl Condition {
    fn is_met(&self, value: &Value, order: Order) -> bool {
        match (self, value) {
            (Self::Compare(comparison, argument), value) => comparison.accepts(order.compare(value, argument)),
            (Self::In(list), Value::Array(elements)) => elements.iter().any(|element| is_in(list, element, order)),
            (Self::In(list), value) => is_in(list, value, order),
            (Self::Exists(wanted), _) => *wanted,
            (Self::Type(name), value) => name == type_name(value),
            (Self::Remainder { divisor, remainder }, Value::Number(number)) => {
                let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                integer.and_then(|integer| integer.checked_rem(*divisor)) == Some(*remainder)
            }
            (Self::Pattern(pattern), Value::String(text)) => pattern.is_match(text),
            (Self::BeginsWith(prefix), Value::String(text)) => text.starts_with(prefix),
            (Self::Size(size), Value::Array(elements)) => u64::try_from(elements.len()) == Ok(*size),
            (Self::Contains(wanted), Value::Array(elements)) => contains(wanted, elements),
            (Self::SomeElement(node), Value::Array(elements)) => elements.iter().any(|element| node.matches(element)),
            (Self::EveryElement(node), Value::Array(elements)) => {
                !elements.is_empty() && elements.iter().all(|element| node.matches(element))
            }
            (Self::SomeKey(node), Value::Object(members)) => {
                members.keys().any(|key| node.matches(&Value::String(key.clone())))
            }
            (Self::Not(condition), value) => !condition.is_met(value, order),
            _ => false,
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Compare(comparison, argument) => Self::Compare(comparison.negated(), argument),
            Self::Exists(wanted) => Self::Exists(!wanted),
            Self::Not(condition) => *condition,
            other => Self::Not(Box::new(other)),
        }
    }
}

fn is_in(sorted: &[Value], value: &Value, order: Order) -> bool {
    sorted.binary_search_by(|candidate| order.compare(candidate, value)).is_ok()
}

/// `$all`: exact equality here, unlike everywhere else (`1` is not `1.0`), and a single list may also be the whole
/// array. An empty list asks for nothing and matches nothing.
fn contains(wanted: &[Value], elements: &[Value]) -> bool {
    let whole = matches!(wanted, [Value::Array(only)] if only == elements);
    whole || (!wanted.is_empty() && wanted.iter().all(|value| elements.contains(value)))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The six comparisons, each with its negation among them.
#[derive(Debug, Clone, Copy)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Comparison {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::GreaterOrEqual => Self::Less,
            Self::Greater => Self::LessOrEqual,
        }
    }
}

/// Counts what the limits are about while a selector is read.
#[derive(Default)]
struct Parser {
    conditions: usize,
    patterns: usize,
}

impl Parser {
    /// Reads a selector or a part of one. `negated`: what is read stands under an odd number of `$not` and `$nor`.
    fn node(&mut self, value: &Value, path: &Path, negated: bool) -> Result<Node, SelectorError> {
        let Value::Object(members) = value else {
            return self.equality(value, path, negated);
        };
        if members.is_empty() {
            return self.equality(value, path, negated);
        }
        let mut parts = Vec::with_capacity(members.len());
        for (name, argument) in members {
            parts.push(self.member(name, argument, path, negated)?);
        }
        Ok(match parts.len() {
            1 => parts.swap_remove(0),
            _ => all_or_any(parts, !negated),
        })
    }

    /// A bare value stands for `$eq`; so does `{}` below the top.
    fn equality(&mut self, value: &Value, path: &Path, negated: bool) -> Result<Node, SelectorError> {
        self.field(path, Condition::Compare(Comparison::Equal, value.clone()), negated)
    }

    fn member(&mut self, name: &str, argument: &Value, path: &Path, negated: bool) -> Result<Node, SelectorError> {
        match name {
            "$and" => self.combination(name, argument, path, negated, true),
            "$or" => self.combination(name, argument, path, negated, false),
            "$nor" => self.combination(name, argument, path, !negated, false),
            "$not" if argument.is_object() => self.node(argument, path, !negated),
            "$not" => Err(bad_argument(name, argument)),
            _ if name.starts_with('$') => {
                let condition = self.condition(name, argument, path)?;
                self.field(path, condition, negated)
            }
            _ => self.node(argument, &path.join(name)?, negated),
        }
    }

    /// `$and`, `$or` and `$nor`. By De Morgan a negated "all" is an "any" of negated parts; `$nor` is a negated `$or`.
    fn combination(
        &mut self,
        name: &str,
        argument: &Value,
        path: &Path,
        negated: bool,
        all: bool,
    ) -> Result<Node, SelectorError> {
        let Value::Array(items) = argument else {
            return Err(bad_argument(name, argument));
        };
        let parts = items.iter().map(|item| self.node(item, path, negated)).collect::<Result<Vec<_>, _>>()?;
        Ok(all_or_any(parts, all != negated))
    }

    fn field(&mut self, path: &Path, condition: Condition, negated: bool) -> Result<Node, SelectorError> {
        self.count_conditions(1)?;
        let condition = if negated { condition.negated() } else { condition };
        Ok(Node::Field { path: path.clone(), order: path.order(), condition })
    }

    fn count_conditions(&mut self, more: usize) -> Result<(), SelectorError> {
        self.conditions = self.conditions.saturating_add(more);
        if self.conditions > MAX_CONDITIONS {
            return Err(SelectorError::TooLarge("more than 1000 conditions"));
        }
        Ok(())
    }

    fn condition(&mut self, name: &str, argument: &Value, path: &Path) -> Result<Condition, SelectorError> {
        let compare = |comparison| Ok(Condition::Compare(comparison, argument.clone()));
        match (name, argument) {
            ("$lt", _) => compare(Comparison::Less),
            ("$lte", _) => compare(Comparison::LessOrEqual),
            ("$eq", _) => compare(Comparison::Equal),
            ("$ne", _) => compare(Comparison::NotEqual),
            ("$gte", _) => compare(Comparison::GreaterOrEqual),
            ("$gt", _) => compare(Comparison::Greater),
            ("$in", Value::Array(list)) => Ok(one_of(list, path.order())),
            ("$nin", Value::Array(list)) => Ok(one_of(list, path.order()).negated()),
            ("$exists", Value::Bool(wanted)) => Ok(Condition::Exists(*wanted)),
            ("$type", Value::String(type_name)) => Ok(Condition::Type(type_name.clone())),
            ("$mod", Value::Array(list)) => remainder(list).ok_or_else(|| bad_argument(name, argument)),
            ("$regex", Value::String(pattern)) => self.pattern(pattern)?.ok_or_else(|| bad_argument(name, argument)),
            ("$beginsWith", Value::String(prefix)) => Ok(Condition::BeginsWith(prefix.clone())),
            ("$size", Value::Number(size)) => {
                size.as_u64().map(Condition::Size).ok_or_else(|| bad_argument(name, argument))
            }
            ("$all", Value::Array(wanted)) => {
                self.count_conditions(wanted.len())?;
                Ok(Condition::Contains(wanted.clone()))
            }
            ("$elemMatch", Value::Object(_)) => Ok(Condition::SomeElement(self.inner(argument)?)),
            ("$allMatch", Value::Object(_)) => Ok(Condition::EveryElement(self.inner(argument)?)),
            ("$keyMapMatch", Value::Object(_)) => Ok(Condition::SomeKey(self.inner(argument)?)),
            _ => Err(refusal(name, argument)),
        }
    }

    /// A selector held against elements or keys: its paths begin anew.
    fn inner(&mut self, argument: &Value) -> Result<Box<Node>, SelectorError> {
        self.node(argument, &Path::default(), false).map(Box::new)
    }

    /// Compiles a pattern; `None` if it is none, or one that this engine cannot run in linear time (look-around, back
    /// references) or in its memory. Unlike CouchDB's PCRE, `.` is one character, not one byte of it.
    fn pattern(&mut self, pattern: &str) -> Result<Option<Condition>, SelectorError> {
        self.patterns = self.patterns.saturating_add(1);
        if self.patterns > MAX_PATTERNS {
            return Err(SelectorError::TooLarge("more than 16 patterns"));
        }
        if pattern.len() > MAX_PATTERN_LENGTH {
            return Ok(None);
        }
        let compiled = RegexBuilder::new(pattern)
            .size_limit(MAX_PATTERN_MEMORY)
            .dfa_size_limit(MAX_PATTERN_MEMORY)
            .nest_limit(50)
            .build();
        Ok(compiled.ok().map(Condition::Pattern))
    }
}

fn all_or_any(parts: Vec<Node>, all: bool) -> Node {
    if all { Node::All(parts) } else { Node::Any(parts) }
}

fn one_of(list: &[Value], order: Order) -> Condition {
    let mut sorted = list.to_vec();
    sorted.sort_by(|left, right| order.compare(left, right));
    Condition::In(sorted)
}

/// `[divisor, remainder]`, both integers. A divisor of zero, on which CouchDB fails at each document, is refused.
fn remainder(list: &[Value]) -> Option<Condition> {
    let [divisor, remainder] = list else {
        return None;
    };
    let divisor = divisor.as_i64().filter(|divisor| *divisor != 0)?;
    Some(Condition::Remainder { divisor: divisor.into(), remainder: remainder.as_i64()?.into() })
}

/// Why an operator with this argument is none of the conditions. CouchDB calls `$beginsWith` itself unknown when its
/// argument is no string (PR 4810).
fn refusal(name: &str, argument: &Value) -> SelectorError {
    match name {
        "$in" | "$nin" | "$exists" | "$type" | "$mod" | "$regex" | "$size" | "$all" | "$elemMatch" | "$allMatch"
        | "$keyMapMatch" => bad_argument(name, argument),
        "$text" | "$where" | "$geoWithin" | "$geoIntersects" | "$near" | "$nearSphere" => {
            SelectorError::NotSupported(name.to_owned())
        }
        _ => SelectorError::InvalidOperator(shortened(name.to_owned())),
    }
}

fn bad_argument(operator: &str, argument: &Value) -> SelectorError {
    SelectorError::BadArgument { operator: operator.to_owned(), argument: quoted(argument) }
}

fn quoted(value: &Value) -> String {
    shortened(value.to_string())
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_QUOTED {
        let end = (0..=MAX_QUOTED).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Counts the values of a selector and refuses one that is too deep or too large, before anything is built from it.
fn measure(value: &Value, levels_left: usize, count: &mut usize) -> Result<(), SelectorError> {
    *count += 1;
    if *count > MAX_VALUES {
        return Err(SelectorError::TooLarge("more than 50000 values"));
    }
    let Some(levels_left) = levels_left.checked_sub(1) else {
        return Err(SelectorError::TooLarge("nested deeper than 48 levels"));
    };
    match value {
        Value::Array(elements) => elements.iter().try_for_each(|element| measure(element, levels_left, count)),
        Value::Object(members) => members.values().try_for_each(|member| measure(member, levels_left, count)),
        _ => Ok(()),
    }
}
