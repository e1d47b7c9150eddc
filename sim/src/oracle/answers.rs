//! What clients are told, against what is chosen: each answer is one place in the order of ballots,
//! and that order must agree with real time.
//!
//! This is a witness of linearizability, checked in constant time an answer. The chosen contents of
//! a register form one chain (W2), so ballots order all its states; every answer names the version
//! it saw or made (W3); an answer given before a question was asked has a version at or below that
//! question's. The judge of histories knows nothing of ballots and is asked as well.
//!
//! Must never know: how an answer was found.

use synod::consensus::{Cell, Content, State};
use synod::monitor::Cause;
use synod::{
    Ballot, Bind, Binding, Command, Entry, Expect, Key, OpId, Outcome, Previous, ReadLevel,
    Refusal, RegisterId, Value,
};

use super::register::{Register, Version};
use super::{Oracle, bindings};
use crate::marks::{Mark, Marks};

/// A client's request, from when it was first given to a node.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(super) op: OpId,
    pub(super) slot: Option<usize>,
    pub(super) value: Option<Value>,
    pub(super) command: Command,
    /// What clients had been told of the register before it was asked.
    floor: Ballot,
    /// The event at which it was asked.
    pub(super) since: u64,
    /// Of a fence: the highest ballot that anything had been proposed at.
    fence: Ballot,
    told: Told,
}

/// What a client was told of its change that rules out what may yet be seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet, or that it was done.
    Open,
    /// A binding had ended: if it ever takes effect, it is over by then.
    Over,
    /// It has and will have no effect.
    Never,
}

impl Oracle {
    pub(super) fn asked_of(&self, op: OpId) -> Option<&Asked> {
        self.asked.iter().rev().find(|asked| asked.op == op)
    }

    /// A client asks for the first time.
    pub(crate) fn on_request(&mut self, op: OpId, command: &Command) {
        let slot = command.address().and_then(|(table, key)| self.key_slot(table, key));
        self.watch_deadlines(op, command);
        let value = if let Command::CompareAndSet { value, .. }
        | Command::Put { value, .. }
        | Command::PutIfAbsent { value, .. } = command
        {
            Some(value.clone())
        } else {
            None
        };
        let floor = slot.map_or(Ballot::ZERO, |slot| self.registers[slot].told);
        let fence = match (command, slot) {
            (Command::Fence { .. }, Some(slot)) => self.registers[slot].proposed(),
            _ => Ballot::ZERO,
        };
        self.lists.on_asked(op, command);
        self.asked.push(Asked {
            fence,
            op,
            slot,
            value,
            command: command.clone(),
            floor,
            since: self.step,
            told: Told::Open,
        });
    }

    /// A client asks again.
    pub(crate) fn on_request_again(&mut self, op: OpId) {
        self.lists.on_asked_again(op);
    }

    /// W13: a change that was called off has been chosen.
    pub(super) fn check_rejected(&mut self, slot: usize, op: OpId, cell: &Cell) {
        let text = match self.asked_of(op).map(|asked| asked.told) {
            Some(Told::Never) => "it never would",
            Some(Told::Over) if !self.registers[slot].is_over(cell) => "a binding had ended",
            Some(Told::Open | Told::Over) | None => return,
        };
        let text = format!("{op} took effect after its client was told that {text}");
        self.breaks_at(slot, ("W13", "rejected and yet done", text));
    }

    /// A client is answered by a node.
    pub(crate) fn on_answer(
        &mut self,
        op: OpId,
        node: usize,
        outcome: &Outcome,
        marks: &mut Marks,
    ) {
        let Some(place) = self.asked.iter().rposition(|asked| asked.op == op) else {
            return self.breaks("REPLY", "nobody asked", format!("{op} is answered {outcome}"));
        };
        let asked = self.asked[place].clone();
        self.on_other_answer(node, &asked, outcome, marks);
        if let Outcome::Refused(refusal) = outcome {
            let over = matches!(refusal, Refusal::InvalidBinding(_));
            self.asked[place].told = if over { Told::Over } else { Told::Never };
            return self.check_refused(node, &asked, refusal, marks);
        }
        if let Outcome::Keys { keys, more } = outcome {
            return self.check_keys(&asked, keys, more.as_ref());
        }
        let Some(slot) = asked.slot else { return };
        let answer = match self.check_outcome(slot, node, &asked, outcome) {
            Ok(answer) => answer,
            Err((rule, shape)) => {
                let newest = self.registers[slot].newest();
                let newest = newest.map_or_else(
                    || "nothing".to_owned(),
                    |chosen| {
                        format!("{} at {}, version {}", chosen.cell, chosen.ballot, chosen.version)
                    },
                );
                let text = format!(
                    "{op} {} is answered {outcome} ({outcome:?}); clients had been told of {}; \
                     newest chosen is {newest}",
                    asked.command, asked.floor
                );
                return self.breaks_at(slot, (rule, shape, text));
            }
        };
        if matches!(outcome, Outcome::Mismatch { .. }) {
            self.asked[place].told = Told::Never;
            if self.registers[slot].change_of(op).is_some() {
                let text = format!("{op} is answered {outcome}, but it took effect");
                return self.breaks_at(slot, ("W13", "rejected and yet done", text));
            }
        }
        if let Some(version) = answer {
            let told = &mut self.registers[slot].told;
            *told = version.max(*told);
        }
        let fenced = &mut self.registers[slot].fenced;
        *fenced = asked.fence.max(*fenced);
        let (version, generation) = shown(outcome);
        self.tells(node, slot, version);
        if let Some(generation) = generation {
            self.shows(node, slot, generation);
        }
    }

    /// What no register decides is judged by itself: primary and merged tables, and their lists.
    fn on_other_answer(
        &mut self,
        node: usize,
        asked: &Asked,
        outcome: &Outcome,
        marks: &mut Marks,
    ) {
        let op = asked.op;
        if let Command::Primary { .. } = &asked.command {
            self.on_primary_answer((op, node), outcome, marks);
        }
        if self.list.is_some()
            && let Err((rule, shape, text)) = self.lists.on_answer(op, outcome)
        {
            self.breaks(rule, shape, text);
        }
        if let (Command::Table(command), Outcome::Done) = (&asked.command, outcome) {
            self.on_table_done(node, op, command, marks);
        }
        if let Command::Merged { table, .. } = &asked.command {
            let answer = if let Outcome::Merged(answer) = outcome { Some(answer) } else { None };
            self.on_merged_answer(node, op, *table, answer, marks);
        }
    }

    /// Compares an answer with what is chosen; tells the version by which it is ordered.
    fn check_outcome(
        &self,
        slot: usize,
        node: usize,
        asked: &Asked,
        outcome: &Outcome,
    ) -> Result<Option<Ballot>, (&'static str, &'static str)> {
        let register = &self.registers[slot];
        let local = matches!(asked.command, Command::Get { level: ReadLevel::Local, .. });
        let version = match outcome {
            Outcome::Found { entry, version } => {
                check_read(register, entry.as_ref(), *version)?;
                *version
            }
            Outcome::Mismatch { entry, version } => {
                check_read(register, entry.as_ref(), *version)?;
                if fits(&asked.command, entry.as_ref(), *version) {
                    return Err(("LIN", "mismatch of what matches"));
                }
                *version
            }
            Outcome::Chosen { entry, won: false } => {
                check_read(register, Some(entry), entry.version)?;
                entry.version
            }
            Outcome::Chosen { entry, won: true } => {
                let (before, own) = check_change(register, asked, entry.version)?;
                if !is_entry(&own.cell, entry) {
                    return Err(("LIN", "told of another entry than it put"));
                }
                if before.is_some_and(|before| before.cell.live().is_some()) {
                    return Err(("LIN", "put_if_absent over an entry"));
                }
                self.check_bound(node, asked, &own.cell)?;
                entry.version
            }
            Outcome::Written { generation, version, previous } => {
                let (before, own) = check_change(register, asked, *version)?;
                let life = own.cell.live().map(|live| live.generation);
                if generation.is_some() && life != *generation {
                    return Err(("LIN", "told of another life than it wrote"));
                }
                check_previous(register, *version, before, previous)?;
                if let Some(before) = before {
                    let entry = entry_of(&before.cell);
                    if !fits(&asked.command, entry.as_ref(), before.version) {
                        return Err(("LIN", "compare_and_set over a mismatch"));
                    }
                }
                self.check_bound(node, asked, &own.cell)?;
                *version
            }
            Outcome::Removed { previous: Previous::Known(None), version } => {
                check_read(register, None, *version)?;
                *version
            }
            Outcome::Removed { previous, version } => {
                let (before, own) = check_change(register, asked, *version)?;
                if !matches!(own.cell.state, State::Dead(Cause::Removed)) {
                    return Err(("LIN", "removed and yet there"));
                }
                if let Some(before) = before {
                    let entry = entry_of(&before.cell);
                    if !fits(&asked.command, entry.as_ref(), before.version) {
                        return Err(("LIN", "removed another life than asked"));
                    }
                }
                check_previous(register, *version, before, previous)?;
                *version
            }
            Outcome::Done
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Refused(_)
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Unknown => return Ok(None),
        };
        if local {
            if version < self.versions[node * self.slots + slot] {
                return Err(("LIN", "local read goes back"));
            }
            return Ok(None);
        }
        // Real time: nobody is shown less than somebody was told before the question.
        let changed = register
            .version(version)
            .and_then(|chosen| chosen.cell.lineage.last())
            .is_some_and(|change| change.op == asked.op);
        if version < asked.floor || (version == asked.floor && changed && !version.is_genesis()) {
            return Err(("LIN", "stale answer"));
        }
        Ok(Some(version))
    }

    /// A node's process knows this version to be chosen.
    pub(super) fn tells(&mut self, node: usize, slot: usize, version: Ballot) {
        let known = &mut self.versions[node * self.slots + slot];
        *known = version.max(*known);
    }

    /// A write that is done is not bound to what was over before it was asked for.
    fn check_bound(
        &self,
        node: usize,
        asked: &Asked,
        own: &Cell,
    ) -> Result<(), (&'static str, &'static str)> {
        let mut bindings = own.live().into_iter().flat_map(|live| &live.bindings);
        if bindings.any(|binding| self.was_over(node, asked, binding)) {
            return Err(("LIN", "bound to what was over"));
        }
        Ok(())
    }

    /// What is refused must not happen, and must be refused for a reason.
    fn check_refused(&mut self, node: usize, asked: &Asked, refusal: &Refusal, marks: &mut Marks) {
        match refusal {
            Refusal::NoQuorum => marks.hit(Mark::MinorityRefused),
            Refusal::InvalidBinding(bind) => {
                marks.hit(Mark::InvalidBinding);
                if !bindings::binds(&asked.command).contains(bind) {
                    let text = format!("{} is refused for {bind}", asked.op);
                    self.breaks("W8", "refused for a binding not asked for", text);
                } else if !self.was_down(node, asked, bind) {
                    let text = format!("{} is refused: {bind} is said to have ended", asked.op);
                    let shape = match bind {
                        Bind::Key { .. } => "refused for a key that lived",
                        Bind::Node(_) => "refused for a node session that went on",
                        Bind::Session(_) => "refused for a session that goes on",
                        Bind::Until(_) => "refused before its deadline",
                    };
                    self.breaks("W8", shape, text);
                }
            }
            Refusal::Busy
            | Refusal::Discipline(_)
            | Refusal::LimitExceeded { .. }
            | Refusal::NoReplica(_)
            | Refusal::NoSuchSession(_)
            | Refusal::NoSuchTable(_)
            | Refusal::NotReady(_)
            | Refusal::Primary(_)
            | Refusal::Unfit(_)
            | Refusal::Unmade(_)
            | Refusal::WriteOnce(_) => {
                if !self.is_refusable(node, asked, refusal) {
                    let text = format!("{} {} is refused: {refusal}", asked.op, asked.command);
                    self.breaks("W14", "refused without a reason", text);
                }
            }
        }
        let Some(slot) = asked.slot else { return };
        let register = &self.registers[slot];
        let Some(done) = register.change_of(asked.op) else { return };
        if matches!(refusal, Refusal::InvalidBinding(_)) {
            // It may have been born; then it is dead again, by choice, before the answer.
            if register.is_over(&done.cell) {
                return;
            }
        }
        let text =
            format!("{} is refused ({refusal}), but took effect at {}", asked.op, done.version);
        self.breaks_at(slot, ("W13", "rejected and yet done", text));
    }

    /// P-23: a key live during the whole call is listed; one dead during the whole call is not.
    fn check_keys(&mut self, asked: &Asked, keys: &[Key], more: Option<&Key>) {
        let Command::Keys { table, after, .. } = &asked.command else { return };
        if !keys.windows(2).all(|pair| pair[0] < pair[1]) {
            let text = format!("{} lists {keys:?}", asked.op);
            return self.breaks("LIN", "keys out of order", text);
        }
        let first = self.nodes + usize::from(table.0) * self.keys;
        for slot in first..first + self.keys {
            let RegisterId::Key(_, key) = self.name(slot) else { continue };
            let within = after.as_ref().is_none_or(|after| key > *after)
                && more.is_none_or(|more| key <= *more);
            let register = &self.registers[slot];
            if !within || register.turned >= asked.since {
                continue;
            }
            let live = register.live().is_some();
            let listed = keys.binary_search(&key).is_ok();
            // A page may end before its limit, but only where it says so.
            if live != listed {
                let text = format!(
                    "{} lists {keys:?}; {key} was {} all the while",
                    asked.op,
                    if live { "there" } else { "absent" }
                );
                let shape = if live { "key not listed" } else { "absent key listed" };
                return self.breaks_at(slot, ("LIN", shape, text));
            }
        }
        if let Some(key) = keys.iter().find(|key| self.key_slot(*table, key).is_none()) {
            let text = format!("{} lists {key}, which nobody put", asked.op);
            self.breaks("LIN", "absent key listed", text);
        }
    }
}

/// W3: what is shown is chosen.
fn check_read(
    register: &Register,
    entry: Option<&Entry>,
    version: Ballot,
) -> Result<(), (&'static str, &'static str)> {
    if version.is_genesis() {
        return if entry.is_none() { Ok(()) } else { Err(("W3", "an entry at genesis")) };
    }
    if version <= register.forgotten {
        return Ok(());
    }
    let Some(chosen) = register.version(version) else {
        return Err(("W3", "told of what is not chosen"));
    };
    let right = match entry {
        Some(entry) => entry.version == version && is_entry(&chosen.cell, entry),
        None => chosen.cell.live().is_none(),
    };
    if right { Ok(()) } else { Err(("W3", "told of another content than is chosen")) }
}

type Change<'a> = (Option<&'a Version>, &'a Version);

/// W3 of a change: it is chosen, and this operation's.
fn check_change<'a>(
    register: &'a Register,
    asked: &Asked,
    version: Ballot,
) -> Result<Change<'a>, (&'static str, &'static str)> {
    let Some(chosen) = register.version(version) else {
        return Err(("W3", "told of a change that is not chosen"));
    };
    if chosen.cell.lineage.last().is_none_or(|change| change.op != asked.op) {
        return Err(("LIN", "told of another's change"));
    }
    Ok((register.before(version), chosen))
}

fn check_previous(
    register: &Register,
    version: Ballot,
    before: Option<&Version>,
    previous: &Previous,
) -> Result<(), (&'static str, &'static str)> {
    let Previous::Known(entry) = previous else { return Ok(()) };
    // What was replaced may have been known from a lineage only, if never chosen at a ballot that
    // this run still holds.
    if before.is_none() && register.forgotten > Ballot::ZERO && register.forgotten < version {
        return Ok(());
    }
    let right = match (entry, before.and_then(|before| before.cell.live())) {
        (Some(entry), Some(_)) => before.is_some_and(|before| is_entry(&before.cell, entry)),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if right { Ok(()) } else { Err(("LIN", "told of another predecessor")) }
}

/// Whether bindings are those asked for, each resolved to one life of its target.
pub(super) fn are_asked(command: &Command, bindings: &[Binding]) -> bool {
    let asked = bindings::binds(command);
    let meets = |bind: &Bind, binding: &Binding| match (bind, binding) {
        (Bind::Key { table, key }, Binding::Key { register, .. }) => {
            matches!(register, RegisterId::Key(of, name) if of == table && name == key)
        }
        (Bind::Node(asked), Binding::Node { node, .. }) => asked == node,
        (Bind::Session(asked), Binding::Session(session)) => asked == session,
        (Bind::Until(asked), Binding::Until(until)) => asked == until,
        (_, _) => false,
    };
    bindings.iter().all(|binding| asked.iter().any(|bind| meets(bind, binding)))
        && asked.iter().all(|bind| bindings.iter().any(|binding| meets(bind, binding)))
}

/// Whether a command's condition holds of an entry.
fn fits(command: &Command, entry: Option<&Entry>, version: Ballot) -> bool {
    if let Command::CompareAndSet { expect, .. } = command {
        return match expect {
            Expect::Absent => entry.is_none(),
            Expect::Value(value) => entry.is_some_and(|entry| entry.value == *value),
            Expect::Version(wanted) => entry.is_some() && version == *wanted,
        };
    }
    if let Command::Remove { generation: Some(wanted), .. } = command {
        return entry.is_some_and(|entry| entry.generation == *wanted);
    }
    true
}

/// The version that an answer shows, and the life, if it shows one.
fn shown(outcome: &Outcome) -> (Ballot, Option<Ballot>) {
    match outcome {
        Outcome::Found { entry, version } | Outcome::Mismatch { entry, version } => {
            (*version, entry.as_ref().map(|entry| entry.generation))
        }
        Outcome::Chosen { entry, .. } => (entry.version, Some(entry.generation)),
        Outcome::Written { generation, version, .. } => (*version, *generation),
        Outcome::Removed { version, .. } => (*version, None),
        Outcome::Done
        | Outcome::Keys { .. }
        | Outcome::Merged(_)
        | Outcome::Primary(_)
        | Outcome::Refused(_)
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Unknown => (Ballot::ZERO, None),
    }
}

fn is_entry(cell: &Cell, entry: &Entry) -> bool {
    cell.live().is_some_and(|live| {
        matches!(&live.content, Content::Value(value) if *value == entry.value)
            && live.generation == entry.generation
            && cell.version() == entry.version
            && live.bindings == entry.bindings
    })
}

fn entry_of(cell: &Cell) -> Option<Entry> {
    let live = cell.live()?;
    let Content::Value(value) = &live.content else { return None };
    Some(Entry {
        value: value.clone(),
        generation: live.generation,
        version: cell.version(),
        bindings: live.bindings.clone(),
    })
}
