//! The secondary: it takes what the primary puts in order, says what it has on disk, and pulls a
//! copy if it lacks more than the primary keeps as entries.
//!
//! Must never know: clients, who else follows.

use alloc::vec::Vec;

use super::log::{Entry, Log, Place};
use super::message::Body;
use super::replica::{Effect, Part, Replica};
use super::roster::Member;
use super::snapshot::{Cursor, Piece, Staging};
use super::succession::Election;
use crate::base::Instant;

/// How many retries without a word, or without anything that fits, before something is done.
const SILENCE: u32 = 4;

/// A copy in the making.
#[derive(Debug)]
struct Pulling {
    staging: Staging,
    /// What was asked for last, and when.
    asked: Option<(Option<Cursor>, Instant)>,
}

/// What a secondary knows of its primary.
#[derive(Debug)]
pub(super) struct Follower {
    /// Who puts writes in order, once it has said so.
    leader: Option<Member>,
    /// Up to where the log is known to be the primary's, in this reign.
    matched: Option<u64>,
    /// Up to where the primary's is committed.
    committed: u64,
    round: u64,
    /// Up to where it was when this replica first heard of it.
    target: Option<u64>,
    /// What it has acknowledged, and whether it is asked to say it again.
    acked: (u64, u64),
    owes_ack: bool,
    greeted: bool,
    heard: Instant,
    /// When something of the primary fitted last.
    fitted: Instant,
    pulling: Option<Pulling>,
    pub(super) election: Election,
}

impl Follower {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            leader: None,
            matched: None,
            committed: 0,
            round: 0,
            target: None,
            acked: (0, 0),
            owes_ack: false,
            greeted: false,
            heard: now,
            fitted: now,
            pulling: None,
            election: Election::default(),
        }
    }

    pub(super) fn heard_committed(&self) -> Option<u64> {
        (self.committed > 0).then_some(self.committed)
    }

    /// What was known of the reign before is void.
    pub(super) fn begin_reign(&mut self) {
        let (fitted, target) = (self.fitted, self.target);
        *self = Self { fitted, target, ..Self::new(self.heard) };
    }

    /// Whether a log that is committed up to here is no older than the table was when this replica
    /// heard of it.
    pub(super) fn is_up_to_date(&self, committed: u64) -> bool {
        self.target.is_some_and(|target| target <= committed)
    }
}

impl Replica {
    /// The primary of this reign says something.
    pub(super) fn on_primary(&mut self, from: Member, body: Body, now: Instant) {
        let known = self.roster.as_ref().filter(|roster| roster.reign == self.reign);
        let false_primary = known.is_some_and(|roster| roster.primary != from);
        let greeting = self.greeting;
        let Part::Follow(follower) = &mut self.part else { return };
        if false_primary || self.sworn_off {
            return;
        }
        follower.leader = Some(from);
        follower.heard = now;
        match body {
            Body::Append { prev, entries, committed, round } => {
                // That something more is committed, which it has acknowledged, is only told.
                let only_tells =
                    entries.is_empty() && committed > follower.committed && round <= follower.round;
                follower.owes_ack |= !only_tells;
                follower.round = follower.round.max(round);
                // Shown once it is here, up to where this log is the primary's.
                follower.committed = follower.committed.max(committed);
                follower.target.get_or_insert(committed);
                self.on_append(prev, entries, now);
            }
            Body::Behind { greeting: asked, cursor } if asked == greeting => {
                let pulling = follower.pulling.as_ref().map(|pulling| pulling.staging.cursor());
                // One is begun if there is none, and again if it cannot be finished.
                if pulling.is_none() || cursor.is_some() && pulling.flatten() == cursor.as_ref() {
                    let staging = Staging::new(self.settings.limits.remembered);
                    follower.pulling = Some(Pulling { staging, asked: None });
                    self.writer.unstage();
                }
            }
            Body::Piece { greeting: asked, piece } if asked == greeting => {
                self.on_piece(piece, now);
            }
            Body::Behind { .. } | Body::Piece { .. } => {}
            Body::Ack { .. }
            | Body::Hello { .. }
            | Body::Leave
            | Body::Pull { .. }
            | Body::SwearOff
            | Body::Sworn(_) => unreachable!("not for secondaries"),
        }
    }

    /// what comes next is taken, what is there already is left, what comes too early waits to
    /// be sent again. Only what differs is cut off (P-I7), and that was never committed.
    fn on_append(&mut self, prev: Place, entries: Vec<Entry>, now: Instant) {
        let Part::Follow(follower) = &mut self.part else { return };
        // What is kept no more is known to be the primary's, or is not.
        let fits = match self.log.reign_at(prev.index) {
            Some(reign) => reign == prev.reign,
            None => follower.matched.is_some_and(|matched| prev.index <= matched),
        };
        if follower.pulling.is_some() || !fits {
            return;
        }
        let mut last = prev;
        let ordered = entries.iter().all(|entry| {
            let next = entry.place.index == last.index.saturating_add(1)
                && entry.place.reign >= last.reign
                && entry.place.reign <= self.reign;
            last = entry.place;
            next
        });
        if !ordered {
            return;
        }
        for entry in entries {
            let (index, held) = (entry.place.index, self.log.committed());
            if index <= held.index {
                let same = |reign| reign == entry.place.reign;
                if !self.log.reign_at(index).is_none_or(same) {
                    // What was committed here alone is not the primary's: a whole copy is due.
                    follower.matched = None;
                    return;
                }
                continue;
            }
            match self.log.reign_at(index) {
                Some(reign) if reign == entry.place.reign => continue,
                // A primary changes nothing of what it has put in order in its reign.
                Some(_) if follower.matched >= Some(index) => return,
                Some(_) => {
                    self.log.truncate(index - 1);
                    self.writer.cut(index - 1);
                }
                None => {}
            }
            self.log.append(entry.clone());
            self.writer.append(entry);
        }
        follower.fitted = now;
        if follower.matched < Some(last.index) {
            follower.matched = Some(last.index);
            // What is still said of an earlier hello was said of another log.
            self.greeting += 1;
        }
    }

    fn on_piece(&mut self, piece: Piece, now: Instant) {
        let Part::Follow(follower) = &mut self.part else { return };
        let Some(pulling) = &mut follower.pulling else { return };
        if !pulling.staging.fits(&piece) || !piece.is_of(self.reign) {
            return;
        }
        pulling.staging.add(&piece);
        self.writer.stage(piece);
        follower.fitted = now;
        if pulling.staging.whole().is_none() {
            return;
        }
        // P-I6: all or nothing. The journal does the same when it has read the last piece.
        let Some(Pulling { staging, .. }) = follower.pulling.take() else { return };
        self.log = Log::new(staging.into_content(), self.settings.limits.history_max());
        let place = self.log.committed();
        self.writer.replaced(place.index);
        follower.matched = Some(place.index);
        follower.committed = follower.committed.max(place.index);
        self.greeting += 1;
    }

    /// What is due as a secondary.
    pub(super) fn follow(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        let retry = self.settings.retry;
        let silence = |since: Instant| now.since(since) > retry * SILENCE;
        let durable = self.writer.durable().clone();
        let primary = self.roster.as_ref().filter(|roster| roster.reign == self.reign);
        let primary = primary.map(|roster| roster.primary);
        let Part::Follow(follower) = &mut self.part else { return };
        let matched = follower.matched.unwrap_or(0);
        // Shown once it is on this disk too.
        let index = follower.committed.min(matched).min(durable.index);
        if index > self.log.committed().index {
            self.log.commit(index);
        }
        let looks = ticked && silence(follower.heard);
        let to = follower.leader.or(primary).filter(|_| !self.sworn_off);
        if let Some(to) = to.filter(|_| durable.reign == self.reign) {
            let mut bodies = Vec::new();
            // only what is on disk, however often it is asked for.
            let ack = (matched.min(durable.index), follower.round);
            if core::mem::take(&mut follower.owes_ack) || ack != follower.acked {
                follower.acked = ack;
                bodies.push(Body::Ack { index: ack.0, round: ack.1 });
            }
            let unmatched = follower.matched.is_none() || silence(follower.fitted);
            let greets = !follower.greeted || ticked && unmatched && follower.pulling.is_none();
            if !self.wanted && (ticked || greets) {
                bodies.push(Body::Leave);
            }
            if greets {
                follower.greeted = true;
                bodies.push(Body::Hello { greeting: self.greeting, ends: self.log.ends() });
            }
            bodies.extend(follower.pull(self.greeting, durable.cursor.as_ref(), now, retry));
            bodies.into_iter().for_each(|body| self.send(to, body, effects));
        }
        if looks {
            self.look(effects);
        }
    }
}

impl Follower {
    /// The next question for a copy in the making: once what there is of it is on disk, so that it
    /// takes as long as it takes here, and nobody waits for it.
    fn pull(
        &mut self,
        greeting: u64,
        durable: Option<&Cursor>,
        now: Instant,
        retry: core::time::Duration,
    ) -> Option<Body> {
        let pulling = self.pulling.as_mut()?;
        let after = pulling.staging.cursor().cloned();
        let asked = pulling.asked.as_ref();
        let again = asked.is_none_or(|(asked, when)| *asked != after || now >= *when + retry);
        if durable != after.as_ref() || !again {
            return None;
        }
        pulling.asked = Some((after.clone(), now));
        Some(Body::Pull { greeting, after })
    }
}
