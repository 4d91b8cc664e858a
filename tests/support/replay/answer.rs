//! The answer of a server as the recordings see it: JSON, lines of a feed, events, parts, text, bytes.
//!
//! Parts become JSON themselves (`headers` and one of `json`, `text` with `base64`, `multipart`), so that patterns and
//! captures work on all of them alike.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::http::{Response, unpack};
use super::json::{Json, Members};
use super::{Difference, shorten};

/// The body kinds that are compared as a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Lines,
    Events,
    Multipart,
}

/// The body of `response` as a value of this kind: for all but `Json` an array.
pub(super) fn value_of(response: &Response, kind: Kind) -> Result<Json, Difference> {
    let body = response.bytes();
    match kind {
        Kind::Json => Json::parse(&body).map_err(|error| not_json("the body", &body, &error)),
        Kind::Lines => lines(&body),
        Kind::Events => Ok(events(&String::from_utf8_lossy(&body))),
        Kind::Multipart => parts(response.header("content-type").unwrap_or_default(), &response.body),
    }
}

/// How many empty lines a feed held; an unfinished last line is none.
pub(super) fn heartbeats(response: &Response) -> usize {
    let body = response.bytes();
    let lines = body.split(|byte| *byte == b'\n').count() - 1;
    body.split(|byte| *byte == b'\n').take(lines).filter(|line| line.trim_ascii().is_empty()).count()
}

/// The text of the body, with bytes that are no UTF-8 written as `\xff`.
pub(super) fn text(response: &Response) -> String {
    let mut out = String::new();
    for chunk in response.bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

fn lines(body: &[u8]) -> Result<Json, Difference> {
    let filled = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let parsed = filled.map(|line| Json::parse(line).map_err(|error| not_json("a line of the feed", line, &error)));
    parsed.collect::<Result<Vec<Json>, Difference>>().map(Json::Array)
}

/// Events are blocks between empty lines; `data` is JSON where it can be, comments are passed over.
fn events(body: &str) -> Json {
    let mut events = Vec::new();
    for block in body.split("\n\n") {
        let mut event = Members::default();
        for line in block.split('\n') {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.trim();
            match name {
                "data" => event.insert(name.into(), Json::parse(value.as_bytes()).unwrap_or_else(|_| value.into())),
                "id" | "event" => event.insert(name.into(), value.into()),
                _ => {}
            }
        }
        if event.len() > 0 {
            events.push(Json::Object(event));
        }
    }
    Json::Array(events)
}

/// Takes a multipart body apart (RFC 2046), parts that are multipart themselves included.
fn parts(content_type: &str, body: &[u8]) -> Result<Json, Difference> {
    let boundary = boundary(content_type)
        .ok_or_else(|| Difference::mismatch(format!("no boundary in the content type {content_type:?}")))?;
    let marker = format!("--{boundary}").into_bytes();
    let start = body.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(body.len());
    let Some(after_first) = body[start..].strip_prefix(marker.as_slice()) else {
        return Err(Difference::mismatch("the multipart body does not start with its boundary"));
    };
    let pieces = split_bytes(after_first, &[b"\r\n", marker.as_slice()].concat());
    match pieces.split_last() {
        Some((last, pieces)) if last.starts_with(b"--") => {
            pieces.iter().map(|piece| part(piece)).collect::<Result<Vec<Json>, Difference>>().map(Json::Array)
        }
        _ => Err(Difference::mismatch("the multipart body has no closing boundary")),
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let (_, rest) = content_type.split_once("boundary=")?;
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    rest.split(['"', ';']).next().filter(|boundary| !boundary.is_empty())
}

/// One part, from behind its boundary line on.
fn part(piece: &[u8]) -> Result<Json, Difference> {
    let (head, content) = match find_bytes(piece, b"\r\n\r\n") {
        Some(end) => (&piece[..end], &piece[end + 4..]),
        None => (piece, [].as_slice()),
    };
    let head = String::from_utf8_lossy(head);
    let headers: Members = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), Json::from(value.trim())))
        .collect();
    let header = |name: &str| headers.get(name).and_then(Json::as_str);
    let content_type = header("content-type").unwrap_or_default();
    let mut out = Members::default();
    if content_type.starts_with("multipart/") {
        out.insert("multipart".into(), parts(content_type, content)?);
    } else {
        let content = unpack(header("content-encoding"), content);
        if content_type.starts_with("application/json") && header("content-disposition").is_none() {
            let value = Json::parse(&content).map_err(|error| not_json("a JSON part", &content, &error))?;
            out.insert("json".into(), value);
        } else {
            out.insert("base64".into(), Json::from(STANDARD.encode(&content)));
            if let Ok(text) = String::from_utf8(content) {
                out.insert("text".into(), Json::from(text));
            }
        }
    }
    out.insert("headers".into(), Json::Object(headers));
    Ok(Json::Object(out))
}

/// The pieces between the places where `separator` stands; never empty.
fn split_bytes<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(end) = find_bytes(bytes, separator) {
        pieces.push(&bytes[..end]);
        bytes = &bytes[end + separator.len()..];
    }
    pieces.push(bytes);
    pieces
}

fn find_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn not_json(what: &str, bytes: &[u8], error: &serde_json::Error) -> Difference {
    Difference::mismatch(format!("{what} is not JSON ({error}): {}", shorten(&String::from_utf8_lossy(bytes), 300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(content_type: &str, body: &[u8]) -> Response {
        let mut response = Response { status: 200, headers: Default::default(), body: body.to_vec() };
        response.headers.add("content-type", content_type);
        response
    }

    #[test]
    fn feeds_are_lines_and_heartbeats() {
        let feed = response("application/json", b"\n{\"a\":1}\n\n\n[2]");
        assert_eq!(value_of(&feed, Kind::Lines).expect("lines").to_string(), r#"[{"a": 1}, [2]]"#);
        assert_eq!(heartbeats(&feed), 3);
        assert_eq!(heartbeats(&response("application/json", b"{}\n\n")), 1);
        assert!(value_of(&response("", b"{\"a\":\n"), Kind::Lines).is_err());
    }

    #[test]
    fn events_hold_data_and_id() {
        let body = b"event: heartbeat\ndata: \n\n\ndata: {\"seq\":1}\nid: 1-x\n\n";
        let events = value_of(&response("text/event-stream", body), Kind::Events).expect("events");
        let expected = r#"[{"event": "heartbeat", "data": ""}, {"data": {"seq": 1}, "id": "1-x"}]"#;
        assert_eq!(events.to_string(), expected);
    }

    #[test]
    fn parts_come_apart_with_what_they_hold() {
        let body = b"--x\r\nContent-Type: multipart/mixed; boundary=\"y\"\r\n\r\n--y\r\nA: b\r\n\r\nhi\r\n--y--\r\n\
            --x\r\ncontent-type: application/json\r\n\r\n{\"a\":1}\r\n--x\r\n\r\n\xff\r\n\r\n--x--";
        let parts = value_of(&response("multipart/related; boundary=\"x\"", body), Kind::Multipart).expect("parts");
        let text = |path: &str| parts.pointer(path).map(Json::to_string).unwrap_or_default();
        assert_eq!(text("/0/multipart"), r#"[{"base64": "aGk=", "text": "hi", "headers": {"a": "b"}}]"#);
        assert_eq!(text("/1/json"), r#"{"a": 1}"#);
        assert_eq!(text("/2"), r#"{"base64": "/w0K", "headers": {}}"#);
        assert!(parts.pointer("/3").is_none());
    }

    #[test]
    fn bodies_that_are_no_parts_are_refused() {
        let refused = |content_type: &str, body: &[u8]| {
            matches!(value_of(&response(content_type, body), Kind::Multipart), Err(Difference::Mismatch(_)))
        };
        assert!(refused("multipart/mixed", b"--x\r\n\r\n--x--"));
        assert!(refused("multipart/mixed; boundary=x", b"text\r\n--x\r\n\r\n--x--"));
        assert!(refused("multipart/mixed; boundary=x", b"--x\r\nA: b\r\n\r\nhi"));
    }
}
