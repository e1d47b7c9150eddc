//! How configurations came about: the path of what each took, and how often each class of unknown
//! outcome was used; both kept once and named by number.
//!
//! Must never know: what makes a step legal.

use super::Config;
use crate::checker::case::NONE;
use crate::checker::hash::FixedMap;

/// What a path took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checker) enum Taken {
    Class(u32),
    Erase,
    /// The step happened just before an earlier overwrite.
    Free(u32),
    Step(u32),
}

/// One step of a path: what was taken, and at which of [`Case::settles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checker) struct Node {
    pub(in crate::checker) taken: Taken,
    pub(in crate::checker) at: u32,
    parent: u32,
}

/// The paths of all configurations, as a forest; the part common to all is cut off and kept.
#[derive(Default)]
pub(super) struct Trail {
    pub(super) nodes: Vec<Node>,
    pub(super) common: Vec<Node>,
    pub(super) compact_at: usize,
}

impl Trail {
    pub(super) fn push(&mut self, taken: Taken, at: u32, parent: u32) -> u32 {
        self.nodes.push(Node { taken, at, parent });
        self.nodes.len() as u32 - 1
    }

    pub(super) fn path(&self, mut at: u32, into: &mut Vec<Node>) {
        let start = into.len();
        while at != NONE {
            let node = self.nodes[at as usize];
            into.push(node);
            at = node.parent;
        }
        into[start..].reverse();
    }

    pub(super) fn compact<const N: usize>(&mut self, frontier: &mut [Config<N>]) {
        if let [config] = frontier {
            let mut common = std::mem::take(&mut self.common);
            self.path(config.trail, &mut common);
            self.common = common;
            self.nodes.clear();
            config.trail = NONE;
            self.compact_at = 256;
            return;
        }
        // Parents come before children, so one backward and one forward pass do.
        let mut live = vec![false; self.nodes.len()];
        for config in frontier.iter() {
            let mut at = config.trail;
            while at != NONE && !live[at as usize] {
                live[at as usize] = true;
                at = self.nodes[at as usize].parent;
            }
        }
        let mut moved = vec![NONE; self.nodes.len()];
        let mut kept = 0;
        for at in 0..self.nodes.len() {
            if live[at] {
                let mut node = self.nodes[at];
                if node.parent != NONE {
                    node.parent = moved[node.parent as usize];
                }
                self.nodes[kept] = node;
                moved[at] = kept as u32;
                kept += 1;
            }
        }
        self.nodes.truncate(kept);
        for config in frontier.iter_mut() {
            if config.trail != NONE {
                config.trail = moved[config.trail as usize];
            }
        }
        self.compact_at = (kept * 2).max(1 << 12);
    }
}

/// How often each class was used, interned, sparse.
#[derive(Default)]
pub(super) struct Uses {
    lists: Vec<Box<[(u32, u32)]>>,
    index: FixedMap<Box<[(u32, u32)]>, u32>,
}

impl Uses {
    pub(super) fn reset(&mut self) {
        if self.lists.len() != 1 {
            self.lists.clear();
            self.index.clear();
            self.lists.push(Box::new([]));
            self.index.insert(Box::new([]), 0);
        }
    }

    pub(super) fn count(&self, used: u32, class: u32) -> u32 {
        let list = &self.lists[used as usize];
        list.iter().find(|(of, _)| *of == class).map_or(0, |(_, count)| *count)
    }

    pub(super) fn take(&mut self, used: u32, class: u32) -> u32 {
        let mut list = self.lists[used as usize].to_vec();
        match list.binary_search_by_key(&class, |(of, _)| *of) {
            Ok(at) => list[at].1 += 1,
            Err(at) => list.insert(at, (class, 1)),
        }
        let list: Box<[(u32, u32)]> = list.into();
        if let Some(&number) = self.index.get(&list) {
            return number;
        }
        let number = self.lists.len() as u32;
        self.lists.push(list.clone());
        self.index.insert(list, number);
        number
    }

    /// Whether `a` used no more of anything than `b`.
    pub(super) fn within(&self, a: u32, b: u32) -> bool {
        a == b
            || a == 0
            || self.lists[a as usize].iter().all(|(class, count)| *count <= self.count(b, *class))
    }

    pub(super) fn total(&self, used: u32) -> u32 {
        self.lists[used as usize].iter().map(|(_, count)| *count).sum()
    }
}
