//! What things are called on the pages: plain words for whoever keeps phones and accounts.

use serde_json::Value;

use super::visit::number;
use crate::http::error::HttpError;

/// What a page says after something was done, by the word in its address.
pub(super) fn done(word: &str) -> Option<&'static str> {
    Some(match word {
        "login" => "You are logged in.",
        "logout" => "You are logged out.",
        "retire" => "Done. The phone may only send what it holds from now on, and reads nothing.",
        "cut" => "Done. The phone is cut off: nothing is given to it or taken from it any more.",
        "wipe" => "Done. The phone is told to erase itself when it calls.",
        "account" => "Done. The account was changed.",
        "disable" => "Done. The account is closed until somebody opens it again; its phones may only send.",
        "enable" => "Done. The account is open.",
        "retired" => "Done. The account is retired for good; its phones may only send.",
        "grant" => "Done. The place is lent.",
        "resent" => "Done. The link is sent again.",
        "called_off" => "Done. The message was called off, and its link does not work.",
        "revoked" => "Done. The place is not lent any more.",
        "decided" => "Done. The decision was carried out.",
        "wipe_asked" => "Noted. Somebody else must confirm within seven days before the phone is told to erase itself.",
        _ => return None,
    })
}

/// Why something was refused, in words that fit on a page. Names of fields are quoted as people do.
pub(super) fn refusal(error: &HttpError) -> String {
    if (error.status, error.reason.as_str()) == (404, "missing") {
        return "There is no such thing, or it is not for you.".to_owned();
    }
    if error.word == "second_person_needed" {
        return "Nothing was changed yet: within an hour, one person may end the rights of so many accounts and phones only. \
                Somebody else who manages them must do the same within seven days; until then it stands on the start page."
            .to_owned();
    }
    let mut text = String::new();
    for (number, part) in error.reason.split('`').enumerate() {
        match number {
            0 => {}
            number if number % 2 == 1 => text.push('\u{201c}'),
            _ => text.push('\u{201d}'),
        }
        text.push_str(part);
    }
    text
}

/// Why work is held back.
pub(super) fn held_because(reason: &str) -> &'static str {
    match reason {
        "unknown_subject" => "it is about somebody who is not here yet",
        "out_of_scope" => "it is about somebody outside the area of its author",
        "reserved" => "such documents are not for phones to write",
        "not_editable" => "its author may not change this",
        _ => "the rules do not let it in",
    }
}

/// What an account or a lent place is now.
pub(super) fn state(word: &str) -> &'static str {
    match word {
        "active" => "in use",
        "prepared" => "waits for its person",
        "disabled" => "closed for a while",
        "retired" => "ended for good",
        "future" => "begins later",
        "ended" => "over",
        "revoked" => "taken back",
        _ => "unknown",
    }
}

/// How somebody came to hold a place.
pub(super) fn changed_hands(word: &str) -> &'static str {
    match word {
        "known" => "was there before the record begins",
        "account" => "got an account for the place",
        "write" => "was named in a document",
        "replace" => "replaced the one before",
        "rename" => "took over the account of the one before",
        "hand_over" => "took over the account and the phone of the one before",
        _ => "unknown",
    }
}

/// How far a message with a link is.
pub(super) fn message(word: &str) -> &'static str {
    match word {
        "waiting" => "waits to be sent",
        "sending" => "is being sent",
        "delivered" => "was handed to the gateway",
        "failed" => "could not be sent",
        "cancelled" => "was called off",
        _ => "unknown",
    }
}

/// An entry of the audit log, by its action: what was done, in a few words.
pub(super) fn action(word: &str) -> String {
    let (about, what) = word.split_once('.').unwrap_or((word, ""));
    format!("{}: {}", about.replace('_', " "), what.replace('_', " "))
}

/// What a phone may still do, for a list.
pub(super) fn standing(word: &str) -> &'static str {
    match word {
        "active" => "In use",
        "draining" => "May only send",
        "drained" => "Has sent everything",
        "retired" => "Ended",
        "cut" => "Cut off",
        _ => "Unknown",
    }
}

/// What to do about a phone, as `GET /_devices/ID` shows it.
pub(super) fn next_step(device: &Value) -> &'static str {
    let pending = number(&device["pending"]["documents"]) > 0;
    let silent = number(&device["days_silent"]) > crate::documents::radar::SILENT_DAYS;
    if !device["alarm"].is_null() {
        return "It called again after it said that it was erased: somebody may still use it. Find out who has it.";
    }
    match device["wipe"]["state"].as_str() {
        Some("asked") => {
            return "Somebody asked to erase it without proof that everything was sent. A second person must confirm.";
        }
        Some("ordered") => return "It is told to erase itself when it calls. Wait for that.",
        Some("reported") => return "It says that it has erased itself. Nothing more to do.",
        _ => {}
    }
    match (device["standing"].as_str(), device["evidence"].as_str()) {
        (Some("active"), _) if pending => "It holds work that was not sent. See that it gets a network.",
        (Some("active"), _) if silent => "It has not called for more than a week. Ask its owner.",
        (Some("active"), _) => "Nothing to do.",
        (Some("draining"), _) if pending => "It says that it holds work. Get it onto a network, so that it sends.",
        (Some("draining"), _) => "Get it onto a network once, so that it sends what it may hold.",
        (Some("drained"), Some("manifest")) => "Everything has arrived, and there is a receipt. It may be erased.",
        (Some("drained"), Some("overridden")) => {
            "Two people took responsibility for what it may hold. It may be erased."
        }
        (Some("drained"), _) => {
            "Probably everything has arrived, but there is no proof. Collect the phone and look at it."
        }
        (Some("retired"), _) => {
            "Its time to send is over. If it is found and holds work, its owner logs in on it anew."
        }
        (Some("cut"), _) => {
            "It is cut off. If it is found, its owner logs in on it anew and sends; only then may it be erased."
        }
        _ => "Nothing is known.",
    }
}

/// Why a right was withdrawn.
pub(super) fn cause(word: &str) -> &'static str {
    match word {
        "password_changed" => "the password was changed",
        "disabled" => "the account was closed for a while",
        "account_retired" => "the account was retired",
        "account_deleted" => "the account was deleted",
        "device_retired" => "the phone was retired",
        "lost" => "the phone was reported lost",
        _ => "",
    }
}

/// How the server knows that nothing is left on a phone.
pub(super) fn evidence(word: &str) -> &'static str {
    match word {
        "manifest" => "proved: it listed what it holds, and all of it is here",
        "inferred" => "probable: it sent and was quiet since",
        "overridden" => "none: two people took responsibility",
        _ => "none",
    }
}

/// A number with its noun.
pub(super) fn counted(number: u64, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}

/// What a phone is called.
pub(super) fn phone_name(device: &Value) -> String {
    match device["name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => format!("Phone {}", device["device"].as_str().and_then(|id| id.get(..8)).unwrap_or_default()),
    }
}
