//! Records what clients asked and were told, for the judge that knows nothing of ballots.
//!
//! Must never know: what the white-box checks think.

use synod::{
    Binding, Command, Entry, Expect, Message, OpId, Outcome, Previous, ReadLevel, Refusal,
    RegisterId, Value,
};

use super::FailureKind;
use crate::checker::{Judge, Options, Verdict};
use crate::history::{self, Action, History, Mark, MarkKind, Model, NEVER, Operation, Seen};
use crate::oracle::Oracle;
use crate::plan::Plan;

/// One request as it goes on.
#[derive(Debug)]
struct Record {
    op: OpId,
    slot: u32,
    call: u64,
    action: Action,
    /// For a listing: the table asked about, to be taken apart by key.
    keys: Option<u16>,
}

/// The recorder of one run.
#[derive(Debug)]
pub(super) struct Recorder {
    history: History,
    open: Vec<Record>,
    /// The operation of each entry of the history that may have written.
    writers: Vec<(usize, OpId, u32)>,
    rank: u64,
    downs: Vec<u64>,
    nodes: usize,
    keys: u16,
    things: Vec<Binding>,
}

impl Recorder {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut history = History::new(Model::Kv);
        for table in 0..plan.tables.len() {
            for key in 0..plan.keys {
                let number = table as u32 * u32::from(plan.keys) + u32::from(key);
                history.name_key(number, &format!("t{table}/k{key}"));
            }
        }
        Self {
            history,
            open: Vec::new(),
            writers: Vec::new(),
            rank: 0,
            downs: Vec::new(),
            nodes: usize::from(plan.cluster.nodes),
            keys: plan.keys,
            things: Vec::new(),
        }
    }

    fn tick(&mut self) -> u64 {
        self.rank += 1;
        self.rank
    }

    /// Notes that more bindings are known to have ended.
    #[inline]
    pub(super) fn on_downs(&mut self, count: usize) {
        while self.downs.len() < count {
            let rank = self.tick();
            self.downs.push(rank);
        }
    }

    pub(super) fn on_request(&mut self, op: OpId, command: &Command, seen: Option<&Value>) {
        let call = self.tick();
        let action = match command {
            Command::CompareAndSet { value, expect, .. } => Action::CompareAndSet {
                expect: match expect {
                    Expect::Absent => None,
                    Expect::Value(value) => Some(number_of(value)),
                    // A version names one value: each is written once.
                    Expect::Version(_) => seen.map(number_of),
                },
                value: number_of(value),
            },
            Command::Fence { .. } | Command::Get { level: ReadLevel::Linearizable, .. } => {
                Action::Get
            }
            Command::Put { value, .. } => Action::Put { value: number_of(value) },
            Command::PutIfAbsent { value, .. } => Action::PutIfAbsent { value: number_of(value) },
            Command::Remove { .. } => Action::Remove,
            Command::Keys { .. } => Action::Exists,
            Command::CloseSession(_)
            | Command::Get { level: ReadLevel::Local, .. }
            | Command::Merged { .. }
            | Command::OpenSession
            | Command::Primary { .. }
            | Command::PrimaryTable(_)
            | Command::Status
            | Command::Subscribe(_)
            | Command::Table(_)
            | Command::Unsubscribe(_) => return,
        };
        let keys = if let Command::Keys { table, .. } = command { Some(table.0) } else { None };
        let slot = command.address().map_or(0, |(table, key)| {
            u32::from(table.0) * u32::from(self.keys) + key_number(key.as_bytes())
        });
        self.open.push(Record { op, slot, call, action, keys });
    }

    /// A request is over; `None` if nobody will ever tell.
    pub(super) fn on_outcome(&mut self, op: OpId, outcome: Option<&Outcome>) {
        let Some(place) = self.open.iter().position(|record| record.op == op) else { return };
        let record = self.open.swap_remove(place);
        let ret = self.tick();
        let Some(outcome) = outcome else {
            return self.push(&record, NEVER, history::Outcome::Unknown);
        };
        if let Some(table) = record.keys {
            return self.push_keys(&record, table, ret, outcome);
        }
        let seen = |entry: &Option<Entry>| match entry {
            Some(entry) => Seen::Value(number_of(&entry.value)),
            None => Seen::Absent,
        };
        let told = match outcome {
            Outcome::Chosen { won: true, .. } => history::Outcome::Done(Seen::Absent),
            Outcome::Chosen { entry, won: false } => {
                history::Outcome::Refused(Seen::Value(number_of(&entry.value)))
            }
            Outcome::Found { entry, .. } => {
                history::Outcome::Read(entry.as_ref().map(|entry| number_of(&entry.value)))
            }
            Outcome::Mismatch { entry, .. } if record.action == Action::Remove => {
                // A removal of one life that is not there is a reading of what is.
                let read = Record { action: Action::Get, ..record };
                let value = entry.as_ref().map(|entry| number_of(&entry.value));
                return self.push(&read, ret, history::Outcome::Read(value));
            }
            Outcome::Mismatch { entry, .. } => history::Outcome::Refused(seen(entry)),
            Outcome::Removed { previous, .. } | Outcome::Written { previous, .. } => {
                history::Outcome::Done(match previous {
                    Previous::Known(entry) => seen(entry),
                    Previous::Unknown => Seen::Nothing,
                })
            }
            Outcome::Refused(Refusal::InvalidBinding(_)) => history::Outcome::InvalidBinding,
            Outcome::Unknown => return self.push(&record, NEVER, history::Outcome::Unknown),
            Outcome::Refused(_) => return,
            Outcome::Done
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Session(_)
            | Outcome::Status(_) => return,
        };
        self.push(&record, ret, told);
    }

    /// A listing is one question about each key that it covers.
    fn push_keys(&mut self, record: &Record, table: u16, ret: u64, outcome: &Outcome) {
        let Outcome::Keys { keys, more } = outcome else { return };
        for number in 0..self.keys {
            let key = super::client::key_of(number);
            if more.as_ref().is_some_and(|more| key > *more) {
                continue;
            }
            let slot = u32::from(table) * u32::from(self.keys) + u32::from(number);
            let one = Record { slot, keys: None, ..*record };
            self.push(&one, ret, history::Outcome::Exists(keys.contains(&key)));
        }
    }

    fn push(&mut self, record: &Record, ret: u64, outcome: history::Outcome) {
        if outcome == history::Outcome::Unknown && record.action.is_read() {
            return;
        }
        if record.action.value().is_some() {
            self.writers.push((self.history.ops.len(), record.op, record.slot));
        }
        self.history.ops.push(Operation {
            id: record.op.request.0,
            client: i32::try_from(record.op.client.number()).unwrap_or(-1),
            key: record.slot,
            binds: history::Binds::NONE,
            call: record.call,
            ret,
            action: record.action,
            outcome,
        });
    }

    /// The history, with what is known only at the end: which entries were bound to what.
    pub(super) fn finish(&mut self, oracle: &Oracle) -> History {
        self.on_downs(oracle.downs().len());
        while let Some(record) = self.open.pop() {
            self.push(&record, NEVER, history::Outcome::Unknown);
        }
        for (place, op, slot) in std::mem::take(&mut self.writers) {
            let bindings = oracle.bindings_of(self.nodes + slot as usize, op).unwrap_or_default();
            let bindings: Vec<history::Binding> =
                bindings.iter().filter_map(|binding| self.binding(oracle, binding)).collect();
            self.history.ops[place].binds = self.history.bind(&bindings);
        }
        for (place, (binding, _)) in oracle.downs().iter().enumerate() {
            if let Some(down) = self.binding(oracle, binding) {
                let (time, kind) = (self.downs[place], MarkKind::Down);
                self.history.marks.push(Mark { time, key: None, binding: down, kind });
            }
        }
        std::mem::take(&mut self.history)
    }

    fn binding(&mut self, oracle: &Oracle, binding: &Binding) -> Option<history::Binding> {
        if let Binding::Key { register, generation } = binding {
            let RegisterId::Key(table, key) = register else { return None };
            let number = u32::from(table.0) * u32::from(self.keys) + key_number(key.as_bytes());
            let birth = number_of(&oracle.birth(register, *generation)?);
            return Some(history::Binding::Life { key: number, birth });
        }
        let place = self.things.iter().position(|known| known == binding).unwrap_or_else(|| {
            self.things.push(binding.clone());
            self.things.len() - 1
        });
        Some(history::Binding::Thing(place as u32))
    }
}

/// `k17` is 17.
fn key_number(key: &[u8]) -> u32 {
    let digits = key.get(1..).unwrap_or(&[]);
    digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit.wrapping_sub(b'0')))
}

/// `3.17` is the 17th value of client 3.
fn number_of(value: &Value) -> u64 {
    let mut parts = [0_u64; 2];
    let mut part = 0;
    for &byte in value.as_bytes() {
        match byte {
            b'0'..=b'9' => parts[part] = parts[part] * 10 + u64::from(byte - b'0'),
            _ => part = 1,
        }
    }
    parts[0] << 36 | parts[1]
}

/// The judgement of a history, as a failure if it is not a pass.
pub(super) fn judge(history: &History) -> Result<(), (FailureKind, &'static str, String)> {
    match Judge::new().check(history, &Options::default()) {
        Verdict::Linearizable(_) => Ok(()),
        Verdict::NotLinearizable { key, op, .. } => {
            let op = op.map(|op| history.ops[op as usize]);
            let text = match op {
                Some(op) => format!(
                    "{}: no order of the operations explains {}.{} {:?} -> {:?}",
                    history.key_name(key),
                    op.client,
                    op.id,
                    op.action,
                    op.outcome
                ),
                None => format!("{}: no order of the operations exists", history.key_name(key)),
            };
            Err((FailureKind::Violation, "not linearizable", text))
        }
        Verdict::Unknown { key, budget, .. } => Err((
            FailureKind::Unknown,
            "undecided",
            format!("{}: undecided after {budget} configurations", history.key_name(key)),
        )),
    }
}

/// A message through the bytes it would be sent as.
pub(super) fn through_wire(message: &Message) -> Result<Message, String> {
    let mut bytes = Vec::new();
    synod::wire::encode(message, &mut bytes).map_err(|error| error.to_string())?;
    let (message, len) = synod::wire::decode(&bytes).map_err(|error| error.to_string())?;
    if len != bytes.len() {
        return Err(format!("{} bytes are left over", bytes.len() - len));
    }
    Ok(message)
}
