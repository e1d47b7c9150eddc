//! Marks: interesting things that must happen sometimes, or the simulator is quiet rather than the
//! engine right.
//!
//! Must never know: whether what happened was right.

use crate::rig::Rig;
use crate::scenario::find;

macro_rules! marks {
    ($($name:ident, $text:literal, $doc:literal;)*) => {
        /// An interesting thing that can happen in a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Mark {
            $(#[doc = $doc] $name,)*
        }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// How it is called; stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it says.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self {
                    $(Self::$name => $doc,)*
                }
            }
        }
    };
}

marks! {
    PreemptedThenWon, "preempted_then_won",
        "A proposer that was rejected got a later ballot of the same operation chosen.";
    EraseRacedPut, "erase_raced_put",
        "An erasure and a client's write of one register were in flight together.";
    Followed, "followed",
        "A proposal followed another of its node in the same round (P4).";
    ReadCompleted, "read_completed",
        "A read completed somebody's unfinished proposal at its own ballot (R3).";
    AgainTookEffect, "again_took_effect",
        "An operation sent again was found in the lineage: not applied twice (AMB i).";
    AgainEvaluated, "again_evaluated",
        "An attempt after an ambiguous one saw nothing as late as it: evaluated afresh (AMB ii).";
    AgainDead, "again_dead",
        "An attempt after an ambiguous one saw complete lineage without it: afresh (AMB iii).";
    AgainUnknown, "again_unknown",
        "An attempt after an ambiguous one saw lineage cut short: unknown (AMB iv).";
    ResolvedTwice, "resolved_twice",
        "An operation whose ambiguity had been resolved once was resolved again, and proposed anew.";
    UnknownOutcome, "unknown_outcome",
        "A client was told that an outcome is unknown.";
    UnknownResolved, "unknown_resolved",
        "An unknown outcome was resolved by sending the request again.";
    CrashResolved, "crash_resolved",
        "A request whose node crashed was sent again and answered definitely.";
    SessionClosed, "session_closed",
        "A node's session was closed by others.";
    SessionReopened, "session_reopened",
        "A node whose session had been closed opened its next one.";
    Suspended, "suspended",
        "A client was told that its session may have ended.";
    Resumed, "resumed",
        "A client was told that a suspended session goes on.";
    Lost, "lost",
        "A client was told that its session has ended.";
    TornTail, "torn_tail",
        "A node recovered from a log whose last write was torn.";
    PromiseUnsynced, "promise_unsynced",
        "A node crashed with a promise written but not yet durable, and forgot it.";
    VoteUnsynced, "vote_unsynced",
        "A node crashed with an acceptance written but not yet durable, and forgot it.";
    DurableUnsaid, "durable_unsaid",
        "A node crashed with a durable vote that nobody had been told of.";
    Cascade, "cascade",
        "An entry was erased because one it was bound to was, which itself was erased.";
    ErasedSession, "erased_session",
        "An entry was erased because a client session ended.";
    ErasedNode, "erased_node",
        "An entry was erased because a node's session ended.";
    ErasedKey, "erased_key",
        "An entry was erased because another key's life ended.";
    ErasedDeadline, "erased_deadline",
        "An entry was erased because its deadline passed.";
    ClocksDisagree, "clocks_disagree",
        "A deadline had passed by some clocks and not by a majority of them.";
    InvalidBinding, "invalid_binding",
        "A write was refused because what it was to be bound to had ended.";
    DuplicateDelivered, "duplicate_delivered",
        "A message was delivered twice.";
    LateMessage, "late_message",
        "A message from or to an earlier process life of a node arrived.";
    LateAnswer, "late_answer",
        "An answer to what a former process life of a node had asked arrived.";
    SleptTogether, "slept_together",
        "A quorum of nodes stood still at a time.";
    QuorumLost, "quorum_lost",
        "A node said that it lost the quorum.";
    QuorumRegained, "quorum_regained",
        "A node said that it reached a quorum after it had lost it.";
    MinorityRefused, "minority_refused",
        "A request was refused because there is no quorum.";
    Watched, "watched",
        "A watcher was told that a life of its key ended.";
    RoundDuel, "round_duel",
        "Three ballots or more were prepared for one operation.";
    MixedEmpties, "mixed_empties",
        "Acceptors of one register held absences of different ballots.";
    StateLost, "state_lost",
        "A node whose storage was lost said so.";
    LifeAfterLife, "life_after_life",
        "A key that had been live and dead was live again.";
    TrueConflict, "true_conflict",
        "A copy of a merged table heard of values that did not know of each other.";
    RemovedAndWritten, "removed_and_written",
        "A copy of a merged table heard of a removal and a value that did not know of each other.";
    ConflictEnded, "conflict_ended",
        "An alarm of a merged table went down.";
    ClockLied, "clock_lied",
        "Of values that did not know of each other the one written first was taken for the latest.";
    SplitAgain, "split_again",
        "A copy of a merged table was merged again with one that it had been merged with.";
    LeftApart, "left_apart",
        "Copies that were both written to while apart waited to be told to merge.";
    SideKept, "side_kept",
        "Copies were told to merge and whose values stay, and one's did.";
    ValueLost, "value_lost",
        "A copy told of a value that did not stay though what stays did not know of it.";
    WholeCopy, "whole_copy",
        "A copy of a merged table asked for everything that another holds.";
    LateWrite, "late_write",
        "A copy that had not met all others yet was written to.";
    WrittenAgain, "written_again",
        "A value that was written in ignorance of what had been forgotten was written once more.";
    BegunAnew, "begun_anew",
        "A copy that was given up took all from another, under a new name.";
    Forgotten, "forgotten",
        "A copy of a merged table forgot what all copies had seen.";
    AskedAmidPutting, "asked_amid_putting",
        "A client asked a copy of a merged table that had not put in all that counted.";
    GuardBroken, "guard_broken",
        "A guarded write was not done, since the key showed something else by then.";
    ResolveMissed, "resolve_missed",
        "A resolver's answer was not taken, since the conflict was another by then.";
    AskedElsewhere, "asked_elsewhere",
        "A node without a copy of a merged table had a client answered by one with.";
    Resolved, "resolved",
        "A resolver's answer ended a conflict.";
    ResolverFailed, "resolver_failed",
        "A resolver answered with an error.";
    ResolverPanicked, "resolver_panicked",
        "A resolver panicked (on the world rig, which has nothing to contain that: failed).";
    ResolverStalled, "resolver_stalled",
        "A resolver took its time, and its answer came late.";
    ResolverSecond, "resolver_second",
        "A resolver was asked by the second node in turn, as the first had not ended the conflict.";
    ResolverAgain, "resolver_again",
        "A resolver was asked once more about a conflict that it had left, as a node was back.";
    MergedTableMade, "merged_table_made",
        "A client was told that a merged table is made while the nodes ran.";
    MadeApart, "made_apart",
        "A merged table was made by a node that did not know that there was one elsewhere.";
    MadeAgain, "made_again",
        "A merged table was made under the name of one that had been there.";
    TableDropped, "table_dropped",
        "A client was told that a merged table is dropped.";
    Succeeded, "succeeded",
        "Another node became the primary of a table.";
    SucceededPending, "succeeded_pending",
        "Another node became the primary of a table with writes that were not committed yet.";
    CountedInPending, "counted_in_pending",
        "A replica of a primary table came to count while writes waited to be committed.";
    HeldByBoth, "held_by_both",
        "A primary committed while a change of who counts was in flight: both sets held it.";
    ReplicaUnsynced, "replica_unsynced",
        "A node crashed, or its disk failed, with a replica's records not yet durable.";
    ReplicaFolded, "replica_folded",
        "A node started from what its storage had made of the records of its replicas.";
    CountedIn, "counted_in",
        "A replica of a primary table has caught up, and counts.";
    CountedOut, "counted_out",
        "A replica of a primary table that left, or was silent or gone, counts no more.";
    CopiedWhole, "copied_whole",
        "A replica of a primary table took a copy in pieces, as it lacked too much.";
    ResolvedUndone, "resolved_undone",
        "A write of unknown outcome was resolved as not done before it was.";
    TableMade, "table_made",
        "A client was told that a primary table is made while the nodes ran.";
    PrimaryDropped, "primary_dropped",
        "A client was told that a primary table is dropped.";
    PrimaryMadeAgain, "primary_made_again",
        "A replica of a primary table was primary that was made under the name of a dropped one.";
    MadeAsAnother, "made_as_another",
        "A client that wanted a primary table made was told that it is there as another.";
    AskedOfAnother, "asked_of_another",
        "A client asked a primary table that was made after the one that it had asked before.";
    DroppedPending, "dropped_pending",
        "A primary table was dropped while a write to it was not answered yet.";
}

impl Mark {
    /// Which discipline of tables it is about.
    const fn family(self) -> &'static str {
        match self as u8 {
            mark if mark >= Self::Succeeded as u8 => "primary",
            mark if mark >= Self::TrueConflict as u8 => "merged",
            _ => "consensus",
        }
    }

    /// Whether no run of a scenario on a rig can hit it: streams deliver once, and not to who comes
    /// after; and scenarios are about one discipline of tables or another.
    #[must_use]
    pub fn is_out_of_reach(self, rig: Rig, scenario: &str) -> bool {
        let family = find(scenario).map_or("consensus", |scenario| scenario.family);
        let once = [Self::DuplicateDelivered, Self::LateMessage, Self::LateAnswer];
        self.family() != family || rig == Rig::Stack && once.contains(&self)
    }
}

/// How often each mark was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks([u32; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; Mark::ALL.len()])
    }
}

impl Marks {
    /// Hits a mark.
    #[inline]
    pub const fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] = self.0[mark as usize].saturating_add(1);
    }

    /// How often a mark was hit.
    #[must_use]
    pub const fn count(&self, mark: Mark) -> u32 {
        self.0[mark as usize]
    }

    /// Every mark with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Mark, u32)> {
        Mark::ALL.iter().map(|&mark| (mark, self.count(mark)))
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }
}
