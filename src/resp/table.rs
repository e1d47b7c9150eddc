//! Every command, in one table: how it is read, what `COMMAND` says of it, and what
//! `docs/COMMANDS.md` says. What is not in it does not exist.

use core::fmt::Write as _;

use bytes::Bytes;

use super::decode::RequestLimits;
use super::error::CODES;
use super::redis::{self, Read};
use super::reply::Reply;
use super::{arguments, merged, own, primary};

/// Which part of the documentation a command is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Connections.
    Connection,
    /// Keys and values as in Redis.
    Redis,
    /// Nodes.
    Server,
    /// What Redis has no word for.
    Synod,
    /// Messages.
    Subscriptions,
}

/// One command.
pub struct Spec {
    /// Its name, in capitals.
    pub name: &'static str,
    /// How many arguments, the name included; negative: at least.
    pub arity: i32,
    /// What it is about.
    pub group: Group,
    /// Whether it may change something.
    pub writes: bool,
    /// Where its first and last key are, and how far apart; 0 if there are none.
    pub keys: (i32, i32, i32),
    /// How it is written, without the name.
    pub syntax: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// How it departs from Redis, or what must be known; may be empty.
    pub notes: &'static str,
    pub(super) read: Read,
}

impl Spec {
    /// How many arguments it takes at most, the name included. Each may be a call to the engine;
    /// a batch is one, however long.
    pub(super) fn arguments_max(&self) -> usize {
        if self.name == "SYNOD.BATCH" { RequestLimits::default().arguments_max } else { 1_024 }
    }
}

const READ: bool = false;
const WRITE: bool = true;
const NO_KEY: (i32, i32, i32) = (0, 0, 0);
const ONE_KEY: (i32, i32, i32) = (1, 1, 1);
const ALL_KEYS: (i32, i32, i32) = (1, -1, 1);

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
const fn row(
    name: &'static str,
    arity: i32,
    group: Group,
    writes: bool,
    keys: (i32, i32, i32),
    syntax: &'static str,
    summary: &'static str,
    notes: &'static str,
    read: Read,
) -> Spec {
    Spec { name, arity, group, writes, keys, syntax, summary, notes, read }
}

/// Every command, by name.
pub const COMMANDS: [Spec; 64] = {
    use Group::{Connection, Redis, Server, Subscriptions, Synod};
    [
        row(
            "AUTH",
            -2,
            Connection,
            READ,
            NO_KEY,
            "[user] password",
            "Says the password that the node was given.",
            "Before, only `AUTH`, `HELLO`, `QUIT` and `RESET` are answered; the only user is \
             `default`. A node that was given no password refuses it.",
            redis::auth,
        ),
        row(
            "CLIENT",
            -2,
            Connection,
            READ,
            NO_KEY,
            "ID | GETNAME | SETNAME name | SETINFO LIB-NAME|LIB-VER text | INFO | LIST",
            "Tells of connections, and names this one.",
            "",
            redis::client,
        ),
        row(
            "COMMAND",
            -1,
            Server,
            READ,
            NO_KEY,
            "[COUNT | DOCS [name ...] | INFO [name ...] | LIST]",
            "Tells of commands.",
            "",
            redis::command,
        ),
        row(
            "CONFIG",
            -2,
            Server,
            READ,
            NO_KEY,
            "GET pattern [pattern ...]",
            "Tells the few parameters that benchmarks ask for.",
            "A node is configured by its file, its environment and its flags.",
            redis::config,
        ),
        row(
            "DEL",
            -2,
            Redis,
            WRITE,
            ALL_KEYS,
            "key [key ...]",
            "Removes keys; tells how many there were.",
            "Each on its own: several are not removed in one step. Repeating it finishes what an \
             error cut short.",
            redis::del,
        ),
        row("ECHO", 2, Connection, READ, NO_KEY, "text", "Answers the text.", "", redis::echo),
        row(
            "EXISTS",
            -2,
            Redis,
            READ,
            ALL_KEYS,
            "key [key ...]",
            "Tells how many of the keys there are.",
            "Each is linearizable; several are not read in one step.",
            redis::exists,
        ),
        row(
            "EXPIRETIME",
            2,
            Redis,
            READ,
            ONE_KEY,
            "key",
            "Tells the deadline of a key in seconds since 1970; -1 if it has none, -2 if there \
             is no key.",
            "A key may also be bound to a session, a node or a key: see `SYNOD.BINDING`.",
            redis::expiretime,
        ),
        row(
            "GET",
            2,
            Redis,
            READ,
            ONE_KEY,
            "key",
            "Reads a value.",
            "Linearizable, unless `SYNOD.DEFAULTS LOCAL` was said.",
            redis::get,
        ),
        row(
            "GETDEL",
            2,
            Redis,
            WRITE,
            ONE_KEY,
            "key",
            "Removes a key; answers the value it had.",
            "",
            redis::getdel,
        ),
        row(
            "GETSET",
            3,
            Redis,
            WRITE,
            ONE_KEY,
            "key value",
            "Overwrites; answers the value that was there.",
            "",
            redis::getset,
        ),
        row(
            "HELLO",
            -1,
            Connection,
            READ,
            NO_KEY,
            "[2|3 [AUTH user password] [SETNAME name]]",
            "Chooses the version of the protocol; tells of the node.",
            "",
            redis::hello,
        ),
        row(
            "INFO",
            -1,
            Server,
            READ,
            NO_KEY,
            "[section ...]",
            "Tells of the node, as lines of text.",
            "",
            redis::info,
        ),
        row(
            "KEYS",
            2,
            Redis,
            READ,
            NO_KEY,
            "pattern",
            "Lists the keys that match, in order, 100,000 at most.",
            "A pattern has 1,024 bytes at most. Page after page: a key live during the whole call \
             is listed, one dead during the whole call is not; others may be.",
            redis::keys,
        ),
        row(
            "MGET",
            -2,
            Redis,
            READ,
            ALL_KEYS,
            "key [key ...]",
            "Reads values.",
            "Each is linearizable; several are not read in one step, so they are no snapshot.",
            redis::mget,
        ),
        row(
            "MSET",
            -3,
            Redis,
            WRITE,
            ONE_KEY,
            "key value",
            "As `SET`.",
            "Of one key only: several would not be written in one step.",
            redis::mset,
        ),
        row(
            "PEXPIRETIME",
            2,
            Redis,
            READ,
            ONE_KEY,
            "key",
            "As `EXPIRETIME`, in milliseconds.",
            "",
            redis::pexpiretime,
        ),
        row(
            "PING",
            -1,
            Connection,
            READ,
            NO_KEY,
            "[text]",
            "Answers.",
            "Says that the node can be reached; `SYNOD.STATUS` says whether it serves.",
            redis::ping,
        ),
        row(
            "PSETEX",
            4,
            Redis,
            WRITE,
            ONE_KEY,
            "key milliseconds value",
            "As `SET key value PX milliseconds`.",
            "",
            redis::psetex,
        ),
        row("PTTL", 2, Redis, READ, ONE_KEY, "key", "As `TTL`, in milliseconds.", "", redis::pttl),
        row(
            "QUIT",
            -1,
            Connection,
            READ,
            NO_KEY,
            "",
            "Closes the connection, once everything is answered.",
            "",
            redis::quit,
        ),
        row(
            "RESET",
            1,
            Connection,
            READ,
            NO_KEY,
            "",
            "Makes the connection as it was at first.",
            "Also behind a refused `MULTI`. Sessions stay attached. The password is to be said \
             again.",
            redis::reset,
        ),
        row(
            "SCAN",
            -2,
            Redis,
            READ,
            NO_KEY,
            "cursor [MATCH pattern] [COUNT count] [TYPE string]",
            "Lists keys in order, a page at a time.",
            "The node that gave a cursor keeps it for a while, and no other node knows it; \
             `SYNOD.KEYS` pages by key.",
            redis::scan,
        ),
        row(
            "SELECT",
            2,
            Connection,
            READ,
            NO_KEY,
            "table",
            "Chooses the table that commands without one are about, by number or name.",
            "",
            redis::select,
        ),
        row(
            "SET",
            -3,
            Redis,
            WRITE,
            ONE_KEY,
            "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT seconds | PXAT \
             milliseconds | KEEPTTL]",
            "Overwrites, and unbinds or binds to a deadline.",
            "A deadline has passed when a quorum of clocks says so. `EX` and `PX` count from \
             this node's clock. A deadline in the past is `INVALIDBINDING` and changes nothing.",
            redis::set,
        ),
        row(
            "SETEX",
            4,
            Redis,
            WRITE,
            ONE_KEY,
            "key seconds value",
            "As `SET key value EX seconds`.",
            "",
            redis::setex,
        ),
        row(
            "SETNX",
            3,
            Redis,
            WRITE,
            ONE_KEY,
            "key value",
            "Puts if the key is absent; 1 if it did.",
            "`SYNOD.PUTIFABSENT` answers the value that was chosen.",
            redis::setnx,
        ),
        row(
            "STRLEN",
            2,
            Redis,
            READ,
            ONE_KEY,
            "key",
            "Tells the length of a value; 0 if there is no key.",
            "",
            redis::strlen,
        ),
        row(
            "SUBSCRIBE",
            -2,
            Subscriptions,
            READ,
            NO_KEY,
            "channel [channel ...]",
            "Asks for messages: of `quorum`, `merges`, `roles`, `key:TABLE:KEY`, `session:ID`.",
            "Of a session only the connection that opened or attached it can ask for them; any \
             other is refused with `NOSUCHSESSION`.",
            redis::subscribe,
        ),
        row(
            "SYNOD.ADDREPLICA",
            -3,
            Synod,
            WRITE,
            NO_KEY,
            "name node [PATIENCE milliseconds]",
            "Has a node keep a copy of a merged table that was made with `SYNOD.CREATE`.",
            "Nothing is done if it does.",
            merged::add_replica,
        ),
        row(
            "SYNOD.BATCH",
            -4,
            Synod,
            WRITE,
            NO_KEY,
            "count PUT key value | REMOVE key | REMOVEIF key value | IF key count [write ...] \
             [...] [TABLE table]",
            "Of a merged table: does so many changes in one step, or none of them.",
            "Answers what the rows that it changed had shown. Behind `IF` stand the writes that \
             the key has to show, all of them and no other, as `SYNOD.GET`, `SYNOD.ROWS` and \
             `SYNOD.CONFLICTS` name them, none if it has to show nothing; else nothing is done, \
             and `written` is false. So a value that was read is changed, and a conflict ended, \
             without overwriting what was not seen. Conditions count as changes do. Up to \
             4,096 arguments, 1,364 puts; other commands take 1,024.",
            merged::batch,
        ),
        row(
            "SYNOD.BINDING",
            -2,
            Synod,
            READ,
            ONE_KEY,
            "key [LOCAL | LINEARIZABLE] [OPTIONS]",
            "Tells what a key's life is bound to; null if there is no key.",
            "",
            own::binding,
        ),
        row(
            "SYNOD.CAS",
            -4,
            Synod,
            WRITE,
            ONE_KEY,
            "key value ABSENT | IF value | VERSION version [BINDINGS] [OPTIONS]",
            "Puts if what is there is as expected: nothing, a value, or a version.",
            "If not, answers what is there, with `written` false.",
            own::compare_and_set,
        ),
        row(
            "SYNOD.CONFLICTS",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[AFTER key [ELEMENT element]] [LIMIT count] [TABLE table]",
            "Of a merged table: lists rows whose values did not know of each other.",
            "A write to the row ends its conflict, on all nodes: `SYNOD.BATCH` with `IF` only \
             if no other value has come since.",
            merged::conflicts,
        ),
        row(
            "SYNOD.CREATE",
            -2,
            Synod,
            WRITE,
            NO_KEY,
            "name [AS words] [PATIENCE milliseconds]",
            "Makes a merged table, here at once and on the other nodes as soon as they hear of \
             it; or a primary one, if a quorum agrees.",
            "Nothing is done if there is one of this name that is the same. The words of a primary \
             table begin with `primary`, as in `primary+quorum`: see `docs/PRIMARY.md`; for others \
             see `docs/MERGED.md`. Wait for the reply before you use the table.",
            merged::create,
        ),
        row(
            "SYNOD.DEFAULTS",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[TABLE table] [PATIENCE milliseconds] [RETRY | RETURN] [LOCAL | LINEARIZABLE] \
             [COMMITTED | DIRTY] [FOLLOW | HERE]",
            "Sets this connection's defaults, which all commands use.",
            "Also those of Redis, and `SYNOD.SESSION OPEN`.",
            own::defaults,
        ),
        row(
            "SYNOD.DROP",
            -2,
            Synod,
            WRITE,
            NO_KEY,
            "name [PATIENCE milliseconds]",
            "Drops a table that was made with `SYNOD.CREATE`, with all that any node holds of it; \
             a primary one if a quorum agrees.",
            "What is written to it elsewhere before the news gets there is dropped too.",
            merged::drop_table,
        ),
        row(
            "SYNOD.FENCE",
            -2,
            Synod,
            WRITE,
            ONE_KEY,
            "key [OPTIONS]",
            "Writes what is there again, so that nothing still in flight can take effect later; \
             answers it.",
            "What to do after `UNKNOWN`.",
            own::fence,
        ),
        row(
            "SYNOD.FORCE",
            -1,
            Synod,
            WRITE,
            NO_KEY,
            "[TABLE table] [PATIENCE milliseconds]",
            "Of a primary table: makes this node's replica the primary although it did not count.",
            "Only once all that did are gone, as when they have lost their disks. What they had \
             and this one has not is lost.",
            primary::force,
        ),
        row(
            "SYNOD.GET",
            -2,
            Synod,
            READ,
            ONE_KEY,
            "key [LOCAL | LINEARIZABLE | COMMITTED | DIRTY] [OPTIONS]",
            "Reads an entry: value, generation, token, version, bindings.",
            "`LOCAL` asks nobody and may be stale. Of a primary table: value, place and reign; \
             `COMMITTED`, the default, is what this node knows to be, `DIRTY` what may never be, \
             `LINEARIZABLE` is answered by the primary alone.",
            own::get,
        ),
        row(
            "SYNOD.HANDOVER",
            -1,
            Synod,
            WRITE,
            NO_KEY,
            "[TO node] [TABLE table] [PATIENCE milliseconds]",
            "Of a primary table: has this node, its primary, hand over to another replica.",
            "Answers once another reign has begun; meanwhile writes are refused with `BUSY`.",
            primary::hand_over,
        ),
        row(
            "SYNOD.JOIN",
            -1,
            Synod,
            WRITE,
            NO_KEY,
            "[TABLE table] [PATIENCE milliseconds]",
            "Of a primary table: has this node's replica join, if it is none.",
            "",
            primary::join,
        ),
        row(
            "SYNOD.KEYS",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[AFTER key] [LIMIT count] [OPTIONS]",
            "Lists keys in order, a page at a time; `more` is where to go on, null at the end.",
            "",
            own::keys,
        ),
        row(
            "SYNOD.LEAVE",
            -1,
            Synod,
            WRITE,
            NO_KEY,
            "[TABLE table] [PATIENCE milliseconds]",
            "Of a primary table: has this node's replica leave, until it is told to join.",
            "Writes do not wait for it any more once that is decided. A primary hands over first.",
            primary::leave,
        ),
        row(
            "SYNOD.MERGE",
            -1,
            Synod,
            WRITE,
            NO_KEY,
            "[KEEP HERE | THERE] [TABLE table]",
            "Of a merged table that is `manual`: merges this node's copy with those that it was \
             left apart from.",
            "Values that collide stay in conflict, unless those of one side are kept.",
            merged::merge,
        ),
        row(
            "SYNOD.MERGED",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[TABLE table]",
            "Of a merged table: what this node's copy is, how it stands with the others, and its \
             latest merges.",
            "",
            merged::info,
        ),
        row(
            "SYNOD.PRIMARY",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[TABLE table] [PATIENCE milliseconds]",
            "Of a primary table: what this node's replica is, who is primary, who counts, and \
             how far the \
             others are behind.",
            "",
            primary::info,
        ),
        row(
            "SYNOD.PUT",
            -3,
            Synod,
            WRITE,
            ONE_KEY,
            "key value [BINDINGS] [OPTIONS]",
            "Overwrites, whatever is there; tells what it replaced.",
            "",
            own::put,
        ),
        row(
            "SYNOD.PUTIFABSENT",
            -3,
            Synod,
            WRITE,
            ONE_KEY,
            "key value [BINDINGS] [OPTIONS]",
            "Puts unless there is an entry; answers the entry that is chosen, and whether it is \
             ours.",
            "",
            own::put_if_absent,
        ),
        row(
            "SYNOD.RECONNECT",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[node]",
            "Has the node dial that peer now, or every peer, that it has no link to.",
            "",
            own::reconnect,
        ),
        row(
            "SYNOD.REMOVE",
            -2,
            Synod,
            WRITE,
            ONE_KEY,
            "key [GENERATION generation] [OPTIONS]",
            "Removes an entry, or only that life of it.",
            "",
            own::remove,
        ),
        row(
            "SYNOD.RESOLVE",
            -3,
            Synod,
            WRITE,
            NO_KEY,
            "client number [SEEN place] [FOLLOW | HERE] [TABLE table] [PATIENCE milliseconds]",
            "Of a primary table: tells what became of the write that was sent as `REQUEST \
             client number`, \
             and if nothing has, sees to it that nothing will.",
            "`RESOLVED` says that it was not done and never will be.",
            primary::resolve,
        ),
        row(
            "SYNOD.ROWS",
            -1,
            Synod,
            READ,
            NO_KEY,
            "[PREFIX prefix] [VALUE value] [AFTER key [ELEMENT element]] [LIMIT count] \
             [TABLE table]",
            "Of a merged table: lists rows with their values, in the order of keys, a page at a \
             time; `more` is where to go on, null at the end.",
            "",
            merged::scan,
        ),
        row(
            "SYNOD.SESSION",
            -2,
            Synod,
            WRITE,
            NO_KEY,
            "OPEN [GRACE milliseconds] | ATTACH session secret [GRACE milliseconds] | \
             CLOSE session [secret]",
            "Opens, keeps or ends a session that keys can be bound to.",
            "A session lives while the connection that opened or attached it does, and its grace \
             time, 10 s unless said. `OPEN` answers its name and a secret, with which it can be \
             attached to another connection to the same node, or closed from there.",
            own::session,
        ),
        row(
            "SYNOD.STATUS",
            1,
            Synod,
            READ,
            NO_KEY,
            "",
            "Tells what the node knows of itself and its cluster.",
            "`members` says where nodes listen for each other.",
            own::status,
        ),
        row("SYNOD.TABLES", 1, Synod, READ, NO_KEY, "", "Lists the tables.", "", own::tables),
        row(
            "SYNOD.UNWATCH",
            -2,
            Subscriptions,
            READ,
            ONE_KEY,
            "key [TABLE table]",
            "As `UNSUBSCRIBE key:TABLE:KEY`.",
            "",
            own::unwatch,
        ),
        row(
            "SYNOD.WATCH",
            -2,
            Subscriptions,
            READ,
            ONE_KEY,
            "key [TABLE table]",
            "As `SUBSCRIBE key:TABLE:KEY`: a message for the end of each life of the key.",
            "",
            own::watch,
        ),
        row(
            "TIME",
            1,
            Server,
            READ,
            NO_KEY,
            "",
            "Tells this node's clock: seconds since 1970, and microseconds.",
            "",
            redis::time,
        ),
        row(
            "TTL",
            2,
            Redis,
            READ,
            ONE_KEY,
            "key",
            "Tells the seconds to a key's deadline by this node's clock; -1 if it has none, -2 \
             if there is no key.",
            "A key may also be bound to a session, a node or a key: see `SYNOD.BINDING`.",
            redis::ttl,
        ),
        row(
            "TYPE",
            2,
            Redis,
            READ,
            ONE_KEY,
            "key",
            "Answers `string`, or `none` if there is no key.",
            "",
            redis::kind,
        ),
        row("UNLINK", -2, Redis, WRITE, ALL_KEYS, "key [key ...]", "As `DEL`.", "", redis::del),
        row(
            "UNSUBSCRIBE",
            -1,
            Subscriptions,
            READ,
            NO_KEY,
            "[channel ...]",
            "Asks for no more messages of these channels, or of any.",
            "",
            redis::unsubscribe,
        ),
        row(
            "WAIT",
            3,
            Redis,
            READ,
            NO_KEY,
            "replicas milliseconds",
            "Of a primary table, at its primary: waits until so many other replicas have on disk \
             what this connection wrote to it last, and tells how many do, when the time is up \
             also if they are fewer.",
            "A time of 0 is the connection's patience. At the policy `all` those in sync have it \
             already; `WAIT` tells of those who are joining too, and of everybody at `quorum` and \
             `primary`. If there has been another primary, at `primary` what it lacks counts as \
             held by nobody.",
            primary::wait,
        ),
    ]
};

/// What decides in one step instead.
const SCRIPTS: &str = "there are no scripts; SYNOD.CAS decides on one key atomically, \
     in a merged table SYNOD.BATCH on several, as far as its node has heard";

/// How to change what is there, in tables of each discipline.
const READ_AND_WRITE: &str = "read the value and its version with SYNOD.GET, write it with \
     SYNOD.CAS VERSION; in a merged table write it with SYNOD.BATCH, IF the write that was read is \
     still there; a primary table has no conditions";

/// Commands of Redis that are refused: they would mean something else here, or need what is not
/// here. What each is, and what to use instead.
pub const REFUSED: [(&str, &str); 28] = [
    ("APPEND", READ_AND_WRITE),
    ("DBSIZE", "counting keys means listing them all; page through them with SYNOD.KEYS"),
    ("DECR", READ_AND_WRITE),
    ("DECRBY", READ_AND_WRITE),
    (
        "DISCARD",
        "there are no transactions: nothing behind MULTI was done, and what comes now is again",
    ),
    ("EVAL", SCRIPTS),
    ("EVALSHA", SCRIPTS),
    (
        "EXEC",
        "there are no transactions: nothing behind MULTI was done. Send pipelines without it, in \
         redis-py pipeline(transaction=False); SYNOD.CAS is atomic on one key",
    ),
    (
        "EXPIRE",
        "a key's life is decided when it is written; write it with SET EX or SYNOD.CAS UNTIL. \
         Merged and primary tables have no deadlines",
    ),
    (
        "EXPIREAT",
        "a key's life is decided when it is written; write it with SET EXAT or SYNOD.CAS UNTIL. \
         Merged and primary tables have no deadlines",
    ),
    ("FLUSHALL", "remove keys by name; a table is not emptied in one step"),
    ("FLUSHDB", "remove keys by name; a table is not emptied in one step"),
    (
        "GETEX",
        "a key's life is decided when it is written; read it with GET, write it with SET EX. \
         Merged and primary tables have no deadlines",
    ),
    ("INCR", READ_AND_WRITE),
    ("INCRBY", READ_AND_WRITE),
    ("INCRBYFLOAT", READ_AND_WRITE),
    (
        "MSETNX",
        "several keys are not decided in one step; bind them to one key that is put if absent",
    ),
    (
        "MULTI",
        "there are no transactions. What follows is refused until EXEC, DISCARD or RESET; send \
         pipelines without it, in redis-py pipeline(transaction=False). SYNOD.CAS is atomic on one \
         key",
    ),
    ("PERSIST", "a key's life is decided when it is written; write it with SET or SYNOD.CAS"),
    (
        "PEXPIRE",
        "a key's life is decided when it is written; write it with SET PX or SYNOD.CAS UNTIL. \
         Merged and primary tables have no deadlines",
    ),
    (
        "PEXPIREAT",
        "a key's life is decided when it is written; write it with SET PXAT or SYNOD.CAS UNTIL. \
         Merged and primary tables have no deadlines",
    ),
    (
        "PSUBSCRIBE",
        "there are no patterns of channels; SUBSCRIBE to quorum, merges, roles, key:TABLE:KEY \
         or session:ID",
    ),
    ("PUBLISH", "messages tell of keys, sessions and the quorum, and nobody else can send any"),
    ("RENAME", "two keys are not decided in one step"),
    (
        "ROLE",
        "each table has its own, if it is a primary table; SYNOD.PRIMARY tells which, who counts, \
         and how far others are behind",
    ),
    ("SETRANGE", READ_AND_WRITE),
    ("UNWATCH", "there are no transactions; SYNOD.UNWATCH ends what SYNOD.WATCH began"),
    (
        "WATCH",
        "there are no transactions; compare versions with SYNOD.CAS, in a merged table with \
         SYNOD.BATCH and IF; or watch with SYNOD.WATCH",
    ),
];

/// The row of a command.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    static TABLE: [Spec; COMMANDS.len()] = COMMANDS;
    // The longest name; whatever is longer is none.
    let mut capitals = [0; 24];
    let capitals = capitals.get_mut(..name.len())?;
    capitals.copy_from_slice(name);
    capitals.make_ascii_uppercase();
    let place = TABLE.binary_search_by(|spec| spec.name.as_bytes().cmp(capitals)).ok()?;
    Some(&TABLE[place])
}

/// What is said to a name that is in no row.
#[must_use]
pub(super) fn refusal(name: &[u8]) -> Reply {
    let known = REFUSED.iter().find(|(refused, _)| arguments::is_word(name, refused));
    if let Some((name, why)) = known {
        return Reply::Error(
            "UNSUPPORTED",
            format!("{name} would not be here what it is in Redis: {why}"),
        );
    }
    let shown = String::from_utf8_lossy(&name[..name.len().min(64)]);
    Reply::error(format!(
        "unknown command '{}'; COMMAND LIST tells which there are",
        shown.escape_debug()
    ))
}

/// `COMMAND`.
pub(super) fn describe_all() -> Reply {
    Reply::Array(COMMANDS.iter().map(description).collect())
}

/// `COMMAND INFO` of one; null if there is none.
pub(super) fn describe(name: &[u8]) -> Reply {
    find(name).map_or(Reply::Null, description)
}

fn description(spec: &Spec) -> Reply {
    let number = |number: i32| Reply::Integer(i64::from(number));
    let flag = if spec.writes { "write" } else { "readonly" };
    Reply::Array(vec![
        Reply::bulk(spec.name.to_ascii_lowercase()),
        number(spec.arity),
        Reply::Array(vec![Reply::Simple(flag)]),
        number(spec.keys.0),
        number(spec.keys.1),
        number(spec.keys.2),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

/// `COMMAND LIST`.
pub(super) fn names() -> Reply {
    let names = COMMANDS.iter().map(|spec| Reply::bulk(spec.name.to_ascii_lowercase()));
    Reply::Array(names.collect())
}

/// `COMMAND DOCS`.
pub(super) fn docs(names: &[Bytes]) -> Reply {
    let wanted = |spec: &&Spec| {
        names.is_empty() || names.iter().any(|name| arguments::is_word(name, spec.name))
    };
    Reply::Map(COMMANDS.iter().filter(wanted).map(documentation).collect())
}

fn documentation(spec: &Spec) -> (Reply, Reply) {
    let summary = match spec.notes {
        "" => spec.summary.to_owned(),
        notes => format!("{} {notes}", spec.summary),
    };
    let mut fields = vec![
        (Reply::bulk("summary"), Reply::bulk(summary)),
        (Reply::bulk("since"), Reply::bulk("0.1.0")),
        (Reply::bulk("group"), Reply::bulk(spec.group.name())),
    ];
    if !spec.syntax.is_empty() {
        // The whole syntax as one argument: clients show it as it stands.
        let argument = Reply::map([
            ("name", Reply::bulk(spec.syntax)),
            ("type", Reply::bulk("string")),
            ("display_text", Reply::bulk(spec.syntax)),
        ]);
        fields.push((Reply::bulk("arguments"), Reply::Array(vec![argument])));
    }
    (Reply::bulk(spec.name.to_ascii_lowercase()), Reply::Map(fields))
}

impl Group {
    const ALL: [Self; 5] =
        [Self::Redis, Self::Synod, Self::Subscriptions, Self::Connection, Self::Server];

    /// As clients are told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Redis => "string",
            Self::Server => "server",
            Self::Subscriptions => "pubsub",
            Self::Synod => "synod",
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Connection => "Connections",
            Self::Redis => "Commands of Redis",
            Self::Server => "Nodes",
            Self::Subscriptions => "Messages",
            Self::Synod => "Commands of synod",
        }
    }
}

/// `docs/COMMANDS.md`: the table, for people.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(include_str!("commands.md"));
    for group in Group::ALL {
        let _ = write!(text, "\n## {}\n", group.heading());
        for spec in COMMANDS.iter().filter(|spec| spec.group == group) {
            let space = if spec.syntax.is_empty() { "" } else { " " };
            let _ = write!(text, "\n**`{}{space}{}`**  \n{}", spec.name, spec.syntax, spec.summary);
            if !spec.notes.is_empty() {
                let _ = write!(text, " {}", spec.notes);
            }
            text.push('\n');
        }
    }
    text.push_str("\n## Errors\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in CODES {
        let _ = writeln!(text, "| `{code}` | {meaning} |");
    }
    text.push_str(
        "\n## Commands of Redis that are refused\n\nEach answers `UNSUPPORTED` and why.\n\n\
         | command | why, and what to use |\n|---|---|\n",
    );
    for (name, why) in REFUSED {
        let _ = writeln!(text, "| `{name}` | {why} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_row_is_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        assert!(REFUSED.is_sorted_by(|a, b| a.0 < b.0));
        for spec in &COMMANDS {
            assert_eq!(find(spec.name.to_ascii_lowercase().as_bytes()).unwrap().name, spec.name);
            assert!(spec.summary.ends_with('.'), "{}", spec.name);
        }
        for (name, _) in REFUSED {
            assert!(find(name.as_bytes()).is_none(), "{name} is both taken and refused");
        }
        assert!(find(&[b'A'; 100]).is_none());
        assert!(find(b"").is_none());
    }
}
