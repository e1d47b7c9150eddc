//! Keys and values as an application has them.
//!
//! Must never know: where the bytes go.

use std::fmt;

/// How something is written as bytes. A table names one for its keys and one for its values.
///
/// The order of keys is the order of their bytes.
pub trait Codec: 'static {
    /// What is written.
    type Borrowed: ?Sized;
    /// What is read.
    type Owned;

    /// The bytes.
    ///
    /// # Errors
    /// If it cannot be written.
    fn encode(from: &Self::Borrowed) -> Result<Vec<u8>, Unreadable>;

    /// What the bytes mean.
    ///
    /// # Errors
    /// If they mean nothing: somebody else has written them in another way.
    fn decode(bytes: &[u8]) -> Result<Self::Owned, Unreadable>;
}

/// Bytes that do not mean what they should, or a value that cannot be made bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Unreadable {}

/// As they are.
impl Codec for Vec<u8> {
    type Borrowed = [u8];
    type Owned = Self;

    fn encode(from: &[u8]) -> Result<Vec<u8>, Unreadable> {
        Ok(from.to_vec())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(bytes.to_vec())
    }
}

/// UTF-8.
impl Codec for String {
    type Borrowed = str;
    type Owned = Self;

    fn encode(from: &str) -> Result<Vec<u8>, Unreadable> {
        Ok(from.as_bytes().to_vec())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        Self::from_utf8(bytes.to_vec()).map_err(|error| Unreadable { what: error.to_string() })
    }
}

/// Eight bytes, the most significant first: numbers sort as numbers.
impl Codec for u64 {
    type Borrowed = Self;
    type Owned = Self;

    fn encode(from: &Self) -> Result<Vec<u8>, Unreadable> {
        Ok(from.to_be_bytes().to_vec())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        bytes.try_into().map(Self::from_be_bytes).map_err(|_| Unreadable {
            what: format!("{} bytes are no number of eight", bytes.len()),
        })
    }
}

/// Anything that serde knows, as JSON: people can read it, and types may gain fields.
#[cfg(feature = "json")]
#[derive(Debug)]
pub struct Json<T>(std::marker::PhantomData<T>);

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Codec for Json<T> {
    type Borrowed = T;
    type Owned = T;

    fn encode(from: &T) -> Result<Vec<u8>, Unreadable> {
        serde_json::to_vec(from).map_err(|error| Unreadable { what: error.to_string() })
    }

    fn decode(bytes: &[u8]) -> Result<T, Unreadable> {
        serde_json::from_slice(bytes).map_err(|error| Unreadable { what: error.to_string() })
    }
}
