//! Directed links: latency, what faults do to them, and what is in flight.
//!
//! Faults act when a message would be delivered, so that they hit what is in flight.
//!
//! Must never know: what messages say.

use synod::Message;

use crate::oracle::Echo;
use crate::plan::{Cut, Fault, FaultKind, Links, Nanos, Nodes, Trouble};

/// All of a message in flight but what it says, which stays where it is until somebody reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) from: u16,
    pub(super) to: u16,
    /// Its number, for observers; a duplicate has its original's.
    pub(super) number: u64,
    pub(super) sent: Nanos,
    /// What its arrival shows the oracles.
    pub(super) echo: Echo,
    /// The process lives of both ends when it was sent.
    pub(super) boots: (u32, u32),
    /// What its draws are keyed by.
    pub(super) entity: u64,
    pub(super) counter: u64,
    pub(super) copy: bool,
    /// Which faults have had their way with it: each once.
    pub(super) delayed: bool,
    pub(super) reordered: bool,
}

/// What is the matter with one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// The kind of partition that cuts it.
    pub(super) cut: Option<FaultKind>,
    pub(super) clogged: bool,
    pub(super) loss: u32,
    pub(super) duplicate: u32,
    pub(super) delay: Nanos,
    pub(super) reorder: Nanos,
    pub(super) queue: u16,
    pub(super) in_flight: u32,
}

/// All links, and all flights.
#[derive(Debug)]
pub(super) struct Network {
    nodes: usize,
    pub(super) links: Vec<Link>,
    /// Whether no link has anything the matter with it.
    pub(super) calm: bool,
    flights: Vec<Flight>,
    /// What each flight carries; none for one that has landed.
    messages: Vec<Option<Message>>,
    free: Vec<u32>,
    /// Messages held by clogs.
    pub(super) held: Vec<u32>,
}

impl Network {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            links: vec![Link::default(); nodes * nodes],
            calm: true,
            flights: Vec::with_capacity(256),
            messages: Vec::with_capacity(256),
            free: Vec::new(),
            held: Vec::new(),
        }
    }

    #[inline]
    pub(super) const fn link(&self, from: u16, to: u16) -> usize {
        from as usize * self.nodes + to as usize
    }

    /// Puts a message into flight.
    #[inline]
    pub(super) fn launch(&mut self, flight: Flight, message: Message) -> u32 {
        let link = self.link(flight.from, flight.to);
        self.links[link].in_flight += 1;
        if let Some(place) = self.free.pop() {
            self.flights[place as usize] = flight;
            self.messages[place as usize] = Some(message);
            return place;
        }
        self.flights.push(flight);
        self.messages.push(Some(message));
        (self.flights.len() - 1) as u32
    }

    /// Takes a message out of flight.
    #[inline]
    pub(super) fn land(&mut self, place: u32) -> Option<Message> {
        let message = self.messages[place as usize].take()?;
        self.free.push(place);
        let flight = &self.flights[place as usize];
        let link = self.link(flight.from, flight.to);
        self.links[link].in_flight -= 1;
        Some(message)
    }

    /// One that has not landed.
    #[inline]
    pub(super) fn flight(&mut self, place: u32) -> Option<&mut Flight> {
        self.messages[place as usize].is_some().then(|| &mut self.flights[place as usize])
    }

    /// What a flight carries.
    #[inline]
    pub(super) fn message(&self, place: u32) -> Option<&Message> {
        self.messages[place as usize].as_ref()
    }

    /// Puts a copy of a message into flight.
    pub(super) fn copy(&mut self, place: u32) -> Option<u32> {
        let message = self.message(place)?.clone();
        let flight = Flight { copy: true, ..self.flights[place as usize] };
        Some(self.launch(flight, message))
    }

    /// Works out anew what is the matter with each link. Returns whether a clog has ended
    /// somewhere.
    pub(super) fn apply<'a>(&mut self, active: impl Iterator<Item = (&'a Fault, bool)>) {
        for link in &mut self.links {
            *link = Link { in_flight: link.in_flight, ..Link::default() };
        }
        self.calm = true;
        for (fault, on) in active {
            match &fault.trouble {
                Trouble::Clog(links) => self.each(links, |link| link.clogged = true),
                Trouble::Delay(links, by) => {
                    self.each(links, |link| link.delay = link.delay.saturating_add(*by));
                }
                Trouble::Duplicate(links, ppm) => {
                    self.each(links, |link| link.duplicate = link.duplicate.max(*ppm));
                }
                Trouble::Loss(links, ppm) => {
                    self.each(links, |link| link.loss = link.loss.max(*ppm))
                }
                Trouble::Queue(links, max) => self.each(links, |link| {
                    let max = (*max).max(1);
                    link.queue = if link.queue == 0 { max } else { link.queue.min(max) };
                }),
                Trouble::Reorder(links, by) => {
                    self.each(links, |link| link.reorder = link.reorder.max(*by));
                }
                Trouble::Partition(cut, _) if on => self.cut(cut, fault.trouble.kind()),
                Trouble::Client(_)
                | Trouble::Crash(..)
                | Trouble::DiskFull(_)
                | Trouble::Drift(..)
                | Trouble::Freeze(_)
                | Trouble::Hint(..)
                | Trouble::Jump(..)
                | Trouble::Partition(..)
                | Trouble::Pause(_)
                | Trouble::PowerCut(_)
                | Trouble::Rot(_)
                | Trouble::Skew(..)
                | Trouble::SlowDisk(..)
                | Trouble::Wipe(_)
                | Trouble::WriteError(_) => {}
            }
        }
    }

    fn each(&mut self, links: &Links, mut change: impl FnMut(&mut Link)) {
        self.calm = false;
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                if has(links.from, from) && has(links.to, to) && from != to {
                    change(&mut self.links[from * self.nodes + to]);
                }
            }
        }
    }

    fn cut(&mut self, cut: &Cut, kind: FaultKind) {
        self.calm = false;
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                if !works(cut, from, to) {
                    self.links[from * self.nodes + to].cut = Some(kind);
                }
            }
        }
    }
}

fn has(nodes: Nodes, place: usize) -> bool {
    nodes.0 >> place & 1 == 1
}

/// Whether a link works under a cut.
fn works(cut: &Cut, from: usize, to: usize) -> bool {
    let together = |set: &Nodes| has(*set, from) && has(*set, to);
    match cut {
        Cut::Bridge(left, right) => together(left) || together(right),
        Cut::Graph(sets) => sets.get(from).is_some_and(|set| has(*set, to)),
        Cut::Islands(sets) => sets.iter().any(together),
        Cut::OneWay(links) => !(has(links.from, from) && has(links.to, to)),
        Cut::Ring(order) => {
            let place = |node: usize| order.iter().position(|&n| usize::from(n) == node + 1);
            let (Some(a), Some(b)) = (place(from), place(to)) else { return false };
            let apart = a.abs_diff(b);
            apart == 1 || apart + 1 == order.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(cut: &Cut, nodes: usize) -> String {
        let mut text = String::new();
        for from in 0..nodes {
            for to in 0..nodes {
                text.push(if from == to || works(cut, from, to) { '1' } else { '.' });
            }
            text.push(' ');
        }
        text
    }

    #[test]
    fn cuts_are_what_they_say() {
        let set = |nodes: &[u16]| {
            let mut set = Nodes::default();
            nodes.iter().for_each(|&node| set.add(node));
            set
        };
        let islands = Cut::Islands(vec![set(&[1, 2]), set(&[3])]);
        assert_eq!(picture(&islands, 4), "11.. 11.. ..1. ...1 ");
        let one_way = Cut::OneWay(Links { from: set(&[1]), to: set(&[2, 3]) });
        assert_eq!(picture(&one_way, 3), "1.. 111 111 ");
        let bridge = Cut::Bridge(set(&[1, 2]), set(&[2, 3]));
        assert_eq!(picture(&bridge, 3), "11. 111 .11 ");
        assert_eq!(picture(&Cut::Ring(vec![1, 3, 2, 4]), 4), "1.11 .111 111. 11.1 ");
        let graph = Cut::Graph(vec![set(&[2]), set(&[]), set(&[1])]);
        assert_eq!(picture(&graph, 3), "11. .1. 1.1 ");
    }
}
