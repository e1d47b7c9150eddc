//! One connection, without its socket: bytes in, requests out, outcomes in, bytes out.
//!
//! Everything that a client can make grow is bounded here, and a bound is met by not reading on:
//! the client feels it as a slow server, and nobody else feels it.

use core::mem;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::arguments::Arguments;
use super::decode::{ProtocolError, RequestLimits, Requests};
use super::plan::{
    Action, Call, Channel, SessionCall, State, Step, Surroundings, Then, bound_to, table_name,
};
use super::primary::About;
use super::reply::Reply;
use super::{redis, table};
use crate::base::{Key, SessionId, TableId};
use crate::consensus::{Command, OnNoQuorum, Outcome, Refusal};
use crate::merged;
use crate::monitor::Bind;
use crate::node::{Ending, Event, TableConfig};
use crate::primary;

/// Bounds on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// On one request.
    pub request: RequestLimits,
    /// Requests that are not answered yet; above it, no more are read. Default 1,024.
    pub pipeline_max: usize,
    /// Calls to the engine in flight; the others wait, so that a few clients that ask
    /// without end do not make the node `BUSY` for all. Default 64.
    pub calls_max: usize,
    /// Bytes waiting for the client to read them; above it, no reply is written and no request
    /// read. One reply may exceed it. Default 1 MiB.
    pub output_max: usize,
    /// Bytes of requests that are not answered; above it, no more are read. Default 8 MiB.
    pub asked_max: usize,
    /// Bytes of answers that are not written yet; above it, nothing is asked but what the oldest
    /// request needs. Default 8 MiB.
    pub answers_max: usize,
    /// Bytes of values in one reply; a request for more is refused. Default 16 MiB.
    pub reply_max: usize,
    /// Messages waiting likewise; above it, the client is disconnected, for they cannot wait in
    /// the engine. Default 4,096.
    pub messages_max: usize,
    /// Channels subscribed to. Default 4,096.
    pub channels_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            request: RequestLimits::default(),
            pipeline_max: 1_024,
            calls_max: 64,
            output_max: 1 << 20,
            asked_max: 8 << 20,
            answers_max: 8 << 20,
            reply_max: 16 << 20,
            messages_max: 4_096,
            channels_max: 4_096,
        }
    }
}

/// Names what a connection has asked for, until it is answered. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What a connection wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Ask the engine; then [`Connection::answer`].
    Call(CallId, Call),
    /// Ask the server about a session; then [`Connection::opened`] or [`Connection::answer`].
    Session(CallId, SessionCall),
}

/// Why a connection is to be closed by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It sent what is no request.
    Protocol(ProtocolError),
    /// It asked to.
    Quit,
    /// It goes on behind a `MULTI` that was refused.
    Refused,
    /// It does not read its messages.
    TooManyMessages,
    /// It does not know the password, and goes on trying.
    WrongPasswords,
}

/// What an unfinished call reads and writes.
type Register = (TableId, Key);

/// What a call must not overtake.
#[derive(Debug)]
enum Claim {
    /// Everything before it; and nothing behind it overtakes it.
    Alone,
    /// What is written, if anything, and what else is read.
    Keys { writes: Option<Register>, reads: Vec<Register> },
    /// Nothing.
    Nothing,
}

/// One request, from its arrival to its reply.
#[derive(Debug)]
struct Slot {
    protocol: super::Protocol,
    /// What was answered so far, in the order of the calls.
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    then: Option<Then>,
    reply: Option<Reply>,
    /// Bytes of the request, which an answer may share; and of what was answered so far.
    asked: usize,
    answered: usize,
}

#[derive(Debug)]
struct Pending {
    id: CallId,
    /// Which request, counted from the first of the connection; and which of its calls.
    slot: u64,
    place: usize,
    claim: Claim,
    what: What,
}

#[derive(Debug)]
enum What {
    Call(Call),
    Session(SessionCall),
}

/// A call that was sent out: where its answer belongs, and what others must not overtake.
#[derive(Debug)]
struct Flight {
    slot: u64,
    place: usize,
    claim: Claim,
    /// If it is about a primary table.
    about: Option<About>,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    limits: ConnectionLimits,
    state: State,
    requests: Requests,
    /// Scratch: requests taken from `requests` and not yet looked at.
    taken: Vec<Vec<Bytes>>,
    slots: VecDeque<Slot>,
    /// The number of the first of `slots`.
    first: u64,
    /// Bytes of requests and of answers in `slots`.
    asked: usize,
    answered: usize,
    next_call: u64,
    /// Calls that have not been sent out, in the order of their requests.
    waiting: VecDeque<Pending>,
    flying: BTreeMap<CallId, Flight>,
    /// How many flying calls read, and how many write, each register.
    reading: BTreeMap<Register, usize>,
    writing: BTreeSet<Register>,
    alone: bool,
    messages: VecDeque<Reply>,
    /// Subscriptions that are not confirmed; messages wait for them.
    subscribing: usize,
    output: BytesMut,
    closing: Option<Closing>,
    /// While this node finds out whether a table was made elsewhere, the first of `taken` waits.
    learning: Learning,
    /// What is wrong with the bytes behind `taken`.
    broken: Option<ProtocolError>,
}

/// How far it is with a table of which this node has not heard.
#[derive(Debug, Default)]
enum Learning {
    #[default]
    Not,
    Due,
    Asked(CallId),
    /// What was said.
    Done(Box<Outcome>),
}

impl Connection {
    /// A connection numbered `id` that has just been accepted.
    #[must_use]
    pub fn new(id: u64, limits: ConnectionLimits) -> Self {
        Self {
            requests: Requests::new(limits.request),
            limits,
            state: State::new(id),
            taken: Vec::new(),
            slots: VecDeque::new(),
            first: 0,
            asked: 0,
            answered: 0,
            next_call: 1,
            waiting: VecDeque::new(),
            flying: BTreeMap::new(),
            reading: BTreeMap::new(),
            writing: BTreeSet::new(),
            alone: false,
            messages: VecDeque::new(),
            subscribing: 0,
            output: BytesMut::new(),
            closing: None,
            learning: Learning::Not,
            broken: None,
        }
    }

    /// What it remembers between requests.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Where to put bytes that arrive, before [`Connection::poll`].
    pub const fn input(&mut self) -> &mut BytesMut {
        self.requests.buffer()
    }

    /// Whether to read from the client: not while it has enough to wait for, or does not read.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.closing.is_none()
            && self.taken.is_empty()
            && self.slots.len() < self.limits.pipeline_max
            && self.asked < self.limits.asked_max
            && self.output.len() < self.limits.output_max
            && self.requests.buffered() <= self.limits.request.bytes_max + self.limits.output_max
    }

    /// Bytes of memory that are held for the client: for what it has sent and is not answered, and
    /// for answers that it has not read. What an answer shares with the engine counts as well: the
    /// engine may let go of it first.
    #[must_use]
    pub fn held(&self) -> usize {
        self.requests.capacity() + self.output.capacity() + self.asked + self.answered
    }

    /// Whether everything that was asked is answered, and read.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.taken.is_empty() && self.output.is_empty()
    }

    /// Whether it is nobody yet: it has not asked anything, or not said the password.
    #[must_use]
    pub fn is_stranger(&self, surroundings: &dyn Surroundings) -> bool {
        let has_asked = self.first > 0 || !self.slots.is_empty();
        !has_asked || (surroundings.password().is_some() && !self.state.admitted)
    }

    /// The number of the request that has begun to arrive and is waited for, if there is one.
    #[must_use]
    pub fn halfway(&self) -> Option<u64> {
        let halfway = self.wants_input() && self.requests.buffered() > 0;
        halfway.then(|| self.first + self.slots.len() as u64)
    }

    /// Bytes to write to the client; take off what was written.
    pub const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.slots.len() + self.taken.len()
    }

    /// Whether everything was said and the connection is to be closed, and why.
    #[must_use]
    pub fn closing(&self) -> Option<&Closing> {
        let closing = self.closing.as_ref()?;
        let said = self.slots.is_empty() && self.output.is_empty();
        (said || *closing == Closing::TooManyMessages).then_some(closing)
    }

    /// Takes note of an answer. One that was not asked for changes nothing.
    pub fn answer(&mut self, id: CallId, outcome: Outcome, surroundings: &dyn Surroundings) {
        if matches!(self.learning, Learning::Asked(asked) if asked == id) {
            self.learning = Learning::Done(Box::new(outcome));
            return;
        }
        let Some(flight) = self.flying.remove(&id) else { return };
        self.release(&flight.claim);
        if let Some(about) = flight.about {
            super::primary::note(&mut self.state, about.table, &outcome);
        }
        let Some(place) = flight.slot.checked_sub(self.first) else { return };
        let Some(slot) = usize::try_from(place).ok().and_then(|place| self.slots.get_mut(place))
        else {
            return;
        };
        let (outcome, len) = match (&slot.then, value_len(&outcome)) {
            (Some(Then::Values), len) if slot.answered + len > self.limits.reply_max => {
                (too_long(slot.answered + len, self.limits.reply_max), 0)
            }
            (_, len) => (outcome, len),
        };
        slot.answered += len;
        self.answered += len;
        slot.outcomes[flight.place] = Some(outcome);
        slot.missing -= 1;
        if slot.missing > 0 {
            return;
        }
        self.answered -= mem::take(&mut slot.answered);
        let outcomes = mem::take(&mut slot.outcomes).into_iter().flatten().collect();
        let Some(then) = slot.then.take() else { return };
        if matches!(then, Then::Subscribed { .. }) {
            self.subscribing -= 1;
        }
        match then.finish(outcomes, &mut self.state, surroundings) {
            Step::Done(reply) => {
                // Of all calls of a request the same can be said.
                let reply = match (reply, flight.about) {
                    (Reply::Error("UNKNOWN", _), Some(about)) => {
                        about.unknown(&surroundings.tables())
                    }
                    (reply, _) => reply,
                };
                slot.answered = reply.weight();
                self.answered += slot.answered;
                slot.reply = Some(reply);
            }
            Step::Ask(call, then) => {
                slot.then = Some(then);
                slot.outcomes = vec![None];
                slot.missing = 1;
                let id = self.new_id();
                // Before whatever else waits: it is the oldest.
                self.waiting.push_front(Pending {
                    id,
                    slot: flight.slot,
                    place: 0,
                    claim: Claim::Alone,
                    what: What::Call(*call),
                });
            }
        }
    }

    /// Takes note of a session that was opened, and of the secret by which its opener can attach it
    /// to another connection.
    pub fn opened(&mut self, id: CallId, session: SessionId, secret: u64) {
        let Some(flight) = self.flying.remove(&id) else { return };
        self.release(&flight.claim);
        let place = flight.slot.checked_sub(self.first).and_then(|it| usize::try_from(it).ok());
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.then = None;
            slot.reply = Some(Reply::map([
                ("session", Reply::bulk(session.to_string())),
                ("secret", Reply::bulk(secret.to_string())),
            ]));
        }
    }

    /// Takes note of an event: a message, if it was asked for.
    pub fn notify(&mut self, event: &Event, surroundings: &dyn Surroundings) {
        let Some((channel, text)) = message(event, &surroundings.tables()) else { return };
        let unasked =
            matches!(channel, Channel::Session(_)) && self.state.protocol == super::Protocol::Resp3;
        if !unasked && !self.state.channels.contains(&channel) {
            return;
        }
        if self.messages.len() >= self.limits.messages_max {
            self.closing.get_or_insert(Closing::TooManyMessages);
            return;
        }
        self.messages.push_back(Reply::Push(vec![
            Reply::bulk("message"),
            channel.name(&surroundings.tables()),
            Reply::bulk(text),
        ]));
    }

    /// Messages were lost, which the client must not overlook: it is disconnected.
    pub fn overwhelm(&mut self) {
        self.closing = Some(Closing::TooManyMessages);
    }

    /// Goes on as far as it can: reads requests, sends out calls, writes replies.
    pub fn poll(&mut self, surroundings: &dyn Surroundings, errands: &mut Vec<Errand>) {
        loop {
            self.read(surroundings);
            // What was asked before may make it.
            let is_next = self.waiting.is_empty() && self.flying.is_empty();
            if is_next && matches!(self.learning, Learning::Due) {
                let id = self.new_id();
                let command = Command::PrimaryTable(primary::TableCommand::Learn);
                let on_no_quorum = OnNoQuorum::Return;
                let call = Call { on_no_quorum, ..self.state.call(command) };
                errands.push(Errand::Call(id, call));
                self.learning = Learning::Asked(id);
            }
            self.send(errands);
            let before = self.slots.len();
            self.write();
            // Room was made: there may be more to read.
            if self.slots.len() == before || self.requests.buffered() == 0 {
                return;
            }
        }
    }

    fn read(&mut self, surroundings: &dyn Surroundings) {
        while self.closing.is_none()
            && matches!(self.learning, Learning::Not | Learning::Done(_))
            && self.asked < self.limits.asked_max
            && self.output.len() < self.limits.output_max
        {
            let room = self.limits.pipeline_max.saturating_sub(self.slots.len());
            if room == 0 {
                return;
            }
            let mut taken = mem::take(&mut self.taken);
            if taken.is_empty() && self.broken.is_none() {
                self.broken = self.requests.take(room, &mut taken).err();
            }
            let none = taken.is_empty();
            // Behind a `QUIT` nothing is read.
            let begun = taken.iter().position(|request| {
                self.closing.is_none() && self.begin(request, surroundings).is_none()
            });
            taken.drain(..begun.unwrap_or(taken.len()));
            self.taken = taken;
            if begun.is_some() {
                return;
            }
            if let Some(error) = self.broken.take()
                && self.closing.is_none()
            {
                self.reply_now(Reply::error(error.to_string()));
                self.closing = Some(Closing::Protocol(error));
            }
            if none {
                return;
            }
        }
    }

    /// Nothing if it has to wait until it is known whether there is such a table.
    fn begin(&mut self, request: &[Bytes], surroundings: &dyn Surroundings) -> Option<()> {
        let protocol = self.state.protocol;
        let action = self.action(request, surroundings);
        let action = match (action, mem::take(&mut self.learning)) {
            (Err(Reply::Error("NOSUCHTABLE", _)), Learning::Not) => {
                self.learning = Learning::Due;
                return None;
            }
            (Err(Reply::Error("NOSUCHTABLE", _)), Learning::Done(no)) if *no != Outcome::Done => {
                Action::Answer(super::error::refused_in(&no, surroundings))
            }
            (action, _) => action.unwrap_or_else(Action::Answer),
        };
        let parts = if let Action::Several(parts) = action { parts } else { vec![action] };
        for part in parts {
            let part = super::merged::translate_action(part, &surroundings.tables());
            let part = super::primary::translate_action(part, &surroundings.tables());
            self.begin_part(part, protocol);
        }
        if let Some(last) = self.slots.back_mut() {
            let len: usize = request.iter().map(Bytes::len).sum();
            last.asked += len;
            self.asked += len;
        }
        if self.state.quitting {
            self.closing = Some(Closing::Quit);
        }
        if self.state.wrong_passwords >= State::WRONG_PASSWORDS_MAX {
            self.closing = Some(Closing::WrongPasswords);
        }
        if self.state.behind_multi.is_some_and(|count| count >= State::BEHIND_MULTI_MAX) {
            self.closing = Some(Closing::Refused);
        }
        Some(())
    }

    /// What a request comes down to.
    fn action(
        &mut self,
        request: &[Bytes],
        surroundings: &dyn Surroundings,
    ) -> Result<Action, Reply> {
        let name = &request[0];
        redis::check_transaction(name, &mut self.state)?;
        let Some(spec) = table::find(name) else { return Err(table::refusal(name)) };
        let open = ["AUTH", "HELLO", "QUIT", "RESET"].contains(&spec.name);
        if surroundings.password().is_some() && !self.state.admitted && !open {
            return Err(redis::not_admitted());
        }
        let least = usize::try_from(spec.arity.unsigned_abs()).unwrap_or(usize::MAX);
        let fits = if spec.arity < 0 { request.len() >= least } else { request.len() == least };
        if !fits {
            return Err(Reply::error(format!(
                "wrong number of arguments for '{}'; it is {0} {}",
                spec.name, spec.syntax
            )));
        }
        let (count, most) = (request.len(), spec.arguments_max());
        if count > most {
            let text = format!("{count} arguments, where {} takes {most} at most", spec.name);
            return Err(Reply::Error("LIMIT", text));
        }
        let mut arguments = Arguments::new(spec.name, request);
        let channels = self.state.channels.clone();
        let action = (spec.read)(&mut arguments, &mut self.state, surroundings)?;
        if self.state.channels.len() > self.limits.channels_max {
            self.state.channels = channels;
            return Err(Reply::Error(
                "LIMIT",
                format!("more than {} channels", self.limits.channels_max),
            ));
        }
        Ok(action)
    }

    fn begin_part(&mut self, action: Action, protocol: super::Protocol) {
        // What changes the protocol is answered in the new one.
        let protocol = match action {
            Action::Answer(_) => self.state.protocol,
            Action::Alone(..) | Action::Ask(..) | Action::Session(..) | Action::Several(_) => {
                protocol
            }
        };
        let slot = self.first + self.slots.len() as u64;
        let (calls, then, alone) = match action {
            Action::Answer(reply) => return self.push(protocol, Vec::new(), None, Some(reply)),
            Action::Alone(call, then) => (vec![What::Call(call)], then, true),
            Action::Ask(calls, then) => (calls.into_iter().map(What::Call).collect(), then, false),
            Action::Session(call, then) => (vec![What::Session(call)], then, true),
            Action::Several(_) => return,
        };
        if matches!(then, Then::Subscribed { .. }) && !calls.is_empty() {
            self.subscribing += 1;
        }
        let count = calls.len();
        for (place, what) in calls.into_iter().enumerate() {
            let id = self.new_id();
            let claim = if alone { Claim::Alone } else { Claim::of(&what) };
            self.waiting.push_back(Pending { id, slot, place, claim, what });
        }
        self.push(protocol, vec![None; count], Some(then), None);
    }

    fn push(
        &mut self,
        protocol: super::Protocol,
        outcomes: Vec<Option<Outcome>>,
        then: Option<Then>,
        reply: Option<Reply>,
    ) {
        let missing = outcomes.len();
        let answered = reply.as_ref().map_or(0, Reply::weight);
        self.answered += answered;
        self.slots.push_back(Slot { protocol, outcomes, missing, then, reply, asked: 0, answered });
    }

    fn reply_now(&mut self, reply: Reply) {
        self.push(self.state.protocol, Vec::new(), None, Some(reply));
    }

    const fn new_id(&mut self) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        id
    }

    /// Sends out every waiting call that overtakes nothing it must not overtake.
    fn send(&mut self, errands: &mut Vec<Errand>) {
        // What waiting calls claim that were passed over.
        let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
        let mut place = 0;
        while place < self.waiting.len() {
            if self.alone || self.flying.len() >= self.limits.calls_max {
                return;
            }
            // The oldest request is what all these answers wait for.
            let full = self.answered >= self.limits.answers_max;
            if full && self.waiting[place].slot != self.first {
                return;
            }
            let claim = &self.waiting[place].claim;
            let free = match claim {
                Claim::Alone => place == 0 && self.flying.is_empty(),
                Claim::Nothing => true,
                Claim::Keys { writes: written, reads: read } => {
                    let mut read = read.iter();
                    written.as_ref().is_none_or(|key| {
                        let taken = self.writing.contains(key) || self.reading.contains_key(key);
                        !taken && !writes.contains(key) && !reads.contains(key)
                    }) && read.all(|key| !self.writing.contains(key) && !writes.contains(key))
                }
            };
            if free {
                let Some(pending) = self.waiting.remove(place) else { return };
                self.fly(pending, errands);
                continue;
            }
            match claim {
                // Nothing behind it overtakes it.
                Claim::Alone => return,
                Claim::Nothing => {}
                Claim::Keys { writes: written, reads: read } => {
                    writes.extend(written.clone());
                    reads.extend(read.iter().cloned());
                }
            }
            place += 1;
        }
    }

    fn fly(&mut self, pending: Pending, errands: &mut Vec<Errand>) {
        let Pending { id, slot, place, claim, mut what } = pending;
        let mut about = None;
        if let What::Call(call) = &mut what {
            about = About::of(call, &self.state);
            super::primary::remind(&mut call.command, &self.state);
        }
        match &claim {
            Claim::Alone => self.alone = true,
            Claim::Keys { writes, reads } => {
                self.writing.extend(writes.clone());
                for key in reads {
                    *self.reading.entry(key.clone()).or_default() += 1;
                }
            }
            Claim::Nothing => {}
        }
        errands.push(match what {
            What::Call(call) => Errand::Call(id, call),
            What::Session(call) => Errand::Session(id, call),
        });
        self.flying.insert(id, Flight { slot, place, claim, about });
    }

    fn release(&mut self, claim: &Claim) {
        match claim {
            Claim::Alone => self.alone = false,
            Claim::Keys { writes, reads } => {
                if let Some(key) = writes {
                    self.writing.remove(key);
                }
                for key in reads {
                    if let Some(count) = self.reading.get_mut(key) {
                        *count -= 1;
                        if *count == 0 {
                            self.reading.remove(key);
                        }
                    }
                }
            }
            Claim::Nothing => {}
        }
    }

    /// Writes what is answered, in order, while there is room.
    fn write(&mut self) {
        while self.output.len() < self.limits.output_max {
            let Some(slot) = self.slots.front() else { break };
            let Some(reply) = &slot.reply else { break };
            reply.write(slot.protocol, &mut self.output);
            self.asked -= slot.asked;
            self.answered -= slot.answered;
            self.slots.pop_front();
            self.first += 1;
        }
        while self.subscribing == 0 && self.output.len() < self.limits.output_max {
            let Some(message) = self.messages.pop_front() else { break };
            message.write(self.state.protocol, &mut self.output);
        }
    }

    /// The connection in one line, for `CLIENT LIST`, its number left out.
    #[must_use]
    pub fn describe(&self, surroundings: &dyn Surroundings) -> String {
        redis::client_line(&self.state, surroundings)
    }
}

impl Claim {
    fn of(what: &What) -> Self {
        let What::Call(call) = what else { return Self::Alone };
        if let Some((table, key, writes)) = super::primary::key_of(&call.command) {
            let key = (table, key.clone());
            let (writes, reads) = if writes { (Some(key), vec![]) } else { (None, vec![key]) };
            return Self::Keys { writes, reads };
        }
        let parents = |bindings: &[Bind]| {
            let keys = bindings.iter().filter_map(|bind| match bind {
                Bind::Key { table, key } => Some((*table, key.clone())),
                Bind::Node(_) | Bind::Session(_) | Bind::Until(_) => None,
            });
            keys.collect()
        };
        match &call.command {
            Command::CompareAndSet { table, key, bindings, .. }
            | Command::Put { table, key, bindings, .. }
            | Command::PutIfAbsent { table, key, bindings, .. } => {
                Self::Keys { writes: Some((*table, key.clone())), reads: parents(bindings) }
            }
            Command::Fence { table, key } | Command::Remove { table, key, .. } => {
                Self::Keys { writes: Some((*table, key.clone())), reads: Vec::new() }
            }
            Command::Get { table, key, .. } => {
                Self::Keys { writes: None, reads: vec![(*table, key.clone())] }
            }
            Command::Merged { table, command: merged::Command::Get(key) } => {
                Self::Keys { writes: None, reads: vec![(*table, key.clone())] }
            }
            Command::Merged { table, command: merged::Command::Write { mutations, .. } }
                if mutations.len() == 1 =>
            {
                Self::Keys { writes: Some((*table, mutations[0].key().clone())), reads: Vec::new() }
            }
            Command::Subscribe(_) | Command::Unsubscribe(_) => Self::Nothing,
            Command::CloseSession(_)
            | Command::Keys { .. }
            | Command::Merged { .. }
            | Command::OpenSession
            | Command::Primary { .. }
            | Command::PrimaryTable(_)
            | Command::Status
            | Command::Table(_) => Self::Alone,
        }
    }
}

/// Bytes of what would be told of a value, in a reply of many.
fn value_len(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Found { entry: Some(entry), .. } => entry.value.len(),
        Outcome::Primary(primary::Answer::Found { value: Some(value), .. }) => value.len(),
        Outcome::Merged(merged::Answer::Found { entries, .. }) => {
            entries.iter().flat_map(|entry| &entry.values).map(|shown| shown.value.len()).sum()
        }
        Outcome::Chosen { .. }
        | Outcome::Done
        | Outcome::Found { entry: None, .. }
        | Outcome::Keys { .. }
        | Outcome::Merged(_)
        | Outcome::Primary(_)
        | Outcome::Mismatch { .. }
        | Outcome::Refused(_)
        | Outcome::Removed { .. }
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Unknown
        | Outcome::Written { .. } => 0,
    }
}

const fn too_long(len: usize, max: usize) -> Outcome {
    Outcome::Refused(Refusal::LimitExceeded { what: "reply", len, max })
}

/// What an event is called, and told as.
fn message(event: &Event, tables: &[TableConfig]) -> Option<(Channel, String)> {
    Some(match event {
        Event::Ended { table, key, generation, ending } => {
            let text = match ending {
                Ending::Erased(binding) => {
                    format!("erased {generation} {}", bound_to(binding, tables))
                }
                Ending::Removed => format!("removed {generation}"),
                Ending::Unseen => format!("unseen {generation}"),
            };
            (Channel::Key(*table, key.clone()), text)
        }
        Event::Merge(event) => (Channel::Merges, super::merged::told(event, tables)),
        Event::QuorumLost { .. } => (Channel::Quorum, "lost".to_owned()),
        Event::QuorumReached { .. } => (Channel::Quorum, "reached".to_owned()),
        Event::Reachable { nodes, size } => (Channel::Quorum, format!("reachable {nodes}/{size}")),
        Event::Readiness(readiness) => (Channel::Quorum, format!("readiness: {readiness}")),
        Event::Role { table, role, reign, primary } => {
            let primary = primary.map_or_else(|| "-".to_owned(), |primary| primary.0.to_string());
            (Channel::Roles, format!("{} {role} {reign} {primary}", table_name(tables, *table)))
        }
        Event::SessionSuspended(session) => (Channel::Session(*session), "suspended".to_owned()),
        Event::SessionResumed(session) => (Channel::Session(*session), "resumed".to_owned()),
        Event::SessionLost(session) => (Channel::Session(*session), "lost".to_owned()),
    })
}
