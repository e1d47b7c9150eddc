//! What a table has whatever it promises: a name in messages and records, and who keeps a copy.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use super::digest::fnv1a;
use super::ids::NodeId;

/// Which table: a hash of its name, so that copies made independently of each other meet (L-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TableName(pub u64);

impl TableName {
    /// Of this name.
    #[must_use]
    pub const fn of(name: &str) -> Self {
        Self(fnv1a(name.as_bytes()))
    }
}

/// Who keeps a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// Every node.
    #[default]
    All,
    /// These. Others pass on to them what they are asked.
    Only(Vec<NodeId>),
}

impl Replicas {
    /// Whether this node keeps a copy.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Only(nodes) => nodes.contains(&node),
        }
    }

    /// Whether all of those are among these.
    pub(crate) fn cover(&self, those: &Self) -> bool {
        match (self, those) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(these), Self::Only(those)) => those.iter().all(|it| these.contains(it)),
        }
    }

    /// Those of both, in order, each once.
    pub(crate) fn with(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Only(these), Self::Only(those)) => {
                let mut nodes = these.clone();
                nodes.extend(those);
                nodes.sort_unstable();
                nodes.dedup();
                Self::Only(nodes)
            }
        }
    }

    /// Those that are named so: `1.2.3`.
    pub(crate) fn parse(nodes: &str) -> Option<Self> {
        let nodes = nodes.split('.').map(|node| node.parse().map(NodeId));
        nodes.collect::<Result<_, _>>().ok().map(Self::Only)
    }

    /// Their names, unless they are all there are.
    pub(crate) fn words(&self) -> Option<String> {
        let Self::Only(nodes) = self else { return None };
        let nodes: Vec<String> = nodes.iter().map(|node| node.0.to_string()).collect();
        Some(nodes.join("."))
    }
}

/// What a table is, is said in words joined by `+`. Returns the first that `apply` has no use for.
pub(crate) fn each_word(words: &str, mut apply: impl FnMut(&str) -> Option<()>) -> Option<&str> {
    let mut words = words.split('+').map(str::trim).filter(|word| !word.is_empty());
    words.find(|word| apply(word).is_none())
}
