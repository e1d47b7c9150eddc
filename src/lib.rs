//! synod: a deterministic, simulation-tested consensus key-value engine.
#![cfg_attr(not(feature = "host"), no_std)]

extern crate alloc;
