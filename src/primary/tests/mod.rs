//! The rules of primary tables, one test each, and random operations that try them all at once.

mod chance;
mod nonsense;
mod rules;
mod world;
