//! A member of a cluster, made step by step.
//!
//! Must never know: how it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;

use super::error::{Error, NoSuchTable};
use super::merged::MergedTable;
use super::primary::PrimaryTable;
use super::session::Session;
use super::table::Table;
use super::watch::{QuorumChange, Watch};
use crate::base::{ClusterId, NodeId, TableId, fnv1a};
use crate::consensus::{Command, Outcome, Readiness, Status, Topic};
use crate::host::start::Parts;
use crate::host::{
    CallOptions, DiskStatus, Handle, HostConfig, HostError, LinkOptions, LinkStatus, Running,
    Service, StartError, Syncing, entropy,
};
use crate::merged::{self, TableCommand};
use crate::node::{Config, Genesis, Limits, TableConfig, Timing};
use crate::primary;
use crate::storage::{Found, Log, OpenError, Opened, Owner, Storage, Volatile};

/// What keeps a node's promises.
pub enum State {
    /// Files in a directory of the node's own, made if need be.
    Directory(PathBuf),
    /// Nothing but the process: a node that restarts has lost its state, is found out by its
    /// peers, and never votes again. For tests, and for clusters that live and die together.
    Memory,
    /// Any other; opened on the node's thread.
    Other(Open),
}

/// Opens a store for whoever will own it.
pub type Open = Box<dyn FnOnce(&Owner) -> Result<Opened<Box<dyn Storage>>, OpenError> + Send>;

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "Directory({})", path.display()),
            Self::Memory => f.write_str("Memory"),
            Self::Other(_) => f.write_str("Other"),
        }
    }
}

/// A member that does not run yet. Every member is told the same, but for its own number, where
/// it listens and what its services are.
#[derive(Debug)]
pub struct Builder {
    name: String,
    config: Config,
    addresses: BTreeMap<NodeId, String>,
    listen: Option<Listen>,
    links: LinkOptions,
    services: Services,
}

#[derive(Debug)]
enum Listen {
    Address(String),
    Listener(TcpListener),
}

#[derive(Default)]
struct Services(Vec<Service>);

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} services", self.0.len())
    }
}

impl Builder {
    /// A member of the cluster, this one included, and where its peers reach it: `host:port`.
    #[must_use]
    pub fn member(mut self, node: u16, address: impl Into<String>) -> Self {
        self.addresses.insert(NodeId(node), address.into());
        self
    }

    /// A table. The order of tables is part of the configuration: add new ones behind the others.
    #[must_use]
    pub fn table(self, name: impl Into<String>) -> Self {
        self.add_table(TableConfig::consensus(name))
    }

    /// A merged table: every node reads and writes its own copy, also alone; see `docs/MERGED.md`.
    #[must_use]
    pub fn merged_table(self, name: impl Into<String>, schema: merged::Schema) -> Self {
        self.add_table(TableConfig::merged(name, schema))
    }

    /// A primary table: one node puts all writes in order, the others follow; see
    /// `docs/PRIMARY.md`.
    #[must_use]
    pub fn primary_table(self, name: impl Into<String>, schema: primary::Schema) -> Self {
        self.add_table(TableConfig::primary_table(name, schema))
    }

    /// A table where a key that is chosen stays as it is while it lives.
    #[must_use]
    pub fn write_once_table(self, name: impl Into<String>) -> Self {
        self.add_table(TableConfig::write_once(name))
    }

    fn add_table(mut self, table: TableConfig) -> Self {
        self.config.tables.push(table);
        self
    }

    /// How many seats the cluster has. Default: as many as members are named.
    #[must_use]
    pub const fn seats(mut self, seats: u16) -> Self {
        self.config.cluster_size = seats;
        self
    }

    /// Where to listen for peers. Default: the address that the peers are told.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(Listen::Address(address.into()));
        self
    }

    /// Listen for peers on a socket that is bound already.
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listen = Some(Listen::Listener(listener));
        self
    }

    /// Vouch for storage that is empty: it was never used before, so this node votes at once. By
    /// default the peers have to take note of it first ([`Genesis`]).
    #[must_use]
    pub const fn vouched(mut self) -> Self {
        self.config.genesis = Genesis::Vouched;
        self
    }

    /// How long things may take.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.config.timing = timing;
        self
    }

    /// Bounds on what clients may ask.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Bounds of links, and when they are dialled again.
    #[must_use]
    pub fn links(mut self, links: LinkOptions) -> Self {
        self.links = links;
        self
    }

    /// Something to run on the node's thread, such as a server's listener.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.0.push(service);
        self
    }

    /// Starts the node; it is up when this returns, and ready when [`Cluster::ready`] says so.
    ///
    /// # Errors
    /// If the configuration is impossible, the address or the storage cannot be had.
    pub async fn start(mut self, state: State) -> Result<Cluster, StartError> {
        self.config.members = self.addresses.keys().copied().collect();
        if self.config.cluster_size == 0 {
            self.config.cluster_size = u16::try_from(self.addresses.len()).unwrap_or(u16::MAX);
        }
        let running = Running::launch(move || self.open(state)).await?;
        Ok(Cluster { running })
    }

    /// Everything that blocks; on the node's thread.
    fn open(self, state: State) -> Result<Parts, StartError> {
        self.config.check().map_err(StartError::Config)?;
        let address = &self.addresses[&self.config.node];
        let bind = |address: &str| {
            TcpListener::bind(address)
                .map_err(|error| StartError::Listen { address: address.to_owned(), error })
        };
        let listener = match self.listen {
            Some(Listen::Listener(listener)) => listener,
            Some(Listen::Address(address)) => bind(&address)?,
            None => bind(address)?,
        };
        let owner = Owner::of(&self.config, &self.name);
        let (opened, syncing) = match state {
            State::Directory(path) => {
                (Log::open(&path, &owner).map(Opened::boxed), Syncing::Thread)
            }
            State::Memory => {
                let memory = Opened { storage: Volatile::default(), found: Found::New };
                (Ok(memory.boxed()), Syncing::Inline)
            }
            State::Other(open) => (open(&owner), Syncing::Thread),
        };
        let config = HostConfig {
            name: self.name,
            node: self.config,
            links: self.links,
            seed: entropy().map_err(|error| StartError::Host(HostError::Network(error)))?,
            syncing,
            services: self.services.0,
        };
        let opened = opened.map_err(StartError::Storage)?;
        Ok(Parts { config, listener, addresses: self.addresses, opened })
    }
}

/// What a member knows of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// As the engine sees it.
    pub node: Status,
    /// As the host sees it: a link is a hint, no more.
    pub links: Vec<LinkStatus>,
    /// How its disk does: what waits for it, and for how long.
    pub disk: DiskStatus,
}

/// A member of a cluster, running. Dropping it stops the node once its tables, sessions and
/// watches are dropped too; [`Cluster::shutdown`] does so at once and says how it went.
#[derive(Debug)]
pub struct Cluster {
    running: Running,
}

impl Cluster {
    /// Begins to describe node `node` of the cluster `name`. Two clusters of different names have
    /// nothing to do with each other.
    #[must_use]
    pub fn builder(name: impl Into<String>, node: u16) -> Builder {
        let name = name.into();
        let mut config = Config::new(NodeId(node));
        config.cluster = ClusterId(fnv1a(name.as_bytes()));
        config.tables.clear();
        config.cluster_size = 0;
        Builder {
            name,
            config,
            addresses: BTreeMap::new(),
            listen: None,
            links: LinkOptions::default(),
            services: Services::default(),
        }
    }

    /// A table, with its keys and values as the application has them.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn table<K, V>(&self, name: &str) -> Result<Table<K, V>, NoSuchTable> {
        let id = self.find(name, |_| true)?;
        Ok(Table::new(self.handle().clone(), id))
    }

    fn find(&self, name: &str, is: fn(&TableConfig) -> bool) -> Result<TableId, NoSuchTable> {
        let tables = self.handle().tables();
        let place = tables.iter().position(|table| table.name == name && is(table));
        let id = place.filter(|_| !name.is_empty()).and_then(|place| u16::try_from(place).ok());
        id.map(TableId).ok_or_else(|| NoSuchTable { name: name.to_owned() })
    }

    /// A merged table, with its keys and values as the application has them. One made while nodes
    /// ran is there as soon as this node has heard of it.
    ///
    /// # Errors
    /// If no merged table has this name.
    pub fn merged_table<K, V>(&self, name: &str) -> Result<MergedTable<K, V>, NoSuchTable> {
        let id = self.find(name, |table| table.schema().is_some())?;
        Ok(MergedTable::new(self.handle().clone(), id, name.to_owned()))
    }

    /// A primary table, with its keys and values as the application has them. One made while nodes
    /// ran is there as soon as this node has heard of it, at the latest after
    /// [`Cluster::learn_tables`].
    ///
    /// # Errors
    /// If no primary table has this name.
    pub fn primary_table<K, V>(&self, name: &str) -> Result<PrimaryTable<K, V>, NoSuchTable> {
        let id = self.find(name, |table| table.primary().is_some())?;
        Ok(PrimaryTable::new(self.handle().clone(), id, name.to_owned()))
    }

    /// The names of all tables, in the order of their numbers.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        let tables = self.handle().tables();
        let names = tables.iter().map(|table| table.name.clone());
        names.filter(|name| !name.is_empty()).collect()
    }

    /// Makes a merged table, on this node at once and on the others as soon as they hear of it; if
    /// there is one of this name, kind, strategy and policy, it is that one (L-03). It lasts as
    /// long as the list of tables, which is kept where the node's state is.
    ///
    /// # Errors
    /// [`crate::Refusal::Unmade`] if there is another of this name, or it cannot be kept.
    pub async fn create_merged_table<K, V>(
        &self,
        name: &str,
        schema: merged::Schema,
    ) -> Result<MergedTable<K, V>, Error> {
        self.about(Command::Table(TableCommand::Create { name: name.to_owned(), schema })).await?;
        // It may have been dropped again since.
        self.merged_table(name).map_err(|_| Error::Unknown)
    }

    /// Has a node keep a copy of a table made while nodes ran. Nothing is done if it does (L-05).
    ///
    /// # Errors
    /// [`crate::Refusal::Unmade`] if there is no such table or no such node.
    pub async fn add_replica(&self, name: &str, node: u16) -> Result<(), Error> {
        let add = TableCommand::AddReplica { name: name.to_owned(), node: NodeId(node) };
        self.about(Command::Table(add)).await
    }

    /// Makes a primary table, if a quorum agrees, on all nodes; if there is one of this name that
    /// is just this, it is that one. It lasts as long as the disks of a quorum do.
    ///
    /// # Errors
    /// [`crate::Refusal::Unmade`] if there is another of this name, or it cannot be kept;
    /// [`crate::Refusal::NoQuorum`], and [`Error::Unknown`] if it may have been made.
    pub async fn create_primary_table<K, V>(
        &self,
        name: &str,
        schema: primary::Schema,
    ) -> Result<PrimaryTable<K, V>, Error> {
        let create = primary::TableCommand::Create { name: name.to_owned(), schema };
        self.about(Command::PrimaryTable(create)).await?;
        // It may have been dropped again since.
        self.primary_table(name).map_err(|_| Error::Unknown)
    }

    /// Has this node know of every primary table that was made before this was asked, anywhere:
    /// [`Cluster::primary_table`] has it then.
    ///
    /// # Errors
    /// If no quorum is reached.
    pub async fn learn_tables(&self) -> Result<(), Error> {
        self.about(Command::PrimaryTable(primary::TableCommand::Learn)).await
    }

    /// Drops a table made while nodes ran, with all that any node holds of it, or writes to it
    /// before it hears of this. A primary table is dropped if a quorum agrees.
    ///
    /// # Errors
    /// [`crate::Refusal::Unmade`] if there is no such table.
    pub async fn drop_table(&self, name: &str) -> Result<(), Error> {
        self.about(Command::Table(TableCommand::Drop { name: name.to_owned() })).await
    }

    async fn about(&self, command: Command) -> Result<(), Error> {
        match self.handle().call(command, CallOptions::default()).await? {
            Outcome::Done => Ok(()),
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Opens a session hosted by this node.
    ///
    /// # Errors
    /// [`Error::Rejected`] if none could be opened.
    pub async fn session(&self) -> Result<Session, Error> {
        Session::open(self.handle(), CallOptions::default()).await
    }

    /// Tells of quorum reached and lost, beginning with how it is now.
    ///
    /// # Errors
    /// [`Error::Rejected`] if too much is watched already, or the node has stopped.
    pub async fn watch_quorum(&self) -> Result<Watch<QuorumChange>, Error> {
        Watch::open(self.handle(), Topic::Quorum).await
    }

    /// Waits until this node takes part and hears a quorum.
    ///
    /// # Errors
    /// [`NeverReady`] if the node has lost its state, or has stopped.
    pub async fn ready(&self) -> Result<(), NeverReady> {
        let stopped = |_| NeverReady { why: String::from("the node has stopped") };
        let mut watch = self.watch_quorum().await.map_err(stopped)?;
        loop {
            let status = self.status().await.map_err(stopped)?.node;
            match status.readiness {
                Readiness::Ready if status.has_quorum => return Ok(()),
                Readiness::StateLost(why) => return Err(NeverReady { why }),
                Readiness::Ready | Readiness::Starting | Readiness::Unwitnessed => {}
            }
            if watch.next().await.is_none() {
                return Err(stopped(Error::Unknown));
            }
        }
    }

    /// What this node knows of itself and its cluster. Asks nobody.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the node has stopped.
    pub async fn status(&self) -> Result<ClusterStatus, Error> {
        let (links, disk) = (self.handle().links().await?, self.handle().disk().await?);
        match self.handle().call(Command::Status, CallOptions::default()).await? {
            Outcome::Status(node) => Ok(ClusterStatus { node, links, disk }),
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Dials every peer that is not linked, now (M-30).
    ///
    /// # Errors
    /// [`Error::Rejected`] if the node has stopped.
    pub fn reconnect(&self) -> Result<(), Error> {
        Ok(self.handle().reconnect()?)
    }

    /// The untyped way to the node.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        self.running.handle()
    }

    /// Stops the node and waits until what it has begun is durable. Calls in flight end with
    /// [`Error::Unknown`], sessions are lost, watches end.
    ///
    /// # Errors
    /// Why it had stopped before, if it had.
    ///
    /// # Panics
    /// If the node has: an invariant did not hold.
    pub async fn shutdown(self) -> Result<(), HostError> {
        self.running.shutdown().await
    }

    /// Waits until the node has stopped by itself, which it does if its storage fails.
    ///
    /// # Errors
    /// Why.
    ///
    /// # Panics
    /// If the node has.
    pub async fn stopped(&mut self) -> Result<(), HostError> {
        self.running.stopped().await
    }
}

/// The node will not become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverReady {
    /// Why not.
    pub why: String,
}

impl fmt::Display for NeverReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this node will not be ready: {}", self.why)
    }
}

impl std::error::Error for NeverReady {}
