//! A run as lines for people: one aligned line an event.
//!
//! Must never know: whether what happened was right.

use std::io::{self, Write};

use super::recording::Moment;
use super::style::{Ink, Style};
use crate::plan::Nanos;
use crate::world::EventKind;

/// How much of a run to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything, each message as it is sent and as it arrives.
    Every,
    /// What clients ask and are told, what goes wrong, who stops and starts.
    Outline,
    /// That, and every message that arrives or is lost, but for heartbeats.
    Protocol,
}

/// Whether an event is of this detail.
#[must_use]
pub fn tells(detail: Detail, moment: &Moment) -> bool {
    match moment.kind {
        EventKind::Deliver { .. } | EventKind::Drop { .. } => match detail {
            Detail::Every => true,
            Detail::Outline => false,
            Detail::Protocol => !moment.text.contains("Heartbeat"),
        },
        EventKind::Persist | EventKind::Persisted | EventKind::Send { .. } | EventKind::Timeout => {
            detail == Detail::Every
        }
        EventKind::Down
        | EventKind::Fail
        | EventKind::Fault
        | EventKind::Notify
        | EventKind::Phase
        | EventKind::Reply
        | EventKind::Request
        | EventKind::Start
        | EventKind::Stop => true,
    }
}

/// Tells the moments.
///
/// # Errors
/// If `out` cannot be written.
pub fn tell(
    moments: &[Moment],
    forgotten: u64,
    detail: Detail,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    if forgotten > 0 {
        writeln!(out, "… {forgotten} events before these are not shown")?;
    }
    for moment in moments.iter().filter(|moment| tells(detail, moment)) {
        line(moment, style, out)?;
    }
    Ok(())
}

fn line(moment: &Moment, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let node = moment.node.map_or_else(String::new, |node| node.to_string());
    let (verb, ink) = look(moment.kind);
    let from = if let EventKind::Drop { from, .. } = moment.kind {
        format!(" from {from}")
    } else {
        String::new()
    };
    writeln!(
        out,
        "{:>13} {}  {node:<4} {}",
        clock(moment.at),
        style.paint(Ink::Dim, format!("{:>6}", moment.step)),
        style.paint(ink, format!("{verb}{}{from}", moment.text)),
    )
}

/// A moment of true time: seconds with microseconds.
#[must_use]
pub fn clock(at: Nanos) -> String {
    format!("{}.{:06}s", at / 1_000_000_000, at / 1_000 % 1_000_000)
}

/// What makes a sentence of an event's text, and how it looks.
const fn look(kind: EventKind) -> (&'static str, Ink) {
    match kind {
        EventKind::Deliver { .. } => ("gets ", Ink::Dim),
        EventKind::Drop { .. } => ("", Ink::Dim),
        EventKind::Send { .. } => ("sends ", Ink::Dim),
        EventKind::Persist | EventKind::Persisted | EventKind::Timeout => ("", Ink::Dim),
        EventKind::Reply => ("", Ink::Good),
        EventKind::Notify | EventKind::Request => ("", Ink::Strong),
        EventKind::Down | EventKind::Fault | EventKind::Phase | EventKind::Start => ("", Ink::Warn),
        EventKind::Stop => ("", Ink::Bad),
        EventKind::Fail => ("FAILS ", Ink::Bad),
    }
}
