//! Patterns of Redis: `*`, `?`, `[a-c]`, `[^a]`, `\x`.
//!
//! All places of a pattern at which a text may stand are followed at once, as bits, so that a byte
//! of text costs the same few steps whatever the pattern: no star is gone back to.

/// Places in one word.
const PLACES: usize = 64;

/// A pattern, ready to be compared with any number of texts.
pub(super) struct Glob {
    /// How many words hold a bit for each place, the place behind the end included.
    words: usize,
    /// The place behind the end.
    end: usize,
    /// For each byte, at which places it is what the pattern wants: 256 times `words`.
    wanted: Vec<u64>,
    /// The places behind a star, where any byte may pass by.
    starred: Vec<u64>,
}

impl Glob {
    pub(super) fn new(pattern: &[u8]) -> Self {
        let words = words(pattern);
        let mut glob =
            Self { words, end: 0, wanted: vec![0; 256 * words], starred: vec![0; words] };
        let mut at = 0;
        while let Some(&byte) = pattern.get(at) {
            if byte == b'*' {
                glob.starred[glob.end / PLACES] |= 1 << (glob.end % PLACES);
                at += 1;
                continue;
            }
            at += match byte {
                b'?' => {
                    glob.want(0..=u8::MAX);
                    1
                }
                b'\\' if at + 1 < pattern.len() => {
                    glob.want([pattern[at + 1]]);
                    2
                }
                b'[' => {
                    let (set, len) = class(&pattern[at..]);
                    glob.want((0..=u8::MAX).filter(|&byte| set[usize::from(byte)]));
                    len
                }
                other => {
                    glob.want([other]);
                    1
                }
            };
            glob.end += 1;
        }
        glob
    }

    /// These bytes are what the last place wants.
    fn want(&mut self, bytes: impl IntoIterator<Item = u8>) {
        let (word, bit) = (self.end / PLACES, 1 << (self.end % PLACES));
        for byte in bytes {
            self.wanted[usize::from(byte) * self.words + word] |= bit;
        }
    }

    /// Whether the whole text is what the pattern stands for. In as many steps as the text has
    /// bytes, times the words of the pattern.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let mut places = vec![0_u64; self.words];
        places[0] = 1;
        for &byte in text {
            let wanted = &self.wanted[usize::from(byte) * self.words..][..self.words];
            let (mut carried, mut any) = (0, 0);
            for ((place, wanted), starred) in places.iter_mut().zip(wanted).zip(&self.starred) {
                let passed = *place & wanted;
                *place = (passed << 1) | carried | (*place & starred);
                carried = passed >> (PLACES - 1);
                any |= *place;
            }
            if any == 0 {
                return false;
            }
        }
        places[self.end / PLACES] >> (self.end % PLACES) & 1 == 1
    }
}

/// How many words a pattern takes: what a byte of text costs.
pub(super) const fn words(pattern: &[u8]) -> usize {
    pattern.len() / PLACES + 1
}

/// The bytes that a class in brackets stands for, and its length. It may lack the closing one.
fn class(pattern: &[u8]) -> ([bool; 256], usize) {
    let negated = pattern.get(1) == Some(&b'^');
    let mut set = [false; 256];
    let mut at = 1 + usize::from(negated);
    while let Some(&first) = pattern.get(at) {
        let (range, len) = match first {
            b']' => break,
            b'\\' if at + 1 < pattern.len() => (pattern[at + 1]..=pattern[at + 1], 2),
            _ if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() => {
                let last = pattern[at + 2];
                (first.min(last)..=first.max(last), 3)
            }
            _ => (first..=first, 1),
        };
        set[usize::from(*range.start())..=usize::from(*range.end())].fill(true);
        at += len;
    }
    if negated {
        set = set.map(|is_in| !is_in);
    }
    (set, (at + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Glob::new(pattern).matches(text)
    }

    /// What the words of the definition say, however long it takes.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|passed| defined(rest, &text[passed..])),
            (_, []) => false,
            ([b'?', rest @ ..], [_, text @ ..]) => defined(rest, text),
            ([b'\\', wanted, rest @ ..], [byte, text @ ..]) => {
                wanted == byte && defined(rest, text)
            }
            ([b'[', ..], [byte, text @ ..]) => {
                let (set, len) = class(pattern);
                set[usize::from(*byte)] && defined(&pattern[len..], text)
            }
            ([wanted, rest @ ..], [byte, text @ ..]) => wanted == byte && defined(rest, text),
        }
    }

    proptest! {
        #[test]
        fn all_places_at_once_are_each_place_in_turn(
            pattern in "[ab*?\\[\\]^\\\\-]{0,9}", text in "[ab*\\]]{0,9}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), defined(pattern, text));
        }

        #[test]
        fn words_are_no_bounds(
            filler in 55_usize..140, star in any::<bool>(), tail in "[ab?]{0,9}",
            text in "[ab]{0,9}",
        ) {
            let star = if star { "*" } else { "" };
            let pattern = format!("{}{star}{tail}", "x".repeat(filler));
            let text = format!("{}{text}", "x".repeat(filler));
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), defined(pattern, text));
        }

        #[test]
        fn any_bytes_are_a_pattern(pattern: Vec<u8>, text: Vec<u8>) {
            let _ = matches(&pattern, &text);
        }
    }

    #[test]
    fn patterns_are_those_of_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("?", "", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c*d", "aXbXXcXd", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        // Takes ages where each star tries all places of every other.
        let pattern = "*a".repeat(60);
        assert!(!matches(pattern.as_bytes(), "b".repeat(5_000).as_bytes()));
    }
}
