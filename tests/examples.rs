//! The examples run, to their end.

#[path = "../examples/threads.rs"]
mod threads;

/// P-28: an embedding host in one process, without globals.
#[test]
fn three_nodes_in_threads_elect_and_re_elect() {
    threads::main();
}
