//! A cluster of real processes on this machine, for tests of what users run.
//!
//! Everything is bounded: whoever waits, waits three minutes at most; whatever was started is
//! killed.
#![allow(dead_code, reason = "every test file uses its own part of this")]
#![expect(clippy::wildcard_enum_match_arm, reason = "of a reply's many forms, all others are text")]

use std::collections::BTreeMap;
use std::fs::{File, read_to_string};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use resp_rs::resp3::{Frame, Parser};

/// Far more than anything here takes, on a machine that does ten other things.
pub(crate) const LONG: Duration = Duration::from_secs(180);

pub(crate) const SYNOD: &str = env!("CARGO_BIN_EXE_synod");

/// A port that nobody listens on, below those that the system gives away by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 61 + next) % 20_000;
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asks until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command line, without what the environment says.
pub(crate) fn synod<const N: usize>(words: [&str; N]) -> Command {
    let mut command = Command::new(SYNOD);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNOD_")) {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::null());
    command
}

/// What stands between some nodes and the others, and can be cut.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<Mutex<(bool, Vec<TcpStream>)>>);

impl Cut {
    /// Ends all connections, and lets none through until it is healed.
    pub(crate) fn cut(&self) {
        let mut state = self.0.lock().expect("nobody panics while holding it");
        state.0 = true;
        for stream in state.1.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().expect("nobody panics while holding it").0 = false;
    }

    /// A port that leads to another one.
    fn relay(&self, to: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let cut = self.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let mut state = cut.0.lock().expect("nobody panics while holding it");
                if state.0 {
                    continue;
                }
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut into) =
                        (from.try_clone().expect("a socket"), into.try_clone().expect("a socket"));
                    std::thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut into));
                        drop(into.shutdown(Shutdown::Both));
                    });
                }
                state.1.extend([near, far]);
            }
        });
        port
    }
}

/// Where one node listens.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) clients: u16,
    pub(crate) peers: u16,
    pub(crate) metrics: u16,
}

pub(crate) struct Nodes {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ports: Vec<Ports>,
    pub(crate) running: Vec<Option<Child>>,
    /// What every node is told besides.
    pub(crate) options: Vec<String>,
    /// Ports over which one node reaches another, if not directly.
    routes: BTreeMap<(usize, usize), u16>,
    /// Milliseconds of silence after which a node is given up: more than a busy machine lets a
    /// process wait for its turn.
    pub(crate) down: u32,
}

impl Nodes {
    /// Not started yet.
    pub(crate) fn new(count: usize, options: &[&str]) -> Self {
        let ports = |_| Ports { clients: free_port(), peers: free_port(), metrics: free_port() };
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            ports: (0..count).map(ports).collect(),
            running: (0..count).map(|_| None).collect(),
            down: 20_000,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            routes: BTreeMap::new(),
        }
    }

    /// Has what the first nodes and the others say to each other go over something that can be cut.
    pub(crate) fn part(&mut self, first: usize) -> Cut {
        let cut = Cut::default();
        let nodes = 1..=self.ports.len();
        for (from, to) in nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to))) {
            if (from <= first) != (to <= first) {
                self.routes.insert((from, to), cut.relay(self.ports[to - 1].peers));
            }
        }
        cut
    }

    /// Started, and ready.
    pub(crate) fn start_all(count: usize, options: &[&str]) -> Self {
        let mut nodes = Self::new(count, options);
        for node in 1..=count {
            nodes.start(node);
        }
        nodes.wait_ready();
        nodes
    }

    pub(crate) fn wait_ready(&self) {
        until("every node is ready", || {
            (1..=self.ports.len()).all(|node| self.health(node).0 == 200)
        });
    }

    /// Where a node finds the others.
    pub(crate) fn peers(&self, node: usize) -> String {
        let peers = (1..).zip(&self.ports).map(|(peer, ports)| {
            let port = self.routes.get(&(node, peer)).unwrap_or(&ports.peers);
            format!("{peer}=127.0.0.1:{port}")
        });
        peers.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn servers(&self) -> String {
        let servers = self.ports.iter().map(|ports| format!("127.0.0.1:{}", ports.clients));
        servers.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn log_path(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("log-{node}"))
    }

    pub(crate) fn log(&self, node: usize) -> String {
        read_to_string(self.log_path(node)).expect("a log")
    }

    /// The command that starts a node; its log is added to what is there.
    pub(crate) fn command(&self, node: usize) -> Command {
        let ports = self.ports[node - 1];
        let settings = self.folder.path().join("settings.toml");
        let timing = format!("[timing]\ndown = {}\n", self.down);
        std::fs::write(&settings, timing).expect("written");
        let mut command = synod(["node"]);
        command
            .env("SYNOD_CONFIG", settings)
            .arg(node.to_string())
            .args(["--peers", &self.peers(node)])
            .args(["--listen-clients", &format!("127.0.0.1:{}", ports.clients)])
            .args(["--listen-metrics", &format!("127.0.0.1:{}", ports.metrics)])
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(&self.options);
        command
    }

    pub(crate) fn start(&mut self, node: usize) {
        let log = File::options().append(true).create(true).open(self.log_path(node));
        let child = self.command(node).stderr(log.expect("a log")).spawn().expect("started");
        self.running[node - 1] = Some(child);
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self, node: usize) {
        let mut child = self.running[node - 1].take().expect("it runs");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    /// As Ctrl-C or `kill` do.
    pub(crate) fn signal(&mut self, node: usize, signal: rustix::process::Signal) -> ExitStatus {
        let mut child = self.running[node - 1].take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).expect("signalled");
        let mut status = None;
        until("it stops", || {
            status = child.try_wait().expect("a status");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// The client, asking these nodes.
    pub(crate) fn client<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut command = synod(words);
        command.env("SYNOD_SERVER", self.servers()).env("SYNOD_TIMEOUT", "30s");
        command
    }

    /// Status code and body of a page.
    pub(crate) fn page(&self, node: usize, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let asked = TcpStream::connect(("127.0.0.1", self.ports[node - 1].metrics)).and_then(
            |mut stream| {
                stream.set_read_timeout(Some(LONG))?;
                stream.write_all(request.as_bytes())?;
                stream.read_to_string(&mut answer)
            },
        );
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        match (asked, code, body) {
            (Ok(_), Some(code), Some(body)) => (code, body),
            _ => (0, String::new()),
        }
    }

    pub(crate) fn health(&self, node: usize) -> (u16, String) {
        self.page(node, "/health")
    }

    /// Resident memory of a node, in bytes.
    pub(crate) fn memory(&self, node: usize) -> u64 {
        let child = self.running[node - 1].as_ref().expect("it runs");
        let status = read_to_string(format!("/proc/{}/status", child.id())).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes << 10
    }

    pub(crate) fn connect(&self, node: usize) -> Client {
        Client::connect(self.ports[node - 1].clients)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            for node in 1..=self.ports.len() {
                eprintln!(
                    "node {node}:\n{}",
                    read_to_string(self.log_path(node)).unwrap_or_default()
                );
            }
        }
    }
}

/// A client that speaks RESP and nothing else.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    parser: Parser,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.set_read_timeout(Some(LONG)).expect("a bound");
        stream.set_write_timeout(Some(LONG)).expect("a bound");
        Self { stream, parser: Parser::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next frame; nothing if the connection has ended.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let mut bytes = [0; 16 << 10];
        loop {
            if let Some(frame) = self.parser.next_frame().expect("RESP") {
                return Some(frame);
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.parser.feed(bytes[..count].to_vec().into()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer in time: {error}"),
            }
        }
    }

    /// One line, and its answer in one line.
    pub(crate) fn say(&mut self, line: &str) -> String {
        let closed = || "(closed)".to_owned();
        match self.stream.write_all(format!("{line}\r\n").as_bytes()) {
            Ok(()) => self.receive().map_or_else(closed, |frame| shown(&frame)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => closed(),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => closed(),
            Err(error) => panic!("not sent: {error}"),
        }
    }
}

/// A frame in one line: strings bare, `nil`, `(a b)` for arrays and pushes, `{a b}` for maps.
pub(crate) fn shown(frame: &Frame) -> String {
    let all = |frames: &[Frame]| frames.iter().map(shown).collect::<Vec<_>>().join(" ");
    match frame {
        Frame::Array(Some(items)) | Frame::Push(items) => format!("({})", all(items)),
        Frame::Boolean(value) => value.to_string(),
        Frame::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Frame::Integer(number) => number.to_string(),
        Frame::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, it)| format!("{} {}", shown(name), shown(it)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
        }
        Frame::Null | Frame::BulkString(None) => "nil".to_owned(),
        Frame::VerbatimString { payload } => String::from_utf8_lossy(&payload[4..]).into_owned(),
        other => {
            String::from_utf8_lossy(other.as_bytes().map_or(&b"?"[..], |it| &it[..])).into_owned()
        }
    }
}

/// Exit code, standard output, standard error.
pub(crate) fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it ran");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}
