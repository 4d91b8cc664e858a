//! `settle break-glass`: lets an operator read documents of a scoped database for a while, for a reason that is kept.

use serde_json::json;

use super::remote::{Remote, ask};

/// Arguments of `settle break-glass`.
#[derive(Debug, clap::Args)]
pub struct BreakGlassArguments {
    /// The scoped database.
    database: String,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: String,
    /// For how long, at most eight hours.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    #[command(flatten)]
    remote: Remote,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(arguments: &BreakGlassArguments) -> anyhow::Result<()> {
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
