//! synod beside etcd and Redis, on one machine in one run.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml` builds synod, starts three
//! nodes of it, three of etcd and one Redis, measures them in turn, prints tables, writes them as
//! JSON, and takes everything away again. On a shared machine trust the ratios: what is compared
//! was measured within the same seconds, several times, and the median is told.

mod grpc;
mod join;
mod load;
mod memory;
mod million;
mod primary;
mod resp;
mod speed;
mod systems;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value};

#[derive(Parser)]
#[command(about = "Measures synod beside etcd and Redis on this machine")]
struct Arguments {
    /// What to measure [default: all of it]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// synod's program [default: built from this repository]
    #[arg(long)]
    synod: Option<PathBuf>,
    /// Another build of synod, to be compared with instead of etcd and Redis; of speed only
    #[arg(long)]
    against: Option<PathBuf>,
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,
    /// Where state is kept while this runs; must be on a real disk
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Where the figures are written
    #[arg(long, default_value = "compare.json")]
    json: PathBuf,
    /// Seconds for which each load runs each time
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each load runs on each system; odd
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Only loads with so many clients
    #[arg(long)]
    clients: Vec<usize>,
    /// Seconds for which memory is watched, three times
    #[arg(long, default_value_t = 15)]
    watch: u64,
    /// How many keys a million are
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Puts and gets by number of clients
    Speed,
    /// Memory while a peer is stopped, and while a client never reads
    Memory,
    /// A million keys: time to load, memory, disk, restart
    Million,
    /// A primary table beside Redis with a replica and beside a table of registers
    Primary,
    /// Puts to a primary table of a million keys while a replica joins
    Join,
}

/// What the parts are told.
struct Plan {
    synod: PathBuf,
    against: Option<PathBuf>,
    etcd: PathBuf,
    redis: PathBuf,
    home: PathBuf,
    time: Duration,
    repeat: usize,
    clients: Vec<usize>,
    watch: u64,
    keys: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let synod = match &arguments.synod {
        Some(synod) => synod.clone(),
        None => build()?,
    };
    let home = tempfile::Builder::new().prefix("synod-compare-").tempdir_in(&arguments.dir)?;
    let plan = Plan {
        synod: fs::canonicalize(&synod)?,
        against: arguments.against.clone(),
        etcd: arguments.etcd.clone(),
        redis: arguments.redis.clone(),
        home: home.path().to_owned(),
        time: Duration::from_secs_f64(arguments.seconds),
        repeat: arguments.repeat,
        clients: arguments.clients.clone(),
        watch: arguments.watch,
        keys: arguments.keys,
    };
    let all = [Part::Speed, Part::Memory, Part::Million, Part::Primary, Part::Join];
    let parts = match &arguments.parts[..] {
        _ if arguments.against.is_some() => vec![Part::Speed],
        [] => all.to_vec(),
        parts => parts.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut json = Map::new();
    json.insert("machine".to_owned(), machine());
    let work = async {
        for part in parts {
            let (name, value) = match part {
                Part::Speed => ("speed", speed::run(&plan).await?),
                Part::Memory => ("memory", memory::run(&plan).await?),
                Part::Million => ("million", million::run(&plan).await?),
                Part::Primary => ("primary", primary::run(&plan).await?),
                Part::Join => ("join", join::run(&plan).await?),
            };
            json.insert(name.to_owned(), value);
            println!();
        }
        Ok::<_, io::Error>(())
    };
    // Whatever was started ends with the future that holds it.
    let work = async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => Err(io::Error::other("interrupted")),
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, work)?;
    fs::write(&arguments.json, serde_json::to_vec_pretty(&json)?)?;
    println!("figures in {}", arguments.json.display());
    Ok(())
}

/// Builds the server of this repository as it is released.
fn build() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building synod");
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--bin", "synod"])
        .current_dir(&root)
        .status()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    if status.success() {
        Ok(target.join("release/synod"))
    } else {
        Err(io::Error::other("synod does not build"))
    }
}

/// What was measured on.
fn machine() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo").lines().find_map(|line| {
        line.strip_prefix("model name").map(|rest| rest.trim_matches([' ', '\t', ':']).to_owned())
    });
    serde_json::json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": model,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").trim(),
    })
}

/// The middle one.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
