//! The World over hosts: it takes in what they did in the order in which they did it, and carries
//! the segments of their streams through the network that faults make.
//!
//! Must never know: how hosts are made, what streams carry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use madsim::runtime::Runtime;
use synod::host::{LinkOptions, News, Reconnect};
use synod::{
    ClientId, Effect, Event, Input, Instant, MergeEvent, Message, NodeId, Now, Record,
    RecoverError, RequestId, Ticket,
};

use super::client::is_watcher;
use super::queue::Task;
use super::resolvers::is_resolver;
use super::{EventKind, FailureKind, Observer, Process, Report, Sent, World};
use crate::oracle::Echo;
use crate::plan::{FaultKind, MICRO, MILLI, Mode, Nanos, Plan, Trouble};
use crate::random::{Site, below, chance, draw};
use crate::stack::bus::{Bus, Fate, Load, Segment};
use crate::stack::{Boot, Deed, DiskView, Life, Shared, Step, now, sleep};

/// How many of a million dials reach another node than was meant, in the runs where any do.
const MISROUTED: u32 = 60_000;
/// Of so many lost segments, one ends its stream: at both ends, or without a word.
const RESETS: u64 = 32;
/// How late a node may be woken: timers are no finer.
const LATE: Nanos = 4 * MILLI;
/// The most strangers that come to one run.
const STRANGERS_MAX: u64 = 4;

/// A segment on its way.
struct Flying {
    segment: Segment,
    /// How often it was sent before.
    attempt: u32,
    /// Which faults have had their way with it: each once.
    delayed: bool,
    reordered: bool,
    /// The link on which it is counted.
    link: usize,
    /// When it arrives; it has been hurried along if the queue says otherwise.
    due: Nanos,
}

/// What the World knows of hosts beyond what it knows of nodes.
pub(super) struct Stack {
    shared: Shared,
    /// How many deeds were taken in.
    taken: u64,
    flying: Vec<Option<Flying>>,
    vacant: Vec<u32>,
    /// Segments held by clogs.
    held: Vec<u32>,
    /// How many segments are on their way, by link.
    in_flight: Vec<u32>,
    /// Messages that nodes gave to their hosts, by link, in order: none may arrive but these.
    sent: Vec<VecDeque<(Message, Echo)>>,
    hosts: Vec<HostState>,
    /// Requests whose clients have died since: nobody hears their answers.
    unheard: BTreeSet<(usize, ClientId, RequestId)>,
    links: LinkOptions,
    /// Whether some dials reach the wrong node.
    misroutes: bool,
}

/// What is known of one life of a host.
#[derive(Default)]
struct HostState {
    /// What is durable, and the node has not been told.
    untold: VecDeque<(Ticket, Vec<Record>)>,
    /// The ticket of the last write.
    ticket: Ticket,
    /// Whether its storage has failed.
    failed: bool,
    /// Whether its node has taken a step.
    begun: bool,
    /// When the node wants to be woken.
    wanted: Option<Wanted>,
    /// What the node has told clients of merges, and when, and they have not heard.
    told: BTreeMap<ClientId, VecDeque<(Nanos, MergeEvent)>>,
}

/// A moment at which a node wants to be woken, and since when it does, by its clock and truly.
#[derive(Clone, Copy)]
struct Wanted {
    due: Instant,
    since: Instant,
    start: Nanos,
}

/// Runs a plan over hosts.
pub(super) fn run(plan: &Plan, observer: &mut dyn Observer) -> Report {
    let runtime = Runtime::with_seed_and_config(plan.seed, madsim::Config::default());
    runtime.block_on(async {
        let report = World::new(plan, observer).run_stack().await;
        // Every host has been killed; its tasks are dropped while there is a runtime to do it in.
        madsim::time::sleep(Duration::from_millis(2)).await;
        report
    })
}

impl Stack {
    pub(super) fn new(plan: &Plan) -> Self {
        let nodes = usize::from(plan.cluster.nodes);
        let one_of = |number: u64, choices: &[usize]| {
            let drawn = draw(plan.seed, Site::Stream, number, 0);
            choices[below(drawn, choices.len() as u64) as usize]
        };
        let bus = Bus::new(nodes, one_of(1, &[2 << 10, 16 << 10, 64 << 10]));
        let clocks = (0..nodes).map(|_| super::Clock::new(0, 0)).collect();
        let span = |times: u64| Duration::from_nanos(plan.cluster.heartbeat * times);
        let steadily = one_of(2, &[0, 0, 1]) == 1;
        let links = LinkOptions {
            reconnect: if steadily {
                Reconnect::Every(span(1))
            } else {
                Reconnect::Backoff { first: span(1) / 4, max: span(4) }
            },
            handshake: span(6),
            idle: span(8),
            queue_max: one_of(3, &[2 << 10, 16 << 10, 8 << 20]),
            guests_max: one_of(4, &[8, 128]),
            backoff: span(1),
        };
        Self {
            shared: Shared::new(bus, clocks),
            taken: 0,
            flying: Vec::new(),
            vacant: Vec::new(),
            held: Vec::new(),
            in_flight: vec![0; nodes * nodes],
            sent: vec![VecDeque::new(); nodes * nodes],
            hosts: (0..nodes).map(|_| HostState::default()).collect(),
            unheard: BTreeSet::new(),
            links,
            misroutes: one_of(5, &[0, 0, 1]) == 1,
        }
    }
}

/// Whether streams of bytes can have this trouble. They never deliver twice.
const fn is_expressed(trouble: &Trouble) -> bool {
    !matches!(trouble, Trouble::Duplicate(..))
}

impl World<'_> {
    async fn run_stack(mut self) -> Report {
        self.begin();
        self.say_what_is_left_out();
        self.schedule_strangers();
        loop {
            self.take_in();
            if self.failure.is_some() || self.liveness.is_over() {
                break;
            }
            let Some(at) = self.queue.next() else { break };
            let here = now();
            if at <= here {
                self.now = self.now.max(here);
                if let Some((_, task)) = self.queue.pop() {
                    self.perform(task);
                }
                continue;
            }
            self.publish();
            let mut alarm = pin!(sleep(at - here));
            let shared = self.stack.shared.clone();
            poll_fn(|cx| {
                let told = shared.poll(cx).is_ready();
                if told || alarm.as_mut().poll(cx).is_ready() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        self.finish()
    }

    /// Says what of the plan this rig cannot do.
    fn say_what_is_left_out(&mut self) {
        for fault in self.plan.faults.iter().filter(|fault| !is_expressed(&fault.trouble)) {
            let kind = fault.trouble.kind().name();
            let text = format!("left out: fault {}, for streams know no {kind}", fault.id);
            self.tell(None, EventKind::Fault, format_args!("{text}"));
        }
        if self.plan.mode == Mode::Free {
            self.tell(
                None,
                EventKind::Fault,
                format_args!("left out: free mode; this run is timed"),
            );
        }
    }

    /// Lets hosts see their clocks and disks as they are.
    fn publish(&self) {
        let mut common = self.stack.shared.lock();
        common.showing = !self.liveness.is_safety();
        for (place, host) in self.hosts.iter().enumerate() {
            common.clocks[place] = host.clock.clone();
            let disk = &host.disk;
            common.disks[place] =
                DiskView { fails: disk.fails, full: disk.full > 0, slow: disk.slow };
        }
    }

    /// Takes in all that hosts have done, in order.
    fn take_in(&mut self) {
        while self.failure.is_none() {
            let taken = self.stack.taken;
            let segment = self.stack.shared.lock().bus.next_sent(taken);
            if let Some(segment) = segment {
                self.launch(segment);
                continue;
            }
            let deed = self.stack.shared.lock().deeds.pop_front();
            let Some((at, life, deed)) = deed else { break };
            self.stack.taken += 1;
            self.now = self.now.max(at);
            let host = &self.hosts[life.place];
            if host.boots == life.boots && host.node.is_some() {
                self.on_deed(life.place, deed);
            }
        }
        self.now = self.now.max(now());
    }

    fn on_deed(&mut self, place: usize, deed: Deed) {
        match deed {
            Deed::Step(step) => {
                self.check_time(place, step.now, step.due);
                self.on_step(place, *step);
            }
            Deed::Appended(ticket, records) => self.on_appended(place, ticket, records),
            Deed::Synced => self.on_synced(place),
            Deed::SyncFailed => self.stack.hosts[place].failed = true,
            Deed::News(client, news) => self.on_news(place, client, news),
            Deed::Overflow(bytes) => {
                let most = self.stack.links.queue_max;
                let text =
                    format!("n{} keeps {bytes} bytes for a peer; {most} are allowed", place + 1);
                self.fail(FailureKind::Violation, "H3", "queue without bound", text);
            }
            Deed::Ended(why) => {
                if self.stack.hosts[place].failed {
                    return self.fail_write(place);
                }
                let text = format!("the host of n{} ends: {why}", place + 1);
                self.fail(FailureKind::Violation, "H4", "host ends by itself", text);
            }
        }
    }

    // ---- lives ----------------------------------------------------------------------------

    /// Starts a host on what the disk holds.
    pub(super) fn boot(&mut self, place: usize, seed: u64) -> Result<Process, RecoverError> {
        // A log that the engine refuses is a failure here, and a node that does not vote in a host.
        self.hosts[place].recover(seed)?;
        self.publish();
        self.stack.hosts[place] = HostState::default();
        let host = &self.hosts[place];
        let process = Process::start(Boot {
            life: Life { place, boots: host.boots },
            plan: self.plan,
            config: host.config.clone(),
            seed,
            records: host.disk.durable.clone(),
            rotten: host.rotten,
            links: self.stack.links.clone(),
            shared: self.stack.shared.clone(),
        });
        if host.paused > 0 {
            process.pause(true);
        }
        Ok(process)
    }

    /// Before a node stops: does its machine stop with it?
    pub(super) fn lose_power(&self, place: usize) {
        self.stack.shared.lock().bus.cut_power(place);
    }

    /// A client's connections are gone.
    pub(super) fn hang_up(&mut self, client: ClientId) {
        for (place, host) in self.hosts.iter_mut().enumerate() {
            if let Some(process) = &host.node {
                process.leave(client);
            }
            let unheard = host.asked.iter().filter(|(asking, _)| *asking == client);
            self.stack.unheard.extend(unheard.map(|(client, request)| (place, *client, *request)));
            host.asked.retain(|(asking, _)| *asking != client);
        }
    }

    fn on_news(&mut self, place: usize, client: ClientId, news: News) {
        match news {
            News::Answer(request, outcome) => {
                self.event(0x0E91 ^ request.0 << 16);
                if !self.stack.unheard.remove(&(place, client, request)) {
                    self.on_reply(place, client, request, outcome);
                }
            }
            News::Event(event) => {
                self.event(0x0707 ^ client.number() << 16);
                self.on_notify(place, client, &event);
                self.check_oracle();
            }
            News::Missed => {
                let text = format!("{client} at n{} was told too much to take in", place + 1);
                self.fail(FailureKind::Unknown, "H4", "events missed", text);
            }
        }
    }

    // ---- steps ----------------------------------------------------------------------------

    /// A client hears of a merge: what the node told it first of all that it has not heard (H7).
    pub(super) fn on_merge_news(&mut self, place: usize, client: ClientId, event: &MergeEvent) {
        let told = self.stack.hosts[place].told.get_mut(&client);
        let told = told.and_then(|told| told.pop_front()).map(|(_, told)| told);
        if told.as_ref() != Some(event) {
            let said = told.map_or_else(|| "nothing".to_owned(), |told| told.to_string());
            let text = format!("{client} hears from n{} {event}, which said {said}", place + 1);
            return self.fail(FailureKind::Violation, "H7", "told other than said", text);
        }
        if is_resolver(client) {
            self.on_resolver_event(place, client, event);
        }
    }

    /// What a node has told of a merge, and its host has kept to itself.
    pub(super) fn untold_merge(&self, place: usize) -> Option<String> {
        let told = &self.stack.hosts[place].told;
        let late = told.iter().find_map(|(client, told)| {
            let (at, event) = told.front()?;
            (at + LATE < self.now).then_some((client, event))
        });
        let (client, event) = late?;
        Some(format!("n{} told {client} {event}, who has not heard", place + 1))
    }

    /// A stream of which the network knows nothing any more, and that a host has not given up.
    pub(super) fn dead_stream(&self) -> Option<String> {
        let (one, other) = self.stack.shared.lock().bus.kept_dead()?;
        let (one, other) = (one + 1, other + 1);
        Some(format!("nothing gets through on a stream of n{one} and n{other}, which is kept"))
    }

    /// A node is told the time as it is, and was not left asleep behind the moment at which it
    /// wanted to be woken. One that stood still meanwhile, or whose clock did not go evenly, may
    /// have been.
    fn check_time(&mut self, place: usize, now: Now, due: Option<Instant>) {
        let host = &self.hosts[place];
        let shown = host.clock.read(self.now);
        let wanted = self.stack.hosts[place].wanted;
        // An alarm is not set anew when the moment moves away, so one may still be set that was set
        // before the node wanted this; but no longer than a node sleeps.
        let sleep = self.plan.cluster.heartbeat;
        let late = wanted.filter(|wanted| {
            // What is due already when a step ends is seen to with what came together with it.
            now.instant.0 > wanted.due.max(wanted.since).0.saturating_add(LATE)
                && host.clock.is_even(wanted.start.saturating_sub(2 * sleep))
                && host.paused == 0
                && host.paused_at < wanted.since.0
        });
        let again = wanted.filter(|wanted| Some(wanted.due) == due);
        let start = self.now;
        let anew = due.map(|due| Wanted { due, since: now.instant, start });
        self.stack.hosts[place].wanted = again.or(anew);
        let node = place + 1;
        if now != shown {
            let text = format!("n{node} is told {now:?} when its clocks show {shown:?}");
            self.fail(FailureKind::Violation, "H5", "told another time", text);
        } else if let Some(Wanted { due, .. }) = late {
            let text = format!("n{node} wants to be woken at {due:?}, and is at {now:?}");
            self.fail(FailureKind::Violation, "H5", "woken too late", text);
        }
    }

    /// A node took a step: the oracles see what they see of a node without a host.
    fn on_step(&mut self, place: usize, step: Step) {
        let Step { input, now, effects, copies, tables, seats, made, .. } = step;
        self.before_copies(place, &input);
        if let Some(process) = &mut self.hosts[place].node {
            process.look(copies, tables);
            process.look_at_made(made);
        }
        if !std::mem::replace(&mut self.stack.hosts[place].begun, true) {
            // The first thing that is seen of its copies.
            self.start_copies(place);
        }
        self.oracle.on_clock(place, now.wall);
        match &input {
            Input::Message { from, message } => self.on_message(place, *from, message),
            Input::Persisted { ticket } => self.on_told_durable(place, *ticket),
            Input::Timeout => self.event(0x7170 ^ (place as u64) << 16),
            Input::Link { peer, up } => {
                self.event(0x117C ^ u64::from(peer.0) << 16 ^ u64::from(*up) << 32);
                let how = if *up { "up" } else { "down" };
                self.tell(Some(place), EventKind::Fault, format_args!("link to {peer} is {how}"));
            }
            Input::Down { session } => self.event(0xD034 ^ session.number << 16),
            Input::Request(request) => self.event(0xA5C1 ^ request.id.0 << 16),
        }
        self.look_at_copies(place, super::merged::cause(&input));
        let boots = self.hosts[place].boots;
        for (table, name, seat) in seats {
            let at = (table, name);
            self.oracle.on_replica_step((place, boots), at, &seat, &mut self.marks);
        }
        for effect in effects {
            self.event(0x0EFF ^ (place as u64) << 16);
            effect.hash(&mut self.trace);
            match effect {
                Effect::Send { to, message } => self.on_given(place, to, message, now),
                Effect::Persist { ticket, records } => {
                    self.event(0xD15D ^ ticket.0 << 16);
                    self.oracle.on_persist(place, &records, now.instant.0, &mut self.marks);
                }
                Effect::Notify { client, event: Event::Merge(event) } => {
                    if is_watcher(client) {
                        self.judge_merge_event(place, &event);
                    }
                    let told = &mut self.stack.hosts[place].told;
                    told.entry(client).or_default().push_back((self.now, event));
                }
                Effect::Reply { client, request, .. } if is_watcher(client) => {
                    self.on_watched(place, request);
                }
                // These are what the client hears of, if it does.
                Effect::Reply { .. } | Effect::Notify { .. } => {}
                effect @ (Effect::Monitor { .. } | Effect::Demonitor { .. }) => {
                    self.carry_out(place, effect, now);
                }
            }
        }
        self.look_at_alarms(place);
        if let Input::Message { from, message } = &input {
            let mono = now.instant.0;
            let said = super::said_of_storage(message);
            self.oracle.on_heard(place, usize::from(from.0) - 1, said, mono);
        }
        self.recorder.on_downs(self.oracle.downs().len());
        self.check_oracle();
    }

    /// A node gave its host a message to send.
    fn on_given(&mut self, place: usize, to: NodeId, message: Message, now: Now) {
        let Some(Sent { target, .. }) = self.on_sent(place, to, &message) else { return };
        let echo = self.oracle.depart(place, target, now.instant.0);
        let link = self.network.link(place as u16, target as u16);
        self.stack.sent[link].push_back((message, echo));
    }

    /// A node was given a message: one that was sent, once, after those before it.
    fn on_message(&mut self, place: usize, from: NodeId, message: &Message) {
        self.event(0xDE11 ^ (place as u64) << 56);
        message.hash(&mut self.trace);
        self.deliveries += 1;
        let number = self.messages;
        self.tell(
            Some(place),
            EventKind::Deliver { message: number, from, sent: self.now },
            format_args!("from {from}: {message}"),
        );
        let sender = usize::from(from.0).wrapping_sub(1);
        let known = sender < self.hosts.len() && sender != place;
        let link = if known { self.network.link(sender as u16, place as u16) } else { 0 };
        let sent = &mut self.stack.sent[link];
        let at = sent.iter().position(|(sent, _)| known && sent == message);
        let Some(at) = at else {
            let text = format!(
                "n{} is given as from {from} what was not sent to it, or came before: {message}",
                place + 1
            );
            return self.fail(FailureKind::Violation, "H2", "message not as sent", text);
        };
        let echo = sent.drain(..=at).next_back().map(|(_, echo)| echo);
        if let Some(echo) = echo {
            self.oracle.arrive(sender, place, echo);
        }
    }

    // ---- disks ----------------------------------------------------------------------------

    fn on_appended(&mut self, place: usize, ticket: Ticket, records: Vec<Record>) {
        self.event(0xD15C ^ ticket.0 << 16 ^ (records.len() as u64) << 48);
        if self.watching {
            for record in &records {
                let text = format!("writes {ticket} {record}");
                self.tell(Some(place), EventKind::Persist, format_args!("{text}"));
            }
        }
        let last = std::mem::replace(&mut self.stack.hosts[place].ticket, ticket);
        if ticket <= last {
            let text = format!("n{} writes {ticket} after {last}", place + 1);
            return self.fail(FailureKind::Violation, "H1", "records out of order", text);
        }
        let at = self.now;
        let disk = &mut self.hosts[place].disk;
        disk.writes += 1;
        disk.write(ticket, records, at);
        if disk.slow > 0 {
            self.acted(FaultKind::SlowDisk);
        }
        self.spring(place);
    }

    fn on_synced(&mut self, place: usize) {
        while let Some(write) = self.hosts[place].disk.pending.pop_front() {
            self.event(0xD0E5 ^ write.ticket.0 << 16 ^ (place as u64) << 56);
            self.tell(Some(place), EventKind::Persisted, format_args!("durable {}", write.ticket));
            self.oracle.on_durable(place, &write.records);
            self.hosts[place].disk.durable.extend(write.records.iter().cloned());
            self.stack.hosts[place].untold.push_back((write.ticket, write.records));
        }
        self.check_oracle();
    }

    /// A node was told that its records are durable.
    fn on_told_durable(&mut self, place: usize, ticket: Ticket) {
        self.event(0xD0E6 ^ ticket.0 << 16 ^ (place as u64) << 56);
        let pending = self.hosts[place].disk.pending.front().map(|write| write.ticket);
        let written = self.stack.hosts[place].ticket;
        if pending.is_some_and(|pending| pending <= ticket) || ticket > written {
            let text = format!("n{} is told that {ticket} is durable, and it is not", place + 1);
            return self.fail(FailureKind::Violation, "H1", "told before durable", text);
        }
        while let Some((_, records)) = {
            let untold = &mut self.stack.hosts[place].untold;
            untold.pop_front_if(|(first, _)| *first <= ticket)
        } {
            self.oracle.on_votes(place, &records, &mut self.marks);
        }
    }

    // ---- segments -------------------------------------------------------------------------

    fn launch(&mut self, segment: Segment) {
        let Some((from, to, _)) = self.stack.shared.lock().bus.route(&segment) else { return };
        let link = from * self.hosts.len() + to;
        let full = {
            let state = self.network.links[link];
            state.queue > 0 && self.stack.in_flight[link] >= u32::from(state.queue)
        };
        self.stack.in_flight[link] += 1;
        let flying = Flying { segment, attempt: 0, delayed: false, reordered: false, link, due: 0 };
        let number = match self.stack.vacant.pop() {
            Some(number) => number,
            None => {
                self.stack.flying.push(None);
                (self.stack.flying.len() - 1) as u32
            }
        };
        self.stack.flying[number as usize] = Some(flying);
        if full {
            self.acted(FaultKind::Queue);
            return self.send_again(number);
        }
        self.send_segment(number);
    }

    /// What a segment's draws are keyed by.
    fn key(&self, number: u32) -> Option<(u64, u64)> {
        let flying = self.stack.flying[number as usize].as_ref()?;
        let (_, _, stream) = self.stack.shared.lock().bus.route(&flying.segment)?;
        let side = flying.segment.from as u64;
        let entity = 1 << 63 | (flying.link as u64) << 40 | stream << 1 | side;
        Some((entity, flying.segment.sequence << 8 | u64::from(flying.attempt & 0xFF)))
    }

    fn send_segment(&mut self, number: u32) {
        let Some((entity, counter)) = self.key(number) else { return self.land(number) };
        let at = self.now + self.latency(entity, counter);
        self.arrive_at(number, at);
    }

    /// Whoever sent a segment hears nothing, and sends it again, ever less often.
    fn send_again(&mut self, number: u32) {
        let Some(flying) = &mut self.stack.flying[number as usize] else { return };
        if !self.stack.shared.lock().bus.insists(&flying.segment) {
            return self.land(number);
        }
        flying.attempt += 1;
        let first = 4 * (self.plan.network.latency + self.plan.network.jitter) + 500 * MICRO;
        let wait = (first << flying.attempt.min(8)).min(2 * self.plan.cluster.heartbeat);
        self.arrive_at(number, self.now + wait);
    }

    fn arrive_at(&mut self, number: u32, at: Nanos) {
        if let Some(flying) = &mut self.stack.flying[number as usize] {
            flying.due = at;
            self.queue.push(at, Task::Segment(number));
        }
    }

    /// All faults have ended: what they hold up, and what waits to be sent again, comes soon.
    pub(super) fn hurry_segments(&mut self) {
        for number in 0..self.stack.flying.len() as u32 {
            if let Some((entity, counter)) = self.key(number) {
                let soon = self.now + self.latency(entity, counter);
                let due = self.stack.flying[number as usize].as_ref().map(|flying| flying.due);
                if due.is_some_and(|due| due > soon) {
                    self.arrive_at(number, soon);
                }
            }
        }
    }

    fn land(&mut self, number: u32) {
        if let Some(flying) = self.stack.flying[number as usize].take() {
            self.stack.in_flight[flying.link] -= 1;
            self.stack.vacant.push(number);
        }
    }

    /// A segment would arrive now; faults have their way with it first.
    pub(super) fn on_segment(&mut self, number: u32) {
        let Some((entity, counter)) = self.key(number) else { return self.land(number) };
        let seed = self.plan.seed;
        let safety = self.liveness.is_safety();
        let Some(flying) = &mut self.stack.flying[number as usize] else { return };
        if flying.due > self.now {
            return;
        }
        let state = self.network.links[flying.link];
        if let Some(kind) = state.cut {
            self.acted(kind);
            return self.send_again(number);
        }
        if state.clogged {
            self.acted(FaultKind::Clog);
            return self.stack.held.push(number);
        }
        if state.delay > 0 && !flying.delayed {
            flying.delayed = true;
            self.acted(FaultKind::Delay);
            return self.arrive_at(number, self.now.saturating_add(state.delay));
        }
        if state.reorder > 0 && !flying.reordered {
            flying.reordered = true;
            self.acted(FaultKind::Reorder);
            let drawn = draw(seed, Site::Reorder, entity, counter);
            let at = self.now + below(drawn, state.reorder + 1);
            return self.arrive_at(number, at);
        }
        let loss = state.loss.max(self.plan.network.loss);
        let drawn = draw(seed, Site::Loss, entity, counter);
        let segment = flying.segment.clone();
        if safety && chance(drawn, loss) {
            self.acted(FaultKind::Loss);
            if drawn % RESETS == 0 {
                let stream = segment.stream;
                let mut common = self.stack.shared.lock();
                if drawn / RESETS % 2 == 0 {
                    common.bus.reset(stream);
                } else {
                    common.bus.forget(stream);
                }
                drop(common);
                return self.land(number);
            }
            return self.send_again(number);
        }
        if safety && self.stack.misroutes && segment.load == Load::Dial {
            let drawn = draw(seed, Site::Stream, entity, counter);
            if chance(drawn, MISROUTED) {
                let place = below(drawn.rotate_left(32), self.hosts.len() as u64) as usize;
                self.tell(None, EventKind::Fault, format_args!("a dial reaches n{}", place + 1));
                self.stack.shared.lock().bus.misroute(segment.stream, place);
            }
        }
        let size = if let Load::Bytes(bytes) = &segment.load { bytes.len() as u64 } else { 0 };
        let fate = self.stack.shared.lock().bus.arrive(segment);
        self.event(0x5E67 ^ entity.rotate_left(16) ^ counter ^ size << 40 ^ (fate as u64) << 12);
        match fate {
            Fate::Unanswered => self.send_again(number),
            Fate::Taken | Fate::Stale => self.land(number),
        }
    }

    /// Lets go what no clog holds any more.
    pub(super) fn release_segments(&mut self) {
        for number in std::mem::take(&mut self.stack.held) {
            let Some(flying) = &self.stack.flying[number as usize] else { continue };
            if self.network.links[flying.link].clogged {
                self.stack.held.push(number);
                continue;
            }
            let Some((entity, counter)) = self.key(number) else {
                self.land(number);
                continue;
            };
            let drawn = draw(self.plan.seed, Site::Clog, entity, counter);
            let at = self.now + below(drawn, self.plan.network.latency + 1);
            self.arrive_at(number, at);
        }
    }

    // ---- strangers ------------------------------------------------------------------------

    fn schedule_strangers(&mut self) {
        let seed = self.plan.seed;
        let count = below(draw(seed, Site::Stranger, 0, 0), STRANGERS_MAX + 1);
        for number in 1..=count {
            let at: Nanos = below(draw(seed, Site::Stranger, number, 0), self.plan.safety);
            self.queue.push(at, Task::Stranger(number as u32));
        }
    }

    /// Somebody who is no member says something to a node: garbage, or half of a greeting.
    pub(super) fn on_stranger(&mut self, number: u32) {
        if !self.liveness.is_safety() {
            return;
        }
        let word = |counter| draw(self.plan.seed, Site::Stranger, u64::from(number), counter);
        let place = below(word(1), self.hosts.len() as u64) as usize;
        let mut bytes = match word(2) & 3 {
            0 => Vec::new(),
            1 => b"\x89synod\r\n".to_vec(),
            2 => b"\x89synod\r\n\x01\x00\xff\xff\xff\xff".to_vec(),
            _ => b"GET / HTTP/1.1\r\n".to_vec(),
        };
        for counter in 0..below(word(3), 64) {
            bytes.extend(word(4 + counter).to_le_bytes());
        }
        self.event(0x57A6 ^ (place as u64) << 16 ^ (bytes.len() as u64) << 32);
        self.tell(
            Some(place),
            EventKind::Fault,
            format_args!("a stranger says {} bytes", bytes.len()),
        );
        self.stack.shared.lock().bus.intrude(place, bytes);
    }
}
