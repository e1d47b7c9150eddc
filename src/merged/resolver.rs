//! What an application does about conflicts, and what its answers come to.
//!
//! The engine never calls this: a conflict is state, and an answer is a write like any other, made
//! by whoever runs the resolver. What two nodes make of one conflict is settled by their stamps.
//!
//! Must never know: how conflicts are found, how answers are written.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::Entry;
use super::schema::Agreement;
use crate::base::{Key, NodeId, Value};

/// Decides what becomes of values that did not know of each other.
///
/// For each round of conflicts `init` is called once, then `resolve` for each of them, then `done`
/// once, also after errors (M-22, M-23). The resolver is its own state. What it does not answer, or
/// answers with an error or a panic, stays as it was, with its alarm up, and is asked about again
/// when a node comes back or somebody has written (M-25).
pub trait Resolver {
    /// A round begins.
    ///
    /// # Errors
    /// The round is left out.
    fn init(&mut self, context: &MergeContext) -> Result<(), String> {
        let _ = context;
        Ok(())
    }

    /// What to do about one conflict: nothing, one thing, or several.
    ///
    /// # Errors
    /// The conflict is left as it is.
    fn resolve(&mut self, conflict: &Conflict) -> Result<Vec<Action>, String>;

    /// A round has ended.
    fn done(&mut self) {}
}

/// What a round of conflicts is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeContext {
    /// The table's name.
    pub table: String,
    /// What it is.
    pub agreement: Agreement,
    /// Which node asks: its values are the local ones.
    pub node: NodeId,
}

/// Values of one row that did not know of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Of which key.
    pub key: Key,
    /// In a bag, of which element.
    pub element: Option<Value>,
    /// The latest value that this node has written, or else the latest of all.
    pub local: Value,
    /// The others, the latest first.
    pub remote: Vec<Value>,
}

/// What a resolver wants done. Several are done one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remove what is here.
    DeleteLocal,
    /// Remove what is there.
    DeleteRemote,
    /// Leave all as it is, for this reason (M-20).
    Inconsistent(String),
    /// Ask about no more conflicts in this round (U-02).
    Stop,
    /// Have this here.
    WriteLocal(Value),
    /// Have this there.
    WriteRemote(Value),
}

/// What the actions for one conflict come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The conflict stays, and why.
    Inconsistent(String),
    /// The row is removed.
    Removed,
    /// This value stays.
    Value(Value),
}

impl Conflict {
    /// The conflict that a row shows, as `node` sees it; nothing if it is in none.
    #[must_use]
    pub fn of(entry: &Entry, node: NodeId) -> Option<Self> {
        if entry.values.len() < 2 {
            return None;
        }
        let own = entry.values.iter().position(|shown| shown.dot.actor.node == node);
        let mut values: Vec<Value> = entry.values.iter().map(|shown| shown.value.clone()).collect();
        let local = values.remove(own.unwrap_or(0));
        let (key, element) = (entry.row.key.clone(), entry.row.element.clone());
        Some(Self { key, element, local, remote: values })
    }

    /// One outcome for all copies: the actions must leave the same here and there. Two sides that
    /// would differ are what a conflict is, so then it stays one.
    #[must_use]
    pub fn verdict(&self, actions: &[Action]) -> Verdict {
        let mut local = Some(&self.local);
        let mut remote: BTreeSet<Option<&Value>> = self.remote.iter().map(Some).collect();
        for action in actions {
            match action {
                Action::DeleteLocal => local = None,
                Action::DeleteRemote => remote = BTreeSet::from([None]),
                Action::Inconsistent(why) => return Verdict::Inconsistent(why.clone()),
                Action::Stop => {}
                Action::WriteLocal(value) => local = Some(value),
                Action::WriteRemote(value) => remote = BTreeSet::from([Some(value)]),
            }
        }
        if remote.len() != 1 || !remote.contains(&local) {
            let why = "the actions would leave different values on different nodes";
            return Verdict::Inconsistent(String::from(why));
        }
        local.map_or(Verdict::Removed, |value| Verdict::Value(value.clone()))
    }
}

/// Whose turn it is to resolve what a row shows: of the nodes that wrote what is in conflict the
/// first, in order, has turn 0 and answers at once; the second has turn 1 and answers if the first
/// does not. The others leave it: so a conflict is asked about twice at most (C6).
#[must_use]
pub fn turn(entry: &Entry, node: NodeId) -> Option<usize> {
    let writers: BTreeSet<NodeId> = entry.values.iter().map(|shown| shown.dot.actor.node).collect();
    writers.iter().position(|writer| *writer == node).filter(|turn| *turn < 2)
}
