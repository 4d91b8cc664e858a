//! One signed `POST` to a server: what it carries, and what its answer means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Said;
use crate::accounts::http_date::from_header_date;
use crate::config::sending::Target;
use crate::http::client::{Address, Client, ClientError, Request};
use crate::storage::hex;

/// The most bytes of an answer that are read; what it says is not looked at.
const MOST_ANSWER: usize = 64 << 10;

/// A server that is told something.
pub(super) struct Webhook {
    address: Arc<Address>,
    path: String,
    secret: String,
    timeout: Duration,
}

impl Webhook {
    /// Takes the address apart. For `https` it reads the certificates that the system trusts.
    pub(super) fn open(target: &Target, timeout: Duration) -> Result<Self, ClientError> {
        let authority = target.url.find("://").map_or(0, |at| at + 3);
        let path = target.url[authority..].find(['/', '?']).map_or(target.url.len(), |at| authority + at);
        let (server, path) = target.url.split_at(path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            address: Arc::new(Address::parse(server)?),
            path: format!("{slash}{path}"),
            secret: target.secret.clone(),
            timeout,
        })
    }

    /// Sends JSON. `id` stays the same whenever the same thing is sent again; `now` in seconds since 1970.
    pub(super) async fn post(&self, id: &str, body: String, now: u64) -> Said {
        let headers = [
            ("idempotency-key", id.to_owned()),
            ("x-settle-timestamp", now.to_string()),
            ("x-settle-signature", format!("sha256={}", signature(&self.secret, now, &body))),
        ];
        let asked = async {
            let mut client = Client::new(Arc::clone(&self.address));
            let request = Request { headers: &headers, ..Request::json("POST", &self.path, Some(Bytes::from(body))) };
            let mut reply = client.send(request).await?;
            let (status, retry_after) = (reply.status, reply.retry_after.clone());
            // To its end: an answer that breaks off was not given.
            match reply.whole(MOST_ANSWER).await {
                Ok(_) | Err(ClientError::TooLarge(_)) => Ok((status, retry_after)),
                Err(error) => Err(error),
            }
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok((status, retry_after))) => meaning(status, retry_after.as_deref(), now),
            Ok(Err(error)) => Said::Later(error.to_string(), None),
            Err(_) => Said::Later(format!("no answer for {} seconds", self.timeout.as_secs()), None),
        }
    }
}

/// HMAC-SHA256 over the time as text, a dot, and the body; as hex digits.
fn signature(secret: &str, now: u64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(now.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// What a status says. That it is not there (502 to 504 come from what stands before it) or busy says nothing about what was sent.
fn meaning(status: u16, retry_after: Option<&str>, now: u64) -> Said {
    let told = format!("the gateway answered {status}");
    let asked = retry_after.and_then(|text| seconds_of(text, now));
    match status {
        200..=299 => Said::Taken,
        408 | 429 | 502..=504 => Said::Later(told, asked),
        300..=499 => Said::Refused(told),
        _ => Said::Failed(told, asked),
    }
}

/// How long `Retry-After` asks to wait: a number of seconds, or a date, which is as far away as this server's clock says.
fn seconds_of(retry_after: &str, now: u64) -> Option<u64> {
    let date = || from_header_date(retry_after).map(|date| date.saturating_sub(now));
    retry_after.trim().parse().ok().or_else(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_openssl() {
        // printf '1798000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            signature("0123456789abcdef", 1_798_000_000, "{\"a\":1}"),
            "1ba32ba525222e72819b42950c7559cb1156d7b4bcf0b2e41d426e48dc31ee25"
        );
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let meaning = |status, header| meaning(status, header, 784_111_717);
        assert_eq!(meaning(204, None), Said::Taken);
        for status in [301, 400, 401, 404, 410, 422] {
            assert!(matches!(meaning(status, Some("5")), Said::Refused(_)), "{status}");
        }
        for (status, header, asked) in [
            (502, None, None),
            (503, Some(" 7 "), Some(7)),
            (429, Some("60"), Some(60)),
            (408, Some("soon"), None),
            (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(60)),
            (429, Some("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0)),
        ] {
            assert!(matches!(meaning(status, header), Said::Later(_, said) if said == asked), "{status} {header:?}");
        }
        for (status, header, asked) in [(500, None, None), (507, Some("7"), Some(7))] {
            assert!(matches!(meaning(status, header), Said::Failed(_, said) if said == asked), "{status}");
        }
    }

    #[test]
    fn addresses_keep_their_path_and_query() {
        for (url, server, path) in [
            ("http://h", "http://h:80", "/"),
            ("http://h:8/x/", "http://h:8", "/x/"),
            ("http://u:p@h/x?y=z", "http://h:80", "/x?y=z"),
            ("http://h?y=/z", "http://h:80", "/?y=/z"),
        ] {
            let target = Target { url: url.to_owned(), secret: String::new() };
            let webhook = Webhook::open(&target, Duration::from_secs(1)).expect(url);
            assert_eq!((webhook.address.shown().as_str(), webhook.path.as_str()), (server, path));
        }
    }
}
