//! What a node writes to its log (P-26).
//!
//! Alone in its file: whether a line is wanted is decided once for a whole process, so tests that
//! run beside it without a subscriber would have their say.

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Cluster, config, put_if_absent, won};
use synod::Genesis;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

type Line = BTreeMap<String, String>;

/// Keeps every event as its fields by name; the text of it is the field `message`.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<Line>>>);

struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("synod")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::new();
        event.record(&mut Fields(&mut line));
        self.0.lock().expect("not poisoned").push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The lines of one node that begin with this text, as the values of one field.
fn lines(capture: &Capture, node: u16, text: &str, field: &str) -> Vec<String> {
    let captured = capture.0.lock().expect("not poisoned");
    let of_node = |line: &&Line| {
        line.get("node").is_some_and(|found| *found == node.to_string())
            && line.get("message").is_some_and(|found| found.starts_with(text))
    };
    captured.iter().filter(of_node).map(|line| line[field].clone()).collect()
}

/// P-26: one structured line for each change of who is reachable, with how many of how many; one
/// for each transition of the quorum; one for each change of standing.
#[test]
fn the_log_has_one_line_for_each_change() {
    let capture = Capture::default();
    tracing::subscriber::with_default(capture.clone(), || {
        let mut cluster = Cluster::unstarted((1..=3).map(|node| {
            let mut config = config(node, 3);
            config.genesis = Genesis::Witnessed;
            config
        }));
        for node in 1..=3 {
            cluster.start(node);
        }
        cluster.run(Duration::from_secs(3));
        cluster.crash(3);
        cluster.run(Duration::from_secs(5));
        cluster.crash(2);
        cluster.run(Duration::from_secs(5));
        cluster.start(2);
        cluster.run(Duration::from_secs(5));
        assert!(won(&cluster.call(1, put_if_absent("k", "v", vec![]))));
    });
    assert_eq!(lines(&capture, 1, "reachable", "nodes"), ["1", "2", "3", "2", "1", "2"]);
    assert!(lines(&capture, 1, "reachable", "size").iter().all(|size| size == "3"));
    assert_eq!(lines(&capture, 1, "quorum", "reached"), ["true", "false", "true"]);
    assert_eq!(lines(&capture, 1, "readiness", "readiness"), ["ready"]);
}
