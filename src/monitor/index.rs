//! Which registers are bound to what: so that the end of a target finds its dependants, and a sweep
//! finds those that an end has missed.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Bound;

use super::binding::Binding;
use crate::base::{NodeId, RegisterId, SessionId, Wall};
use crate::paxos::Ballot;

/// What a binding points at, ordered so that each question is one range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Until(Wall),
    Node(NodeId, u64),
    Session(SessionId),
    Key(RegisterId, Ballot),
}

impl From<&Binding> for Target {
    fn from(binding: &Binding) -> Self {
        match binding {
            Binding::Key { register, generation } => Self::Key(register.clone(), *generation),
            Binding::Node { node, session } => Self::Node(*node, *session),
            Binding::Session(session) => Self::Session(*session),
            Binding::Until(wall) => Self::Until(*wall),
        }
    }
}

/// Holds an edge for every binding of every content *accepted* here, chosen or not: an entry whose
/// target has ended must not outlive it merely because nobody knows that it was ever chosen (E2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    edges: BTreeSet<(Target, RegisterId)>,
}

/// Sorts before every register: where the range of a target begins.
const FIRST: RegisterId = RegisterId::NodeSession(NodeId(0));

impl Index {
    pub(crate) fn insert(&mut self, register: &RegisterId, bindings: &[Binding]) {
        for binding in bindings {
            self.edges.insert((Target::from(binding), register.clone()));
        }
    }

    pub(crate) fn remove(&mut self, register: &RegisterId, bindings: &[Binding]) {
        for binding in bindings {
            self.edges.remove(&(Target::from(binding), register.clone()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// Whether anything is bound to `register`, in whichever life.
    pub(crate) fn has_dependants(&self, register: &RegisterId) -> bool {
        let low = (Target::Key(register.clone(), Ballot::ZERO), FIRST);
        self.edges
            .range((Bound::Included(low), Bound::Unbounded))
            .next()
            .is_some_and(|(target, _)| matches!(target, Target::Key(bound, _) if bound == register))
    }

    /// Whether anything is bound to `session`.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        let low = (Target::Session(session), FIRST);
        self.edges
            .range((Bound::Included(low), Bound::Unbounded))
            .next()
            .is_some_and(|(target, _)| *target == Target::Session(session))
    }

    /// The targets that something is bound to, each once, behind `after`, `limit` at most.
    pub(crate) fn targets(&self, after: Option<&Target>, limit: usize) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        let next = self.edges.range((
            after.map_or(Bound::Unbounded, |target| Bound::Included((target.clone(), FIRST))),
            Bound::Unbounded,
        ));
        for (target, _) in next {
            if after.is_some_and(|after| target <= after) || targets.last() == Some(target) {
                continue;
            }
            if targets.len() == limit {
                break;
            }
            targets.push(target.clone());
        }
        targets
    }

    /// The lives of keys that something is bound to, each once, behind `after`, `limit` at most.
    pub(crate) fn parents(&self, after: Option<&Target>, limit: usize) -> Vec<Target> {
        let first = Target::Key(FIRST, Ballot::ZERO);
        self.targets(Some(after.unwrap_or(&first)), limit)
    }

    /// The registers bound to `target`.
    pub(crate) fn bound_to(&self, target: &Target) -> impl Iterator<Item = &RegisterId> {
        let low = (target.clone(), FIRST);
        let target = target.clone();
        self.edges
            .range((Bound::Included(low), Bound::Unbounded))
            .take_while(move |(bound, _)| *bound == target)
            .map(|(_, register)| register)
    }
}
