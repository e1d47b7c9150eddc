//! The servers: started, waited for, watched through `/proc`, and gone when this is dropped.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::grpc::Grpc;
use crate::load::ORDERS;
use crate::resp::Resp;

/// How long servers may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server process, killed when it is dropped.
pub(crate) struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Child,
    pub(crate) clients: SocketAddr,
    /// Where it keeps its state.
    pub(crate) data: PathBuf,
}

impl Server {
    fn start(
        program: &Path,
        arguments: Vec<String>,
        clients: SocketAddr,
        data: PathBuf,
    ) -> io::Result<Self> {
        let log = data.with_extension("log");
        let child = spawn(program, &arguments, &log)?;
        Ok(Self { program: program.to_owned(), arguments, log, child, clients, data })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has `kill` send it a signal.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([format!("-{name}"), pid]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("kill failed")) }
    }

    /// Kills it as kill -9 does, and starts it again.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.program, &self.arguments, &self.log)?;
        Ok(())
    }

    /// What it said before it could not be reached.
    fn complaint(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("{} does not answer; its log ends:\n{}", self.program.display(), tail.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, arguments: &[String], log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| io::Error::other(format!("cannot start {}: {error}", program.display())))
}

/// Addresses that nobody listens on; the system gives none of them out again soon.
fn addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

fn strings<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(str::to_owned).to_vec()
}

/// Three nodes that write through to the disk before they answer. Clients go to the first.
pub(crate) async fn synod(program: &Path, home: &Path) -> io::Result<Vec<Server>> {
    synod_with(program, home, "default,once:write-once").await
}

/// Likewise, with a primary table on the first two of them. The first is primary. On a machine that
/// is busy otherwise a put may take longer than a second, and is to be measured then, too.
pub(crate) async fn primary(program: &Path, home: &Path) -> io::Result<Vec<Server>> {
    let mut servers =
        synod_with(program, home, "default,orders:primary+on@1.2+answer@60000+patience@60000")
            .await?;
    let since = Instant::now();
    loop {
        for place in 0..2 {
            if in_sync(&servers[place]).await == Some(2) {
                servers.swap(0, place);
                return Ok(servers);
            }
        }
        if since.elapsed() > PATIENCE {
            return Err(io::Error::other(servers[0].complaint()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many replicas of the primary table are in sync, if this one is primary.
pub(crate) async fn in_sync(server: &Server) -> Option<usize> {
    let mut resp = Resp::connect(server.clients).await.ok()?;
    let said = resp.ask(&[b"SYNOD.PRIMARY", b"TABLE", ORDERS]).await.ok()?;
    let count = said.split("in_sync\r\n*").nth(1)?.split('\r').next()?.parse().ok()?;
    said.contains("role\r\n$7\r\nprimary\r\n").then_some(count)
}

async fn synod_with(program: &Path, home: &Path, tables: &str) -> io::Result<Vec<Server>> {
    let (clients, peers) = (addresses(3)?, addresses(3)?);
    let members = [1, 2, 3].map(|node| format!("{node}={}", peers[node - 1])).join(",");
    let mut servers = Vec::new();
    for node in 1..=3 {
        let data = home.join(format!("synod-{node}"));
        let mut arguments = strings(["node", &node.to_string(), "--peers", &members]);
        arguments.extend(strings(["--data-dir", &data.display().to_string()]));
        arguments.extend(strings(["--listen-clients", &clients[node - 1].to_string()]));
        arguments.extend(strings(["--listen-peers", &peers[node - 1].to_string()]));
        arguments.extend(strings(["--listen-metrics", "off", "--log-level", "warn"]));
        arguments.extend(strings(["--tables", tables]));
        servers.push(Server::start(program, arguments, clients[node - 1], data)?);
    }
    answers_resp(&servers[0], &[b"SET", b"ready", b"1"]).await?;
    Ok(servers)
}

/// Three members with the settings that etcd comes with. The leader is the first, as clients that
/// go to it spare themselves a hop.
pub(crate) async fn etcd(program: &Path, home: &Path) -> io::Result<Vec<Server>> {
    let (clients, peers) = (addresses(3)?, addresses(3)?);
    let members = [1, 2, 3].map(|node| format!("m{node}=http://{}", peers[node - 1])).join(",");
    let mut servers = Vec::new();
    for node in 1..=3 {
        let data = home.join(format!("etcd-{node}"));
        let (client, peer) =
            (format!("http://{}", clients[node - 1]), format!("http://{}", peers[node - 1]));
        let mut arguments = strings(["--name", &format!("m{node}")]);
        arguments.extend(strings(["--data-dir", &data.display().to_string()]));
        arguments.extend(strings(["--listen-client-urls", &client]));
        arguments.extend(strings(["--advertise-client-urls", &client]));
        arguments.extend(strings(["--listen-peer-urls", &peer]));
        arguments.extend(strings(["--initial-advertise-peer-urls", &peer]));
        arguments.extend(strings(["--initial-cluster", &members, "--log-level", "error"]));
        servers.push(Server::start(program, arguments, clients[node - 1], data)?);
    }
    let since = Instant::now();
    loop {
        for place in 0..servers.len() {
            let leads = async {
                let member = Grpc::connect(servers[place].clients).await?;
                Ok::<_, io::Error>(
                    member.is_leader().await? && member.put(b"r", b"1").await.is_ok(),
                )
            };
            if leads.await.unwrap_or(false) {
                servers.swap(0, place);
                return Ok(servers);
            }
        }
        if since.elapsed() > PATIENCE {
            return Err(io::Error::other(servers[0].complaint()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// One server that keeps nothing on disk.
pub(crate) async fn redis(program: &Path, home: &Path) -> io::Result<Vec<Server>> {
    let (clients, data) = (addresses(1)?[0], home.join("redis"));
    fs::create_dir(&data)?;
    let mut arguments = strings(["--port", &clients.port().to_string(), "--bind", "127.0.0.1"]);
    arguments.extend(strings(["--save", "", "--appendonly", "no"]));
    arguments.extend(strings(["--dir", &data.display().to_string()]));
    let server = Server::start(program, arguments, clients, data)?;
    answers_resp(&server, &[b"PING"]).await?;
    Ok(vec![server])
}

/// A primary and a replica that sync their logs for each command. Clients go to the primary.
pub(crate) async fn replicated(program: &Path, home: &Path) -> io::Result<Vec<Server>> {
    let clients = addresses(2)?;
    let mut servers = Vec::new();
    for (place, address) in clients.iter().enumerate() {
        let data = home.join(format!("replicated-{place}"));
        fs::create_dir(&data)?;
        let port = address.port().to_string();
        let mut arguments = strings(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        arguments.extend(strings(["--appendonly", "yes", "--appendfsync", "always"]));
        arguments.extend(strings(["--auto-aof-rewrite-percentage", "0"]));
        arguments.extend(strings(["--repl-diskless-sync-delay", "0"]));
        arguments.extend(strings(["--dir", &data.display().to_string()]));
        if place > 0 {
            let primary = clients[0].port().to_string();
            arguments.extend(strings(["--replicaof", "127.0.0.1", &primary]));
        }
        servers.push(Server::start(program, arguments, *address, data)?);
    }
    answers_resp(&servers[0], &[b"SET", b"ready", b"1"]).await?;
    // Until there is a replica, and it has that.
    Resp::connect(servers[0].clients).await?.call(&[b"WAIT", b"1", b"0"]).await?;
    Ok(servers)
}

/// Waits until a server carries out a command; says how long that took.
pub(crate) async fn answers_resp(server: &Server, command: &[&[u8]]) -> io::Result<Duration> {
    let since = Instant::now();
    loop {
        let asked = async { Resp::connect(server.clients).await?.call(command).await };
        if asked.await.is_ok() {
            return Ok(since.elapsed());
        }
        if since.elapsed() > PATIENCE {
            return Err(io::Error::other(server.complaint()));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a member reads a key with the others' consent; says how long that took.
pub(crate) async fn answers_grpc(server: &Server, key: &[u8]) -> io::Result<Duration> {
    let since = Instant::now();
    loop {
        let asked = async { Grpc::connect(server.clients).await?.get(key, false).await };
        if asked.await.is_ok() {
            return Ok(since.elapsed());
        }
        if since.elapsed() > PATIENCE {
            return Err(io::Error::other(server.complaint()));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// What processes have used since they started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time in microseconds.
    pub(crate) processor: f64,
    /// How often a thread went to sleep, which is how often it was woken.
    pub(crate) sleeps: f64,
}

impl Usage {
    /// Of all threads of these processes. Threads that have ended are missing.
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Self {
        let mut usage = Self::default();
        for pid in pids {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
                let running = read("schedstat").split(' ').next().and_then(|it| it.parse().ok());
                usage.processor += running.unwrap_or(0.0) / 1_000.0;
                usage.sleeps += number_after(&read("status"), "voluntary_ctxt_switches:");
            }
        }
        usage
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { processor: self.processor - before.processor, sleeps: self.sleeps - before.sleeps }
    }
}

fn number_after(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Memory that a process holds, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number_after(&status, "VmRSS:") as u64 * 1024
}

/// What the files under a directory take of the disk, in bytes.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
