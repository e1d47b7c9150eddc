//! Identities, time, bytes and randomness: the words every other module speaks.
//!
//! Must never know: any protocol. Nothing here sends, stores or decides.

mod bytes;
mod ids;
mod random;
mod time;

pub use bytes::{Key, Value};
pub use ids::{
    ClientId, ClusterId, Epoch, Incarnation, Life, NodeId, OpId, RegisterId, RequestId, SessionId,
    TableId, Ticket,
};
pub(crate) use random::Random;
pub use time::{Instant, Now, Wall};
