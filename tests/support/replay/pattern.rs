//! Whether an answer fits what was recorded: the wildcards and operators of the recordings.
//!
//! `compare` is for JSON values, `compare_parts` for the parts of a multipart body, `fits_text` for one string. The
//! first difference is told with its place, what was expected there and what came.

use regex::Regex;

use super::json::{Json, Members};
use super::variables::Variables;
use super::{Difference, shorten};

/// Longest excerpt of a value in a message, in characters.
const EXCERPT: usize = 1000;
const OPERATORS: [&str; 5] = ["$includes", "$unordered", "$contains", "$each", "$either"];

type Outcome = Result<(), Difference>;

/// Compares a JSON value with a pattern; `place` is where in the answer we are, `$` at the top.
pub(super) fn compare(pattern: &Json, actual: &Json, variables: &Variables, place: &str) -> Outcome {
    match pattern {
        Json::String(text) => match fits_text(text, actual, variables)? {
            true => Ok(()),
            false => Err(unlike(place, &variables.expand_text(text), actual)),
        },
        Json::Object(members) => match operator(members) {
            Some((name, operand)) => compare_operator(name, operand, actual, variables, place),
            None => compare_object(members, actual, variables, place),
        },
        Json::Array(items) => compare_array(items, actual, variables, place),
        Json::Null | Json::Bool(_) | Json::Number(_) if pattern == actual => Ok(()),
        Json::Null | Json::Bool(_) | Json::Number(_) => Err(unlike(place, pattern, actual)),
    }
}

/// The operator an object stands for: these words mean something only as the single member.
fn operator(members: &Members) -> Option<(&str, &Json)> {
    members.iter().next().filter(|(name, _)| members.len() == 1 && OPERATORS.contains(name))
}

fn compare_array(items: &[Json], actual: &Json, variables: &Variables, place: &str) -> Outcome {
    let Json::Array(got) = actual else {
        return Err(unlike(place, &Json::Array(items.to_vec()), actual));
    };
    for (index, (item, got)) in items.iter().zip(got).enumerate() {
        compare(item, got, variables, &format!("{place}[{index}]"))?;
    }
    if items.len() != got.len() {
        let wanted = format!("{} elements", items.len());
        return Err(differs(place, &wanted, &format!("{}: {}", got.len(), excerpt(actual))));
    }
    Ok(())
}

fn compare_object(members: &Members, actual: &Json, variables: &Variables, place: &str) -> Outcome {
    let got = compare_members(members, actual, variables, place)?;
    let wanted: Vec<String> = members.iter().map(|(name, _)| variables.replace(name)).collect();
    match got.iter().find(|(name, _)| !wanted.iter().any(|known| known == name)) {
        Some((name, value)) => Err(differs(place, &format!("no member {name:?}"), &excerpt(value))),
        None => Ok(()),
    }
}

/// Every member named is there and fits, or is there not if its pattern says so; others are not looked at.
fn compare_members<'a>(
    members: &Members,
    actual: &'a Json,
    variables: &Variables,
    place: &str,
) -> Result<&'a Members, Difference> {
    let Json::Object(got) = actual else {
        return Err(unlike(place, &variables.expand(&Json::Object(members.clone())), actual));
    };
    for (name, item) in members.iter() {
        let name = variables.replace(name);
        match (item.as_str() == Some("$absent"), got.get(&name)) {
            (true, None) => {}
            (true, Some(value)) => return Err(differs(place, &format!("no member {name:?}"), &excerpt(value))),
            (false, None) => {
                let wanted = format!("a member {name:?} like {}", excerpt(&variables.expand(item)));
                return Err(differs(place, &wanted, &excerpt(actual)));
            }
            (false, Some(value)) => compare(item, value, variables, &format!("{place}.{name}"))?,
        }
    }
    Ok(got)
}

fn compare_operator(name: &str, operand: &Json, actual: &Json, variables: &Variables, place: &str) -> Outcome {
    if name == "$includes" {
        let Json::Object(members) = operand else {
            return Err(Difference::bad(format!("{place}: {name} needs an object")));
        };
        return compare_members(members, actual, variables, place).map(|_| ());
    }
    if name == "$each" {
        let Json::Array(got) = actual else { return Err(unlike(place, &"an array".into(), actual)) };
        for (index, got) in got.iter().enumerate() {
            compare(operand, got, variables, &format!("{place}[{index}]"))?;
        }
        return Ok(());
    }
    let Json::Array(choices) = operand else {
        return Err(Difference::bad(format!("{place}: {name} needs an array")));
    };
    if name == "$either" {
        for choice in choices {
            if fits(compare(choice, actual, variables, place))? {
                return Ok(());
            }
        }
        return Err(differs(place, &format!("one of {}", excerpt(&variables.expand(operand))), &excerpt(actual)));
    }
    let Json::Array(got) = actual else { return Err(unlike(place, &"an array".into(), actual)) };
    let rest = take_each(choices, got, place, variables, |item, got| compare(item, got, variables, place))?;
    match rest.first() {
        Some(extra) if name == "$unordered" => Err(differs(place, "no further element", &excerpt(extra))),
        _ => Ok(()),
    }
}

/// For each pattern takes the first element that fits away, and returns those that are left.
fn take_each<'a>(
    patterns: &[Json],
    got: &'a [Json],
    place: &str,
    variables: &Variables,
    compare: impl Fn(&Json, &Json) -> Outcome,
) -> Result<Vec<&'a Json>, Difference> {
    let mut rest: Vec<&Json> = got.iter().collect();
    for pattern in patterns {
        let mut found = None;
        for (index, element) in rest.iter().enumerate() {
            if fits(compare(pattern, element))? {
                found = Some(index);
                break;
            }
        }
        let Some(index) = found else {
            let wanted = format!("an element like {}", excerpt(&variables.expand(pattern)));
            return Err(differs(place, &wanted, &excerpt(&Json::Array(got.to_vec()))));
        };
        rest.remove(index);
    }
    Ok(rest)
}

/// Compares the parts of a multipart body: `headers` need only hold those named, the content must fit as a whole.
pub(super) fn compare_parts(pattern: &Json, actual: &Json, variables: &Variables, place: &str) -> Outcome {
    let Json::Array(parts) = actual else { return Err(unlike(place, &"parts".into(), actual)) };
    if let Some(Json::Array(patterns)) = pattern.get("$unordered") {
        let compare = |pattern: &Json, part: &Json| compare_part(pattern, part, variables, place);
        let rest = take_each(patterns, parts, place, variables, compare)?;
        return match rest.first() {
            Some(extra) => Err(differs(place, "no further part", &excerpt(extra))),
            None => Ok(()),
        };
    }
    let Json::Array(patterns) = pattern else {
        return Err(Difference::bad(format!("{place}: parts need an array")));
    };
    if patterns.len() != parts.len() {
        let got = format!("{}: {}", parts.len(), excerpt(actual));
        return Err(differs(place, &format!("{} parts", patterns.len()), &got));
    }
    for (index, (pattern, part)) in patterns.iter().zip(parts).enumerate() {
        compare_part(pattern, part, variables, &format!("{place}[{index}]"))?;
    }
    Ok(())
}

fn compare_part(pattern: &Json, part: &Json, variables: &Variables, place: &str) -> Outcome {
    let Json::Object(members) = pattern else {
        return Err(Difference::bad(format!("{place}: a part needs an object")));
    };
    for (name, wanted) in members.iter() {
        let place = format!("{place}.{name}");
        match (name, part.get(name), wanted) {
            ("headers", Some(got), Json::Object(wanted)) => {
                compare_members(wanted, got, variables, &place)?;
            }
            ("multipart", Some(got), _) => compare_parts(wanted, got, variables, &place)?,
            (_, Some(got), _) => compare(wanted, got, variables, &place)?,
            (_, None, _) => return Err(differs(&place, &format!("a {name} part"), &excerpt(part))),
        }
    }
    Ok(())
}

/// Whether a value fits a pattern that is a string: a wildcard, a regular expression, or the value itself.
pub(super) fn fits_text(pattern: &str, actual: &Json, variables: &Variables) -> Result<bool, Difference> {
    let text = actual.as_str();
    let of_text = |fits: fn(&str) -> bool| text.is_some_and(fits);
    Ok(match pattern {
        "$any" => true,
        "$str" => text.is_some(),
        "$int" => matches!(actual, Json::Number(number) if !number.is_f64()),
        "$bool" => matches!(actual, Json::Bool(_)),
        "$rev" => of_text(is_revision),
        "$seq" => matches!(actual, Json::Number(number) if number.is_u64()) || of_text(|text| !text.is_empty()),
        "$uuid" => of_text(is_hash),
        "$digest" => of_text(is_digest),
        _ => match (pattern.split_once(':'), pattern.strip_prefix("$=")) {
            (_, Some(literal)) => text.is_some_and(|text| variables.replace(literal) == text),
            (Some(("$rev", generation)), _) => {
                let prefix = format!("{generation}-");
                text.is_some_and(|text| is_revision(text) && text.starts_with(&prefix))
            }
            (Some(("$re", expression)), _) => {
                let expression = whole_text(&variables.replace(expression))?;
                text.is_some_and(|text| expression.is_match(text))
            }
            _ if pattern.starts_with('$') => return Err(Difference::bad(format!("unknown wildcard {pattern:?}"))),
            _ => variables.expand_text(pattern) == *actual,
        },
    })
}

/// A regular expression that must fit the whole text, where `.` fits line ends too.
fn whole_text(expression: &str) -> Result<Regex, Difference> {
    let whole = format!(r"\A(?s:{expression})\z");
    Regex::new(&whole).map_err(|error| Difference::bad(format!("bad expression {expression:?}: {error}")))
}

fn is_hash(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_revision(text: &str) -> bool {
    let digits = |generation: &str| !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(generation, hash)| digits(generation) && is_hash(hash))
}

/// `md5-` and the base64 of 16 bytes.
fn is_digest(text: &str) -> bool {
    let letters = text.strip_prefix("md5-").and_then(|rest| rest.strip_suffix("=="));
    letters.is_some_and(|letters| {
        letters.len() == 22 && letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    })
}

/// Turns an outcome into yes or no; a wrong recording stays an error.
fn fits(outcome: Outcome) -> Result<bool, Difference> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Difference::Mismatch(_)) => Ok(false),
        Err(wrong @ Difference::BadRecording(_)) => Err(wrong),
    }
}

fn unlike(place: &str, wanted: &Json, actual: &Json) -> Difference {
    differs(place, &excerpt(wanted), &excerpt(actual))
}

fn differs(place: &str, wanted: &str, got: &str) -> Difference {
    Difference::mismatch(format!("at {place}\n      expected {wanted}\n      got      {got}"))
}

fn excerpt(value: &Json) -> String {
    shorten(&value.to_string(), EXCERPT)
}

#[cfg(test)]
mod tests;
