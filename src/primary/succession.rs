//! How the next primary is found once the arbiter's sessions say that the last one is closed, and
//! how a primary hands over.
//!
//! Whoever is in sync may propose a successor, after enough of those in sync have *sworn off* the
//! old reign, on disk: they take nothing more of it, so the old primary can have nothing more
//! acknowledged, and what they have is all there will ever be (P-I4, P-I8).
//!
//! Must never know: how it is found out that a session is closed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::command::Refusal;
use super::log::Place;
use super::message::Body;
use super::replica::{Effect, Part, Replica};
use super::roster::Member;
use crate::base::{Instant, NodeId};

/// How many retries to wait for others that may have more, once there are enough.
const WAIT: u32 = 2;

/// What a secondary knows of those who have sworn off this reign.
#[derive(Debug, Default)]
pub(super) struct Election {
    since: Option<Instant>,
    sworn: BTreeMap<Member, Place>,
    /// Who wants to be told once this one has.
    asked_by: BTreeSet<Member>,
}

/// A primary that is about to be one no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandingOver {
    to: Option<NodeId>,
    until: Instant,
}

impl Replica {
    /// Somebody has learned that the primary's session is closed.
    pub(super) fn on_swear_off(&mut self, from: Member) {
        let Part::Follow(follower) = &mut self.part else { return };
        follower.election.asked_by.insert(from);
        self.swear_off();
    }

    fn swear_off(&mut self) {
        if !self.sworn_off {
            self.sworn_off = true;
            self.writer.enter(self.reign, true);
        }
    }

    pub(super) fn on_sworn(&mut self, from: Member, last: Place, effects: &mut Vec<Effect>) {
        match &mut self.part {
            Part::Follow(follower) => {
                follower.election.sworn.insert(from, last);
            }
            Part::Lead(lead) => {
                match lead.peers.get_mut(&from) {
                    Some(peer) => peer.sworn_off = true,
                    // The arbiter has said more than is known here, or will.
                    None => self.look(effects),
                }
            }
            Part::Outside | Part::Waiting => {}
        }
    }

    /// What is due so that there is a primary.
    pub(super) fn succeed(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        match self.part {
            Part::Follow(_) => self.elect(ticked, now, effects),
            Part::Lead(_) => {
                self.begin_anew(effects);
                self.hand_over(ticked, now, effects);
            }
            Part::Outside | Part::Waiting => {}
        }
    }

    fn elect(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        let roster = self.roster.clone();
        let Some(roster) = roster.filter(|roster| roster.reign == self.reign) else { return };
        if self.gone.contains(&roster.primary) {
            if roster.in_sync.contains(&self.me) {
                self.swear_off();
            } else if ticked {
                // It may be by now.
                self.look(effects);
            }
        }
        let durable = self.writer.durable();
        let (last, me, witnesses) = (self.log.last(), self.me, roster.acknowledge);
        let Part::Follow(follower) = &mut self.part else { return };
        if !durable.sworn_off || durable.reign != self.reign {
            return;
        }
        let election = &mut follower.election;
        let begins = election.since.is_none();
        let since = *election.since.get_or_insert(now);
        election.sworn.insert(me, last);
        let asked_by = core::mem::take(&mut election.asked_by);
        // Nobody whose own session is closed: that would only be to elect again.
        let counts = |member| roster.in_sync.contains(member) && !self.gone.contains(member);
        let in_sync: BTreeMap<Member, Place> = election
            .sworn
            .iter()
            .filter(|(member, _)| counts(member))
            .map(|(member, last)| (*member, *last))
            .collect();
        for to in asked_by {
            self.send(to, Body::Sworn(last), effects);
        }
        if !roster.in_sync.contains(&me) {
            if ticked {
                // It has gone on without this one, and has to begin anew to have it back.
                self.send(roster.primary, Body::Sworn(last), effects);
            }
            return;
        }
        let others = roster.in_sync.iter().filter(|other| **other != roster.primary);
        let missing: Vec<Member> =
            others.filter(|other| !in_sync.contains_key(other)).copied().collect();
        if begins || ticked {
            missing.iter().for_each(|to| self.send(*to, Body::SwearOff, effects));
            self.look(effects);
        }
        let waited = now.since(since) >= self.settings.retry * WAIT;
        let complete = waited || missing.iter().all(|other| self.gone.contains(other));
        if !complete || in_sync.len() < witnesses.witnesses(roster.in_sync.len()) {
            return;
        }
        // Of those who have sworn, somebody has all that was acknowledged: who has the most.
        let best =
            in_sync.iter().max_by_key(|(member, last)| (**last, core::cmp::Reverse(*member)));
        if let Some((best, _)) = best {
            let gone = |member: &Member| *member == roster.primary || self.gone.contains(member);
            let next = roster.succeeded_by(*best, gone);
            self.propose(next, effects);
        }
    }

    /// A primary that was thought to be gone, and was not succeeded, is primary still; but who has
    /// sworn off its reign, and does not count any more, can follow it only in another.
    fn begin_anew(&mut self, effects: &mut Vec<Effect>) {
        let (Part::Lead(lead), Some(roster)) = (&self.part, &self.roster) else { return };
        let sworn_off = |member| lead.peers.get(member).is_some_and(|peer| peer.sworn_off);
        if self.proposal.is_none() && roster.joining.iter().any(sworn_off) {
            let next = roster.succeeded_by(self.me, |_| false);
            self.propose(next, effects);
        }
    }

    /// An operator wants another primary.
    pub(super) fn on_hand_over(&mut self, to: Option<NodeId>, now: Instant) {
        let until = now + self.settings.answer_within;
        if let Part::Lead(lead) = &mut self.part {
            lead.handing = Some(HandingOver { to, until });
        }
    }

    /// Hands over to a replica that has everything. Nothing new is put in order meanwhile, and from
    /// the moment of asking the arbiter nothing is acknowledged any more, whatever it decides.
    fn hand_over(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        let Some(roster) = self.roster.clone() else { return };
        let last = self.log.last().index;
        let until = now + self.settings.answer_within;
        let Part::Lead(lead) = &mut self.part else { return };
        // Two that both want to leave would hand over to each other for ever, and nobody else could
        // catch up with either.
        let fits = |to: Option<NodeId>, member: &Member, peer: &super::lead::Peer| {
            let counts = roster.in_sync.contains(member) && !self.gone.contains(member);
            counts && to.map_or(!peer.leaving, |to| to == member.node)
        };
        let mut peers = lead.peers.iter();
        let leaves = ticked && !self.wanted && peers.any(|(member, peer)| fits(None, member, peer));
        if leaves && lead.handing.is_none() && now >= lead.goes_on {
            lead.handing = Some(HandingOver { to: None, until });
        }
        let Some(HandingOver { to, until }) = lead.handing else { return };
        if self.proposal.is_some() {
            return;
        }
        if now >= until {
            (lead.handing, lead.goes_on) = (None, now + self.settings.patience);
            return;
        }
        let mut peers = lead.peers.iter();
        let ready = peers.find(|(member, peer)| fits(to, member, peer) && peer.acked == last);
        if let Some((successor, _)) = ready
            && self.log.committed().index == last
        {
            // It still counts: nobody knows yet that the successor is well.
            let next = roster.succeeded_by(*successor, |_| false);
            self.propose(next, effects);
        }
    }

    /// Whether nothing new is to be put in order because somebody else is about to do that.
    #[must_use]
    pub const fn is_handing_over(&self) -> bool {
        matches!(&self.part, Part::Lead(lead) if lead.handing.is_some())
    }

    /// Whether it could hand over to this node, or to anybody.
    ///
    /// # Errors
    /// Why not.
    pub fn check_hand_over(&self, to: Option<NodeId>) -> Result<(), Refusal> {
        let (Part::Lead(_), Some(roster)) = (&self.part, &self.roster) else {
            return Err(Refusal::NotPrimary(self.primary()));
        };
        let fits = |member: &Member| {
            *member != self.me
                && !self.gone.contains(member)
                && to.is_none_or(|to| to == member.node)
        };
        roster.in_sync.iter().any(fits).then_some(()).ok_or(Refusal::NoSuccessor)
    }

    // ------------------------------------------------------------------ by force

    /// Whether an operator may make this the primary, though it did not count: everybody else who
    /// did is gone.
    ///
    /// # Errors
    /// Why not.
    pub fn check_force(&self) -> Result<(), Refusal> {
        let roster = self.roster.as_ref().ok_or(Refusal::NotReady)?;
        let others = roster.in_sync.iter().filter(|member| **member != self.me);
        let mut there = others.filter(|member| !self.gone.contains(member));
        there.next().map_or(Ok(()), |member| Err(Refusal::NotGone(member.node)))
    }

    /// An operator gives up what those who counted have lost, so that the table goes on with what
    /// is here.
    pub(super) fn on_force(&mut self) {
        if !matches!(self.part, Part::Lead(_)) && self.check_force().is_ok() {
            self.forced = self.roster.as_ref().map(|roster| roster.reign);
        }
    }

    /// Until a reign after the one that is to end has begun, or somebody who counted is back.
    pub(super) fn force(&mut self, effects: &mut Vec<Effect>) {
        let Some(forced) = self.forced else { return };
        let roster = self.roster.as_ref().filter(|roster| roster.reign == forced);
        let next = roster.filter(|_| self.check_force().is_ok());
        let Some(next) = next.map(|roster| roster.forced_by(self.me)) else {
            self.forced = None;
            return;
        };
        if self.proposal.as_ref() != Some(&next) {
            // Whoever does not lead may change its mind: nothing is acknowledged on the strength
            // of what it proposes.
            self.proposal = None;
            self.propose(next, effects);
        }
    }
}
