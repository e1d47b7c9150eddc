//! Real server processes: found or built, started, killed, stopped, let go on; none is ever left
//! behind.
//!
//! Must never know: what clients ask of them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use super::client::{Connection, Lost, Reply};
use super::network::Network;
use super::{merged, primary};

/// Where nodes keep their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// In a log of synod's own
    #[default]
    Log,
    /// In memory: who is killed cannot rejoin
    Memory,
    /// In SQLite databases
    Sqlite,
}

impl Store {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Finds the server's program, building it from the sources that this was built from.
///
/// # Errors
/// Why there is none, in one line.
pub fn program(store: Store) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    // Beside this program, or beside the folder of tests.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let folder = folder.ok_or("this program is in no folder")?;
    let target = folder.parent().ok_or("this program is in no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "synod", "--bin", "synod", "--target-dir"]);
    command.arg(target).current_dir(&root);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if store == Store::Sqlite {
        command.args(["--features", "sqlite"]);
    }
    eprintln!("building the server, unless it is built");
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|error| format!("cargo, to build the server: {error}"))?;
    if !status.success() {
        return Err(format!("the server cannot be built ({status}); see above"));
    }
    let program = folder.join("synod");
    if !program.is_file() {
        return Err(format!("the server was built, but is not at {}", program.display()));
    }
    Ok(program)
}

/// One node.
#[derive(Debug)]
struct Node {
    child: Option<Child>,
    clients: SocketAddr,
    peers: SocketAddr,
    data: PathBuf,
    log: PathBuf,
}

/// The processes of one cluster. Dropped, they are killed.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    name: String,
    store: Store,
    network: Network,
    nodes: BTreeMap<u16, Node>,
    /// Settings that are not the server's own.
    settings: Option<PathBuf>,
    /// Whether a process can be made to die with this one, however that ends.
    leashed: bool,
}

/// The tables of the rig that are of registers: the second is write-once.
const TABLES: &str = "kv,once:write-once";

impl Cluster {
    /// A cluster whose nodes keep everything in folders under `folder`, and count each other as
    /// gone after being silent for `down`, if that is said; none runs yet.
    ///
    /// # Errors
    /// If a folder or a file cannot be made.
    pub fn new(
        program: PathBuf,
        store: Store,
        folder: &Path,
        network: Network,
        down: Option<Duration>,
    ) -> io::Result<Self> {
        let settings = down.map(|down| write_settings(folder, down)).transpose()?;
        let mut nodes = BTreeMap::new();
        for number in network.nodes() {
            let data = folder.join(format!("data-{number}"));
            fs::create_dir_all(&data)?;
            let node = Node {
                child: None,
                clients: network.clients_address(number),
                peers: network.peers_address(number),
                data,
                log: folder.join(format!("node-{number}.log")),
            };
            nodes.insert(number, node);
        }
        let leashed =
            Command::new("setpriv").arg("--version").output().is_ok_and(|it| it.status.success());
        let name = format!("real-{}", std::process::id());
        Ok(Self { program, name, store, network, nodes, settings, leashed })
    }

    /// The numbers of all nodes.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        self.nodes.keys().copied().collect::<Vec<_>>().into_iter()
    }

    /// What lies between the nodes.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// Where a node listens to clients.
    #[must_use]
    pub fn clients_address(&self, node: u16) -> SocketAddr {
        self.nodes[&node].clients
    }

    /// Where a node keeps its state.
    #[must_use]
    pub fn data(&self, node: u16) -> &Path {
        &self.nodes[&node].data
    }

    /// Whether its process runs, as far as this one was told.
    #[must_use]
    pub fn is_running(&self, node: u16) -> bool {
        self.nodes[&node].child.is_some()
    }

    /// Forgets all state, so that the next start is the first.
    ///
    /// # Errors
    /// If a folder cannot be emptied.
    pub fn forget(&mut self) -> io::Result<()> {
        for node in self.nodes.values() {
            fs::remove_dir_all(&node.data)?;
            fs::create_dir_all(&node.data)?;
        }
        Ok(())
    }

    /// Starts a node's process. Only ever from one thread: a process on a leash dies with it.
    ///
    /// # Errors
    /// If there is no such program, say.
    pub fn start(&mut self, number: u16) -> io::Result<()> {
        if self.is_running(number) {
            return Ok(());
        }
        let peers: Vec<String> = self
            .nodes
            .iter()
            .map(|(&other, node)| {
                let address = if other == number {
                    node.peers
                } else {
                    self.network.dialled((number, other))
                };
                format!("{other}={address}")
            })
            .collect();
        let node = &self.nodes[&number];
        let mut words: Vec<String> = self.network.prefix(number);
        if self.leashed {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        }
        words.push(self.program.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["node", &number.to_string(), "--cluster", &self.name]);
        let tables = format!("{TABLES},{},{}", merged::DECLARED, primary::DECLARED);
        command.args(["--peers", &peers.join(","), "--tables", &tables]);
        command.args(["--listen-clients", &node.clients.to_string()]);
        command.args(["--listen-peers", &node.peers.to_string(), "--listen-metrics", "off"]);
        if let Some(settings) = &self.settings {
            command.arg("--config").arg(settings);
        }
        match self.store {
            Store::Log => command.arg("--data-dir").arg(&node.data),
            Store::Memory => command.arg("--memory"),
            Store::Sqlite => command.arg("--data-dir").arg(&node.data).args(["--store", "sqlite"]),
        };
        let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
        // A group of its own: what a terminal sends to this process is not for it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn()?;
        if let Some(node) = self.nodes.get_mut(&number) {
            node.child = Some(child);
        }
        Ok(())
    }

    /// `kill -9`; whether there was something to kill.
    pub fn kill(&mut self, number: u16) -> bool {
        let Some(child) = self.nodes.get_mut(&number).and_then(|node| node.child.take()) else {
            return false;
        };
        end(child);
        true
    }

    /// `SIGSTOP`, or `SIGCONT`.
    pub fn pause(&self, number: u16, paused: bool) {
        self.signal(number, if paused { Signal::STOP } else { Signal::CONT });
    }

    fn signal(&self, number: u16, signal: Signal) {
        let child = self.nodes.get(&number).and_then(|node| node.child.as_ref());
        // A child that was not waited for keeps its number, so this hits nobody else.
        if let Some(pid) = child.and_then(|child| Pid::from_raw(child.id() as i32)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Nodes that have ended by themselves since this was asked last.
    pub fn ended(&mut self) -> Vec<(u16, ExitStatus)> {
        let mut ended = Vec::new();
        for (number, node) in &mut self.nodes {
            if let Some(Ok(Some(status))) = node.child.as_mut().map(Child::try_wait) {
                node.child = None;
                ended.push((*number, status));
            }
        }
        ended
    }

    /// The end of a node's log.
    #[must_use]
    pub fn last_words(&self, number: u16) -> String {
        let text = fs::read(&self.nodes[&number].log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Asks a node how it is.
    ///
    /// # Errors
    /// Why it does not say.
    pub fn status(&self, number: u16, within: Duration) -> Result<Reply, Lost> {
        let mut connection = Connection::dial(self.clients_address(number), within)?;
        connection.call(&["SYNOD.STATUS"], within)
    }

    /// Waits until all nodes are ready and have a quorum; if not, says who is not, and why.
    ///
    /// # Errors
    /// Why they are not.
    pub fn wait_ready(&mut self, within: Duration, over: &dyn Fn() -> bool) -> Result<(), String> {
        let until = Instant::now() + within;
        for number in self.numbers() {
            loop {
                let status = self.status(number, Duration::from_secs(2));
                if let Ok(reply) = &status
                    && reply.field("ready") == Some(&Reply::Flag(true))
                    && reply.field("quorum") == Some(&Reply::Flag(true))
                {
                    break;
                }
                if let Some((number, status)) = self.ended().pop() {
                    let words = self.last_words(number);
                    return Err(format!("node {number} has ended by itself: {status}: {words}"));
                }
                if over() {
                    return Err("stopped".to_owned());
                }
                if Instant::now() >= until {
                    let why = match status {
                        Ok(reply) => {
                            let readiness = reply.text("readiness").unwrap_or("?").to_owned();
                            format!("{readiness}, quorum {:?}", reply.field("quorum"))
                        }
                        Err(lost) => lost.to_string(),
                    };
                    return Err(format!("node {number} is not ready after {within:?}: {why}"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Tells all nodes to stop, as an operator would.
    ///
    /// # Errors
    /// Who does not, or not properly.
    pub fn stop(&mut self) -> Result<(), String> {
        for number in self.numbers() {
            self.signal(number, Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(10);
        for (number, node) in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            loop {
                match child.try_wait() {
                    Ok(Some(status)) if status.success() => break,
                    Ok(Some(status)) => {
                        return Err(format!("node {number}, told to stop, ended with {status}"));
                    }
                    Ok(None) | Err(_) if Instant::now() >= until => {
                        end(child);
                        return Err(format!("node {number}, told to stop, did not within 10 s"));
                    }
                    Ok(None) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }
        Ok(())
    }

    /// Notes something in every node's log, so that it can be read beside what the nodes say.
    pub fn remark(&self, text: &str) {
        use std::io::Write as _;
        for node in self.nodes.values() {
            if let Ok(mut log) = File::options().append(true).create(true).open(&node.log) {
                let _ = writeln!(log, "---- {text}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            node.child.take().into_iter().for_each(end);
        }
    }
}

/// As often as the server's own heartbeats come in the server's own time.
fn write_settings(folder: &Path, down: Duration) -> io::Result<PathBuf> {
    let (down, file) = (down.as_millis(), folder.join("settings.toml"));
    fs::write(&file, format!("[timing]\ndown = {down}\nheartbeat = {}\n", (down / 8).max(1)))?;
    Ok(file)
}

fn end(mut child: Child) {
    // It may have ended by itself; either way nothing is left of it.
    let _ = child.kill();
    let _ = child.wait();
}
