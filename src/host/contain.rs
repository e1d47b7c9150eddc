//! Keeps harm from the node's side of the fence: an application's code may fail as it likes.
//!
//! Must never know: what that code decides.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::merged::{Action, Conflict, MergeContext, Resolver};

/// A resolver whose panics are errors like any other.
#[derive(Debug)]
pub struct Contained<R>(pub R);

impl<R: Resolver> Resolver for Contained<R> {
    fn init(&mut self, context: &MergeContext) -> Result<(), String> {
        contain(|| self.0.init(context))
    }

    fn resolve(&mut self, conflict: &Conflict) -> Result<Vec<Action>, String> {
        contain(|| self.0.resolve(conflict))
    }

    fn done(&mut self) {
        let ended = contain(|| {
            self.0.done();
            Ok(())
        });
        if let Err(why) = ended {
            tracing::warn!(%why, "resolver failed at the end of a round");
        }
    }
}

fn contain<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let told = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("it panicked: {}", text.unwrap_or_default())
    };
    // What it had begun is its own: nothing of a node's is borrowed by it.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(told(panic)))
}
