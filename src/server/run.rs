//! The course of a server: settings, listeners, storage, the node, and a graceful end.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};
use tracing_subscriber::filter::LevelFilter;

use super::clients::{self, Shared};
use super::settings::{LogFormat, NodeChoice, Settings};
use super::{descriptors, http};
use crate::base::NodeId;
use crate::host::{
    HostConfig, HostError, LinkOptions, Local, Running, Service, StartError, Syncing, entropy,
};
use crate::storage::{Found, OpenError, Opened, Owner, Storage, Volatile};

/// Connections that may wait to be accepted, if the system allows as many: they come in bursts,
/// after a network is back, and whoever finds no room tries again only a second later.
const BACKLOG: i32 = 4_096;

/// How soon after the first signal another is the same one: who runs a program in a process group,
/// as `timeout` does, signals both the program and the group.
const ECHO: Duration = Duration::from_secs(1);

/// Files that are open besides connections of clients: links, the log, the storage's.
const FILES_RESERVED: u64 = 128;

/// Why a server does not run, or not any more.
#[derive(Debug)]
pub enum RunError {
    /// An address cannot be listened to.
    Listen {
        /// For what.
        what: &'static str,
        /// Which.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// All seats are taken.
    NoSeat {
        /// How many there are.
        size: usize,
    },
    /// The state directory cannot be used.
    Open(OpenError),
    /// The node could not be started.
    Start(StartError),
    /// It had to stop.
    Stopped(HostError),
    /// The system refused something.
    System(io::Error),
    /// A second signal did not let it stop in order.
    Twice,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { what, address, error } => {
                write!(f, "cannot listen for {what} on {address}: {error}")?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    write!(
                        f,
                        "; is this node running already? choose another address with --listen-*, \
                         or another node"
                    )?;
                }
                Ok(())
            }
            Self::NoSeat { size } => write!(
                f,
                "all {size} nodes of the cluster are running on this machine; a larger cluster is \
                 started with --size on every node"
            ),
            Self::Open(error) => write!(f, "{error}"),
            Self::Start(error) => write!(f, "{error}"),
            Self::Stopped(error) => write!(f, "{error}"),
            Self::System(error) => write!(f, "{error}"),
            Self::Twice => f.write_str(
                "told twice to stop, it ends without waiting for its disk; what it has answered \
                 is kept, as after a crash",
            ),
        }
    }
}

impl std::error::Error for RunError {}

struct Listeners {
    node: NodeId,
    clients: TcpListener,
    peers: TcpListener,
    metrics: Option<TcpListener>,
}

/// Runs a node until it is told to stop by a signal.
///
/// # Errors
/// Why it could not be started, or had to stop.
pub fn run(choice: NodeChoice, settings: &Settings) -> Result<(), RunError> {
    start_log(settings);
    let listeners = bind(choice, settings)?;
    let node = listeners.node;
    announce(&listeners, settings);
    let (opened, syncing) = open(node, settings)?;
    let config = settings.config(node);
    let files = descriptors::raise().saturating_sub(FILES_RESERVED);
    let clients_max = settings.clients_max.min(usize::try_from(files).unwrap_or(usize::MAX)).max(1);
    if clients_max < settings.clients_max {
        warn!("{clients_max} clients at most: no more files may be open; raise `ulimit -n`");
    }
    let page_max = config.limits.page_max;
    let told = settings.clone();
    let Listeners { clients, peers, metrics, .. } = listeners;
    clients.set_nonblocking(true).map_err(RunError::System)?;
    if let Some(metrics) = &metrics {
        metrics.set_nonblocking(true).map_err(RunError::System)?;
    }
    let (close, closing) = watch::channel(false);
    let (tell_closed, closed) = oneshot::channel();
    let service: Service = Box::new(move |local: Local| {
        let shared = Shared::new(node, told, page_max, clients_max, local.clone(), closing);
        let shared = Rc::new(shared);
        let synced = shared.metrics.synced.clone();
        local.observe_disk(move |took| synced.observe(took.as_secs_f64()));
        Box::pin(async move {
            let http = async {
                if let Some(metrics) = metrics {
                    http::serve(metrics, local.clone(), shared.clone()).await;
                }
            };
            let clients = async {
                clients::serve(clients, local.clone(), shared.clone()).await;
                // Nobody waits for it unless the node is to stop.
                let _ = tell_closed.send(());
            };
            tokio::join!(clients, http);
        })
    });
    let host = HostConfig {
        name: settings.cluster.clone(),
        node: config,
        links: LinkOptions { reconnect: settings.reconnect, ..LinkOptions::default() },
        seed: entropy().map_err(RunError::System)?,
        syncing,
        services: vec![service],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::System)?;
    runtime.block_on(async {
        let running = Running::start(host, peers, settings.members.clone(), opened).await;
        live(node, running.map_err(RunError::Start)?, close, closed).await
    })
}

fn start_log(settings: &Settings) {
    use std::io::IsTerminal;
    // A log that nobody reads any more, as behind `| head`, must not end the node.
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_max_level(LevelFilter::from_level(settings.log_level))
        .with_writer(io::stderr);
    let started = match settings.log_format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.with_target(false).with_ansi(io::stderr().is_terminal()).try_init(),
    };
    // Whoever runs this inside a larger program may have a log already.
    drop(started);
}

/// Binds every address of the first node that is free. To bind is to reserve: of two that start at
/// once, the system gives each address to one (P-31).
fn bind(choice: NodeChoice, settings: &Settings) -> Result<Listeners, RunError> {
    let candidates = settings.candidates(choice);
    for node in &candidates {
        let peers = listen("peers", settings.peers_address(*node));
        match peers {
            Err(RunError::Listen { error, .. })
                if choice == NodeChoice::Free && is_elsewhere(&error) => {}
            Err(error) => return Err(error),
            Ok(peers) => {
                let clients = listen("clients", settings.clients_address(*node))?;
                let metrics = settings.metrics_address(*node);
                let metrics = metrics.map(|address| listen("metrics", address)).transpose()?;
                return Ok(Listeners { node: *node, clients, peers, metrics });
            }
        }
    }
    Err(RunError::NoSeat { size: candidates.len() })
}

/// Whether another node has the address, here or on its own machine.
fn is_elsewhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        // It listens already, with a short queue that nobody can choose.
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    };
    listen().map_err(|error| RunError::Listen { what, address, error })
}

/// The first lines of the log: who this is, and where it listens.
fn announce(listeners: &Listeners, settings: &Settings) {
    let node = listeners.node;
    let at = |listener: &TcpListener| {
        listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
    };
    info!(
        "synod {}: node {} of cluster {} of {}",
        env!("CARGO_PKG_VERSION"),
        node.0,
        settings.cluster,
        settings.members.len()
    );
    info!("clients (RESP) on {}", at(&listeners.clients));
    let open = listeners.clients.local_addr().is_ok_and(|it| !it.ip().is_loopback());
    if open && settings.password.is_none() {
        warn!(
            "clients are asked for no password: whoever reaches that address reads and writes \
             everything; give a --password-file, or listen where only friends are"
        );
    }
    info!("peers on {}", at(&listeners.peers));
    if let Some(metrics) = &listeners.metrics {
        info!("metrics on http://{}/metrics, health on /health", at(metrics));
    }
    let others: Vec<String> = settings
        .members
        .iter()
        .filter(|(member, _)| **member != node)
        .map(|(member, address)| format!("{} at {address}", member.0))
        .collect();
    if !others.is_empty() {
        info!("other nodes: {}", others.join(", "));
    }
}

/// Opens the storage, and says who waits for it.
fn open(
    node: NodeId,
    settings: &Settings,
) -> Result<(Opened<Box<dyn Storage>>, Syncing), RunError> {
    let Some(path) = settings.directory(node) else {
        warn!(
            "state is kept in memory only: a node that stops cannot rejoin, for its peers would \
             take promises that it has forgotten for kept; when too many have stopped, start all \
             anew"
        );
        let opened = Opened { storage: Volatile::default(), found: Found::New }.boxed();
        return Ok((opened, Syncing::Inline));
    };
    // Wherever this was started.
    let path = std::path::absolute(path).map_err(RunError::System)?;
    let owner = Owner::of(&settings.config(node), &settings.cluster);
    let opened = settings.store.open(&path, &owner).map_err(RunError::Open)?;
    match &opened.found {
        Found::New => {
            info!("state in {}, new", path.display());
            if !settings.is_data_dir_named {
                warn!(
                    "that is in the folder where this was started: started in another one, the \
                     node would not find its state; name a place with --data-dir"
                );
            }
        }
        Found::Records(records) => {
            info!("state in {}: {} records", path.display(), records.len());
        }
        Found::Damaged(damage) => error!(
            "state in {} is damaged: {damage}; the node does not vote, so that nothing it may \
             have forgotten does harm",
            path.display()
        ),
    }
    Ok((opened, Syncing::Thread))
}

/// How long clients may take to be answered when the node is to stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long the keys of sessions that end with the node may take to be erased.
const ERASURE: Duration = Duration::from_millis(250);

/// Waits for SIGINT or SIGTERM and has the node stop, unless it has stopped by itself. Another one
/// ends the process as it is, as a crash would: for whoever does not want to wait for a disk.
async fn live(
    node: NodeId,
    mut running: Running,
    close: watch::Sender<bool>,
    closed: oneshot::Receiver<()>,
) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::System)?;
    tokio::select! {
        _ = interrupt.recv() => info!("{node} stops: interrupted"),
        _ = terminate.recv() => info!("{node} stops: terminated"),
        stopped = running.stopped() => return stopped.map_err(RunError::Stopped),
    }
    let stop = async {
        close.send_replace(true);
        // Whoever is not done by then has to ask another node.
        drop(timeout(FAREWELL, closed).await);
        let (tell, told) = oneshot::channel();
        let asked = running.handle().run(|local| {
            let _ = tell.send(local.end_sessions());
        });
        if asked.is_ok()
            && timeout(FAREWELL, told).await.is_ok_and(|ended| ended.is_ok_and(|it| it > 0))
        {
            sleep(ERASURE).await;
        }
        let mut stopped = pin!(running.shutdown());
        if let Ok(stopped) = timeout(FAREWELL, &mut stopped).await {
            return stopped.map_err(RunError::Stopped);
        }
        warn!("{node} waits for its disk; a second signal ends it at once");
        stopped.await.map_err(RunError::Stopped)
    };
    let first = Instant::now();
    let again = async {
        while first.elapsed() < ECHO {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    };
    tokio::select! {
        stopped = stop => stopped,
        () = again => Err(RunError::Twice),
    }
}
