//! Opens a file of histories, whatever its format.
//!
//! The format is recognised by the first bytes, never by the name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::{BadInput, History, Model, edn, jepsen, jsonl};

/// The histories of one file, one after the other.
pub struct Histories<R = BufReader<Box<dyn Read>>> {
    source: Source<R>,
}

enum Source<R> {
    Lines(Box<jsonl::Reader<R>>),
    Single(Option<Box<History>>),
}

impl Histories {
    /// Opens `path`, or standard input if that is `-`; `model` overrides what the file says.
    ///
    /// # Errors
    /// When the file cannot be opened, or is of no known format.
    pub fn open(path: &str, model: Option<Model>) -> Result<Self, BadInput> {
        let bad = |what: String| BadInput { file: path.to_owned(), line: 0, what };
        let file: Box<dyn Read> = match path {
            "-" => Box::new(io::stdin()),
            path if Path::new(path).is_dir() => {
                return Err(bad("is a folder; give the files in it".to_owned()));
            }
            path => Box::new(File::open(path).map_err(|error| {
                bad(format!(
                    "cannot be opened: {error}; give a history file, or - for standard input"
                ))
            })?),
        };
        Self::read(BufReader::with_capacity(1 << 18, file), path, model)
    }
}

impl<R: BufRead> Histories<R> {
    /// Reads from `input`, which errors call `path`.
    ///
    /// # Errors
    /// When it is of no known format.
    pub fn read(mut input: R, path: &str, model: Option<Model>) -> Result<Self, BadInput> {
        let bad = |what: String| BadInput { file: path.to_owned(), line: 0, what };
        let head = input.fill_buf().map_err(|error| bad(format!("cannot be read: {error}")))?;
        let start = head.iter().position(|byte| !byte.is_ascii_whitespace());
        let head = start.map_or(&head[..0], |start| &head[start..]);
        let source = if head.is_empty() {
            return Err(bad("is empty; give a file with at least one history".to_owned()));
        } else if head.starts_with(b"{:") {
            Source::Single(Some(Box::new(edn::read(input, path, model)?)))
        } else if head[0] == b'{' {
            Source::Lines(Box::new(jsonl::Reader::new(input, path, model)))
        } else if head.starts_with(b"INFO") {
            Source::Single(Some(Box::new(jepsen::read(input, path, model)?)))
        } else {
            let what = "is of no known format; give JSON lines, a Jepsen register log, or EDN maps";
            return Err(BadInput { file: path.to_owned(), line: 1, what: what.to_owned() });
        };
        Ok(Self { source })
    }

    /// The next history, `None` after the last.
    ///
    /// # Errors
    /// The place of the first line that could not be understood.
    pub fn next_history(&mut self) -> Result<Option<History>, BadInput> {
        match &mut self.source {
            Source::Lines(reader) => reader.next_history(),
            Source::Single(history) => Ok(history.take().map(|history| *history)),
        }
    }
}
