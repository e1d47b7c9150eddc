//! What a server is told, and from where: flags, then the environment, then a file, then defaults
//! good enough that three terminals make a cluster without any.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgMatches, Args, ValueEnum};
use serde::Deserialize;

use super::files::{read_file, read_password};
use super::tables::{parse_schema, parse_table};
use crate::base::{ClusterId, NodeId, fnv1a};
use crate::host::Reconnect;
use crate::merged::is_table_name;
use crate::node::{Config, ConfigError, TableConfig};
use crate::primary;
use crate::storage::Store;

/// Node N's ports, unless they are said: these and N.
const CLIENTS_PORT: u16 = 4100;
const PEERS_PORT: u16 = 4200;
const METRICS_PORT: u16 = 4300;

/// The highest number of a node that has ports of its own.
const NUMBERED_MAX: u16 = 99;

/// Which node to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChoice {
    /// The first that is free, from 1.
    Free,
    /// This.
    Number(u16),
}

impl fmt::Display for NodeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => write!(f, "_"),
            Self::Number(node) => write!(f, "{node}"),
        }
    }
}

impl FromStr for NodeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "_" {
            return Ok(Self::Free);
        }
        text.parse().map(Self::Number).map_err(|_| {
            "a node is a number from 0 to 65535, or _ for the first that is free".to_owned()
        })
    }
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        address(text).map(Self::At).map_err(|why| format!("{why}; or off"))
    }
}

/// Where to listen: one address.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "'{}' is not IP:PORT, such as 0.0.0.0:4101 or [::1]:4101; a name would not say which \
             address is meant",
            text.escape_debug()
        )
    })
}

impl FromStr for Reconnect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = "a time such as 500ms, FIRST..MAX such as 20ms..1s, or never; more than zero";
        if text == "never" {
            return Ok(Self::Never);
        }
        let time = |text| parse_duration(text).map_err(|_| rule.to_owned());
        let (policy, first, last) = match text.split_once("..") {
            None => (Self::Every(time(text)?), time(text)?, time(text)?),
            Some((first, max)) => {
                let (first, max) = (time(first)?, time(max)?);
                (Self::Backoff { first, max }, first, max)
            }
        };
        if first.is_zero() || last < first { Err(rule.to_owned()) } else { Ok(policy) }
    }
}

/// What flags and the environment say.
#[derive(Args, Clone, Debug, Default)]
pub struct Given {
    /// A TOML file; what it says is overruled by the environment, and that by flags
    #[arg(long, env = "SYNOD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The cluster's name; nodes of different clusters do not talk to each other [default: synod]
    #[arg(long, env = "SYNOD_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// How many nodes the cluster has, numbered from 1 [default: 3; for node 0: 1]
    #[arg(long, env = "SYNOD_SIZE", value_name = "N")]
    pub size: Option<u16>,
    /// All members and where they listen for each other, for nodes on several machines
    #[arg(long, env = "SYNOD_PEERS", value_name = "1=HOST:PORT,2=HOST:PORT,...")]
    pub peers: Option<String>,
    /// Nodes that may run, by their addresses for clients: the cluster's name, members and tables
    /// are asked of the first that answers, and kept with the state for when none does
    #[arg(long, env = "SYNOD_JOIN", value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub join: Vec<String>,
    /// State is kept in DIR/node-N [default: synod-data]
    #[arg(long, env = "SYNOD_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep state in memory only: a node that stops cannot rejoin its cluster
    #[arg(
        long, env = "SYNOD_MEMORY", value_name = "yes|no", num_args = 0..=1, require_equals = true,
        hide_possible_values = true,
        default_missing_value = "yes", value_parser = BoolishValueParser::new()
    )]
    pub memory: Option<bool>,
    /// How state is kept: log, or sqlite if this program was built with it [default: log]
    #[arg(long, env = "SYNOD_STORE")]
    pub store: Option<Store>,
    /// Tables, each NAME, NAME:write-once, NAME:merged+WORD+... (see docs/MERGED.md) or
    /// NAME:primary+WORD+... (see docs/PRIMARY.md) [default: default]
    #[arg(long, env = "SYNOD_TABLES", value_name = "NAME,...")]
    pub tables: Option<String>,
    /// Where clients are listened to [default: 127.0.0.1, port 4100 + N]
    #[arg(long, env = "SYNOD_LISTEN_CLIENTS", value_name = "IP:PORT", value_parser = address)]
    pub listen_clients: Option<SocketAddr>,
    /// Where peers are listened to [default: 127.0.0.1, port 4200 + N]
    #[arg(long, env = "SYNOD_LISTEN_PEERS", value_name = "IP:PORT", value_parser = address)]
    pub listen_peers: Option<SocketAddr>,
    /// Where /metrics and /health are, or off [default: 127.0.0.1, port 4300 + N]
    #[arg(long, env = "SYNOD_LISTEN_METRICS", value_name = "IP:PORT|off")]
    pub listen_metrics: Option<Where>,
    /// What the log looks like [default: text]
    #[arg(long, env = "SYNOD_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// How much is logged: error, warn, info, debug, trace [default: info]
    #[arg(long, env = "SYNOD_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<tracing::Level>,
    /// Connections of clients at most [default: 10000, or as many as files may be open]
    #[arg(long, env = "SYNOD_CLIENTS_MAX", value_name = "N")]
    pub clients_max: Option<usize>,
    /// How long a client may take to send a request or to read what it is sent [default: 30s]
    #[arg(long, env = "SYNOD_STALL_TIMEOUT", value_name = "TIME", value_parser = parse_duration)]
    pub stall_timeout: Option<Duration>,
    /// When a link to a peer that is down is tried again: FIRST..MAX, doubling and with jitter;
    /// TIME, always after as long; or never, unless told to by `synod reconnect` [default:
    /// 20ms..1s]
    #[arg(long, env = "SYNOD_RECONNECT", value_name = "TIME|FIRST..MAX|never")]
    pub reconnect: Option<Reconnect>,
    /// A file with a password that clients have to say first
    #[arg(long, env = "SYNOD_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

impl Given {
    /// Of what excludes each other, that which was said more strongly stands: a flag before the
    /// environment.
    ///
    /// # Errors
    /// Both were said in the same way.
    pub fn settle(&mut self, matches: &ArgMatches) -> Result<(), SettingsError> {
        let pairs = [
            ("memory", "data_dir", "--memory and --data-dir exclude each other"),
            ("memory", "store", "--memory and --store exclude each other"),
            ("join", "peers", "--join and --peers exclude each other"),
            ("join", "size", "--join and --size exclude each other"),
        ];
        for (one, other, why) in pairs {
            if !(self.says(one) && self.says(other)) {
                continue;
            }
            match matches.value_source(one).cmp(&matches.value_source(other)) {
                Ordering::Less => self.forget(one),
                Ordering::Greater => self.forget(other),
                Ordering::Equal => return Err(bad(one, why)),
            }
        }
        Ok(())
    }

    /// Whether something is said that another setting can contradict.
    fn says(&self, what: &str) -> bool {
        match what {
            "data_dir" => self.data_dir.is_some(),
            "join" => !self.join.is_empty(),
            "memory" => self.memory == Some(true),
            "peers" => self.peers.is_some(),
            "size" => self.size.is_some(),
            _ => self.store.is_some(),
        }
    }

    fn forget(&mut self, what: &str) {
        match what {
            "data_dir" => self.data_dir = None,
            "join" => self.join.clear(),
            "memory" => self.memory = None,
            "peers" => self.peers = None,
            "size" => self.size = None,
            _ => self.store = None,
        }
    }

    /// Where state is to be kept; nowhere if in memory.
    ///
    /// # Errors
    /// The file cannot be read, or makes no sense of it.
    pub fn data_dir(&self) -> Result<Option<PathBuf>, SettingsError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(data_dir(self, &file)?.path())
    }

    /// The file with the password, if there is one.
    ///
    /// # Errors
    /// The file of settings cannot be read.
    pub fn password_file(&self) -> Result<Option<PathBuf>, SettingsError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(self.password_file.clone().or(file.password_file))
    }
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Here, as nothing else was said.
    Default,
    Memory,
    Named(PathBuf),
}

impl Place {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Default => Some(PathBuf::from("synod-data")),
            Self::Memory => None,
            Self::Named(path) => Some(path.clone()),
        }
    }
}

fn data_dir(given: &Given, file: &File) -> Result<Place, SettingsError> {
    let named = |path: &PathBuf| Place::Named(path.clone());
    match (given.memory, &given.data_dir) {
        (Some(true), _) => return Ok(Place::Memory),
        (_, Some(path)) => return Ok(named(path)),
        (_, None) => {}
    }
    let memory = given.memory.is_none() && file.memory == Some(true);
    if memory && file.data_dir.is_some() {
        return Err(bad("memory", "state is kept in memory or in data_dir, not in both"));
    }
    let place = file.data_dir.as_ref().map_or(Place::Default, named);
    Ok(if memory { Place::Memory } else { place })
}

/// What a file says. Times are in milliseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    cluster: Option<String>,
    size: Option<u16>,
    data_dir: Option<PathBuf>,
    memory: Option<bool>,
    store: Option<String>,
    log_format: Option<LogFormat>,
    log_level: Option<String>,
    clients_max: Option<usize>,
    stall_timeout: Option<String>,
    /// Bytes a second.
    merge_rate: Option<u32>,
    reconnect: Option<String>,
    password_file: Option<PathBuf>,
    listen: ListenFile,
    peers: BTreeMap<String, String>,
    /// What merged tables are unless they say otherwise, in words.
    merged: Option<String>,
    tables: Vec<TableFile>,
    timing: TimingFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListenFile {
    clients: Option<String>,
    peers: Option<String>,
    metrics: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    name: String,
    #[serde(default)]
    write_once: bool,
    /// Of a merged table, what it is, in words; perhaps none.
    merged: Option<String>,
    /// Of a primary table, likewise.
    primary: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimingFile {
    heartbeat: Option<u64>,
    down: Option<u64>,
    up: Option<u64>,
    sweep: Option<u64>,
    round: Option<u64>,
}

impl TimingFile {
    /// What it says, by name.
    fn said(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("heartbeat", self.heartbeat),
            ("down", self.down),
            ("up", self.up),
            ("sweep", self.sweep),
            ("round", self.round),
        ];
        all.into_iter().filter_map(|(name, it)| Some((name, it?))).collect()
    }
}

/// Why a server cannot be started as it is told to.
#[derive(Debug)]
pub enum SettingsError {
    /// What was said makes no sense.
    Bad {
        /// Which setting.
        what: &'static str,
        /// Why, and what would be right.
        why: String,
    },
    /// The engine cannot run with it.
    Config(ConfigError),
    /// The file is not what it should be, or cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why, and in which line.
        why: String,
    },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { what, why } => write!(f, "{what}: {why}"),
            Self::Config(error) => write!(f, "{error}"),
            Self::File { path, why } => write!(f, "{}: {}", path.display(), why.trim_end()),
        }
    }
}

impl std::error::Error for SettingsError {}

fn bad(what: &'static str, why: impl Into<String>) -> SettingsError {
    SettingsError::Bad { what, why: why.into() }
}

/// Everything a server needs to know, whichever node it will be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: String,
    /// The seats, and where their nodes are listened for by peers.
    pub members: BTreeMap<NodeId, String>,
    /// Where state is kept, or nowhere.
    pub data_dir: Option<PathBuf>,
    /// Whether somebody chose that.
    pub is_data_dir_named: bool,
    /// How.
    pub store: Store,
    /// The tables.
    pub tables: Vec<TableConfig>,
    /// What merged tables are unless they say otherwise, in words.
    pub merged: String,
    /// Where clients are listened to, if it is said.
    pub listen_clients: Option<SocketAddr>,
    /// Where peers are.
    pub listen_peers: Option<SocketAddr>,
    /// Where metrics are.
    pub listen_metrics: Option<Where>,
    /// What the log looks like.
    pub log_format: LogFormat,
    /// How much is logged.
    pub log_level: tracing::Level,
    /// Connections of clients at most.
    pub clients_max: usize,
    /// How long a client may take to send one request, and to read anything it is sent.
    pub stall_timeout: Duration,
    /// Bytes a second that are asked of others when merged tables meet again, if it is not the
    /// default.
    pub merge_rate: Option<u32>,
    /// When a link that is down is tried again.
    pub reconnect: Reconnect,
    /// What clients have to say first.
    pub password: Option<Vec<u8>>,
    /// Times that differ from the defaults, by name, in milliseconds.
    timing: Vec<(&'static str, u64)>,
}

impl Settings {
    /// Puts together what was said: flags before the file, the file before defaults.
    ///
    /// # Errors
    /// The first thing that makes no sense, and where.
    pub fn new(choice: NodeChoice, given: &Given) -> Result<Self, SettingsError> {
        let file = given.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let place = data_dir(given, &file)?;
        let peers = match &given.peers {
            Some(text) => parse_peers(text)?,
            None => file_peers(&file)?,
        };
        let size = given.size.or(file.size);
        let members = members(choice, size, peers)?;
        let tables = tables(given.tables.as_deref(), &file)?;
        let cluster = given.cluster.clone().or(file.cluster).unwrap_or_else(|| "synod".to_owned());
        if !is_table_name(&cluster) {
            return Err(bad("cluster", NAME_RULE));
        }
        let store = file.store.as_deref().map(Store::from_str).transpose();
        let store = store.map_err(|error| bad("store", error.to_string()))?;
        let listen = |what, text: &Option<String>| {
            let address = text.as_deref().map(address).transpose();
            address.map_err(|why| bad(what, why))
        };
        let clients = listen("listen.clients", &file.listen.clients)?;
        let peers = listen("listen.peers", &file.listen.peers)?;
        let metrics = file.listen.metrics.as_deref().map(Where::from_str).transpose();
        let metrics = metrics.map_err(|why| bad("listen.metrics", why))?;
        let level = file.log_level.as_deref().map(tracing::Level::from_str).transpose();
        let level = level.map_err(|_| bad("log_level", "error, warn, info, debug or trace"))?;
        let stall = file.stall_timeout.as_deref().map(parse_duration).transpose();
        let stall = stall.map_err(|why| bad("stall_timeout", why))?;
        let reconnect = file.reconnect.as_deref().map(Reconnect::from_str).transpose();
        let reconnect = reconnect.map_err(|why| bad("reconnect", why))?;
        let password_file = given.password_file.clone().or(file.password_file);
        let settings = Self {
            cluster,
            members,
            data_dir: place.path(),
            is_data_dir_named: place != Place::Default,
            store: given.store.or(store).unwrap_or_default(),
            tables,
            merged: file.merged.clone().unwrap_or_default(),
            listen_clients: given.listen_clients.or(clients),
            listen_peers: given.listen_peers.or(peers),
            listen_metrics: given.listen_metrics.or(metrics),
            log_format: given.log_format.or(file.log_format).unwrap_or_default(),
            log_level: given.log_level.or(level).unwrap_or(tracing::Level::INFO),
            clients_max: given.clients_max.or(file.clients_max).unwrap_or(10_000),
            stall_timeout: given.stall_timeout.or(stall).unwrap_or(Duration::from_secs(30)),
            merge_rate: file.merge_rate,
            reconnect: given.reconnect.or(reconnect).unwrap_or_default(),
            password: password_file.as_deref().map(read_password).transpose()?,
            timing: file.timing.said(),
        };
        if settings.clients_max == 0 {
            return Err(bad("clients_max", "must be more than zero"));
        }
        for node in settings.candidates(choice) {
            settings.check_peers_address(node)?;
            settings.config(node).check().map_err(SettingsError::Config)?;
        }
        Ok(settings)
    }

    /// Where a node's state is kept, unless in memory.
    #[must_use]
    pub fn directory(&self, node: NodeId) -> Option<PathBuf> {
        Some(self.data_dir.as_ref()?.join(format!("node-{}", node.0)))
    }

    /// The nodes that this server could be, the first preferred.
    #[must_use]
    pub fn candidates(&self, choice: NodeChoice) -> Vec<NodeId> {
        match choice {
            NodeChoice::Number(node) => vec![NodeId(node)],
            NodeChoice::Free => self.members.keys().copied().filter(|node| node.0 > 0).collect(),
        }
    }

    /// What the engine of `node` is told.
    #[must_use]
    pub fn config(&self, node: NodeId) -> Config {
        let mut config = Config::new(node);
        config.cluster = ClusterId(fnv1a(self.cluster.as_bytes()));
        config.members = self.members.keys().copied().collect();
        config.cluster_size = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        config.tables.clone_from(&self.tables);
        config.limits.merge_rate = self.merge_rate.unwrap_or(config.limits.merge_rate);
        for (name, milliseconds) in &self.timing {
            let duration = Duration::from_millis(*milliseconds);
            match *name {
                "heartbeat" => config.timing.heartbeat = duration,
                "down" => config.timing.down = duration,
                "up" => config.timing.up = duration,
                "sweep" => config.timing.sweep = duration,
                _ => config.timing.round = duration,
            }
        }
        config
    }

    /// A name may mean other addresses here than elsewhere: which one to listen on must be said.
    fn check_peers_address(&self, node: NodeId) -> Result<(), SettingsError> {
        let Some(address) = self.members.get(&node) else { return Ok(()) };
        if self.listen_peers.is_some() || address.parse::<SocketAddr>().is_ok() {
            return Ok(());
        }
        Err(bad(
            "peers",
            format!(
                "node {} is at {address}, which is a name: say on which address to listen, such \
                 as --listen-peers 0.0.0.0:{}",
                node.0,
                address.rsplit(':').next().unwrap_or_default()
            ),
        ))
    }

    /// Where `node` listens to clients.
    #[must_use]
    pub fn clients_address(&self, node: NodeId) -> SocketAddr {
        self.listen_clients.unwrap_or_else(|| own(CLIENTS_PORT, node))
    }

    /// Where it listens to peers.
    #[must_use]
    pub fn peers_address(&self, node: NodeId) -> SocketAddr {
        self.listen_peers.unwrap_or_else(|| {
            // Where others look for it, if that is an address of this machine by its look.
            let address = self.members.get(&node).and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| own(PEERS_PORT, node))
        })
    }

    /// Where it serves metrics.
    #[must_use]
    pub fn metrics_address(&self, node: NodeId) -> Option<SocketAddr> {
        match self.listen_metrics {
            Some(Where::At(address)) => Some(address),
            Some(Where::Off) => None,
            None => Some(own(METRICS_PORT, node)),
        }
    }
}

const NAME_RULE: &str = "a name is 1 to 64 letters, digits, dots, dashes and underscores";

fn own(base: u16, node: NodeId) -> SocketAddr {
    // A higher number has no port of its own: the system chooses one, and the log names it.
    let port = if node.0 <= NUMBERED_MAX { base + node.0 } else { 0 };
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn read(path: &Path) -> Result<File, SettingsError> {
    let wrong = |why: String| SettingsError::File { path: path.to_owned(), why };
    let text = String::from_utf8(read_file(path)?).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1
        });
        wrong(format!("line {line}: {}", error.message().replace('\n', " ")))
    })
}

/// A number and its unit: `500ms`, `10s`, `2m`, `1h`.
///
/// # Errors
/// What it should look like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // As long as a server lets anybody wait.
    let day = Duration::from_secs(86_400);
    parse_time(text).filter(|time| *time <= day).ok_or_else(|| format!("{TIME_RULE}; 24h at most"))
}

/// Likewise, of what may take for as long as a deadline can be away.
///
/// # Errors
/// What it should look like.
pub fn parse_lifetime(text: &str) -> Result<Duration, String> {
    parse_time(text).ok_or_else(|| TIME_RULE.to_owned())
}

const TIME_RULE: &str = "a time is a number and ms, s, m or h, such as 500ms";

/// A number and its unit, if it is more than zero.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
    (total > 0).then_some(Duration::from_millis(total))
}

fn parse_peers(text: &str) -> Result<BTreeMap<NodeId, String>, SettingsError> {
    let mut peers = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (node, address) = part
            .split_once('=')
            .ok_or_else(|| bad("peers", format!("'{part}' is not NUMBER=HOST:PORT")))?;
        add_peer(&mut peers, node, address)?;
    }
    Ok(peers)
}

fn file_peers(file: &File) -> Result<BTreeMap<NodeId, String>, SettingsError> {
    let mut peers = BTreeMap::new();
    for (node, address) in &file.peers {
        add_peer(&mut peers, node, address)?;
    }
    Ok(peers)
}

fn add_peer(
    peers: &mut BTreeMap<NodeId, String>,
    node: &str,
    address: &str,
) -> Result<(), SettingsError> {
    let (node, address) = (node.trim(), address.trim());
    let number: u16 =
        node.parse().map_err(|_| bad("peers", format!("'{node}' is no node's number")))?;
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        port.parse::<u16>().ok().filter(|port| !host.is_empty() && *port > 0)
    });
    if port.is_none() {
        return Err(bad("peers", format!("'{address}' is not HOST:PORT")));
    }
    // However an address is written, two nodes cannot both be there.
    let plain = |address: &str| {
        let parsed = address.parse::<SocketAddr>().map(|address| address.to_string());
        parsed.unwrap_or_else(|_| address.to_ascii_lowercase())
    };
    let other = peers.iter().find(|(_, known)| plain(known) == plain(address));
    if let Some((NodeId(other), _)) = other.filter(|(other, _)| other.0 != number) {
        return Err(bad("peers", format!("nodes {other} and {number} are both at {address}")));
    }
    if peers.insert(NodeId(number), address.to_owned()).is_some() {
        return Err(bad("peers", format!("node {number} is listed twice")));
    }
    Ok(())
}

fn members(
    choice: NodeChoice,
    size: Option<u16>,
    peers: BTreeMap<NodeId, String>,
) -> Result<BTreeMap<NodeId, String>, SettingsError> {
    if !peers.is_empty() {
        if size.is_some_and(|size| usize::from(size) != peers.len()) {
            return Err(bad("size", format!("{} nodes are listed as peers", peers.len())));
        }
        if let NodeChoice::Number(node) = choice
            && !peers.contains_key(&NodeId(node))
        {
            return Err(bad("peers", format!("node {node} is not among them")));
        }
        return Ok(peers);
    }
    let address = |node: u16| (NodeId(node), own(PEERS_PORT, NodeId(node)).to_string());
    if choice == NodeChoice::Number(0) {
        // P-30: it dials nobody.
        if size.is_some_and(|size| size != 1) {
            return Err(bad("size", "node 0 is a cluster on its own; number nodes from 1"));
        }
        return Ok(BTreeMap::from([address(0)]));
    }
    let size = size.unwrap_or(3);
    if size == 0 || size > NUMBERED_MAX {
        return Err(bad("size", format!("must be from 1 to {NUMBERED_MAX}; list peers for more")));
    }
    if let NodeChoice::Number(node) = choice
        && node > size
    {
        return Err(bad(
            "node",
            format!(
                "the cluster has nodes 1 to {size}; start all with --size {node}, or list --peers"
            ),
        ));
    }
    Ok((1..=size).map(address).collect())
}

/// The tables of the command line, or else of the file, or else one.
fn tables(given: Option<&str>, file: &File) -> Result<Vec<TableConfig>, SettingsError> {
    let defaults = file.merged.as_deref().unwrap_or_default();
    let table = |it: &TableFile| match (&it.merged, &it.primary, it.write_once) {
        (Some(words), None, false) => {
            let schema = parse_schema(defaults, words).map_err(|error| bad("tables", error))?;
            Ok(TableConfig::merged(it.name.clone(), schema))
        }
        (None, Some(words), false) => {
            let schema = primary::Schema::default().with_words(words);
            let schema = schema.map_err(|error| bad("tables", error))?;
            Ok(TableConfig::primary_table(it.name.clone(), schema))
        }
        (None, None, true) => Ok(TableConfig::write_once(it.name.clone())),
        (None, None, false) => Ok(TableConfig::consensus(it.name.clone())),
        (Some(_), Some(_), _) | (Some(_), None, true) | (None, Some(_), true) => {
            let why = format!("{} can be one of merged, primary and write-once", it.name);
            Err(bad("tables", why))
        }
    };
    let tables: Vec<TableConfig> = match given {
        Some(text) => parse_tables(text, defaults)?,
        None if file.tables.is_empty() => parse_tables("default", defaults)?,
        None => file.tables.iter().map(table).collect::<Result<_, _>>()?,
    };
    if tables.iter().any(|table| !is_table_name(&table.name)) {
        return Err(bad("tables", NAME_RULE));
    }
    Ok(tables)
}

fn parse_tables(text: &str, defaults: &str) -> Result<Vec<TableConfig>, SettingsError> {
    let mut tables: Vec<TableConfig> = Vec::new();
    for part in text.split(',') {
        let table = parse_table(part.trim(), defaults).map_err(|error| bad("tables", error))?;
        if tables.iter().any(|known| known.name == table.name) {
            return Err(bad("tables", format!("two tables are named {}", table.name)));
        }
        tables.push(table);
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(choice: &str, given: Given) -> Result<Settings, String> {
        let choice = choice.parse().expect("a node");
        Settings::new(choice, &given).map_err(|error| error.to_string())
    }

    #[test]
    fn three_nodes_need_nothing_said() {
        let settings = settings("2", Given::default()).expect("good");
        assert_eq!(settings.members.len(), 3);
        assert_eq!(settings.clients_address(NodeId(2)).to_string(), "127.0.0.1:4102");
        assert_eq!(settings.peers_address(NodeId(2)).to_string(), "127.0.0.1:4202");
        assert_eq!(settings.members[&NodeId(3)], "127.0.0.1:4203");
        assert_eq!(settings.data_dir, Some(PathBuf::from("synod-data")));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_lifetime("720h"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "5", "s", "0s", "-1s", "1d", "25h", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
            assert!(wrong == "25h" || parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn node_0_is_alone() {
        let settings = settings("0", Given::default()).expect("good");
        assert_eq!(settings.members.keys().collect::<Vec<_>>(), [&NodeId(0)]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let peers = |text: &str| Given { peers: Some(text.to_owned()), ..Given::default() };
        let tables = |text: &str| Given { tables: Some(text.to_owned()), ..Given::default() };
        let size = |size| Given { size: Some(size), ..Given::default() };
        for (node, given, expected) in [
            ("4", Given::default(), "node: the cluster has nodes 1 to 3; start all with --size 4"),
            ("1", size(0), "size: must be from 1 to 99"),
            ("0", size(3), "size: node 0 is a cluster on its own"),
            ("1", peers("1"), "peers: '1' is not NUMBER=HOST:PORT"),
            ("1", peers("1=host"), "peers: 'host' is not HOST:PORT"),
            ("1", peers("x=a:1"), "peers: 'x' is no node's number"),
            ("1", peers("1=a:1,1=b:1"), "peers: node 1 is listed twice"),
            ("1", peers("1=a:1,2=A:1"), "peers: nodes 1 and 2 are both at A:1"),
            ("1", peers("3=[::1]:7,2=[0::1]:7"), "peers: nodes 3 and 2 are both at [0::1]:7"),
            ("3", peers("1=a:1,2=b:1"), "peers: node 3 is not among them"),
            ("1", peers("1=db1:42"), "peers: node 1 is at db1:42, which is a name: say on which"),
            ("1", tables("a,a"), "tables: two tables are named a"),
            (
                "1",
                tables("a:often"),
                "tables: 'often' is neither write-once nor merged nor primary",
            ),
            ("1", tables("a b"), "tables: a name is 1 to 64"),
        ] {
            let error = settings(node, given).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
        let error = "tape".parse::<Store>().expect_err("no store").to_string();
        assert!(
            error.starts_with("there is no store \"tape\" in this program: use log"),
            "{error}"
        );
        assert!("x".parse::<NodeChoice>().is_err());
        assert!("70000".parse::<NodeChoice>().is_err());
    }
}
