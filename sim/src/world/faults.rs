//! Faults: how each kind begins, acts and ends.
//!
//! Must never know: what a fault does to the protocol.

use synod::Input;

use super::queue::Task;
use super::{EventKind, World};
use crate::marks::Mark;
use crate::oracle::node_of;
use crate::plan::{FaultKind, Keep, Nanos, Plan, Trouble};
use crate::random::{Site, below, draw};

/// Which faults are under way.
#[derive(Debug)]
pub(super) struct Active {
    /// For each fault of the plan, whether it is under way, and whether its flapping is on.
    states: Vec<Option<bool>>,
    /// How many have not ended.
    left: usize,
}

impl Active {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { states: vec![None; plan.faults.len()], left: plan.faults.len() }
    }

    /// Whether all have ended.
    pub(super) const fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl World<'_> {
    pub(super) fn schedule_faults(&mut self) {
        if self.free.is_some() {
            return;
        }
        for (place, fault) in self.plan.faults.iter().enumerate() {
            if fault.at >= self.plan.safety {
                self.active.left -= 1;
                continue;
            }
            self.queue.push(fault.at, Task::FaultBegins(place as u32));
        }
    }

    pub(super) fn begin_fault(&mut self, place: usize) {
        if !self.liveness.is_safety() {
            return;
        }
        let plan = self.plan;
        let fault = &plan.faults[place];
        self.active.states[place] = Some(true);
        self.event(0xFA00 ^ u64::from(fault.id) << 16);
        self.tell(None, EventKind::Fault, format_args!("begins: {fault}"));
        // In free mode its end is a choice of its own.
        if self.free.is_none() {
            let end = self.now.saturating_add(fault.lasts);
            self.queue.push(end, Task::FaultEnds(place as u32));
        }
        self.apply_fault(place);
        self.check_oracle();
    }

    /// What a fault does when it begins.
    pub(super) fn apply_fault(&mut self, place: usize) {
        let plan = self.plan;
        let fault = &plan.faults[place];
        let at = |node: u16| usize::from(node - 1);
        match &fault.trouble {
            Trouble::Clog(_)
            | Trouble::Delay(..)
            | Trouble::Duplicate(..)
            | Trouble::Loss(..)
            | Trouble::Queue(..)
            | Trouble::Reorder(..) => self.apply_links(),
            Trouble::Partition(_, half) => {
                self.apply_links();
                if *half > 0 && self.free.is_none() {
                    self.queue.push(self.now + half, Task::Flap(place as u32));
                }
            }
            Trouble::Client(client) => {
                self.acted(FaultKind::Client);
                self.kill_client(at(*client));
            }
            Trouble::Crash(node, keep) => self.crash(at(*node), *keep, u64::from(fault.id)),
            Trouble::DiskFull(node) => self.hosts[at(*node)].disk.full += 1,
            Trouble::Drift(node, ppm) => {
                self.acted(FaultKind::Drift);
                let now = self.now;
                self.hosts[at(*node)].clock.drift(now, *ppm);
                self.rearm(at(*node));
            }
            Trouble::Freeze(node) => {
                self.acted(FaultKind::Freeze);
                let now = self.now;
                self.hosts[at(*node)].clock.freeze(now, true);
            }
            Trouble::Hint(node, peer) => {
                if node != peer {
                    self.acted(FaultKind::Hint);
                    let peer = node_of(at(*peer));
                    self.input(at(*node), Input::Link { peer, up: false });
                }
            }
            Trouble::Jump(node, by) | Trouble::Skew(node, by) => {
                self.acted(fault.trouble.kind());
                let now = self.now;
                self.hosts[at(*node)].clock.jump(now, *by);
                let up = self.hosts.iter().filter(|host| host.node.is_some());
                let walls: Vec<_> = up.map(|host| host.clock.read(now).wall).collect();
                if self.oracle.clocks_disagree(&walls) {
                    self.marks.hit(Mark::ClocksDisagree);
                }
            }
            Trouble::Pause(node) => {
                self.acted(FaultKind::Pause);
                let now = self.now;
                let host = &mut self.hosts[at(*node)];
                if host.paused == 0 {
                    host.paused_at = host.clock.mono(now);
                }
                host.paused += 1;
                #[cfg(madsim)]
                if let Some(process) = &host.node {
                    process.pause(true);
                }
                let asleep = self.hosts.iter().filter(|host| host.paused > 0).count();
                if asleep >= usize::from(plan.quorum()) {
                    self.marks.hit(Mark::SleptTogether);
                }
            }
            Trouble::PowerCut(keep) => {
                self.acted(FaultKind::PowerCut);
                for node in 0..self.hosts.len() {
                    self.crash(node, *keep, u64::from(fault.id) << 8 | node as u64);
                }
            }
            Trouble::Rot(node) => {
                self.acted(FaultKind::Rot);
                self.crash(at(*node), Keep::None, u64::from(fault.id));
                self.hosts[at(*node)].rotten = true;
                self.lose_storage(at(*node));
            }
            Trouble::SlowDisk(node, by) => {
                let disk = &mut self.hosts[at(*node)].disk;
                disk.slow = disk.slow.saturating_add(*by);
            }
            Trouble::Wipe(node) => {
                self.acted(FaultKind::Wipe);
                self.crash(at(*node), Keep::None, u64::from(fault.id));
                self.lose_storage(at(*node));
            }
            Trouble::WriteError(node) => self.hosts[at(*node)].disk.fails = true,
        }
    }

    fn lose_storage(&mut self, place: usize) {
        self.hosts[place].disk.wipe();
        self.hosts[place].wiped = true;
        self.oracle.on_lost(place);
    }

    pub(super) fn end_fault(&mut self, place: usize) {
        if self.active.states[place].is_none() {
            return;
        }
        let plan = self.plan;
        let fault = &plan.faults[place];
        self.active.states[place] = None;
        self.active.left -= 1;
        self.event(0xFAED ^ u64::from(fault.id) << 16);
        self.tell(None, EventKind::Fault, format_args!("ends: fault {}", fault.id));
        self.undo_fault(place);
        self.check_oracle();
        self.check_all_done();
    }

    /// What a fault does when it ends.
    pub(super) fn undo_fault(&mut self, place: usize) {
        let plan = self.plan;
        let at = |node: u16| usize::from(node - 1);
        let now = self.now;
        match &plan.faults[place].trouble {
            Trouble::Clog(_)
            | Trouble::Delay(..)
            | Trouble::Duplicate(..)
            | Trouble::Loss(..)
            | Trouble::Partition(..)
            | Trouble::Queue(..)
            | Trouble::Reorder(..) => self.apply_links(),
            Trouble::Client(client) => self.revive_client(at(*client)),
            Trouble::Crash(node, keep) => self.release(at(*node), *keep),
            Trouble::Rot(node) | Trouble::Wipe(node) => self.release(at(*node), Keep::None),
            Trouble::DiskFull(node) => {
                let disk = &mut self.hosts[at(*node)].disk;
                disk.full = disk.full.saturating_sub(1);
                if disk.full == 0 && self.hosts[at(*node)].node.is_none() {
                    self.start_if_free(at(*node));
                }
            }
            Trouble::Drift(node, _) => {
                self.hosts[at(*node)].clock.drift(now, 0);
                self.rearm(at(*node));
            }
            Trouble::Freeze(node) => self.hosts[at(*node)].clock.freeze(now, false),
            Trouble::Hint(node, peer) => {
                if node != peer {
                    let peer = node_of(at(*peer));
                    self.input(at(*node), Input::Link { peer, up: true });
                }
            }
            Trouble::Jump(..) => {}
            Trouble::Pause(node) => self.resume(at(*node)),
            Trouble::PowerCut(keep) => {
                (0..self.hosts.len()).for_each(|node| self.release(node, *keep));
            }
            Trouble::Skew(node, by) => self.hosts[at(*node)].clock.jump(now, -by),
            Trouble::SlowDisk(node, by) => {
                let disk = &mut self.hosts[at(*node)].disk;
                disk.slow = disk.slow.saturating_sub(*by);
            }
            Trouble::WriteError(node) => {
                self.hosts[at(*node)].disk.fails = false;
                self.start_if_free(at(*node));
            }
        }
    }

    /// A clock runs at another rate: the timer set by the old one may be late.
    fn rearm(&mut self, place: usize) {
        self.hosts[place].timer = None;
        self.schedule_timer(place);
    }

    /// A node's process dies, and is held down.
    pub(super) fn crash(&mut self, place: usize, keep: Keep, key: u64) {
        let host = &mut self.hosts[place];
        if keep == Keep::Mid && host.node.is_some() && host.disk.pending.is_empty() {
            host.armed = Some(key);
            return;
        }
        host.held += 1;
        self.kill_node(place, keep, key);
    }

    /// A node is in the middle of the write that a crash waited for.
    pub(super) fn spring(&mut self, place: usize) {
        let Some(key) = self.hosts[place].armed else { return };
        if self.hosts[place].disk.pending.is_empty() {
            return;
        }
        self.hosts[place].armed = None;
        self.hosts[place].held += 1;
        self.kill_node(place, Keep::Mid, key);
    }

    fn kill_node(&mut self, place: usize, keep: Keep, key: u64) {
        let host = &mut self.hosts[place];
        if host.node.is_none() {
            return;
        }
        host.armed = None;
        let drawn = draw(self.plan.seed, Site::Keep, key, u64::from(host.boots));
        let before = host.disk.durable.len();
        let loss = host.disk.crash(keep, |n| {
            // Half of them keep nothing: that is where forgetting shows.
            if drawn & 1 == 0 { 0 } else { below(drawn, n) }
        });
        host.torn = loss.torn;
        // In the liveness phase it is the end of a node outside the core.
        if self.liveness.is_safety() {
            self.acted(if loss.torn { FaultKind::Torn } else { FaultKind::Crash });
        }
        if loss.promises > 0 {
            self.marks.hit(Mark::PromiseUnsynced);
        }
        if loss.acceptances > 0 {
            self.marks.hit(Mark::VoteUnsynced);
        }
        if loss.unsaid > 0 {
            self.marks.hit(Mark::DurableUnsaid);
        }
        if loss.replicas > 0 {
            self.marks.hit(Mark::ReplicaUnsynced);
        }
        self.event(0xC4A5 ^ (place as u64) << 16);
        self.tell(
            Some(place),
            EventKind::Stop,
            format_args!("crashes; of the writes on their way the disk keeps: {keep}"),
        );
        let kept = self.hosts[place].disk.durable.split_off(before);
        self.oracle.on_durable(place, &kept);
        self.hosts[place].disk.durable.extend(kept);
        // Now and then the whole machine dies, and says nothing to anybody.
        #[cfg(madsim)]
        if drawn & 2 == 0 {
            self.lose_power(place);
        }
        self.stop(place);
    }

    /// A write fails: the host stops the node, for what the disk now holds is not known.
    pub(super) fn fail_write(&mut self, place: usize) {
        let disk = &mut self.hosts[place].disk;
        let kind = if disk.full > 0 { FaultKind::DiskFull } else { FaultKind::WriteError };
        disk.fails = false;
        self.acted(kind);
        self.tell(Some(place), EventKind::Fault, format_args!("a write fails ({})", kind.name()));
        let key = 1 << 40 | self.hosts[place].disk.writes;
        self.kill_node(place, Keep::Torn, key);
    }

    fn release(&mut self, place: usize, keep: Keep) {
        let host = &mut self.hosts[place];
        if keep == Keep::Mid && host.armed.take().is_some() {
            return;
        }
        host.held = host.held.saturating_sub(1);
        self.start_if_free(place);
    }

    pub(super) fn start_if_free(&mut self, place: usize) {
        let host = &self.hosts[place];
        if host.held == 0 && host.disk.full == 0 && host.node.is_none() && !host.gone {
            self.start(place);
        }
    }

    /// A node that stood still goes on: everything that came meanwhile comes at once.
    pub(super) fn resume(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        host.paused = host.paused.saturating_sub(1);
        if host.paused > 0 || host.node.is_none() {
            return;
        }
        #[cfg(madsim)]
        if let Some(process) = &host.node {
            process.pause(false);
        }
        let inbox = std::mem::take(&mut host.inbox);
        let mono = host.clock.mono(self.now);
        if mono.saturating_sub(host.paused_at) > self.plan.cluster.down / 2 {
            self.oracle.on_awake(place, mono);
        }
        // What became durable while it stood still becomes a vote when it learns of it.
        if inbox.iter().any(|(input, _)| matches!(input, Input::Persisted { .. })) {
            self.oracle.on_votes(place, &self.hosts[place].disk.durable, &mut self.marks);
        }
        self.event(0x9060 ^ (place as u64) << 16);
        self.tell(Some(place), EventKind::Fault, format_args!("goes on"));
        for (input, echo) in inbox {
            match echo {
                Some(echo) => self.hear(place, input, echo),
                None => self.input(place, input),
            }
        }
        self.schedule_timer(place);
    }

    /// Works out anew what faults do to links, and lets go what no clog holds any more.
    pub(super) fn apply_links(&mut self) {
        let states = &self.active.states;
        let active = self.plan.faults.iter().zip(states);
        self.network.apply(active.filter_map(|(fault, state)| Some((fault, (*state)?))));
        #[cfg(madsim)]
        self.release_segments();
        let held = std::mem::take(&mut self.network.held);
        for flight in held {
            let Some(at) = self.network.flight(flight) else { continue };
            let link = usize::from(at.from) * self.hosts.len() + usize::from(at.to);
            let drawn = draw(self.plan.seed, Site::Clog, at.entity, at.counter);
            if self.network.links[link].clogged {
                self.network.held.push(flight);
                continue;
            }
            if let Some(pool) = &mut self.free {
                pool.flights.push(flight);
                continue;
            }
            let at = self.now + below(drawn, self.plan.network.latency + 1);
            self.queue.push(at, Task::Arrive(flight));
        }
    }

    pub(super) fn flap(&mut self, place: usize) {
        let Some(on) = self.active.states[place] else { return };
        self.active.states[place] = Some(!on);
        self.event(0xF1A9 ^ (place as u64) << 16);
        self.apply_links();
        if let Trouble::Partition(_, half) = self.plan.faults[place].trouble {
            let at: Nanos = self.now + half;
            self.queue.push(at, Task::Flap(place as u32));
        }
    }

    /// Ends every fault under way, for good.
    pub(super) fn end_all_faults(&mut self) {
        for place in 0..self.plan.faults.len() {
            if self.active.states[place].is_some() {
                self.end_fault(place);
            }
        }
        self.active.left = 0;
    }
}
