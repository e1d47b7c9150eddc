//! The list of tables that were made while nodes run.
//!
//! It is a merged table itself: every node has it, also in a minority of one; it lasts as long as
//! disks do; and lists that were kept apart become one. A row says, in words, what a table is, and
//! its generation: how often a table of that name was dropped before. A table that was dropped
//! keeps its row, so that nobody who was away brings it back.
//!
//! Must never know: who makes tables, where copies are.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use super::schema::{Agreement, Durability, Schema};
use crate::base::{NodeId, TableName, Value, fnv1a};

/// Its name. No other table has a name that begins like it.
pub const CATALOGUE: &str = "$tables";

/// What can be done about tables while nodes run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TableCommand {
    /// Have a node keep a copy too. Nothing to do if it does.
    AddReplica {
        /// Of which table.
        name: String,
        /// Which node.
        node: NodeId,
    },
    /// Make a table. Nothing to do if there is one that is just this (L-03); nodes named as
    /// replicas are added to those it has.
    Create {
        /// Its name: 1 to 64 letters, digits, dots, dashes and underscores.
        name: String,
        /// What it is.
        schema: Schema,
    },
    /// Drop a table that was made while nodes ran, with all that it holds anywhere, also what was
    /// written to it elsewhere and has not come here yet.
    Drop {
        /// Which.
        name: String,
    },
}

/// Why a table was not made, changed or dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unmade {
    /// It is part of the configuration, and is changed there.
    Declared,
    /// It is declared on this node as a primary table, and another of its name was made while nodes
    /// ran. Neither is served here: drop the one that was made, or start the node without the
    /// declaration.
    DeclaredToo,
    /// It was made as different things where nodes could not hear each other. Nothing is lost: each
    /// node keeps the copy that it has, and says what it is. Drop it when you have what you need.
    Disputed,
    /// There is one of this name, and it is this.
    Exists(String),
    /// Primary tables were made or dropped by a later version of synod, in words that this one does
    /// not know.
    Illegible,
    /// It cannot be kept as it was described.
    Impossible(String),
    /// The name is too long, or has characters that no name of a table has.
    Name,
    /// There is none of this name.
    NoSuchTable,
    /// As many have been made as there may be, or have had as many names.
    TooMany,
}

impl TableCommand {
    /// Which table it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::AddReplica { name, .. } | Self::Create { name, .. } | Self::Drop { name } => name,
        }
    }
}

/// Whether a table can have this name: one that needs no quotes anywhere.
#[must_use]
pub fn is_table_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// What a row says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) generation: u32,
    /// What it is; nothing if it was dropped.
    pub(crate) schema: Option<Schema>,
}

impl Listed {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let text = core::str::from_utf8(value.as_bytes()).ok()?;
        let (generation, words) = text.split_once(':')?;
        let schema = match words {
            "dropped" => None,
            words => Some(Schema::default().with_words(words).ok()?),
        };
        Some(Self { generation: generation.parse().ok()?, schema })
    }

    pub(crate) fn value(&self) -> Value {
        Value::from(self.to_string().as_str())
    }

    /// By which name its copies know each other: the same wherever it was made.
    pub(crate) fn name(&self, name: &str) -> TableName {
        match self.generation {
            0 => TableName::of(name),
            generation => TableName(fnv1a(format!("{name}\0{generation}").as_bytes())),
        }
    }

    /// What values of one row come to, and whether they agree in what the table is. Of those that
    /// do not, what is `held` here stays; where nothing is, the first counts.
    pub(crate) fn fold(values: &[Self], held: Option<Agreement>) -> Option<(Self, bool)> {
        let generation = values.iter().map(|listed| listed.generation).max()?;
        let newest = || values.iter().filter(|listed| listed.generation == generation);
        if newest().any(|listed| listed.schema.is_none()) {
            return Some((Self { generation, schema: None }, true));
        }
        let schemas = || newest().filter_map(|listed| listed.schema.as_ref());
        let own = schemas().find(|schema| Some(schema.agreement()) == held);
        let mut whole = own.or_else(|| schemas().next())?.clone();
        let agreement = whole.agreement();
        let agreed = schemas().all(|schema| schema.agreement() == agreement);
        for other in schemas().filter(|other| other.agreement() == agreement) {
            whole.replicas = whole.replicas.with(&other.replicas);
            whole.retention = whole.retention.max(other.retention);
            if other.durability == Durability::Disk {
                whole.durability = Durability::Disk;
            }
        }
        Some((Self { generation, schema: Some(whole) }, agreed))
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match &self.schema {
            None => "dropped".to_string(),
            Some(schema) if *schema == Schema::default() => schema.kind.to_string(),
            Some(schema) => schema.words(),
        };
        write!(f, "{}:{words}", self.generation)
    }
}

impl fmt::Display for TableCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddReplica { name, node } => write!(f, "add_replica {name} {node}"),
            Self::Create { name, schema } => write!(f, "create {name} {}", schema.words()),
            Self::Drop { name } => write!(f, "drop {name}"),
        }
    }
}

impl fmt::Display for Unmade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared => {
                write!(f, "the table is part of the configuration: change it there")
            }
            Self::Disputed => write!(
                f,
                "the table was made as different things on different nodes; each keeps its copy, \
                 and nothing is lost. Save what you need of each, then drop it"
            ),
            Self::Exists(what) => write!(f, "there is a table of this name, which is {what}"),
            Self::Impossible(why) => write!(f, "the table cannot be kept: {why}"),
            Self::Name => {
                write!(f, "a table's name is 1 to 64 letters, digits, dots, dashes and underscores")
            }
            Self::NoSuchTable => {
                write!(f, "there is no table of this name that was made while nodes run")
            }
            Self::DeclaredToo => write!(
                f,
                "it is declared on this node, and another primary table of its name was made while \
                 nodes ran: drop that one, or start this node without the declaration"
            ),
            Self::Illegible => write!(
                f,
                "this synod cannot read the list of primary tables, which a later version has \
                 written: start this node with that version"
            ),
            Self::TooMany => write!(
                f,
                "there are as many tables made while nodes run as there may be, or they have had \
                 as many names: drop one, and use the name of one that was dropped"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Listed {
        Listed::parse(&Value::from(text)).expect(text)
    }

    #[test]
    fn what_is_listed_is_read_as_it_was_written() {
        for text in ["0:set", "3:dropped", "1:bag@4:2+memory+on@1.2"] {
            assert_eq!(listed(text).to_string(), text);
        }
        for wrong in ["", "0", "x:set", "0:sets", "-1:dropped"] {
            assert_eq!(Listed::parse(&Value::from(wrong)), None, "{wrong}");
        }
        assert_eq!(listed("0:set").name("a"), TableName::of("a"));
        assert_ne!(listed("1:set").name("a"), TableName::of("a"));
    }

    /// L-06: whoever folds them, in whichever order they are shown.
    #[test]
    fn lists_made_apart_come_to_one() {
        let both = |one: &str, other: &str| {
            let forth = Listed::fold(&[listed(one), listed(other)], None).expect("some");
            let back = Listed::fold(&[listed(other), listed(one)], None).expect("some");
            assert_eq!(forth.1, back.1, "{one} and {other}");
            if forth.1 {
                assert_eq!(forth, back, "{one} and {other}");
            }
            (forth.0.to_string(), forth.1)
        };
        let said = |text: &str, agreed| (text.to_string(), agreed);
        assert_eq!(both("0:on@1.2", "0:memory+on@2.3"), said("0:on@1.2.3", true));
        assert_eq!(both("0:on@1", "0:set"), said("0:set", true));
        assert_eq!(both("0:bag", "0:dropped"), said("0:dropped", true));
        assert_eq!(both("0:dropped", "1:bag"), said("1:bag", true));
        assert_eq!(both("0:bag", "0:set"), said("0:bag", false));
        let held = listed("0:set").schema.map(|schema| schema.agreement());
        let own = Listed::fold(&[listed("0:bag"), listed("0:set")], held).expect("some");
        assert_eq!((own.0, own.1), (listed("0:set"), false));
        assert_eq!(Listed::fold(&[], None), None);
    }
}
