//! Reads: what is chosen, found out by asking a quorum (R0-R6).

use alloc::sync::Arc;

use super::{Effects, Node};
use crate::consensus::{Cell, Message, Quorum, Stage};
use crate::paxos::{Ballot, Reading, Tally, Verdict};

impl Node {
    pub(super) fn read(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.attempt += 1;
        operation.suspect = false;
        operation.heard = Quorum::UNHEARD;
        operation.stage = Stage::Reading { reading: Reading::default() };
        let register = operation.register.clone();
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(Message::Read { tag, register }, effects);
    }

    pub(super) fn on_read_reply(&mut self, from: usize, reply: Message, effects: &mut Effects) {
        let Message::ReadReply { tag, register, accepted, cell, chosen, suspect, testimony } =
            reply
        else {
            return;
        };
        let (quorum, epoch) = (self.quorum(), self.epoch);
        let number = tag.operation;
        let Some(operation) = self.asker_about(tag, &register) else {
            return;
        };
        let Stage::Reading { reading } = &mut operation.stage else {
            return;
        };
        reading.on_reply(from, accepted, cell.as_ref(), chosen);
        operation.heard.hear(&testimony);
        operation.suspect |= suspect;
        match reading.verdict(quorum, epoch) {
            Verdict::Pending => {}
            Verdict::Chosen => {
                let (ballot, cell) = (reading.ballot(), reading.content().cloned());
                self.on_chosen(number, ballot, cell, effects);
            }
            Verdict::Incomplete => {
                let Some(cell) = reading.content().cloned() else {
                    return;
                };
                let ballot = reading.ballot();
                self.complete(number, ballot, cell, effects);
            }
            Verdict::Inherited => self.propose(number, effects),
        }
    }

    /// R3: has a quorum accept what the read found, at the ballot it has already. To an acceptor
    /// that is a duplicate of the proposer's own message, so it disturbs nobody.
    fn complete(&mut self, number: u64, ballot: Ballot, cell: Arc<Cell>, effects: &mut Effects) {
        if self.must_bury(number, &cell) {
            return self.bury(number, &cell, effects);
        }
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.attempt += 1;
        let register = operation.register.clone();
        operation.stage = Stage::Completing { ballot, cell: cell.clone(), tally: Tally::default() };
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(Message::Accept { tag, register, ballot, cell }, effects);
    }
}
