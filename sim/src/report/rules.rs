//! What each rule says, in words.

/// The rules by their short names, as failures name them.
const RULES: [(&str, &str); 45] = [
    ("C1", "after healing, all copies of a merged table become equal, and forget what was removed"),
    ("C10", "an alarm is up, and told once, while there is a conflict and no longer"),
    ("C12", "what was written in knowledge of something is stamped later, whatever the clocks say"),
    ("C2", "every write to a merged table is shown, or replaced, or in conflict, or has lost"),
    ("C3", "nothing that was replaced or removed comes back, and nothing is made up"),
    ("C4", "conflicts are those of writes that did not know of each other, and no others"),
    (
        "C6",
        "a resolver is asked twice at most about a collision, and once more when a node is back",
    ),
    ("C9", "a table that is not to be exchanged is not"),
    ("H1", "a host tells its node that records are durable once they are, and in their order"),
    ("H2", "a host hands over what a peer sent to it, in order, and nothing twice"),
    ("H3", "a host keeps a bounded number of bytes for a peer"),
    ("H4", "a host goes on until it is told to stop or its storage fails"),
    ("H5", "a host tells its node the time as it is, and wakes it when it wants to be woken"),
    ("H6", "a host gives up a stream on which nothing comes any more"),
    ("H7", "a host tells a client of merges what its node told it, in order, and at once"),
    ("INV", "the engine's own invariants hold after every step"),
    ("L1", "after healing, every operation gets a definite answer"),
    ("L10", "after healing, every watcher has been told of the ends it watched for"),
    ("L2", "after healing, every entry whose binding has ended is erased; there are no orphans"),
    ("L4", "after healing, every member that keeps its storage is ready"),
    ("L5", "quorum events are true: they alternate, and end with `reached` where that is so"),
    ("L6", "an operation takes few ballots, and none are prepared for nothing"),
    ("L7", "a session whose node reaches a quorum is never closed"),
    ("L8", "a client told that its session is suspended is told how that ended"),
    ("L9", "memory is bounded"),
    ("LIN", "clients see one copy of each key: every history is linearizable"),
    ("PLAN", "the plan can be run"),
    ("REPLY", "each request is answered once"),
    ("SEAM", "a node sends to other members only"),
    ("W1", "one ballot carries one content"),
    ("W10", "an operation changes its register once at most"),
    ("W12", "nobody is told of what is not yet durable"),
    ("W13", "an operation that was definitely refused never takes effect"),
    ("W14", "every answer and notice has its reason, and comes in time"),
    ("W2", "what is chosen later builds on what was chosen before"),
    ("W3", "nothing is returned that is not chosen"),
    ("W4", "an acceptor's promise, vote and epoch never go back, even across a crash"),
    ("W5", "nothing is accepted below a promise"),
    ("W6", "only members of the configuration vote, each in one storage life"),
    ("W7", "a life that has ended never comes back"),
    ("W8", "nothing is erased or refused but for a binding that has truly ended"),
    ("W9", "what is known to be chosen is chosen"),
    ("WIRE", "a message survives its bytes"),
    ("hang", "every run ends"),
    ("panic", "the engine never panics, whatever it is told"),
];

/// What the rule of this short name says; nothing for one that is not known here.
#[must_use]
pub fn in_words(rule: &str) -> Option<&'static str> {
    RULES.iter().find(|(name, _)| *name == rule).map(|(_, words)| *words)
}
