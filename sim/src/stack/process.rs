//! One life of one node, as a host: what the World takes for the node itself.
//!
//! Must never know: what the World does with what it is told.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use madsim::runtime::Handle as Runtime;
use madsim::task::NodeId as Machine;
use synod::consensus::{Cell, Readiness};
use synod::host::{
    CallOptions, Clock, HostConfig, LinkOptions, Local, LocalClient, Syncing, prepare,
};
use synod::merged::Table;
use synod::storage::{Damage, Found, Opened, Storage};
use synod::{
    Ballot, ClientId, Config, Effects, Input, Instant, Now, Record, RegisterId, Request, SessionId,
    TableId, TableName, Violation,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::disk::{Simulated, delays};
use super::{Deed, Life, NodeClock, Shared, Step, View, bus};
use crate::oracle::{Seat, Stand};
use crate::plan::Plan;

/// What is asked at a host's door.
enum Door {
    Ask(Request),
    /// A client is gone, and so is its connection.
    Leave(ClientId),
    /// Whoever has this session gives it up.
    End(SessionId),
}

/// One life of one node.
#[derive(Debug)]
pub(crate) struct Process {
    life: Life,
    machine: Machine,
    doors: UnboundedSender<Door>,
    /// What it last showed, as the World has looked at it, and as it is.
    view: View,
    showing: Arc<Mutex<View>>,
    /// Its copies of merged tables, as the World has looked at them.
    copies: BTreeMap<TableId, Table>,
    /// The merged tables that there are, if some are made while nodes run.
    tables: Vec<(TableId, TableName, String)>,
    /// Where it has primary tables that are made while nodes run, by their names.
    made: Vec<(String, TableId, TableName)>,
    shared: Shared,
}

/// What a life begins with.
pub(crate) struct Boot<'a> {
    pub(crate) life: Life,
    pub(crate) plan: &'a Plan,
    pub(crate) config: Config,
    pub(crate) seed: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) rotten: bool,
    pub(crate) links: LinkOptions,
    pub(crate) shared: Shared,
}

impl Process {
    pub(crate) fn start(boot: Boot<'_>) -> Self {
        let Boot { life, plan, config, seed, records, rotten, links, shared } = boot;
        let (doors, asked) = unbounded_channel();
        let showing = Arc::new(Mutex::new(View::default()));
        let found = match (rotten, records.is_empty()) {
            (true, _) => Found::Damaged(Damage {
                path: "simulated".into(),
                offset: None,
                what: "a checksum does not fit".to_owned(),
            }),
            (false, true) => Found::New,
            (false, false) => Found::Records(records.into()),
        };
        let storage: Box<dyn Storage> = Box::new(Simulated::new(life, shared.clone()));
        let host = HostConfig {
            name: "simulated".to_owned(),
            node: config,
            links: links.clone(),
            seed,
            syncing: Syncing::Delayed(Box::new(delays(
                plan.seed,
                &plan.disk,
                life,
                shared.clone(),
            ))),
            services: vec![Box::new({
                let shared = shared.clone();
                move |local| Box::pin(serve(local, asked, life, shared))
            })],
            tap: tap(life, plan, showing.clone(), shared.clone()),
        };
        let span = Duration::from_nanos(plan.cluster.heartbeat);
        let runtime = Runtime::current();
        let machine = runtime.create_node().build();
        shared.lock().bus.begin(life);
        let host_shared = shared.clone();
        let live = move || async move {
            let shared = host_shared;
            let network = bus::Network::new(life, shared.clone());
            let clock: Rc<dyn Clock> =
                Rc::new(NodeClock { place: life.place, shared: shared.clone() });
            let opened = Opened { storage, found };
            let (handle, run) = match prepare(host, move || Ok(network), move || clock, opened) {
                Ok(prepared) => prepared,
                Err(error) => return shared.note(life, Deed::Ended(error.to_string())),
            };
            let gauge = gauge(handle, span, links.queue_max, life, shared.clone());
            let _gauge = tokio::task::spawn_local(gauge);
            let why = run.await.map_or_else(|error| error.to_string(), |()| "stopped".to_owned());
            shared.note(life, Deed::Ended(why));
        };
        drop(machine.spawn(async move { drop(tokio::task::spawn_local(live())) }));
        let (view, copies) = (View::default(), BTreeMap::new());
        let (machine, tables, made) = (machine.id(), Vec::new(), Vec::new());
        Self { life, machine, doors, view, showing, copies, tables, made, shared }
    }

    /// Tells the node something. What comes of it is noted when it does.
    pub(crate) fn handle(&self, input: Input, _: Now, _: &mut Effects) {
        let door = match input {
            Input::Request(request) => Door::Ask(request),
            Input::Down { session } => Door::End(session),
            Input::Link { peer, up } => {
                if !up {
                    let peer = usize::from(peer.0) - 1;
                    self.shared.lock().bus.reset_between(self.life.place, peer);
                }
                return;
            }
            // These its host tells it.
            Input::Message { .. } | Input::Persisted { .. } | Input::Timeout => return,
        };
        // A host that has just ended hears nothing more, and the World is about to learn of it.
        let _ = self.doors.send(door);
    }

    /// A client's connection is gone.
    pub(crate) fn leave(&self, client: ClientId) {
        let _ = self.doors.send(Door::Leave(client));
    }

    pub(crate) fn pause(&self, paused: bool) {
        let runtime = Runtime::current();
        if paused { runtime.pause(self.machine) } else { runtime.resume(self.machine) }
    }

    /// Its host sees to its timers.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Takes over what the node last showed, and the copies that a step of it has changed.
    pub(crate) fn look(
        &mut self,
        copies: Vec<(TableId, Table)>,
        tables: Vec<(TableId, TableName, String)>,
    ) {
        self.view = self.showing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.copies.extend(copies);
        self.tables = tables;
    }

    /// Where, by which names their copies know each other, and what people call them.
    pub(crate) fn merged_tables(&self) -> impl Iterator<Item = (TableId, TableName, &str)> {
        self.tables.iter().map(|(table, name, text)| (*table, *name, text.as_str()))
    }

    /// The same of where primary tables are.
    pub(crate) fn look_at_made(&mut self, made: Vec<(String, TableId, TableName)>) {
        self.made = made;
    }

    pub(crate) fn find_made(&self, name: &str) -> Option<(TableId, TableName)> {
        let found = self.made.iter().find(|(known, ..)| known == name);
        found.map(|(_, table, hash)| (*table, *hash))
    }

    pub(crate) fn merged(&self, table: TableId) -> Option<&Table> {
        self.copies.get(&table)
    }

    pub(crate) const fn readiness(&self) -> &Readiness {
        &self.view.readiness
    }

    pub(crate) fn registers(
        &self,
    ) -> impl Iterator<Item = (&RegisterId, Ballot, Ballot, Option<&Arc<Cell>>)> {
        let all = self.view.registers.iter();
        all.map(|(name, promised, accepted, cell)| (name, *promised, *accepted, cell.as_ref()))
    }

    pub(crate) fn check_invariants(&self) -> Result<(), Violation> {
        self.view.violation.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Process {
    /// Every task of it ends. What these still do as they are dropped goes nowhere.
    fn drop(&mut self) {
        self.shared.lock().bus.end(self.life);
        if let Ok(runtime) = Runtime::try_current() {
            runtime.kill(self.machine);
        }
    }
}

/// Whether two looks at a copy show the same: everything that alters one alters these.
fn is_same(one: &Table, other: &Table) -> bool {
    one.actor() == other.actor()
        && one.seen() == other.seen()
        && one.len() == other.len()
        && one.stable() == other.stable()
        && one.is_putting_in() == other.is_putting_in()
        && one.conflicts() == other.conflicts()
}

/// Notes each step of a node.
fn tap(life: Life, plan: &Plan, view: Arc<Mutex<View>>, shared: Shared) -> synod::host::Tap {
    let tables: Vec<TableId> = plan.merged_tables().collect();
    let lists = plan.tables.iter().any(crate::plan::Table::is_listed);
    let makes = plan.tables.iter().any(crate::plan::Table::is_made);
    let mut known: BTreeMap<TableId, Table> = BTreeMap::new();
    let mut stood: BTreeMap<TableId, Stand> = BTreeMap::new();
    Box::new(move |node, input, now, effects| {
        let showing = shared.lock().showing;
        {
            let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
            if view.readiness != *node.readiness() {
                view.readiness = node.readiness().clone();
            }
            if showing {
                let all = node.registers();
                let all = all.map(|(name, promised, accepted, cell)| {
                    (name.clone(), promised, accepted, cell.cloned())
                });
                view.registers = all.collect();
                view.violation = node.check_invariants().err();
            }
        }
        let (mut copies, mut listed) = (Vec::new(), Vec::new());
        if lists {
            let all = node.merged_tables();
            listed.extend(all.map(|(table, name, text)| (table, name, text.to_owned())));
        }
        let of_listed = listed.iter().map(|(table, ..)| *table).filter(|it| !tables.contains(it));
        for table in tables.iter().copied().chain(of_listed) {
            let Some(copy) = node.merged(table) else { continue };
            if known.get(&table).is_none_or(|before| !is_same(before, copy)) {
                known.insert(table, copy.clone());
                copies.push((table, copy.clone()));
            }
        }
        let mut seats = Vec::new();
        let mut made = Vec::new();
        for (table, name, replica) in node.replicas() {
            let stand = Stand::of(replica);
            if stood.insert(table, stand) != Some(stand) {
                seats.push((table, name, Seat::of(replica)));
            }
            if makes {
                made.push((node.config().tables[usize::from(table.0)].name.clone(), table, name));
            }
        }
        let (effects, due) = (effects.to_vec(), node.poll_timeout());
        let tables = listed;
        let step = Step { input, now, effects, due, copies, tables, seats, made };
        shared.note(life, Deed::Step(Box::new(step)));
    })
}

/// Serves clients as a server's connections do: each is one of the node's own thread.
async fn serve(local: Local, mut asked: UnboundedReceiver<Door>, life: Life, shared: Shared) {
    let mut clients: BTreeMap<ClientId, LocalClient> = BTreeMap::new();
    loop {
        let door = poll_fn(|cx| {
            for (id, client) in &clients {
                while let Poll::Ready(news) = client.poll_news(cx) {
                    shared.note(life, Deed::News(*id, news));
                }
            }
            asked.poll_recv(cx)
        });
        match door.await {
            Some(Door::Ask(request)) => {
                let Request { client: id, id: number, sent, patience, on_no_quorum, command } =
                    request;
                let client = clients
                    .entry(id)
                    .or_insert_with(|| local.client_named(id).expect("each name is taken once"));
                let options = CallOptions { patience, on_no_quorum };
                client.ask_numbered(number, sent, command, options);
            }
            Some(Door::Leave(client)) => drop(clients.remove(&client)),
            Some(Door::End(session)) => {
                let _ = clients.values().any(|client| client.end(session));
            }
            None => return,
        }
    }
}

/// Watches that what waits for peers is bounded.
async fn gauge(
    handle: synod::host::Handle,
    every: Duration,
    queue_max: usize,
    life: Life,
    shared: Shared,
) {
    while let Ok(links) = handle.links().await {
        let most = links.iter().map(|link| link.queued).max().unwrap_or_default();
        if most > queue_max + MESSAGE_MAX {
            shared.note(life, Deed::Overflow(most));
        }
        tokio::time::sleep(every).await;
    }
}

/// More than any message of a plan is long.
const MESSAGE_MAX: usize = 8 << 10;
