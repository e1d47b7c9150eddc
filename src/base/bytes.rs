//! Keys and values: any bytes, shared rather than copied (P-06).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bincode::de::read::Reader;
use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

macro_rules! shared_bytes {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Cloning copies a pointer. Equality, order and hash are those of the bytes.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<[u8]>);

        impl $name {
            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// How many bytes.
            #[must_use]
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether there are no bytes; an empty key or value is a value like any other.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<&[u8]> for $name {
            fn from(bytes: &[u8]) -> Self {
                Self(Arc::from(bytes))
            }
        }

        impl From<Vec<u8>> for $name {
            fn from(bytes: Vec<u8>) -> Self {
                Self(Arc::from(bytes))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text.as_bytes()))
            }
        }

        /// Printable ASCII as it is, anything else as `\xNN`: one line, never ambiguous.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for &byte in self.0.iter() {
                    if byte.is_ascii_graphic() && byte != b'\\' {
                        write!(f, "{}", byte as char)?;
                    } else {
                        write!(f, "\\x{byte:02x}")?;
                    }
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(\"{self}\")", stringify!($name))
            }
        }

        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.0.as_ref().encode(encoder)
            }
        }

        impl<Context> Decode<Context> for $name {
            fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
                // The decoder's byte limit is asked first, so a forged length cannot allocate more
                // than a frame may hold.
                let len = u64::decode(decoder)?;
                let len = usize::try_from(len).map_err(|_| DecodeError::OutsideUsizeRange(len))?;
                decoder.claim_container_read::<u8>(len)?;
                // From a frame in memory it is copied once.
                if let Some(bytes) = decoder.reader().peek_read(len) {
                    let found = Self::from(bytes);
                    decoder.reader().consume(len);
                    return Ok(found);
                }
                let mut bytes = alloc::vec![0; len];
                decoder.reader().read(&mut bytes)?;
                Ok(Self::from(bytes))
            }
        }

        impl<'de, Context> BorrowDecode<'de, Context> for $name {
            fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Self::decode(decoder)
            }
        }
    };
}

shared_bytes!(Key, "The name of a register inside its table.");
shared_bytes!(Value, "What a client stored; the engine never looks inside.");

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn display_is_one_unambiguous_line() {
        assert_eq!(Key::from("a b\\").to_string(), "a\\x20b\\x5c");
        assert_eq!(Value::from(&[0, 255][..]).to_string(), "\\x00\\xff");
    }
}
