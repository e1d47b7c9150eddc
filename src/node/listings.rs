//! Listings: one page of a table, as a quorum has it.

use alloc::vec::Vec;

use super::{Effects, Node};
use crate::base::{Key, RegisterId};
use crate::consensus::{Finding, Goal, Listed, Outcome, Stage, Tag};
use crate::paxos::Ballot;

impl Node {
    pub(super) fn on_listing(
        &mut self,
        from: usize,
        tag: Tag,
        items: Vec<Listed>,
        more: bool,
        effects: &mut Effects,
    ) {
        let needed = self.quorum();
        let floor = Ballot::genesis(self.epoch);
        let page_max = self.config.limits.page_max as usize;
        let number = tag.operation;
        let Some(operation) = self.asker(tag) else {
            return;
        };
        let Stage::Listing { listing } = &mut operation.stage else {
            return;
        };
        let ascending = items.windows(2).all(|pair| pair[0].key < pair[1].key);
        if !ascending || items.len() > page_max || !listing.tally.add(from) {
            return;
        }
        listing.pages.push((items, more));
        if listing.tally.count() == needed {
            listing.compare(needed, floor);
            listing.missing = listing.disputed.len();
            let table = listing.table;
            let disputed = listing.disputed.clone();
            for (place, key) in disputed.into_iter().enumerate() {
                let asker = self.child(number, place);
                self.start_own(asker, RegisterId::Key(table, key), Goal::Get, effects);
            }
            self.conclude_listing(number, effects);
        }
    }

    pub(super) fn on_listed(
        &mut self,
        number: u64,
        place: usize,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Listing { listing } = &mut operation.stage else {
            return;
        };
        let Finding::Chosen { cell, .. } = finding else {
            let Some(key) = listing.disputed.get(place).cloned() else {
                return;
            };
            let register = RegisterId::Key(listing.table, key);
            let asker = self.child(number, place);
            self.start_own(asker, register, Goal::Get, effects);
            return;
        };
        let live = cell.as_ref().is_some_and(|cell| cell.live().is_some());
        let Some(key) = listing.disputed.get(place).cloned() else {
            return;
        };
        listing.keys.insert(key, live);
        listing.missing -= 1;
        self.conclude_listing(number, effects);
    }

    fn conclude_listing(&mut self, number: u64, effects: &mut Effects) {
        let needed = self.quorum();
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Listing { listing } = &mut operation.stage else {
            return;
        };
        if listing.missing > 0 || listing.tally.count() < needed {
            return;
        }
        let live = core::mem::take(&mut listing.keys).into_iter().filter(|(_, live)| *live);
        let mut keys: Vec<Key> = live.map(|(key, _)| key).collect();
        let mut more = listing.more.take();
        if keys.len() > listing.limit as usize {
            keys.truncate(listing.limit as usize);
            more = keys.last().cloned();
        }
        self.finish(number, Outcome::Keys { keys, more }, Finding::Failed, effects);
    }
}
