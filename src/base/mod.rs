//! Identities, time, bytes and randomness: the words every other module speaks.
//!
//! Must never know: any protocol. Nothing here sends, stores or decides.

mod bytes;
mod digest;
mod ids;
mod random;
mod table;
mod time;

/// The most bytes of one message or record.
pub const FRAME_MAX: usize = 16 << 20;

pub use bytes::{Key, Value};
pub use digest::fnv1a;
pub use ids::{
    ClientId, ClusterId, Epoch, Incarnation, Life, NodeId, OpId, RegisterId, RequestId, SessionId,
    TableId, Ticket,
};
pub(crate) use random::Random;
pub(crate) use table::each_word;
pub use table::{Replicas, TableName};
pub use time::{Instant, Now, Wall};
