//! The list of primary tables that were made while nodes run, as one consensus register holds it.
//!
//! Two primaries of one name would acknowledge writes of which one is lost, so what is made and
//! dropped is agreed upon. Each change has a number, the *revision*, and a table goes by the one
//! that made it: one that was dropped, and made again, is another, which has nothing of the old. So
//! nothing has to be remembered of what was dropped.
//!
//! Must never know: the register, who asks, which tables are declared.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use super::roster::Illegible;
use super::schema::Schema;
use crate::base::{TableName, Value};

/// The key of its register, among those of the arbiters. No table is named like it.
pub(crate) const LIST: &str = "$tables";

/// How many tables there may be at a time: each is named with each change of the list.
pub(crate) const TABLES_MAX: usize = 1_024;

/// How many bytes it may have, whatever values of tables may: words are long where nodes are many.
pub(crate) const LIST_BYTES_MAX: usize = 1 << 20;

/// What can be asked about the primary tables that are made while nodes run. They are dropped like
/// others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TableCommand {
    /// Make a table. Nothing to do if there is one that is just this.
    Create {
        /// Its name: 1 to 64 letters, digits, dots, dashes and underscores.
        name: String,
        /// What it is.
        schema: Schema,
    },
    /// Have this node know of every one that was made by now.
    Learn,
}

/// What is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalogue {
    /// How often it was changed.
    pub(crate) revision: u64,
    pub(crate) tables: BTreeMap<String, Made>,
}

/// A table that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// The revision that made it.
    pub(crate) number: u64,
    pub(crate) schema: Schema,
}

impl Made {
    /// The key of its arbiter: no other table, before or after it, has the same.
    pub(crate) fn arbiter(&self, name: &str) -> String {
        arbiter_of(self.number, name)
    }

    /// By which name its replicas know each other.
    pub(crate) fn hash(&self, name: &str) -> TableName {
        Self::name_of(self.number, name)
    }

    /// The same of one that was made by this revision.
    pub(crate) fn name_of(number: u64, name: &str) -> TableName {
        TableName::of(&arbiter_of(number, name))
    }
}

fn arbiter_of(number: u64, name: &str) -> String {
    format!("${number}/{name}")
}

/// What it is, in words.
impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.schema.words();
        write!(f, "primary{}{words}", if words.is_empty() { "" } else { "+" })
    }
}

impl TableCommand {
    /// Whether it may change the list.
    #[must_use]
    pub const fn changes(&self) -> bool {
        matches!(self, Self::Create { .. })
    }
}

impl Catalogue {
    /// With one more, unless there are too many.
    pub(crate) fn create(&mut self, name: &str, schema: Schema) -> bool {
        if self.is_full() {
            return false;
        }
        self.revision += 1;
        self.tables.insert(name.to_string(), Made { number: self.revision, schema });
        true
    }

    /// Whether there may be no more.
    pub(crate) fn is_full(&self) -> bool {
        self.tables.len() >= TABLES_MAX
    }

    /// Without one.
    pub(crate) fn drop(&mut self, name: &str) {
        self.revision += 1;
        self.tables.remove(name);
    }

    /// Whether this very table is listed.
    pub(crate) fn has(&self, name: &str, number: u64) -> bool {
        self.tables.get(name).is_some_and(|made| made.number == number)
    }

    /// As the register holds it: text, so that people can read it.
    pub(crate) fn to_value(&self) -> Value {
        Value::from(self.to_string().as_str())
    }

    /// What the register holds, read as if a stranger had written it.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        core::str::from_utf8(value.as_bytes()).ok()?.parse().ok()
    }
}

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.revision)?;
        let mut tables = self.tables.iter();
        tables.try_for_each(|(name, made)| write!(f, "\n{} {name} {made}", made.number))
    }
}

/// What [`fmt::Display`] says.
impl FromStr for Catalogue {
    type Err = Illegible;

    fn from_str(text: &str) -> Result<Self, Illegible> {
        let mut lines = text.split('\n');
        let revision = lines.next().and_then(|first| first.strip_prefix('r')).ok_or(Illegible)?;
        let revision = revision.parse().map_err(|_| Illegible)?;
        let mut tables = BTreeMap::new();
        for line in lines {
            let (number, rest) = line.split_once(' ').ok_or(Illegible)?;
            let (name, words) = rest.split_once(" primary").ok_or(Illegible)?;
            let number = number.parse().map_err(|_| Illegible)?;
            let schema = Schema::default().with_words(words).map_err(|_| Illegible)?;
            let is_new = tables.insert(name.to_string(), Made { number, schema }).is_none();
            if !is_new || number > revision || name.is_empty() {
                return Err(Illegible);
            }
        }
        Ok(Self { revision, tables })
    }
}

impl fmt::Display for TableCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, schema } => {
                let made = Made { number: 0, schema: schema.clone() };
                write!(f, "create {name} {made}")
            }
            Self::Learn => write!(f, "learn of tables"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_its_text_says() {
        let mut list = Catalogue::default();
        assert!(list.create("b", Schema::default()));
        assert!(list.create("a", Schema::default().with_words("quorum+on@1.2").expect("words")));
        let text = "r2\n2 a primary+quorum+on@1.2\n1 b primary";
        assert_eq!(list.to_value(), Value::from(text));
        assert_eq!(Catalogue::from_value(&Value::from(text)), Some(list.clone()));
        let first = list.tables["b"].hash("b");
        list.drop("b");
        assert!(list.create("b", Schema::default()));
        assert_eq!((list.revision, list.has("b", 1), list.has("b", 4)), (4, false, true));
        assert_ne!(list.tables["b"].hash("b"), first, "it is another");
        for wrong in ["", "r", "2", "r1\n", "r1\n1 a", "r1\n2 a primary", "r1\n1 a primary+most"] {
            assert_eq!(Catalogue::from_value(&Value::from(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_made() {
        let mut list = Catalogue::default();
        for number in 0..TABLES_MAX {
            assert!(list.create(&format!("t{number}"), Schema::default()));
        }
        assert!(!list.create("more", Schema::default()));
        list.drop("t3");
        assert!(list.create("more", Schema::default()));
    }
}
