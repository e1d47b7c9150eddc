//! Schemas in words: `bag+memory`.
//!
//! Must never know: who writes them, where they stand.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::field::Field;
use super::schema::{Contest, Durability, Kind, Schema, Strategy};
use crate::base::{Replicas, each_word};

/// Every word of a merged table, for error messages.
const WORDS: &str = "set, ordered-set, bag, bag@FIELD, siblings, manual, last-modified, \
                     last-version@FIELD (a FIELD is OFFSET:LENGTH or a JSON pointer such as \
                     /version), largest-island, oldest-island, custom, ignore, later-wins, \
                     update-wins, delete-wins, disk, memory, on@1.2.3, retention@MILLISECONDS";

impl Schema {
    /// What words say, joined by `+`, over what a schema says already: each word changes one thing.
    ///
    /// # Errors
    /// What is wrong, and which words there are.
    pub fn with_words(mut self, words: &str) -> Result<Self, String> {
        let wrong = each_word(words, |word| apply(&mut self, word));
        wrong.map_or(Ok(self), |word| {
            Err(format!("'{word}' says nothing of a merged table; there are: {WORDS}"))
        })
    }

    /// Words that say the same over the default; nothing for what is as by default.
    #[must_use]
    pub fn words(&self) -> String {
        let default = Self::default();
        let mut words = Vec::new();
        let at = |field: &Field| match field {
            Field::Bytes { offset, len } => format!("{offset}:{len}"),
            Field::Function(_) | Field::Json(_) => field.to_string(),
        };
        match &self.kind {
            Kind::Bag { secondary: None } => words.push("bag".to_string()),
            Kind::Bag { secondary: Some(field) } => words.push(format!("bag@{}", at(field))),
            Kind::OrderedSet => words.push("ordered-set".to_string()),
            Kind::Set => {}
        }
        match &self.strategy {
            Strategy::Custom => words.push("custom".to_string()),
            Strategy::Ignore => words.push("ignore".to_string()),
            Strategy::LargestIsland => words.push("largest-island".to_string()),
            Strategy::LastModified => words.push("last-modified".to_string()),
            Strategy::LastVersion(field) => words.push(format!("last-version@{}", at(field))),
            Strategy::Manual => words.push("manual".to_string()),
            Strategy::OldestIsland => words.push("oldest-island".to_string()),
            Strategy::Siblings => {}
        }
        match self.contest {
            Contest::DeleteWins => words.push("delete-wins".to_string()),
            Contest::LaterWins => {}
            Contest::UpdateWins => words.push("update-wins".to_string()),
        }
        if self.durability == Durability::Memory {
            words.push("memory".to_string());
        }
        words.extend(self.replicas.words().map(|nodes| format!("on@{nodes}")));
        if self.retention != default.retention {
            words.push(format!("retention@{}", self.retention.as_millis()));
        }
        words.join("+")
    }
}

fn apply(schema: &mut Schema, word: &str) -> Option<()> {
    let (name, of) = word.split_once('@').map_or((word, None), |(name, of)| (name, Some(of)));
    match (name, of) {
        ("set", None) => schema.kind = Kind::Set,
        ("ordered-set", None) => schema.kind = Kind::OrderedSet,
        ("bag", None) => schema.kind = Kind::Bag { secondary: None },
        ("bag", Some(field)) => schema.kind = Kind::Bag { secondary: Some(parse_field(field)?) },
        ("siblings", None) => schema.strategy = Strategy::Siblings,
        ("manual", None) => schema.strategy = Strategy::Manual,
        ("largest-island", None) => schema.strategy = Strategy::LargestIsland,
        ("oldest-island", None) => schema.strategy = Strategy::OldestIsland,
        ("last-modified", None) => schema.strategy = Strategy::LastModified,
        ("last-version", Some(of)) => schema.strategy = Strategy::LastVersion(parse_field(of)?),
        ("custom", None) => schema.strategy = Strategy::Custom,
        ("ignore", None) => schema.strategy = Strategy::Ignore,
        ("later-wins", None) => schema.contest = Contest::LaterWins,
        ("update-wins", None) => schema.contest = Contest::UpdateWins,
        ("delete-wins", None) => schema.contest = Contest::DeleteWins,
        ("disk", None) => schema.durability = Durability::Disk,
        ("memory", None) => schema.durability = Durability::Memory,
        ("on", Some(nodes)) => {
            schema.replicas = Replicas::parse(nodes)?;
        }
        ("retention", Some(milliseconds)) => {
            schema.retention = Duration::from_millis(milliseconds.parse().ok()?);
        }
        _ => return None,
    }
    Some(())
}

fn parse_field(text: &str) -> Option<Field> {
    if text.starts_with('/') {
        return Some(Field::Json(text.to_string()));
    }
    let (offset, len) = text.split_once(':')?;
    Some(Field::bytes(offset.parse().ok()?, len.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;

    /// M-01, M-28: a table says what differs from the defaults, which say what differs from ours;
    /// and what is said of a schema makes it again.
    #[test]
    fn words_say_what_a_table_is() {
        let said = |words: &str| Schema::default().with_words(words).expect(words);
        assert_eq!(said(""), Schema::default());
        let loose = Schema {
            strategy: Strategy::LastModified,
            durability: Durability::Memory,
            ..Schema::default()
        };
        assert_eq!(said("last-modified+memory"), loose);
        let strict = Schema { durability: Durability::Disk, ..loose.clone() };
        assert_eq!(loose.with_words("disk"), Ok(strict));
        let all = "bag@4:2+last-version@0:4+update-wins+memory+on@1.3+retention@60000";
        let expected = Schema {
            kind: Kind::Bag { secondary: Some(Field::bytes(4, 2)) },
            strategy: Strategy::LastVersion(Field::bytes(0, 4)),
            contest: Contest::UpdateWins,
            replicas: Replicas::Only([NodeId(1), NodeId(3)].to_vec()),
            durability: Durability::Memory,
            retention: Duration::from_secs(60),
        };
        assert_eq!((said(all), expected.words().as_str()), (expected, all));
        let others = [
            "set",
            "ordered-set",
            "bag",
            "custom",
            "ignore",
            "delete-wins",
            "memory",
            "manual",
            "largest-island",
            "oldest-island",
            "bag@/a/0+last-version@/b~1c",
        ];
        for words in others {
            assert_eq!(said(&said(words).words()), said(words), "{words}");
        }
    }

    #[test]
    fn words_that_say_nothing_are_refused() {
        for word in
            ["sets", "bag@1", "bag@1:x", "on@x", "retention", "retention@-1", "set@1:1", "bag@a"]
        {
            let error = Schema::default().with_words(word).expect_err(word);
            assert!(error.contains(&format!("'{word}'")), "{error}");
        }
    }
}
