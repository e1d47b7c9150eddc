//! The list of primary tables that clients make and drop: what it has said, as it was chosen, and
//! whether clients are told what it says.
//!
//! Lists are known in the order in which they were chosen, and never forgotten. A client may be
//! told what any of them says that held when it asked, or later.
//!
//! Must never know: how the list is agreed upon, what tables hold.

use std::collections::BTreeMap;

use synod::merged::{TableCommand as MergedTable, Unmade};
use synod::primary::TableCommand;
use synod::{Command, OpId, Outcome, Refusal};

type Wrong = (&'static str, &'static str, String);

/// One list: of each table which revision made it, and its words.
#[derive(Clone, Debug, Default)]
struct List {
    revision: u64,
    tables: BTreeMap<String, (u64, String)>,
}

/// What a client asked for.
#[derive(Clone, Debug)]
struct Asked {
    name: String,
    /// What it is to be; nothing if it is to be dropped.
    words: Option<String>,
    /// How many lists there were.
    since: usize,
    /// Whether it was asked again: then a refusal speaks of that attempt alone.
    again: bool,
    /// Whether it can have no effect any more.
    over: bool,
}

/// All lists, from that on which nothing is.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    known: Vec<List>,
    asked: BTreeMap<OpId, Asked>,
}

impl Default for Lists {
    fn default() -> Self {
        Self { known: vec![List::default()], asked: BTreeMap::new() }
    }
}

impl List {
    /// What its text says: the text of the engine, read by other code.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let revision = lines.next()?.strip_prefix('r')?.parse().ok()?;
        let table = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let (number, name) = (words.next()?.parse().ok()?, words.next()?);
            Some((name.to_owned(), (number, words.next()?.to_owned())))
        };
        Some(Self { revision, tables: lines.map(table).collect::<Option<_>>()? })
    }

    fn has(&self, name: &str, number: u64) -> bool {
        self.tables.get(name).is_some_and(|(made, _)| *made == number)
    }
}

fn words_of(schema: &synod::primary::Schema) -> String {
    let words = schema.words();
    format!("primary{}{words}", if words.is_empty() { "" } else { "+" })
}

/// What a command wants of the list.
fn wanted(command: &Command) -> Option<(&str, Option<String>)> {
    if let Command::PrimaryTable(TableCommand::Create { name, schema }) = command {
        return Some((name, Some(words_of(schema))));
    }
    if let Command::Table(MergedTable::Drop { name }) = command {
        return Some((name, None));
    }
    None
}

impl Lists {
    /// Whether this very table is there.
    pub(super) fn has(&self, name: &str, number: u64) -> bool {
        self.known.last().is_some_and(|list| list.has(name, number))
    }

    /// Whether it ever was, and as what.
    pub(super) fn had(&self, name: &str, number: u64) -> Option<&str> {
        let list = self.known.iter().rev().find(|list| list.has(name, number))?;
        list.tables.get(name).map(|(_, words)| &**words)
    }

    /// A list is chosen: whatever it changes, a client has asked for.
    pub(super) fn on_chosen(&mut self, text: &str) -> Result<(), Wrong> {
        let Some(list) = List::parse(text) else {
            return Err(("W3", "a list of no tables", format!("{text:?} is chosen")));
        };
        let at = self.known.partition_point(|known| known.revision < list.revision);
        if self.known.get(at).is_some_and(|known| known.revision == list.revision) {
            let text = format!("two lists are of revision {}", list.revision);
            return Err(("W2", "two lists of a revision", text));
        }
        // Whatever is between two lists was both, one after the other.
        let before = &self.known[at - 1];
        for (name, (number, words)) in &list.tables {
            if !before.has(name, *number) {
                self.check_asked(name, Some(words))?;
            }
        }
        for (name, (number, _)) in &before.tables {
            if !list.has(name, *number) {
                self.check_asked(name, None)?;
            }
        }
        self.known.insert(at, list);
        Ok(())
    }

    fn check_asked(&self, name: &str, words: Option<&String>) -> Result<(), Wrong> {
        let is_it = |asked: &&Asked| asked.name == *name && asked.words.as_ref() == words;
        if self.asked.values().filter(is_it).any(|asked| !asked.over) {
            return Ok(());
        }
        let what = words.map_or_else(|| "dropped".to_owned(), |words| format!("made as {words}"));
        let text = format!("{name} is {what}, and nobody has asked for that who was not refused");
        Err(("I5", "a table changed unasked", text))
    }

    /// A client asks again.
    pub(super) fn on_asked_again(&mut self, op: OpId) {
        if let Some(asked) = self.asked.get_mut(&op) {
            asked.again = true;
        }
    }

    /// A client asks for the first time.
    pub(super) fn on_asked(&mut self, op: OpId, command: &Command) {
        let Some((name, words)) = wanted(command) else { return };
        let (name, since) = (name.to_owned(), self.known.len() - 1);
        self.asked.entry(op).or_insert(Asked { name, words, since, again: false, over: false });
    }

    /// A client is answered.
    pub(super) fn on_answer(&mut self, op: OpId, outcome: &Outcome) -> Result<(), Wrong> {
        let Some(asked) = self.asked.get_mut(&op) else { return Ok(()) };
        let is_refused = matches!(outcome, Outcome::Refused(_));
        asked.over = *outcome == Outcome::Done || is_refused && !asked.again;
        let Asked { name, words, since, .. } = asked;
        let since = &self.known[*since..];
        let was = |fits: &dyn Fn(Option<&String>) -> bool| {
            since.iter().any(|list| fits(list.tables.get(name).map(|(_, words)| words)))
        };
        let is_so = match (outcome, &words) {
            (Outcome::Done, Some(_)) => was(&|listed| listed == words.as_ref()),
            (Outcome::Done, None) => since.iter().enumerate().any(|(place, list)| {
                let made = list.tables.get(name).map(|(number, _)| *number);
                made.is_some_and(|made| since[place..].iter().any(|it| !it.has(name, made)))
            }),
            (Outcome::Refused(Refusal::Unmade(Unmade::Exists(what))), Some(_)) => {
                was(&|listed| listed == Some(what) && listed != words.as_ref())
            }
            (Outcome::Refused(Refusal::Unmade(Unmade::NoSuchTable)), None) => {
                was(&|listed| listed.is_none())
            }
            (Outcome::Refused(Refusal::Unmade(_)), _) => false,
            (_, Some(_) | None) => true,
        };
        if is_so {
            return Ok(());
        }
        let what =
            words.as_ref().map_or_else(|| "drop".to_owned(), |words| format!("make as {words}"));
        let text = format!("{op} is to {what} {name}, and is told {outcome}; no list says so");
        Err(("W3", "told of a list that is not chosen", text))
    }
}

#[cfg(test)]
mod tests {
    use synod::primary::Schema;
    use synod::{ClientId, RequestId};

    use super::*;

    fn op(number: u64) -> OpId {
        OpId { client: ClientId::new(1), request: RequestId(number) }
    }

    fn create(words: &str) -> Command {
        let schema = Schema::default().with_words(words).expect("words");
        Command::PrimaryTable(TableCommand::Create { name: "a".to_owned(), schema })
    }

    fn drop() -> Command {
        Command::Table(MergedTable::Drop { name: "a".to_owned() })
    }

    fn unmade(unmade: Unmade) -> Outcome {
        Outcome::Refused(Refusal::Unmade(unmade))
    }

    fn shape(judged: &Result<(), Wrong>) -> &'static str {
        judged.as_ref().err().map_or("", |(_, shape, _)| shape)
    }

    const UNTRUE: &str = "told of a list that is not chosen";

    #[test]
    fn clients_are_told_what_a_list_says_that_held_since_they_asked() {
        let mut lists = Lists::default();
        lists.on_asked(op(1), &create("quorum"));
        assert_eq!(shape(&lists.clone().on_answer(op(1), &Outcome::Done)), UNTRUE);
        lists.on_chosen("r1\n1 a primary+quorum").expect("it is asked for");
        assert_eq!(shape(&lists.on_answer(op(1), &Outcome::Done)), "");
        lists.on_asked(op(2), &create(""));
        assert_eq!(shape(&lists.clone().on_answer(op(2), &Outcome::Done)), UNTRUE);
        let exists = |words: &str| unmade(Unmade::Exists(words.to_owned()));
        assert_eq!(shape(&lists.clone().on_answer(op(2), &exists("primary"))), UNTRUE);
        assert_eq!(shape(&lists.on_answer(op(2), &exists("primary+quorum"))), "");
        lists.on_asked(op(3), &drop());
        assert_eq!(shape(&lists.clone().on_answer(op(3), &Outcome::Done)), UNTRUE);
        assert_eq!(shape(&lists.clone().on_answer(op(3), &unmade(Unmade::NoSuchTable))), UNTRUE);
        lists.on_chosen("r2").expect("it is asked for");
        assert_eq!(shape(&lists.on_answer(op(3), &Outcome::Done)), "");
        assert_eq!((lists.has("a", 1), lists.had("a", 1)), (false, Some("primary+quorum")));
        lists.on_asked(op(4), &drop());
        assert_eq!(shape(&lists.on_answer(op(4), &unmade(Unmade::NoSuchTable))), "");
    }

    #[test]
    fn nothing_is_made_or_dropped_unasked() {
        let mut lists = Lists::default();
        let unasked = "a table changed unasked";
        assert_eq!(shape(&lists.clone().on_chosen("r1\n1 a primary")), unasked);
        lists.on_asked(op(1), &create(""));
        assert_eq!(shape(&lists.clone().on_chosen("r1\n1 a primary+quorum")), unasked);
        lists.on_chosen("r1\n1 a primary").expect("it is asked for");
        lists.on_asked(op(2), &drop());
        lists.on_answer(op(2), &Outcome::Refused(Refusal::NoQuorum)).expect("it may be");
        assert_eq!(shape(&lists.clone().on_chosen("r2")), unasked);
        lists.on_asked(op(3), &drop());
        lists.on_answer(op(3), &Outcome::Unknown).expect("it may be");
        assert_eq!(shape(&lists.on_chosen("r2")), "");
    }
}
