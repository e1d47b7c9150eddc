//! What a shrinker can take out of a plan, and how it can be made simpler.
//!
//! Taking out an item leaves every draw of the others as it was (see [`crate::random`]).
//!
//! Must never know: why a plan is shrunk.

use std::fmt;

use super::{Act, Cut, Fault, Keep, Mode, Nodes, Plan, Tie, Trouble};

/// One thing that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemId {
    /// The fault of this number.
    Fault(u32),
    /// The operation of this number.
    Operation(u32),
    /// One binding of an operation: the operation's number, the binding's place.
    Tie(u32, u8),
    /// The choice at this place of a free plan: it becomes 0, the ordinary one.
    Choice(u32),
}

/// One way of making a plan simpler that is not leaving something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simplification {
    /// The node of the highest number is taken away, and a seat with it.
    FewerNodes,
    /// As many seats as nodes.
    NoVacantSeats,
    /// The client of the highest number is taken away with what it does.
    FewerClients,
    /// Only the first table.
    OneTable,
    /// Only the first key of each table.
    OneKey,
    /// No loss and duplication but by faults.
    QuietNetwork,
    /// Messages take no drawn time.
    SteadyNetwork,
    /// Writes take no drawn time.
    SteadyDisk,
    /// Writes take no time.
    InstantDisk,
    /// Resolvers do what they are to, at once.
    ReliableResolvers,
    /// Clocks begin together.
    EqualClocks,
    /// Nothing is sent again.
    NoRetries,
    /// Crashes keep every write.
    KeepWrites,
    /// Partitions do not come and go.
    NoFlapping,
    /// Everything from the last operation's or fault's time on is quiet: the safety phase ends
    /// there.
    Shorter,
    /// Half of the choices of a free plan are left.
    FewerChoices,
}

impl Simplification {
    /// All of them, the ones that simplify most first.
    pub const ALL: [Self; 16] = [
        Self::FewerNodes,
        Self::NoVacantSeats,
        Self::FewerClients,
        Self::OneTable,
        Self::OneKey,
        Self::QuietNetwork,
        Self::SteadyNetwork,
        Self::SteadyDisk,
        Self::InstantDisk,
        Self::ReliableResolvers,
        Self::EqualClocks,
        Self::NoRetries,
        Self::KeepWrites,
        Self::NoFlapping,
        Self::Shorter,
        Self::FewerChoices,
    ];
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(id) => write!(f, "fault {id}"),
            Self::Operation(id) => write!(f, "op {id}"),
            Self::Tie(id, place) => write!(f, "binding {place} of op {id}"),
            Self::Choice(place) => write!(f, "choice {place}"),
        }
    }
}

impl Plan {
    /// What can be taken out: faults, then operations, then bindings, then choices.
    #[must_use]
    pub fn items(&self) -> Vec<ItemId> {
        let faults = self.faults.iter().map(|fault| ItemId::Fault(fault.id));
        let operations = self.operations.iter().map(|op| ItemId::Operation(op.id));
        let ties = self.operations.iter().flat_map(|op| {
            let count = ties_of(&op.act).len().min(256);
            (0..count).map(|place| ItemId::Tie(op.id, place as u8))
        });
        let choices = self.choices.iter().enumerate();
        let choices = choices.filter(|(_, choice)| **choice != 0);
        let choices = choices.map(|(place, _)| ItemId::Choice(place as u32));
        faults.chain(operations).chain(ties).chain(choices).collect()
    }

    /// This plan without these; what is not in it is ignored.
    #[must_use]
    pub fn without(&self, items: &[ItemId]) -> Self {
        let mut plan = self.clone();
        let gone: std::collections::BTreeSet<ItemId> = items.iter().copied().collect();
        plan.faults.retain(|fault| !gone.contains(&ItemId::Fault(fault.id)));
        plan.operations.retain(|op| !gone.contains(&ItemId::Operation(op.id)));
        for op in &mut plan.operations {
            let id = op.id;
            if let Some(ties) = ties_mut(&mut op.act) {
                let mut place = 0_usize;
                ties.retain(|_| {
                    place += 1;
                    u8::try_from(place - 1).is_ok_and(|n| !gone.contains(&ItemId::Tie(id, n)))
                });
            }
        }
        for (place, choice) in plan.choices.iter_mut().enumerate() {
            if u32::try_from(place).is_ok_and(|place| gone.contains(&ItemId::Choice(place))) {
                *choice = 0;
            }
        }
        while plan.choices.last() == Some(&0) {
            plan.choices.pop();
        }
        plan
    }

    /// This plan made simpler in one way; none where that changes nothing or cannot be done.
    #[must_use]
    pub fn simplified(&self, how: Simplification) -> Option<Self> {
        let mut plan = self.clone();
        match how {
            Simplification::FewerNodes => plan.drop_node()?,
            Simplification::NoVacantSeats => plan.cluster.size = plan.cluster.nodes,
            Simplification::FewerClients => plan.drop_client()?,
            Simplification::OneTable => plan.keep_keys(|at| at.table == 0),
            Simplification::OneKey => plan.keep_keys(|at| at.key == 0),
            Simplification::QuietNetwork => {
                plan.network.loss = 0;
                plan.network.duplicate = 0;
                plan.network.wire = 0;
            }
            Simplification::SteadyNetwork => plan.network.jitter = 0,
            Simplification::SteadyDisk => plan.disk.jitter = 0,
            Simplification::InstantDisk => {
                plan.disk.latency = 0;
                plan.disk.jitter = 0;
            }
            Simplification::ReliableResolvers => {
                let resolvers = plan.resolvers.as_mut()?;
                (resolvers.failing, resolvers.panicking, resolvers.stalling) = (0, 0, 0);
            }
            Simplification::EqualClocks => plan.cluster.wall_spread = 0,
            Simplification::NoRetries => plan.operations.iter_mut().for_each(|op| op.again = 0),
            Simplification::KeepWrites => {
                for fault in &mut plan.faults {
                    if let Trouble::Crash(_, keep) | Trouble::PowerCut(keep) = &mut fault.trouble {
                        *keep = Keep::All;
                    }
                }
            }
            Simplification::NoFlapping => {
                for fault in &mut plan.faults {
                    if let Trouble::Partition(_, half) = &mut fault.trouble {
                        *half = 0;
                    }
                }
            }
            Simplification::Shorter => {
                let end = |fault: &Fault| fault.at.saturating_add(fault.lasts);
                let faults = plan.faults.iter().map(end).max().unwrap_or(0);
                let after = plan.operations.iter().map(|op| op.after);
                let end = faults
                    .max(after.fold(0, u64::saturating_add))
                    .saturating_add(plan.cluster.down);
                plan.safety = plan.safety.min(end);
            }
            Simplification::FewerChoices => {
                if plan.mode != Mode::Free {
                    return None;
                }
                plan.choices.truncate(plan.choices.len() / 2);
            }
        }
        (plan != *self && plan.check().is_ok()).then_some(plan)
    }

    fn drop_node(&mut self) -> Option<()> {
        let last = self.cluster.nodes;
        if last <= 1 {
            return None;
        }
        self.cluster.nodes -= 1;
        self.cluster.size -= 1;
        self.faults.retain(|fault| !concerns(&fault.trouble, last));
        for fault in &mut self.faults {
            forget_node(&mut fault.trouble, last);
        }
        for op in &mut self.operations {
            if op.node == last {
                op.node = 1;
            }
            if let Some(ties) = ties_mut(&mut op.act) {
                ties.retain(|tie| *tie != Tie::Node(last));
            }
        }
        Some(())
    }

    fn drop_client(&mut self) -> Option<()> {
        let last = self.clients;
        if last <= 1 {
            return None;
        }
        self.clients -= 1;
        self.operations.retain(|op| op.client != last);
        self.faults.retain(|fault| fault.trouble != Trouble::Client(last));
        Some(())
    }

    fn keep_keys(&mut self, keep: impl Fn(super::Address) -> bool) {
        self.operations.retain(|op| {
            let whole = if let Act::Keys(table, _) = op.act {
                Some(super::Address { table, key: 0 })
            } else {
                None
            };
            op.act.address().or(whole).is_none_or(&keep)
        });
        for op in &mut self.operations {
            if let Some(ties) = ties_mut(&mut op.act) {
                ties.retain(|tie| match tie {
                    Tie::Key(at) => keep(*at),
                    Tie::Node(_) | Tie::Session | Tie::Until(_) => true,
                });
            }
        }
        let keys =
            |table| (0..self.keys).filter(|&key| keep(super::Address { table, key })).count();
        let kept = (0..self.tables.len()).filter(|&table| keys(table as u16) > 0).count();
        self.keys = keys(0).max(1) as u16;
        self.tables.truncate(kept.max(1));
    }
}

pub(super) fn ties_of(act: &Act) -> &[Tie] {
    if let Act::CompareAndSet(_, _, ties) | Act::Put(_, ties) | Act::PutIfAbsent(_, ties) = act {
        ties
    } else {
        &[]
    }
}

const fn ties_mut(act: &mut Act) -> Option<&mut Vec<Tie>> {
    if let Act::CompareAndSet(_, _, ties) | Act::Put(_, ties) | Act::PutIfAbsent(_, ties) = act {
        Some(ties)
    } else {
        None
    }
}

/// Whether a fault is about this node and no other.
fn concerns(trouble: &Trouble, node: u16) -> bool {
    match trouble {
        Trouble::Crash(n, _)
        | Trouble::DiskFull(n)
        | Trouble::Drift(n, _)
        | Trouble::Freeze(n)
        | Trouble::Jump(n, _)
        | Trouble::Pause(n)
        | Trouble::Rot(n)
        | Trouble::Skew(n, _)
        | Trouble::SlowDisk(n, _)
        | Trouble::Wipe(n)
        | Trouble::WriteError(n) => *n == node,
        Trouble::Hint(a, b) => *a == node || *b == node,
        Trouble::Clog(links)
        | Trouble::Delay(links, _)
        | Trouble::Duplicate(links, _)
        | Trouble::Loss(links, _)
        | Trouble::Queue(links, _)
        | Trouble::Reorder(links, _)
        | Trouble::Partition(Cut::OneWay(links), _) => {
            let only = Nodes(1 << (node - 1));
            links.from == only || links.to == only
        }
        Trouble::Client(_) | Trouble::Partition(..) | Trouble::PowerCut(_) => false,
    }
}

fn forget_node(trouble: &mut Trouble, node: u16) {
    let forget = |set: &mut Nodes| {
        if *set != Nodes::ALL {
            set.0 &= !(1_u64 << (node - 1));
        }
    };
    match trouble {
        Trouble::Clog(links)
        | Trouble::Delay(links, _)
        | Trouble::Duplicate(links, _)
        | Trouble::Loss(links, _)
        | Trouble::Queue(links, _)
        | Trouble::Reorder(links, _)
        | Trouble::Partition(Cut::OneWay(links), _) => {
            forget(&mut links.from);
            forget(&mut links.to);
        }
        Trouble::Partition(Cut::Bridge(left, right), _) => {
            forget(left);
            forget(right);
        }
        Trouble::Partition(Cut::Islands(sets), _) => {
            sets.iter_mut().for_each(forget);
            sets.retain(|set| !set.is_empty());
        }
        Trouble::Partition(Cut::Graph(sets), _) => {
            sets.truncate(usize::from(node - 1));
            sets.iter_mut().for_each(forget);
        }
        Trouble::Partition(Cut::Ring(order), _) => order.retain(|n| *n != node),
        Trouble::Client(_)
        | Trouble::Crash(..)
        | Trouble::DiskFull(_)
        | Trouble::Drift(..)
        | Trouble::Freeze(_)
        | Trouble::Hint(..)
        | Trouble::Jump(..)
        | Trouble::Pause(_)
        | Trouble::PowerCut(_)
        | Trouble::Rot(_)
        | Trouble::Skew(..)
        | Trouble::SlowDisk(..)
        | Trouble::Wipe(_)
        | Trouble::WriteError(_) => {}
    }
}
