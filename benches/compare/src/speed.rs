//! Puts and gets, by number of clients.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::load::{Figures, KEYS, Shape, System, VALUE, Work, fill, measure};
use crate::systems::{self, Server};
use crate::{Plan, median};

const SHAPES: [Shape; 6] = [
    Shape { clients: 1, pipelined: 1 },
    Shape { clients: 16, pipelined: 1 },
    Shape { clients: 64, pipelined: 1 },
    Shape { clients: 256, pipelined: 1 },
    Shape { clients: 1, pipelined: 16 },
    Shape { clients: 16, pipelined: 16 },
];

/// One line: a system, and the one it is compared with.
#[derive(Serialize)]
struct Line {
    work: Work,
    shape: Shape,
    system: System,
    ours: Figures,
    other: System,
    theirs: Figures,
    /// Medians of ratios within one repetition.
    rate_ratio: f64,
    p50_ratio: f64,
    p99_ratio: f64,
}

pub(crate) async fn run(plan: &Plan) -> io::Result<Value> {
    let ours = systems::synod(&plan.synod, &plan.home).await?;
    if let Some(before) = &plan.against {
        return against(plan, &ours, before).await;
    }
    let etcd = systems::etcd(&plan.etcd, &plan.home).await?;
    let redis = systems::redis(&plan.redis, &plan.home).await?;
    fill(System::Synod, ours[0].clients, None, KEYS).await?;
    fill(System::Synod, ours[0].clients, Some(b"once"), KEYS).await?;
    fill(System::Etcd, etcd[0].clients, None, KEYS).await?;
    fill(System::Redis, redis[0].clients, None, KEYS).await?;
    println!(
        "{KEYS} keys of 16 bytes, values of {} bytes; three nodes, clients at one (of etcd: the \
         leader).\nA put is answered when a majority has it on disk: synod has synced its log for \
         the promise and\nfor the value, etcd its log for the entry. Redis keeps nothing on disk.\n\
         cpu: microseconds of all servers for each operation; sleeps: of their threads.\n",
        VALUE.len(),
    );
    let (ours, etcd, redis): (Side<'_>, Side<'_>, Side<'_>) =
        ((System::Synod, &ours), (System::Etcd, &etcd), (System::Redis, &redis));
    let works = [
        (Work::Put, ours, etcd),
        (Work::Get, ours, etcd),
        (Work::Local, ours, etcd),
        (Work::Local, ours, redis),
        (Work::Permanent, ours, redis),
    ];
    all(plan, &works).await
}

/// The same of another build.
async fn against(plan: &Plan, ours: &[Server], before: &Path) -> io::Result<Value> {
    let home = plan.home.join("before");
    std::fs::create_dir(&home)?;
    let theirs = systems::synod(before, &home).await?;
    for servers in [ours, &theirs] {
        fill(System::Synod, servers[0].clients, None, KEYS).await?;
    }
    let (ours, theirs): (Side<'_>, Side<'_>) = ((System::Synod, ours), (System::Before, &theirs));
    all(plan, &[Work::Put, Work::Get, Work::Local].map(|work| (work, ours, theirs))).await
}

/// One that is measured, and where.
pub(crate) type Side<'a> = (System, &'a [Server]);

/// Each work, and on which two.
pub(crate) async fn all(plan: &Plan, works: &[(Work, Side<'_>, Side<'_>)]) -> io::Result<Value> {
    let mut lines = Vec::new();
    for &(work, ours, theirs) in works {
        header(work, ours.0, theirs.0);
        for shape in SHAPES {
            if !plan.clients.is_empty() && !plan.clients.contains(&shape.clients) {
                continue;
            }
            let line = compare(plan, work, shape, ours, theirs).await?;
            print(&line);
            lines.push(line);
        }
        println!();
    }
    Ok(json!({
        "keys": KEYS,
        "value_bytes": VALUE.len(),
        "seconds": plan.time.as_secs_f64(),
        "repeat": plan.repeat,
        "lines": lines,
    }))
}

/// Both in turn, several times.
async fn compare(
    plan: &Plan,
    work: Work,
    shape: Shape,
    (system, ours): Side<'_>,
    (other, theirs): Side<'_>,
) -> io::Result<Line> {
    let mut pairs = Vec::new();
    for _ in 0..plan.repeat.max(1) {
        let first = measure(system, ours, work, shape, plan.time).await?;
        let second = measure(other, theirs, work, shape, plan.time).await?;
        pairs.push((first, second));
    }
    let ratio = |of: fn(&Figures) -> f64| median(pairs.iter().map(|(a, b)| of(a) / of(b)));
    Ok(Line {
        work,
        shape,
        system,
        ours: middle(pairs.iter().map(|pair| pair.0)),
        other,
        theirs: middle(pairs.iter().map(|pair| pair.1)),
        rate_ratio: ratio(|figures| figures.rate),
        p50_ratio: ratio(|figures| figures.p50),
        p99_ratio: ratio(|figures| figures.p99),
    })
}

/// The median of each figure.
fn middle(all: impl Iterator<Item = Figures> + Clone) -> Figures {
    let of = |of: fn(&Figures) -> f64| median(all.clone().map(|figures| of(&figures)));
    Figures {
        rate: of(|figures| figures.rate),
        p50: of(|figures| figures.p50),
        p99: of(|figures| figures.p99),
        processor: of(|figures| figures.processor),
        loader: of(|figures| figures.loader),
        sleeps: of(|figures| figures.sleeps),
    }
}

fn header(work: Work, ours: System, theirs: System) {
    let work = match work {
        Work::Put => "put",
        Work::Get => "linearizable get",
        Work::Local => "local get",
        Work::Permanent => "get of a permanent value",
    };
    println!("{:<24} {:^38} {:^38} {:^21}", work, ours.name(), theirs.name(), "one / other");
    let side =
        format!("{:>8} {:>7} {:>8} {:>6} {:>5}", "op/s", "p50 us", "p99 us", "cpu", "sleeps");
    println!("{:<24} {side} {side} {:>6} {:>6} {:>6}", "clients", "op/s", "p50", "p99");
}

fn print(line: &Line) {
    let shape = match line.shape {
        Shape { clients, pipelined: 1 } => format!("{clients}"),
        Shape { clients, pipelined } => format!("{clients}, pipelined {pipelined}"),
    };
    let side = |f: &Figures| {
        format!(
            "{:>8.0} {:>7.0} {:>8.0} {:>6.1} {:>6.2}",
            f.rate, f.p50, f.p99, f.processor, f.sleeps
        )
    };
    println!(
        "{shape:<24} {} {} {:>6.2} {:>6.2} {:>6.2}",
        side(&line.ours),
        side(&line.theirs),
        line.rate_ratio,
        line.p50_ratio,
        line.p99_ratio,
    );
}
