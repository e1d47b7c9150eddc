//! The Redis protocol, RESP2 and RESP3, without sockets: what clients send, as requests to the
//! engine; what the engine answers, as replies.
//!
//! Total on any bytes. Must never know: sockets, threads, clocks, who is connected.

mod arguments;
mod connection;
mod decode;
mod error;
mod glob;
mod merged;
mod own;
mod plan;
mod primary;
mod redis;
mod reply;
mod table;
#[cfg(test)]
mod tests;

pub use arguments::{parse_ballot, parse_session, token};
pub use connection::{CallId, Closing, Connection, ConnectionLimits, Errand};
pub use decode::{ProtocolError, RequestLimits, Requests};
pub use error::{CODES, code, refused};
pub use own::GRACE;
pub use plan::{Call, Channel, Identity, KEYS_MAX, SessionCall, State, Surroundings};
pub use primary::How;
pub use reply::{Protocol, Reply, request};
pub use table::{COMMANDS, Group, REFUSED, Spec, document, find};
