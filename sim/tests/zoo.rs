//! The zoo fits the source: every entry applies, in exactly one place, and changes something.

use std::path::Path;

use synod_sim::zoo::{self, Tree};

#[test]
fn every_entry_applies_exactly_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = zoo::load(&root).unwrap_or_else(|error| panic!("{error}"));
    assert!(entries.len() >= 60, "only {} entries", entries.len());
    let tree = Tree::read(&root).expect("the source can be read");
    let mut wrong = Vec::new();
    for entry in &entries {
        if let Some(plan) = entry.plan.as_ref().filter(|plan| !root.join(plan).is_file()) {
            wrong.push(format!("[{}] there is no {plan}", entry.name));
        }
        match tree.edited(entry) {
            Ok(files) => {
                for (path, content) in files {
                    if tree.original(&path) == Some(content.as_bytes()) {
                        wrong.push(format!("[{}] changes nothing", entry.name));
                    }
                }
            }
            Err(why) => wrong.push(format!("[{}] {why}", entry.name)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} entries do not fit the source any more; write them anew:\n{}",
        wrong.len(),
        entries.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_known_bug_in_reach_has_an_entry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = zoo::load(&root).unwrap_or_else(|error| panic!("{error}"));
    // What is not built yet (slices, collection, changing membership, forwarding) and what is the
    // stores' (reading a damaged log) is not here.
    let rows = [
        1, 2, 3, 7, 8, 9, 10, 12, 13, 14, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28, 36, 37, 38, 39,
        40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 54, 60, 61, 63, 64, 67, 69, 70, 71, 72, 73, 74,
        81,
    ];
    let missing: Vec<String> = rows
        .iter()
        .map(|row| format!("Z{row}"))
        .filter(|row| !entries.iter().any(|entry| entry.row.as_ref() == Some(row)))
        .collect();
    assert!(missing.is_empty(), "rows without an entry: {missing:?}");
    let own = entries.iter().filter(|entry| entry.row.is_none() && !entry.harmless);
    assert!(own.count() >= 15, "too few entries of our own");
}

#[test]
fn a_copy_keeps_nothing_of_an_earlier_one() {
    let home = std::env::temp_dir().join(format!("synod-zoo-copy-{}", std::process::id()));
    let (source, copy) = (home.join("source"), home.join("copy"));
    let write = |path: &str| {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("written");
        std::fs::write(path, "").expect("written");
    };
    write("sim/zoo/entries.txt");
    write("src/part.rs");
    Tree::new(&source, &copy).expect("copied");
    assert!(copy.join("src/part.rs").is_file());
    std::fs::remove_file(source.join("src/part.rs")).expect("removed");
    write("src/part/mod.rs");
    Tree::new(&source, &copy).expect("copied again");
    assert!(copy.join("src/part/mod.rs").is_file());
    assert!(!copy.join("src/part.rs").exists(), "found twice by the compiler");
    std::fs::remove_dir_all(home).expect("removed");
}
