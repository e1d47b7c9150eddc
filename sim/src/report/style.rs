//! How numbers, times and colours look to a person.
//!
//! Must never know what is being reported: it turns figures into text, and nothing else.

use std::env;
use std::fmt;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Colours, or none when the reader is a file, a pipe, or has asked for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

/// The few colours used, by what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Something went wrong.
    Bad,
    /// Secondary: units, hints, what can be skipped.
    Dim,
    /// All is well.
    Good,
    /// A heading or the thing itself.
    Strong,
    /// Deserves a look.
    Warn,
}

impl Style {
    /// Never any colour.
    pub const PLAIN: Self = Self { colour: false };

    /// Colours if standard output is a terminal that takes them and `NO_COLOR` is not set.
    #[must_use]
    pub fn of_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: !refused && std::io::stdout().is_terminal() }
    }

    /// `text` in `ink`.
    #[must_use]
    pub fn paint(self, ink: Ink, text: impl fmt::Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let code = match ink {
            Ink::Bad => "1;31",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Strong => "1",
            Ink::Warn => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits and a unit: `1.23 M`.
#[must_use]
pub fn rough(number: f64) -> String {
    let steps = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
    let (unit, name) = steps.into_iter().find(|(unit, _)| number >= *unit).unwrap_or((1.0, ""));
    let scaled = number / unit;
    match scaled {
        _ if name.is_empty() && scaled.fract() == 0.0 => format!("{scaled:.0}"),
        _ if scaled < 9.995 => format!("{scaled:.2}{name}"),
        _ if scaled < 99.95 => format!("{scaled:.1}{name}"),
        _ => format!("{scaled:.0}{name}"),
    }
}

/// A duration as people say it: `850 ms`, `9.8 s`, `3 min 20 s`, `2 h 5 min`, `3.2 years`.
#[must_use]
pub fn lasting(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = duration.as_secs();
    match whole {
        _ if seconds < 0.001 => format!("{} µs", duration.as_micros()),
        _ if seconds < 1.0 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        86_400..31_557_600 => format!("{:.1} days", seconds / 86_400.0),
        _ => format!("{:.1} years", seconds / 31_557_600.0),
    }
}

/// A bar of at most `width` characters for `part` of `whole`; never empty when `part` is not.
#[must_use]
pub fn bar(part: u64, whole: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if part == 0 || whole == 0 {
        return String::new();
    }
    let share = part as f64 / whole as f64 * width as f64 * 8.0;
    let eighths = (share.round() as usize).clamp(1, width * 8);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// `part` of `whole` in percent.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::from("-");
    }
    format!("{:.1} %", part as f64 / whole as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(rough(0.5), "0.50");
        assert_eq!(rough(999.0), "999");
        assert_eq!(rough(1_234_000.0), "1.23 M");
        assert_eq!(rough(45_600.0), "45.6 k");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(lasting(Duration::from_micros(12)), "12 µs");
        assert_eq!(lasting(Duration::from_millis(850)), "850 ms");
        assert_eq!(lasting(Duration::from_millis(9_840)), "9.8 s");
        assert_eq!(lasting(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(lasting(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(lasting(Duration::from_secs(100_000_000)), "3.2 years");
    }

    #[test]
    fn a_bar_is_empty_only_for_nothing() {
        assert_eq!(bar(0, 10, 8), "");
        assert_eq!(bar(1, 1_000_000, 8), "▏");
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(5, 10, 4), "██");
    }
}
