//! Calls of resolvers: how often a collision may cost one.
//!
//! Must never know: what resolvers answer.

use synod::TableId;
use synod::merged::{Dot, Row};

use super::Oracle;

/// The most nodes that may ask about one collision.
const NODES_MAX: usize = 2;

/// What a call was about: the writes that a row shows and that did not know of each other.
pub(super) type Collision = (TableId, Row, Vec<Dot>);

impl Oracle {
    /// C6: a node asks its resolver about a collision, in a spell: since its process began, or
    /// since a node was last back. Says whether it had asked about it before, in another.
    pub(crate) fn on_resolver_call(
        &mut self,
        node: usize,
        spell: u64,
        table: TableId,
        row: &Row,
        writes: Vec<Dot>,
    ) -> bool {
        let collision = (table, row.clone(), writes);
        let calls = self.resolved.entry(collision).or_default();
        let again = calls.iter().any(|(other, _)| *other == node);
        let twice = calls.contains(&(node, spell));
        calls.push((node, spell));
        let mut nodes: Vec<usize> = calls.iter().map(|(node, _)| *node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let wrong = if twice {
            "asked twice"
        } else if nodes.len() > NODES_MAX {
            "asked by a third"
        } else {
            return again;
        };
        let text = format!("{table}: n{} asks its resolver about {row} once more", node + 1);
        self.breaks("C6", wrong, text);
        again
    }
}
