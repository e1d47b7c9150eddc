//! What a key's life can be bound to, and the evidence that it ended.
//!
//! Nothing is erased on a belief. A belief is first decided in a register, or it is a fact that
//! can never become false again, certified by a quorum or by the one node that owns it
//! (`docs/PROTOCOL.md`, monitors). So the late completion of an old erase is harmless.
//!
//! Must never know: which register is erased, by whom, or how.

mod binding;
mod index;
mod message;
mod sessions;
mod silence;

pub use binding::{Bind, Binding, Cause, Fact, NodeSession};
pub(crate) use index::{Index, Target};
pub use message::Message;
pub(crate) use sessions::{Sessions, Standing};
pub(crate) use silence::Silence;
