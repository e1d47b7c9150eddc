//! How a node comes to run: on a thread of its own, or, under a simulator, on the runtime's.
//!
//! Must never know: what the node is for.

use std::cell::RefCell;
#[cfg(not(madsim))]
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;
#[cfg(not(madsim))]
use tokio::sync::oneshot;

use super::alarm::Alarm;
use super::clock::Clock;
use super::disk::{Disk, Figures, Syncing};
use super::driver::{Ask, Clients, Driver, storage_failed};
use super::handle::Handle;
use super::hello::{self, Hello, Purpose};
use super::inbox::Inbox;
use super::link::{Links, Reach};
use super::local::Local;
use super::network::Network;
use super::options::LinkOptions;
use super::tables::Tables;
use super::task::Task;
#[cfg(not(madsim))]
use crate::base::NodeId;
use crate::base::{ClientId, Epoch, Random};
use crate::node::{Config, ConfigError, Node};
use crate::storage::{OpenError, Opened, Storage, StorageError};

/// What runs beside the node on its thread, such as a server's listener.
pub type Service = Box<dyn FnOnce(Local) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Everything a host needs to know.
pub struct HostConfig {
    /// What people call the cluster; every member's must be the same.
    pub name: String,
    /// What the node is told.
    pub node: Config,
    /// Bounds of links.
    pub links: LinkOptions,
    /// The seed of everything drawn here: names of clients, jitter. It must differ between nodes
    /// and between lives; a simulator gives it.
    pub seed: u64,
    /// Who waits for the storage.
    pub syncing: Syncing,
    /// What runs beside the node.
    pub services: Vec<Service>,
    /// What looks on at each step of the node.
    #[cfg(madsim)]
    pub tap: super::Tap,
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A seed that nobody can guess.
///
/// # Errors
/// If the operating system has none to give.
pub fn entropy() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}

/// Prepares a node: the handle to it, and the future that is its life. The future must be polled
/// on one thread, where `spawn_local` works; it ends when the node is told to stop or its storage
/// fails.
///
/// # Errors
/// If the configuration is impossible.
pub fn prepare<N: Network>(
    config: HostConfig,
    network: impl FnOnce() -> io::Result<N>,
    clock: impl FnOnce() -> Rc<dyn Clock>,
    opened: Opened<Box<dyn Storage>>,
) -> Result<(Handle, impl Future<Output = Result<(), HostError>>), ConfigError> {
    let mut random = Random::new(config.seed);
    let node = opened.found.into_node(config.node, random.number())?;
    let (asks_sender, asks) = mpsc::unbounded_channel::<Ask>();
    let asked = Arc::new(AtomicUsize::new(0));
    let tables = Tables::new(&node.config().tables);
    let id = ClientId::new(random.number());
    let handle = Handle::new(id, asks_sender, asked.clone(), tables.clone());
    #[cfg(madsim)]
    let tap = config.tap;
    let HostConfig { name, links, syncing, services, .. } = config;
    let storage = opened.storage;
    let life = async move {
        let (inbox, clients) = (Rc::new(Inbox::default()), Rc::new(Clients::default()));
        let clock = clock();
        let (me, members) = (node.config().node, node.config().members.clone());
        let hello = introduce(&node, name);
        let others = members.into_iter().filter(|member| *member != me);
        let jitter = Random::new(random.number());
        let network = network().map_err(HostError::Network)?;
        let links = Links::new(network, hello, others, links, inbox.clone(), jitter);
        let random = Rc::new(RefCell::new(random));
        let figures = Rc::new(Figures::default());
        let local = Local {
            inbox: inbox.clone(),
            clients: clients.clone(),
            clock: clock.clone(),
            random,
            disk: figures.clone(),
            links: Rc::downgrade(&links) as Weak<dyn Reach>,
            tables: Rc::new(RefCell::new(node.config().tables[..].into())),
        };
        let mut tasks = links.start();
        tasks.extend(services.into_iter().map(|service| Task::spawn(service(local.clone()))));
        let driver = Driver {
            tables,
            tables_revision: node.tables_revision(),
            node,
            alarm: Alarm::new(clock.clone(), inbox.clone()),
            now: clock.now(),
            disk: Disk::new(storage, syncing, figures, clock.clone()).map_err(HostError::Thread)?,
            clock,
            links,
            inbox,
            asks,
            asked,
            local,
            clients,
            calls: HashMap::new(),
            effects: Vec::new(),
            ended: Vec::new(),
            #[cfg(madsim)]
            tap,
        };
        let result = driver.run().await;
        drop(tasks);
        result.map_err(|error| {
            storage_failed(&error);
            HostError::Storage(error)
        })
    };
    Ok((handle, life))
}

/// What a node says of itself, to nobody in particular yet.
fn introduce(node: &Node, name: String) -> Hello {
    Hello {
        name,
        cluster: node.config().cluster,
        configuration: hello::configuration(node.config()),
        epoch: Epoch(1),
        node: node.config().node,
        peer: node.config().node,
        life: node.life(),
        incarnation: node.incarnation(),
        purpose: Purpose::Knock(0),
    }
}

/// Why a node that ran does not any more.
#[derive(Debug)]
pub enum HostError {
    /// The network cannot be used.
    Network(io::Error),
    /// Its storage has failed.
    Storage(StorageError),
    /// Its thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(error) => write!(f, "the network cannot be used: {error}"),
            Self::Storage(error) => write!(f, "storage has failed: {error}"),
            Self::Thread(error) => write!(f, "the node's thread cannot run: {error}"),
        }
    }
}

impl std::error::Error for HostError {}

/// What a node on a thread of its own is made of.
#[cfg(not(madsim))]
pub(super) struct Parts {
    pub(super) config: HostConfig,
    pub(super) listener: std::net::TcpListener,
    pub(super) addresses: BTreeMap<NodeId, String>,
    pub(super) opened: Opened<Box<dyn Storage>>,
}

/// A node that runs on a thread of its own.
#[cfg(not(madsim))]
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    ended: oneshot::Receiver<Result<(), HostError>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(not(madsim))]
impl Running {
    /// Starts it, with TCP for its network.
    ///
    /// # Errors
    /// If the configuration is impossible or no thread is to be had.
    pub async fn start(
        config: HostConfig,
        listener: std::net::TcpListener,
        addresses: BTreeMap<NodeId, String>,
        opened: Opened<Box<dyn Storage>>,
    ) -> Result<Self, StartError> {
        Self::launch(move || Ok(Parts { config, listener, addresses, opened })).await
    }

    /// Starts it with what is made on its thread, where it may block.
    pub(super) async fn launch(
        make: impl FnOnce() -> Result<Parts, StartError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let (tell, told) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(String::from("synod"))
            .spawn(move || match begin(make) {
                Ok((handle, life)) => {
                    drop(tell.send(Ok(handle)));
                    drop(end.send(life()));
                }
                Err(error) => drop(tell.send(Err(error))),
            })
            .map_err(|error| StartError::Host(HostError::Thread(error)))?;
        match told.await {
            Ok(Ok(handle)) => Ok(Self { handle, ended, thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => std::panic::resume_unwind(thread.join().expect_err("it says how it began")),
        }
    }

    /// The way to it.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops it and waits until it has stopped.
    ///
    /// # Errors
    /// Why it had stopped before, if it had.
    ///
    /// # Panics
    /// If the node has: an invariant did not hold.
    pub async fn shutdown(mut self) -> Result<(), HostError> {
        self.handle.stop();
        self.stopped().await
    }

    /// Waits until it has stopped by itself.
    ///
    /// # Errors
    /// Why.
    ///
    /// # Panics
    /// If the node has.
    pub async fn stopped(&mut self) -> Result<(), HostError> {
        let ended = (&mut self.ended).await;
        // It has nothing left to do, so this does not wait.
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            Some(Ok(())) => ended.expect("it says how it ended"),
            None => Ok(()),
        }
    }
}

/// A node's life, to be led on this thread; and a handle to it.
#[cfg(not(madsim))]
fn begin(
    make: impl FnOnce() -> Result<Parts, StartError>,
) -> Result<(Handle, impl FnOnce() -> Result<(), HostError>), StartError> {
    let Parts { config, listener, addresses, opened } = make()?;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // All that is ready has its turn, the driver last, before the system is asked for more: the
    // more there is to do, the larger the batches become by themselves.
    let builder = builder.enable_all().event_interval(TURNS);
    let runtime = builder.build_local(tokio::runtime::LocalOptions::default());
    let runtime = runtime.map_err(|error| StartError::Host(HostError::Thread(error)))?;
    let network = move || super::tcp::Tcp::new(listener, addresses);
    let clock = || -> Rc<dyn Clock> { Rc::new(super::clock::SystemClock::default()) };
    let prepared = prepare(config, network, clock, opened);
    let (handle, life) = prepared.map_err(StartError::Config)?;
    // As a task it is woken from its own thread without a system call.
    let life = move || runtime.block_on(async { tokio::task::spawn_local(life).await });
    let ended = |life: Result<_, tokio::task::JoinError>| match life {
        Ok(ended) => ended,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    Ok((handle, move || ended(life())))
}

/// Turns of tasks between two looks at what has arrived.
#[cfg(not(madsim))]
const TURNS: u32 = 512;

/// Why a node does not run.
#[derive(Debug)]
pub enum StartError {
    /// Its configuration is impossible.
    Config(ConfigError),
    /// Its surroundings do not allow it.
    Host(HostError),
    /// It cannot listen for its peers.
    Listen {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// Its storage cannot be opened.
    Storage(OpenError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
            Self::Listen { address, error } => {
                write!(f, "cannot listen for peers on {address}: {error}")
            }
            Self::Storage(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}
