//! What can be taken next from a configuration, and what is worth trying.
//!
//! Must never know: which configurations are kept.

use super::{Config, Frontier, Goal, Limits, Masks, Slots, Taken, follow};
use crate::checker::case::{ABSENT, Case, Class, Duty, Effect, Guard, NONE, Step};
use crate::history::History;

impl<const N: usize> Frontier<N> {
    /// The writes that may meet the goal themselves.
    pub(super) fn finishing(&self, case: &Case, goal: Goal) -> Slots<N> {
        let Goal::Taken(slot) = goal else { return self.pinned };
        let own = Slots::bit(slot);
        let step = case.steps[self.step_at[slot as usize] as usize];
        match (step.effect, step.guard) {
            (Effect::Append(_) | Effect::Set(_), _) => own,
            (Effect::Keep, Guard::Is(val)) => {
                let info = &case.vals[val as usize];
                if !info.unique || info.writer == NONE {
                    return self.pinned;
                }
                match self.slot_of[info.writer as usize] {
                    NONE => own,
                    writer => Slots::bit(writer),
                }
            }
            (Effect::Keep, Guard::Any | Guard::Never | Guard::Not(_) | Guard::Other(_)) => {
                self.pinned
            }
        }
    }

    /// The overwrites that can be of use before the goal is met.
    ///
    /// One whose value is still to be seen cannot be left again. One that everything saw already
    /// is marked free by the next overwrite, which is as good as taking it first, unless something
    /// other than an overwrite follows it.
    pub(super) fn worth_trying(&self, case: &Case, config: &Config<N>, goal: Goal) -> Slots<N> {
        let Goal::Taken(slot) = goal else { return self.blind };
        if case.tracked || case.appends {
            return self.blind;
        }
        let step = case.steps[self.step_at[slot as usize] as usize];
        let mut own = Slots::bit(slot);
        if step.effect == Effect::Keep {
            match step.guard {
                Guard::Is(val) => {
                    let info = &case.vals[val as usize];
                    if !info.unique || info.writer == NONE {
                        return self.blind.minus(self.pinned);
                    }
                    let writer = self.slot_of[info.writer as usize];
                    if writer != NONE {
                        own = own.or(Slots::bit(writer));
                    }
                }
                Guard::Any | Guard::Never | Guard::Not(_) | Guard::Other(_) => return self.blind,
            }
        }
        let val = case.states[config.state as usize].val;
        let present = !self.present.minus(config.done).is_empty();
        let followed = case.erasable
            || case.guarded_classes
            || present && (val == ABSENT || !self.blind_removes.is_empty())
            || !case.vals[val as usize].unique && !self.others.minus(config.done).is_empty();
        let pinned = self.blind.minus(self.pinned);
        let some = if followed { pinned } else { pinned.minus(self.passing) };
        some.or(own.and(self.blind))
    }

    /// Whether another step in flight does the same and ends earlier: then this one can wait.
    pub(super) fn has_twin(
        &self,
        case: &Case,
        config: &Config<N>,
        slot: u32,
        step: Step,
        val: u32,
    ) -> bool {
        let Effect::Set(state) = step.effect else { return false };
        if case.vals[case.states[state as usize].val as usize].unique
            || step.duty == Duty::GoneByEnd
        {
            return false;
        }
        let like = match step.guard {
            Guard::Any => self.blind,
            Guard::Is(_) => self.masks[val as usize].writes,
            Guard::Not(_) | Guard::Other(_) => self.present,
            Guard::Never => return false,
        };
        let mut like = like.minus(config.done);
        while let Some(other) = like.pop() {
            let twin = case.steps[self.step_at[other as usize] as usize];
            // A free one is better kept for later.
            if other != slot
                && twin.effect == step.effect
                && twin.guard == step.guard
                && twin.duty == step.duty
                && config.free.has(other) == config.free.has(slot)
                && (twin.end, other) < (step.end, slot)
            {
                return true;
            }
        }
        false
    }

    /// With the key absent, an overwrite whose entry may vanish at once can happen unnoticed.
    pub(super) fn free_at_absent(&self, case: &Case, config: &mut Config<N>) {
        let absent = case.states[config.state as usize].val == ABSENT;
        if !case.erasable || !absent || case.tracked || case.appends {
            return;
        }
        let mut blind = self.blind.and(self.freeable).minus(config.done).minus(config.free);
        while let Some(slot) = blind.pop() {
            let number = self.step_at[slot as usize];
            if let Effect::Set(state) = case.steps[number as usize].effect
                && case.states[state as usize].down <= self.time
                && let Some((_, cluster)) = self.cluster(case, slot)
            {
                config.free = config.free.or(cluster).minus(config.done);
            }
        }
    }

    /// Whether the value may be left: nobody is still to see it, and its certain successor is the
    /// one that leaves it.
    pub(super) fn may_leave(&self, case: &Case, val: u32, by: u32) -> bool {
        let info = &case.vals[val as usize];
        !info.unique || info.lo <= self.time && (info.succ == NONE || info.succ == by)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost loop; a struct would be built per call"
    )]
    pub(super) fn try_step(
        &mut self,
        history: &History,
        case: &mut Case,
        config: &Config<N>,
        (number, step): (u32, Step),
        slot: u32,
        goal: Goal,
        wanted: bool,
    ) {
        let val = case.states[config.state as usize].val;
        if !self.may_leave(case, val, number) {
            return;
        }
        let state = match step.effect {
            Effect::Keep => return,
            Effect::Set(state) => state,
            Effect::Append(suffix) => self.append(case, config.state, suffix),
        };
        self.consider(
            history,
            case,
            config,
            Taken::Step(number),
            state,
            Some((slot, step.guard)),
            goal,
            wanted,
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost loop; a struct would be built per call"
    )]
    pub(super) fn try_class(
        &mut self,
        history: &History,
        case: &mut Case,
        config: &Config<N>,
        class: u32,
        info: Class,
        goal: Goal,
        limits: Limits,
    ) {
        let available = self.available[class as usize];
        let counted = info.counted && !limits.relaxed;
        let used = if counted { self.uses.count(config.used, class) } else { 0 };
        if available <= used {
            return;
        }
        let val = case.states[config.state as usize].val;
        if !self.may_leave(case, val, NONE) {
            return;
        }
        let state = match info.effect {
            Effect::Keep => return,
            Effect::Set(state) => state,
            Effect::Append(suffix) => self.append(case, config.state, suffix),
        };
        let mut config = *config;
        if counted {
            config.used = self.uses.take(config.used, class);
        }
        self.consider(history, case, &config, Taken::Class(class), state, None, goal, false);
    }

    pub(super) fn append(&mut self, case: &mut Case, state: u32, suffix: u32) -> u32 {
        let state = case.append(state, suffix);
        self.masks.resize(case.vals.len(), Masks::default());
        state
    }

    /// Takes something that leads to `state`, and keeps the result if it meets the goal or helps.
    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost loop; a struct would be built per call"
    )]
    pub(super) fn consider(
        &mut self,
        history: &History,
        case: &Case,
        config: &Config<N>,
        taken: Taken,
        state: u32,
        step: Option<(u32, Guard)>,
        goal: Goal,
        wanted: bool,
    ) {
        let mut next = *config;
        next.state = state;
        let to = case.states[state as usize];
        if case.tracked {
            next.life = follow(config.life, to.val, to.life);
        }
        let guard = match (taken, step) {
            (_, Some((_, guard))) => guard,
            (Taken::Class(class), None) => case.classes[class as usize].guard,
            (Taken::Erase | Taken::Free(_) | Taken::Step(_), None) => Guard::Never,
        };
        if let Some((slot, _)) = step {
            next.done = next.done.or(Slots::bit(slot));
        }
        next.done = next.done.or(self.satisfied(to.val));
        match guard {
            Guard::Any => next.free = next.free.or(self.freeable),
            // Just before a write that needs a live key there is room for other overwrites, but
            // not for removes.
            Guard::Not(_) => next.free = next.free.or(self.freeable.minus(self.blind_removes)),
            Guard::Is(_) | Guard::Never | Guard::Other(_) => {}
        }
        next.free = next.free.minus(next.done);
        let met = self.is_met(history, case, goal, &next);
        if !met && !wanted && !self.helps(case, config, &next) {
            return;
        }
        if !met {
            let key = Config { trail: 0, ..next };
            if !self.seen.insert(key) {
                return;
            }
        }
        next.trail = self.trail.push(taken, self.at, config.trail);
        if met {
            self.next.push(next);
        } else {
            self.stack.push(next);
        }
    }
}
