//! What clients asked and were told, as data, and the file formats it is read from.
//!
//! A history is the checker's only input. It must never know how a cluster works: no ballots, no
//! nodes, no messages, only operations with a begin, an end, and what was observed, plus the
//! moments at which a monitored thing may be treated as down.

pub mod edn;
pub mod generate;
pub mod jepsen;
pub mod jsonl;
pub mod read;

use std::collections::HashMap;
use std::fmt;

/// A value a client wrote. Histories with distinct values (client, counter) are judged fastest.
pub type Value = u64;
/// A key, as a small number given by the recorder (see [`History::key_name`]).
pub type Key = u32;
/// The number of an operation inside its history: its index in [`History::ops`].
pub type OpIndex = u32;
/// Moments are event ranks: only their order matters.
pub type Time = u64;

/// The response time of an operation whose outcome is not known.
pub const NEVER: Time = Time::MAX;

/// Values at and above this bound name interned strings ([`History::strings`]).
pub const STRING_BASE: Value = 1 << 62;

/// What a key's life is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binding {
    /// A monitored thing (a session, a node, a deadline), as a small number.
    Thing(u32),
    /// The life of another key that began with the write of `birth`.
    Life {
        /// The key bound to.
        key: Key,
        /// The value whose write found the key absent and so began the life.
        birth: Value,
    },
}

/// A set of bindings, interned in `History::binds`; the empty set is [`Binds::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Binds(pub u32);

impl Binds {
    /// Bound to nothing.
    pub const NONE: Self = Self(0);
}

/// What a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Appends a string to the key's string (only in the `kv-append` model).
    Append {
        /// The string appended.
        value: Value,
    },
    /// Writes `value` if the key holds `expect` (`None`: is absent).
    CompareAndSet {
        /// What the key must hold.
        expect: Option<Value>,
        /// What it then holds.
        value: Value,
    },
    /// Asks whether the key is live, as a key listing does.
    Exists,
    /// Reads the key.
    Get,
    /// Overwrites the key, whatever it holds.
    Put {
        /// What the key then holds.
        value: Value,
    },
    /// Writes `value` if the key is absent.
    PutIfAbsent {
        /// What the key then holds.
        value: Value,
    },
    /// Makes the key absent, whatever it holds.
    Remove,
}

impl Action {
    /// The value this action would write.
    pub const fn value(self) -> Option<Value> {
        match self {
            Self::Append { value }
            | Self::CompareAndSet { value, .. }
            | Self::Put { value }
            | Self::PutIfAbsent { value } => Some(value),
            Self::Exists | Self::Get | Self::Remove => None,
        }
    }

    /// Whether the action never changes the key.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Exists | Self::Get)
    }
}

/// What an answer told about the key just before the operation took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The key was absent.
    Absent,
    /// Nothing was told.
    Nothing,
    /// The key was live, with a value that was not told.
    Present,
    /// The key held this value.
    Value(Value),
}

/// What a client was told. An operation that certainly had no effect and told nothing is left out
/// of the history altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A write, remove or append took effect and saw this before.
    Done(Seen),
    /// `Exists` answered.
    Exists(bool),
    /// The write was answered with "a binding is down": it may have taken effect, but then its
    /// entry was gone again before the response.
    InvalidBinding,
    /// `Get` answered: the value, or absent.
    Read(Option<Value>),
    /// Refused without effect: put-if-absent found an entry, compare-and-set a mismatch.
    Refused(Seen),
    /// Not known: it may take effect at any moment from its call on, or never.
    Unknown,
}

/// One operation of one client on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The number the recorder gave it, used only to name it to people.
    pub id: u64,
    /// The client, -1 when not known.
    pub client: i32,
    /// The key it touches.
    pub key: Key,
    /// What the written entry is bound to.
    pub binds: Binds,
    /// When it was invoked.
    pub call: Time,
    /// When it was answered, [`NEVER`] if it was not.
    pub ret: Time,
    /// What was asked.
    pub action: Action,
    /// What was answered.
    pub outcome: Outcome,
}

impl Operation {
    /// What the answer shows the key to have held, at some moment between call and response:
    /// `Some(None)` if it was absent.
    pub(crate) fn shows(&self) -> Option<Option<Value>> {
        match (self.action, self.outcome) {
            (Action::Append { .. }, _) => None,
            (_, Outcome::Read(value)) => Some(value),
            (_, Outcome::Exists(false)) | (Action::Remove, Outcome::Done(_)) => Some(None),
            (_, Outcome::Refused(Seen::Value(value))) => Some(Some(value)),
            (action, Outcome::Done(_)) => Some(action.value()),
            (
                _,
                Outcome::Exists(true)
                | Outcome::InvalidBinding
                | Outcome::Refused(_)
                | Outcome::Unknown,
            ) => None,
        }
    }
}

/// A fact about a binding that is not a client's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub time: Time,
    /// Only on this key, or on every key.
    pub key: Option<Key>,
    /// Which binding.
    pub binding: Binding,
    /// What about it.
    pub kind: MarkKind,
}

/// The kinds of [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// From now on entries with this binding may vanish at any moment, once each.
    Down,
    /// At this moment no live entry may have this binding.
    Gone,
}

/// The sequential specification: what keys hold at the beginning, and whether values are strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Model {
    /// Strings with `append`; keys begin as the empty string.
    KvAppend,
    /// Keys begin absent.
    #[default]
    Kv,
    /// Registers that begin as 0.
    Register,
}

impl Model {
    /// The model of this name, as `--model` and the `kind` of a header give it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "append" | "kv-append" => Some(Self::KvAppend),
            "erase" | "kv" | "once" | "bound" | "register-unset" | "synod" => Some(Self::Kv),
            "register" | "regu" | "regs" | "casu" => Some(Self::Register),
            _ => None,
        }
    }

    /// What `--model` accepts, for error messages.
    pub const NAMES: &'static str =
        "kv (once, erase, bound, register-unset), register (regu, regs, casu), kv-append";
}

/// Everything recorded of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The sequential specification.
    pub model: Model,
    /// The operations, in any order.
    pub ops: Vec<Operation>,
    /// Bindings going down, and moments at which they must have been acted on.
    pub marks: Vec<Mark>,
    /// The text of string values: value [`STRING_BASE`]` + i` is `strings[i]`.
    pub strings: Vec<String>,
    /// The expected verdict, if the file's header tells it.
    pub expect: Option<bool>,
    binds: Vec<Box<[Binding]>>,
    binds_index: HashMap<Box<[Binding]>, u32>,
    key_names: Vec<(Key, String)>,
    string_index: HashMap<String, Value>,
}

impl History {
    /// An empty history of this model.
    pub fn new(model: Model) -> Self {
        Self { model, ..Self::default() }
    }

    /// Forgets everything but keeps the allocations.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.marks.clear();
        self.strings.clear();
        self.expect = None;
        self.binds.clear();
        self.binds_index.clear();
        self.key_names.clear();
        self.string_index.clear();
    }

    /// The interned set of these bindings.
    pub fn bind(&mut self, bindings: &[Binding]) -> Binds {
        if bindings.is_empty() {
            return Binds::NONE;
        }
        let mut sorted: Box<[Binding]> = bindings.into();
        sorted.sort_unstable();
        if let Some(&index) = self.binds_index.get(&sorted) {
            return Binds(index);
        }
        self.binds.push(sorted.clone());
        let index = u32::try_from(self.binds.len()).expect("fewer than 2^32 binding sets");
        self.binds_index.insert(sorted, index);
        Binds(index)
    }

    /// The bindings of an interned set.
    pub fn bindings(&self, binds: Binds) -> &[Binding] {
        match binds.0 {
            0 => &[],
            index => &self.binds[index as usize - 1],
        }
    }

    /// The number of interned binding sets, the empty one not counted.
    pub fn binds_len(&self) -> usize {
        self.binds.len()
    }

    /// The value that stands for this string.
    pub fn intern(&mut self, text: &str) -> Value {
        if let Some(&value) = self.string_index.get(text) {
            return value;
        }
        let value = STRING_BASE + self.strings.len() as Value;
        self.strings.push(text.to_owned());
        self.string_index.insert(text.to_owned(), value);
        value
    }

    /// Gives a key its name.
    pub fn name_key(&mut self, key: Key, name: &str) {
        self.key_names.push((key, name.to_owned()));
    }

    /// The name of a key, for people.
    pub fn key_name(&self, key: Key) -> String {
        self.key_names
            .iter()
            .find(|(number, _)| *number == key)
            .map_or_else(|| key.to_string(), |(_, name)| name.clone())
    }

    /// A value, for people.
    pub fn show_value(&self, value: Value) -> String {
        value
            .checked_sub(STRING_BASE)
            .and_then(|index| self.strings.get(usize::try_from(index).ok()?))
            .map_or_else(|| value.to_string(), |text| format!("{text:?}"))
    }

    /// A history of the same model, names and bindings without operations and marks.
    pub fn like(&self) -> Self {
        Self {
            model: self.model,
            ops: Vec::new(),
            marks: Vec::new(),
            strings: self.strings.clone(),
            expect: None,
            binds: self.binds.clone(),
            binds_index: self.binds_index.clone(),
            key_names: self.key_names.clone(),
            string_index: self.string_index.clone(),
        }
    }

    /// What keys hold at the beginning.
    pub fn initial(&self) -> Option<Value> {
        match self.model {
            Model::Kv => None,
            Model::KvAppend => Some(EMPTY_STRING),
            Model::Register => Some(0),
        }
    }
}

/// The value a key of the `kv-append` model begins with: the empty string is always interned as
/// this one, see [`History::intern_append`].
pub const EMPTY_STRING: Value = STRING_BASE - 1;

impl History {
    /// As [`History::intern`], with the empty string standing for "nothing written yet".
    pub fn intern_append(&mut self, text: &str) -> Value {
        if text.is_empty() { EMPTY_STRING } else { self.intern(text) }
    }

    /// The value that stands for this string, if there is one.
    pub fn find(&self, text: &str) -> Option<Value> {
        if text.is_empty() { Some(EMPTY_STRING) } else { self.string_index.get(text).copied() }
    }

    /// The text of an interned string value.
    pub fn text(&self, value: Value) -> Option<&str> {
        if value == EMPTY_STRING {
            return Some("");
        }
        let index = usize::try_from(value.checked_sub(STRING_BASE)?).ok()?;
        self.strings.get(index).map(String::as_str)
    }
}

/// Why a file could not be read, with the place and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: u64,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for BadInput {}
