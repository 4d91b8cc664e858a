//! What is sent, and through what: `[outbox]` for links to people, `[event_webhooks.NAME]` for news of the audit log.
//!
//! Only the configuration file says these. A command or a path that could be set over the API would let whoever has an
//! operator's password run programs on the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// What a text may hold: replaced when it is sent.
pub const PLACEHOLDERS: [&str; 4] = ["name", "link", "hours", "expires"];

/// How messages with links leave.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// Through what; nothing: no message can be made.
    pub gateway: Option<Gateway>,
    /// When and how often it is tried.
    pub pace: Pace,
    /// The language of people without one.
    pub locale: Option<String>,
    /// Texts by language, instead of or beside those that are built in.
    pub texts: BTreeMap<String, String>,
}

/// What takes messages.
#[derive(Debug, Clone)]
pub enum Gateway {
    /// A server.
    Webhook(Target),
    /// A program with its arguments, started once for each message.
    Command(Vec<String>),
    /// A file to which each message is appended as a line.
    File(PathBuf),
}

/// A server that is told something.
#[derive(Clone)]
pub struct Target {
    /// `http[s]://[name:password@]host[:port]/path`
    pub url: String,
    /// Signs what is sent.
    pub secret: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Target")
    }
}

/// When and how often something is tried.
#[derive(Debug, Clone)]
pub struct Pace {
    /// How long one try may take.
    pub timeout: Duration,
    /// Seconds until the second try; twice as many until the next, up to an hour.
    pub retry_seconds: u64,
    /// Tries until a message is given up, or an event is set aside. A message's link may end before.
    pub attempts: u32,
    /// Tries at the same time.
    pub at_once: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), retry_seconds: 5, attempts: 20, at_once: 4 }
    }
}

/// Who is told of what in the audit log.
#[derive(Debug, Clone)]
pub struct EventWebhook {
    /// Its name: the place that it has reached is kept under it.
    pub name: String,
    /// Where.
    pub target: Target,
    /// Actions, whole (`device.cut`) or their first half (`device`).
    pub events: Vec<String>,
    /// When it is tried.
    pub pace: Pace,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutboxFile {
    gateway: Option<String>,
    url: Option<String>,
    secret: Option<String>,
    command: Option<Vec<String>>,
    file: Option<PathBuf>,
    timeout_seconds: Option<u64>,
    retry_seconds: Option<u64>,
    attempts: Option<u32>,
    at_once: Option<usize>,
    locale: Option<String>,
    #[serde(default)]
    texts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookFile {
    url: String,
    secret: String,
    events: Vec<String>,
    timeout_seconds: Option<u64>,
    retry_seconds: Option<u64>,
    attempts: Option<u32>,
}

/// Shortest secret, in bytes: a guess must be hopeless.
const SHORTEST_SECRET: usize = 16;

fn target(url: String, secret: String) -> Result<Target, String> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err("url: http:// or https:// expected".to_owned());
    }
    if secret.len() < SHORTEST_SECRET {
        return Err(format!("secret: at least {SHORTEST_SECRET} bytes expected"));
    }
    Ok(Target { url, secret })
}

fn pace(timeout: Option<u64>, retry: Option<u64>) -> Pace {
    let usual = Pace::default();
    Pace {
        timeout: timeout.map_or(usual.timeout, |seconds| Duration::from_secs(seconds.clamp(1, 600))),
        retry_seconds: retry.map_or(usual.retry_seconds, |seconds| seconds.clamp(1, 3600)),
        ..usual
    }
}

/// Reads `[outbox]`.
///
/// # Errors
/// A sentence that names the key at fault.
pub fn outbox(values: toml::Table) -> Result<Outbox, String> {
    let file: OutboxFile = values.try_into().map_err(|error| format!("[outbox]: {error}"))?;
    let lacks = |key: &str| format!("[outbox] {key}: missing for this gateway");
    let gateway = match file.gateway.as_deref() {
        None => None,
        Some("webhook") => {
            let (url, secret) = (file.url.ok_or_else(|| lacks("url"))?, file.secret.ok_or_else(|| lacks("secret"))?);
            Some(Gateway::Webhook(target(url, secret).map_err(|problem| format!("[outbox] {problem}"))?))
        }
        Some("command") => {
            let command = file.command.filter(|command| !command.is_empty()).ok_or_else(|| lacks("command"))?;
            Some(Gateway::Command(command))
        }
        Some("file") => Some(Gateway::File(file.file.ok_or_else(|| lacks("file"))?)),
        Some(other) => return Err(format!("[outbox] gateway: webhook, command or file expected, not {other:?}")),
    };
    for (locale, text) in &file.texts {
        check_text(text).map_err(|problem| format!("[outbox.texts] {locale}: {problem}"))?;
    }
    let usual = pace(file.timeout_seconds, file.retry_seconds);
    let attempts = file.attempts.unwrap_or(usual.attempts).max(1);
    let at_once = file.at_once.unwrap_or(usual.at_once).clamp(1, 64);
    Ok(Outbox { gateway, pace: Pace { attempts, at_once, ..usual }, locale: file.locale, texts: file.texts })
}

/// Reads `[event_webhooks.NAME]`, all of them.
///
/// # Errors
/// A sentence that names the key at fault.
pub fn event_webhooks(values: toml::Table) -> Result<Vec<EventWebhook>, String> {
    let mut webhooks = Vec::new();
    for (name, value) in values {
        let at = |problem: String| format!("[event_webhooks.{name}] {problem}");
        let file: WebhookFile = value.try_into().map_err(|error| at(format!("{error}")))?;
        if file.events.is_empty() || file.events.iter().any(|event| event.is_empty() || event.contains(' ')) {
            return Err(at("events: a list of actions such as \"device.cut\" or \"device\" expected".to_owned()));
        }
        webhooks.push(EventWebhook {
            target: target(file.url, file.secret).map_err(at)?,
            events: file.events,
            pace: Pace {
                attempts: file.attempts.unwrap_or(Pace::default().attempts).max(1),
                ..pace(file.timeout_seconds, file.retry_seconds)
            },
            name: name.clone(),
        });
    }
    Ok(webhooks)
}

/// A text must carry the link, and nothing in braces that nobody fills in.
fn check_text(text: &str) -> Result<(), String> {
    for piece in text.split('{').skip(1) {
        let named = piece.split_once('}').map(|(name, _)| name);
        if !named.is_some_and(|name| PLACEHOLDERS.contains(&name)) {
            return Err(format!("only {{{}}} may stand in braces", PLACEHOLDERS.join("}, {")));
        }
    }
    if text.contains("{link}") { Ok(()) } else { Err("{link} is missing".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Outbox, String> {
        outbox(text.parse().expect("TOML"))
    }

    #[test]
    fn gateways_are_read_and_mistakes_named() {
        let secret = "0123456789abcdef";
        let webhook =
            read(&format!("gateway = \"webhook\"\nurl = \"https://h/x\"\nsecret = \"{secret}\"\nattempts = 3"));
        let webhook = webhook.expect("valid");
        assert_eq!((webhook.pace.attempts, webhook.pace.retry_seconds), (3, 5));
        assert!(matches!(&webhook.gateway, Some(Gateway::Webhook(target)) if target.url == "https://h/x"));
        assert!(!format!("{webhook:?}").contains(secret));
        assert!(read("").expect("valid").gateway.is_none());
        for (text, part) in [
            ("gateway = \"pigeon\"", "webhook, command or file"),
            ("gateway = \"webhook\"\nurl = \"http://h\"", "secret: missing"),
            ("gateway = \"webhook\"\nurl = \"h\"\nsecret = \"0123456789abcdef\"", "http://"),
            ("gateway = \"webhook\"\nurl = \"http://h\"\nsecret = \"short\"", "at least 16"),
            ("gateway = \"command\"\ncommand = []", "command: missing"),
            ("gateway = \"file\"", "file: missing"),
            ("[texts]\nsw = \"Habari {jina} {link}\"", "in braces"),
            ("[texts]\nsw = \"Habari {name}\"", "{link} is missing"),
            ("[texts]\nsw = \"{link} {name\"", "in braces"),
            ("gatewey = \"file\"", "gatewey"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn event_webhooks_are_read_and_mistakes_named() {
        let read = |text: &str| event_webhooks(text.parse().expect("TOML"));
        let text = "[ops]\nurl = \"https://h/e\"\nsecret = \"0123456789abcdef\"\nevents = [\"device.cut\", \"place\"]";
        let found = read(text).expect("valid");
        assert_eq!((found.len(), found[0].name.as_str(), found[0].events.len()), (1, "ops", 2));
        let none = "[ops]\nurl = \"https://h/e\"\nsecret = \"0123456789abcdef\"\nevents = []";
        for (text, part) in [(none, "events"), ("[ops]\nurl = \"x\"", "secret"), ("ops = 5", "[event_webhooks.ops]")] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
