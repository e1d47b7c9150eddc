//! A run as a picture: a lane for each node, time going down, messages as arrows, faults shaded.
//!
//! One self-contained HTML file: no scripts, nothing loaded from anywhere. Rows are events, not
//! seconds: where nothing happens there is no room. What does not fit beside the picture shows when
//! the pointer rests on it.
//!
//! Must never know: whether what happened was right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use synod::NodeId;

use super::recording::Moment;
use super::story::{Detail, clock, tells};
use crate::plan::{Fault, Nanos, Plan, Trouble};
use crate::world::EventKind;

/// What stands above the picture.
#[derive(Clone, Debug)]
pub struct Caption<'a> {
    /// The title.
    pub title: &'a str,
    /// What happened and what should have, in a line or two.
    pub text: &'a str,
    /// The command that replays the run.
    pub command: &'a str,
}

/// The most rows: keeps the file well under a hundred kilobytes.
const ROWS_MAX: usize = 300;
/// Height of a row.
const ROW: usize = 18;
/// Where the lanes begin: left of it are the times.
const LEFT: usize = 96;
/// Between lanes.
const LANE: usize = 96;
/// Above the first row.
const TOP: usize = 34;
/// The most letters of text beside a row.
const TEXT_MAX: usize = 110;

/// The picture of a run of `plan`.
#[must_use]
pub fn draw(plan: &Plan, moments: &[Moment], caption: &Caption<'_>) -> String {
    let rows: Vec<usize> =
        (0..moments.len()).filter(|&place| tells(Detail::Protocol, &moments[place])).collect();
    let skipped = rows.len().saturating_sub(ROWS_MAX);
    let picture =
        Picture { plan, moments, rows: &rows[skipped..], nodes: usize::from(plan.cluster.nodes) };
    let mut html = String::with_capacity(64 << 10);
    let title = escaped(caption.title);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{}</p>\n<pre>{}</pre>\n",
        escaped(caption.text),
        escaped(caption.command),
    );
    if skipped > 0 {
        let _ = writeln!(html, "<p>The first {skipped} events are not drawn.</p>");
    }
    picture.draw(&mut html);
    let plan_text = escaped(&plan.to_string());
    let _ = write!(
        html,
        "<details><summary>The plan</summary><pre>{plan_text}</pre></details>\n</body></html>\n"
    );
    html
}

const STYLE: &str = "
:root{--ink:#1b1f24;--dim:#6b7480;--back:#fff;--lane:#c6ccd3;--msg:#3b6fb5;--lost:#c2410c;
--fault:#f59e0b;--down:#9ca3af;--bad:#c21f1f;--good:#15803d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--dim:#8c96a3;--back:#15181c;--lane:#444b54;
--msg:#7aa7e8;--lost:#fb923c;--fault:#f59e0b;--down:#4b5563;--bad:#f87171;--good:#4ade80}}
body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:24px}
h1{font-size:18px;margin:0 0 4px}pre{font:12px/1.4 ui-monospace,monospace;color:var(--dim);
white-space:pre-wrap}svg{font:11px ui-monospace,monospace;display:block}
text{fill:var(--ink)}.t,.d{fill:var(--dim)}.l{stroke:var(--lane)}
.m{stroke:var(--msg);fill:none}.x{stroke:var(--lost);fill:none;stroke-dasharray:4 3}
.f{fill:var(--fault);opacity:.16}.f:hover{opacity:.35}.o{fill:var(--down);opacity:.35}
.b{fill:var(--bad)}.g{fill:var(--good)}.k{fill:var(--msg)}.w{fill:var(--fault)}
g:hover .m,g:hover .x{stroke-width:3}g:hover text{font-weight:bold}
";

struct Picture<'a> {
    plan: &'a Plan,
    moments: &'a [Moment],
    /// The places in `moments` of the events that have a row.
    rows: &'a [usize],
    nodes: usize,
}

impl Picture<'_> {
    const fn x(node: usize) -> usize {
        LEFT + LANE / 2 + (node - 1) * LANE
    }

    const fn y(row: usize) -> usize {
        TOP + row * ROW + ROW / 2
    }

    const fn height(&self) -> usize {
        TOP + (self.rows.len() + 1) * ROW
    }

    /// The row of the first event drawn at `at` or later.
    fn row_at(&self, at: Nanos) -> usize {
        self.rows.partition_point(|&place| self.moments[place].at < at)
    }

    fn draw(&self, html: &mut String) {
        let text_x = LEFT + self.nodes * LANE + 8;
        let width = text_x + TEXT_MAX * 7;
        let height = self.height();
        let _ = write!(
            html,
            "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
             markerHeight=\"7\" orient=\"auto-start-reverse\"><path d=\"M0 0L8 4L0 8z\" \
             class=\"k\"/></marker></defs>\n"
        );
        self.draw_faults(html);
        self.draw_lanes(html);
        let sent = self.sent();
        for (row, &place) in self.rows.iter().enumerate() {
            self.draw_row(row, &self.moments[place], &sent, text_x, html);
        }
        html.push_str("</svg>\n");
    }

    fn draw_faults(&self, html: &mut String) {
        for fault in &self.plan.faults {
            let top = TOP + self.row_at(fault.at) * ROW;
            let bottom = TOP + self.row_at(fault.at.saturating_add(fault.lasts)) * ROW;
            let (left, width) = place_of(fault, self.nodes);
            let _ = writeln!(
                html,
                "<rect class=\"f\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{}\">\
                 <title>{}</title></rect>",
                bottom.saturating_sub(top).max(3),
                escaped(&fault.to_string()),
            );
        }
    }

    /// The lanes, dark while their node is down.
    fn draw_lanes(&self, html: &mut String) {
        let bottom = self.height();
        for node in 1..=self.nodes {
            let x = Self::x(node);
            let _ = writeln!(
                html,
                "<text x=\"{x}\" y=\"18\" text-anchor=\"middle\">node {node}</text>\
                 <path class=\"l\" d=\"M{x} 26V{bottom}\"/>"
            );
        }
        let mut down: BTreeMap<usize, usize> = BTreeMap::new();
        let mut off = |node: usize, from: usize, to: usize| {
            let x = Self::x(node) - 7;
            let height = to.saturating_sub(from).max(3);
            let _ = writeln!(
                html,
                "<rect class=\"o\" x=\"{x}\" y=\"{from}\" width=\"14\" height=\"{height}\"><title>\
                 node {node} is down</title></rect>"
            );
        };
        for (row, &place) in self.rows.iter().enumerate() {
            let moment = &self.moments[place];
            let Some(node) = moment.node.map(|node| usize::from(node.0)) else {
                continue;
            };
            if moment.kind == EventKind::Stop {
                down.entry(node).or_insert_with(|| Self::y(row));
            } else if moment.kind == EventKind::Start
                && let Some(from) = down.remove(&node)
            {
                off(node, from, Self::y(row));
            }
        }
        down.into_iter().for_each(|(node, from)| off(node, from, bottom));
    }

    /// For each message, the row during which it was sent.
    fn sent(&self) -> BTreeMap<u64, usize> {
        let first = self.rows.first().copied().unwrap_or(0);
        let mut sent = BTreeMap::new();
        let mut row = 0;
        for (place, moment) in self.moments.iter().enumerate().skip(first) {
            if self.rows.get(row + 1) == Some(&place) {
                row += 1;
            }
            if let EventKind::Send { message, .. } = moment.kind {
                sent.insert(message, row);
            }
        }
        sent
    }

    fn draw_row(
        &self,
        row: usize,
        moment: &Moment,
        sent: &BTreeMap<u64, usize>,
        text_x: usize,
        html: &mut String,
    ) {
        let y = Self::y(row);
        let base = y + 4;
        let short: String = moment.text.chars().take(TEXT_MAX).collect();
        // What has no room beside the picture shows when the pointer rests on it.
        let full = if short.len() < moment.text.len() { moment.text.as_str() } else { "" };
        let full = escaped(full);
        let class = class(moment.kind);
        let node = moment.node.map(|node| usize::from(node.0));
        let _ = write!(
            html,
            "<g><title>event {} {full}</title><text class=\"t\" x=\"4\" y=\"{base}\">{}</text>",
            moment.step,
            clock(moment.at),
        );
        let message = message_of(moment.kind);
        match (message, node) {
            (Some((message, from, line)), Some(to)) => {
                let from = Self::x(usize::from(from.0).clamp(1, self.nodes.max(1)));
                let start = sent.get(&message).map_or(TOP - 6, |row| Self::y(*row));
                let mut to = Self::x(to.clamp(1, self.nodes.max(1)));
                let mut end = y;
                if line == "x" {
                    // Lost on the way: it ends before it arrives.
                    to = (from + 3 * to) / 4;
                    end = (start + 3 * y) / 4;
                }
                let marker = if line == "m" { " marker-end=\"url(#a)\"" } else { "" };
                let _ = write!(
                    html,
                    "<path class=\"{line}\" d=\"M{from} {start}L{to} {end}\"{marker}/>"
                );
            }
            (None, Some(node)) => {
                let x = Self::x(node.clamp(1, self.nodes.max(1)));
                let _ = write!(html, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>");
            }
            (_, None) => {
                let end = text_x - 8;
                let _ = write!(html, "<path class=\"l\" d=\"M{LEFT} {y}H{end}\"/>");
            }
        }
        let _ = writeln!(
            html,
            "<text class=\"{class}\" x=\"{text_x}\" y=\"{base}\">{}</text></g>",
            escaped(&short)
        );
    }
}

/// Where a fault is shaded: the lane of its node, or all of them.
const fn place_of(fault: &Fault, nodes: usize) -> (usize, usize) {
    let node = match fault.trouble {
        Trouble::Crash(node, _)
        | Trouble::DiskFull(node)
        | Trouble::Drift(node, _)
        | Trouble::Freeze(node)
        | Trouble::Jump(node, _)
        | Trouble::Pause(node)
        | Trouble::Rot(node)
        | Trouble::Skew(node, _)
        | Trouble::SlowDisk(node, _)
        | Trouble::Wipe(node)
        | Trouble::WriteError(node) => node as usize,
        Trouble::Client(_)
        | Trouble::Clog(_)
        | Trouble::Delay(..)
        | Trouble::Duplicate(..)
        | Trouble::Hint(..)
        | Trouble::Loss(..)
        | Trouble::Partition(..)
        | Trouble::PowerCut(_)
        | Trouble::Queue(..)
        | Trouble::Reorder(..) => 0,
    };
    if node == 0 { (LEFT, nodes * LANE) } else { (LEFT + (node - 1) * LANE, LANE) }
}

/// The message that arrives or is lost, from whom, and how its line looks.
const fn message_of(kind: EventKind) -> Option<(u64, NodeId, &'static str)> {
    match kind {
        EventKind::Deliver { message, from, .. } => Some((message, from, "m")),
        EventKind::Drop { message, from } => Some((message, from, "x")),
        EventKind::Down
        | EventKind::Fail
        | EventKind::Fault
        | EventKind::Notify
        | EventKind::Persist
        | EventKind::Persisted
        | EventKind::Phase
        | EventKind::Reply
        | EventKind::Request
        | EventKind::Send { .. }
        | EventKind::Start
        | EventKind::Stop
        | EventKind::Timeout => None,
    }
}

const fn class(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Fail | EventKind::Stop => "b",
        EventKind::Fault | EventKind::Phase | EventKind::Start | EventKind::Down => "w",
        EventKind::Reply => "g",
        EventKind::Request | EventKind::Notify => "k",
        EventKind::Deliver { .. }
        | EventKind::Drop { .. }
        | EventKind::Persist
        | EventKind::Persisted
        | EventKind::Send { .. }
        | EventKind::Timeout => "d",
    }
}

fn escaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '"' => result.push_str("&quot;"),
            _ => result.push(letter),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(step: u64, node: u16, kind: EventKind, text: &str) -> Moment {
        Moment {
            at: step * 1_000,
            step,
            node: (node > 0).then_some(NodeId(node)),
            kind,
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_message_is_an_arrow_and_markup_is_escaped() {
        let moments = [
            moment(1, 1, EventKind::Request, "put k0 <b> & \"c\""),
            moment(2, 1, EventKind::Send { message: 7, to: NodeId(2) }, "Prepare"),
            moment(
                3,
                2,
                EventKind::Deliver { message: 7, from: NodeId(1), sent: 2_000 },
                "Prepare",
            ),
            moment(4, 0, EventKind::Phase, "liveness"),
        ];
        let caption = Caption { title: "W1", text: "t", command: "c" };
        let html = draw(&Plan::default(), &moments, &caption);
        assert!(html.contains("put k0 &lt;b&gt; &amp; &quot;c&quot;"));
        let (from, to) = (Picture::x(1), Picture::x(2));
        let arrow = format!("M{from} {}L{to} {}", Picture::y(0), Picture::y(1));
        assert!(html.contains(&arrow), "{arrow} in {html}");
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    }

    #[test]
    fn a_long_run_stays_small() {
        let text = "Promise t0/k0 b=1:9.2.1 accepted=(1:8.1.1 some value) chosen".repeat(2);
        let kind = EventKind::Deliver { message: 1, from: NodeId(1), sent: 0 };
        let moments: Vec<Moment> = (0..5_000).map(|step| moment(step, 2, kind, &text)).collect();
        let caption = Caption { title: "t", text: "t", command: "c" };
        let html = draw(&Plan::default(), &moments, &caption);
        assert!(html.len() < 150_000, "{} bytes", html.len());
        assert!(html.contains("The first 4700 events are not drawn."));
    }
}
