//! `generate`: makes histories to judge, legal or with a planted violation.
//!
//! It knows arguments and files; what is legal is the generator's business.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Error, Status};
use crate::history::generate::{Kind, Plant, Recipe, write};

/// The arguments of `generate`.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// What the clients do: regu, regs, casu (registers: distinct values, five values, with
    /// compare-and-set), kv, once, erase, bound
    #[arg(long, value_name = "KIND", default_value = "kv", value_parser = kind)]
    kind: Kind,
    /// How many operations
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=OPS_MAX))]
    ops: u64,
    /// How many clients at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// How many keys; 1 for registers and 10 for the others if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: Option<u32>,
    /// The share of operations whose outcome stays unknown, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    unknown: f64,
    /// Plant a violation: stale-read, lost-update, resurrected, two-winners, absent, future-read,
    /// unwritten
    #[arg(long, value_name = "VIOLATION", value_parser = plant)]
    plant: Option<Plant>,
    /// Everything drawn is drawn from this
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The file to write, standard output if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The most operations of a made history: some terabytes of text.
const OPS_MAX: u64 = 10_000_000_000;

fn named<T: Copy>(all: &[(&str, T)], name: &str) -> Result<T, String> {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    all.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("give one of {}", names.join(", ")))
}

fn kind(name: &str) -> Result<Kind, String> {
    named(&Kind::ALL, name)
}

fn plant(name: &str) -> Result<Plant, String> {
    named(&Plant::ALL, name)
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "give a number from 0 to 1".to_owned())
}

/// Makes one history.
///
/// # Errors
/// When the violation does not fit the kind or found no place, or the output cannot be written.
pub fn run(args: &GenerateArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let registers = matches!(args.kind, Kind::Casu | Kind::Regs | Kind::Regu);
    let recipe = Recipe {
        kind: args.kind,
        ops: args.ops,
        clients: args.clients,
        keys: args.keys.unwrap_or(if registers { 1 } else { 10 }),
        unknown: args.unknown,
        plant: args.plant,
        seed: args.seed,
    };
    if let Some(plant) = args.plant
        && !plant.fits(args.kind)
    {
        let fitting = Plant::ALL.iter().filter(|(_, other)| other.fits(args.kind));
        let names: Vec<&str> = fitting.map(|(name, _)| *name).collect();
        return Err(Error::usage(format!(
            "--plant: does not fit this kind of history; give one of {}",
            names.join(", ")
        )));
    }
    // What is made is a function of the recipe: so it is known before the first byte is written, and
    // nothing is left behind, whether the violation finds a place.
    if recipe.plant.is_some() && !write(&recipe, &mut io::sink())? {
        return Err(Error::usage(
            "--plant: found no place for the violation; give more --ops, or another --seed",
        ));
    }
    match &args.output {
        None => {
            let mut out = BufWriter::with_capacity(1 << 16, out);
            write(&recipe, &mut out)?;
            out.flush()?;
        }
        Some(path) => {
            let file = File::create(path).map_err(|error| Error::file(path, &error))?;
            let mut out = BufWriter::with_capacity(1 << 16, file);
            let failed = |error| Error::file(path, &error);
            write(&recipe, &mut out).map_err(failed)?;
            out.flush().map_err(failed)?;
        }
    }
    Ok(Status::Fine)
}
