//! JSON that keeps the order of members, since a recorded request is sent as it was written.
//!
//! Of duplicate members the last value counts. Numbers compare by value (`1` equals `1.0`), objects without regard to
//! order. Written out as the recorder wrote it: `", "` and `": "`, no escapes but the necessary ones.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

#[derive(Debug, Clone)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Members),
}

/// The members of an object in their order, each name once.
#[derive(Debug, Clone, Default)]
pub(super) struct Members(Vec<(String, Json)>);

impl Members {
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, name: String, value: Json) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<(String, Json)> for Members {
    fn from_iter<Source: IntoIterator<Item = (String, Json)>>(source: Source) -> Self {
        let mut members = Self::default();
        source.into_iter().for_each(|(name, value)| members.insert(name, value));
        members
    }
}

impl Json {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text a string stands for, and the JSON of anything else.
    pub(super) fn plain(&self) -> String {
        self.as_str().map_or_else(|| self.to_string(), str::to_owned)
    }

    /// The member of this name, if this is an object that has it.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// RFC 6901 look-up: `/rows/0/id`; the empty pointer is the value itself.
    pub(super) fn pointer(&self, path: &str) -> Option<&Json> {
        path.split('/').skip(1).try_fold(self, |value, token| {
            let token = token.replace("~1", "/").replace("~0", "~");
            match value {
                Self::Array(items) => items.get(token.parse::<usize>().ok()?),
                Self::Object(members) => members.get(&token),
                _ => None,
            }
        })
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => same_number(left, right),
            (Self::String(left), Self::String(right)) => left == right,
            (Self::Array(left), Self::Array(right)) => left == right,
            (Self::Object(left), Self::Object(right)) => {
                left.len() == right.len() && left.iter().all(|(name, value)| right.get(name) == Some(value))
            }
            _ => false,
        }
    }
}

fn same_number(left: &Number, right: &Number) -> bool {
    left == right || ((left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64())
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::String(text) => write_text(text, out),
            Self::Array(items) => {
                out.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(out, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                out.write_str("]")
            }
            Self::Object(members) => {
                out.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    out.write_str(if index == 0 { "" } else { ", " })?;
                    write_text(name, out)?;
                    write!(out, ": {value}")?;
                }
                out.write_str("}")
            }
        }
    }
}

fn write_text(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<Source: Deserializer<'de>>(source: Source) -> Result<Self, Source::Error> {
        source.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<Error>(self) -> Result<Json, Error> {
        Ok(Json::Null)
    }

    fn visit_bool<Error>(self, value: bool) -> Result<Json, Error> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<Error>(self, value: i64) -> Result<Json, Error> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<Error>(self, value: u64) -> Result<Json, Error> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<Error>(self, value: f64) -> Result<Json, Error> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<Error>(self, text: &str) -> Result<Json, Error> {
        Ok(Json::from(text))
    }

    fn visit_seq<Source: SeqAccess<'de>>(self, mut source: Source) -> Result<Json, Source::Error> {
        let mut items = Vec::new();
        while let Some(item) = source.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<Source: MapAccess<'de>>(self, mut source: Source) -> Result<Json, Source::Error> {
        let mut members = Members::default();
        while let Some((name, value)) = source.next_entry()? {
            members.insert(name, value);
        }
        Ok(Json::Object(members))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<Source: Deserializer<'de>>(source: Source) -> Result<Self, Source::Error> {
        match Json::deserialize(source)? {
            Json::Object(members) => Ok(members),
            other => Err(serde::de::Error::custom(format!("expected an object, got {other}"))),
        }
    }
}
