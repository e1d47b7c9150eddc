//! What each refusal of the engine is called on the wire.
//!
//! The first word of an error is its code. Every code says something definite; `UNKNOWN` alone says
//! that nothing definite is known, and nothing else is ever said in its place.

use super::plan::{Surroundings, table_name};
use super::reply::Reply;
use crate::base::TableId;
use crate::consensus::{Outcome, Refusal};
use crate::monitor::Bind;
use crate::node::{Discipline, TableConfig};
use crate::primary;

/// Every code, and what a client may conclude. The documentation is made of this list.
pub const CODES: [(&str, &str); 24] = [
    (
        "BUSY",
        "Too many requests are in flight on this node, or too many clients connected. No effect; \
         send it again later, or to another node.",
    ),
    ("DISCIPLINE", "A command of one kind of table to a table of another. No effect."),
    ("ERR", "The command or its arguments are wrong. No effect."),
    (
        "INVALIDBINDING",
        "What the key was to be bound to had ended. The key is as if it had not been asked.",
    ),
    ("LIMIT", "Something is longer than a limit of this node. No effect."),
    ("NOAUTH", "The node asks for a password, and has not been told it. No effect."),
    ("NOPROTO", "`HELLO` asked for a version of the protocol other than 2 or 3. No effect."),
    ("NOQUORUM", "No quorum of nodes was reached. No effect, now or later; safe to ask anew."),
    (
        "NOREPLICA",
        "The node keeps no copy of this merged table, and none that does was reached, or its disk \
         was too slow for a read; or it is no replica of this primary table. No effect.",
    ),
    (
        "NOSUCCESSOR",
        "No other replica of the primary table, or not that one, is in sync and well. No effect.",
    ),
    (
        "NOSUCHSESSION",
        "The session is not hosted by the node asked, is not this connection's, or has ended. No \
         effect.",
    ),
    ("NOSUCHTABLE", "The table is not in the configuration. No effect."),
    (
        "NOTGONE",
        "A replica of the primary table that counts may still have its disk, so none is made \
         primary by force. No effect.",
    ),
    (
        "NOTINTIME",
        "What the client has seen of the primary table has not come here in time, or the primary \
         could not prove in time that it is one. No effect; ask again, or another node.",
    ),
    (
        "NOTPRIMARY",
        "Only the primary of the table does this, and this node is not it; it says which is, if it \
         knows, and where other nodes reach it. This attempt had no effect; ask that node, or have \
         this one `FOLLOW`.",
    ),
    (
        "NOTREADY",
        "The node does not take part, so it answers for nobody: it says why. No effect; ask \
         another node.",
    ),
    (
        "PREVIOUSUNKNOWN",
        "The write took effect. What it replaced, which was asked for, was not seen.",
    ),
    (
        "RESOLVED",
        "The request was resolved as not done before it arrived. No effect, now or later.",
    ),
    ("UNFIT", "The value lacks a field that every value of the merged table must have. No effect."),
    (
        "UNKNOWN",
        "It may have taken effect, may still, or may never. Read after `SYNOD.FENCE` to find out, \
         or send the same request with `AGAIN`; of a primary table ask `SYNOD.RESOLVE`; of a \
         merged one read, for it has neither.",
    ),
    ("UNMADE", "The table was not made, changed or dropped: it says why. No effect."),
    (
        "UNSUPPORTED",
        "A command of Redis that would mean something else here. It says what to use instead.",
    ),
    ("WRITEONCE", "The table is write-once: what is chosen stays. No effect."),
    ("WRONGPASS", "The password is wrong. No effect."),
];

/// As [`refused`], in the names of tables instead of their numbers, and with where nodes are.
#[must_use]
pub(super) fn refused_in(outcome: &Outcome, surroundings: &dyn Surroundings) -> Reply {
    let Outcome::Refused(refusal) = outcome else { return refused(outcome) };
    let tables = &surroundings.tables();
    let name = |table: &TableId| table_name(tables, *table);
    let text = match refusal {
        Refusal::Discipline(table) => {
            let found = tables.get(usize::from(table.0));
            format!("table {} is {}", name(table), found.map_or("not known", offers))
        }
        Refusal::InvalidBinding(Bind::Key { table, key }) => {
            format!("invalid binding: key:{}:{key} has ended", name(table))
        }
        Refusal::NoReplica(table) => {
            format!("no node that keeps a copy of table {} was reached", name(table))
        }
        Refusal::WriteOnce(table) => format!("table {} is write-once", name(table)),
        Refusal::Primary(refusal) => {
            let primary = refusal.hint().and_then(|primary| surroundings.members().get(&primary));
            let at = primary.map(|address| format!(", at {address} for other nodes"));
            format!("{refusal}{}", at.unwrap_or_default())
        }
        Refusal::Busy
        | Refusal::InvalidBinding(_)
        | Refusal::LimitExceeded { .. }
        | Refusal::NoQuorum
        | Refusal::NoSuchSession(_)
        | Refusal::NoSuchTable(_)
        | Refusal::NotReady(_)
        | Refusal::Unfit(_)
        | Refusal::Unmade(_) => refusal.to_string(),
    };
    Reply::Error(code(refusal), text)
}

/// What a table is, and which commands there are for it, for who used one that there is not.
const fn offers(table: &TableConfig) -> &'static str {
    match table.discipline {
        Discipline::Consensus { .. } => {
            "a consensus table: commands of merged or of primary tables are not for it"
        }
        Discipline::Merged(_) => {
            "a merged table, without deadlines, bindings or conditions on values: it has SET, GET, \
             DEL, EXISTS, MGET, KEYS, SCAN, SYNOD.PUT, SYNOD.GET, SYNOD.REMOVE, SYNOD.KEYS; \
             SYNOD.ROWS lists, SYNOD.BATCH writes, with IF only if what was read is still there"
        }
        Discipline::Primary(_) => {
            "a primary table, without conditions, deadlines or bindings: it has SET, GET, DEL, \
             EXISTS, MGET, KEYS, SCAN, SYNOD.PUT, SYNOD.GET, SYNOD.REMOVE, SYNOD.KEYS, \
             SYNOD.RESOLVE, SYNOD.PRIMARY, SYNOD.HANDOVER, SYNOD.JOIN, SYNOD.LEAVE, SYNOD.FORCE"
        }
    }
}

/// The reply to an outcome that is not what was asked for.
#[must_use]
pub fn refused(outcome: &Outcome) -> Reply {
    match outcome {
        Outcome::Refused(refusal) => Reply::Error(code(refusal), refusal.to_string()),
        Outcome::Unknown => Reply::Error(
            "UNKNOWN",
            "it may have taken effect, may still, or may never; read to find out: in a consensus \
             table after SYNOD.FENCE, in a merged one as it is; of a primary one ask SYNOD.RESOLVE"
                .to_owned(),
        ),
        Outcome::Chosen { .. }
        | Outcome::Done
        | Outcome::Found { .. }
        | Outcome::Keys { .. }
        | Outcome::Merged(_)
        | Outcome::Primary(_)
        | Outcome::Mismatch { .. }
        | Outcome::Removed { .. }
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Written { .. } => {
            // It is definite, but no answer to what was asked; to call it a failure would be a lie.
            Reply::Error("UNKNOWN", format!("an answer to something else: {outcome}"))
        }
    }
}

/// The code of a refusal.
#[must_use]
pub const fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Busy => "BUSY",
        Refusal::Discipline(_) => "DISCIPLINE",
        Refusal::InvalidBinding(_) => "INVALIDBINDING",
        Refusal::LimitExceeded { .. } => "LIMIT",
        Refusal::NoQuorum => "NOQUORUM",
        Refusal::NoReplica(_) => "NOREPLICA",
        Refusal::NoSuchSession(_) => "NOSUCHSESSION",
        Refusal::NoSuchTable(_) => "NOSUCHTABLE",
        Refusal::NotReady(_) => "NOTREADY",
        Refusal::Primary(refusal) => primary_code(refusal),
        Refusal::Unfit(_) => "UNFIT",
        Refusal::Unmade(_) => "UNMADE",
        Refusal::WriteOnce(_) => "WRITEONCE",
    }
}

const fn primary_code(refusal: &primary::Refusal) -> &'static str {
    match refusal {
        primary::Refusal::Busy(_) => "BUSY",
        primary::Refusal::NoSuccessor => "NOSUCCESSOR",
        primary::Refusal::NotGone(_) => "NOTGONE",
        primary::Refusal::NotInTime => "NOTINTIME",
        primary::Refusal::NotPrimary(_) => "NOTPRIMARY",
        primary::Refusal::NotReady => "NOTREADY",
        primary::Refusal::NotReplica(_) => "NOREPLICA",
        primary::Refusal::Resolved => "RESOLVED",
        primary::Refusal::TooLarge => "LIMIT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SessionId, Wall};
    use crate::consensus::Readiness;

    #[test]
    fn every_refusal_has_a_code_of_its_own_that_is_documented() {
        let refusals = [
            Refusal::Busy,
            Refusal::Discipline(TableId(0)),
            Refusal::NoReplica(TableId(0)),
            Refusal::Unfit(crate::merged::Unfit::NoField { key: "k".into() }),
            Refusal::Unmade(crate::merged::Unmade::Name),
            Refusal::InvalidBinding(Bind::Until(Wall(1))),
            Refusal::LimitExceeded { what: "key", len: 2, max: 1 },
            Refusal::NoQuorum,
            Refusal::NoSuchSession(SessionId {
                host: crate::NodeId(1),
                node_session: 1,
                number: 1,
            }),
            Refusal::NoSuchTable(TableId(7)),
            Refusal::NotReady(Readiness::Starting),
            Refusal::Primary(primary::Refusal::NoSuccessor),
            Refusal::Primary(primary::Refusal::NotGone(crate::NodeId(1))),
            Refusal::Primary(primary::Refusal::NotInTime),
            Refusal::Primary(primary::Refusal::NotPrimary(None)),
            Refusal::Primary(primary::Refusal::Resolved),
            Refusal::WriteOnce(TableId(0)),
        ];
        let mut codes: Vec<&str> = refusals.iter().map(code).collect();
        assert!(codes.iter().all(|code| CODES.iter().any(|(known, _)| known == code)));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), refusals.len());
        assert!(CODES.is_sorted());
    }
}
