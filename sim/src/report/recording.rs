//! Observers that keep what they see.

use synod::NodeId;

use crate::plan::Nanos;
use crate::world::{Event, EventKind, Observer};

/// An event that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, in true time.
    pub at: Nanos,
    /// Its place in the order of all.
    pub step: u64,
    /// Where, if it was at a node.
    pub node: Option<NodeId>,
    /// What.
    pub kind: EventKind,
    /// What, in one line.
    pub text: String,
}

/// Keeps events; when there are too many, the last ones.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The events kept.
    pub moments: Vec<Moment>,
    /// How many earlier ones were let go.
    pub forgotten: u64,
}

/// How many events a recording keeps at least.
const MOMENTS_MIN: usize = 100_000;

impl Observer for Recording {
    fn event(&mut self, event: &Event<'_>) {
        if self.moments.len() == 2 * MOMENTS_MIN {
            self.moments.drain(..MOMENTS_MIN);
            self.forgotten += MOMENTS_MIN as u64;
        }
        self.moments.push(Moment {
            at: event.at,
            step: event.step,
            node: event.node,
            kind: event.kind,
            text: event.text.to_string(),
        });
    }
}

/// Keeps every event as a line that two runs of one plan must agree on to the letter.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The lines.
    pub lines: Vec<String>,
}

impl Observer for Lines {
    fn event(&mut self, event: &Event<'_>) {
        let node = event.node.map_or(0, |node| node.0);
        self.lines
            .push(format!("step {} time {} node {node} {}", event.step, event.at, event.text));
    }
}
