//! Holding a session: while a command runs, or until this process ends.

use std::process::{Child, Command};
use std::time::Duration;

use bytes::Bytes;
use resp_rs::resp3::Frame;

use super::client::{Connection, Failure};
use super::commands::connect;
use super::options::SessionOptions;
use super::show::{complain, field};
use super::{Trouble, Verdict};

/// How often it is looked whether the command has ended.
const TICK: Duration = Duration::from_millis(50);

type Result<T = Verdict> = std::result::Result<T, Trouble>;

pub(super) fn session(options: &SessionOptions) -> Result {
    let target = options.client.target()?;
    let mut connection = connect(&target)?;
    let grace = options.grace.as_millis().to_string();
    let words = ["SYNOD.SESSION".into(), "OPEN".into(), "GRACE".into(), Bytes::from(grace)];
    let opened = connection.call(&words)?;
    let name = field(&opened, "session").and_then(Frame::as_str).unwrap_or_default().to_owned();
    let Some((program, arguments)) = options.command.split_first() else {
        options.client.screen().reply(&opened)?;
        connection.set_patience(None)?;
        return wait(&mut connection, &name, || Ok(None));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("SYNOD_SESSION", &name)
        .spawn()
        .map_err(|error| Trouble::Given(format!("{program}: {error}")))?;
    connection.set_patience(Some(TICK))?;
    let ended = wait(&mut connection, &name, || Ok(child.try_wait()?.map(status)));
    match ended {
        Ok(verdict) => {
            connection.set_patience(Some(target.patience))?;
            let close = ["SYNOD.SESSION".into(), "CLOSE".into(), Bytes::from(name)];
            // It ends with the connection in any case.
            drop(connection.call(&close));
            Ok(verdict)
        }
        Err(trouble) => {
            end(&mut child);
            Err(trouble)
        }
    }
}

/// Until the command has ended, or the session.
fn wait(
    connection: &mut Connection,
    name: &str,
    mut ended: impl FnMut() -> Result<Option<Verdict>>,
) -> Result {
    let channel = format!("session:{name}");
    loop {
        if let Some(verdict) = ended()? {
            return Ok(verdict);
        }
        let Some(Frame::Push(parts)) = connection.message()? else { continue };
        let words: Vec<&str> = parts.iter().filter_map(Frame::as_str).collect();
        match words[..] {
            ["message", about, "lost"] if about == channel => {
                return Err(Failure::Lost(format!("session {name} has ended")).into());
            }
            ["message", about, "suspended"] if about == channel => {
                complain(format_args!("session {name} may have ended: its node hears no quorum"));
            }
            ["message", about, "resumed"] if about == channel => {
                complain(format_args!("session {name} goes on"));
            }
            _ => {}
        }
    }
}

fn status(status: std::process::ExitStatus) -> Verdict {
    use std::os::unix::process::ExitStatusExt;
    // As shells tell of a signal.
    let code = status.code().or_else(|| status.signal().map(|signal| signal + 128));
    Verdict::Status(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// What holds a key of a lost session must not go on.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
