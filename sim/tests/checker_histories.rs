//! Histories with known verdicts: a few that are stored here, and many recorded ones, where they are
//! at hand.
//!
//! `SYNOD_HISTORIES` names the folder of those; without it they are looked for beside the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synod_sim::checker::{Judge, Options, Verdict};
use synod_sim::history::read::Histories;

fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("SYNOD_HISTORIES").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/histories");
    let folder = given.unwrap_or(beside);
    folder.is_dir().then_some(folder)
}

fn judge_file(judge: &mut Judge, path: &Path, expected: Option<bool>) -> usize {
    let name = path.display().to_string();
    let mut histories = Histories::open(&name, None).unwrap_or_else(|error| panic!("{error}"));
    let mut count = 0;
    while let Some(history) = histories.next_history().unwrap_or_else(|error| panic!("{error}")) {
        let expected = expected.or(history.expect).expect("an expected verdict");
        let legal = match judge.check(&history, &Options::default()) {
            Verdict::Linearizable(_) => true,
            Verdict::NotLinearizable { .. } => false,
            Verdict::Unknown { .. } => panic!("{name}#{count}: undecided"),
        };
        assert_eq!(legal, expected, "{name}#{count}");
        count += 1;
    }
    count
}

/// Those in `tests/histories`, each named for its verdict.
#[test]
fn stored_histories_are_judged_as_they_are_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut judge = Judge::new();
    let (mut legal, mut illegal) = (0, 0);
    for entry in folder.read_dir().expect("stored histories") {
        let path = entry.expect("a file").path();
        let name = path.to_string_lossy().into_owned();
        let expected = !name.contains(".not-linearizable.");
        assert!(name.contains("linearizable."), "{name}: its name says no verdict");
        let count = judge_file(&mut judge, &path, Some(expected));
        *(if expected { &mut legal } else { &mut illegal }) += count;
    }
    assert!(legal > 0 && illegal > 0, "{legal} legal, {illegal} illegal: there must be both");
}

#[test]
fn recorded_histories_are_judged_as_known() {
    let Some(folder) = folder() else {
        println!("skipped: no recorded histories here; name their folder in SYNOD_HISTORIES");
        return;
    };
    let verdicts = std::fs::read_to_string(folder.join("verdicts.tsv")).expect("verdicts.tsv");
    let mut files: BTreeMap<PathBuf, Option<bool>> = BTreeMap::new();
    for line in verdicts.lines().skip(1).filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        files.insert(folder.join(fields[0]), Some(fields[3] == "linearizable"));
    }
    for entry in folder.join("generated").read_dir().expect("generated histories") {
        files.insert(entry.expect("a file").path(), None);
    }
    let mut judge = Judge::new();
    let counts = files.iter().map(|(path, expected)| judge_file(&mut judge, path, *expected));
    let count: usize = counts.sum();
    assert!(count >= 500, "only {count} histories were found");
}
