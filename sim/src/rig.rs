//! The rigs that a plan can be run on.
//!
//! Must never know: how any of them runs it.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a plan is run on. One program is one rig: the stack's is another build of the same source.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Rig {
    /// Engines: the code that decides, and nothing else
    #[default]
    World,
    /// Whole hosts: links, handshakes, group commit and timers as well; slower
    Stack,
}

impl Rig {
    /// The one that this program is.
    pub const HERE: Self = if cfg!(madsim) { Self::Stack } else { Self::World };

    /// The option that asks for it, as it is put behind a command; nothing for what is usual.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::World => "",
            Self::Stack => " --rig stack",
        }
    }
}

impl fmt::Display for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::World => "world",
            Self::Stack => "stack",
        })
    }
}
