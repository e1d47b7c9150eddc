//! Judges histories: linearizable, not linearizable, or unknown.
