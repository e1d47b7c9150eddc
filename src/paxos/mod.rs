//! One register's Paxos: the roles as plain values, small enough to enumerate.
//!
//! Must never know: time, networks, maps, what a value means. A role is handed one message's
//! content at a time and answers with a value; who is asked, when, and how often is the caller's.
//!
//! Sources: *Paxos Made Simple* (Lamport 2001) section 2; CASPaxos (Rystsov 2018) section 2.2 for
//! the register; `docs/PROTOCOL.md` for what is ours.

mod acceptor;
mod ballot;
mod proposer;
mod quorum;
mod reader;

pub use acceptor::{Acceptor, Floor};
pub use ballot::Ballot;
pub use proposer::{Promises, Proposer};
pub use quorum::{Members, MembersError, Tally};
pub use reader::{Reading, Verdict};
