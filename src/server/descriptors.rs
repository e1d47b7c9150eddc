//! How many files this process may have open, for every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as it goes without privileges; answers where it is then.
pub(super) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None at all is as good as many.
    let Some(now) = current else { return u64::MAX };
    let wanted = maximum.unwrap_or(1 << 20).min(1 << 20).max(now);
    let raised = Rlimit { current: Some(wanted), maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { now }
}
