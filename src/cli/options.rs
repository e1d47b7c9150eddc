//! What the client's commands take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::server::{parse_duration as duration, parse_lifetime};

/// How long to wait for a server, unless it is said.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// What every command of the client takes.
#[derive(Args, Clone, Debug)]
pub(super) struct ClientOptions {
    /// Nodes to ask: the first that can answer does
    #[arg(
        long, short = 's', env = "SYNOD_SERVER", value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:4101,127.0.0.1:4102,127.0.0.1:4103",
        value_parser = server
    )]
    pub(super) server: Vec<String>,
    /// How long it may take: 500ms, 10s, 2m
    #[arg(
        long, env = "SYNOD_TIMEOUT", value_name = "TIME", default_value = "5s",
        value_parser = duration
    )]
    pub(super) timeout: Duration,
    /// A file with the password that the nodes ask for
    #[arg(long, env = "SYNOD_PASSWORD_FILE", value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Answer in JSON, one value a line
    #[arg(long)]
    pub(super) json: bool,
}

/// What commands about a table take.
#[derive(Args, Clone, Debug)]
pub(super) struct TableOptions {
    #[command(flatten)]
    pub(super) client: ClientOptions,
    /// The table, by name or number [default: the first]
    #[arg(long, short = 't', value_name = "TABLE")]
    pub(super) table: Option<String>,
}

/// What is done to one node's replica, and to no other's.
#[derive(Args, Clone, Debug)]
pub(super) struct ReplicaOptions {
    /// Whose replica: it is found among the servers
    pub(super) node: u16,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct HandOverOptions {
    /// To which node [default: whichever has everything first]
    #[arg(long, value_name = "NODE")]
    pub(super) to: Option<u16>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct CreateOptions {
    /// Its name
    pub(super) name: String,
    /// What it is, in words joined by +; a primary table's begin with primary [default: what the
    /// nodes were told of merged tables]
    pub(super) words: Option<String>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct AddReplicaOptions {
    /// Which table
    pub(super) name: String,
    /// Which node
    pub(super) node: u16,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct MergeOptions {
    /// Where values collide, keep those of the side that the node asked is on, or of the other
    /// [default: all, in conflict]
    #[arg(long, value_name = "SIDE", value_parser = ["here", "there"])]
    pub(super) keep: Option<String>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct DropOptions {
    /// Which table
    pub(super) name: String,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ReconnectOptions {
    /// Which peer [default: all]
    pub(super) node: Option<u16>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct GetOptions {
    pub(super) key: String,
    /// Show all of the entry
    #[arg(long)]
    pub(super) entry: bool,
    /// Ask the node alone: faster, and perhaps stale
    #[arg(long)]
    pub(super) local: bool,
    /// Of a primary table, likewise, and nothing from before this place, as `put` shows it
    #[arg(long, value_name = "PLACE", requires = "local")]
    pub(super) seen: Option<u64>,
    /// Of a primary table, the latest that the node has heard of, which may never be committed
    #[arg(long, conflicts_with = "local")]
    pub(super) dirty: bool,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct PutOptions {
    pub(super) key: String,
    /// The value, or - for standard input; behind -- if it begins with a dash
    #[arg(allow_negative_numbers = true)]
    pub(super) value: String,
    /// Only if there is nothing
    #[arg(long, group = "condition")]
    pub(super) if_absent: bool,
    /// Only if this value is there
    #[arg(long = "if", value_name = "VALUE", group = "condition")]
    pub(super) if_value: Option<String>,
    /// Only if this version is there, as `get --entry` shows it
    #[arg(long, value_name = "VERSION", group = "condition")]
    pub(super) if_version: Option<String>,
    #[command(flatten)]
    pub(super) at: TableOptions,
    #[command(flatten)]
    pub(super) bound: Bound,
}

/// What a key's life depends on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The key lives no longer than")]
pub(super) struct Bound {
    /// This session; may be repeated, as all of these
    #[arg(long, value_name = "SESSION")]
    pub(super) session: Vec<String>,
    /// This node's present membership
    #[arg(long, value_name = "NUMBER")]
    pub(super) node: Vec<u16>,
    /// The present life of another key
    #[arg(long = "key", value_name = "TABLE:KEY")]
    pub(super) parent: Vec<String>,
    /// So long from now: 500ms, 10s, 2m, 720h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_lifetime)]
    pub(super) lasting: Option<Duration>,
    /// Until this many milliseconds after 1970
    #[arg(long, value_name = "MILLISECONDS")]
    pub(super) until: Option<u64>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct RemoveOptions {
    pub(super) key: String,
    /// Only if this generation is there, as `get --entry` shows it
    #[arg(long, value_name = "GENERATION")]
    pub(super) generation: Option<String>,
    /// Of a merged table: only if this value is there; of a bag this element alone
    #[arg(long, value_name = "VALUE", conflicts_with = "generation")]
    pub(super) value: Option<String>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct RowsOptions {
    /// Of keys that begin so
    #[arg(long, value_name = "PREFIX")]
    pub(super) prefix: Option<String>,
    /// That show this value
    #[arg(long, value_name = "VALUE")]
    pub(super) value: Option<String>,
    /// Begin behind this key
    #[arg(long, value_name = "KEY")]
    pub(super) after: Option<String>,
    /// Of a bag: behind this element of it
    #[arg(long, value_name = "ELEMENT", requires = "after")]
    pub(super) element: Option<String>,
    /// This many at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ResolveOptions {
    pub(super) key: String,
    /// Of a bag: which element, if several are in conflict
    #[arg(long, value_name = "ELEMENT")]
    pub(super) element: Option<String>,
    /// Keep the value of this write
    #[arg(long, value_name = "WRITE", group = "answer")]
    pub(super) keep: Option<String>,
    /// Put this value instead of all
    #[arg(long, value_name = "VALUE", group = "answer")]
    pub(super) value: Option<String>,
    /// Remove it
    #[arg(long, group = "answer")]
    pub(super) remove: bool,
    /// Only if these are all that it shows [default: what it shows when this is run]
    #[arg(long, value_name = "WRITE,...", value_delimiter = ',', requires = "answer")]
    pub(super) of: Vec<String>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct OutcomeOptions {
    /// The number of the client that sent it
    pub(super) client_number: u64,
    /// The number that it gave the write
    pub(super) number: u64,
    /// A place from before it was sent first: without one, what was sent long ago stays unknown
    #[arg(long, value_name = "PLACE")]
    pub(super) seen: Option<u64>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct FenceOptions {
    pub(super) key: String,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct KeysOptions {
    /// Begin behind this key
    #[arg(long, value_name = "KEY")]
    pub(super) after: Option<String>,
    /// This many at most [default: all]
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct WatchOptions {
    pub(super) key: String,
    /// End after this many
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) at: TableOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct EventsOptions {
    /// Of merged tables instead: peers lost and back, merges, conflicts
    #[arg(long)]
    pub(super) merges: bool,
    /// End after this many
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Args, Clone, Debug)]
pub(super) struct SessionOptions {
    /// How long the session outlives this process
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) grace: Duration,
    #[command(flatten)]
    pub(super) client: ClientOptions,
    /// What to run, with the session's name in SYNOD_SESSION
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

pub(super) fn server(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(1..) => Ok(text.to_owned()),
        Some(0) | None => Err("a server is HOST:PORT, such as 127.0.0.1:4101".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_ports() {
        assert!(server("localhost:4101").is_ok() && server("[::1]:4101").is_ok());
        for wrong in ["localhost", ":4101", "localhost:0", "localhost:x", "localhost:70000"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
