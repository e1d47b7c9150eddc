//! Resolvers of conflicts: beside each copy of a table that has one an application of its own,
//! which hears of conflicts, decides, and writes what it decided; as unreliable as the plan says.
//!
//! It goes through its node's door as any client does, and ends with its process.
//!
//! Must never know: whether what a copy shows is right.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use synod::merged::{
    Action, Answer, Command as Ask, Conflict, Dot, Entry, MergeContext, Resolver, Round, Rounds,
    Row, Strategy,
};
use synod::{
    ClientId, Command, MergeEvent, NodeId, OnNoQuorum, Outcome, Request, RequestId, Sent, TableId,
    Topic, Value,
};

use super::queue::Task;
use super::{EventKind, RESOLVER, World};
use crate::marks::Mark;
use crate::oracle::{node_of, op};
use crate::plan::{Nanos, Resolvers};
use crate::random::{Site, below, chance, draw};

/// How many conflicts are listed at a time.
const PAGE: u32 = 2;
/// The longest value that is still put together from two.
const UNION_MAX: usize = 32;

/// What an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for something to happen.
    Idle,
    /// It begins to listen.
    Subscribing,
    Listing,
    /// It has decided, and takes its time.
    Stalled,
    Answering,
}

/// One table's application at one node.
pub(super) struct Resolving {
    table: TableId,
    rounds: Rounds,
    #[cfg(not(madsim))]
    resolver: Drawn,
    /// In a host it may really panic.
    #[cfg(madsim)]
    resolver: synod::host::Contained<Drawn>,
    stage: Stage,
    /// Whether something has happened since it last began to look.
    stirred: bool,
    /// When it has to look again in any case.
    next: Option<Nanos>,
    listed: Vec<Entry>,
    answers: VecDeque<Ask>,
    request: u64,
    /// Which of its timers counts.
    turn: u32,
    /// How often it has been asked to begin anew, in which life.
    spell: u64,
    /// What it was asked about in this spell, or has refused to begin with.
    tried: BTreeSet<Vec<Dot>>,
}

/// What it decides, and how that fails: both drawn.
struct Drawn {
    seed: u64,
    entity: u64,
    how: Resolvers,
    /// Of its draws.
    counter: u64,
    /// What it was asked about since somebody looked, whether it refused, and what came of it.
    asked: Vec<Row>,
    refused: bool,
    marks: Vec<Mark>,
}

impl Drawn {
    const fn draw(&mut self) -> u64 {
        self.counter += 1;
        draw(self.seed, Site::Resolver, self.entity, self.counter)
    }

    /// Ends in an error, or in a panic where something keeps that from its node.
    fn fail(&mut self, panics: bool) -> String {
        self.marks.push(if panics { Mark::ResolverPanicked } else { Mark::ResolverFailed });
        if panics && cfg!(madsim) {
            // Unlike `panic!` it tells nobody on the way.
            std::panic::resume_unwind(Box::new("as the plan says"));
        }
        String::from("as the plan says")
    }
}

impl Resolver for Drawn {
    fn init(&mut self, _: &MergeContext) -> Result<(), String> {
        let drawn = self.draw();
        if chance(drawn, self.how.failing / 4) {
            self.refused = true;
            return Err(self.fail(drawn & 1 == 0));
        }
        Ok(())
    }

    fn resolve(&mut self, conflict: &Conflict) -> Result<Vec<Action>, String> {
        let Conflict { key, element, local, remote } = conflict;
        self.asked.push(Row { key: key.clone(), element: element.clone() });
        let drawn = self.draw();
        if chance(drawn, self.how.failing) {
            return Err(self.fail(false));
        }
        let drawn = self.draw();
        if chance(drawn, self.how.panicking) {
            return Err(self.fail(true));
        }
        let both = |value: &Value| {
            vec![Action::WriteLocal(value.clone()), Action::WriteRemote(value.clone())]
        };
        Ok(match drawn >> 32 & 7 {
            0 => vec![Action::DeleteLocal, Action::DeleteRemote],
            1 => vec![Action::Inconsistent("as the plan says".to_owned())],
            2 => vec![Action::WriteLocal(remote[0].clone())],
            3 => both(&remote[0]),
            4..6 if local.len() + remote[0].len() < UNION_MAX => {
                both(&Value::from([local.as_bytes(), b"+", remote[0].as_bytes()].concat()))
            }
            _ => both(local),
        })
    }
}

/// Whether a client is an application that resolves.
pub(super) fn is_resolver(client: ClientId) -> bool {
    client.number() >= RESOLVER
}

impl World<'_> {
    /// A node has started, and with it the applications that it is part of.
    pub(super) fn start_resolvers(&mut self, place: usize) {
        let plan = self.plan;
        let Some(how) = &plan.resolvers else { return };
        let node = node_of(place);
        for table in plan.merged_tables() {
            let configured = &plan.tables[usize::from(table.0)];
            let Some(schema) = configured.schema() else { continue };
            if schema.strategy != Strategy::Custom || !schema.replicas.contains(node) {
                continue;
            }
            let name = configured.name.clone();
            let context = MergeContext { table: name, agreement: schema.agreement(), node };
            let boots = self.hosts[place].boots;
            let resolver = Drawn {
                seed: plan.seed,
                entity: (place as u64) << 16 | u64::from(table.0),
                how: how.clone(),
                counter: u64::from(boots) << 32,
                asked: Vec::new(),
                refused: false,
                marks: Vec::new(),
            };
            self.hosts[place].resolving.push(Resolving {
                table,
                rounds: Rounds::new(context, Duration::from_nanos(how.patience)),
                #[cfg(not(madsim))]
                resolver,
                #[cfg(madsim)]
                resolver: synod::host::Contained(resolver),
                stage: Stage::Idle,
                stirred: false,
                next: None,
                listed: Vec::new(),
                answers: VecDeque::new(),
                request: u64::from(boots) << 32,
                turn: boots << 16,
                spell: u64::from(boots) << 32,
                tried: BTreeSet::new(),
            });
            let slot = self.hosts[place].resolving.len() - 1;
            self.subscribe_resolver(place, slot);
        }
    }

    fn subscribe_resolver(&mut self, place: usize, slot: usize) {
        self.hosts[place].resolving[slot].stage = Stage::Subscribing;
        self.ask_as_resolver(place, slot, Command::Subscribe(Topic::Merges));
    }

    fn ask_as_resolver(&mut self, place: usize, slot: usize, command: Command) {
        let resolving = &mut self.hosts[place].resolving[slot];
        resolving.request += 1;
        let id = RequestId(resolving.request);
        let number = RESOLVER + (place as u64) * 64 + u64::from(resolving.table.0);
        let client = ClientId::new(number);
        if matches!(command, Command::Merged { .. }) {
            self.oracle.on_request(op(client, id), &command);
        }
        let request = Request {
            client,
            id,
            sent: Sent::First,
            patience: Duration::from_nanos(self.plan.cluster.down),
            on_no_quorum: OnNoQuorum::Return,
            command,
        };
        self.give(place, request);
    }

    fn ask_table(&mut self, place: usize, slot: usize, command: Ask) {
        let table = self.hosts[place].resolving[slot].table;
        self.ask_as_resolver(place, slot, Command::Merged { table, command });
    }

    fn slot_of(&self, place: usize, client: ClientId) -> Option<usize> {
        let table = client.number().checked_sub(RESOLVER)? % 64;
        let all = self.hosts[place].resolving.iter();
        all.into_iter().position(|resolving| u64::from(resolving.table.0) == table)
    }

    /// Sees to it that it is woken, and at no moment that was arranged before.
    fn wake_resolver(&mut self, place: usize, slot: usize, at: Nanos) {
        let resolving = &mut self.hosts[place].resolving[slot];
        resolving.turn += 1;
        let task = Task::Resolver(place as u16, slot as u16, resolving.turn);
        self.queue.push(at, task);
    }

    /// It has been woken.
    pub(super) fn on_resolver_turn(&mut self, place: usize, slot: usize, turn: u32) {
        let resolving = self.hosts[place].resolving.get_mut(slot);
        let Some(resolving) = resolving.filter(|resolving| resolving.turn == turn) else { return };
        match resolving.stage {
            Stage::Idle => {
                resolving.next = None;
                self.list(place, slot);
            }
            Stage::Stalled => self.answer_next(place, slot),
            Stage::Subscribing => self.subscribe_resolver(place, slot),
            Stage::Answering | Stage::Listing => {}
        }
    }

    /// Somebody who listens hears of a merge.
    #[cfg(not(madsim))]
    pub(super) fn on_merge_news(&mut self, place: usize, client: ClientId, event: &MergeEvent) {
        if is_resolver(client) {
            return self.on_resolver_event(place, client, event);
        }
        self.judge_merge_event(place, event);
    }

    /// It is told that something has happened.
    pub(super) fn on_resolver_event(&mut self, place: usize, client: ClientId, event: &MergeEvent) {
        let Some(slot) = self.slot_of(place, client) else { return };
        let resolving = &mut self.hosts[place].resolving[slot];
        if matches!(event, MergeEvent::PeerBack(_)) {
            resolving.rounds.begin_anew();
            resolving.spell += 1;
            resolving.tried.clear();
        }
        resolving.stirred = true;
        if resolving.stage == Stage::Idle {
            // Not within the step that tells it.
            let at = self.now;
            self.wake_resolver(place, slot, at);
        }
    }

    fn list(&mut self, place: usize, slot: usize) {
        let resolving = &mut self.hosts[place].resolving[slot];
        resolving.stage = Stage::Listing;
        resolving.stirred = false;
        resolving.listed.clear();
        self.ask_table(place, slot, Ask::Conflicts { after: None, limit: PAGE });
    }

    pub(super) fn on_resolver_answer(
        &mut self,
        place: usize,
        client: ClientId,
        request: RequestId,
        outcome: Outcome,
    ) {
        let Some(slot) = self.slot_of(place, client) else { return };
        let stage = self.hosts[place].resolving[slot].stage;
        if stage != Stage::Subscribing {
            self.oracle.on_answer(op(client, request), place, &outcome, &mut self.marks);
            self.check_oracle();
        }
        match (stage, outcome) {
            (Stage::Subscribing, Outcome::Done) => self.list(place, slot),
            (Stage::Listing, Outcome::Merged(Answer::Found { entries, more })) => {
                self.hosts[place].resolving[slot].listed.extend(entries);
                if more.is_some() {
                    self.ask_table(place, slot, Ask::Conflicts { after: more, limit: PAGE });
                } else {
                    self.hold_round(place, slot);
                }
            }
            (Stage::Answering, outcome) => {
                if matches!(outcome, Outcome::Merged(Answer::Written { .. })) {
                    self.marks.hit(Mark::Resolved);
                }
                self.answer_next(place, slot);
            }
            // Its node is busy, or its disk slow, or it takes no part any more.
            (stage, _) => {
                let subscribing = stage == Stage::Subscribing;
                let resolving = &mut self.hosts[place].resolving[slot];
                resolving.stage = if subscribing { stage } else { Stage::Idle };
                self.rest(place, slot, self.plan.cluster.heartbeat);
            }
        }
    }

    /// All conflicts are known: it is asked about those that are its own to decide.
    fn hold_round(&mut self, place: usize, slot: usize) {
        let now = Duration::from_nanos(self.now);
        let resolving = &mut self.hosts[place].resolving[slot];
        let listed = std::mem::take(&mut resolving.listed);
        let held = resolving.rounds.hold(&mut resolving.resolver, listed.clone(), now);
        let Round { answers, next } = held;
        #[cfg(not(madsim))]
        let drawn = &mut resolving.resolver;
        #[cfg(madsim)]
        let drawn = &mut resolving.resolver.0;
        let asked = std::mem::take(&mut drawn.asked);
        let marks = std::mem::take(&mut drawn.marks);
        let refused = std::mem::take(&mut drawn.refused);
        let pause = if chance(drawn.draw(), drawn.how.stalling) {
            1 + below(drawn.draw(), drawn.how.stall)
        } else {
            0
        };
        let (table, spell) = (resolving.table, resolving.spell);
        resolving.answers = answers.into();
        resolving.next = next.map(|next| next.as_nanos() as Nanos);
        for entry in &listed {
            if refused || asked.contains(&entry.row) {
                resolving.tried.insert(entry.writes());
            }
        }
        for row in asked {
            let Some(entry) = listed.iter().find(|entry| entry.row == row) else { continue };
            self.on_resolver_call(place, spell, table, entry);
        }
        marks.into_iter().for_each(|mark| self.marks.hit(mark));
        self.check_oracle();
        if pause > 0 && !self.hosts[place].resolving[slot].answers.is_empty() {
            self.marks.hit(Mark::ResolverStalled);
            self.hosts[place].resolving[slot].stage = Stage::Stalled;
            return self.wake_resolver(place, slot, self.now.saturating_add(pause));
        }
        self.answer_next(place, slot);
    }

    fn on_resolver_call(&mut self, place: usize, spell: u64, table: TableId, entry: &Entry) {
        let node = node_of(place);
        self.event(0xC011 ^ (place as u64) << 16);
        let text = format_args!("its resolver is asked about {} of {table}", entry.row);
        self.tell(Some(place), EventKind::Request, text);
        if self.oracle.on_resolver_call(place, spell, table, &entry.row, entry.writes()) {
            self.marks.hit(Mark::ResolverAgain);
        }
        if synod::merged::turn(entry, node) == Some(1) {
            self.marks.hit(Mark::ResolverSecond);
        }
    }

    /// It writes the next thing that it has decided, or waits for something to happen.
    fn answer_next(&mut self, place: usize, slot: usize) {
        let resolving = &mut self.hosts[place].resolving[slot];
        if let Some(answer) = resolving.answers.pop_front() {
            resolving.stage = Stage::Answering;
            return self.ask_table(place, slot, answer);
        }
        resolving.stage = Stage::Idle;
        if resolving.stirred {
            self.rest(place, slot, 0);
        } else if let Some(at) = resolving.next {
            self.wake_resolver(place, slot, at.max(self.now));
        }
    }

    /// It looks again after a while.
    fn rest(&mut self, place: usize, slot: usize, after: Nanos) {
        let at = self.now + after;
        self.hosts[place].resolving[slot].next = Some(at);
        self.wake_resolver(place, slot, at);
    }

    // ---- after healing --------------------------------------------------------------------

    /// C6: a conflict that a node of the core should resolve, or have tried to.
    pub(super) fn unresolved(&self) -> Option<String> {
        for place in self.core_places() {
            let host = &self.hosts[place];
            for resolving in &host.resolving {
                let node = place + 1;
                if resolving.stage != Stage::Idle || resolving.stirred {
                    let stage = resolving.stage;
                    return Some(format!("the resolver of n{node} is at work ({stage:?})"));
                }
                let Some(copy) = host.node.as_ref().and_then(|it| it.merged(resolving.table))
                else {
                    continue;
                };
                for row in copy.conflicts() {
                    let shown = copy.shown(row);
                    let writes: Vec<Dot> = shown.iter().map(|version| version.dot).collect();
                    let mut writers: Vec<NodeId> =
                        shown.iter().map(|version| version.dot.actor.node).collect();
                    writers.sort_unstable();
                    writers.dedup();
                    let is_own = writers.iter().take(2).any(|writer| *writer == node_of(place));
                    if is_own && !resolving.tried.contains(&writes) {
                        return Some(format!("n{node} has not tried to resolve {row}"));
                    }
                }
            }
        }
        None
    }
}
