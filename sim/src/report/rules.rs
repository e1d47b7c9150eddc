//! What each rule says, in words.

/// The rules by their short names, as failures name them.
const RULES: [(&str, &str); 27] = [
    ("INV", "the engine's own invariants hold after every step"),
    ("L1", "after healing, every operation gets a definite answer"),
    ("L2", "after healing, every entry whose binding has ended is erased; there are no orphans"),
    ("L3", "after healing, nothing is left over that an idle cluster would clean up"),
    ("L4", "after healing, every member takes part in the newest epoch"),
    ("L5", "a connected node's last quorum event is `reached`, and there are no more events"),
    ("L6", "concurrent writers of one key do not duel for ever"),
    ("L7", "a session whose node reaches a quorum is never closed"),
    ("L8", "a client told that its session is suspended is told how that ended"),
    ("L9", "memory is bounded"),
    ("LIN", "clients see one copy of each key: every history is linearizable"),
    ("W1", "one ballot carries one content"),
    ("W10", "an operation changes its register once at most"),
    ("W11", "acceptors that accepted the same hold the same"),
    ("W12", "nobody is told of what is not yet durable"),
    ("W13", "an operation that was definitely refused never takes effect"),
    ("W2", "what is chosen later builds on what was chosen before"),
    ("W3", "nothing is returned that is not chosen"),
    ("W4", "an acceptor's promise, vote and epoch never go back, even across a crash"),
    ("W5", "nothing is accepted below a promise"),
    ("W6", "only members of the configuration vote, each in one storage life"),
    ("W7", "a life that has ended never comes back"),
    ("W8", "nothing is erased but for a binding that has truly ended"),
    ("W9", "what is known to be chosen is chosen"),
    ("W10'", "an operation is executed once"),
    ("hang", "every run ends"),
    ("panic", "the engine never panics, whatever it is told"),
];

/// What the rule of this short name says; nothing for one that is not known here.
#[must_use]
pub fn in_words(rule: &str) -> Option<&'static str> {
    RULES.iter().find(|(name, _)| *name == rule).map(|(_, words)| *words)
}
