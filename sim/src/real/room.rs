//! Disks that can be filled: a small file system in memory, and a file that takes all the room.
//!
//! What is mounted here is seen by this process and its children only, in a mount namespace of
//! their own, and vanishes with them. Must never know: what is kept there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tells the program that it is in namespaces of its own already, and where the server is.
const INSIDE: &str = "SYNOD_REAL_INSIDE";
const SERVER: &str = "SYNOD_REAL_SERVER";

/// How large such a disk is, in MiB.
pub const SIZE: u32 = 64;

/// Which namespaces of its own this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Of mounts.
    pub mounts: bool,
    /// Of networks.
    pub networks: bool,
}

/// Finds the server, then starts this program again in namespaces of its own, if it can be; comes
/// back if it is there, or if that is not permitted.
///
/// # Errors
/// Why there is no server.
pub fn enter(
    networks: bool,
    server: impl FnOnce() -> Result<PathBuf, String>,
) -> Result<(Inside, PathBuf), String> {
    if let (Some(inside), Some(server)) = (std::env::var_os(INSIDE), std::env::var_os(SERVER)) {
        let inside = Inside { mounts: true, networks: inside == "networks" };
        return Ok((inside, server.into()));
    }
    let server = server()?;
    // Whoever is not root is root in a namespace of users, where that is permitted.
    for user in [&[][..], &["--user", "--map-root-user"][..]] {
        for networks in [networks, false] {
            let mut flags = vec!["--mount", "--propagation", "private"];
            flags.extend(user);
            flags.extend(networks.then_some("--net"));
            let try_it = Command::new("unshare")
                .args(&flags)
                .args(["mount", "-t", "tmpfs", "synod", "/mnt"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if !try_it.is_ok_and(|status| status.success()) {
                continue;
            }
            let Ok(own) = std::env::current_exe() else { continue };
            let mut command = Command::new("unshare");
            command.args(&flags).arg("--").arg(own).args(std::env::args_os().skip(1));
            command.env(INSIDE, if networks { "networks" } else { "mounts" });
            command.env(SERVER, &server);
            // The same process, so signals and its exit status are as before. It comes back only
            // if there is no `unshare` after all.
            drop(command.exec());
        }
    }
    Ok((Inside { mounts: false, networks: false }, server))
}

/// Mounts a file system of so many MiB in memory.
///
/// # Errors
/// If that is not permitted.
pub fn mount(place: &Path, size: u32) -> io::Result<()> {
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}m"), "synod"])
        .arg(place)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Undoes it.
pub fn unmount(place: &Path) {
    let quiet = Command::new("umount").arg("--lazy").arg(place).stderr(Stdio::null()).status();
    // If it fails, it ends with the namespace.
    drop(quiet);
}

fn filler(place: &Path) -> PathBuf {
    place.join("filler")
}

/// Takes all the room there is.
pub fn fill(place: &Path) {
    let Ok(mut file) = OpenOptions::new().create(true).append(true).open(filler(place)) else {
        return;
    };
    // Down to the last byte: large pieces first.
    for size in [1 << 20, 4096, 1] {
        let piece = vec![0; size];
        while file.write_all(&piece).is_ok() {}
    }
}

/// Gives it back.
pub fn free(place: &Path) {
    let _ = fs::remove_file(filler(place));
}
