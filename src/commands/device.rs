//! `settle device`: what is known of devices, and what ends their rights, through a running server.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::remote::{Acting, Answered, Remote, ask, escaped, exchange};

/// Arguments of `settle device`.
#[derive(Debug, clap::Args)]
pub struct DeviceArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All devices, or those of one account.
    List(ListArguments),
    /// One device.
    Show(ShowArguments),
    /// End a device's rights: it may push what it holds, for the drain window.
    Retire(RetireArguments),
    /// End a device's rights at once, push included: lost or stolen.
    Cut(EndArguments),
    /// Order a device to erase itself: after its last sync, or on the word of two people.
    Wipe(WipeArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// Only those of this account.
    #[arg(long)]
    account: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct ShowArguments {
    /// The device, 32 hex digits.
    device: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct EndArguments {
    /// The device, 32 hex digits.
    device: String,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

#[derive(Debug, clap::Args)]
struct RetireArguments {
    #[command(flatten)]
    end: EndArguments,
    /// Seconds for which it may still push, from its first contact; `none`: not at all [default: as configured].
    #[arg(long)]
    drain: Option<String>,
}

#[derive(Debug, clap::Args)]
struct WipeArguments {
    #[command(flatten)]
    end: EndArguments,
    /// Take responsibility for work that may be lost. Needs --reason, and a second person who does the same within 7 days.
    #[arg(long = "override", requires = "reason")]
    responsible: bool,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(arguments: DeviceArguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::List(ListArguments { account, remote }) => {
            let devices = devices_of(&remote.url, account.as_deref())?;
            match remote.json {
                true => println!("{}", json!({"devices": devices})),
                false => print!("{}", table(&devices)),
            }
            Ok(())
        }
        Action::Show(ShowArguments { device, remote }) => {
            let known = ask(&remote.url, "GET", &path_of(&device, ""), &Value::Null)?;
            match remote.json {
                true => println!("{known}"),
                false => print!("{}", table(std::slice::from_ref(&known))),
            }
            Ok(())
        }
        Action::Retire(RetireArguments { end, drain }) => {
            let query = drain.map(|drain| format!("?drain={}", escaped(&drain))).unwrap_or_default();
            act(&end, &format!("/retire{query}"), "retired: it may push what it holds, and nothing else")
        }
        Action::Cut(end) => act(&end, "/cut", "cut: it can neither read nor push"),
        Action::Wipe(arguments) => wipe(&arguments),
    }
}

fn path_of(device: &str, action: &str) -> String {
    format!("/_devices/{}{action}", escaped(device))
}

/// The devices of an account, or all.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(super) fn devices_of(url: &str, account: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let query = account.map(|account| format!("?account={}", escaped(account))).unwrap_or_default();
    let mut answer = ask(url, "GET", &format!("/_devices{query}"), &Value::Null)?;
    Ok(answer["devices"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

fn act(arguments: &EndArguments, action: &str, done: &str) -> anyhow::Result<()> {
    let Acting { remote: Remote { url, json: as_json }, dry_run } = &arguments.acting;
    if *dry_run {
        let known = ask(url, "GET", &path_of(&arguments.device, ""), &Value::Null)?;
        print!("{}", foretold(*as_json, &format!("would be {done}"), std::slice::from_ref(&known)));
        return Ok(());
    }
    let answer = ask(url, "POST", &path_of(&arguments.device, action), &json!({"reason": arguments.reason}))?;
    match (as_json, answer["changed"] == true) {
        (true, _) => println!("{answer}"),
        (false, true) => println!("{} is {done}.", arguments.device),
        (false, false) => println!("Nothing was changed: it was so already."),
    }
    Ok(())
}

fn wipe(arguments: &WipeArguments) -> anyhow::Result<()> {
    let Acting { remote: Remote { url, json: as_json }, dry_run } = &arguments.end.acting;
    let device = &arguments.end.device;
    if *dry_run {
        let known = ask(url, "GET", &path_of(device, ""), &Value::Null)?;
        print!("{}", foretold(*as_json, "would be told to erase itself, if its last sync is proved", &[known]));
        return Ok(());
    }
    let reason = &arguments.end.reason;
    let body = match arguments.responsible {
        true => json!({"override": {"reason": reason}}),
        false => json!({"reason": reason}),
    };
    let Answered { status, body } = exchange(url, "POST", &path_of(device, "/wipe"), &body)?;
    if *as_json {
        println!("{body}");
    }
    let problem = body["reason"].as_str().unwrap_or("no reason");
    match status {
        200 | 202 if *as_json => {}
        200 => println!("{device} is told to erase itself at its next contact. What it reports is its own word."),
        202 => println!("Noted. A second person must confirm with the same command within 7 days."),
        409 if body["error"] == "final_push_pending" => anyhow::bail!("{problem}\n{}", table(&[body.clone()])),
        _ => anyhow::bail!("the server answered {status}: {problem}"),
    }
    Ok(())
}

/// What a dry run says: the effect, and on which devices.
pub(super) fn foretold(as_json: bool, effect: &str, devices: &[Value]) -> String {
    match as_json {
        true => format!("{}\n", json!({"dry_run": true, "effect": effect, "devices": devices})),
        false => format!("{effect}:\n{}", table(devices)),
    }
}

/// Devices in lines: what somebody needs to know before rights are taken away.
pub(super) fn table(devices: &[Value]) -> String {
    let mut text = String::new();
    for device in devices {
        let word = |name: &str| device[name].as_str().filter(|word| !word.is_empty());
        let line = [word("device"), word("account"), word("name"), word("standing"), word("cause"), word("evidence")];
        let _ = write!(text, "{}", line.into_iter().flatten().collect::<Vec<_>>().join("  "));
        let pending = match device["pending"]["documents"].as_u64() {
            Some(number) => format!("{number} not pushed, it says"),
            None => "does not say what is not pushed".to_owned(),
        };
        let pushed = match device["last_push"].as_u64() {
            Some(0) | None => "never pushed".to_owned(),
            Some(time) => {
                format!("last push {time}, silent for {} days", device["days_silent"].as_u64().unwrap_or_default())
            }
        };
        let _ = write!(text, "  ({pending}; {pushed}");
        if let Some(escrowed) = device["escrowed"].as_u64().filter(|number| *number > 0) {
            let _ = write!(text, "; {escrowed} in escrow");
        }
        if let Some(state) = device["wipe"]["state"].as_str() {
            let _ = write!(text, "; erasure {state}");
        }
        if device["alarm"].is_u64() {
            text.push_str("; ALARM: it called after it had reported its erasure");
        }
        text.push_str(")\n");
    }
    if devices.is_empty() {
        text.push_str("no devices\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_in_lines() {
        let plain = json!({"device": "9f", "account": "ann", "name": "", "standing": "active", "last_push": 0});
        assert_eq!(table(&[plain]), "9f  ann  active  (does not say what is not pushed; never pushed)\n");
        let lost = json!({
            "device": "9f", "account": "ann", "name": "A phone", "standing": "cut", "cause": "lost", "evidence": "overridden",
            "pending": {"documents": 14}, "last_push": 1_798_000_000, "days_silent": 21, "escrowed": 2,
            "wipe": {"state": "ordered"}, "alarm": 1_798_000_001,
        });
        assert_eq!(
            table(&[lost]),
            "9f  ann  A phone  cut  lost  overridden  (14 not pushed, it says; last push 1798000000, silent for 21 days; 2 in \
             escrow; erasure ordered; ALARM: it called after it had reported its erasure)\n"
        );
        assert_eq!(table(&[]), "no devices\n");
    }
}
