//! `settle account`: what ends and begins an account's rights, and what it could see, through a running server. A password is never an argument:
//! arguments are seen by every user of the machine.

use std::io::Read as _;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::account_import::{self, ImportArguments};
use super::account_making::{self, Making};
use super::account_sheet::{self, SheetArguments};
use super::device::{devices_of, foretold};
use super::remote::{Acting, Remote, ask, escaped};
use crate::accounts::password::made_up;
use crate::clock::random;

/// Arguments of `settle account`.
#[derive(Debug, clap::Args)]
pub struct AccountArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    #[command(flatten)]
    Making(Making),
    /// Make the accounts of a CSV or JSON file, and change those that are there already; goes on where it was stopped.
    ///
    /// Columns are the CHT's: `username` or `external_id`, `roles`, `place` or `place.NAME`…, `contact` or `contact.NAME`…, `phone`,
    /// `email`, `language`, `fullname`. Dots make nested fields; columns with `:excluded` in their names are for yourself. Each row is done
    /// wholly or not at all. What became of the rows, with their links, goes into a file that can be fed in again.
    Import(Box<ImportArguments>),
    /// Print a sheet of cards with links as QR codes, into a file. The accounts' earlier links end.
    Sheet(SheetArguments),
    /// Give another password: made up and printed once, or read from standard input. Old logins may push, and nothing else.
    Password(PasswordArguments),
    /// Close an account to logins until it is enabled again. Its devices may push what they hold.
    Disable(WithdrawArguments),
    /// Open a disabled account again.
    Enable(NamedArguments),
    /// Close an account for good. Its devices may push what they hold.
    Retire(WithdrawArguments),
    /// Cut every device of an account at once, push included, and disable it.
    Cut(NamedArguments),
    /// What the account could see at a time, and every change of that, from the audit log.
    Reach(ReachArguments),
}

#[derive(Debug, clap::Args)]
struct NamedArguments {
    /// The account.
    account: String,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

#[derive(Debug, clap::Args)]
struct WithdrawArguments {
    #[command(flatten)]
    named: NamedArguments,
    /// Seconds for which devices may still push, from their first contact; `none`: not at all [default: as configured].
    #[arg(long)]
    drain: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ReachArguments {
    /// The account.
    account: String,
    /// The time, in seconds since 1970 [default: now].
    #[arg(long)]
    at: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct PasswordArguments {
    #[command(flatten)]
    withdraw: WithdrawArguments,
    /// Read the password from standard input (one line) instead of making one up.
    #[arg(long)]
    stdin: bool,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(arguments: AccountArguments) -> anyhow::Result<()> {
    let drained =
        |drain: &Option<String>| drain.as_ref().map(|drain| format!("?drain={}", escaped(drain))).unwrap_or_default();
    match arguments.action {
        Action::Making(making) => account_making::run(making),
        Action::Import(arguments) => account_import::run(&arguments),
        Action::Sheet(arguments) => account_sheet::run(&arguments),
        Action::Password(arguments) => change_password(&arguments, &drained(&arguments.withdraw.drain)),
        Action::Disable(WithdrawArguments { named, drain }) => {
            act(&named, &format!("disable{}", drained(&drain)), "disabled: its devices may push, nobody can log in")
        }
        Action::Retire(WithdrawArguments { named, drain }) => {
            act(&named, &format!("retire{}", drained(&drain)), "retired for good: its devices may push what they hold")
        }
        Action::Enable(named) => act(&named, "enable", "open: whoever has its password can log in"),
        Action::Reach(arguments) => reach(&arguments),
        Action::Cut(named) => act(&named, "cut", "cut: no device of it can read or push, nobody can log in"),
    }
}

fn reach(arguments: &ReachArguments) -> anyhow::Result<()> {
    let at = arguments.at.map(|at| format!("?at={at}")).unwrap_or_default();
    let path = format!("/_accounts/{}/reach{at}", escaped(&arguments.account));
    let told = ask(&arguments.remote.url, "GET", &path, &Value::Null)?;
    match arguments.remote.json {
        true => println!("{told}"),
        false => print!("{}", reach_in_words(&told)),
    }
    Ok(())
}

/// What an account could see, a line for each thing.
fn reach_in_words(told: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let state = if told["exists"] == true { text(&told["state"]) } else { "not there".to_owned() };
    let mut out = format!("{} at {}: {state}\n", text(&told["account"]), told["at"]);
    for member in ["roles", "places"] {
        out.push_str(&format!("{member}: {}\n", list(&told[member])));
    }
    let rows = |member: &str| told[member].as_array().cloned().unwrap_or_default();
    for row in rows("databases") {
        let depth = if row["depth"].is_null() { String::new() } else { format!(" down to depth {}", row["depth"]) };
        out.push_str(&format!("{}: sees {}{depth}\n", text(&row["database"]), text(&row["sees"])));
    }
    for row in rows("grants") {
        let (place, rights, until) = (text(&row["place"]), text(&row["rights"]), &row["until"]);
        out.push_str(&format!("lent: {place} to {rights} until {until} by {}\n", text(&row["granted_by"])));
    }
    for row in rows("devices") {
        out.push_str(&format!("device {}: {} since {}\n", text(&row["device"]), text(&row["state"]), row["since"]));
    }
    for row in rows("changes") {
        out.push_str(&format!("{} {} {} by {}\n", row["number"], row["time"], text(&row["action"]), text(&row["by"])));
    }
    out
}

fn act(arguments: &NamedArguments, action: &str, done: &str) -> anyhow::Result<()> {
    if arguments.acting.dry_run {
        return foretell(arguments, done);
    }
    let answer = post(arguments, action, &json!({"reason": arguments.reason}))?;
    match (arguments.acting.remote.json, answer["changed"] == false) {
        (true, _) => println!("{answer}"),
        (false, true) => println!("Nothing was changed: it was so already."),
        (false, false) => println!("{} is {done}.", arguments.account),
    }
    Ok(())
}

fn post(arguments: &NamedArguments, action: &str, body: &Value) -> anyhow::Result<Value> {
    let path = format!("/_accounts/{}/{action}", escaped(&arguments.account));
    ask(&arguments.acting.remote.url, "POST", &path, body)
}

fn foretell(arguments: &NamedArguments, done: &str) -> anyhow::Result<()> {
    let Acting { remote: Remote { url, json: as_json }, .. } = &arguments.acting;
    let devices = devices_of(url, Some(&arguments.account))?;
    print!("{}", foretold(*as_json, &format!("{} would be {done}", arguments.account), &devices));
    Ok(())
}

fn change_password(arguments: &PasswordArguments, query: &str) -> anyhow::Result<()> {
    let named = &arguments.withdraw.named;
    if named.acting.dry_run {
        return foretell(named, "given another password: what is logged in with the old one may only push");
    }
    let password = match arguments.stdin {
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("no password on standard input")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        false => made_up(random()),
    };
    ensure!(!password.is_empty(), "the password on standard input is empty");
    post(named, &format!("password{query}"), &json!({"password": password, "reason": named.reason}))?;
    match (named.acting.remote.json, arguments.stdin) {
        (true, true) => println!("{}", json!({"ok": true, "account": named.account})),
        (true, false) => println!("{}", json!({"ok": true, "account": named.account, "password": password})),
        (false, true) => println!("The password of {} was changed.", named.account),
        (false, false) => println!("The new password of {} is {password}. It is shown only now.", named.account),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_is_told_in_lines() {
        let told = json!({"account": "ann", "at": 5, "exists": true, "state": "active", "roles": ["chw"], "places": ["a", "b"],
            "databases": [{"database": "medic", "sees": "places", "depth": 2}],
            "grants": [{"place": "c", "rights": "read", "until": 9, "granted_by": "bob"}], "devices": [],
            "changes": [{"number": 1, "time": 2, "action": "account.create", "by": "root"}]});
        let lines = "ann at 5: active\nroles: chw\nplaces: a, b\nmedic: sees places down to depth 2\n\
            lent: c to read until 9 by bob\n1 2 account.create by root\n";
        assert_eq!(reach_in_words(&told), lines);
    }
}
