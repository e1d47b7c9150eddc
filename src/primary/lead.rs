//! The primary: it puts writes in order, sends them to every replica until each has them on disk,
//! and commits what all who count hold.
//!
//! Must never know: what clients are told, how rosters are decided.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::log::{Entry, Place, What};
use super::message::Body;
use super::replica::{Effect, Limits, Part, Replica, Settings};
use super::roster::{Acknowledge, Member, Roster};
use super::succession::HandingOver;
use crate::base::Instant;

/// What a primary knows of another replica, in this reign.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it is sent next, once it is known where its log leaves this one.
    next: Option<u64>,
    /// Up to where it has said that its log is this one.
    matched: u64,
    /// Up to where it has that on disk.
    pub(super) acked: u64,
    /// The latest round in which it followed.
    round: u64,
    pub(super) heard: Instant,
    /// Batches under way: up to where each goes, and its bytes.
    flight: VecDeque<(u64, usize)>,
    /// Whether it has acknowledged anything since the last retry, and how many retries there have
    /// been since it did.
    progressed: bool,
    retries: u32,
    /// Whether it is to be sent something, even if there is nothing new.
    due: bool,
    /// When it acknowledged something new last.
    rose: Option<Instant>,
    /// Since when it has been as good as caught up, when that was tried last; and whether nothing
    /// is committed meanwhile that it lacks.
    admitted: Option<Instant>,
    is_awaited: bool,
    /// Whether it wants to be counted no more.
    pub(super) leaving: bool,
    /// Whether it takes nothing more of this reign.
    pub(super) sworn_off: bool,
}

impl Peer {
    const fn new(now: Instant) -> Self {
        Self {
            next: None,
            matched: 0,
            acked: 0,
            round: 0,
            heard: now,
            flight: VecDeque::new(),
            progressed: false,
            retries: 0,
            due: true,
            rose: None,
            admitted: None,
            is_awaited: false,
            leaving: false,
            sworn_off: false,
        }
    }

    fn on_acknowledged(&mut self, index: u64, now: Instant) {
        if index > self.acked {
            self.acked = index;
            self.rose = Some(now);
            (self.progressed, self.retries) = (true, 0);
        }
        if index > 0 {
            self.matched = self.matched.max(index);
            self.next = self.next.max(Some(self.matched + 1));
        }
        while self.flight.front().is_some_and(|(end, _)| *end <= self.matched) {
            self.flight.pop_front();
        }
    }

    /// Nothing was acknowledged since the last retry: what is under way is lost, or takes its time.
    /// What comes first is sent again, and the rest of it once that is there.
    fn retry(&mut self) {
        if core::mem::take(&mut self.progressed) || self.flight.is_empty() {
            return;
        }
        self.retries += 1;
        if self.retries <= PROMPT || self.retries.is_multiple_of(PROMPT) {
            self.flight.clear();
            self.next = Some(self.matched + 1);
        }
    }

    /// Whether more may be under way to it.
    fn has_room(&self, limits: &Limits) -> bool {
        let Some(next) = self.next else { return false };
        let bytes: usize = self.flight.iter().map(|(_, bytes)| bytes).sum();
        let under_way = (next - 1).saturating_sub(self.matched);
        let room = under_way < limits.window && bytes < limits.window_bytes;
        self.flight.is_empty() || self.retries == 0 && room
    }
}

/// How many times something is sent again at each retry, before that is done more rarely: once in
/// as many retries.
const PROMPT: u32 = 10;

/// For how many retries commits wait for who is as good as caught up.
const ADMISSION: u32 = 4;

/// A primary's reign.
#[derive(Debug)]
pub(super) struct Lead {
    /// Its first entry: once that is committed, so is all that was ever acknowledged.
    pub(super) begin: u64,
    pub(super) round: u64,
    pub(super) peers: BTreeMap<Member, Peer>,
    /// When each entry of the tail was put there.
    times: VecDeque<(u64, Instant)>,
    pub(super) handing: Option<HandingOver>,
    /// Before this it does not hand over of itself: nobody could take it.
    pub(super) goes_on: Instant,
}

impl Replica {
    pub(super) fn begin_reign(&mut self, now: Instant) {
        let begin = self.log.last().index + 1;
        self.part = Part::Lead(Lead {
            begin,
            round: 0,
            peers: BTreeMap::new(),
            times: VecDeque::new(),
            handing: None,
            goes_on: now,
        });
        self.order(What::Begin, now);
    }

    /// Puts a step behind all others.
    pub(super) fn order(&mut self, what: What, now: Instant) {
        let Part::Lead(lead) = &mut self.part else { return };
        let index = self.log.last().index + 1;
        let entry = Entry { place: Place { reign: self.reign, index }, what };
        lead.times.push_back((index, now));
        self.log.append(entry.clone());
        self.writer.append(entry);
    }

    /// A secondary says something.
    pub(super) fn on_secondary(
        &mut self,
        from: Member,
        body: Body,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Part::Lead(lead) = &mut self.part else { return };
        let Some(peer) = lead.peers.get_mut(&from) else {
            // The arbiter has said more than is known here, or will.
            if matches!(body, Body::Hello { .. }) {
                self.look(effects);
            }
            return;
        };
        peer.heard = now;
        match body {
            Body::Ack { index, round } if index <= self.log.last().index => {
                peer.round = peer.round.max(round.min(lead.round));
                peer.on_acknowledged(index, now);
            }
            Body::Hello { greeting, ends } => {
                if ends.last().is_none_or(|last| last.index < peer.acked) {
                    // It has said more since.
                    return;
                }
                let common = self.log.common(&ends);
                let kept = common.filter(|index| self.log.after(*index, 1).is_some());
                peer.matched = kept.unwrap_or(peer.acked);
                peer.next = kept.map(|index| index + 1);
                peer.flight.clear();
                peer.due = kept.is_some();
                if kept.is_none() {
                    self.send(from, Body::Behind { greeting, cursor: None }, effects);
                }
            }
            Body::Leave => peer.leaving = true,
            Body::Pull { greeting, after } => {
                let bytes = self.settings.limits.batch_bytes;
                let content = self.log.content();
                let body = match content.piece(after.as_ref(), self.log.history(), bytes) {
                    Some(piece) => Body::Piece { greeting, piece },
                    None => Body::Behind { greeting, cursor: after },
                };
                self.send(from, body, effects);
            }
            Body::Ack { .. } => {}
            Body::Append { .. }
            | Body::Behind { .. }
            | Body::Piece { .. }
            | Body::SwearOff
            | Body::Sworn(_) => unreachable!("not for primaries"),
        }
    }

    /// What is due as primary.
    pub(super) fn lead(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        let Some(roster) = self.roster.clone() else { return };
        self.keep_peers(&roster, now);
        self.admit(&roster, now);
        self.commit(&roster, effects);
        self.begin_round(ticked);
        self.replicate(ticked, effects);
        if self.proposal.is_none() {
            self.change_roster(&roster, now, effects);
        }
    }

    /// Whoever may be, or may come to be, a replica is sent everything.
    fn keep_peers(&mut self, roster: &Roster, now: Instant) {
        let Part::Lead(lead) = &mut self.part else { return };
        let rosters = [Some(roster), self.proposal.as_ref()];
        let rosters = rosters.into_iter().flatten();
        lead.peers.retain(|member, _| rosters.clone().any(|roster| roster.has(member)));
        let others = rosters.flat_map(Roster::members);
        for member in others.filter(|member| *member != self.me) {
            lead.peers.entry(member).or_insert_with(|| Peer::new(now));
        }
    }

    /// Under steady writes who is far away never has everything that is committed: there is always
    /// something on its way. So for a moment nothing is committed that it lacks, once that is no
    /// more than what may be on its way; and if the moment was too short, not soon again.
    fn admit(&mut self, roster: &Roster, now: Instant) {
        let (Settings { retry, patience, limits, .. }, last) = (&self.settings, self.log.last());
        let required = self.log.committed().index;
        let Part::Lead(lead) = &mut self.part else { return };
        let required = required.max(lead.begin);
        for (member, peer) in &mut lead.peers {
            let is_near = peer.next.is_some() && peer.acked + limits.window > last.index;
            // Who writes nothing is not waited for.
            let rises = peer.rose.is_some_and(|when| now.since(when) < *retry);
            let may = is_near && rises && !peer.leaving && !self.gone.contains(member);
            let lacks = peer.acked < required;
            if may && lacks && peer.admitted.is_none_or(|when| now.since(when) > *patience) {
                peer.admitted = Some(now);
            }
            let begun = peer.admitted.is_some_and(|when| now.since(when) < *retry * ADMISSION);
            peer.is_awaited = begun && may && roster.joining.contains(member);
        }
    }

    /// Whether commits wait for somebody who is about to be counted in.
    #[must_use]
    pub fn is_admitting(&self) -> bool {
        let Part::Lead(lead) = &self.part else { return false };
        lead.peers.values().any(|peer| peer.is_awaited)
    }

    /// Up to where everything is held by enough: of those in sync, and, while a change of them may
    /// be decided any time, of those who would be in sync then too (P-I2).
    fn held(
        &self,
        roster: &Roster,
        by: impl Fn(Acknowledge) -> Acknowledge,
        position: impl Fn(Member) -> u64,
    ) -> u64 {
        let held = |of: &Roster| by(of.acknowledge).held(&of.in_sync, self.me, &position);
        match &self.proposal {
            None => held(roster),
            Some(next) if next.reign != roster.reign => 0,
            Some(next) => held(roster).min(held(next)),
        }
    }

    fn position(&self, member: Member) -> u64 {
        match &self.part {
            _ if member == self.me => self.writer.durable().index,
            Part::Lead(lead) => lead.peers.get(&member).map_or(0, |peer| peer.acked),
            Part::Follow(_) | Part::Outside | Part::Waiting => 0,
        }
    }

    fn commit(&mut self, roster: &Roster, effects: &mut Vec<Effect>) {
        let held = self.held(roster, |by| by, |member| self.position(member));
        let Part::Lead(lead) = &mut self.part else { return };
        let awaited = lead.peers.values().filter(|peer| peer.is_awaited);
        let held = awaited.map(|peer| peer.acked).fold(held, u64::min);
        // What earlier reigns left is committed by what this one puts behind it.
        if held < lead.begin || held <= self.log.committed().index {
            return;
        }
        while lead.times.front().is_some_and(|(index, _)| *index <= held) {
            lead.times.pop_front();
        }
        for done in self.log.commit(held) {
            self.answer_write(&done, effects);
        }
        // Nothing follows that could say so on its way, and whoever reads a replica waits for it.
        if self.log.tail().is_empty()
            && let Part::Lead(lead) = &mut self.part
        {
            lead.peers.values_mut().for_each(|peer| peer.due = true);
        }
    }

    /// Whether this was still the primary when the round began.
    pub(super) fn is_proved(&self, round: u64) -> bool {
        let (Part::Lead(lead), Some(roster)) = (&self.part, &self.roster) else { return false };
        let followed = |member| match lead.peers.get(&member) {
            _ if member == self.me => lead.round,
            None => 0,
            Some(peer) => peer.round,
        };
        lead.round >= round && self.held(roster, Acknowledge::of_proof, followed) >= round
    }

    /// Reads that need a proof share rounds: the next begins when the last is over.
    fn begin_round(&mut self, ticked: bool) {
        let wanted = self.asks.round_wanted();
        let over = |lead: &Lead| ticked || self.is_proved(lead.round);
        let begins = matches!(&self.part, Part::Lead(lead) if wanted > lead.round && over(lead));
        if let Part::Lead(lead) = &mut self.part
            && begins
        {
            lead.round += 1;
            lead.peers.values_mut().for_each(|peer| peer.due = true);
        }
    }

    /// sends what is new, and after a while again what was not acknowledged.
    fn replicate(&mut self, ticked: bool, effects: &mut Vec<Effect>) {
        let Part::Lead(lead) = &mut self.part else { return };
        let limits = &self.settings.limits;
        let (last, committed) = (self.log.last(), self.log.committed().index);
        let (reign, round) = (self.reign, lead.round);
        for (to, peer) in &mut lead.peers {
            let mut send = |prev, entries| {
                let body = Body::Append { prev, entries, committed, round };
                let message = super::message::Message { reign, body };
                effects.push(Effect::Send { to: *to, message });
            };
            let mut due = core::mem::take(&mut peer.due) || ticked;
            if ticked {
                peer.retry();
            }
            while let Some(next) = peer.next.filter(|next| *next <= last.index)
                && peer.has_room(limits)
            {
                let prev = self.log.reign_at(next - 1);
                let entries = self.log.after(next - 1, limits.batch_bytes);
                let (Some(prev), Some(entries)) = (prev, entries) else {
                    // It has fallen behind what is kept, and will find that nothing fits.
                    peer.next = None;
                    break;
                };
                due = false;
                peer.next = Some(next + entries.len() as u64);
                peer.flight.push_back((
                    next + entries.len() as u64 - 1,
                    entries.iter().map(Entry::size).sum(),
                ));
                send(Place { reign: prev, index: next - 1 }, entries);
            }
            if due {
                // So that it knows whose reign it is, and that what it has is right.
                let reign = peer.next.and_then(|_| self.log.reign_at(peer.matched));
                let known = reign.map(|reign| Place { reign, index: peer.matched });
                send(known.unwrap_or(last), Vec::new());
            }
        }
    }

    /// This process did nothing for so long: that is no silence of anybody else.
    pub(super) fn excuse(&mut self, pause: Duration, now: Instant) {
        let Part::Lead(lead) = &mut self.part else { return };
        for peer in lead.peers.values_mut() {
            peer.heard = now.min(peer.heard + pause);
        }
        for (_, since) in &mut lead.times {
            *since = now.min(*since + pause);
        }
    }

    /// Counts in who has caught up, and out who has gone, is too slow, or wants to (A-35, A-37,
    /// A-38); but only by way of the arbiter (P-I11).
    fn change_roster(&mut self, roster: &Roster, now: Instant, effects: &mut Vec<Effect>) {
        let Part::Lead(lead) = &self.part else { return };
        let (patience, last) = (self.settings.patience, self.log.last().index);
        let required = self.log.committed().index.max(lead.begin);
        let mut caught_up = BTreeSet::new();
        let mut out = BTreeSet::new();
        for (member, peer) in &lead.peers {
            let oldest = lead.times.partition_point(|(index, _)| *index <= peer.acked);
            let owes = lead.times.get(oldest).map_or(now, |(_, since)| *since);
            let counts = roster.in_sync.contains(member);
            let slow = counts && now.since(owes) > patience;
            let gone = self.gone.contains(member);
            let silent = now.since(peer.heard) > patience;
            // Who has come back may catch up before its session is open again.
            if counts && gone || peer.leaving || slow || silent {
                out.insert(*member);
            } else if !gone
                && peer.next.is_some()
                && peer.acked >= required
                && peer.acked + self.settings.limits.window > last
            {
                caught_up.insert(*member);
            }
        }
        let mut next = roster.changed(&caught_up, &out);
        let held = |by: Acknowledge, next: &Roster| {
            by.held(&next.in_sync, self.me, |member| self.position(member)) >= required
        };
        // What was acknowledged by one rule must be found by the other.
        if held(self.settings.acknowledge, &next) {
            next.acknowledge = self.settings.acknowledge;
        }
        // No majority of the next set may lack something. Of all in sync, nobody does.
        let safe = next.acknowledge != Acknowledge::Quorum || held(Acknowledge::Quorum, &next);
        if next != *roster && safe {
            self.propose(next, effects);
        }
    }
}
