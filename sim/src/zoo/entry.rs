//! The text format of the zoo.
//!
//! ```text
//! # A comment.
//! [accept-below-promise]
//! row: Z3
//! about: The acceptor accepts a ballot below what it has promised.
//! needs: reordering
//! expect: W2, linearizability
//! file: src/paxos/acceptor.rs
//! -        if ballot < promised {
//! +        if ballot < self.accepted_ballot(floor) {
//! ```
//!
//! An edit is the group of `-`, `+` and blank-led lines behind a `file:`; several groups make
//! several edits. `row`, `rig`, `scenario`, `plan` and `harmless` may be left out; the rest
//! may not.

use std::fmt;

use super::edit::{Edit, Line};
use crate::rig::Rig;

/// One way to break, or harmlessly change, the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: lower case words with dashes.
    pub name: String,
    /// Where it begins in the file.
    pub line: usize,
    /// Its row in the list of known bugs, if it came from there.
    pub row: Option<String>,
    /// One sentence: what is wrong, and what that breaks.
    pub about: String,
    /// Which faults it takes to see it.
    pub needs: String,
    /// Which check is expected to catch it; for harmless ones, why nothing may.
    pub expect: String,
    /// Which rig to hunt with: what breaks hosts is for the stack's.
    pub rig: Rig,
    /// Which scenario or family to hunt in; all of them if not given.
    pub scenario: Option<String>,
    /// A stored plan that is replayed before any seed: for what chance meets too seldom.
    pub plan: Option<String>,
    /// Whether the simulator must *not* find anything.
    pub harmless: bool,
    /// What to change.
    pub edits: Vec<Edit>,
}

impl Entry {
    /// The engine as it is, and the host if the rig has hosts.
    #[must_use]
    pub fn unbroken(rig: Rig) -> Self {
        Self {
            name: match rig {
                Rig::World => String::from("unbroken"),
                Rig::Stack => format!("unbroken-{rig}"),
            },
            rig,
            line: 0,
            row: None,
            about: String::from("The engine as it is."),
            needs: String::from("nothing"),
            expect: String::from("nothing"),
            scenario: None,
            plan: None,
            harmless: true,
            edits: Vec::new(),
        }
    }
}

/// Where and how a zoo file is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

/// The entries of a zoo file.
///
/// # Errors
/// The first thing that is wrong, and its line.
pub fn parse(text: &str) -> Result<Vec<Entry>, ParseError> {
    let mut parser = Parser::default();
    for (place, line) in text.lines().enumerate() {
        parser.line = place + 1;
        parser.on_line(line)?;
    }
    parser.finish()?;
    Ok(parser.entries)
}

#[derive(Default)]
struct Parser {
    entries: Vec<Entry>,
    line: usize,
    file: Option<String>,
    edit: Option<Edit>,
}

impl Parser {
    fn error<T>(&self, what: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, what: what.into() })
    }

    fn on_line(&mut self, line: &str) -> Result<(), ParseError> {
        let code = match line.split_at_checked(1) {
            Some(("+", rest)) => Some(Line::Add(rest.into())),
            Some((" ", rest)) => Some(Line::Keep(rest.into())),
            Some(("-", rest)) => Some(Line::Remove(rest.into())),
            _ => None,
        };
        if let Some(code) = code {
            return self.on_code(code);
        }
        self.end_edit()?;
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            return self.on_name(name);
        }
        match line.split_once(':') {
            Some((key, value)) => self.on_field(key, value.trim()),
            None => self.error("expected `[name]`, `field: text`, or a line led by `-`, `+`, ` `"),
        }
    }

    fn on_name(&mut self, name: &str) -> Result<(), ParseError> {
        self.end_entry()?;
        let letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        if name.is_empty() || !name.chars().all(|each| letter(each) || each == '-') {
            return self.error("a name is lower case words with dashes");
        }
        self.entries.push(Entry {
            name: name.into(),
            line: self.line,
            row: None,
            about: String::new(),
            needs: String::new(),
            expect: String::new(),
            rig: Rig::World,
            scenario: None,
            plan: None,
            harmless: false,
            edits: Vec::new(),
        });
        Ok(())
    }

    fn on_field(&mut self, key: &str, value: &str) -> Result<(), ParseError> {
        if value.is_empty() {
            return self.error(format!("`{key}:` is empty"));
        }
        let Some(entry) = self.entries.last_mut() else {
            return self.error("a field before the first `[name]`");
        };
        match key {
            "about" => entry.about = value.into(),
            "expect" => entry.expect = value.into(),
            "file" => self.file = Some(value.into()),
            "harmless" => match value {
                "no" => entry.harmless = false,
                "yes" => entry.harmless = true,
                _ => return self.error("`harmless:` is yes or no"),
            },
            "needs" => entry.needs = value.into(),
            "plan" => entry.plan = Some(value.into()),
            "rig" => match value {
                "stack" => entry.rig = Rig::Stack,
                "world" => entry.rig = Rig::World,
                _ => return self.error("`rig:` is stack or world"),
            },
            "row" => entry.row = Some(value.into()),
            "scenario" => entry.scenario = Some(value.into()),
            _ => {
                return self.error(format!(
                    "there is no field `{key}`; there are about, expect, file, harmless, needs, \
                     plan, rig, row, scenario"
                ));
            }
        }
        Ok(())
    }

    fn on_code(&mut self, code: Line) -> Result<(), ParseError> {
        let Some(file) = &self.file else {
            return self.error("code before a `file:` that says where it belongs");
        };
        let (file, line) = (file.clone(), self.line);
        let edit = self.edit.get_or_insert_with(|| Edit { file, line, lines: Vec::new() });
        edit.lines.push(code);
        Ok(())
    }

    fn end_edit(&mut self) -> Result<(), ParseError> {
        let Some(edit) = self.edit.take() else {
            return Ok(());
        };
        if edit.lines.iter().all(|line| matches!(line, Line::Add(_))) {
            return self.error("an edit needs a line to find, led by `-` or a blank");
        }
        if edit.lines.iter().all(|line| matches!(line, Line::Keep(_))) {
            return self.error("an edit that changes nothing; lead lines with `-` and `+`");
        }
        if let Some(entry) = self.entries.last_mut() {
            entry.edits.push(edit);
        }
        Ok(())
    }

    fn end_entry(&mut self) -> Result<(), ParseError> {
        self.end_edit()?;
        self.file = None;
        let Some(entry) = self.entries.last() else {
            return Ok(());
        };
        let fields = [
            ("about", entry.about.is_empty()),
            ("needs", entry.needs.is_empty()),
            ("expect", entry.expect.is_empty()),
            ("file", entry.edits.is_empty()),
        ];
        match fields.iter().find(|(_, missing)| *missing) {
            Some((field, _)) => Err(ParseError {
                line: entry.line,
                what: format!("[{}] has no `{field}:` (a file needs an edit)", entry.name),
            }),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), ParseError> {
        self.end_entry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# comment\n[first-one]\nrow: Z3\nabout: It forgets.\nneeds: loss\n\
                        expect: W2\nfile: src/a.rs\n-x\n+y\n\n-p\n q\nfile: src/b.rs\n-z\n";

    #[test]
    fn entries_have_several_edits() {
        let entries = parse(GOOD).unwrap();
        assert_eq!(entries.len(), 1);
        let edits = &entries[0].edits;
        assert_eq!(edits.len(), 3);
        assert_eq!(edits[1].lines, [Line::Remove("p".into()), Line::Keep("q".into())]);
        assert_eq!(edits[2].file, "src/b.rs");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = |text: &str| parse(text).unwrap_err();
        assert_eq!(error("about: x\n").line, 1);
        assert_eq!(error("[a]\nabout: x\n").what, "[a] has no `needs:` (a file needs an edit)");
        assert_eq!(error("[A]\n").line, 1);
        assert_eq!(error("[a]\nfile: f\n+x\n").what.split(' ').next(), Some("an"));
        assert_eq!(error("[a]\n-x\n").line, 2);
        assert_eq!(error("[a]\ncolour: red\n").line, 2);
        assert_eq!(error("[a]\nnonsense\n").line, 2);
    }
}
