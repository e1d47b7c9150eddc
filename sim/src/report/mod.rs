//! What people see of a campaign, a run, and a failure.
//!
//! Must never know: how runs are made. It is handed figures and events, and shows them.

pub mod diagram;
pub mod progress;
pub mod recording;
pub mod rules;
pub mod story;
pub mod style;
pub mod summary;
