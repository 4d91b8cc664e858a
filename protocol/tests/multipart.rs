//! The multipart codec: shapes of real clients, hostile input, and two laws as properties — how the input is cut never
//! matters, and what the encoder writes the decoder reads. Ranges are tested beside their code.

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq, prop_assume};
use settle_protocol::error::{Error, ErrorKind};
use settle_protocol::multipart::{
    Boundary, Decoder, Encoder, Event, HEADER_BYTES_MAX, HEADERS_MAX, MultipartError, PADDING_MAX, PartHead,
    PartHeaders, boundary_of,
};
use settle_protocol::range::ByteRange;

// ------------------------------------------------------------------------------------------------------- helpers

fn boundary(text: &str) -> Boundary {
    Boundary::new(text).expect("a legal boundary")
}

/// What a decoder made of an input: each part's headers, body and whether it ended; whether `End` came; the outcome.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    parts: Vec<(PartHeaders, Vec<u8>, bool)>,
    ended: bool,
    error: Option<MultipartError>,
}

impl Reading {
    fn take(&mut self, event: Event) {
        assert!(!self.ended, "an event after End");
        match event {
            Event::PartStart(headers) => {
                assert!(self.parts.last().is_none_or(|part| part.2), "a part within a part");
                self.parts.push((headers, Vec::new(), false));
            }
            Event::PartData(data) => {
                assert!(!data.is_empty(), "empty data");
                self.open_part().1.extend_from_slice(&data);
            }
            Event::PartEnd => self.open_part().2 = true,
            Event::End => self.ended = true,
        }
    }

    fn open_part(&mut self) -> &mut (PartHeaders, Vec<u8>, bool) {
        self.parts.last_mut().filter(|part| !part.2).expect("a part is open")
    }

    fn bodies(&self) -> Vec<String> {
        self.parts.iter().map(|part| String::from_utf8_lossy(&part.1).into_owned()).collect()
    }
}

fn read_chunks<'a>(boundary: &Boundary, chunks: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut decoder = Decoder::new(boundary);
    let mut reading = Reading::default();
    for chunk in chunks {
        let mut input = Bytes::copy_from_slice(chunk);
        loop {
            match decoder.read(&mut input) {
                Ok(Some(event)) => reading.take(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.read(&mut input), Err(error), "an error stays");
                    assert_eq!(decoder.finish(), Err(error), "an error is final");
                    reading.error = Some(error);
                    return reading;
                }
            }
        }
        assert!(input.is_empty(), "all input is consumed");
    }
    reading.error = decoder.finish().err();
    reading
}

/// Reads the input whole, byte by byte, and in two pieces cut at each of the first places; all must agree.
fn read(boundary_text: &str, input: &[u8]) -> Reading {
    let boundary = boundary(boundary_text);
    let whole = read_chunks(&boundary, [input]);
    assert_eq!(read_chunks(&boundary, input.chunks(1)), whole, "byte by byte");
    for at in 0..input.len().min(300) {
        let (front, back) = input.split_at(at);
        assert_eq!(read_chunks(&boundary, [front, back]), whole, "cut at {at}");
    }
    whole
}

fn assert_bodies(boundary: &str, input: &[u8], bodies: &[&str]) {
    let reading = read(boundary, input);
    assert_eq!(reading.bodies(), bodies, "bodies of {:?}", String::from_utf8_lossy(input));
    assert_eq!((reading.ended, reading.error), (true, None));
}

fn encode(boundary: &Boundary, parts: &[(PartHead<'_>, &[u8])]) -> Vec<u8> {
    let encoder = Encoder::new(boundary);
    let mut message = encoder.opening().as_bytes().to_vec();
    for (head, body) in parts {
        message.extend_from_slice(head.text().as_bytes());
        message.extend_from_slice(body);
        message.extend_from_slice(encoder.part_tail().as_bytes());
    }
    message.extend_from_slice(encoder.closing().as_bytes());
    let lengths = parts.iter().map(|(head, body)| (*head, body.len() as u64));
    assert_eq!(encoder.message_length(lengths), message.len() as u64, "the length computed in advance");
    message
}

fn attachment(name: &str, length: u64) -> PartHead<'_> {
    PartHead::Attachment { name, content_type: "application/octet-stream", length, gzip: false }
}

// ------------------------------------------------------------------------------------------------------ boundary

#[test]
fn the_boundary_is_found_in_any_spelling() {
    for content_type in [
        "multipart/related; boundary=\"abc\"",
        "multipart/related; boundary=abc",
        "multipart/related;boundary=abc",
        "Multipart/Related ; Boundary=\"abc\"; type=\"application/json\"",
        "multipart/mixed; type=\"a; boundary=no\\\"; boundary=no\"; BOUNDARY = \"abc\"",
        "multipart/related; start; boundary=abc ; boundary=other",
        "multipart/related; boundary=\"a\\bc\"",
    ] {
        assert_eq!(boundary_of(content_type), Ok(boundary("abc")), "{content_type}");
    }
    assert_eq!(boundary_of("multipart/related; boundary=\"a;b c\""), Ok(boundary("a;b c")));
}

#[test]
fn a_content_type_without_a_good_boundary_is_refused() {
    let long = format!("multipart/related; boundary={}", "x".repeat(71));
    for (content_type, error) in [
        ("application/json", MultipartError::NotMultipart),
        ("", MultipartError::NotMultipart),
        ("application/json; boundary=abc", MultipartError::NotMultipart),
        ("multipart/related", MultipartError::MissingBoundary),
        ("multipart/related; xboundary=abc", MultipartError::MissingBoundary),
        ("multipart/related; charset=\"boundary=abc", MultipartError::MissingBoundary),
        ("multipart/related; boundary", MultipartError::InvalidBoundary),
        ("multipart/related; boundary=", MultipartError::InvalidBoundary),
        ("multipart/related; boundary=\"\"", MultipartError::InvalidBoundary),
        ("multipart/related; boundary=\"abc \"", MultipartError::InvalidBoundary),
        ("multipart/related; boundary=\"a\r\nc\"", MultipartError::InvalidBoundary),
        ("multipart/related; boundary=ä", MultipartError::InvalidBoundary),
        (long.as_str(), MultipartError::InvalidBoundary),
    ] {
        assert_eq!(boundary_of(content_type), Err(error), "{content_type}");
    }
    let longest = "x".repeat(70);
    assert_eq!(boundary_of(&format!("multipart/related; boundary={longest}")), Ok(boundary(&longest)));
}

// ------------------------------------------------------------------------------------------------------- decoder

/// Protocol page, T19: lower-case names, a misleading file name, a part without headers.
#[test]
fn parts_come_in_order_whatever_their_headers() {
    let input = b"--XXX\r\ncontent-type: application/json\r\n\r\n{\"_attachments\":{}}\r\n\
        --XXX\r\ncontent-disposition: attachment; filename=\"a.bin\"\r\n\r\nBBB\r\n--XXX\r\n\r\nAAAAA\r\n--XXX--";
    assert_bodies("XXX", input, &["{\"_attachments\":{}}", "BBB", "AAAAA"]);

    let headers = read("XXX", input).parts.remove(1).0;
    assert_eq!(headers.get("Content-Disposition"), Some("attachment; filename=\"a.bin\""));
    assert_eq!(headers.get("Content-Type"), None);
    assert_eq!(headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["content-disposition"]);
}

#[test]
fn preamble_epilogue_and_padding_are_ignored() {
    assert_bodies("B", b"hello\r\n--Bx\r\n\r\n--B\r\n\r\none\r\n--B--\r\nbye\r\n--B\r\n\r\ntwo\r\n--B--", &["one"]);
    assert_bodies("B", b"\r\n--B \t\r\n\r\none\r\n--B  \r\n\r\ntwo\r\n--B-- \r\n", &["one", "two"]);
    // What begins like the first delimiter and is none belongs to the preamble too.
    assert_bodies("B", b"--Bx\r\n--B\r\n\r\none\r\n--B--", &["one"]);
}

#[test]
fn parts_may_be_empty_or_absent() {
    assert_bodies("B", b"--B--", &[]);
    assert_bodies("B", b"--B\r\n\r\n\r\n--B--", &[""]);
    assert_bodies("B", b"--B\r\nA: b\r\n\r\n\r\n--B\r\n\r\n\r\n--B--", &["", ""]);
    // One CRLF for the empty header line and for the delimiter.
    assert_bodies("B", b"--B\r\n\r\n--B\r\n\r\nx\r\n--B--", &["", "x"]);
}

#[test]
fn lookalikes_are_data() {
    let long_padding = format!("x\r\n--B{}\r\ny", " ".repeat(PADDING_MAX + 1));
    for body in [
        "--Bx",
        "--B-",
        "\r\n--",
        "\r\n--A",
        "\r\n--B-x",
        "\r\n--Bx\r\n--B \tx",
        "\r\n--B\rx",
        "\r\n--B\r",
        "\r\n--B \r\r",
        "\n--B\r\n",
        "\n--B--",
        "x--B--",
        "\r--B--",
        "\r\r\n\r\n\r",
        "\r\n",
        "\r\n\r\n--\r\n--\r\n-",
        "x\r\n--b--\r\n",
        long_padding.as_str(),
    ] {
        let input = format!("--B\r\n\r\n{body}\r\n--B--");
        assert_bodies("B", input.as_bytes(), &[body]);
    }
    let longest_padding = format!("--B\r\n\r\nx\r\n--B{}\r\n\r\ny\r\n--B--", " ".repeat(PADDING_MAX));
    assert_bodies("B", longest_padding.as_bytes(), &["x", "y"]);
}

#[test]
fn header_values_are_trimmed_folded_and_may_be_any_text() {
    let input = b"--B\r\nA:b\r\nContent-Type : text/plain;\r\n\tcharset=x\r\nX:\r\n\
        F: \xff\xc3\xa4 \r\na: second\r\n\r\n\r\n--B--";
    let headers = read("B", input).parts.remove(0).0;
    assert_eq!(headers.get("a"), Some("b"));
    assert_eq!(headers.get("content-type"), Some("text/plain; charset=x"));
    assert_eq!(headers.get("x"), Some(""));
    assert_eq!(headers.get("f"), Some("\u{fffd}ä"));
    assert_eq!(headers.iter().count(), 5);
}

#[test]
fn malformed_headers_are_refused() {
    for block in ["no colon\r\n", ": x\r\n", "a b: x\r\n", " folded: x\r\n", "a: x\n", "a: x\rb\r\n", "a: \0\r\n", "\n"]
    {
        let input = format!("--B\r\n{block}\r\nbody\r\n--B--");
        let reading = read("B", input.as_bytes());
        assert_eq!((reading.parts.len(), reading.error), (0, Some(MultipartError::MalformedHeader)), "{block:?}");
    }
    assert_eq!(read("B", b"--B\r\n--B--\r\n").error, Some(MultipartError::MalformedHeader));
}

#[test]
fn every_fault_is_the_clients() {
    let error = Error::from(MultipartError::Truncated);
    assert_eq!((error.kind(), error.status()), (ErrorKind::BadRequest, 400));
    assert_eq!(error.reason(), "multipart body ended before its closing boundary");
}

#[test]
fn headers_are_limited_in_number_and_size() {
    let many = |count: usize| format!("--B\r\n{}\r\nx\r\n--B--", "a: b\r\n".repeat(count));
    assert_bodies("B", many(HEADERS_MAX).as_bytes(), &["x"]);
    assert_eq!(read("B", many(HEADERS_MAX + 1).as_bytes()).error, Some(MultipartError::TooManyHeaders));

    // "a: " and two line ends are 7 bytes.
    let large = |size: usize| format!("--B\r\na: {}\r\n\r\nx\r\n--B--", "v".repeat(size - 7));
    assert_bodies("B", large(HEADER_BYTES_MAX).as_bytes(), &["x"]);
    assert_eq!(read("B", large(HEADER_BYTES_MAX + 1).as_bytes()).error, Some(MultipartError::HeadersTooLarge));
    let endless = format!("--B\r\n{}", "v".repeat(3 * HEADER_BYTES_MAX));
    assert_eq!(read("B", endless.as_bytes()).error, Some(MultipartError::HeadersTooLarge));
}

#[test]
fn input_without_its_end_is_truncated() {
    let input = b"--B\r\nA: b\r\n\r\nbody\r\n--B\r\n\r\nmore\r\n--B--";
    for length in 0..input.len() {
        let reading = read("B", &input[..length]);
        assert_eq!((reading.ended, reading.error), (false, Some(MultipartError::Truncated)), "{length} bytes");
    }
    let reading = read("B", b"--B\r\n\r\nbody\r\n--B-");
    assert_eq!(reading.parts[0].1, b"body", "text before a possible delimiter is not held");
    assert!(!reading.parts[0].2);
}

#[test]
fn ten_thousand_parts_are_read_one_by_one() {
    let mut input = b"--B".to_vec();
    for number in 0..10_000 {
        input.extend_from_slice(format!("\r\n\r\n{number}\r\n--B").as_bytes());
    }
    input.extend_from_slice(b"--");
    let reading = read_chunks(&boundary("B"), input.chunks(1000));
    assert!(reading.ended);
    assert!(reading.bodies().iter().enumerate().all(|(number, body)| *body == number.to_string()));
    assert_eq!(reading.parts.len(), 10_000);
}

#[test]
fn bodies_are_slices_of_the_input() {
    let mut input = Bytes::from(format!("--B\r\n\r\n{}\r\n--B--", "\rx".repeat(5000)));
    let place = input.as_ptr();
    let mut decoder = Decoder::new(&boundary("B"));
    assert!(matches!(decoder.read(&mut input), Ok(Some(Event::PartStart(_)))));
    let Ok(Some(Event::PartData(data))) = decoder.read(&mut input) else { panic!("no data") };
    assert_eq!(data.len(), 10_000, "one event, false starts included");
    assert_eq!(data.as_ptr(), place.wrapping_add(7), "not copied");
    assert_eq!(decoder.read(&mut input), Ok(Some(Event::PartEnd)));
    assert_eq!(decoder.read(&mut input), Ok(Some(Event::End)));
    assert_eq!(decoder.read(&mut input), Ok(None));
}

// ------------------------------------------------------------------------------------------------------- encoder

/// Protocol page §5.4, response form.
#[test]
fn a_document_with_attachments_is_written_as_by_couchdb() {
    let document = br#"{"_id":"d"}"#;
    let gzipped = PartHead::Attachment { name: "t.txt", content_type: "text/plain", length: 2, gzip: true };
    let parts: [(PartHead<'_>, &[u8]); 3] =
        [(PartHead::Document, document), (attachment("b.bin", 3), b"BBB"), (gzipped, b"zz")];
    let expected = "--B\r\nContent-Type: application/json\r\n\r\n{\"_id\":\"d\"}\r\n\
        --B\r\nContent-Disposition: attachment; filename=\"b.bin\"\r\nContent-Type: application/octet-stream\r\n\
        Content-Length: 3\r\n\r\nBBB\r\n\
        --B\r\nContent-Disposition: attachment; filename=\"t.txt\"\r\nContent-Type: text/plain\r\n\
        Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\nzz\r\n--B--";
    let message = encode(&boundary("B"), &parts);
    assert_eq!(String::from_utf8_lossy(&message), expected);
    assert_eq!(boundary("B").content_type("related"), "multipart/related; boundary=\"B\"");
}

/// Protocol page §2.6 and T3, with a nested message as in the recording `attachments/multipart-read`.
#[test]
fn open_revisions_are_written_as_by_couchdb() {
    let inner = encode(&boundary("IN"), &[(PartHead::Document, b"{}"), (attachment("a", 1), b"x")]);
    let inner_boundary = boundary("IN");
    let parts: [(PartHead<'_>, &[u8]); 3] = [
        (PartHead::Document, br#"{"_id":"x"}"#),
        (PartHead::Related(&inner_boundary), &inner),
        (PartHead::Missing, br#"{"missing":"3-c"}"#),
    ];
    let message = encode(&boundary("5f52"), &parts);
    let expected = format!(
        "--5f52\r\nContent-Type: application/json\r\n\r\n{{\"_id\":\"x\"}}\r\n\
         --5f52\r\nContent-Type: multipart/related; boundary=\"IN\"\r\n\r\n{}\r\n\
         --5f52\r\nContent-Type: application/json; error=\"true\"\r\n\r\n{{\"missing\":\"3-c\"}}\r\n--5f52--",
        String::from_utf8_lossy(&inner)
    );
    assert_eq!(String::from_utf8_lossy(&message), expected);
    assert_eq!(encode(&boundary("B"), &[]), b"--B--");

    let outer = read("5f52", &message);
    let nested = boundary_of(outer.parts[1].0.get("content-type").expect("a type"));
    assert_eq!(nested, Ok(inner_boundary));
    assert_bodies("IN", &outer.parts[1].1, &["{}", "x"]);
}

#[test]
fn ranges_are_written_as_by_couchdb() {
    let range =
        |first, last| PartHead::Range { content_type: "image/png", range: ByteRange { first, last }, length: 5 };
    let message = encode(&boundary("B"), &[(range(0, 1), b"ab"), (range(4, 4), b"e")]);
    let expected = "--B\r\nContent-Type: image/png\r\nContent-Range: bytes 0-1/5\r\n\r\nab\r\n\
        --B\r\nContent-Type: image/png\r\nContent-Range: bytes 4-4/5\r\n\r\ne\r\n--B--";
    assert_eq!(String::from_utf8_lossy(&message), expected);
}

#[test]
fn names_and_types_cannot_leave_their_header() {
    let name = "a\"b\\c\r\nX: y\u{7f}ä/é.png";
    let head = PartHead::Attachment { name, content_type: "text/plain\r\n\r\nbody", length: 0, gzip: false };
    assert_eq!(
        head.text(),
        "\r\nContent-Disposition: attachment; filename=\"a\\\"b\\\\c%0D%0AX: y%7Fä/é.png\"\r\n\
         Content-Type: text/plain    body\r\nContent-Length: 0\r\n\r\n"
    );
    let range = PartHead::Range { content_type: "a\r\nb", range: ByteRange { first: 0, last: 0 }, length: 1 };
    assert_eq!(range.text(), "\r\nContent-Type: a  b\r\nContent-Range: bytes 0-0/1\r\n\r\n");
    assert_eq!(boundary("a\"\\").content_type("mixed"), "multipart/mixed; boundary=\"a\\\"\\\\\"");
}

#[test]
fn lengths_of_messages_do_not_overflow() {
    let encoder = Encoder::new(&boundary("B"));
    let parts = [(attachment("a", u64::MAX), u64::MAX), (attachment("b", 1), 1)];
    assert_eq!(encoder.message_length(parts), u64::MAX);
}

// ---------------------------------------------------------------------------------------------------------- laws

/// Text made of what matters to a decoder with the boundary `Bo`.
fn awkward_text(fragments: usize) -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "\r",
            "\n",
            "\r\n",
            "\r\n\r\n",
            "-",
            "--",
            "\r\n--B",
            "\r\n--Bo",
            "--Bo",
            "Bo",
            "o",
            " ",
            "\t",
            "\r\n--Bo--",
            "\r\n--Bo\r\n",
            "\r\n--Bo \r\n\r\n",
            "A: b\r\n",
            ":",
            "data",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
        (PADDING_MAX - 2..PADDING_MAX + 2).prop_map(|count| vec![b' '; count]),
    ];
    prop::collection::vec(fragment, 0..fragments).prop_map(|fragments| fragments.concat())
}

/// Places to cut an input at: everywhere, or at some random places.
fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

fn cut<'a>(input: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(input.len() + 1)).collect();
    places.push(input.len());
    places.sort_unstable();
    let starts = std::iter::once(0).chain(places.clone());
    starts.zip(places).map(|(start, end)| &input[start..end]).collect()
}

/// Whether a body has a delimiter line of `Bo`, by looking at every place; the slow way, apart from the decoder.
fn has_delimiter(body: &[u8]) -> bool {
    let text = [b"\r\n", body, b"\r\n"].concat();
    (0..text.len()).any(|at| {
        text[at..].strip_prefix(b"\r\n--Bo").is_some_and(|rest| {
            let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            rest.starts_with(b"--") || (padding <= PADDING_MAX && rest[padding..].starts_with(b"\r\n"))
        })
    })
}

fn part_head() -> impl Strategy<Value = PartHead<'static>> {
    prop_oneof![
        Just(PartHead::Document),
        Just(PartHead::Missing),
        any::<(u64, bool)>().prop_map(|(length, gzip)| PartHead::Attachment {
            name: "ä\"\r\n--Bo",
            content_type: "image/png",
            length,
            gzip
        }),
    ]
}

proptest! {
    /// Any input, however it is cut, gives the same events and the same error.
    #[test]
    fn cutting_never_matters(text in awkward_text(30), in_body in any::<bool>(), places in cuts()) {
        let input = if in_body { [b"--Bo\r\n\r\n".as_slice(), &text].concat() } else { text };
        let boundary = boundary("Bo");
        let whole = read_chunks(&boundary, [input.as_slice()]);
        prop_assert_eq!(&read_chunks(&boundary, cut(&input, &places)), &whole);
        prop_assert_eq!(&read_chunks(&boundary, input.chunks(1)), &whole);
    }

    /// What was encoded is decoded, however it is cut.
    #[test]
    fn encoded_parts_are_read_back(
        parts in prop::collection::vec((part_head(), awkward_text(8)), 0..6),
        places in cuts(),
    ) {
        prop_assume!(!parts.iter().any(|(_, body)| has_delimiter(body)));
        let boundary = boundary("Bo");
        let borrowed: Vec<_> = parts.iter().map(|(head, body)| (*head, body.as_slice())).collect();
        let message = encode(&boundary, &borrowed);
        let reading = read_chunks(&boundary, cut(&message, &places));
        prop_assert_eq!((reading.ended, reading.error), (true, None));
        prop_assert_eq!(reading.parts.len(), parts.len());
        for ((headers, body, _), (head, expected)) in reading.parts.iter().zip(&parts) {
            prop_assert_eq!(body, expected);
            let lines = headers.iter().map(|(name, value)| format!("\r\n{name}: {value}")).collect::<String>();
            prop_assert_eq!(lines + "\r\n\r\n", head.text());
        }
    }

    /// Of a body, never more is held back than the longest delimiter line.
    #[test]
    fn little_is_held_back(text in awkward_text(60)) {
        prop_assume!(!has_delimiter(&text));
        let mut decoder = Decoder::new(&boundary("Bo"));
        let mut delivered = 0;
        for (sent, byte) in b"--Bo\r\n\r\n".iter().chain(&text).enumerate() {
            let mut input = Bytes::copy_from_slice(&[*byte]);
            while let Ok(Some(event)) = decoder.read(&mut input) {
                if let Event::PartData(data) = event {
                    delivered += data.len();
                }
            }
            prop_assert!(delivered + "--Bo\r\n\r\n".len() + "\r\n--Bo\r\n".len() + PADDING_MAX > sent);
        }
    }

    /// No content type brings the parser down, and what it accepts survives being written and read again.
    #[test]
    fn boundaries_survive_being_written(text in "[ -~]{0,72}", content_type in ".{0,40}") {
        let _ = boundary_of(&content_type);
        let _ = boundary_of(&format!("multipart/x;{content_type}"));
        if let Ok(boundary) = Boundary::new(&text) {
            prop_assert_eq!(boundary_of(&boundary.content_type("related")), Ok(boundary));
        }
    }
}
