//! The examples run, to their end.
#![expect(clippy::duplicate_mod, reason = "each example stands for itself, on the same cluster")]

#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/failover.rs"]
mod failover;
#[path = "../examples/leader.rs"]
mod leader;
#[path = "../examples/lock.rs"]
mod lock;
#[path = "../examples/split.rs"]
mod split;
#[path = "../examples/threads.rs"]
mod threads;

/// P-28: an embedding host in one process, without globals.
#[test]
fn three_nodes_in_threads_elect_and_re_elect() {
    threads::main();
}

/// P-28: a member inside an application, whose requests it answers.
#[test]
fn an_application_embeds_a_member() {
    embed::main().expect("the example runs");
}

/// P-14, P-16: a leader that is gone is succeeded, and its service is not found any more.
#[test]
fn a_leader_is_succeeded() {
    leader::main().expect("the example runs");
}

/// the primary stops, its client goes on, nothing acknowledged is missing.
#[test]
fn a_failover_loses_nothing() {
    failover::main().expect("the example runs");
}

/// P-05: later holders of a lock have higher tokens.
#[test]
fn a_lock_hands_out_fencing_tokens() {
    lock::main().expect("the example runs");
}

/// L-26, M-15, M-22: a split on real sockets, writes on both sides, the heal, and a resolver for
/// what is in conflict.
#[test]
fn a_split_heals() {
    split::main().expect("the example runs");
}
