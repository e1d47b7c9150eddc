//! Who is to be a replica of a primary table, as operators have said it: what a node that was told
//! to join or to leave may say of itself, also when it starts again.
//!
//! Must never know: what a node says of itself.

use synod::primary::Answer;
use synod::{OpId, Outcome};

/// What one node was told about one table: what may have been said last.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    words: Vec<Word>,
    /// Numbers what happens.
    moment: u64,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    wanted: bool,
    /// By which call; none made the table.
    op: Option<OpId>,
    asked: u64,
    /// When it could take effect no more, or had.
    ended: Option<u64>,
}

impl Wanted {
    /// As the table has it.
    pub(super) fn new(wanted: bool) -> Self {
        let word = Word { wanted, op: None, asked: 0, ended: Some(0) };
        Self { words: vec![word], moment: 0 }
    }

    /// Whether this may hold now.
    pub(super) fn may_be(&self, wanted: bool) -> bool {
        self.words.iter().any(|word| word.wanted == wanted)
    }

    /// The node is told, and may do it from now on.
    pub(super) fn ask(&mut self, op: OpId, wanted: bool) {
        self.moment += 1;
        self.words.push(Word { wanted, op: Some(op), asked: self.moment, ended: None });
    }

    /// The node answers a call, if that was one of these. What is done has taken the place of all
    /// that had ended when it was asked for; of what was under way meanwhile it is not known.
    pub(super) fn answer(&mut self, op: OpId, outcome: &Outcome) {
        let is_it = |word: &Word| word.op == Some(op) && word.ended.is_none();
        let Some(place) = self.words.iter().position(is_it) else { return };
        self.moment += 1;
        let asked = self.words[place].asked;
        self.words[place].ended = Some(self.moment);
        if *outcome == Outcome::Primary(Answer::Done) {
            self.words.retain(|word| word.ended.is_none_or(|ended| ended > asked));
        } else if matches!(outcome, Outcome::Refused(_)) {
            self.words.remove(place);
        }
    }

    /// The node starts again: what was under way was done, or will not be.
    pub(super) fn restart(&mut self) {
        self.moment += 1;
        for word in self.words.iter_mut().filter(|word| word.ended.is_none()) {
            word.ended = Some(self.moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use synod::{ClientId, Refusal, RequestId};

    use super::*;

    fn op(number: u64) -> OpId {
        OpId { client: ClientId::new(1), request: RequestId(number) }
    }

    fn may(wanted: &Wanted) -> (bool, bool) {
        (wanted.may_be(false), wanted.may_be(true))
    }

    const DONE: Outcome = Outcome::Primary(Answer::Done);

    #[test]
    fn what_is_done_is_so() {
        let mut wanted = Wanted::new(true);
        wanted.ask(op(1), false);
        assert_eq!(may(&wanted), (true, true), "it may be done and not answered yet");
        wanted.answer(op(1), &DONE);
        assert_eq!(may(&wanted), (true, false));
        wanted.restart();
        assert_eq!(may(&wanted), (true, false), "it is on disk");
        wanted.ask(op(2), true);
        wanted.answer(op(2), &Outcome::Refused(Refusal::Busy));
        assert_eq!(may(&wanted), (true, false), "it is not done");
    }

    #[test]
    fn what_is_unknown_is_either_until_something_is_done() {
        let mut wanted = Wanted::new(true);
        wanted.ask(op(1), false);
        wanted.answer(op(1), &Outcome::Unknown);
        wanted.ask(op(2), false);
        wanted.restart();
        assert_eq!(may(&wanted), (true, true));
        wanted.ask(op(3), true);
        wanted.answer(op(3), &DONE);
        assert_eq!(may(&wanted), (false, true));
    }

    #[test]
    fn what_was_under_way_meanwhile_may_be_later() {
        let mut wanted = Wanted::new(true);
        wanted.ask(op(1), false);
        wanted.ask(op(2), true);
        wanted.answer(op(1), &DONE);
        assert_eq!(may(&wanted), (true, true));
        wanted.answer(op(2), &DONE);
        assert_eq!(may(&wanted), (true, true), "in which order is not known");
        wanted.ask(op(3), false);
        wanted.answer(op(3), &DONE);
        assert_eq!(may(&wanted), (true, false));
    }
}
