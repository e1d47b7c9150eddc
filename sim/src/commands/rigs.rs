//! `--rig`: has another build of this program do what was asked.
//!
//! The stack rig cannot be part of this program: everything in it, down to its `tokio`, is compiled
//! for a simulated runtime. So it is built when it is first asked for, and when the source has
//! changed; cargo knows.
//!
//! Must never know: what the command does.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Error, Status};
use crate::rig::Rig;
use crate::zoo::find_root;

/// What makes a build the stack's.
const FLAG: &str = "madsim";

/// Hands this very command line to the program of `rig`.
///
/// # Errors
/// If there is no such program and none can be built.
pub(super) fn hand_over(rig: Rig) -> Result<Status, Error> {
    if rig == Rig::World {
        return Err(Error::usage(
            "--rig world: this program is the stack rig; run `cargo sim`, which is the other",
        ));
    }
    let mut command = Command::new(build()?);
    command.args(env::args_os().skip(1));
    become_it(&mut command)
}

/// On Unix it takes this process's place, so that Ctrl-C reaches one program.
#[cfg(unix)]
fn become_it(command: &mut Command) -> Result<Status, Error> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(failed(command, &error))
}

#[cfg(not(unix))]
fn become_it(command: &mut Command) -> Result<Status, Error> {
    let status = command.status().map_err(|error| failed(command, &error))?;
    std::process::exit(status.code().unwrap_or(i32::from(Status::Crash.code())));
}

fn failed(command: &Command, error: &io::Error) -> Error {
    Error::usage(format!("{}: {error}", command.get_program().to_string_lossy()))
}

/// The program of the stack rig, up to date.
fn build() -> Result<PathBuf, Error> {
    let why = |why: String| Error::usage(format!("--rig stack: {why}"));
    let root = find_root().map_err(why)?;
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = root.join(target).join("stack");
    let program = target.join("stack/synod-sim").with_extension(env::consts::EXE_EXTENSION);
    let known = program.exists();
    let mut err = io::stderr().lock();
    if !known {
        let _ = writeln!(
            err,
            "building the stack rig into {}: some minutes, this once …",
            target.display()
        );
    }
    let start = Instant::now();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).stdin(Stdio::null());
    cargo.args(["build", "--profile", "stack", "--package", "synod-sim", "--bin", "synod-sim"]);
    cargo.arg("--target-dir").arg(&target);
    if known || !err.is_terminal() {
        cargo.arg("--quiet");
    }
    let (name, flags) = flags();
    cargo.env(name, flags);
    // Its own words are on standard error by then.
    let status = cargo.status().map_err(|error| failed(&cargo, &error))?;
    if !status.success() {
        return Err(why(String::from("it does not build; what cargo says is above")));
    }
    let took = start.elapsed().as_secs();
    if took >= 2 {
        let _ = writeln!(err, "the stack rig is built: {took} s");
    }
    Ok(program)
}

/// The compiler's flags, and the variable that cargo looks for them in first.
fn flags() -> (&'static str, OsString) {
    let with = |known: Option<OsString>, between: &str, flag: String| {
        let mut flags = known.unwrap_or_default();
        if !flags.is_empty() {
            flags.push(between);
        }
        flags.push(flag);
        flags
    };
    match env::var_os("CARGO_ENCODED_RUSTFLAGS") {
        Some(known) => {
            let flags = with(Some(known), "\x1f", format!("--cfg\x1f{FLAG}"));
            ("CARGO_ENCODED_RUSTFLAGS", flags)
        }
        None => ("RUSTFLAGS", with(env::var_os("RUSTFLAGS"), " ", format!("--cfg {FLAG}"))),
    }
}
