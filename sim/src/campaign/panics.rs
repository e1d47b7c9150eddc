//! Turns a panic inside a run into a value: what was said, and where.
//!
//! Must never know: what is being run.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// What was said.
    pub message: String,
    /// File and line.
    pub place: String,
}

thread_local! {
    /// While a run is caught: the place of the panic, once there is one.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static CATCHING: RefCell<bool> = const { RefCell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `run`; a panic in it is returned and prints nothing.
///
/// # Errors
/// The panic.
pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.with_borrow(|catching| *catching) {
                note(info);
            } else {
                usual(info);
            }
        }));
    });
    CATCHING.set(true);
    // What `run` borrows is dropped or never looked at again after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    CATCHING.set(false);
    result.map_err(|payload| Panic {
        message: message(payload.as_ref()),
        place: PLACE.take().unwrap_or_else(|| String::from("an unknown place")),
    })
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
    PLACE.set(place);
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("a panic without words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value() {
        let panic = catch(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(panic.message, "number 7");
        assert!(panic.place.contains("panics.rs:"), "{}", panic.place);
        assert_eq!(catch(|| 5), Ok(5));
    }
}
