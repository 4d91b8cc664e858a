//! `settle place replace`, `rename`, `hand-over`, `undo`, `custody`: places that change hands, through a running server.

use serde_json::{Value, json};

use super::account_making::{query_of, told_link};
use super::remote::{Acting, Remote, ask, escaped};

/// What can be done about who holds a place.
#[derive(Debug, clap::Subcommand)]
pub enum HandingOver {
    /// Somebody new takes over, with a contact and an account of their own; the old account is retired.
    Replace(ReplaceArguments),
    /// Somebody new takes over the contact and the account as they are.
    Rename(RenameArguments),
    /// Somebody new takes over the phone, with a contact of their own.
    HandOver(HandOverArguments),
    /// Take a replacement back, while the newcomer has pushed nothing.
    Undo(UndoArguments),
    /// Say who held the place of a place, person or report, and when it changed hands.
    Custody(CustodyArguments),
}

/// The place that changes hands.
#[derive(Debug, clap::Args)]
pub struct PlaceOfIt {
    /// The scoped database.
    database: String,
    /// Id of the place.
    place: String,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

/// Who comes.
#[derive(Debug, clap::Args)]
pub struct Newcomer {
    /// What the newcomer is called: a contact of this name is made.
    #[arg(long, required_unless_present = "contact")]
    name: Option<String>,
    /// The id of the newcomer's contact, if it is below the place already.
    #[arg(long, conflicts_with = "name")]
    contact: Option<String>,
    /// The newcomer's telephone number.
    #[arg(long)]
    phone: Option<String>,
}

/// What becomes of the newcomer's link.
#[derive(Debug, clap::Args)]
pub struct Sending {
    /// Send the link to the newcomer's telephone, instead of printing it.
    #[arg(long)]
    pub send: bool,
}

/// Arguments of `settle place replace`.
#[derive(Debug, clap::Args)]
pub struct ReplaceArguments {
    #[command(flatten)]
    of: PlaceOfIt,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    newcomer: Newcomer,
    /// The name of the new account; made up if there is none.
    #[arg(long)]
    account: Option<String>,
    /// A role of the new account [default: those of the old one].
    #[arg(long = "role")]
    roles: Vec<String>,
    /// Another name for the place.
    #[arg(long)]
    place_name: Option<String>,
    /// An account to retire [default: those that act as the former contact].
    #[arg(long = "retire")]
    retire: Vec<String>,
}

/// Arguments of `settle place rename`.
#[derive(Debug, clap::Args)]
pub struct RenameArguments {
    #[command(flatten)]
    of: PlaceOfIt,
    #[command(flatten)]
    sending: Sending,
    /// What the newcomer is called.
    #[arg(long)]
    name: String,
    /// The newcomer's telephone number.
    #[arg(long)]
    phone: Option<String>,
    /// The account, if several act as the contact.
    #[arg(long)]
    account: Option<String>,
}

/// Arguments of `settle place hand-over`.
#[derive(Debug, clap::Args)]
pub struct HandOverArguments {
    #[command(flatten)]
    of: PlaceOfIt,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    newcomer: Newcomer,
    /// The account that is handed over, if several act as the contact.
    #[arg(long, conflicts_with = "new_account")]
    account: Option<String>,
    /// Make an account of this name and retire the old one.
    #[arg(long)]
    new_account: Option<String>,
}

/// Arguments of `settle place undo`.
#[derive(Debug, clap::Args)]
pub struct UndoArguments {
    #[command(flatten)]
    of: PlaceOfIt,
}

/// Arguments of `settle place custody`.
#[derive(Debug, clap::Args)]
pub struct CustodyArguments {
    /// The scoped database.
    database: String,
    /// Id of a place, person or report.
    id: String,
    /// The time to ask about, in seconds since 1970 [default: now].
    #[arg(long)]
    at: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(action: HandingOver) -> anyhow::Result<()> {
    match action {
        HandingOver::Replace(arguments) => {
            let ReplaceArguments { of, sending, newcomer, account, roles, place_name, retire } = arguments;
            let retire = Some(retire).filter(|names| !names.is_empty());
            let account = json!({"name": account, "roles": roles, "phone": newcomer.phone});
            let body = json!({"contact": newcomer.body(), "account": account, "place_name": place_name, "retire": retire,
                "send": sending.send});
            act(&of, "replace", body)
        }
        HandingOver::Rename(RenameArguments { of, sending, name, phone, account }) => {
            let body = json!({"name": name, "phone": phone, "account": account, "send": sending.send});
            act(&of, "rename_holder", body)
        }
        HandingOver::HandOver(HandOverArguments { of, sending, newcomer, account, new_account }) => {
            let account = new_account.map_or_else(|| json!(account), |name| json!({"name": name}));
            act(&of, "hand_over", json!({"contact": newcomer.body(), "account": account, "send": sending.send}))
        }
        HandingOver::Undo(UndoArguments { of }) => act(&of, "undo_replace", json!({})),
        HandingOver::Custody(arguments) => custody(&arguments),
    }
}

impl Newcomer {
    fn body(&self) -> Value {
        match (&self.contact, &self.phone) {
            (Some(id), _) => json!(id),
            (None, Some(phone)) => json!({"name": self.name, "phone": phone}),
            (None, None) => json!({"name": self.name}),
        }
    }
}

fn act(of: &PlaceOfIt, action: &str, mut body: Value) -> anyhow::Result<()> {
    body["reason"] = json!(of.reason);
    let (database, place) = (escaped(&of.database), escaped(&of.place));
    let path = format!("/{database}/_places/{place}/{action}{}", query_of(&of.acting));
    let answer = ask(&of.acting.remote.url, "POST", &path, &body)?;
    if of.acting.remote.json {
        println!("{answer}");
    } else if action == "undo_replace" {
        print!("{}", told_undo(&of.place, &answer));
    } else {
        print!("{}", told(&of.place, &answer));
    }
    Ok(())
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn told(place: &str, answer: &Value) -> String {
    let tried = answer["dry_run"] == true;
    let (account, contact) = (text(answer, "account"), text(&answer["contact"], "id"));
    let (verb, contact) = if tried { ("would be", String::new()) } else { ("is", format!(" as {contact}")) };
    let mut out = format!("{place} {verb} held by {account}{contact}");
    out.push_str(
        &answer["former_contact"].as_str().map(|former| format!(", after {former}.\n")).unwrap_or(".\n".into()),
    );
    for name in answer["retired"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.push_str(&format!("  the account {name} {verb} retired\n"));
    }
    for device in answer["devices"].as_array().into_iter().flatten() {
        let pending = match device["pending"]["documents"].as_u64() {
            Some(documents) => format!("{documents} documents unsent when it last said"),
            None => "has not said what is unsent".to_owned(),
        };
        out.push_str(&format!("  may only push: {} {} ({pending})\n", text(device, "device"), text(device, "name")));
    }
    out.push_str(&told_link(account, &answer["link"]));
    out
}

fn told_undo(place: &str, answer: &Value) -> String {
    let verb = if answer["dry_run"] == true { "would be" } else { "is" };
    let mut out = format!("{place} {verb} held by {} again", answer["contact"].as_str().unwrap_or("nobody"));
    out.push_str(&format!("; the account {} {verb} deleted.\n", text(answer, "deleted")));
    for account in answer["opened"].as_array().into_iter().flatten() {
        let name = text(account, "name");
        out.push_str(&format!("  the account {name} {verb} open again\n"));
        out.push_str(&told_link(name, &account["link"]));
    }
    out
}

fn custody(arguments: &CustodyArguments) -> anyhow::Result<()> {
    let at = arguments.at.map(|at| format!("?at={at}")).unwrap_or_default();
    let path = format!("/{}/_custody/{}{at}", escaped(&arguments.database), escaped(&arguments.id));
    let answer = ask(&arguments.remote.url, "GET", &path, &Value::Null)?;
    if arguments.remote.json {
        println!("{answer}");
    } else {
        print!("{}", told_custody(&answer));
    }
    Ok(())
}

fn told_custody(answer: &Value) -> String {
    let Some(place) = answer["place"].as_str() else {
        return format!("Nothing is on record about who held the place of {}.\n", text(answer, "id"));
    };
    let who = |holding: &Value| {
        let name = holding["person"].as_str().or_else(|| holding["contact"].as_str()).unwrap_or("somebody");
        let account = holding["account"].as_str().map(|account| format!(" ({account})")).unwrap_or_default();
        format!("{name}{account}")
    };
    let mut out = match &answer["holder"] {
        Value::Null => format!("{place} was held by nobody on record at {}.\n", answer["at"]),
        holder => format!("{place} was held by {} at {}.\n", who(holder), answer["at"]),
    };
    for holding in answer["history"].as_array().into_iter().flatten() {
        let until = holding["until"].as_u64().map_or("now".to_owned(), |until| until.to_string());
        let undone = if holding["undone"] == true { ", taken back" } else { "" };
        out.push_str(&format!(
            "  {} to {until}: {} ({}{undone})\n",
            holding["from"],
            who(holding),
            text(holding, "how")
        ));
    }
    for moved in answer["moves"].as_array().into_iter().flatten() {
        out.push_str(&format!("  moved from {} to {} at {}\n", text(moved, "from"), text(moved, "to"), moved["time"]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let device = json!({"device": "9f", "name": "Ann's phone", "pending": {"documents": 3}});
        let mut answer = json!({"account": "bea", "contact": {"id": "c1"}, "former_contact": "per-ann", "retired": ["ann"],
                                "devices": [device], "link": {"link": "http://h/_links/T"}});
        assert_eq!(
            told("area-1", &answer),
            "area-1 is held by bea as c1, after per-ann.\n  the account ann is retired\n  may only push: 9f Ann's phone \
             (3 documents unsent when it last said)\nThis link logs bea in, once:\n  http://h/_links/T\n"
        );
        answer["dry_run"] = true.into();
        assert!(told("area-1", &answer).starts_with("area-1 would be held by bea, after per-ann.\n"));
        let undone = json!({"contact": "per-ann", "deleted": "bea", "opened": [{"name": "ann"}]});
        assert_eq!(
            told_undo("area-1", &undone),
            "area-1 is held by per-ann again; the account bea is deleted.\n  the account ann is open again\n"
        );
        let held =
            json!({"person": "Ann", "account": "ann", "from": 5, "until": null, "how": "account", "undone": false});
        let moved = json!({"time": 4, "from": "a", "to": "b"});
        let custody =
            json!({"id": "hh-1", "place": "area-1", "at": 9, "holder": held, "history": [held], "moves": [moved]});
        assert_eq!(
            told_custody(&custody),
            "area-1 was held by Ann (ann) at 9.\n  5 to now: Ann (ann) (account)\n  moved from a to b at 4\n"
        );
    }
}
