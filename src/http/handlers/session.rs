//! `_session`: log in, log out, who am I (protocol page §6.1; recordings `sessions`).

use serde_json::{Value, json};
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use crate::accounts::caller::Proof;
use crate::accounts::error::AccountError;
use crate::accounts::login::{ClientDevice, LinkRequest, LoggedIn, LoginError, LoginRequest};
use crate::clock::random;
use crate::documents::users::{USERS, upgrade};
use crate::documents::write::Writing;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::hex;

/// Bytes of a login's body.
const MAX_LOGIN_BYTES: u64 = 64 << 10;

/// `GET /_session`.
pub(super) fn info(context: &Context) -> Handled {
    let caller = &context.caller;
    if context.request.query.flag("basic") && caller.name.is_none() {
        return Err(AccountError::unauthorized("Please login.").into());
    }
    let mut info = json!({"authentication_handlers": ["cookie", "default"]});
    let authenticated = match caller.proof {
        Proof::Cookie => Some("cookie"),
        Proof::Basic => Some("default"),
        Proof::None | Proof::Open => None,
    };
    if let Some(authenticated) = authenticated {
        info["authenticated"] = authenticated.into();
    }
    let body = json!({"ok": true, "userCtx": {"name": caller.name, "roles": caller.roles}, "info": info});
    Ok(Answer::json(200, body.to_string()))
}

struct Form {
    name: String,
    password: String,
    /// A link instead of name and password.
    link: Option<String>,
    device: Option<ClientDevice>,
}

/// Characters of a client's own id for its device.
const DEVICE_ID_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=64;
/// Characters of what a device calls itself.
const DEVICE_NAME_CHARACTERS: usize = 200;

/// How a client names its device. What is malformed is refused, never guessed.
fn device_of(body: &Value) -> Result<Option<ClientDevice>, Error> {
    let device = match body.get("device") {
        None | Some(Value::Null) => return Ok(None),
        Some(device) => device,
    };
    let id = device.get("id").and_then(Value::as_str).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !DEVICE_ID_CHARACTERS.contains(&id.len()) || !id.bytes().all(plain) {
        return Err(Error::bad_request("`device.id` must be 8 to 64 characters of A-Z, a-z, 0-9, dot, _ and -."));
    }
    Ok(Some(ClientDevice {
        id: id.to_owned(),
        name: device_text(device, "name")?.unwrap_or_default(),
        app: device_text(device, "app")?.unwrap_or_default(),
    }))
}

/// What a device calls itself, or its program.
pub(super) fn device_text(device: &Value, member: &str) -> Result<Option<String>, Error> {
    match device.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= DEVICE_NAME_CHARACTERS => Ok(Some(text.clone())),
        Some(_) => {
            let reason = format!("`{member}` of a device must be text of at most {DEVICE_NAME_CHARACTERS} characters.");
            Err(Error::bad_request(reason))
        }
    }
}

async fn read_form(context: &mut Context) -> Result<Form, Error> {
    let content_type = context.request.header("content-type").unwrap_or_default().to_owned();
    let body = context.read_body(MAX_LOGIN_BYTES).await?;
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let mut device = None;
    let pairs: Vec<(String, String)> = match kind {
        "application/json" => {
            let value: Value = serde_json::from_slice(&body).map_err(|_| Error::invalid_json())?;
            device = device_of(&value)?;
            let members = value.as_object().into_iter().flatten();
            members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        }
        "application/x-www-form-urlencoded" => {
            let text = String::from_utf8_lossy(&body).into_owned();
            let decoded = |text: &str| crate::http::request::decode(text).ok();
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter_map(|(name, value)| Some((decoded(name)?, decoded(value)?))).collect()
        }
        _ => {
            let reason = "Content-Type must be 'application/x-www-form-urlencoded' or 'application/json'";
            return Err(Error::new(ErrorKind::BadContentType, reason));
        }
    };
    let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let link = get("link").filter(|_| kind == "application/json");
    let name = get("name").or_else(|| get("username")).or_else(|| link.as_ref().map(|_| String::new()));
    let name = name.ok_or_else(|| Error::bad_request("request body must contain a username"))?;
    Ok(Form { name, password: get("password").unwrap_or_default(), link, device })
}

/// `POST /_session`.
pub(super) async fn log_in(context: &mut Context) -> Handled {
    let elsewhere = |next: &&str| !next.starts_with('/') || next.starts_with("//");
    if context.request.query.get("next").filter(elsewhere).is_some() {
        return Err(Error::bad_request("path must begin with a /.").into());
    }
    let form = read_form(context).await?;
    if let Some(token) = form.link {
        return log_in_by_link(context, token, form.device).await;
    }
    let named = form.device.is_some();
    let seconds = context.settings.device_session_seconds;
    let logged_in = match begin(context, form.name, form.password, form.device, seconds).await {
        Ok(logged_in) => logged_in,
        Err(LoginError::Account(error)) => {
            let answer = Answer::error(&HttpError::from(error));
            let services = &context.services;
            return Ok(answer.header("set-cookie", &services.cookies().clearing_cookie(services.clock.now())));
        }
        Err(error) => return Err(error.into()),
    };
    let mut body = json!({"ok": true, "name": logged_in.name, "roles": logged_in.roles});
    if let Some((device, judged)) = logged_in.device.filter(|_| named) {
        body["device"] = json!({"id": hex(&device), "standing": judged.standing});
    }
    let answer = match context.request.query.get("next") {
        Some(next) => Answer::json(302, body.to_string()).location(&format!("{}{next}", context.base())),
        None => Answer::json(200, body.to_string()),
    };
    Ok(answer.header("set-cookie", &logged_in.cookie))
}

/// Begins a session with a name and a password; that of a named device lives so many seconds without use.
pub(in crate::http) async fn begin(
    context: &Context,
    name: String,
    password: String,
    device: Option<ClientDevice>,
    device_session_seconds: u64,
) -> Result<LoggedIn, LoginError> {
    let services = &context.services;
    let request = LoginRequest {
        name,
        password,
        device,
        proved: context.caller.pass.clone().filter(|_| context.caller.proof == Proof::Cookie),
        network: context.request.network,
        now: services.clock.now(),
        device_session_seconds,
    };
    let logged_in = services.logins.log_in(request, &services.cookies(), random()).await?;
    if let Some(credential) = logged_in.upgrade.clone()
        && let Ok(users) = services.catalogue.find(USERS)
    {
        let name = logged_in.name.clone();
        let upgraded = services.store.write(move |batch| -> Result<(), crate::documents::error::DocumentError> {
            let mut writing = Writing::begin(batch, &users)?;
            upgrade(&mut writing, &name, &credential)?;
            writing.end()?;
            Ok(())
        });
        if let Err(error) = upgraded.await {
            tracing::warn!(%error, "a weak password hash could not be replaced");
        }
    }
    Ok(logged_in)
}

/// `POST /_session` with a link.
async fn log_in_by_link(context: &Context, token: String, device: Option<ClientDevice>) -> Handled {
    let named = device.is_some();
    let logged_in = redeem(context, token, device).await?;
    let mut body = json!({"ok": true, "name": logged_in.name, "roles": logged_in.roles});
    if let Some((device, judged)) = logged_in.device.filter(|_| named) {
        body["device"] = json!({"id": hex(&device), "standing": judged.standing});
    }
    Ok(Answer::json(200, body.to_string()).header("set-cookie", &logged_in.cookie))
}

/// Uses a link up and begins a session.
pub(super) async fn redeem(
    context: &Context,
    token: String,
    device: Option<ClientDevice>,
) -> Result<LoggedIn, LoginError> {
    let services = &context.services;
    let request = LinkRequest {
        token,
        device,
        network: context.request.network,
        now: services.clock.now(),
        device_session_seconds: context.settings.device_session_seconds,
    };
    services.logins.redeem_link(request, &services.cookies(), random()).await
}

/// `DELETE /_session`: ends the session on the server; always 200.
pub(super) async fn log_out(context: &mut Context) -> Handled {
    let services = &context.services;
    services.logins.log_out(context.caller.session).await?;
    let cookie = services.cookies().clearing_cookie(services.clock.now());
    Ok(Answer::ok(200).header("set-cookie", &cookie))
}
