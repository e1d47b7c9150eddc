//! How a node is made: for storage never used, storage that holds records, storage that lost some.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::acceptors::ROUND_MAX;
use super::{
    Agreed, Catalogue, Config, ConfigError, Copies, Genesis, Monitors, Node, Record, Replicas,
    TableConfig, Timers,
};
use crate::base::{Epoch, Incarnation, Life, Now, Random, RegisterId, TableId, Ticket};
use crate::cluster::{Reach, Witnesses};
use crate::consensus::{self, Readiness, Registers};
use crate::monitor::{Index, Sessions, Silence};
use crate::paxos::{Ballot, Floor};
use crate::primary;

/// Why a log cannot be continued. The node must not vote with it; see [`Node::lost`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// The configuration is impossible.
    Config(ConfigError),
    /// There are no records: this storage was never used, or has lost everything. Which of the
    /// two is what [`Node::new`] finds out from the peers.
    Empty,
    /// The log was not written by this node of this cluster, or something in it is missing.
    Foreign {
        /// Which record, counted from 0.
        record: usize,
        /// What is wrong with it.
        why: Foreign,
    },
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The first record does not say whose log it is.
    NotBorn,
    /// It says so again.
    BornTwice,
    /// It belongs to another cluster.
    Cluster,
    /// It belongs to another node.
    Node,
    /// A later record promises or accepts less than an earlier one.
    Backwards(Ballot),
    /// A ballot of another epoch than the one the node is active in.
    Epoch,
    /// A register or content that this node's configuration does not allow.
    Content,
    /// Incarnations do not ascend by one.
    Incarnation,
    /// It takes note of a node that is not a member, or of one twice.
    Peer,
    /// A merged table was begun as something else than is configured: give the new one another
    /// name, and copy what it is to have.
    Agreement,
    /// A change of a copy that was never begun.
    NotBegun,
    /// Of a replica of a primary table.
    Replica(primary::Foreign),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Empty => write!(f, "the log is empty; start the node as a new one"),
            Self::Foreign { record, why } => {
                let why = match why {
                    Foreign::NotBorn => "the log does not begin with whose it is",
                    Foreign::BornTwice => "the log begins twice",
                    Foreign::Cluster => "the log belongs to another cluster",
                    Foreign::Node => "the log belongs to another node",
                    Foreign::Backwards(ballot) => {
                        return write!(f, "record {record}: goes back behind ballot {ballot}");
                    }
                    Foreign::Epoch => "a ballot of an epoch that the node is not active in",
                    Foreign::Content => "a register or content that the configuration excludes",
                    Foreign::Incarnation => "incarnations do not ascend by one",
                    Foreign::Agreement => {
                        "a merged table of another kind than is configured, or one that goes by a \
                         function that others do not; configure it as it was, or give the new one \
                         another name"
                    }
                    Foreign::NotBegun => "a change of a copy that was never begun",
                    Foreign::Replica(why) => {
                        return write!(f, "record {record}: a replica of a primary table: {why}");
                    }
                    Foreign::Peer => "takes note of an unknown peer, or of one twice",
                };
                write!(f, "record {record}: {why}")
            }
        }
    }
}

impl core::error::Error for RecoverError {}

/// The first epoch; the only one while the configuration is static.
const EPOCH: Epoch = Epoch(1);

impl Node {
    /// A node whose storage has never been used.
    ///
    /// It votes at once or when enough peers have taken note of its storage, as
    /// [`Config::genesis`] says. If a peer remembers another storage of this node, the old one was
    /// lost and the node never votes (P-32).
    ///
    /// # Errors
    /// If the configuration is impossible.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        let mut node = Self::blank(config, seed)?;
        node.life = Life(node.random.number());
        node.incarnation = Incarnation(1);
        let (cluster, id, life) = (node.config.cluster, node.config.node, node.life);
        node.log(Record::Born { cluster, node: id, life });
        node.log(Record::Incarnation(node.incarnation));
        node.begin_copies().expect("nothing was recovered that could contradict");
        node.begin_replicas();
        let vouched = node.config.genesis == Genesis::Vouched;
        if vouched || Witnesses::required(&node.members) == 0 {
            node.activating = Some(node.log(Record::Active { epoch: EPOCH }));
        }
        Ok(node)
    }

    /// A node whose storage is known to have lost something. It never votes, refuses every request
    /// and says `why`, until membership gives its seat to new storage.
    ///
    /// # Errors
    /// If the configuration is impossible.
    pub fn lost(config: Config, seed: u64, why: &str) -> Result<Self, ConfigError> {
        let mut node = Self::blank(config, seed)?;
        node.life = Life(node.random.number());
        node.readiness = Readiness::StateLost(String::from(why));
        Ok(node)
    }

    /// A node that goes on from what it made durable: `records`, in the order in which they were
    /// persisted. A tail that was never confirmed may be missing, in whole or in part.
    ///
    /// # Errors
    /// If the configuration is impossible, or the records are not a log of this node. Such a node
    /// must not vote: start it with [`Node::lost`].
    pub fn recover(
        config: Config,
        seed: u64,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RecoverError> {
        let mut node = Self::blank(config, seed).map_err(RecoverError::Config)?;
        let mut active = false;
        let mut count = 0;
        for (place, record) in records.into_iter().enumerate() {
            count += 1;
            node.recover_record(place, record, &mut active)
                .map_err(|why| RecoverError::Foreign { record: place, why })?;
        }
        if count == 0 {
            return Err(RecoverError::Empty);
        }
        node.rebuild_index();
        // A life that was never confirmed may have vanished with the tail; then nothing left it.
        node.incarnation.0 += 1;
        node.log(Record::Incarnation(node.incarnation));
        node.begin_copies().map_err(|why| RecoverError::Foreign { record: count, why })?;
        node.begin_replicas();
        node.await_list();
        if active {
            node.readiness = Readiness::Starting;
            node.activating = Some(node.ticket);
        } else if node.config.genesis == Genesis::Vouched || Witnesses::required(&node.members) == 0
        {
            node.activating = Some(node.log(Record::Active { epoch: EPOCH }));
        } else {
            node.readiness = Readiness::Unwitnessed;
        }
        Ok(node)
    }

    fn recover_record(
        &mut self,
        place: usize,
        record: Record,
        active: &mut bool,
    ) -> Result<(), Foreign> {
        if (place == 0) != matches!(record, Record::Born { .. }) {
            return Err(if place == 0 { Foreign::NotBorn } else { Foreign::BornTwice });
        }
        match record {
            Record::Born { cluster, node, life } => {
                if cluster != self.config.cluster {
                    return Err(Foreign::Cluster);
                }
                if node != self.config.node {
                    return Err(Foreign::Node);
                }
                self.life = life;
            }
            Record::Incarnation(incarnation) => {
                if Some(incarnation.0) != self.incarnation.0.checked_add(1) {
                    return Err(Foreign::Incarnation);
                }
                self.incarnation = incarnation;
            }
            Record::Active { epoch } => {
                if epoch != EPOCH {
                    return Err(Foreign::Epoch);
                }
                *active = true;
            }
            Record::Begun { table, actor, agreement } => {
                self.copies.recover_begun(table, actor, agreement);
            }
            Record::Changed { table, by, change, last } => {
                self.copies.recover_changed(table, by, change, last)?;
            }
            Record::Replica { table, record } => self.replicas.recover(table, record)?,
            Record::Witnessed { peer, life } => {
                let member = self.members.index(peer).ok_or(Foreign::Peer)?;
                if member == self.me || self.witnesses.life(member).is_some() {
                    return Err(Foreign::Peer);
                }
                self.witnesses.record(member, life);
            }
            Record::Promised { register, ballot } => {
                self.recover_ballot(&register, ballot, *active)?;
                self.registers
                    .entry(&register)
                    .recover_promise(ballot)
                    .map_err(Foreign::Backwards)?;
            }
            Record::Accepted { register, ballot, cell } => {
                self.recover_ballot(&register, ballot, *active)?;
                if !cell.fits(&register, ballot) {
                    return Err(Foreign::Content);
                }
                self.registers
                    .entry(&register)
                    .recover_accepted(ballot, cell)
                    .map_err(Foreign::Backwards)?;
            }
        }
        Ok(())
    }

    /// A ballot recovered is one that this node answered for: it was active, in its epoch. The
    /// highest is also where its own rounds go on.
    fn recover_ballot(
        &mut self,
        register: &RegisterId,
        ballot: Ballot,
        active: bool,
    ) -> Result<(), Foreign> {
        if !active || ballot.epoch != EPOCH {
            return Err(Foreign::Epoch);
        }
        if ballot.round > ROUND_MAX || !self.exists(register) {
            return Err(Foreign::Content);
        }
        self.round = self.round.max(ballot.round);
        Ok(())
    }

    fn rebuild_index(&mut self) {
        for (register, record) in self.registers.iter() {
            self.index.insert(register, record.bindings());
        }
    }

    fn blank(config: Config, seed: u64) -> Result<Self, ConfigError> {
        let members = config.check()?;
        let me = members.index(config.node).ok_or(ConfigError::NotMember(config.node))?;
        let count = members.nodes().len();
        let now = Now::default();
        Ok(Self {
            me,
            epoch: EPOCH,
            life: Life(0),
            incarnation: Incarnation(0),
            readiness: Readiness::Unwitnessed,
            random: Random::new(seed),
            now,
            started: false,
            timers: Timers::default(),
            registers: Registers::new(Floor::genesis(EPOCH)),
            index: Index::default(),
            reach: Reach::new(count, me, members.quorum()),
            witnesses: Witnesses::new(count),
            silence: Silence::new(count, now.instant),
            sessions: Sessions::new(config.node),
            operations: BTreeMap::new(),
            operation_next: 0,
            requests: BTreeMap::new(),
            proposing: BTreeMap::new(),
            round: 0,
            inquiries: BTreeSet::new(),
            monitors: Monitors::default(),
            subscriptions: BTreeSet::new(),
            records: Vec::new(),
            ticket: Ticket(1),
            persisted: Ticket(0),
            started_ticket: Ticket(0),
            witnessed_ticket: Ticket(0),
            activating: None,
            outbox: BTreeMap::new(),
            held: 0,
            local: VecDeque::new(),
            copies: Copies::default(),
            catalogue: Catalogue::default(),
            replicas: Replicas::default(),
            agreed: Agreed::default(),
            members,
            config,
        })
    }

    /// The registers bound to anything, as the index must hold them.
    pub(super) fn expected_index(&self) -> Index {
        let mut index = Index::default();
        for (register, record) in self.registers.iter() {
            index.insert(register, record.bindings());
        }
        index
    }

    /// Whether this node can keep such a register.
    fn exists(&self, register: &RegisterId) -> bool {
        match register {
            RegisterId::NodeSession(node) => self.members.contains(*node),
            // Of a table that is not configured any more, too.
            RegisterId::Key(TableId::ROSTERS, name) => name.len() <= self.config.limits.key_max,
            RegisterId::Key(table, key) => {
                let table = self.config.tables.get(usize::from(table.0));
                table.is_some_and(TableConfig::is_consensus)
                    && key.len() <= self.config.limits.key_max
            }
        }
    }

    /// Whether a message could have been sent by a node that keeps the rules: about a register that
    /// exists, with content that fits it.
    pub(super) fn is_plausible(&self, message: &consensus::Message) -> bool {
        let Some(register) = message.register() else { return true };
        self.exists(register)
            && message.content().is_none_or(|(accepted, cell)| cell.fits(register, accepted))
    }
}
