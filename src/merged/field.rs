//! Where in a value something is found: what a table compares, or tells elements of a bag apart by.
//!
//! What only the writer can find, because it takes a function of the application, or what costs to
//! find, is written down beside the value ([`Version::field`](super::Version)): whoever merges
//! needs no more than bytes, and no two nodes can find different things in one value.
//!
//! Must never know: what is decided by it.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use bincode::de::{BorrowDecode, BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::base::Value;

/// The longest field, unless it is a piece of the value: what is longer is as if it were not there.
const LEN_MAX: usize = 1 << 10;

/// The longest JSON pointer.
const POINTER_MAX: usize = 256;

/// Where something is found in a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Field {
    /// Bytes compared as they are, so numbers should be big-endian.
    Bytes {
        /// Where they begin.
        offset: u32,
        /// How many there are.
        len: u32,
    },
    /// What a function of the application finds; compared as bytes.
    Function(Function),
    /// The number or the string that a JSON pointer (RFC 6901) leads to, such as `/meta/version`.
    /// Numbers are compared by value, strings by their bytes; strings are above numbers.
    Json(String),
}

/// A function that finds a field, under a name that tells it from others: tables of functions with
/// different names are not merged. It must find the same in the same value for as long as there are
/// values; only who writes needs it.
#[derive(Clone)]
pub struct Function {
    name: String,
    find: fn(&Value) -> Option<Vec<u8>>,
}

impl Function {
    /// Of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, find: fn(&Value) -> Option<Vec<u8>>) -> Self {
        Self { name: name.into(), find }
    }
}

impl Field {
    /// So many bytes from there on.
    #[must_use]
    pub const fn bytes(offset: u32, len: u32) -> Self {
        Self::Bytes { offset, len }
    }

    /// What is compared, unless the value has no such field.
    #[must_use]
    pub fn of<'a>(&self, value: &'a Value) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Bytes { offset, len } => slice(value, *offset, *len).map(Cow::Borrowed),
            Self::Function(function) => {
                (function.find)(value).filter(|found| fits(found)).map(Cow::Owned)
            }
            Self::Json(pointer) => found(value, pointer)
                .map(|found| sortable(&found))
                .filter(|found| fits(found))
                .map(Cow::Owned),
        }
    }

    /// What tells the value from others, likewise; of JSON, as it would be written.
    pub(crate) fn identity(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Json(pointer) => {
                let found = found(value, pointer)?.to_string().into_bytes();
                Some(found).filter(|found| fits(found)).map(Value::from)
            }
            Self::Bytes { .. } | Self::Function(_) => {
                self.of(value).map(|found| Value::from(&*found))
            }
        }
    }

    /// Whether what it finds is written down beside each value.
    pub(crate) const fn is_written(&self) -> bool {
        !matches!(self, Self::Bytes { .. })
    }

    /// What a field that is not written down finds.
    pub(crate) fn read<'a>(&self, value: &'a Value) -> Option<&'a [u8]> {
        match self {
            Self::Bytes { offset, len } => slice(value, *offset, *len),
            Self::Function(_) | Self::Json(_) => None,
        }
    }

    /// Whether there can be values of up to so many bytes that have it, and words for it.
    pub(crate) fn is_possible(&self, value_max: usize) -> bool {
        match self {
            Self::Bytes { offset, len } => {
                *len > 0 && *offset as usize + *len as usize <= value_max
            }
            Self::Function(function) => !function.name.is_empty(),
            Self::Json(pointer) => {
                let strange = |c: char| c.is_whitespace() || c.is_control() || "+,".contains(c);
                pointer.starts_with('/')
                    && pointer.len() <= POINTER_MAX
                    && !pointer.contains(strange)
            }
        }
    }
}

fn fits(found: &[u8]) -> bool {
    found.len() <= LEN_MAX
}

fn slice(value: &Value, offset: u32, len: u32) -> Option<&[u8]> {
    let start = offset as usize;
    value.as_bytes().get(start..start.checked_add(len as usize)?)
}

/// The number or string at a place of a value.
fn found(value: &Value, pointer: &str) -> Option<serde_json::Value> {
    let mut json: serde_json::Value = serde_json::from_slice(value.as_bytes()).ok()?;
    let found = json.pointer_mut(pointer)?.take();
    (found.is_number() || found.is_string()).then_some(found)
}

/// Bytes in the order of what they stand for. Numbers by their value as a float and then, where
/// that cannot tell them apart, as whole numbers: so it is one order for all of them.
fn sortable(found: &serde_json::Value) -> Vec<u8> {
    if let Some(text) = found.as_str() {
        return [&[2], text.as_bytes()].concat();
    }
    let float = found.as_f64().unwrap_or(0.0) + 0.0; // no negative zero
    let whole = found.as_i64().map(i128::from).or_else(|| found.as_u64().map(i128::from));
    let whole = whole.unwrap_or(float as i128);
    let bits = float.to_bits();
    let bits = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let whole = whole as u128 ^ 1 << 127;
    [&[1], &bits.to_be_bytes()[..], &whole.to_be_bytes()[..]].concat()
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({})", self.name)
    }
}

impl Encode for Function {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.name.encode(encoder)
    }
}

/// By name; it finds nothing until it is taken for the one that is configured.
impl<Context> Decode<Context> for Function {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self { name: String::decode(decoder)?, find: |_| None })
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Function {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { offset, len } => write!(f, "bytes {offset}+{len}"),
            Self::Function(function) => write!(f, "function {}", function.name),
            Self::Json(pointer) => write!(f, "{pointer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pointer: &str, json: &str) -> Option<Vec<u8>> {
        Field::Json(pointer.into()).of(&Value::from(json)).map(Cow::into_owned)
    }

    /// M-18: numbers by value, also where a float cannot tell them apart; strings above them.
    #[test]
    fn json_is_compared_by_what_it_says() {
        let ascending = [
            "-1e300",
            "-9007199254740993",
            "-9007199254740992",
            "-3",
            "-2.5",
            "0",
            "0.5",
            "1",
            "9",
            "10",
            "10.5",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "1e300",
            r#""""#,
            r#""10""#,
            r#""9""#,
        ];
        let mut last: Option<Vec<u8>> = None;
        for json in ascending {
            let found = at("/v", &format!("{{\"v\":{json}}}")).expect(json);
            assert!(last.is_none_or(|last| last < found), "{json}");
            last = Some(found);
        }
        assert_eq!(at("/v", r#"{"v":1}"#), at("/v", r#"{"x":[],"v":1.0}"#));
        assert_eq!(at("/v", r#"{"v":0}"#), at("/v", r#"{"v":-0.0}"#));
        assert_eq!(at("/a/1/b~1c", r#"{"a":[0,{"b/c":7}]}"#), at("/v", r#"{"v":7}"#));
    }

    #[test]
    fn what_has_no_such_field_has_none() {
        for json in ["", "7", "{", r#"{"v":null}"#, r#"{"v":true}"#, r#"{"v":[1]}"#, r#"{"w":1}"#] {
            assert_eq!(at("/v", json), None, "{json}");
        }
        let long = format!("{{\"v\":\"{}\"}}", "x".repeat(LEN_MAX));
        assert_eq!(at("/v", &long), None, "longer than a field can be");
        let deep = "[".repeat(100_000);
        assert_eq!(at("/v", &deep), None);
        let identity = |json: &str| Field::Json("/v".into()).identity(&Value::from(json));
        assert_eq!(identity(r#"{"v":1}"#), Some(Value::from("1")));
        assert_eq!(identity(r#"{"v":"1"}"#), Some(Value::from("\"1\"")));
    }

    #[test]
    fn fields_that_cannot_be_are_told() {
        let json = |pointer: &str| Field::Json(pointer.into()).is_possible(100);
        assert!(json("/a/0/b") && !json("a") && !json("") && !json("/a b") && !json("/a+b"));
        assert!(!json(&format!("/{}", "x".repeat(POINTER_MAX))));
        assert!(Field::bytes(0, 1).is_possible(1) && !Field::bytes(0, 0).is_possible(1));
        assert!(!Field::bytes(u32::MAX, u32::MAX).is_possible(100));
        let function = |name: &str| Function::new(name, |_| None);
        assert_eq!(function("a"), function("a"));
        assert!(function("a") != function("b"));
        assert!(!Field::Function(function("")).is_possible(1));
    }
}
