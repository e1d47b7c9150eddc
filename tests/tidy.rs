//! The house rules that a machine can check. Each failure names the place and what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    /// From the root of the repository, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    /// Its lines, numbered from 1, without what stands behind `//`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(place, line)| (place + 1, line.split("//").next().unwrap_or_default()))
    }

    /// The same, up to the unit tests at the end.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take_while(|(_, line)| !line.contains("#[cfg(test)]"))
    }

    fn is_under(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let generated = ["target", "corpus", "artifacts", "histories"].contains(&name.as_str());
            if !generated && (!name.starts_with('.') || name == ".ci" || name == ".cargo") {
                collect(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// Every file of text with one of these endings, in order of paths.
fn sources(endings: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let wanted = paths.into_iter().filter(|path| {
        path.extension().is_some_and(|found| endings.iter().any(|ending| found == *ending))
    });
    wanted
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            let path = path.strip_prefix(root()).expect("under the root");
            Source { path: path.to_string_lossy().replace('\\', "/"), text }
        })
        .collect()
}

fn rust() -> Vec<Source> {
    let sources = sources(&["rs"]);
    assert!(sources.len() > 50, "the tree was not found");
    sources
}

#[track_caller]
fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}\n  {}\n", offences.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let offences: Vec<String> = rust()
        .iter()
        .filter(|source| {
            let mut lines = source.text.lines().filter(|line| !line.starts_with("#!["));
            !lines.next().is_some_and(|line| line.starts_with("//!"))
        })
        .map(|source| source.path.clone())
        .collect();
    report("open each file with `//!` and what it is for:", &offences);
}

/// Lines of the simulator and of the fuzzer that hold one long string; this may only go down.
const WIDE_IN_SIM_MAX: usize = 32;

#[test]
fn lines_are_at_most_a_hundred_wide() {
    let mut wide = Vec::new();
    for source in rust() {
        for (place, line) in source.text.lines().enumerate() {
            if line.chars().count() > 100 {
                wide.push(format!("{}:{}", source.path, place + 1));
            }
        }
    }
    let (sim, others): (Vec<String>, Vec<String>) =
        wide.into_iter().partition(|place| place.starts_with("sim/") || place.starts_with("fuzz/"));
    report(
        "break these lines at 100 columns (rustfmt leaves strings and comments alone):",
        &others,
    );
    if sim.len() > WIDE_IN_SIM_MAX {
        report("too many wide lines in the simulator; break the newest of these:", &sim);
    }
}

/// Where a run must be a function of its seed, and where nothing may know the outside.
const ENGINE: [&str; 1] = ["src/"];
const OUTSIDE: [&str; 5] = ["src/host/", "src/bin/", "src/cli/", "src/server/", "src/storage/"];
const RUN_PATH: [&str; 8] = [
    "sim/src/world/",
    "sim/src/oracle/",
    "sim/src/plan/",
    "sim/src/random.rs",
    "sim/src/chooser.rs",
    "sim/src/scenario.rs",
    "sim/src/trace.rs",
    "sim/src/marks.rs",
];

#[test]
fn nothing_asks_the_outside_world() {
    let banned = [
        ("Instant::now", "take `now` from the input (`base::Now`)"),
        ("SystemTime", "take `now.wall` from the input (`base::Wall`)"),
        ("thread::", "the engine and a run have one thread: return an effect"),
        ("thread_rng", "draw from the seeded generator (`base::Random`, `sim::random`)"),
        ("rand::rng()", "draw from the seeded generator (`base::Random`, `sim::random`)"),
        ("HashMap", "its order differs between runs: use `BTreeMap`"),
        ("HashSet", "its order differs between runs: use `BTreeSet`"),
        ("std::env::", "make it a field of the configuration or of the plan"),
        ("std::fs::", "return `Effect::Persist`, or let the command read the file"),
        ("std::net::", "return `Effect::Send`"),
    ];
    let mut offences = Vec::new();
    for source in rust() {
        let engine = source.is_under(&ENGINE) && !source.is_under(&OUTSIDE);
        if !engine && !source.is_under(&RUN_PATH) {
            continue;
        }
        for (place, line) in source.code() {
            for (word, instead) in banned {
                if line.contains(word) {
                    offences.push(format!("{}:{place}: {word}: {instead}", source.path));
                }
            }
        }
    }
    report("a run must be a function of its seed:", &offences);
}

#[test]
fn nothing_is_left_to_do() {
    // Written in two halves, or this file would find itself.
    let banned = [
        (concat!("TO", "DO"), "do it, or write an issue"),
        (concat!("FIX", "ME"), "do it, or write an issue"),
        (concat!("XX", "X"), "do it, or write an issue"),
        (concat!("db", "g!"), "use `tracing` in the engine, an assertion in a test"),
        (concat!("unimpl", "emented!"), "handle the case, or make it impossible by type"),
        (concat!("#[ign", "ore]"), "a test that does not run proves nothing: say who runs it when"),
    ];
    let mut offences = Vec::new();
    for source in rust() {
        for (place, line) in source.text.lines().enumerate() {
            for (word, instead) in banned {
                if line.contains(word) {
                    offences.push(format!("{}:{}: {word}: {instead}", source.path, place + 1));
                }
            }
        }
    }
    report("nothing unfinished is kept:", &offences);
}

#[test]
fn no_test_sleeps_or_looks_at_the_clock() {
    let mut offences = Vec::new();
    for source in rust() {
        let own = source.is_under(&["tests/"]) && source.path != "tests/tidy.rs";
        // Tests that start processes and threads have to wait for them.
        let waits = [
            "tests/host",
            "tests/examples.rs",
            "tests/hostile.rs",
            "tests/processes/",
            "tests/server.rs",
        ];
        if !own || source.is_under(&waits) {
            continue;
        }
        for (place, line) in source.code() {
            for word in ["thread::", "sleep(", "Instant::now", "SystemTime"] {
                if line.contains(word) {
                    offences.push(format!("{}:{place}: {word}", source.path));
                }
            }
        }
    }
    report("move the cluster's own clock instead (`Cluster::run`, `Cluster::step`):", &offences);
}

/// What each folder of the engine may import. Downwards only: what is lower knows less.
const EDGES: [(&str, &[&str]); 14] = [
    ("base", &[]),
    ("paxos", &["base"]),
    ("monitor", &["base", "paxos"]),
    // Beside `monitor`; its heartbeats carry what is known of a node's session.
    ("cluster", &["base", "paxos", "monitor"]),
    ("merged", &["base", "paxos", "monitor", "cluster"]),
    ("primary", &["base", "paxos", "monitor", "cluster"]),
    // What clients ask and are told is one vocabulary for all disciplines.
    ("consensus", &["base", "paxos", "monitor", "cluster", "merged", "primary"]),
    ("node", &["base", "paxos", "monitor", "cluster", "consensus", "merged", "primary"]),
    ("wire", &["base", "paxos", "monitor", "cluster", "consensus", "merged", "primary", "node"]),
    ("storage", &["base", "merged", "primary", "node", "wire"]),
    (
        "host",
        &[
            "base",
            // Its ballots are the generations and versions that applications see.
            "paxos",
            "monitor",
            "cluster",
            "consensus",
            "merged",
            "primary",
            "node",
            "wire",
            "storage",
        ],
    ),
    // Beside the host: bytes of clients, without sockets.
    ("resp", &["base", "paxos", "monitor", "merged", "primary", "consensus", "node"]),
    (
        "server",
        &[
            "base",
            "paxos",
            "monitor",
            "merged",
            "primary",
            "consensus",
            "node",
            "storage",
            "host",
            "resp",
        ],
    ),
    // A client knows the protocol only, and which server to start.
    ("cli", &["resp", "server"]),
];

/// The modules that a file imports from its own crate: `crate::x`, `crate::{x, y::…}`.
fn imports(source: &Source) -> BTreeSet<String> {
    let code: String = source.shipped().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let mut names: Vec<&str> = Vec::new();
        if let Some(group) = part.strip_prefix('{') {
            let (mut depth, mut start) = (0, 0);
            for (place, letter) in group.char_indices() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        names.push(&group[start..place]);
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.push(&group[start..place]);
                        start = place + 1;
                    }
                    _ => {}
                }
            }
        } else {
            names.push(part);
        }
        for name in names {
            let name = name.trim_start();
            let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            found.insert(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    found
}

#[test]
fn imports_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut offences = Vec::new();
    let mut edges = 0;
    for source in rust() {
        let Some(rest) = source.path.strip_prefix("src/") else { continue };
        let Some((folder, _)) = rest.split_once('/') else { continue };
        if folder == "bin" {
            continue;
        }
        let Some(lower) = allowed.get(folder) else {
            offences.push(format!("{}: give `{folder}` its place in EDGES", source.path));
            continue;
        };
        for module in imports(&source) {
            edges += 1;
            if module != folder && allowed.contains_key(&*module) && !lower.contains(&&*module) {
                offences.push(format!(
                    "{}: {folder} -> {module}; {folder} may import {}",
                    source.path,
                    if lower.is_empty() { "nothing".to_owned() } else { lower.join(", ") }
                ));
            }
        }
    }
    assert!(edges > 40, "the imports were not found: {edges}");
    report("imports point down only; move what is shared to the lower module:", &offences);
}

#[test]
fn the_imports_of_a_group_are_seen() {
    let text = "use crate::base::Key;\nuse crate::{paxos::{Ballot, Floor}, node, wire::{self}};\n\
                // use crate::host::Host;\n#[cfg(test)]\nuse crate::consensus::Cell;\n";
    let source = Source { path: String::new(), text: text.to_owned() };
    let expected = ["base", "node", "paxos", "wire"].map(str::to_owned);
    assert_eq!(imports(&source), BTreeSet::from(expected));
}

/// The numbers with this letter in a text, as whole words: `I4`, not `P-I4` or `I4a`.
fn numbers(text: &str, letter: char) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let bytes = text.as_bytes();
    let is_word = |place: usize| {
        bytes.get(place).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    for (place, _) in text.match_indices(letter) {
        let digits: String =
            text[place + 1..].chars().take_while(char::is_ascii_digit).take(3).collect();
        let joined = place > 0 && (is_word(place - 1) || bytes[place - 1] == b'-');
        if !joined && !digits.is_empty() && !is_word(place + 1 + digits.len()) {
            found.extend(digits.parse::<u32>());
        }
    }
    found
}

fn defined(letter: char) -> BTreeSet<u32> {
    let text = fs::read_to_string(root().join("docs/INVARIANTS.md")).expect("the invariants");
    let start = format!("- **{letter}");
    let entries = text.lines().filter_map(|line| line.strip_prefix(&start));
    entries.filter_map(|rest| rest.split('*').next().unwrap_or_default().parse().ok()).collect()
}

fn cited(letter: char, folders: &[&str]) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for source in rust() {
        if source.is_under(folders) && source.path != "tests/tidy.rs" {
            for number in numbers(&source.text, letter) {
                found.entry(number).or_insert_with(|| source.path.clone());
            }
        }
    }
    found
}

#[test]
fn every_invariant_is_cited_and_every_citation_is_one() {
    let defined_here = defined('I');
    let cited_somewhere = cited('I', &["src/", "tests/"]);
    assert!(defined_here.len() > 10, "the invariants were not found");
    let nowhere: Vec<String> = defined_here
        .iter()
        .filter(|number| !cited_somewhere.contains_key(number))
        .map(|number| format!("I{number}"))
        .collect();
    report("cite these of docs/INVARIANTS.md where they are kept or tested:", &nowhere);
    let unknown: Vec<String> = cited_somewhere
        .iter()
        .filter(|(number, _)| !defined_here.contains(number))
        .map(|(number, path)| format!("I{number} in {path}"))
        .collect();
    report("docs/INVARIANTS.md does not define these; number it there, or cite another:", &unknown);
}

#[test]
fn the_oracles_are_those_of_the_book() {
    for letter in ['W', 'L'] {
        let unknown: Vec<String> = cited(letter, &["sim/src/oracle/", "sim/src/report/rules.rs"])
            .into_iter()
            .filter(|(number, _)| !defined(letter).contains(number))
            .map(|(number, path)| format!("{letter}{number} in {path}"))
            .collect();
        report("docs/INVARIANTS.md does not define these oracles:", &unknown);
    }
    assert_eq!(defined('W'), (1..=14).collect());
    assert_eq!(defined('L'), (1..=10).collect());
}

/// Features of consensus tables that a test here has to cite: P-27..P-31 are the cluster's and the
/// host's.
fn features() -> Vec<String> {
    let numbers = (1..=26).chain(32..=35);
    let mut features: Vec<String> = numbers.map(|number| format!("P-{number:02}")).collect();
    features.extend(["A-15", "A-16", "A-41"].map(str::to_owned));
    features
}

#[test]
fn every_feature_is_cited_by_a_test() {
    let mut cited: BTreeMap<String, usize> = BTreeMap::new();
    for source in rust() {
        if !source.is_under(&["tests/"]) || source.path == "tests/tidy.rs" {
            continue;
        }
        // A citation is in the doc comment of a test, not in the heading of a file.
        for line in source.text.lines().filter(|line| line.trim_start().starts_with("/// ")) {
            for feature in features() {
                if line.contains(&feature) {
                    *cited.entry(feature).or_default() += 1;
                }
            }
        }
    }
    let missing: Vec<String> =
        features().into_iter().filter(|feature| !cited.contains_key(feature)).collect();
    report(
        "write a test that would fail without each of these, and cite it (`/// P-07: …`):",
        &missing,
    );
}

/// The names in backticks in the last column of the tables that begin with a feature's number.
fn shown_by(text: &str) -> Vec<&str> {
    let is_feature = |cell: &str| {
        let cell = cell.trim();
        cell.starts_with(['A', 'L', 'M', 'U']) && cell.as_bytes().get(1) == Some(&b'-')
    };
    let rows = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = rows.filter(|row| row.split('|').next().is_some_and(is_feature));
    let last = rows.filter_map(|row| row.split('|').next_back());
    let quoted = last.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    quoted.filter(|name| name.contains('_') && name.bytes().all(is_part)).collect()
}

#[test]
fn the_tests_that_show_features_are_there() {
    let sources = rust();
    let stem = |source: &Source| source.path.rsplit('/').next().map(str::to_owned);
    let mut known: BTreeSet<String> = sources.iter().filter_map(stem).collect();
    let marks = sources.iter().find(|source| source.path == "sim/src/marks.rs").expect("marks");
    known.extend(marks.text.split('"').skip(1).step_by(2).map(str::to_owned));
    for (_, line) in sources.iter().flat_map(Source::code) {
        let name = line.split_once("fn ").and_then(|(_, rest)| rest.split(['(', '<']).next());
        known.extend(name.map(str::to_owned));
    }
    let mut missing = Vec::new();
    for source in sources_of_features() {
        let names = shown_by(&source.text);
        assert!(names.len() > 30, "{}: {} names were found", source.path, names.len());
        let is_known = |name: &&str| known.contains(*name) || known.contains(&format!("{name}.rs"));
        let unknown = names.into_iter().filter(|name| !is_known(name));
        missing.extend(unknown.map(|name| format!("{}: {name}", source.path)));
    }
    report("these are said to show a feature, and there is no such test:", &missing);
}

fn sources_of_features() -> Vec<Source> {
    let mut found = sources(&["md"]);
    found.retain(|source| ["docs/MERGED.md", "docs/PRIMARY.md"].contains(&source.path.as_str()));
    assert_eq!(found.len(), 2, "the documents were not found");
    found
}

#[test]
fn nothing_tells_of_the_machine_it_was_written_on() {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/tm", "p/target"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("\\Us", "ers\\"),
        concat!("/Us", "ers/"),
        concat!("Co-Auth", "ored-By"),
    ];
    let mut offences = Vec::new();
    for source in sources(&["rs", "md", "toml", "txt", "yml", "yaml", "sh", "json"]) {
        for (place, line) in source.text.lines().enumerate() {
            for word in banned {
                if line.contains(word) {
                    offences.push(format!("{}:{}: {word}", source.path, place + 1));
                }
            }
        }
    }
    report("name paths from the root of the repository:", &offences);
}

/// Functions over 70 lines, and why they are one piece. The list may only get shorter; it stops
/// drift, and does not forbid the one dispatcher that wants to be long.
const LONG: [(&str, &str); 12] = [
    ("src/resp/plan.rs reply", "one arm for each form of reply"),
    ("tests/scenarios.rs obey", "one arm for each command of the scenarios' language"),
    ("sim/src/checker/case.rs load", "one arm for each kind of line"),
    ("sim/src/checker/explain.rs reason", "one arm for each kind of contradiction"),
    ("sim/src/checker/frontier/mod.rs expand", "the innermost loop of the search"),
    ("sim/src/checker/joint.rs search", "one loop over the states of all keys together"),
    ("sim/src/commands/zoo.rs run", "the course of one command from start to end"),
    ("sim/src/oracle/answers.rs check_outcome", "one arm for each outcome"),
    ("sim/src/report/summary.rs show", "one line after the other of one page"),
    ("sim/src/world/faults.rs apply_fault", "one arm for each kind of fault"),
    ("sim/src/plan/generate.rs plan", "draws every option of a plan, in the order they are kept"),
    ("sim/src/plan/generate.rs trouble", "one arm for each kind of trouble"),
];

const FUNCTION_MAX: usize = 70;

/// The functions of a file that rustfmt has laid out, and how many lines each takes.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut words = line.trim_start();
        for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
            words = words.strip_prefix(prefix).unwrap_or(words);
        }
        let Some(rest) = words.strip_prefix("fn ") else { continue };
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let name: String =
            rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        let close = format!("{indent}}}");
        if let Some(length) = lines[start..].iter().position(|line| **line == close) {
            found.push((name, length + 1));
        }
    }
    found
}

#[test]
fn functions_do_not_drift_longer() {
    let mut offences = Vec::new();
    let mut counted = 0;
    for source in rust() {
        for (name, length) in functions(&source) {
            counted += 1;
            let name = format!("{} {name}", source.path);
            if length > FUNCTION_MAX && !LONG.iter().any(|(known, _)| *known == name) {
                offences.push(format!("{name}: {length} lines"));
            }
        }
    }
    assert!(counted > 500, "the functions were not found: {counted}");
    report(
        "name a part of each, or add it to LONG with the reason that it is one piece:",
        &offences,
    );
}
