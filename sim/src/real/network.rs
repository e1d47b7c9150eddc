//! How nodes reach each other: over relays of the rig's, or in network namespaces of their own.
//!
//! Must never know: when and why a link is cut.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::links::{Relays, Way};

const CLIENTS_PORT: u16 = 4100;
const PEERS_PORT: u16 = 4200;

/// What lies between nodes.
#[derive(Debug)]
pub enum Network {
    /// Relays on loopback.
    Relays {
        /// The addresses of nodes.
        hosts: BTreeMap<u16, IpAddr>,
        /// What they dial each other through.
        relays: Relays,
    },
    /// A namespace for each node, on one bridge; a way is cut by a route that leads nowhere.
    Spaces {
        /// The addresses of nodes.
        hosts: BTreeMap<u16, IpAddr>,
        /// By how many faults each way is cut.
        cuts: Mutex<BTreeMap<Way, u32>>,
    },
}

/// The name of a node's network namespace. They are private to this process, so it need not differ
/// from others'.
fn space(node: u16) -> String {
    format!("synod-{node}")
}

fn ip(words: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("ip {}: {why}", words.join(" "))))
}

impl Network {
    /// Relays between nodes on loopback addresses that are this process's alone.
    ///
    /// # Errors
    /// If they cannot be listened to: only Linux has a whole network of loopback addresses.
    pub fn relays(nodes: u16) -> io::Result<Self> {
        let id = std::process::id();
        let (high, low) = (64 + (id >> 8 & 63) as u8, (id & 255) as u8);
        let host = |node| IpAddr::V4(Ipv4Addr::new(127, high, low, node as u8));
        let hosts: BTreeMap<u16, IpAddr> = (1..=nodes).map(|node| (node, host(node))).collect();
        let peers = hosts.iter().map(|(node, host)| (*node, SocketAddr::new(*host, PEERS_PORT)));
        let relays = Relays::start(&peers.collect())?;
        Ok(Self::Relays { hosts, relays })
    }

    /// A network namespace for each node. Everything made here vanishes with the namespace that
    /// this process is in, which must be one of its own.
    ///
    /// # Errors
    /// If that is not permitted.
    pub fn spaces(nodes: u16) -> io::Result<Self> {
        let host = |node: u16| IpAddr::V4(Ipv4Addr::new(10, 77, 0, node as u8));
        // Names of namespaces are files. A file system of our own takes them with it.
        std::fs::create_dir_all("/run/netns")?;
        super::room::mount("/run/netns".as_ref(), 1)?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", "synod", "type", "bridge"])?;
        ip(&["addr", "add", "10.77.0.254/24", "dev", "synod"])?;
        ip(&["link", "set", "synod", "up"])?;
        for node in 1..=nodes {
            let (name, outside) = (space(node), format!("synod{node}"));
            ip(&["netns", "add", &name])?;
            ip(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["link", "set", &outside, "master", "synod", "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", host(node)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        let hosts = (1..=nodes).map(|node| (node, host(node))).collect();
        Ok(Self::Spaces { hosts, cuts: Mutex::default() })
    }

    const fn hosts(&self) -> &BTreeMap<u16, IpAddr> {
        match self {
            Self::Relays { hosts, .. } | Self::Spaces { hosts, .. } => hosts,
        }
    }

    /// The numbers of the nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<u16> {
        self.hosts().keys().copied().collect()
    }

    /// Where a node is to listen to clients.
    #[must_use]
    pub fn clients_address(&self, node: u16) -> SocketAddr {
        SocketAddr::new(self.hosts()[&node], CLIENTS_PORT)
    }

    /// Where a node is to listen to peers.
    #[must_use]
    pub fn peers_address(&self, node: u16) -> SocketAddr {
        SocketAddr::new(self.hosts()[&node], PEERS_PORT)
    }

    /// Where one node dials another.
    #[must_use]
    pub fn dialled(&self, way: Way) -> SocketAddr {
        match self {
            Self::Relays { relays, .. } => relays.address(way),
            Self::Spaces { .. } => self.peers_address(way.1),
        }
    }

    /// The words before a node's command line that put it where it belongs.
    #[must_use]
    pub fn prefix(&self, node: u16) -> Vec<String> {
        match self {
            Self::Relays { .. } => Vec::new(),
            Self::Spaces { .. } => {
                ["ip", "netns", "exec", &space(node)].map(str::to_owned).to_vec()
            }
        }
    }

    /// Whether links can be delayed and reset, or only cut.
    #[must_use]
    pub const fn is_relayed(&self) -> bool {
        matches!(self, Self::Relays { .. })
    }

    /// Cuts ways, or heals them. Cuts add up.
    ///
    /// # Errors
    /// If the operating system does not.
    pub fn cut(&self, ways: &[Way], cut: bool) -> io::Result<()> {
        match self {
            Self::Relays { relays, .. } => {
                relays.cut(ways, cut);
                Ok(())
            }
            Self::Spaces { hosts, cuts } => {
                let mut cuts = cuts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                for way in ways {
                    let count = cuts.entry(*way).or_default();
                    let before = *count;
                    *count = if cut { before + 1 } else { before.saturating_sub(1) };
                    if (before == 0) != (*count == 0) {
                        let verb = if cut { "add" } else { "del" };
                        let (name, host) = (space(way.0), format!("{}/32", hosts[&way.1]));
                        ip(&["-n", &name, "route", verb, "blackhole", &host])?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Everything takes longer on these ways; nothing if links cannot be delayed.
    pub fn delay(&self, ways: &[Way], by: Duration) {
        if let Self::Relays { relays, .. } = self {
            relays.delay(ways, by);
        }
    }

    /// Resets connections and refuses new ones, or no longer; nothing if that cannot be done.
    pub fn refuse(&self, ways: &[Way], refuse: bool) {
        if let Self::Relays { relays, .. } = self {
            relays.refuse(ways, refuse);
        }
    }
}
