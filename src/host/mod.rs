//! The host: it moves bytes and time between a [`Node`](crate::Node) and the world, and decides
//! nothing.
//!
//! A node, its links, its connections and its timers all live on one thread, so a request passes
//! through no channel and wakes no other core. Only [`Handle`], for everybody else, crosses
//! threads. What is random, what time it is and what carries bytes is given from outside, so the
//! same code runs inside a simulator.
//!
//! Must never know: what a message, a command or a record means.

mod alarm;
mod clock;
mod contain;
mod disk;
mod driver;
#[cfg(not(madsim))]
pub mod embed;
mod handle;
mod hello;
mod inbox;
mod link;
mod local;
mod network;
mod options;
mod quiet;
mod sessions;
mod start;
mod tables;
mod task;
#[cfg(not(madsim))]
mod tcp;

pub use clock::Clock;
#[cfg(not(madsim))]
pub use clock::SystemClock;
pub use contain::Contained;
pub use disk::{DiskStatus, Syncing, Wait};
pub use handle::{CallOptions, Handle, Stopped};
#[doc(hidden)]
pub use hello::introduction;
pub use link::LinkStatus;
pub use local::{Local, LocalClient, News};
pub use network::{Network, Stream};
pub use options::{LinkOptions, Reconnect};
#[cfg(all(feature = "server", not(madsim)))]
pub(crate) use quiet::Quiet;
#[cfg(not(madsim))]
pub use start::Running;
pub use start::{HostConfig, HostError, Service, StartError, entropy, prepare};
#[cfg(not(madsim))]
pub use tcp::Tcp;

/// Looks on at each step of a node, for a simulator's checks: the node after it, what it was told,
/// when by its own clocks, and what it wants done. It can change nothing.
#[cfg(madsim)]
pub type Tap = Box<dyn FnMut(&crate::Node, crate::Input, crate::Now, &[crate::Effect]) + Send>;
