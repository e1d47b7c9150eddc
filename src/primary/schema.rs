//! What a primary table is told when it is made.
//!
//! Must never know: who is primary.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::roster::Acknowledge;
use crate::base::{Replicas, each_word};

/// A primary table's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Whose disks must hold a write before it is acknowledged. Default [`Acknowledge::All`]. What
    /// counts is what the primary is configured with and has had decided.
    pub acknowledge: Acknowledge,
    /// Who is a replica by itself; others are when an operator says so. Default [`Replicas::All`].
    pub replicas: Replicas,
    /// How long a client waits for its answer at most. Default one second.
    pub answer_within: Duration,
    /// How long a replica may owe an acknowledgement or be silent before it is counted out, unless
    /// its session is closed before that. Default three seconds, which is longer than sessions
    /// last without a word: who dies goes with its session, and this is for who lives and is slow.
    pub patience: Duration,
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            acknowledge: Acknowledge::All,
            replicas: Replicas::All,
            answer_within: Duration::from_secs(1),
            patience: Duration::from_secs(3),
        }
    }
}

/// Every word of a primary table, for error messages.
const WORDS: &str = "all, quorum, primary, on@1.2.3, answer@MILLISECONDS, patience@MILLISECONDS";

impl Schema {
    /// What words say, joined by `+`, over what a schema says already: each word changes one thing.
    ///
    /// # Errors
    /// What is wrong, and which words there are.
    pub fn with_words(mut self, words: &str) -> Result<Self, String> {
        let wrong = each_word(words, |word| apply(&mut self, word));
        wrong.map_or(Ok(self), |word| {
            Err(format!("'{word}' says nothing of a primary table; there are: {WORDS}"))
        })
    }

    /// Words that say the same over the default; nothing for what is as by default.
    #[must_use]
    pub fn words(&self) -> String {
        let default = Self::default();
        let mut words = Vec::new();
        if self.acknowledge != default.acknowledge {
            words.push(self.acknowledge.to_string());
        }
        words.extend(self.replicas.words().map(|nodes| format!("on@{nodes}")));
        if self.answer_within != default.answer_within {
            words.push(format!("answer@{}", self.answer_within.as_millis()));
        }
        if self.patience != default.patience {
            words.push(format!("patience@{}", self.patience.as_millis()));
        }
        words.join("+")
    }
}

fn apply(schema: &mut Schema, word: &str) -> Option<()> {
    let milliseconds = |text: &str| Some(Duration::from_millis(text.parse().ok()?));
    match word.split_once('@') {
        None => schema.acknowledge = word.parse().ok()?,
        Some(("on", nodes)) => {
            // In one order, whoever names them.
            let replicas = Replicas::parse(nodes)?;
            schema.replicas = replicas.with(&replicas);
        }
        Some(("answer", time)) => schema.answer_within = milliseconds(time)?,
        Some(("patience", time)) => schema.patience = milliseconds(time)?,
        Some(_) => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;

    #[test]
    fn words_say_what_a_table_is() {
        let said = |words: &str| Schema::default().with_words(words).expect(words);
        assert_eq!(said("all"), Schema::default());
        let all = "quorum+on@1.3+answer@500+patience@2000";
        let expected = Schema {
            acknowledge: Acknowledge::Quorum,
            replicas: Replicas::Only([NodeId(1), NodeId(3)].to_vec()),
            answer_within: Duration::from_millis(500),
            patience: Duration::from_secs(2),
        };
        assert_eq!((said(all), expected.words().as_str()), (expected, all));
        assert_eq!(said("on@3.1.3"), said("on@1.3"));
        for word in ["some", "on@x", "answer", "answer@-1", "all@1"] {
            let error = Schema::default().with_words(word).expect_err(word);
            assert!(error.contains(&format!("'{word}'")), "{error}");
        }
    }
}
