//! A program that takes messages: started once for each, without a shell, with the message on its standard input.

use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::Said;

/// What of the server's environment a program gets. Not the rest: an operator's password may be in it.
const KEPT: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Exit codes that mean "never": bad data and no such user, as in `sysexits.h`.
const NEVER: [i32; 2] = [65, 67];

/// A program that runs, and does not outlive whoever waits for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program with one message, until it has ended or its time is over.
pub(super) async fn run(command: &[String], timeout: Duration, message: &str) -> Said {
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
    let mut running = match started {
        Ok(child) => Running(child),
        Err(error) => return Said::Later(format!("the command could not be started: {error}"), None),
    };
    if let Some(mut input) = running.0.stdin.take() {
        let line = format!("{message}\n");
        // Elsewhere: a program that does not read must not hold whoever waits longer than it may run.
        drop(tokio::task::spawn_blocking(move || input.write_all(line.as_bytes())));
    }
    match tokio::time::timeout(timeout, ended(&mut running.0)).await {
        Ok(Ok(status)) => meaning(status),
        Ok(Err(error)) => Said::Later(format!("the command was lost: {error}"), None),
        Err(_) => Said::Later(format!("the command did not end within {} seconds", timeout.as_secs()), None),
    }
}

async fn ended(child: &mut Child) -> std::io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn meaning(status: ExitStatus) -> Said {
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

    async fn said(script: &str) -> Said {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, Duration::from_secs(2), "{\"id\":\"1\"}").await
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        assert_eq!(said("test \"$(cat)\" = '{\"id\":\"1\"}'").await, Said::Taken);
        assert_eq!(said("exit 0").await, Said::Taken);
        assert_eq!(said("exit 67").await, Said::Refused("the command ended with 67".to_owned()));
        assert_eq!(said("exit 1").await, Said::Later("the command ended with 1".to_owned(), None));
        assert_eq!(said("kill -9 $$").await, Said::Later("the command was ended by a signal".to_owned(), None));
        assert_eq!(
            said("exec sleep 5").await,
            Said::Later("the command did not end within 2 seconds".to_owned(), None)
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_may_be_there_later() {
        let said = run(&["/no/such/program".to_owned()], Duration::from_secs(1), "{}").await;
        assert!(matches!(said, Said::Later(why, None) if why.contains("could not be started")));
    }

    #[tokio::test]
    async fn no_secret_of_the_environment_is_passed_on() {
        const SECRET: &str = "SETTLE_TEST_SECRET";
        if std::env::var_os(SECRET).is_none() {
            // Once more, in a process that has one: however this one was started.
            let this = "sending::command::tests::no_secret_of_the_environment_is_passed_on";
            let again = std::env::current_exe().expect("this program");
            let again = Command::new(again).args(["--exact", this]).env(SECRET, "1").output().expect("started");
            let told = String::from_utf8_lossy(&again.stdout);
            assert!(again.status.success() && told.contains("1 passed"), "{told}");
            return;
        }
        let script = format!("test -z \"${SECRET}\" && test -n \"$PATH\"");
        assert_eq!(said(&script).await, Said::Taken);
    }
}
