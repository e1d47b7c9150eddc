//! The stack rig: nodes that are whole hosts, on a runtime that is simulated too, over streams of
//! our own.
//!
//! It is the World rig with another kind of process: plans, clients, faults, oracles and liveness
//! are its own code. A [`Process`] has a node's seam; behind that, one host runs as tasks, with its
//! links over a [`bus`] and its records on a [`disk`] whose troubles are the plan's. What hosts do
//! is noted in one order, in [`Common`], and the World takes it in from there.
//!
//! Only with `--cfg madsim`. Of that runtime only the executor and its timers are used: its
//! sockets let signals pass through partitions, and its check of determinism is weak.
//!
//! Must never know: what messages, commands and records mean.

pub(crate) mod bus;
mod disk;
mod process;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use synod::consensus::{Cell, Readiness};
use synod::host::{Clock, News};
use synod::merged::Table;
use synod::{
    Ballot, ClientId, Effect, Input, Instant, Now, Record, RegisterId, TableId, TableName, Ticket,
    Violation,
};

use crate::oracle::Seat;
use crate::plan::Nanos;
pub(crate) use disk::DiskView;
pub(crate) use process::{Boot, Process};

/// Which life of which node: its place, and its number of boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) place: usize,
    pub(crate) boots: u32,
}

/// Something that a host did.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Its node took a step.
    Step(Box<Step>),
    /// It gave records to its disk.
    Appended(Ticket, Vec<Record>),
    /// Its disk says that all it was given is durable.
    Synced,
    /// Its disk says that this failed.
    SyncFailed,
    /// A client of it was told something.
    News(ClientId, News),
    /// What waits for a peer is more than it should ever be.
    Overflow(usize),
    /// It ended, for this reason.
    Ended(String),
}

/// A step of a node.
#[derive(Debug)]
pub(crate) struct Step {
    /// What it was told, and when by its clocks.
    pub(crate) input: Input,
    pub(crate) now: Now,
    pub(crate) effects: Vec<Effect>,
    /// When it wants to be woken next.
    pub(crate) due: Option<Instant>,
    /// The copies of merged tables that are not as they were before it.
    pub(crate) copies: Vec<(TableId, Table)>,
    /// The merged tables that there are, if some are made while nodes run.
    pub(crate) tables: Vec<(TableId, TableName, String)>,
    /// The replicas of primary tables that are not.
    pub(crate) seats: Vec<(TableId, TableName, Seat)>,
    /// Where primary tables are that are made while nodes run, by their names.
    pub(crate) made: Vec<(String, TableId, TableName)>,
}

/// What the World sees of a process between its steps.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) readiness: Readiness,
    pub(crate) registers: Vec<(RegisterId, Ballot, Ballot, Option<Arc<Cell>>)>,
    pub(crate) violation: Option<Violation>,
}

impl Default for View {
    fn default() -> Self {
        Self { readiness: Readiness::Starting, registers: Vec::new(), violation: None }
    }
}

/// What hosts and the World share. One thread holds it at a time, for hosts are tasks of one.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) deeds: VecDeque<(Nanos, Life, Deed)>,
    pub(crate) bus: bus::Bus,
    pub(crate) disks: Vec<DiskView>,
    /// What each node's clocks show, as a function of true time.
    pub(crate) clocks: Vec<crate::world::Clock>,
    /// Whether each step shows all registers.
    pub(crate) showing: bool,
    waiting: Option<Waker>,
}

/// The way to it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Common>>);

impl Shared {
    pub(crate) fn new(bus: bus::Bus, clocks: Vec<crate::world::Clock>) -> Self {
        let disks = clocks.iter().map(|_| DiskView::default()).collect();
        let deeds = VecDeque::new();
        let common = Common { deeds, bus, disks, clocks, showing: false, waiting: None };
        Self(Arc::new(Mutex::new(common)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Common> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a host did.
    pub(crate) fn note(&self, life: Life, deed: Deed) {
        let mut common = self.lock();
        common.deeds.push_back((now(), life, deed));
        common.bus.noted += 1;
        common.wake();
    }

    /// Waits for something to be noted or sent.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut common = self.lock();
        if !common.deeds.is_empty() || common.bus.has_sent() {
            return Poll::Ready(());
        }
        common.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Common {
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// True time since the start of the run.
pub(crate) fn now() -> Nanos {
    // What is dropped with the runtime asks too, and nobody looks at the answer.
    madsim::time::TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos() as Nanos)
}

/// Waits for exactly so long.
pub(crate) async fn sleep(span: Nanos) {
    let until = madsim::time::Instant::now() + Duration::from_nanos(span);
    // Made for a moment and then set: one that is made for a near moment would come late.
    let mut sleep = pin!(madsim::time::sleep(Duration::ZERO));
    sleep.as_mut().reset(until);
    sleep.await;
}

/// A node's clocks.
struct NodeClock {
    place: usize,
    shared: Shared,
}

impl Clock for NodeClock {
    fn now(&self) -> Now {
        self.shared.lock().clocks[self.place].read(now())
    }
}
