//! `check`: judges recorded histories, one line a history.
//!
//! It knows files, arguments and exit statuses; what is legal is the checker's business.

use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{Error, Status};
use crate::checker::{Judge, Options, Verdict};
use crate::history::read::Histories;
use crate::history::{History, Model};

/// Judges recorded histories, one line each: `FILE`, the verdict, the milliseconds it took.
///
/// Where there are several files, each is opened before the first is judged; what is wrong further
/// inside is found when it is reached.
#[derive(Args, Debug)]
#[command(after_help = "Exit status:
    0  every history is linearizable
    1  one is not, or is unknown: its budget ran out
    2  bad usage, or a file that cannot be understood

Examples:
  cargo sim generate --ops 100000 -o made.jsonl
  cargo sim check made.jsonl
  zcat recorded.jsonl.gz | cargo sim check -
  cargo sim check --explain recorded.edn")]
pub struct CheckArgs {
    /// Print, under a history that is not linearizable, the smallest part of it that is not
    #[arg(long)]
    explain: bool,
    /// Print that part as one JSON object a line instead of words
    #[arg(long, requires = "explain")]
    json: bool,
    /// The sequential specification, instead of what the file says
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// How many configurations may be tried for one history
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    budget: Option<u64>,
    /// Print after each line how long reading took, in milliseconds
    #[arg(long)]
    timing: bool,
    /// Files of histories: JSON lines, Jepsen register logs, EDN maps; - is standard input
    #[arg(required = true, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    files: Vec<String>,
}

/// Some ten seconds of searching: whoever judges a recorded history rather waits than not know.
const BUDGET: u64 = 100_000_000;

/// Judges the files. An unknown verdict is as little a pass as a violation.
///
/// # Errors
/// When a file cannot be understood, or nobody reads the output.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<Status, Error> {
    Ok(if judge_files(args, out)? { Status::Fine } else { Status::Violation })
}

fn judge_files(args: &CheckArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let model = match &args.model {
        None => None,
        Some(name) => Some(Model::parse(name).ok_or_else(|| {
            Error::usage(format!("--model: unknown model \"{name}\"; give one of {}", Model::NAMES))
        })?),
    };
    let options = Options { budget: args.budget.unwrap_or(BUDGET) };
    // A pipe can be opened once only, and a single file need not be.
    let is_pipe = |file: &str| {
        file == "-"
            || fs::metadata(file).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
    };
    for file in args.files.iter().skip(1).filter(|file| !is_pipe(file)) {
        Histories::open(file, model).map_err(Error::usage)?;
    }
    let mut judge = Judge::new();
    let mut all = true;
    for file in &args.files {
        let mut histories = Histories::open(file, model).map_err(Error::usage)?;
        let reading = Instant::now();
        let mut history = histories.next_history().map_err(Error::usage)?;
        let mut number = 0;
        let mut several = false;
        let mut read = reading.elapsed();
        while let Some(current) = history {
            let started = Instant::now();
            let verdict = judge.check(&current, &options);
            let taken = started.elapsed();
            let reading = Instant::now();
            history = histories.next_history().map_err(Error::usage)?;
            let next_read = reading.elapsed();
            several |= history.is_some();
            let name = if several { format!("{file}#{number}") } else { file.clone() };
            let word = match &verdict {
                Verdict::Linearizable(_) => "linearizable",
                Verdict::NotLinearizable { .. } => "not-linearizable",
                Verdict::Unknown { .. } => "unknown",
            };
            writeln!(out, "{name}\t{word}\t{:.3}", taken.as_secs_f64() * 1000.0)?;
            if args.timing {
                writeln!(out, "  read in {:.3} ms", read.as_secs_f64() * 1000.0)?;
            }
            all &= matches!(verdict, Verdict::Linearizable(_));
            if args.explain {
                explain(out, &mut judge, &current, &verdict, &options, args.json)?;
            }
            read = next_read;
            number += 1;
        }
    }
    Ok(all)
}

fn explain(
    out: &mut dyn Write,
    judge: &mut Judge,
    history: &History,
    verdict: &Verdict,
    options: &Options,
    json: bool,
) -> io::Result<()> {
    match verdict {
        Verdict::Linearizable(_) => Ok(()),
        Verdict::Unknown { key, window, frontier, budget } => {
            let key = history.key_name(*key);
            let (from, to) = window;
            writeln!(
                out,
                "  gave up on key {key} between {from} and {to}, with {frontier} configurations; \
                 try a larger --budget than {budget}"
            )
        }
        Verdict::NotLinearizable { key, .. } => {
            let Some(explanation) = judge.explain(history, options) else { return Ok(()) };
            if json {
                let text = serde_json::to_string(&explanation).map_err(io::Error::other)?;
                return writeln!(out, "{text}");
            }
            writeln!(out, "  key {}: {}", history.key_name(*key), explanation.reason)?;
            for line in &explanation.lines {
                writeln!(out, "    {line}")?;
            }
            if !explanation.minimal {
                writeln!(out, "    (a smaller set may do; the search for it was cut short)")?;
            }
            Ok(())
        }
    }
}
