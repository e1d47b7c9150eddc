//! What people type after an option, read strictly: every error says what would be right.
//!
//! Must never know what the values are used for.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

/// `A..B`: the seeds from A up to and not including B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Range<u64>);

/// `k/n`: the k-th of n shares of the seeds, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub number: u64,
    /// Of how many.
    pub count: u64,
}

impl Shard {
    /// The only share of one.
    pub const WHOLE: Self = Self { number: 1, count: 1 };
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.start, self.0.end)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, end) = text
            .split_once("..")
            .ok_or_else(|| String::from("write a range as A..B, for example 0..1000"))?;
        let (start, end) = (number(start)?, number(end)?);
        if end <= start {
            return Err(format!(
                "the range {start}..{end} holds no seed; the second number must be larger"
            ));
        }
        Ok(Self(start..end))
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number_text, count_text) = text
            .split_once('/')
            .ok_or_else(|| String::from("write a share as k/n, for example 1/4"))?;
        let (number, count) = (number(number_text)?, number(count_text)?);
        if number == 0 || number > count {
            return Err(format!(
                "there is no share {number} of {count}; shares are counted from 1 to n"
            ));
        }
        Ok(Self { number, count })
    }
}

/// A whole number; `_` may group its digits.
fn number(text: &str) -> Result<u64, String> {
    let digits: String = text.chars().filter(|digit| *digit != '_').collect();
    digits.parse().map_err(|_| format!("{text:?} is not a whole number from 0 to {}", u64::MAX))
}

/// What may be waited for: nobody means more, and less is nothing.
const DURATION_MIN: Duration = Duration::from_millis(1);
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

/// A duration, of a millisecond to a year: a number and one of `ms`, `s`, `m` (or `min`), `h`, `d`.
///
/// # Errors
/// What is wrong with `text`, and what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let help = "write a duration as a number and a unit: 500ms, 10s, 5m, 2h";
    let split = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .ok_or_else(|| format!("{text:?} has no unit; {help}"))?;
    if split == 0 {
        return Err(format!("{text:?} is not a duration; {help}"));
    }
    let (count, unit) = text.split_at(split);
    let count: f64 = count.parse().map_err(|_| format!("{count:?} is not a number; {help}"))?;
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{unit:?} is not a unit of time; {help}")),
    };
    if count <= 0.0 {
        return Err(String::from("a duration must be longer than zero"));
    }
    let duration = Duration::try_from_secs_f64(count * unit).unwrap_or(Duration::MAX);
    if duration < DURATION_MIN {
        return Err(format!("{text:?} is too short; give at least 1ms"));
    }
    if duration > DURATION_MAX {
        return Err(format!("{text:?} is too long; give at most 366d"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!("3..1_000".parse(), Ok(Seeds(3..1_000)));
        for wrong in ["", "5", "5..5", "9..3", "-1..3", "a..b", "1..99999999999999999999"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!("2/4".parse(), Ok(Shard { number: 2, count: 4 }));
        for wrong in ["", "2", "0/4", "5/4", "1/0", "x/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "5", "s", "-5s", "0s", "5y", "1e300h", "NaNs", "infs", "0.9ms", "367d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("99999999999999h").unwrap_err().contains("at most 366d"));
    }
}
