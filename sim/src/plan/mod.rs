//! A plan: everything that makes a run, explicit, printable, editable and replayable.
//!
//! Seeds, property tests, fuzzer bytes, hand-written files and shrunk failures all meet here. A
//! plan holds no behaviour: the same value makes the same run on every machine.
//!
//! Must never know: how a run goes.

mod check;
mod generate;
mod shrink;
mod text;

use std::fmt;

use synod::TableId;
use synod::merged::Schema;
use synod::primary;

pub use check::PlanError;
pub use generate::Options;
pub use shrink::{ItemId, Simplification};

/// A span or an instant of true time, in nanoseconds since the start of the run.
pub type Nanos = u64;

/// A microsecond.
pub const MICRO: Nanos = 1_000;
/// A millisecond.
pub const MILLI: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// The most nodes of a plan: the simulator's matrices are of this width.
pub const NODES_MAX: u16 = 16;
/// The most clients of a plan.
pub const CLIENTS_MAX: u16 = 64;
/// The most keys of a table of a plan.
pub const KEYS_MAX: u16 = 64;
/// The most tables of a plan.
pub const TABLES_MAX: usize = 16;
/// How often clients may have a table dropped: each made after that is another to the oracle.
pub(crate) const DROPS_MAX: usize = 8;
/// How long a row may be, unless a plan says otherwise: as long as the engine has it.
pub const ROW_MAX: u32 = 1 << 20;

/// Rows of a difference that one step puts in, unless a plan says otherwise: more than there are.
pub const MERGE_ROWS: u32 = 1_000;

/// Committed entries that a primary table keeps, unless a plan says otherwise: as the engine does.
pub const HISTORY_MAX: u32 = 1 << 14;
/// The longest time in a plan, some three years: so that no sum of times leaves its range.
pub const TIME_MAX: Nanos = 100_000_000 * SECOND;
/// How far a wall clock or a deadline may be off at most, some thirty years either way.
pub const CLOCK_MAX: Nanos = 1_000_000_000 * SECOND;

/// Everything that makes a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The scenario it was made for.
    pub scenario: String,
    /// The seed of every keyed draw of the run.
    pub seed: u64,
    /// What orders events.
    pub mode: Mode,
    /// The nodes.
    pub cluster: Cluster,
    /// The tables.
    pub tables: Vec<Table>,
    /// How many keys each table has: `k0`, `k1`, ...
    pub keys: u16,
    /// How many clients: 1 to this.
    pub clients: u16,
    /// How links behave when no fault is active.
    pub network: Network,
    /// How disks behave when no fault is active.
    pub disk: Disk,
    /// What applications do about conflicts of tables that are `custom`; nothing if none.
    pub resolvers: Option<Resolvers>,
    /// When faults end, even if operations are left.
    pub safety: Nanos,
    /// How long the healed core has to settle; longer is no progress.
    pub liveness: Nanos,
    /// What clients do, each client's in this order.
    pub operations: Vec<Operation>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// In free mode, what is chosen at each step; 0 beyond the end.
    pub choices: Vec<u32>,
}

/// What orders events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Choices: any event that is possible may be next.
    Free,
    /// Latencies.
    #[default]
    Timed,
}

/// The nodes: members 1 to `nodes` of `size` seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many nodes there are.
    pub nodes: u16,
    /// The configured size; at least `nodes`, the rest vacant.
    pub size: u16,
    /// Whether new storage is witnessed by peers (or only vouched for).
    pub witnessed: bool,
    /// Between heartbeats.
    pub heartbeat: Nanos,
    /// Silence after which a node counts as down.
    pub down: Nanos,
    /// How long a quorum must be heard to count as reached.
    pub up: Nanos,
    /// Between sweeps of bound entries.
    pub sweep: Nanos,
    /// How long a round may take.
    pub round: Nanos,
    /// The first backoff.
    pub backoff: Nanos,
    /// The longest backoff.
    pub backoff_max: Nanos,
    /// Requests in flight at one node.
    pub requests_max: u32,
    /// Bytes of a value, and of a key unless that is more than a key may have anyway. Replicas of
    /// primary tables send each other no more at a time.
    pub row_max: u32,
    /// Committed entries of a primary table kept for replicas that lack no more.
    pub history_max: u32,
    /// Rows of a difference between copies of a merged table that one step puts in. If they are
    /// fewer than by default, chunks have about so many rows, too, and no more than fifty are
    /// asked for in a second.
    pub merge_rows: u32,
    /// How far the wall clocks are apart at the start, at most.
    pub wall_spread: Nanos,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What it promises.
    pub discipline: Discipline,
}

/// What a table promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// One order of all writes.
    Consensus,
    /// One order of all writes, of which there is one for each key, `put_if_absent`.
    WriteOnce,
    /// Copies that become equal. Such tables stand behind those of consensus.
    Merged(Schema),
    /// The same, made and dropped by clients while nodes run. Such tables stand behind all others.
    Listed(Schema),
    /// One order of all writes, made by one of the copies. Such tables stand behind those of
    /// consensus.
    Primary(primary::Schema),
    /// The same, made by clients while nodes run: the last table of a plan.
    Made(primary::Schema),
}

/// How links behave when no fault is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The least a message takes.
    pub latency: Nanos,
    /// What it may take more, evenly drawn; more than the gap between two messages reorders them.
    pub jitter: Nanos,
    /// How many of a million messages are lost.
    pub loss: u32,
    /// How many of a million messages are delivered twice.
    pub duplicate: u32,
    /// How many of a million messages make a round trip through their wire format.
    pub wire: u32,
}

/// How disks behave when no fault is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The least a write takes.
    pub latency: Nanos,
    /// What it may take more, evenly drawn.
    pub jitter: Nanos,
}

/// How applications resolve conflicts of merged tables that are `custom`: one beside each copy, for
/// as long as its node's process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvers {
    /// How long the second node in turn leaves a conflict to the first.
    pub patience: Nanos,
    /// How many of a million calls end with an error; a fourth as many rounds are refused.
    pub failing: u32,
    /// How many of a million calls panic.
    pub panicking: u32,
    /// How many of a million rounds take their time over their answers,
    pub stalling: u32,
    /// and how long at most.
    pub stall: Nanos,
}

/// One key of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The place of the table in [`Plan::tables`].
    pub table: u16,
    /// The number of the key.
    pub key: u16,
}

/// One thing that a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number, by which draws and values are keyed: never reused within a plan.
    pub id: u32,
    /// Which client, from 1.
    pub client: u16,
    /// How long after the end of the client's operation before it.
    pub after: Nanos,
    /// Which node is asked, from 1; another one if that is down.
    pub node: u16,
    /// How long the client is willing to wait.
    pub patience: Nanos,
    /// How often it is sent again after an unknown outcome or a crash.
    pub again: u8,
    /// Whether the node keeps trying without a quorum, rather than refuse at once.
    pub persistent: bool,
    /// What is asked.
    pub act: Act,
}

/// What a client asks. Values are not given: each is `CLIENT.ID`, so all are distinct.
///
/// Of a merged table it asks for what is nearest. Every fourth write is of two keys at once. A
/// compare-and-set, and a `put_if_absent`, are writes guarded by what the key is to show; a removal
/// of what was last seen is that of one value; a fence resolves the conflict that the client last
/// saw. There are no bindings. Of one that is made while nodes run a watch asks that it be made, an
/// unwatch that it be dropped; until a client knows that it is there it asks for nothing else.
///
/// Where clients make a primary table, to close a session is to drop it, and to open one is to want
/// it made as another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// End the client's session.
    CloseSession,
    /// Compare and set.
    CompareAndSet(Address, Guess, Vec<Tie>),
    /// Write what is there again.
    Fence(Address),
    /// Read.
    Get(Address),
    /// Read what the node knows.
    GetLocal(Address),
    /// List keys of a table, at most so many.
    Keys(u16, u32),
    /// Open a session at the node asked, and use it from now on.
    OpenSession,
    /// Overwrite.
    Put(Address, Vec<Tie>),
    /// Put unless present.
    PutIfAbsent(Address, Vec<Tie>),
    /// Remove; only the life last seen by this client, if `true`.
    Remove(Address, bool),
    /// Ask the node about itself.
    Status,
    /// Watch the ends of a key's lives at the node asked.
    Watch(Address),
    /// Stop watching.
    Unwatch(Address),
}

/// What a compare-and-set compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Absence.
    Absent,
    /// The value that this client last saw there; absence if none.
    Seen,
    /// The version that this client last saw there; absence if none.
    Version,
}

/// What an entry is to be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Another key's present life.
    Key(Address),
    /// A node's present membership life.
    Node(u16),
    /// The client's session; nothing if it never had one.
    Session,
    /// A moment so long after true time at the call; in the past if negative.
    Until(i64),
}

/// One thing that goes wrong, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its number, by which draws are keyed: never reused within a plan.
    pub id: u32,
    /// When.
    pub at: Nanos,
    /// For how long.
    pub lasts: Nanos,
    /// What.
    pub trouble: Trouble,
}

/// A set of nodes: bit `n - 1` is node `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nodes(pub u64);

/// Every link from one of a set to one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// Senders.
    pub from: Nodes,
    /// Receivers.
    pub to: Nodes,
}

/// How a network is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Two sides that hear each other only through the members of both.
    Bridge(Nodes, Nodes),
    /// Exactly these links work; one entry for each sender.
    Graph(Vec<Nodes>),
    /// Islands that hear nothing of each other; nodes of none hear nobody.
    Islands(Vec<Nodes>),
    /// These links do not work; the ways back do.
    OneWay(Links),
    /// Each hears only its two neighbours, in this order.
    Ring(Vec<u16>),
}

/// What a crash leaves of the writes that were outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// The crash waits until the node is in the middle of a write, and keeps a drawn prefix of what
    /// is on its way, or nothing. If the node does not write while the fault lasts, it lives.
    Mid,
    /// None of them.
    None,
    /// A prefix of their records, drawn; the next one torn and cut off at recovery.
    Torn,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Messages are held and then let go at once.
    Clog(Links),
    /// A client dies; it comes back under the same name with nothing.
    Client(u16),
    /// A node's process dies; it is restarted at the end.
    Crash(u16, Keep),
    /// Messages take so much longer.
    Delay(Links, Nanos),
    /// A node cannot write: the first write that fails stops it, until there is room again.
    DiskFull(u16),
    /// Both of a node's clocks run fast or slow, by so many millionths.
    Drift(u16, i32),
    /// So many of a million messages are delivered twice.
    Duplicate(Links, u32),
    /// A node's wall clock stands still, then goes on from there.
    Freeze(u16),
    /// A node is told wrongly that the link to a peer is down, and at the end that it is up.
    Hint(u16, u16),
    /// A node's wall clock jumps for good.
    Jump(u16, i64),
    /// So many of a million messages are lost.
    Loss(Links, u32),
    /// The network is cut; on and off with this half period, if it is not 0.
    Partition(Cut, Nanos),
    /// A node stands still: what comes is delivered in a burst at the end.
    Pause(u16),
    /// All nodes lose power.
    PowerCut(Keep),
    /// At most so many messages are in flight on a link; more are lost.
    Queue(Links, u16),
    /// Messages are held back by up to so much, each its own.
    Reorder(Links, Nanos),
    /// A node crashes, and at recovery finds that its storage is damaged.
    Rot(u16),
    /// A node's wall clock is off by so much, in nanoseconds; then it is set right again.
    Skew(u16, i64),
    /// Writes take so much longer.
    SlowDisk(u16, Nanos),
    /// A node crashes and loses its disk.
    Wipe(u16),
    /// A node's next write fails: its host stops it.
    WriteError(u16),
}

/// The kinds of fault, to be counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FaultKind {
    /// A bridge partition.
    Bridge,
    /// [`Trouble::Clog`].
    Clog,
    /// [`Trouble::Client`].
    Client,
    /// [`Trouble::Crash`].
    Crash,
    /// [`Trouble::Delay`].
    Delay,
    /// [`Trouble::DiskFull`].
    DiskFull,
    /// [`Trouble::Drift`].
    Drift,
    /// [`Trouble::Duplicate`].
    Duplicate,
    /// A partition that comes and goes.
    Flap,
    /// [`Trouble::Freeze`].
    Freeze,
    /// A partition by an arbitrary directed graph.
    Graph,
    /// [`Trouble::Hint`].
    Hint,
    /// A partition into islands.
    Islands,
    /// [`Trouble::Jump`].
    Jump,
    /// [`Trouble::Loss`].
    Loss,
    /// A one-way partition.
    OneWay,
    /// [`Trouble::Pause`].
    Pause,
    /// [`Trouble::PowerCut`].
    PowerCut,
    /// [`Trouble::Queue`].
    Queue,
    /// [`Trouble::Reorder`].
    Reorder,
    /// A partition into a ring.
    Ring,
    /// [`Trouble::Rot`].
    Rot,
    /// [`Trouble::Skew`].
    Skew,
    /// [`Trouble::SlowDisk`].
    SlowDisk,
    /// A crash that tore the last write.
    Torn,
    /// [`Trouble::Wipe`].
    Wipe,
    /// [`Trouble::WriteError`].
    WriteError,
}

impl FaultKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 27] = [
        Self::Bridge,
        Self::Clog,
        Self::Client,
        Self::Crash,
        Self::Delay,
        Self::DiskFull,
        Self::Drift,
        Self::Duplicate,
        Self::Flap,
        Self::Freeze,
        Self::Graph,
        Self::Hint,
        Self::Islands,
        Self::Jump,
        Self::Loss,
        Self::OneWay,
        Self::Pause,
        Self::PowerCut,
        Self::Queue,
        Self::Reorder,
        Self::Ring,
        Self::Rot,
        Self::Skew,
        Self::SlowDisk,
        Self::Torn,
        Self::Wipe,
        Self::WriteError,
    ];

    /// How it is called in tables and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Clog => "clog",
            Self::Client => "client",
            Self::Crash => "crash",
            Self::Delay => "delay",
            Self::DiskFull => "disk_full",
            Self::Drift => "drift",
            Self::Duplicate => "duplicate",
            Self::Flap => "flap",
            Self::Freeze => "freeze",
            Self::Graph => "graph",
            Self::Hint => "hint",
            Self::Islands => "islands",
            Self::Jump => "jump",
            Self::Loss => "loss",
            Self::OneWay => "one_way",
            Self::Pause => "pause",
            Self::PowerCut => "power_cut",
            Self::Queue => "queue",
            Self::Reorder => "reorder",
            Self::Ring => "ring",
            Self::Rot => "rot",
            Self::Skew => "skew",
            Self::SlowDisk => "slow_disk",
            Self::Torn => "torn",
            Self::Wipe => "wipe",
            Self::WriteError => "write_error",
        }
    }
}

impl Trouble {
    /// What it counts as.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Clog(_) => FaultKind::Clog,
            Self::Client(_) => FaultKind::Client,
            Self::Crash(_, Keep::Torn) => FaultKind::Torn,
            Self::Crash(..) => FaultKind::Crash,
            Self::Delay(..) => FaultKind::Delay,
            Self::DiskFull(_) => FaultKind::DiskFull,
            Self::Drift(..) => FaultKind::Drift,
            Self::Duplicate(..) => FaultKind::Duplicate,
            Self::Freeze(_) => FaultKind::Freeze,
            Self::Hint(..) => FaultKind::Hint,
            Self::Jump(..) => FaultKind::Jump,
            Self::Loss(..) => FaultKind::Loss,
            Self::Partition(_, half) if *half > 0 => FaultKind::Flap,
            Self::Partition(Cut::Bridge(..), _) => FaultKind::Bridge,
            Self::Partition(Cut::Graph(_), _) => FaultKind::Graph,
            Self::Partition(Cut::Islands(_), _) => FaultKind::Islands,
            Self::Partition(Cut::OneWay(_), _) => FaultKind::OneWay,
            Self::Partition(Cut::Ring(_), _) => FaultKind::Ring,
            Self::Pause(_) => FaultKind::Pause,
            Self::PowerCut(_) => FaultKind::PowerCut,
            Self::Queue(..) => FaultKind::Queue,
            Self::Reorder(..) => FaultKind::Reorder,
            Self::Rot(_) => FaultKind::Rot,
            Self::Skew(..) => FaultKind::Skew,
            Self::SlowDisk(..) => FaultKind::SlowDisk,
            Self::Wipe(_) => FaultKind::Wipe,
            Self::WriteError(_) => FaultKind::WriteError,
        }
    }
}

impl Nodes {
    /// Every node there is.
    pub const ALL: Self = Self(u64::MAX);

    /// Nodes 1 to `n`.
    #[must_use]
    pub const fn first(n: u16) -> Self {
        Self(if n >= 64 { u64::MAX } else { (1 << n) - 1 })
    }

    /// Whether node `n` is in it.
    #[must_use]
    pub const fn has(self, n: u16) -> bool {
        n > 0 && n <= 64 && self.0 >> (n - 1) & 1 == 1
    }

    /// Adds node `n`.
    pub const fn add(&mut self, n: u16) {
        if n > 0 && n <= 64 {
            self.0 |= 1 << (n - 1);
        }
    }

    /// How many.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The nodes, ascending.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (1..=64).filter(move |&n| self.has(n))
    }
}

impl Plan {
    /// How many acceptors are a quorum.
    #[must_use]
    pub const fn quorum(&self) -> u16 {
        self.cluster.size / 2 + 1
    }

    /// Nodes whose storage the plan destroys; they never come back.
    #[must_use]
    pub fn lost(&self) -> Nodes {
        let mut lost = Nodes::default();
        for fault in &self.faults {
            if let Trouble::Wipe(node) | Trouble::Rot(node) = fault.trouble {
                lost.add(node);
            }
        }
        lost
    }

    /// How many tables are not merged: the first ones.
    #[must_use]
    pub fn consensus_tables(&self) -> usize {
        self.tables.iter().take_while(|table| table.is_consensus()).count()
    }

    /// The merged ones that nodes are configured with, which stand behind them.
    pub(crate) fn merged_tables(&self) -> impl Iterator<Item = TableId> + use<> {
        self.tables_that(|table| matches!(table.discipline, Discipline::Merged(_)))
    }

    /// How often clients have a table dropped, that they may then make again.
    #[must_use]
    pub(crate) fn drops(&self) -> usize {
        let is_drop = |operation: &&Operation| operation.act == Act::CloseSession;
        let is_made = self.tables.iter().any(Table::is_made);
        if is_made { self.operations.iter().filter(is_drop).count() } else { 0 }
    }

    fn tables_that(&self, fits: fn(&Table) -> bool) -> std::vec::IntoIter<TableId> {
        let tables = self.tables.iter().zip(0..).filter(|(table, _)| fits(table));
        let places: Vec<TableId> = tables.map(|(_, place)| TableId(place)).collect();
        places.into_iter()
    }

    const fn has(&self, at: Address) -> bool {
        (at.table as usize) < self.tables.len() && at.key < self.keys
    }
}

impl Table {
    /// Whether it allows `put_if_absent` only.
    #[must_use]
    pub fn is_write_once(&self) -> bool {
        self.discipline == Discipline::WriteOnce
    }

    /// Whether its keys are registers.
    #[must_use]
    pub const fn is_consensus(&self) -> bool {
        matches!(self.discipline, Discipline::Consensus | Discipline::WriteOnce)
    }

    /// What a table with a primary is.
    #[must_use]
    pub const fn primary(&self) -> Option<&primary::Schema> {
        match &self.discipline {
            Discipline::Made(schema) | Discipline::Primary(schema) => Some(schema),
            Discipline::Consensus
            | Discipline::Listed(_)
            | Discipline::Merged(_)
            | Discipline::WriteOnce => None,
        }
    }

    /// What a merged table is.
    #[must_use]
    pub const fn schema(&self) -> Option<&Schema> {
        match &self.discipline {
            Discipline::Listed(schema) | Discipline::Merged(schema) => Some(schema),
            Discipline::Consensus
            | Discipline::Made(_)
            | Discipline::Primary(_)
            | Discipline::WriteOnce => None,
        }
    }

    /// Whether it is merged, and made and dropped while nodes run.
    #[must_use]
    pub const fn is_listed(&self) -> bool {
        matches!(self.discipline, Discipline::Listed(_))
    }

    /// Whether it is a primary table that is made while nodes run.
    #[must_use]
    pub const fn is_made(&self) -> bool {
        matches!(self.discipline, Discipline::Made(_))
    }
}

impl Act {
    /// The key it is about, if it is about one.
    #[must_use]
    pub const fn address(&self) -> Option<Address> {
        match self {
            Self::CompareAndSet(at, ..)
            | Self::Fence(at)
            | Self::Get(at)
            | Self::GetLocal(at)
            | Self::Put(at, _)
            | Self::PutIfAbsent(at, _)
            | Self::Remove(at, _)
            | Self::Watch(at)
            | Self::Unwatch(at) => Some(*at),
            Self::CloseSession | Self::Keys(..) | Self::OpenSession | Self::Status => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}/k{}", self.table, self.key)
    }
}
