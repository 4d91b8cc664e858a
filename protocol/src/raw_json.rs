//! Reads JSON text without touching it: one pass that checks the grammar and hands out the client's own slices.
//!
//! Documents must come back byte for byte (`1.0`, `1e2`, 40-digit numbers, escapes), so no value is ever built here. What
//! CouchDB's parser refuses is refused: broken grammar, lone surrogates, raw control characters, numbers beyond a double,
//! too deep nesting. Never recursive: hostile depth costs nothing.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Deepest nesting accepted unless configured otherwise (design §13).
pub const MAX_DEPTH: usize = 512;

/// A position in a JSON text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    max_depth: usize,
}

/// A member name or string value as it stands in the text, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawString<'a> {
    /// The text between the quotes.
    pub raw: &'a str,
    escaped: bool,
}

impl<'a> RawString<'a> {
    /// The meaning of the string, escapes resolved.
    #[must_use]
    pub fn decode(&self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let quoted = format!("\"{}\"", self.raw);
        Cow::Owned(serde_json::from_str(&quoted).unwrap_or_default())
    }
}

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of JSON")]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl<'a> Scanner<'a> {
    /// A scanner over a request body.
    ///
    /// # Errors
    /// `400 bad_request "invalid UTF-8 JSON"` for bytes that are not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid_json())?;
        Ok(Self::of_text(text))
    }

    /// A scanner over text.
    #[must_use]
    pub fn of_text(text: &'a str) -> Self {
        Self { text, at: 0, max_depth: MAX_DEPTH }
    }

    /// The kind of the next value, without reading it.
    ///
    /// # Errors
    /// `400` when no value can start here.
    pub fn kind(&mut self) -> Result<Kind> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            _ => Err(Error::invalid_json()),
        }
    }

    /// Reads an object, handing each member's name and a scanner that stands before its value to `member`, which must read
    /// exactly that value.
    ///
    /// # Errors
    /// `400 bad_request "invalid UTF-8 JSON"` for broken grammar, and whatever `member` refuses.
    pub fn object(&mut self, mut member: impl FnMut(RawString<'a>, &mut Self) -> Result<()>) -> Result<()> {
        self.expect(b'{')?;
        self.skip_space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.one_member(&mut member)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Reads the members of an object that stand alone, without braces around them, up to the end of the text.
    ///
    /// # Errors
    /// As [`Scanner::object`].
    pub fn members(&mut self, mut member: impl FnMut(RawString<'a>, &mut Self) -> Result<()>) -> Result<()> {
        self.skip_space();
        if self.at == self.text.len() {
            return Ok(());
        }
        loop {
            self.one_member(&mut member)?;
            if self.at == self.text.len() {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn one_member(&mut self, member: &mut impl FnMut(RawString<'a>, &mut Self) -> Result<()>) -> Result<()> {
        self.skip_space();
        let name = self.string()?;
        self.skip_space();
        self.expect(b':')?;
        member(name, self)?;
        self.skip_space();
        Ok(())
    }

    /// Reads an array, calling `element` before each element, which must read exactly one value.
    ///
    /// # Errors
    /// As [`Scanner::object`].
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect(b'[')?;
        self.skip_space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_space();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// The texts of an array's elements, told apart by brackets, commas and quotes alone: neither they nor anything but
    /// their strings is checked. If each is one whole value, this was an array of them; else it says nothing.
    ///
    /// # Errors
    /// `400` when there is no array or no end of it.
    pub fn unchecked_elements(&mut self) -> Result<Vec<&'a str>> {
        let mut elements = Vec::new();
        self.array(|scanner| {
            elements.push(scanner.unchecked_value()?);
            Ok(())
        })?;
        Ok(elements)
    }

    /// Reads a string.
    ///
    /// # Errors
    /// `400` when the next value is no string, or a broken one.
    pub fn string(&mut self) -> Result<RawString<'a>> {
        self.skip_space();
        self.expect(b'"')?;
        let start = self.at;
        let escaped = self.skip_string_rest()?;
        Ok(RawString { raw: &self.text[start..self.at - 1], escaped })
    }

    /// Reads one value of any kind, checks all of it and returns its text.
    ///
    /// # Errors
    /// `400` for broken grammar or nesting beyond the limit.
    pub fn value(&mut self) -> Result<&'a str> {
        self.skip_space();
        let start = self.at;
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_space();
            let opened = self.scalar_or_open(&mut open)?;
            if opened {
                continue;
            }
            if !self.after_value(&mut open)? {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// The text of the next value in a text that was checked before, told by brackets, commas and quotes alone. In one that was
    /// not, it says nothing.
    ///
    /// # Errors
    /// `400` when there is no end of it.
    pub fn unchecked_value(&mut self) -> Result<&'a str> {
        self.skip_space();
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            let byte = self.peek().ok_or_else(Error::invalid_json)?;
            self.at += 1;
            match byte {
                b'"' => {
                    self.skip_string_rest()?;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1).ok_or_else(Error::invalid_json)?,
                _ if depth > 0 => continue,
                _ => {
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                    let rest = &self.text.as_bytes()[self.at..];
                    self.at += rest.iter().position(ends).unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// Reads a scalar (`false`) or opens a container that is not empty (`true`). An empty container counts as a scalar.
    fn scalar_or_open(&mut self, open: &mut Vec<u8>) -> Result<bool> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.skip_string_rest()?;
            }
            Some(bracket @ (b'{' | b'[')) => {
                self.at += 1;
                self.skip_space();
                let closing = bracket + 2; // '{' → '}', '[' → ']'
                if !self.take(closing) {
                    if open.len() >= self.max_depth {
                        return Err(Error::bad_request("JSON is nested too deeply"));
                    }
                    open.push(closing);
                    if closing == b'}' {
                        self.member_name()?;
                    }
                    return Ok(true);
                }
            }
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => self.number()?,
        }
        Ok(false)
    }

    /// After a value: closes what ends here. `true` when another value must follow.
    fn after_value(&mut self, open: &mut Vec<u8>) -> Result<bool> {
        while let Some(&closing) = open.last() {
            self.skip_space();
            if self.take(b',') {
                if closing == b'}' {
                    self.skip_space();
                    self.member_name()?;
                }
                return Ok(true);
            }
            self.expect(closing)?;
            open.pop();
        }
        Ok(false)
    }

    fn member_name(&mut self) -> Result<()> {
        self.string()?;
        self.skip_space();
        self.expect(b':')
    }

    /// Nothing but white space may follow.
    ///
    /// # Errors
    /// `400` when something does.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Error::invalid_json()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        self.skip_space();
        if self.take(byte) { Ok(()) } else { Err(Error::invalid_json()) }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Error::invalid_json());
        }
        self.at += word.len();
        Ok(())
    }

    /// From behind the opening quote to behind the closing one; says whether there were escapes.
    fn skip_string_rest(&mut self) -> Result<bool> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            let rest = &bytes[self.at..];
            let stop = plain_length(rest);
            self.at += stop + 1;
            match *rest.get(stop).ok_or_else(Error::invalid_json)? {
                b'"' => return Ok(escaped),
                b'\\' => self.escape()?,
                _ => return Err(Error::invalid_json()),
            }
            escaped = true;
        }
    }

    fn escape(&mut self) -> Result<()> {
        let kind = self.peek().ok_or_else(Error::invalid_json)?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.four_hex()? {
                0xDC00..=0xDFFF => Err(Error::invalid_json()),
                0xD800..=0xDBFF => self.low_surrogate(),
                _ => Ok(()),
            },
            _ => Err(Error::invalid_json()),
        }
    }

    fn low_surrogate(&mut self) -> Result<()> {
        if self.take(b'\\') && self.take(b'u') && matches!(self.four_hex()?, 0xDC00..=0xDFFF) {
            return Ok(());
        }
        Err(Error::invalid_json())
    }

    fn four_hex(&mut self) -> Result<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or_else(Error::invalid_json)?;
        let mut value = 0;
        for digit in digits {
            value = value << 4 | (*digit as char).to_digit(16).ok_or_else(Error::invalid_json)?;
        }
        self.at += 4;
        Ok(value as u16)
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(Error::invalid_json()) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<()> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut float = false;
        if self.take(b'.') {
            float = true;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if !self.take(b'-') {
                self.take(b'+');
            }
            self.digits()?;
        }
        let finite = || self.text[start..self.at].parse::<f64>().is_ok_and(f64::is_finite);
        if float && !finite() { Err(Error::invalid_json()) } else { Ok(()) }
    }
}

/// Appends a JSON string, quotes included, escaping only what JSON demands (CouchDB escapes no `/` and no non-ASCII).
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for byte in text.bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                byte if byte < 0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                byte => out.push(byte),
            }
        }
    }
    out.push(b'"');
}

/// How many bytes stand before the first quote, backslash or control character. Looks at eight at a time: most of a
/// request is strings.
fn plain_length(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH << 7;
    // The high bit of each byte that is less than `limit` (at most 128). A borrow reaches only bytes above such a byte, so the
    // lowest bit set is right.
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word & HIGH;
    let words = bytes.chunks_exact(8);
    let tail = words.remainder();
    for (at, word) in words.enumerate() {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        let quote = below(word ^ (EACH * u64::from(b'"')), 1);
        let backslash = below(word ^ (EACH * u64::from(b'\\')), 1);
        let stops = quote | backslash | below(word, 0x20);
        if stops != 0 {
            return at * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    let stop = tail.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
    bytes.len() - tail.len() + stop.unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<&str> {
        let mut scanner = Scanner::of_text(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    #[test]
    fn plain_text_ends_at_the_first_byte_that_ends_it() {
        let naive = |bytes: &[u8]| {
            let stop = bytes.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            stop.unwrap_or(bytes.len())
        };
        for byte in 0..=255 {
            for at in 0..20 {
                for other in [0x00, 0x1f, b'!', b'"', b'#', b'[', b'\\', b']', 0x7f, 0x80, 0xff] {
                    let mut bytes = [b'x'; 20];
                    (bytes[at], bytes[(at + 3) % 20]) = (byte, other);
                    assert_eq!(plain_length(&bytes), naive(&bytes), "{bytes:?}");
                    assert_eq!(plain_length(&bytes[..at]), naive(&bytes[..at]), "{bytes:?} up to {at}");
                }
            }
        }
    }

    #[test]
    fn text_comes_back_as_it_was() {
        for text in [
            "{\"a\" : 1.0,\"b\":[1e2, -0,{}],\"\":\"\\ud83d\\ude00 \\u0000\"}",
            "[]",
            "12345678901234567890123",
            "null",
        ] {
            assert_eq!(check(text).expect(text), text);
            assert_eq!(check(&format!(" \n{text}\t")).expect(text), text);
        }
    }

    fn values() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let text = || "[a-z\\[\\]{},:\"\\\\ é]{0,12}";
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e9..1e9).prop_map(|number: f64| number.into()),
            text().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((text(), inner), 0..6)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    fn members<'t>(read: fn(&mut Scanner<'t>) -> Result<&'t str>, text: &'t str) -> Result<Vec<(&'t str, &'t str)>> {
        let mut members = Vec::new();
        Scanner::of_text(text).members(|name, scanner| {
            members.push((name.raw, read(scanner)?));
            Ok(())
        })?;
        Ok(members)
    }

    proptest::proptest! {
        #[test]
        fn of_a_checked_text_the_same_values_are_told_unchecked(value in values(), spaced: bool) {
            let text = if spaced { format!("{value:#}") } else { value.to_string() };
            let (mut checked, mut unchecked) = (Scanner::of_text(&text), Scanner::of_text(&text));
            proptest::prop_assert_eq!(unchecked.unchecked_value(), checked.value());
            proptest::prop_assert!(unchecked.end().is_ok());
            let around = format!("\"a\":{text} ,\"b\":[{text}\n], \"c\": {text}");
            let found = members(Scanner::unchecked_value, &around);
            proptest::prop_assert_eq!(&found, &members(Scanner::value, &around));
            proptest::prop_assert_eq!(found.map(|members| members.len()), Ok(3));
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "--1",
            "NaN",
            "True",
            "'a'",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\x\"",
            "\"a\nb\"",
            "\"abc",
            "1 2",
            "{\"a\":1}{",
            "1E400",
            "[1 2]",
            "nul",
            "{\"a\":1/*x*/}",
            "[}",
            "{]",
            "\"\\u12",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(Scanner::new(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_is_limited_without_recursion() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(check(&nested(MAX_DEPTH + 1)).map_err(|e| e.status()), Err(400));
        assert!(check(&"[".repeat(3_000_000)).is_err());
    }

    #[test]
    fn agrees_with_serde_json_on_small_texts() {
        // Every string of up to 5 symbols over this alphabet: the grammar of one must be the grammar of the other.
        let alphabet = ["{", "}", "[", "]", ",", ":", "\"a\"", "1", "-", ".0", "e1", " ", "true"];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts.iter().flat_map(|t| alphabet.iter().map(move |s| format!("{t}{s}"))).collect();
            for text in &texts {
                let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok(); // refuses 1e1111, as we do
                assert_eq!(check(text).is_ok(), theirs, "{text}");
            }
        }
    }

    #[test]
    fn strings_are_written_as_json() {
        for text in ["plain", "é\u{2028}/", "a\"b\\c\n\r\t\u{0}\u{1f}"] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).expect("json"), text);
        }
    }
}
