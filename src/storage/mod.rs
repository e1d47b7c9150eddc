//! Where a node's records survive its process.
//!
//! A [`Storage`] appends and syncs; opening one says what it holds, as a [`Found`]. The promise:
//! what was synced is read back, or reported as [`Damage`]; it is never silently wrong or missing.
//! A tail that was never synced may be gone, from some record on. A store that failed once refuses
//! everything after it: what the operating system says after a failed sync cannot be believed.
//!
//! Everything here blocks. It must never know who asks, nor why: it holds no protocol, and folds
//! records only by the rules that a register's later promise and acceptance replace earlier ones,
//! and that a copy of a merged or a primary table is what its changes come to.

mod block;
mod checkpoint;
mod disk;
mod faulty;
mod health;
mod log;
mod manifest;
mod memory;
mod merge;
mod records;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use checkpoint::Checkpoint;
pub use disk::{Directory, Disk, DiskFile};
pub use faulty::{Fault, FaultyDisk, FaultyFile};
pub use log::{Log, LogOptions};
pub use memory::{Memory, Volatile};
pub use records::{IntoIter, Records};
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;

use crate::base::{ClusterId, NodeId, Ticket};
use crate::node::{Config, ConfigError, Node, Record};

/// Makes records durable, in order.
pub trait Storage: Send {
    /// Appends what an [`Effect::Persist`](crate::Effect::Persist) carries. It is durable only when
    /// [`Storage::sync`] has returned; a crash before that keeps any prefix of what is outstanding.
    ///
    /// # Errors
    /// If it cannot be written, or anything has failed before. Stop the node.
    ///
    /// # Panics
    /// If `ticket` is not above the one before: records would be recovered in another order than
    /// they were promised in.
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError>;

    /// Makes durable all that was appended: on success say
    /// [`Input::Persisted`](crate::Input::Persisted) for the last ticket.
    ///
    /// # Errors
    /// If that is not certain, or anything has failed before. Stop the node, and do not try again:
    /// a second sync may succeed without having written what the first could not.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Drops what later records have replaced, and syncs. Stores do so by themselves as they grow,
    /// so this is for whoever wants a small directory now.
    ///
    /// # Errors
    /// As for [`Storage::sync`].
    fn compact(&mut self) -> Result<(), StorageError>;
}

impl<S: Storage + ?Sized> Storage for Box<S> {
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError> {
        (**self).append(ticket, records)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        (**self).sync()
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        (**self).compact()
    }
}

/// A store that was opened, and what was in it.
#[derive(Debug)]
pub struct Opened<S> {
    /// The store. If what was found is damaged it refuses everything, and only holds the lock.
    pub storage: S,
    /// What was in it.
    pub found: Found,
}

impl<S: Storage + 'static> Opened<S> {
    /// The same, whatever kind of store it is.
    #[must_use]
    pub fn boxed(self) -> Opened<Box<dyn Storage>> {
        Opened { storage: Box::new(self.storage), found: self.found }
    }
}

/// Which store keeps a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Store {
    /// A log of its own and checkpoints: [`Log`]. The default.
    #[default]
    Log,
    /// An SQLite database: [`Sqlite`].
    #[cfg(feature = "sqlite")]
    Sqlite,
}

impl Store {
    /// Opens a directory, which is made if there is none, and locks it for as long as the store
    /// lives.
    ///
    /// # Errors
    /// If it is somebody else's, or the operating system says no. Damage is no error: it is found.
    pub fn open(self, path: &Path, owner: &Owner) -> Result<Opened<Box<dyn Storage>>, OpenError> {
        match self {
            Self::Log => Ok(Log::open(path, owner)?.boxed()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite => Ok(Sqlite::open(path, owner)?.boxed()),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => log::STORE,
            #[cfg(feature = "sqlite")]
            Self::Sqlite => sqlite::STORE,
        })
    }
}

impl FromStr for Store {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        match name {
            log::STORE => Ok(Self::Log),
            #[cfg(feature = "sqlite")]
            sqlite::STORE => Ok(Self::Sqlite),
            _ => Err(StoreError(name.to_owned())),
        }
    }
}

/// There is no store of this name in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no store {:?} in this program: ", self.0)?;
        f.write_str(if cfg!(feature = "sqlite") {
            "use log or sqlite"
        } else {
            "use log, or build it with the feature sqlite"
        })
    }
}

impl std::error::Error for StoreError {}

/// What a store held when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was never used.
    New,
    /// Everything that was ever synced, in an order that [`Node::recover`] accepts.
    Records(Records),
    /// Something that was synced is wrong or missing. Nothing was changed, so it can be examined.
    Damaged(Damage),
}

impl Found {
    /// The node that goes on from it. If the store is damaged, or holds what this configuration
    /// cannot have written, that is a node that does not vote ([`Node::lost`]): its readiness says
    /// why, and so should the host.
    ///
    /// # Errors
    /// If the configuration is impossible.
    pub fn into_node(self, config: Config, seed: u64) -> Result<Node, ConfigError> {
        match self {
            Self::New => Node::new(config, seed),
            Self::Damaged(damage) => Node::lost(config, seed, &damage.to_string()),
            Self::Records(records) => match Node::recover(config.clone(), seed, records) {
                Ok(node) => Ok(node),
                Err(error) => Node::lost(config, seed, &error.to_string()),
            },
        }
    }
}

/// Whose a store is. A directory of another cluster or node is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which cluster.
    pub cluster: ClusterId,
    /// What people call the cluster; one line, for error messages and whoever looks at the files.
    pub name: String,
    /// Which node.
    pub node: NodeId,
    /// Its consensus tables, by their place among all tables, as they are declared
    /// ([`declaration`](crate::TableConfig::declaration)). A directory remembers them: the same
    /// keys in other tables would be other keys, and what was written once could be written again.
    /// There may be more later, but none may be changed, moved or left out.
    pub tables: BTreeMap<usize, String>,
}

impl Owner {
    /// The owner that a node of this configuration is.
    #[must_use]
    pub fn of(config: &Config, name: &str) -> Self {
        Self {
            cluster: config.cluster,
            name: name.to_owned(),
            node: config.node,
            tables: (config.tables.iter().enumerate())
                .filter_map(|(place, table)| Some((place, table.declaration()?)))
                .collect(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster \"{}\" ({:016x})", self.node.0, self.name, self.cluster.0)
    }
}

/// Where something that was synced is wrong or missing, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file, or the directory.
    pub path: PathBuf,
    /// Where in it, in bytes, if it is in one place.
    pub offset: Option<u64>,
    /// What is wrong, for people.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Why a store cannot be opened. The process should end with this line; nothing was changed but the
/// file `LOCK`.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    Locked {
        /// Which directory.
        path: PathBuf,
        /// By whom, as far as it said.
        pid: Option<u32>,
    },
    /// It belongs to somebody else.
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// To whom.
        found: Box<Owner>,
        /// Who wanted it.
        wanted: Box<Owner>,
    },
    /// It was made by another kind of store.
    Store {
        /// Which directory.
        path: PathBuf,
        /// By which.
        found: String,
        /// Which one was asked for.
        wanted: &'static str,
    },
    /// It is in a format that this version does not read.
    Version {
        /// Which directory.
        path: PathBuf,
        /// Which format.
        found: String,
        /// The one that this version reads.
        supported: u32,
    },
    /// There are other things in the directory, and nothing says that it is one of ours.
    Occupied {
        /// Which directory.
        path: PathBuf,
        /// One of those things.
        by: String,
    },
    /// The owner's name, or what it says of a table, cannot be written on one line.
    Name(String),
    /// Its tables are others.
    Tables {
        /// Which directory.
        path: PathBuf,
        /// Which table, counted from 0.
        place: usize,
        /// What it was declared as.
        found: String,
        /// What is declared in its place now, if it is a consensus table.
        wanted: Option<String>,
    },
    /// The operating system says no.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid } => {
                write!(f, "state directory {} is in use by ", path.display())?;
                match pid {
                    Some(pid) => write!(f, "process {pid}"),
                    None => write!(f, "another process"),
                }
            }
            Self::Foreign { path, found, wanted } => write!(
                f,
                "state directory {} belongs to {found}, not to {wanted}; name another directory",
                path.display()
            ),
            Self::Store { path, found, wanted } => write!(
                f,
                "state directory {} was made by the store {found}, not by {wanted}; use that one",
                path.display()
            ),
            Self::Version { path, found, supported } => write!(
                f,
                "state directory {} has format {found}; this version reads format {supported}",
                path.display()
            ),
            Self::Occupied { path, by } => write!(
                f,
                "{} is no state directory and not empty (it has {by}); name another directory",
                path.display()
            ),
            Self::Name(name) => write!(f, "the name {name:?} is not one line of text"),
            Self::Tables { path, place, found, wanted } => {
                let directory = path.display();
                write!(f, "table {place} of state directory {directory} is \"{found}\", ")?;
                match wanted {
                    Some(wanted) => write!(f, "not \"{wanted}\"")?,
                    None => write!(f, "and no consensus table now")?,
                }
                write!(f, "; declare its tables in the order in which they were, new ones last")
            }
            Self::Io { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// Why records could not be made durable. The node must stop, and may be started again.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system, or what stands in for it, failed.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// A call before this one failed.
    Stopped,
    /// The store was found damaged when it was opened.
    Damaged,
    /// A record is longer than [`FRAME_MAX`](crate::wire::FRAME_MAX).
    TooLong {
        /// By its encoding, in bytes.
        len: usize,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
            Self::Stopped => write!(f, "the store failed before and takes nothing more"),
            Self::Damaged => write!(f, "the store is damaged and takes nothing more"),
            Self::TooLong { len } => write!(f, "a record of {len} bytes is too long"),
        }
    }
}

impl std::error::Error for StorageError {}
