//! One change of one file, written like a patch without line numbers.
//!
//! Code is compared without its layout: blanks, line ends, and commas in front of a closing bracket
//! do not count, so that formatting does not lose the place. Everything else must match to the
//! letter, in exactly one place.

use std::fmt::Write as _;

/// A piece of code of one file, and what to put in its place.
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

impl Line {
    /// The code itself.
    fn code(&self) -> &str {
        match self {
            Self::Add(code) | Self::Keep(code) | Self::Remove(code) => code,
        }
    }
}

/// The letters of some code that count, each with its place in the text.
struct Letters(Vec<(usize, char)>);

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters: Vec<(usize, char)> = Vec::with_capacity(text.len());
        for (place, letter) in text.char_indices() {
            if letter.is_whitespace() {
                continue;
            }
            let closes = matches!(letter, ')' | ']' | '}');
            if closes && letters.last().is_some_and(|(_, last)| *last == ',') {
                letters.pop();
            }
            letters.push((place, letter));
        }
        Self(letters)
    }

    /// Where `other` is in this: places in the text, its end included.
    fn find(&self, other: &Self) -> Vec<(usize, usize)> {
        let same = |window: &&[(usize, char)]| {
            window.iter().zip(&other.0).all(|((_, one), (_, other))| one == other)
        };
        let windows = self.0.windows(other.0.len().max(1)).filter(same);
        let ends = |window: &[(usize, char)]| {
            let ((first, _), (last, letter)) = (window[0], window[window.len() - 1]);
            (first, last + letter.len_utf8())
        };
        windows.map(ends).collect()
    }
}

impl Edit {
    fn text(&self, takes: impl Fn(&Line) -> bool) -> String {
        let lines = self.lines.iter().filter(|line| takes(line));
        lines.map(Line::code).collect::<Vec<_>>().join("\n")
    }

    /// `source` with the edit applied.
    ///
    /// # Errors
    /// If the code to find is in no place or in more than one.
    pub fn apply(&self, source: &str) -> Result<String, String> {
        let find = self.text(|line| !matches!(line, Line::Add(_)));
        let replace = self.text(|line| !matches!(line, Line::Remove(_)));
        // A comma at the end may be one that the layout decides about; it stays as it is.
        let (find, replace) = (find.trim_end(), replace.trim_end());
        let listed = find.ends_with(',');
        let find = find.trim_end_matches(',');
        let replace = if listed { replace.trim_end_matches(',') } else { replace };
        let places = Letters::of(source).find(&Letters::of(find));
        let [(start, end)] = places[..] else {
            return Err(self.misfit(source, &places));
        };
        Ok(format!("{}{}{}", &source[..start], replace.trim(), &source[end..]))
    }

    fn misfit(&self, source: &str, places: &[(usize, usize)]) -> String {
        if let Some(((first, _), rest)) = places.split_first() {
            let line = |place: usize| source[..place].matches('\n').count() + 1;
            let mut text = format!("{}: the code to find is at line {}", self.file, line(*first));
            for (place, _) in rest {
                let _ = write!(text, ", {}", line(*place));
            }
            text.push_str("; add what is around it so that only one place fits");
            return text;
        }
        let letters = Letters::of(source);
        let missing = self.lines.iter().find_map(|line| match line {
            &Line::Add(_) => None,
            Line::Keep(text) | Line::Remove(text) => {
                let code = text.trim_end().trim_end_matches(',');
                letters.find(&Letters::of(code)).is_empty().then_some(text)
            }
        });
        missing.map_or_else(
            || format!("{}: its lines are there, but not next to each other", self.file),
            |line| format!("{}: there is no `{}`", self.file, line.trim()),
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
        Edit { file: "f.rs".into(), line: 1, lines }
    }

    #[test]
    fn replaces_in_the_only_place_whatever_the_layout() {
        let source =
            "fn a() {\n    if x < y {\n        stop(\n            z,\n        );\n    }\n}\n";
        let edited = edit(&["-if x < y {", "+if x <= y {", " stop(z);"]).apply(source);
        assert_eq!(edited.unwrap(), "fn a() {\n    if x <= y {\nstop(z);\n    }\n}\n");
    }

    #[test]
    fn adds_and_removes_lines() {
        let edited = edit(&[" b", "+c", "-d", " e"]).apply("a\nb\nd\ne\n");
        assert_eq!(edited.unwrap(), "a\nb\nc\ne\n");
    }

    #[test]
    fn no_place_and_two_places_are_said() {
        let none = edit(&["-nowhere"]).apply("a\nb\n").unwrap_err();
        assert_eq!(none, "f.rs: there is no `nowhere`");
        let apart = edit(&["-a", "-c"]).apply("a\nb\nc\n").unwrap_err();
        assert_eq!(apart, "f.rs: its lines are there, but not next to each other");
        let two = edit(&["-a"]).apply("a\nb\na\n").unwrap_err();
        assert!(two.contains("line 1, 3"), "{two}");
    }
}
