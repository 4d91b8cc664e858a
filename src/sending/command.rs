//! A program that takes messages: started once for each, without a shell, with the message on its standard input.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Said;

/// What of the server's environment a program gets. Not the rest: an operator's password may be in it.
const KEPT: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Exit codes that mean "never": bad data and no such user, as in `sysexits.h`.
const NEVER: [i32; 2] = [65, 67];

/// Runs the program with one message. Blocks until it has ended, or was ended when its time was over.
pub(super) fn run(command: &[String], timeout: Duration, message: &str) -> Said {
    let Some((program, arguments)) = command.split_first() else {
        return Said::Refused("no command is configured".to_owned());
    };
    let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(kept)
        .stdin(Stdio::piped())
        // What it says may hold the link.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Said::Later(format!("the command could not be started: {error}"), None),
    };
    // In a thread of its own: a program that does not read must not hold this one longer than it may run.
    let input = child.stdin.take().map(|mut input| {
        let line = format!("{message}\n");
        std::thread::spawn(move || input.write_all(line.as_bytes()))
    });
    let deadline = Instant::now() + timeout;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => sleep(LOOK),
            Ok(None) | Err(_) => break None,
        }
    };
    let Some(status) = status else {
        // Both fail only if it has ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
        return Said::Later(format!("the command did not end within {} seconds", timeout.as_secs()), None);
    };
    drop(input);
    match status.code() {
        Some(0) => Said::Taken,
        Some(code) if NEVER.contains(&code) => Said::Refused(format!("the command ended with {code}")),
        Some(code) => Said::Later(format!("the command ended with {code}"), None),
        None => Said::Later("the command was ended by a signal".to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(script: &str) -> Said {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, Duration::from_millis(500), "{\"id\":\"1\"}")
    }

    #[test]
    fn the_exit_code_decides() {
        assert_eq!(said("test \"$(cat)\" = '{\"id\":\"1\"}'"), Said::Taken);
        assert_eq!(said("exit 0"), Said::Taken);
        assert_eq!(said("exit 67"), Said::Refused("the command ended with 67".to_owned()));
        assert_eq!(said("exit 1"), Said::Later("the command ended with 1".to_owned(), None));
        assert_eq!(said("kill -9 $$"), Said::Later("the command was ended by a signal".to_owned(), None));
        assert_eq!(said("exec sleep 5"), Said::Later("the command did not end within 0 seconds".to_owned(), None));
    }

    #[test]
    fn a_program_that_is_not_there_may_be_there_later() {
        let said = run(&["/no/such/program".to_owned()], Duration::from_secs(1), "{}");
        assert!(matches!(said, Said::Later(why, None) if why.contains("could not be started")));
    }

    #[test]
    fn no_secret_of_the_environment_is_passed_on() {
        assert_eq!(said("test -z \"$CARGO_MANIFEST_DIR\" && test -n \"$PATH\""), Said::Taken);
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the test sees one");
    }
}
