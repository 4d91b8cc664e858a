//! `settle account create`, `list`, `link`: accounts made and shown through a running server.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::handing_over::Sending;
use super::remote::{Acting, Remote, ask, escaped};

/// What can be done about accounts before anybody logs in.
#[derive(Debug, clap::Subcommand)]
pub enum Making {
    /// Make an account, with a place and a contact if they are new; prints a link that logs in once.
    Create(Box<CreateArguments>),
    /// List accounts.
    List(ListArguments),
    /// Make a link that logs in once; the account's earlier link ends.
    Link(LinkArguments),
}

/// Arguments of `settle account create`.
#[derive(Debug, clap::Args)]
pub struct CreateArguments {
    /// The name to log in with; made up from the person's name if there is none.
    name: Option<String>,
    /// A role; several are given one after the other.
    #[arg(long = "role", required = true)]
    roles: Vec<String>,
    /// The id of a place; several are given one after the other.
    #[arg(long = "place")]
    places: Vec<String>,
    /// Make a place of this name, too.
    #[arg(long, requires = "place_type", conflicts_with = "places")]
    new_place: Option<String>,
    /// The type of the new place (`contact_type`).
    #[arg(long)]
    place_type: Option<String>,
    /// The id of the place that the new place comes below.
    #[arg(long)]
    below: Option<String>,
    /// The id of the person it acts as.
    #[arg(long)]
    contact: Option<String>,
    /// Make a person of this name, too.
    #[arg(long, conflicts_with = "contact")]
    new_contact: Option<String>,
    /// The name to be shown.
    #[arg(long)]
    fullname: Option<String>,
    /// Telephone number.
    #[arg(long)]
    phone: Option<String>,
    /// E-mail address.
    #[arg(long)]
    email: Option<String>,
    /// Language.
    #[arg(long)]
    locale: Option<String>,
    /// The programme's own name for it.
    #[arg(long)]
    external_id: Option<String>,
    /// The scoped database of place and contact, if there are several.
    #[arg(long)]
    database: Option<String>,
    /// Make a shell: nobody can log in until its person uses the link.
    #[arg(long)]
    prepared: bool,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    acting: Acting,
}

/// Arguments of `settle account list`.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Only those that hold this place.
    #[arg(long)]
    place: Option<String>,
    /// Only those with this role.
    #[arg(long)]
    role: Option<String>,
    /// Only those that are active, prepared, disabled or retired.
    #[arg(long)]
    state: Option<String>,
    /// Only those with this text in a name, a number or an id.
    #[arg(long)]
    text: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `settle account link`.
#[derive(Debug, clap::Args)]
pub struct LinkArguments {
    /// The account.
    account: String,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    acting: Acting,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(making: Making) -> anyhow::Result<()> {
    match making {
        Making::Create(arguments) => create(&arguments),
        Making::List(arguments) => list(&arguments),
        Making::Link(arguments) => link(&arguments),
    }
}

/// `?dry_run=true`, if nothing is to be changed.
pub(super) fn query_of(acting: &Acting) -> &'static str {
    if acting.dry_run { "?dry_run=true" } else { "" }
}

impl CreateArguments {
    fn body(&self) -> Value {
        let place = self.new_place.as_ref().map(|name| {
            json!({"name": name, "contact_type": self.place_type, "parent": self.below.clone().unwrap_or_default()})
        });
        let contact = self.contact.as_ref().map(|id| json!(id));
        json!({
            "name": self.name, "roles": self.roles, "places": place.map_or_else(|| json!(self.places), |place| json!([place])),
            "contact": contact.or_else(|| self.new_contact.as_ref().map(|name| json!({"name": name}))),
            "fullname": self.fullname, "phone": self.phone, "email": self.email, "locale": self.locale,
            "external_id": self.external_id, "database": self.database, "send": self.sending.send, "prepared": self.prepared,
        })
    }
}

fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let path = format!("/_accounts{}", query_of(&arguments.acting));
    let answer = ask(&arguments.acting.remote.url, "POST", &path, &arguments.body())?;
    if arguments.acting.remote.json {
        println!("{answer}");
    } else {
        print!("{}", told(&answer));
    }
    Ok(())
}

/// A link in words; it is shown this once.
pub(super) fn told_link(name: &str, answer: &Value) -> String {
    match (answer["link"].as_str(), answer["message"].as_str()) {
        (Some(address), _) => format!("This link logs {name} in, once:\n  {address}\n"),
        (None, Some(message)) => format!("A link is on its way to {name}: message {message} (settle outbox list).\n"),
        (None, None) => String::new(),
    }
}

fn told(answer: &Value) -> String {
    let name = answer["name"].as_str().unwrap_or_default();
    let verb = if answer["dry_run"] == true { "would be" } else { "was" };
    let mut text = format!("The account {name} {verb} made.\n");
    for what in ["place", "contact"] {
        if let Some(id) = answer[what]["id"].as_str().filter(|_| answer["dry_run"] != true) {
            text.push_str(&format!("  its new {what} is {id}\n"));
        }
    }
    text.push_str(&told_link(name, &answer["link"]));
    text
}

fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let mut filters = String::new();
    for (name, value) in
        [("place", &arguments.place), ("role", &arguments.role), ("state", &arguments.state), ("text", &arguments.text)]
    {
        if let Some(value) = value {
            filters.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let mut after = None;
    loop {
        let from = after.as_ref().map(|name: &String| format!("&start_after={}", escaped(name))).unwrap_or_default();
        let answer = ask(&arguments.remote.url, "GET", &format!("/_accounts?limit=1000{filters}{from}"), &Value::Null)?;
        for account in answer["rows"].as_array().context("the server answered no list")? {
            match arguments.remote.json {
                true => println!("{account}"),
                false => println!("{}", line_of(account)),
            }
        }
        match answer["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

fn line_of(account: &Value) -> String {
    let text = |member: &str| account[member].as_str().unwrap_or("-").to_owned();
    let texts = |member: &str| {
        let items: Vec<&str> = account[member].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if items.is_empty() { "-".to_owned() } else { items.join(",") }
    };
    let login = match (account["password"] == true, account["link"]["works"] == true) {
        (true, _) => "password",
        (false, true) => "link open",
        (false, false) => "no link",
    };
    let columns = [text("name"), text("state"), texts("roles"), texts("places"), text("contact"), text("fullname")];
    format!("{}\t{login}", columns.join("\t"))
}

fn link(arguments: &LinkArguments) -> anyhow::Result<()> {
    let account = &arguments.account;
    let path = format!("/_accounts/{}/link{}", escaped(account), query_of(&arguments.acting));
    let answer = ask(&arguments.acting.remote.url, "POST", &path, &json!({"send": arguments.sending.send}))?;
    if arguments.acting.dry_run {
        println!("A link for {account} can be made; the one before would end.");
        return Ok(());
    }
    let has_link = answer["link"].is_string() || answer["message"].is_string();
    ensure!(has_link, "the server answered no link");
    if arguments.acting.remote.json {
        println!("{answer}");
    } else {
        print!("{}", told_link(account, &answer));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let link = json!({"link": "http://h/_links/T", "token": "T", "expires": 1});
        let answer = json!({"ok": true, "name": "bea", "contact": {"id": "c1", "rev": "1-a"}, "link": link});
        assert_eq!(
            told(&answer),
            "The account bea was made.\n  its new contact is c1\nThis link logs bea in, once:\n  http://h/_links/T\n"
        );
        let sent = json!({"ok": true, "name": "bea", "link": {"message": "0a", "expires": 1}});
        let way = "A link is on its way to bea: message 0a (settle outbox list).\n";
        assert_eq!(told(&sent), format!("The account bea was made.\n{way}"));
        let tried = json!({"ok": true, "name": "bea", "contact": {"id": "c1", "rev": "1-a"}, "dry_run": true});
        assert_eq!(told(&tried), "The account bea would be made.\n");
        let account = json!({"name": "bea", "state": "active", "roles": ["chw"], "places": ["a", "b"], "contact": null,
                             "fullname": "Bea", "password": false, "link": {"works": true}});
        assert_eq!(line_of(&account), "bea\tactive\tchw\ta,b\t-\tBea\tlink open");
    }
}
