//! What people see of a campaign, a run, and a failure.
//!
//! Must never know: how runs are made. It is handed figures and events, and shows them.

pub mod recording;
pub mod style;
