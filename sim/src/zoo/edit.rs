//! One change of one file, written like a patch without line numbers.
//!
//! Lines are compared without the blanks at their ends, so that a change of indentation around
//! them does not lose the place; everything else must match to the letter, in exactly one place.

use std::fmt::Write as _;

/// A group of neighbouring lines of one file, and what becomes of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The file, from the root of the workspace.
    pub file: String,
    /// Where in the zoo's file the edit begins, for error messages.
    pub line: usize,
    /// The lines, in order.
    pub lines: Vec<Line>,
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is put in.
    Add(String),
    /// It is there and stays.
    Keep(String),
    /// It is there and goes.
    Remove(String),
}

impl Edit {
    /// The lines that must be there.
    fn expected(&self) -> Vec<&str> {
        let there = |line| match line {
            &Line::Add(_) => None,
            Line::Keep(text) | Line::Remove(text) => Some(text.trim()),
        };
        self.lines.iter().filter_map(there).collect()
    }

    /// `source` with the edit applied.
    ///
    /// # Errors
    /// If the lines to find are in no place or in more than one.
    pub fn apply(&self, source: &str) -> Result<String, String> {
        let expected = self.expected();
        let lines: Vec<&str> = source.lines().collect();
        let places: Vec<usize> = lines
            .windows(expected.len())
            .enumerate()
            .filter(|(_, window)| window.iter().zip(&expected).all(|(a, b)| a.trim() == *b))
            .map(|(place, _)| place)
            .collect();
        let [place] = places[..] else {
            return Err(self.misfit(&lines, &places));
        };
        let mut result = lines[..place].to_vec();
        let mut next = place;
        for line in &self.lines {
            match line {
                Line::Add(text) => result.push(text),
                Line::Keep(_) => {
                    result.push(lines[next]);
                    next += 1;
                }
                Line::Remove(_) => next += 1,
            }
        }
        result.extend(&lines[next..]);
        let mut text = result.join("\n");
        text.push('\n');
        Ok(text)
    }

    fn misfit(&self, lines: &[&str], places: &[usize]) -> String {
        if let Some((first, rest)) = places.split_first() {
            let mut text = format!("{}: the code to find is at line {}", self.file, first + 1);
            for place in rest {
                let _ = write!(text, ", {}", place + 1);
            }
            text.push_str("; add neighbouring lines so that only one place fits");
            return text;
        }
        let missing = self
            .expected()
            .into_iter()
            .find(|line| !lines.iter().any(|other| other.trim() == *line));
        missing.map_or_else(
            || {
                format!(
                    "{}: its lines are there, but not next to each other",
                    self.file
                )
            },
            |line| format!("{}: there is no line `{line}`", self.file),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(lines: &[&str]) -> Edit {
        let line = |text: &&str| {
            let (kind, rest) = text.split_at(1);
            match kind {
                "+" => Line::Add(rest.into()),
                "-" => Line::Remove(rest.into()),
                _ => Line::Keep(rest.into()),
            }
        };
        let lines = lines.iter().map(line).collect();
        Edit {
            file: "f.rs".into(),
            line: 1,
            lines,
        }
    }

    #[test]
    fn replaces_in_the_only_place_and_keeps_indentation() {
        let source = "fn a() {\n    if x < y {\n        stop();\n    }\n}\n";
        let edited = edit(&["-if x < y {", "+    if x <= y {", " stop();"]).apply(source);
        assert_eq!(
            edited.unwrap(),
            "fn a() {\n    if x <= y {\n        stop();\n    }\n}\n"
        );
    }

    #[test]
    fn adds_and_removes_lines() {
        let edited = edit(&[" b", "+c", "-d", " e"]).apply("a\nb\nd\ne\n");
        assert_eq!(edited.unwrap(), "a\nb\nc\ne\n");
    }

    #[test]
    fn no_place_and_two_places_are_said() {
        let none = edit(&["-nowhere"]).apply("a\nb\n").unwrap_err();
        assert_eq!(none, "f.rs: there is no line `nowhere`");
        let apart = edit(&["-a", "-c"]).apply("a\nb\nc\n").unwrap_err();
        assert_eq!(
            apart,
            "f.rs: its lines are there, but not next to each other"
        );
        let two = edit(&["-a"]).apply("a\nb\na\n").unwrap_err();
        assert!(two.contains("line 1, 3"), "{two}");
    }
}
