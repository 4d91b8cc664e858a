//! CORS by configuration: preflights and the headers of simple answers (protocol page §1.0; recordings `cors`).

use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, VARY,
};

use super::request::Request;
use super::response::Answer;
use crate::config::Settings;

const EXPOSED: &str = "content-type, cache-control, accept-ranges, etag, server, x-couch-request-id, \
                       x-couch-update-newrev, x-couchdb-body-time";
/// Headers that every request may carry without being asked for (the Fetch standard).
const SIMPLE: [&str; 4] = ["accept", "accept-language", "content-language", "content-type"];

/// The origin of a request, if CORS is on and the origin is allowed.
pub(crate) fn allowed_origin(settings: &Settings, request: &Request) -> Option<HeaderValue> {
    let origin = request.headers.get("origin").filter(|_| settings.cors)?;
    let text = origin.to_str().ok()?;
    let allowed = settings.cors_origins.iter().any(|allowed| allowed == "*" || allowed == text);
    allowed.then(|| origin.clone())
}

/// The answer to a preflight; `None` when it is not one or not allowed, and the request goes its usual way.
pub(crate) fn preflight(settings: &Settings, request: &Request) -> Option<Answer> {
    let origin = allowed_origin(settings, request).filter(|_| request.method == "OPTIONS")?;
    let method = request.header("access-control-request-method")?;
    if !settings.cors_methods.iter().any(|allowed| allowed == method) {
        return None;
    }
    let asked = request.header("access-control-request-headers").unwrap_or_default();
    let allowed = |name: &str| {
        SIMPLE.contains(&name) || settings.cors_headers.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    };
    let names = || asked.split(',').map(str::trim).filter(|name| !name.is_empty());
    if !names().all(|name| allowed(&name.to_ascii_lowercase())) {
        return None;
    }
    let mut answer = Answer::empty(204);
    let mut set = |name, value: &str| HeaderValue::from_str(value).map(|value| answer.headers.insert(name, value));
    drop(set(ACCESS_CONTROL_ALLOW_METHODS, &settings.cors_methods.join(", ")));
    drop(set(ACCESS_CONTROL_MAX_AGE, &settings.cors_max_age.to_string()));
    if !asked.is_empty() {
        drop(set(ACCESS_CONTROL_ALLOW_HEADERS, asked));
    }
    add_origin(settings, origin, &mut answer.headers);
    Some(answer)
}

/// What every answer to an allowed origin carries, errors included.
pub(crate) fn add(settings: &Settings, origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    add_origin(settings, origin, headers);
}

fn add_origin(settings: &Settings, origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if settings.cors_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}
