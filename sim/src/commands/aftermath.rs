//! What is done with a failing plan: it is shrunk, its story is told, and everything that somebody
//! needs who wants to understand and fix it is written into a folder.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Error;
use crate::campaign::{attempt, failure, reduce};
use crate::plan::Plan;
use crate::report::diagram::{self, Caption};
use crate::report::recording::{Moment, Recording};
use crate::report::rules;
use crate::report::story::{self, Detail};
use crate::report::style::{Ink, Style, grouped};
use crate::rig::Rig;
use crate::shrink::Shrunk;
use crate::world::{Failure, FailureKind};

/// What the folder is about.
#[derive(Debug)]
pub(super) struct Case {
    /// Items of the shrunk plan.
    pub(super) items: u64,
    /// Messages delivered in its run.
    pub(super) deliveries: u64,
    /// Where the shrunk plan is.
    pub(super) plan: PathBuf,
}

/// Beyond this many lines, a story is told in outline, and in full in the folder only.
const STORY_LINES_MAX: usize = 250;

/// What is to be examined, and how.
pub(super) struct Task<'a> {
    /// The plan, which fails.
    pub(super) plan: &'a Plan,
    /// How it fails.
    pub(super) failure: &'a Failure,
    /// What it was found by.
    pub(super) origin: &'a str,
    /// The folder of all failures.
    pub(super) folder: &'a Path,
    /// How many runs shrinking may take.
    pub(super) budget: u64,
    /// Whether to tell the story here, too.
    pub(super) told: bool,
}

/// Shrinks a failing plan, tells the story, writes the folder.
pub(super) fn examine(task: &Task<'_>, style: Style, out: &mut dyn Write) -> Result<Case, Error> {
    let &Task { plan, failure: found, origin, folder, budget, told } = task;
    writeln!(out, "\n{}  {}", style.paint(Ink::Bad, heading(found.kind)), found.signature)?;
    if let Some(words) = rules::in_words(found.rule) {
        writeln!(out, "  rule {}: {words}", found.rule)?;
    }
    writeln!(out, "  found by {origin}: {found}")?;
    writeln!(out, "  shrinking {} …", size(plan))?;
    out.flush()?;
    let shrunk = reduce(plan, &found.signature, budget);
    writeln!(out, "  {}", outcome_of(&shrunk, budget))?;
    let small = &shrunk.plan;
    let mut recording = Recording::default();
    let report = attempt(small, &mut recording);
    let Some(last) = failure(&report) else {
        return Err(Error::usage(format!(
            "the shrunk plan of {origin} passes when it is run again: runs are not deterministic; \
             try `--verify-determinism`"
        )));
    };
    if told {
        let tells = |moment: &&Moment| story::tells(Detail::Protocol, moment);
        let lines = recording.moments.iter().filter(tells).count();
        let detail = if lines > STORY_LINES_MAX { Detail::Outline } else { Detail::Protocol };
        writeln!(out)?;
        story::tell(&recording.moments, recording.forgotten, detail, style, out)?;
        writeln!(out, "\n{}  {last}", style.paint(Ink::Bad, heading(last.kind)))?;
    }
    let place = folder.join(format!("{}-{}", slug(&found.signature), plan.seed));
    let case = Case {
        items: small.items().len() as u64,
        deliveries: report.deliveries,
        plan: place.join("shrunk.plan"),
    };
    let command = format!("cargo sim replay{} {}", Rig::HERE.option(), case.plan.display());
    write_folder(&place, plan, small, last, &recording, &command)?;
    writeln!(out, "  replay it    {}", style.paint(Ink::Strong, &command))?;
    let diagram = place.join("diagram.html");
    writeln!(out, "  see it       {}", style.paint(Ink::Strong, diagram.display()))?;
    writeln!(
        out,
        "  keep it      {}",
        style.paint(Ink::Strong, format!("cp {} tests/plans/", case.plan.display()))
    )?;
    Ok(case)
}

const fn heading(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Crash => "CRASH",
        FailureKind::NoProgress => "NO PROGRESS",
        FailureKind::Unknown => "UNKNOWN",
        FailureKind::Violation => "VIOLATION",
    }
}

/// How large a plan is, in words.
pub(super) fn size(plan: &Plan) -> String {
    format!(
        "a plan of {} nodes, {} operations, {} faults",
        plan.cluster.nodes,
        plan.operations.len(),
        plan.faults.len()
    )
}

/// What shrinking came to, in words.
pub(super) fn outcome_of(shrunk: &Shrunk<Plan>, budget: u64) -> String {
    let runs = grouped(shrunk.runs);
    let end = if shrunk.exhausted {
        format!("the budget of {budget} runs is used up, so something may be left to drop")
    } else {
        format!("{runs} runs, and nothing more can be dropped")
    };
    format!("shrunk to {}: {end}", size(&shrunk.plan))
}

fn write_folder(
    folder: &Path,
    original: &Plan,
    small: &Plan,
    failure: &Failure,
    recording: &Recording,
    command: &str,
) -> Result<(), Error> {
    let put = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).map_err(|error| Error::file(&path, &error))
    };
    fs::create_dir_all(folder).map_err(|error| Error::file(folder, &error))?;
    put("original.plan", original.to_string().as_bytes())?;
    put("shrunk.plan", annotated(small, failure).as_bytes())?;
    put("regression.rs", regression(small, failure).as_bytes())?;
    let mut story = Vec::new();
    let all = &recording.moments;
    story::tell(all, recording.forgotten, Detail::Every, Style::PLAIN, &mut story)?;
    put("story.txt", &story)?;
    let words = rules::in_words(failure.rule).unwrap_or("see the message");
    let text = format!("{failure} - the rule: {words}.");
    let caption = Caption { title: &failure.signature, text: &text, command };
    put("diagram.html", diagram::draw(small, all, &caption).as_bytes())
}

/// The plan with what it is about above it: ready for `tests/plans`.
pub(super) fn annotated(plan: &Plan, failure: &Failure) -> String {
    let (mut head, body) = (String::new(), plan.to_string());
    // The first line of a plan is its version; comments go below it.
    let (first, rest) = body.split_once('\n').unwrap_or((&body, ""));
    let _ = writeln!(head, "{first}");
    let one_line = |text: &str| text.replace('\n', " ");
    let _ = writeln!(head, "# {}", one_line(&failure.signature));
    let _ = writeln!(head, "# {}", one_line(&failure.to_string()));
    if let Some(words) = rules::in_words(failure.rule) {
        let _ = writeln!(head, "# {}: {words}", failure.rule);
    }
    head.push_str(rest);
    head
}

/// A test that fails as long as the plan does.
fn regression(plan: &Plan, failure: &Failure) -> String {
    let name = slug(&failure.signature).replace('-', "_");
    let message = failure.message.replace('\n', " ");
    format!(
        "/// {message}\n#[test]\nfn {name}() {{\n    let plan: synod_sim::plan::Plan = \
         PLAN_{}.parse().unwrap();\n    let report = synod_sim::campaign::attempt(&plan, &mut \
         synod_sim::world::Blind);\n    assert_eq!(report.verdict, \
         synod_sim::world::Verdict::Pass);\n}}\n\nconst PLAN_{}: &str = r##\"{plan}\"##;\n",
        name.to_uppercase(),
        name.to_uppercase(),
    )
}

/// A signature as a file name.
fn slug(signature: &str) -> String {
    let mut slug = String::new();
    for letter in signature.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() >= 48 {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_makes_a_file_name() {
        assert_eq!(slug("W2: chosen `a` / then b!"), "w2-chosen-a-then-b");
        assert!(slug(&"long ".repeat(40)).len() <= 48);
    }
}
