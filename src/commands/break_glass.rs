//! `settle break-glass`: lets an operator read documents of a scoped database for a while, for a reason that is kept; `--end` ends
//! that early.

use serde_json::{Value, json};

use super::remote::{Remote, ask, escaped};

/// Arguments of `settle break-glass`.
#[derive(Debug, clap::Args)]
pub struct BreakGlassArguments {
    /// The scoped database.
    database: String,
    /// Why; kept in the audit log.
    #[arg(long, required_unless_present = "end")]
    reason: Option<String>,
    /// For how long, at most eight hours.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Ends what is left of the time, and every read that still runs.
    #[arg(long, conflicts_with = "minutes")]
    end: bool,
    /// With --end: the operator whose time ends [default: the one of the address].
    #[arg(long, requires = "end")]
    by: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(arguments: &BreakGlassArguments) -> anyhow::Result<()> {
    if arguments.end {
        return end(arguments);
    }
    let body = json!({"database": arguments.database, "reason": arguments.reason, "minutes": arguments.minutes});
    let answer = ask(&arguments.remote.url, "POST", "/_break_glass", &body)?;
    match arguments.remote.json {
        true => println!("{answer}"),
        false => println!(
            "{} may be read for {} minutes. Every read is in the audit log.",
            arguments.database, arguments.minutes
        ),
    }
    Ok(())
}

fn end(arguments: &BreakGlassArguments) -> anyhow::Result<()> {
    let mut path = format!("/_break_glass/{}", escaped(&arguments.database));
    let mut between = '?';
    for (name, value) in [("by", &arguments.by), ("reason", &arguments.reason)] {
        if let Some(value) = value {
            path.push_str(&format!("{between}{name}={}", escaped(value)));
            between = '&';
        }
    }
    let answer = ask(&arguments.remote.url, "DELETE", &path, &Value::Null)?;
    match arguments.remote.json {
        true => println!("{answer}"),
        false => println!("{} is read no more.", arguments.database),
    }
    Ok(())
}
