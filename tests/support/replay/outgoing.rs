//! A recorded request, with its variables filled in, becomes a request to send.
//!
//! Bytes are those the recorder sent: JSON with its spaces, multipart with its boundary, headers in their order. Only
//! the content type of a structured body and the credentials are added, and only where the recording gives none.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::http::{Headers, Request, basic};
use super::Difference;
use super::json::{Json, Members};
use super::variables::Variables;

/// What a form value need not escape, and the space, which becomes `+`.
const FORM: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b' ');
const REQUEST_WORDS: [&str; 10] =
    ["method", "path", "headers", "auth", "json", "text", "base64", "form", "multipart", "chunked"];

/// The bytes of a request or of a part, with the content type they have by default.
type Body = (Vec<u8>, Option<String>);

/// Who the administrator is, and the cookies kept so far.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) admin: String,
    pub(super) password: String,
    /// The value of the `AuthSession` cookie of each jar.
    pub(super) cookies: HashMap<String, String>,
}

/// The request of a step as it goes over the wire.
pub(super) fn request(
    recorded: &Json,
    variables: &Variables,
    credentials: &Credentials,
) -> Result<Request, Difference> {
    let Json::Object(members) = variables.expand(recorded) else {
        return Err(Difference::bad("a request is an object"));
    };
    if let Some((name, _)) = members.iter().find(|(name, _)| !REQUEST_WORDS.contains(name)) {
        return Err(Difference::bad(format!("a request has no {name:?}")));
    }
    // The path is filled in from the recording itself, since its values need escapes.
    let path = recorded.get("path").and_then(Json::as_str).ok_or_else(|| Difference::bad("a request needs a path"))?;
    let method = members.get("method").map(Json::plain).ok_or_else(|| Difference::bad("a request needs a method"))?;
    let mut request = Request::new(&method, &variables.replace_in_path(path));
    request.headers = headers(members.get("headers"));
    authorize(&mut request.headers, members.get("auth").and_then(Json::as_str).unwrap_or("admin"), credentials)?;
    if let Some((body, content_type)) = body(&members)? {
        add_content_type(&mut request.headers, content_type.as_deref());
        request.body = Some(body);
    }
    request.chunked = matches!(members.get("chunked"), Some(Json::Bool(true)));
    Ok(request)
}

fn headers(recorded: Option<&Json>) -> Headers {
    let mut headers = Headers::default();
    if let Some(Json::Object(members)) = recorded {
        members.iter().for_each(|(name, value)| headers.add(name, value.plain()));
    }
    headers
}

fn authorize(headers: &mut Headers, auth: &str, credentials: &Credentials) -> Result<(), Difference> {
    match auth.split_once(':').unwrap_or((auth, "")) {
        ("admin", "") => {
            if headers.get("authorization").is_none() {
                headers.add("Authorization", basic(&credentials.admin, &credentials.password));
            }
        }
        ("user", user) => {
            let (name, password) = user.split_once(':').ok_or_else(|| Difference::bad("a user needs a password"))?;
            headers.add("Authorization", basic(name, password));
        }
        ("cookie", jar) => {
            let cookie = credentials.cookies.get(jar);
            let cookie = cookie.ok_or_else(|| Difference::bad(format!("no cookie was kept in {jar:?}")))?;
            headers.add("Cookie", format!("AuthSession={cookie}"));
        }
        ("none", "") => {}
        _ => return Err(Difference::bad(format!("unknown auth {auth:?}"))),
    }
    Ok(())
}

fn add_content_type(headers: &mut Headers, content_type: Option<&str>) {
    if let Some(content_type) = content_type.filter(|_| headers.get("content-type").is_none()) {
        headers.add("Content-Type", content_type);
    }
}

/// The one body among these members, if there is any.
fn body(members: &Members) -> Result<Option<Body>, Difference> {
    if let Some(value) = members.get("json") {
        return Ok(Some((value.to_string().into_bytes(), Some("application/json".to_owned()))));
    }
    if let Some(text) = members.get("text") {
        return Ok(Some((text.plain().into_bytes(), None)));
    }
    if let Some(encoded) = members.get("base64") {
        let bytes = STANDARD.decode(encoded.plain());
        return Ok(Some((bytes.map_err(|error| Difference::bad(format!("bad base64: {error}")))?, None)));
    }
    if let Some(Json::Object(fields)) = members.get("form") {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", form(name), form(&value.plain()))).collect();
        return Ok(Some((pairs.join("&").into_bytes(), Some("application/x-www-form-urlencoded".to_owned()))));
    }
    members.get("multipart").map(multipart).transpose()
}

fn form(text: &str) -> String {
    utf8_percent_encode(text, &FORM).to_string().replace(' ', "+")
}

fn multipart(recorded: &Json) -> Result<Body, Difference> {
    let word = |name: &str, default: &str| recorded.get(name).map_or_else(|| default.to_owned(), Json::plain);
    let boundary = word("boundary", "settle-recording");
    let Some(Json::Array(parts)) = recorded.get("parts") else {
        return Err(Difference::bad("a multipart body needs parts"));
    };
    let mut out = Vec::new();
    for part in parts {
        let Json::Object(members) = part else { return Err(Difference::bad("a part is an object")) };
        let (content, content_type) = body(members)?.unwrap_or_default();
        let mut headers = headers(members.get("headers"));
        add_content_type(&mut headers, content_type.as_deref());
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        for (name, value) in headers.iter() {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&content);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--").as_bytes());
    Ok((out, Some(format!("multipart/{}; boundary=\"{boundary}\"", word("type", "related")))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(recorded: &str) -> Result<Request, Difference> {
        let mut variables = Variables::default();
        variables.set("db", "rec_x");
        variables.set("rev", "1-a");
        let cookies = HashMap::from([("jar".to_owned(), "c00c1e".to_owned())]);
        let credentials = Credentials { admin: "admin".to_owned(), password: "secret".to_owned(), cookies };
        request(&Json::parse(recorded.as_bytes()).expect("JSON"), &variables, &credentials)
    }

    #[track_caller]
    fn check(recorded: &str, headers: &[(&str, &str)], body: &str) {
        let request = made(recorded).expect("a request");
        assert_eq!(request.headers.iter().collect::<Vec<_>>(), headers);
        assert_eq!(String::from_utf8_lossy(&request.body.unwrap_or_default()), body);
    }

    #[test]
    fn json_goes_out_in_the_order_and_shape_it_was_recorded() {
        let recorded =
            r#"{"method":"PUT","path":"/{db}/a","auth":"none","json":{"z":"é\n","_rev":"{rev}","a":[1,2.5]}}"#;
        check(recorded, &[("Content-Type", "application/json")], r#"{"z": "é\n", "_rev": "1-a", "a": [1, 2.5]}"#);
    }

    #[test]
    fn credentials_are_those_the_step_names() {
        let auth = |auth: &str| format!(r#"{{"method":"GET","path":"/","auth":"{auth}"}}"#);
        check(r#"{"method":"GET","path":"/"}"#, &[("Authorization", "Basic YWRtaW46c2VjcmV0")], "");
        check(&auth("user:a:b:c"), &[("Authorization", "Basic YTpiOmM=")], "");
        check(&auth("cookie:jar"), &[("Cookie", "AuthSession=c00c1e")], "");
        check(&auth("none"), &[], "");
        assert!(matches!(made(&auth("cookie:other")), Err(Difference::BadRecording(_))));
        assert!(matches!(made(&auth("root")), Err(Difference::BadRecording(_))));
    }

    #[test]
    fn forms_and_parts_are_written_as_the_recorder_did() {
        let recorded = r#"{"method":"POST","path":"/_session","auth":"none","form":{"name":"a b","password":"é&~"}}"#;
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        check(recorded, &[form], "name=a+b&password=%C3%A9%26~");
        let recorded = r#"{"method":"PUT","path":"/x","auth":"none","multipart":{"boundary":"b","parts":[
            {"json":{"a":1}}, {"headers":{"X":"y"},"base64":"aGk="}]}}"#;
        let body = "--b\r\nContent-Type: application/json\r\n\r\n{\"a\": 1}\r\n--b\r\nX: y\r\n\r\nhi\r\n--b--";
        check(recorded, &[("Content-Type", "multipart/related; boundary=\"b\"")], body);
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(matches!(made(r#"{"method":"GET","path":"/","jsn":1}"#), Err(Difference::BadRecording(_))));
    }
}
