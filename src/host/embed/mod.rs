//! The embedding API: a member of a cluster inside an application.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use synod::{Cluster, State};
//! let cluster = Cluster::builder("orders", 1)
//!     .member(1, "10.0.0.1:7101")
//!     .member(2, "10.0.0.2:7101")
//!     .member(3, "10.0.0.3:7101")
//!     .table("settings")
//!     .start(State::Directory("orders".into()))
//!     .await?;
//! let settings = cluster.table::<String, String>("settings")?;
//! settings.put("colour", "green").await?;
//! assert_eq!(settings.get("colour").await?.map(|entry| entry.value), Some("green".to_owned()));
//! cluster.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here is global: a process may be a member of any number of clusters. Everything is
//! awaited on whatever runtime the caller has; the node has a thread of its own.
//!
//! Must never know: links, messages.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each command has its own answers; what else an outcome can be is one case"
)]

mod cluster;
mod codec;
mod error;
mod merged;
mod primary;
mod session;
mod table;
mod watch;

pub use cluster::{Builder, Cluster, ClusterStatus, NeverReady, Open, State};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, Unreadable};
pub use error::{Error, NoSuchTable, Rejection};
pub use merged::{MergedTable, Retries, Shows, Updated, Versioned};
pub use primary::{Committed, PrimaryTable, Resolved, WriteId};
pub use session::{Session, SessionState};
pub use table::{Exchanged, Held, Page, Put, Removed, Table, Taken};
pub use watch::{Change, MergeChange, QuorumChange, RoleChange, Watch, Watched};
