//! The variables of a conversation and their places: `{name}` in paths, headers, bodies and patterns.
//!
//! A name that is not known stays as it is written, since documents may hold braces of their own.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::json::Json;

/// What a path value need not escape: the unreserved characters, `/` and `:`.
const PATH_VALUE: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

#[derive(Debug, Clone, Default)]
pub(super) struct Variables(HashMap<String, Json>);

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Json>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The variables put into every string of a value, names of members too.
    pub(super) fn expand(&self, value: &Json) -> Json {
        match value {
            Json::String(text) => self.expand_text(text),
            Json::Array(items) => Json::Array(items.iter().map(|item| self.expand(item)).collect()),
            Json::Object(members) => {
                Json::Object(members.iter().map(|(name, item)| (self.replace(name), self.expand(item))).collect())
            }
            other => other.clone(),
        }
    }

    /// A text that is nothing but one variable becomes its value, whatever its type.
    pub(super) fn expand_text(&self, text: &str) -> Json {
        let whole = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match whole.and_then(|name| self.0.get(name)) {
            Some(value) => value.clone(),
            None => Json::String(self.replace(text)),
        }
    }

    /// The variables put into a text; the result is always text.
    pub(super) fn replace(&self, text: &str) -> String {
        self.replace_with(text, |value| value)
    }

    /// Like `replace`, with the values escaped as a path needs it.
    pub(super) fn replace_in_path(&self, path: &str) -> String {
        self.replace_with(path, |value| utf8_percent_encode(&value, &PATH_VALUE).to_string())
    }

    fn replace_with(&self, text: &str, escape: impl Fn(String) -> String) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let (before, opened) = rest.split_at(start);
            out.push_str(before);
            let known = opened.find('}').and_then(|end| Some((end, self.0.get(&opened[1..end])?)));
            match known {
                Some((end, value)) => {
                    out.push_str(&escape(value.plain()));
                    rest = &opened[end + 1..];
                }
                None => {
                    out.push('{');
                    rest = &opened[1..];
                }
            }
        }
        out + rest
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Variables {
        let mut variables = Variables::default();
        variables.set("id", "a b/é");
        variables.set("count", Json::parse(b"3").expect("a number"));
        variables
    }

    #[test]
    fn a_text_that_is_one_variable_keeps_its_type() {
        assert_eq!(sample().expand_text("{count}").to_string(), "3");
        assert_eq!(sample().expand_text("{count}.").to_string(), "\"3.\"");
    }

    #[test]
    fn unknown_names_and_loose_braces_stay() {
        assert_eq!(sample().replace("{{count}} {nobody} {\"a\":{} {"), "{3} {nobody} {\"a\":{} {");
    }

    #[test]
    fn values_in_paths_are_escaped() {
        assert_eq!(sample().replace_in_path("/db/{id}?k={count}"), "/db/a%20b/%C3%A9?k=3");
    }
}
