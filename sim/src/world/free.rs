//! Free mode: no latencies; at each step a chooser picks what happens next, among everything that
//! could.
//!
//! Choice 0 is always the most ordinary: the oldest message arrives, the oldest write is done, or a
//! client begins what is next. So an exhausted list of choices is a calm run to its end.
//!
//! Must never know: what a chooser has in mind.

use synod::{Input, Instant, SessionId};

use super::queue::Task;
use super::{EventKind, Observer, Report, World};
use crate::chooser::Chooser;
use crate::plan::{FaultKind, MILLI, Plan};

/// What could happen next.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) flights: Vec<u32>,
    /// Nodes with writes on their way, one entry for each.
    pub(super) writes: Vec<u16>,
    /// Clients whose turn it could be.
    pub(super) turns: Vec<(u16, u32)>,
    /// Session ends that hosts have not been told of.
    pub(super) downs: Vec<(u16, SessionId)>,
    /// Faults of the plan that have not happened.
    faults: Vec<u32>,
    /// Faults that have not ended.
    ends: Vec<u32>,
    /// How many messages may still be lost or duplicated: the network is fair in the end.
    mischief: u32,
}

/// The most steps chosen; then the run goes on in time.
const STEPS_MAX: u64 = 20_000;

/// How many messages a free run may lose, and how many it may duplicate.
const MISCHIEF_MAX: u32 = 64;

/// One thing that could happen.
enum Step {
    Arrive(usize),
    Written(usize),
    Turn(usize),
    Down(usize),
    Wake(usize),
    Fault,
    Ending(usize),
    Lose(usize),
    Duplicate(usize),
}

/// Runs a plan in free mode with these choices instead of the plan's own.
///
/// Faults of the plan happen when they are chosen, in their order: crashes, restarts, pauses and
/// whatever else begins and ends. Latencies and times of the plan mean nothing. When the choices
/// are exhausted and nothing ordinary is left to do, time goes on for the liveness phase.
pub fn run_free(plan: &Plan, chooser: &mut dyn Chooser, observer: &mut dyn Observer) -> Report {
    if let Err(error) = plan.check() {
        return Report::of_impossible(&error, observer);
    }
    let mut world = World::new(plan, observer);
    world.free = Some(Pool {
        faults: (0..plan.faults.len() as u32).rev().collect(),
        mischief: MISCHIEF_MAX,
        ..Pool::default()
    });
    world.begin();
    let mut steps = 0;
    while world.failure.is_none() && steps < STEPS_MAX {
        steps += 1;
        if !world.choose_step(chooser) {
            break;
        }
    }
    world.leave_free();
    world.run_on()
}

impl World<'_> {
    /// Lets one thing happen; false when there is nothing ordinary left.
    fn choose_step(&mut self, chooser: &mut dyn Chooser) -> bool {
        let Some(pool) = &self.free else { return false };
        let ordinary = pool.flights.len() + pool.writes.len() + pool.turns.len() + pool.downs.len();
        let done = self.clients.iter().all(super::client::Client::is_done);
        if ordinary == 0 && done && pool.ends.is_empty() && chooser.is_exhausted() {
            return false;
        }
        if done && chooser.is_exhausted() {
            return false;
        }
        let flights = pool.flights.len();
        let mischief = if pool.mischief > 0 { flights } else { 0 };
        let counts = [
            flights,
            pool.writes.len(),
            pool.turns.len(),
            pool.downs.len(),
            self.hosts.len(),
            usize::from(!pool.faults.is_empty()),
            pool.ends.len(),
            mischief,
            mischief,
        ];
        let total: usize = counts.iter().sum();
        let mut choice = chooser.choose(total);
        let kind = counts.iter().position(|&count| {
            let here = choice < count;
            if !here {
                choice -= count;
            }
            here
        });
        let step = match kind {
            Some(0) => Step::Arrive(choice),
            Some(1) => Step::Written(choice),
            Some(2) => Step::Turn(choice),
            Some(3) => Step::Down(choice),
            Some(4) => Step::Wake(choice),
            Some(5) => Step::Fault,
            Some(6) => Step::Ending(choice),
            Some(7) => Step::Lose(choice),
            Some(8) => Step::Duplicate(choice),
            _ => return false,
        };
        // Time goes on a little, so that stories have an order to show.
        self.now += 1_000;
        self.take_step(step);
        true
    }

    fn take_step(&mut self, step: Step) {
        let Some(pool) = &mut self.free else { return };
        match step {
            Step::Arrive(place) => {
                let flight = pool.flights.remove(place);
                self.arrive_free(flight);
            }
            Step::Written(place) => {
                let node = usize::from(pool.writes.remove(place));
                let boots = self.hosts[node].boots;
                self.on_written(node, boots);
            }
            Step::Turn(place) => {
                let (client, turn) = pool.turns.remove(place);
                self.on_client_turn(usize::from(client), turn);
            }
            Step::Down(place) => {
                let (node, session) = pool.downs.remove(place);
                self.on_session_down(usize::from(node), session);
            }
            Step::Wake(node) => self.wake(node),
            Step::Fault => {
                let Some(fault) = pool.faults.pop() else { return };
                pool.ends.push(fault);
                self.begin_fault(fault as usize);
            }
            Step::Ending(place) => {
                let fault = pool.ends.remove(place);
                self.end_fault(fault as usize);
            }
            Step::Lose(place) => {
                let flight = pool.flights.remove(place);
                pool.mischief -= 1;
                self.acted(FaultKind::Loss);
                self.lose(flight, "lost");
            }
            Step::Duplicate(place) => {
                let flight = pool.flights[place];
                pool.mischief -= 1;
                self.acted(FaultKind::Duplicate);
                let Some(copy) = self.network.copy(flight) else { return };
                if let Some(pool) = &mut self.free {
                    pool.flights.push(copy);
                }
            }
        }
    }

    /// Partitions and clogs hold in free mode too; delays are the chooser's.
    fn arrive_free(&mut self, place: u32) {
        let Some(flight) = self.network.flight(place) else { return };
        let link = usize::from(flight.from) * self.hosts.len() + usize::from(flight.to);
        let state = self.network.links[link];
        if let Some(kind) = state.cut {
            self.acted(kind);
            return self.lose(place, "the network is cut");
        }
        if state.clogged {
            self.acted(FaultKind::Clog);
            self.network.held.push(place);
            return;
        }
        self.deliver(place);
    }

    /// A node's clock goes on to when it wants to be woken: nodes' clocks are not related at all.
    fn wake(&mut self, place: usize) {
        let now = self.now;
        let host = &mut self.hosts[place];
        let Some(wanted) = host.node.as_ref().and_then(super::Process::poll_timeout) else {
            return;
        };
        if host.paused > 0 {
            return;
        }
        let shown = host.clock.read(now).instant;
        host.clock.skip_to(now, wanted.max(Instant(shown.0)));
        self.event(0x7171 ^ (place as u64) << 16);
        self.tell(Some(place), EventKind::Timeout, format_args!("timeout"));
        self.handle(place, Input::Timeout);
    }

    /// Everything that is left goes on in time.
    fn leave_free(&mut self) {
        let Some(pool) = self.free.take() else { return };
        for flight in pool.flights {
            self.queue.push(self.now + MILLI, Task::Arrive(flight));
        }
        for node in pool.writes {
            let boots = self.hosts[usize::from(node)].boots;
            self.queue.push(self.now, Task::Written(node, boots));
        }
        for (client, turn) in pool.turns {
            self.queue.push(self.now, Task::Client(client, turn));
        }
        for (node, session) in pool.downs {
            self.queue.push_down(self.now, node, session);
        }
        if self.failure.is_some() {
            return;
        }
        for place in 0..self.hosts.len() {
            self.schedule_timer(place);
        }
        self.apply_links();
        self.begin_liveness();
    }
}
