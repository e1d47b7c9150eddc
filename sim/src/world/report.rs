//! What a run came to, and who may watch it.
//!
//! Must never know: how a run goes.

use std::fmt;

use synod::NodeId;

use crate::history::{History, Model};
use crate::marks::Marks;
use crate::plan::{FaultKind, Nanos, PlanError};
use crate::trace::TraceHash;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether everything held.
    pub verdict: Verdict,
    /// The fingerprint of every event in order.
    pub trace_hash: u128,
    /// Messages handed to nodes.
    pub deliveries: u64,
    /// Events of any kind.
    pub events: u64,
    /// Requests made by clients, each counted once however often it was sent.
    pub operations: u64,
    /// How those ended, by kind.
    pub outcomes: Outcomes,
    /// True time from the start to the end.
    pub simulated: Nanos,
    /// How often a fault of each kind acted, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
    /// How often each mark was hit.
    pub marks: Marks,
    /// Whether the run came to a liveness phase in which progress was due.
    pub progress_due: bool,
    /// What clients asked and were told.
    pub history: History,
}

/// How requests ended, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Done as asked, or answered.
    pub done: u64,
    /// Refused for what was there: a mismatch, an existing entry.
    pub lost: u64,
    /// Refused without effect.
    pub refused: u64,
    /// Refused for want of a quorum.
    pub no_quorum: u64,
    /// Unknown.
    pub unknown: u64,
    /// The node crashed before it answered, or no node was up.
    pub crashed: u64,
}

/// Whether everything held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did not.
    Fail(Failure),
    /// It did.
    Pass,
}

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub kind: FailureKind,
    /// Which rule: `LIN`, `W1`..., `L1`..., `INV` (the engine's own), `panic`.
    pub rule: &'static str,
    /// The rule and the shape of what broke it, without numbers: the same failure found in a
    /// smaller plan has the same signature.
    pub signature: String,
    /// What happened, for people.
    pub message: String,
    /// When, in true time.
    pub at: Nanos,
    /// At which event.
    pub step: u64,
}

/// The kinds of failure; each has an exit status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The engine panicked.
    Crash,
    /// What must come did not come.
    NoProgress,
    /// A check could not be decided.
    Unknown,
    /// What must not be was.
    Violation,
}

/// What happened, as far as it has a shape; the rest is in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A message was handed to the node.
    Deliver {
        /// Which; as given when it was sent.
        message: u64,
        /// From whom.
        from: NodeId,
        /// When it was sent.
        sent: Nanos,
    },
    /// A message was lost.
    Drop {
        /// Which.
        message: u64,
        /// From whom; the event's node is the one it was for.
        from: NodeId,
    },
    /// A message was sent.
    Send {
        /// Which.
        message: u64,
        /// To whom.
        to: NodeId,
    },
    /// A client asked.
    Request,
    /// A client was answered.
    Reply,
    /// A client was told of an event.
    Notify,
    /// Something was given to a disk.
    Persist,
    /// Something became durable.
    Persisted,
    /// A node's timer fired.
    Timeout,
    /// A client's session ended, and its host was told.
    Down,
    /// A fault began, acted or ended.
    Fault,
    /// A node stopped.
    Stop,
    /// A node started.
    Start,
    /// A phase began.
    Phase,
    /// A check failed.
    Fail,
}

/// One event of a run, for a story or a picture.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When, in true time.
    pub at: Nanos,
    /// Its place in the order of all.
    pub step: u64,
    /// Where, if it was at a node.
    pub node: Option<NodeId>,
    /// What.
    pub kind: EventKind,
    /// What, in one line.
    pub text: fmt::Arguments<'a>,
}

/// Watches a run; cannot change it.
pub trait Observer {
    /// Whether it wants events at all; a run asks once.
    fn is_watching(&self) -> bool {
        true
    }

    /// An event.
    fn event(&mut self, event: &Event<'_>);
}

/// Watches nothing, at no cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind;

impl Observer for Blind {
    fn is_watching(&self) -> bool {
        false
    }

    fn event(&mut self, _: &Event<'_>) {}
}

impl Report {
    /// Of a plan that cannot be run: nothing happened, and nothing is known.
    pub(super) fn of_impossible(error: &PlanError, observer: &mut dyn Observer) -> Self {
        let message = format!("this plan cannot be run: {}", error.message);
        if observer.is_watching() {
            let kind = EventKind::Fail;
            let text = format_args!("PLAN: {message}");
            observer.event(&Event { at: 0, step: 0, node: None, kind, text });
        }
        let failure = Failure {
            kind: FailureKind::Unknown,
            rule: "PLAN",
            signature: "PLAN impossible plan".to_owned(),
            message,
            at: 0,
            step: 0,
        };
        Self::of_failure(failure, TraceHash::default().value())
    }

    /// Of a run of which nothing but its end is known.
    pub(crate) fn of_failure(failure: Failure, trace_hash: u128) -> Self {
        Self {
            verdict: Verdict::Fail(failure),
            trace_hash,
            deliveries: 0,
            events: 0,
            operations: 0,
            outcomes: Outcomes::default(),
            simulated: 0,
            faults: [0; FaultKind::ALL.len()],
            marks: Marks::default(),
            progress_due: false,
            history: History::new(Model::Kv),
        }
    }

    /// How often a fault of this kind acted.
    #[must_use]
    pub const fn acted(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {}.{:06}s, event {}: {}",
            self.rule,
            self.at / 1_000_000_000,
            self.at / 1_000 % 1_000_000,
            self.step,
            self.message
        )
    }
}
