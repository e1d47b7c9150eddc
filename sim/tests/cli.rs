//! The command line as a user meets it: what it prints, and what it exits with.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sim(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synod-sim"));
    command.args(args).stdin(Stdio::null()).env_remove("NO_COLOR");
    command.output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of this test's own.
fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli");
    fs::create_dir_all(&folder).expect("a folder for files");
    folder.join(name)
}

/// Bad usage: exit status 2, one line that says what is wrong.
fn assert_refused(args: &[&str], says: &str) {
    let output = sim(args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    assert!(said.starts_with("error: "), "{args:?}: {said}");
    assert!(said.contains(says), "{args:?}: {said:?} does not contain {says:?}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}: wrote before it refused: {}", stdout(&output));
}

#[test]
fn mistakes_are_named_in_one_line() {
    assert_refused(&["run", "--sedes", "0..5"], "--seeds");
    assert_refused(&["run", "--seeds", "9..3"], "the second number must be larger");
    assert_refused(&["run", "--seeds", "5..5"], "holds no seed");
    assert_refused(&["run", "--seeds", "-4..5"], "not a whole number");
    assert_refused(&["run", "--seeds", "five"], "A..B");
    assert_refused(&["run", "--seeds", "0..5", "--seed", "3"], "cannot be used with");
    assert_refused(&["run", "--seed", "minus"], "invalid");
    assert_refused(&["run", "--nodes", "0"], "1..=16");
    assert_refused(&["run", "--nodes", "17"], "1..=16");
    assert_refused(&["run", "--jobs", "0"], "--jobs");
    assert_refused(&["run", "--time", "-5s"], "longer than zero");
    assert_refused(&["run", "--time", "0s"], "longer than zero");
    assert_refused(&["run", "--time", "5"], "no unit");
    assert_refused(&["run", "--time", "5y"], "not a unit of time");
    assert_refused(&["run", "--shard", "3/2"], "no share 3 of 2");
    assert_refused(&["run", "--seeds", "0..2", "--shard", "1/5"], "too few seeds");
    assert_refused(&["run", "--scenario", "nonsense"], "cargo sim scenarios");
    assert_refused(&["run", "--resume", "/nonexistent/state.json"], "/nonexistent/state.json");
    assert_refused(&["run", "--seeds", "0..5", "-v"], "--seed");
    assert_refused(&["run", "--seeds", "0..5", "--against", "x"], "--verify-determinism");
    assert_refused(&["nonsense"], "nonsense");
    assert_refused(&["plan"], "--seed");
    assert_refused(&["replay"], "PLAN");
    assert_refused(&["replay", "/nonexistent.plan"], "/nonexistent.plan");
    assert_refused(&["zoo", "no-such-entry"], "cargo sim zoo --list");
    assert_refused(&["zoo", "--time", "soon"], "not a duration");
    assert_refused(&["merge"], "FILE");
}

/// What is too much, too little, or would be ignored is refused before anything is done or written.
#[test]
fn extremes_are_refused_before_anything_is_written() {
    for command in ["run", "zoo"] {
        assert_refused(&[command, "--time", "99999999999999h"], "at most 366d");
        assert_refused(&[command, "--time", "0.0000001ms"], "at least 1ms");
        assert_refused(&[command, "--jobs", "65535"], "1..=1024");
    }
    for ignored in [["--json", "x"], ["--time", "5s"], ["--jobs", "2"], ["--out", "x"]] {
        assert_refused(&[&["run", "--seed", "1"], &ignored[..]].concat(), "cannot be used with");
    }
    let verify = ["run", "--seeds", "0..2", "--verify-determinism"];
    let refused = |more: &[&str], says: &str| assert_refused(&[&verify, more].concat(), says);
    refused(&["--time", "5s"], "cannot be used with");
    refused(&["--shard", "1/9"], "too few seeds");
    refused(&["--against", "/nonexistent"], "not another build of this program");
    refused(&["--json", "/nonexistent/x.json"], "/nonexistent/x.json");
    assert_refused(&["check", "x", "--json"], "--explain");
    assert_refused(&["check", "x", "--budget", "0"], "--budget");
    assert_refused(&["check", ""], "FILE");
    assert_refused(&["generate", "--ops", "0"], "--ops");
    assert_refused(&["generate", "--plant", "two-winners"], "does not fit");
    let unplantable = ["generate", "--kind", "once", "--plant", "two-winners", "--ops", "1"];
    assert_refused(&unplantable, "found no place");
    let path = scratch("unplantable.jsonl");
    fs::write(&path, "precious").expect("written");
    let name = path.to_string_lossy().into_owned();
    assert_refused(&[&unplantable[..], &["-o", &name]].concat(), "found no place");
    assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
}

/// Files that are not there, not text, empty, folders: each is named, and nothing else is said.
#[test]
fn files_that_are_none_are_named() {
    let folder = scratch("a-folder");
    fs::create_dir_all(&folder).expect("made");
    let garbage = scratch("garbage");
    fs::write(&garbage, [0xff, 0xfe, 0x00, 0x80]).expect("written");
    let empty = scratch("empty");
    fs::write(&empty, "").expect("written");
    let good = scratch("good.jsonl");
    let good = good.to_string_lossy();
    let made = sim(&["generate", "--ops", "50", "-o", &good]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    for path in [&folder, &garbage, &empty, &scratch("nothing")] {
        let name = path.to_string_lossy();
        for command in ["replay", "shrink", "check", "merge"] {
            assert_refused(&[command, &name], &name);
        }
        assert_refused(&["run", "--resume", &name], &name);
        // Also behind one that could be judged.
        assert_refused(&["check", &good, &name], &name);
    }
    let name = folder.to_string_lossy();
    assert_refused(&["run", "--seeds", "0..2", "--json", &name], "this is a folder");
    assert_refused(&["generate", "-o", &name], "this is a folder");
    let inside = garbage.join("x");
    assert_refused(&["run", "--seeds", "0..2", "--out", &inside.to_string_lossy()], "is a file");
}

#[test]
fn a_malformed_plan_is_refused_with_its_line() {
    let good = stdout(&sim(&["plan", "--seed", "7", "--scenario", "register"]));
    let path = scratch("malformed.plan");
    let name = path.to_string_lossy().into_owned();
    let lines = good.lines().count();
    assert!(lines > 5, "{good}");
    fs::write(&path, format!("{good}nonsense 5\n")).expect("written");
    assert_refused(&["replay", &name], &format!("malformed.plan:{}: ", lines + 1));
    assert_refused(&["shrink", &name], &format!("malformed.plan:{}: ", lines + 1));
    fs::write(&path, "").expect("written");
    assert_refused(&["replay", &name], "malformed.plan");
    fs::write(&path, [0xff, 0xfe, 0x00]).expect("written");
    assert_refused(&["replay", &name], "malformed.plan");
}

#[test]
fn a_state_that_is_not_one_is_refused() {
    let path = scratch("not-a-state.json");
    fs::write(&path, "{\"seeds\": 5}").expect("written");
    let name = path.to_string_lossy().into_owned();
    assert_refused(&["run", "--resume", &name], "not-a-state.json");
    assert_refused(&["merge", &name], "not-a-state.json");
    campaign("altered.json", &["--seeds", "0..3"]);
    let good = scratch("altered.json");
    let text = fs::read_to_string(&good).expect("written");
    for (was, is, says) in [
        ("\"done\": 3", "\"done\": 18446744073709551615", "cannot be"),
        ("\"failures\": 0", "\"failures\": 4", "more failures than seeds"),
        ("\"wall_seconds\": ", "\"wall_seconds\": -", "seconds"),
        ("\"nodes\": null", "\"nodes\": 99", "1..=16"),
        ("\"format\": 1", "\"format\": 2", "run the campaign again"),
    ] {
        assert!(text.contains(was), "{was}");
        fs::write(&path, text.replace(was, is)).expect("written");
        assert_refused(&["merge", &name], says);
        assert_refused(&["run", "--resume", &name], says);
    }
    let good = good.to_string_lossy();
    assert_refused(&["merge", &good, &good], "each may count once");
}

#[test]
fn help_is_everywhere_and_has_examples() {
    for command in ["run", "check", "plan", "replay", "shrink", "merge", "zoo"] {
        let output = sim(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("Example"), "{command}");
    }
    let help = stdout(&sim(&["--help"]));
    assert!(help.contains("Exit status") && help.contains("no progress"), "{help}");
    assert_eq!(sim(&["--version"]).status.code(), Some(0));
    assert_eq!(sim(&["scenarios"]).status.code(), Some(0));
}

/// A JSON result of a small campaign.
fn campaign(name: &str, args: &[&str]) -> Value {
    let path = scratch(name);
    let _ = fs::remove_file(&path);
    let json = path.to_string_lossy().into_owned();
    let out = scratch(&format!("{name}.found")).to_string_lossy().into_owned();
    let mut all = vec!["run", "--json", &json, "--out", &out, "--progress", "never"];
    all.extend(args);
    let output = sim(&all);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let text = fs::read_to_string(&path).expect("the result was written");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn json_has_what_was_promised() {
    let result = campaign("promised.json", &["--seeds", "0..40"]);
    assert_eq!(result["seeds"], 40);
    assert_eq!(result["failures"], 0);
    assert_eq!(result["unknown"], 0);
    for field in ["wall_seconds", "seeds_per_second", "deliveries_per_second", "cpu_seconds"] {
        assert!(result[field].is_f64(), "{field}");
    }
    let hash = result["trace_hash"].as_str().expect("a string");
    assert_eq!(hash.len(), 32, "128 bits");
}

#[test]
fn jobs_and_shares_change_no_result() {
    let band = ["--seeds", "100..160"];
    let one = campaign("one.json", &[&band[..], &["--jobs", "1"]].concat());
    let two = campaign("two.json", &[&band[..], &["--jobs", "2"]].concat());
    for field in ["trace_hash", "seeds", "deliveries", "operations", "marks", "faults"] {
        assert_eq!(one[field], two[field], "{field}");
    }
    let files: Vec<String> = (1..=3)
        .map(|number| {
            let name = format!("share-{number}.json");
            campaign(&name, &[&band[..], &["--shard", &format!("{number}/3")]].concat());
            scratch(&name).to_string_lossy().into_owned()
        })
        .collect();
    let whole = scratch("whole.json");
    let name = whole.to_string_lossy().into_owned();
    let output = sim(&["merge", &files[0], &files[1], &files[2], "--json", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = fs::read_to_string(&whole).expect("written");
    let whole: Value = serde_json::from_str(&text).expect("it is JSON");
    for field in ["trace_hash", "seeds", "deliveries", "marks"] {
        assert_eq!(whole[field], one[field], "{field}");
    }
}

#[test]
fn a_campaign_can_be_gone_on_with() {
    let whole = campaign("through.json", &["--seeds", "0..50"]);
    // As if it had been stopped after 20 of 50.
    campaign("stopped.json", &["--seeds", "0..20"]);
    let path = scratch("stopped.json");
    let text = fs::read_to_string(&path).expect("written");
    fs::write(&path, text.replace("\"seeds_to\": 20", "\"seeds_to\": 50")).expect("written");
    let name = path.to_string_lossy().into_owned();
    let output = sim(&["run", "--resume", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = fs::read_to_string(&path).expect("written back");
    let resumed: Value = serde_json::from_str(&text).expect("it is JSON");
    for field in ["trace_hash", "seeds", "done", "deliveries", "marks"] {
        assert_eq!(resumed[field], whole[field], "{field}");
    }
}

#[test]
fn a_printed_plan_replays_to_the_same_hash() {
    for scenario in ["swarm", "register", "erase", "free"] {
        let args = ["--seed", "11", "--scenario", scenario];
        let told = stdout(&sim(&[&["run"][..], &args].concat()));
        let path = scratch(&format!("printed-{scenario}.plan"));
        fs::write(&path, sim(&[&["plan"][..], &args].concat()).stdout).expect("written");
        let name = path.to_string_lossy().into_owned();
        let replayed = stdout(&sim(&["replay", &name]));
        let hash = |text: &str| {
            let at = text.find("trace hash ").expect("a hash") + "trace hash ".len();
            text[at..at + 32].to_owned()
        };
        assert_eq!(hash(&told), hash(&replayed), "{scenario}");
    }
}

#[test]
fn determinism_is_verified_against_other_processes() {
    let output = sim(&["run", "--seeds", "0..30", "--verify-determinism"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert_eq!(text.matches("equal").count(), 2, "{text}");
}

/// A build that differs in one event is found out, and the event is named.
#[cfg(unix)]
#[test]
fn a_difference_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = scratch("other-build");
    let real = env!("CARGO_BIN_EXE_synod-sim");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = hashes ]; then \"{real}\" \"$@\" | sed 's/^7 ./7 z/;s/z/0/' | sed \
         's/^7 .*/7 00000000000000000000000000000000/'\nelse \"{real}\" \"$@\" | sed '5s/$/ \
         altered/'\nfi\n"
    );
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    let name = path.to_string_lossy().into_owned();
    let args = ["run", "--seeds", "0..10", "--verify-determinism", "--against", &name];
    let output = sim(&args);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("seed 7 of"), "{text}");
    assert!(text.contains("the first difference is event 5"), "{text}");
    assert!(text.contains("step") && text.contains("time") && text.contains("altered"), "{text}");
}

#[test]
fn output_that_is_not_a_terminal_has_no_colour() {
    let output = sim(&["run", "--seeds", "0..5"]);
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b));
}

/// A plan that passes cannot be shrunk, and says so.
#[test]
fn only_failing_plans_are_shrunk() {
    let path = scratch("passing.plan");
    fs::write(&path, sim(&["plan", "--seed", "1", "--scenario", "calm"]).stdout).expect("written");
    assert_refused(&["shrink", &path.to_string_lossy()], "only a failing one");
}

#[test]
fn the_zoo_lists_its_entries() {
    let output = Command::new(env!("CARGO_BIN_EXE_synod-sim"))
        .args(["zoo", "--list", "Z1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(text.contains("promise-not-durable") && text.contains("1 entry"), "{text}");
}

#[test]
fn histories_are_read_from_standard_input_too() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let file = fs::File::open(folder.join("kv.linearizable.jsonl")).expect("opened");
    let output = Command::new(env!("CARGO_BIN_EXE_synod-sim"))
        .args(["check", "-"])
        .stdin(file)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("-\tlinearizable\t"), "{}", stdout(&output));
    assert_refused(&["check", "-"], "is empty"); // standard input is
}
