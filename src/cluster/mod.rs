//! Who is in the cluster, who can be heard, and whether this node may vote.
//!
//! Must never know: registers and tables.

mod message;
mod reach;
mod witness;

pub use message::Message;
pub(crate) use reach::Reach;
pub(crate) use witness::Witnesses;
