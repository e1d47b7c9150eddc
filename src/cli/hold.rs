//! Holding a session: while a command runs, or until this process is told to end.
//!
//! Whatever the command has started counts as the command: it is a process group, and nothing of it
//! goes on without the session.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp_rs::resp3::Frame;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpgrp, getpid, kill_process_group,
    test_kill_process_group, waitpgid,
};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Connection, Failure, in_turn};
use super::options::SessionOptions;
use super::show::{complain, field};
use super::{Trouble, Verdict};

/// How often it is looked whether the command has ended, or a signal has come.
const TICK: Duration = Duration::from_millis(50);

/// How long what the command has started may take to end, once it is told to.
const END_PATIENCE: Duration = Duration::from_secs(5);

type Result<T = Verdict> = std::result::Result<T, Trouble>;

pub(super) fn session(options: &SessionOptions) -> Result {
    let target = options.client.target()?;
    // Before anything is held that a signal should end.
    let signals = signals()?;
    let grace = options.grace.as_millis().to_string();
    let words = ["SYNOD.SESSION".into(), "OPEN".into(), "GRACE".into(), Bytes::from(grace)];
    let (mut connection, opened) = in_turn(&target, |connection, _| connection.call(&words))?;
    let name = field(&opened, "session").and_then(Frame::as_str).unwrap_or_default().to_owned();
    connection.set_patience(TICK);
    let verdict = match options.command.split_first() {
        None => {
            options.client.screen().reply(&opened)?;
            // To be told to end is how this ends.
            hold(&mut connection, &name, target.patience, || {
                Ok(signals.try_recv().ok().map(|_| Verdict::Done))
            })?
        }
        Some((program, arguments)) => {
            let mut group = Group::start(program, arguments, &name)?;
            let held = hold(&mut connection, &name, target.patience, || {
                for signal in signals.try_iter() {
                    group.tell(signal);
                }
                group.look()
            });
            if held.is_err() {
                group.end();
            }
            held?
        }
    };
    connection.set_patience(target.patience);
    let close = ["SYNOD.SESSION".into(), "CLOSE".into(), Bytes::from(name)];
    // It ends with the connection in any case.
    drop(connection.call(&close));
    Ok(verdict)
}

/// The signals that tell this process to end, as they come, instead of ending it.
fn signals() -> io::Result<Receiver<Signal>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(entered);
    let (told, signals) = channel();
    let forward = async move {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signal::INT,
                _ = terminate.recv() => Signal::TERM,
                _ = hang_up.recv() => Signal::HUP,
            };
            if told.send(signal).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().spawn(move || runtime.block_on(forward))?;
    Ok(signals)
}

/// Until it has ended, or the session. A node that says nothing for so long, though it is asked,
/// may have been given up by the others, and the session with it.
fn hold(
    connection: &mut Connection,
    name: &str,
    patience: Duration,
    mut ended: impl FnMut() -> Result<Option<Verdict>>,
) -> Result {
    let channel = format!("session:{name}");
    let (mut heard, mut asked) = (Instant::now(), Instant::now());
    loop {
        if let Some(verdict) = ended()? {
            return Ok(verdict);
        }
        let message = connection.message()?;
        if message.is_some() {
            heard = Instant::now();
        } else if heard.elapsed() > patience {
            return Err(Failure::Lost(format!("session {name}: its node does not answer")).into());
        } else if asked.elapsed() > patience / 4 {
            connection.send(&[Bytes::from("PING")])?;
            asked = Instant::now();
        }
        let Some(Frame::Push(parts)) = message else { continue };
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

/// The command, and all that it has started, but for what has left its process group.
struct Group {
    leader: Pid,
    /// How the command itself has ended.
    ended: Option<Verdict>,
    /// Until when the others may go on, once they are told to end.
    until: Option<Instant>,
    has_terminal: bool,
}

impl Group {
    fn start(program: &str, arguments: &[String], session: &str) -> Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .env("SYNOD_SESSION", session)
            .process_group(0)
            .spawn()
            .map_err(|error| Trouble::Given(format!("{program}: {error}")))?;
        let leader = Pid::from_child(&child);
        // A shell that runs this in the foreground takes the terminal back by itself; a script
        // would not, and keeps it.
        let stdin = rustix::stdio::stdin();
        let foreground = tcgetpgrp(stdin).is_ok_and(|group| group == getpgrp());
        let has_terminal = foreground && getpgrp() == getpid() && tcsetpgrp(stdin, leader).is_ok();
        let group = Self { leader, ended: None, until: None, has_terminal };
        if has_terminal {
            // It may have asked for the terminal before it had it, and been stopped.
            group.send(Signal::CONT);
        }
        Ok(group)
    }

    fn send(&self, signal: Signal) {
        // It may have ended by now.
        let _ = kill_process_group(self.leader, signal);
    }

    /// Passes a signal on. An interrupted program may go on, as shells do; others are to end.
    fn tell(&mut self, signal: Signal) {
        self.send(signal);
        if signal != Signal::INT {
            self.until.get_or_insert_with(|| Instant::now() + END_PATIENCE);
        }
    }

    /// How the command has ended, when nothing of it is left.
    fn look(&mut self) -> Result<Option<Verdict>> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        // Where this process is the first of a container, orphans of the group are its own.
        while let Ok(Some((process, status))) = waitpgid(self.leader, options) {
            if status.stopped() {
                // A holder that stands still would neither work nor let others.
                if self.has_terminal {
                    self.send(Signal::CONT);
                } else if status.stopping_signal() == Some(Signal::TTIN.as_raw()) {
                    complain("the command waits for the terminal, which it has not in a script");
                }
            } else if process == self.leader {
                self.ended = Some(verdict(status));
            }
        }
        if test_kill_process_group(self.leader).is_err() {
            return Ok(Some(self.ended.unwrap_or(Verdict::Status(1))));
        }
        if self.ended.is_some() && self.until.is_none() {
            self.tell(Signal::TERM);
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.send(Signal::KILL);
        }
        Ok(None)
    }

    /// What holds a key of a lost session must not go on.
    fn end(&mut self) {
        self.tell(Signal::TERM);
        while let Ok(None) = self.look() {
            std::thread::sleep(TICK);
        }
    }
}

fn verdict(status: WaitStatus) -> Verdict {
    // As shells tell of a signal.
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|it| it + 128));
    Verdict::Status(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
