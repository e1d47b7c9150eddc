//! Clients of the primary table: they write under ids, ask again under them until they know what
//! became of it, and read at every level, at every replica.
//!
//! Must never know: what is done to the cluster meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::answers;
use super::super::client::{Lost, Reply};
use super::super::primary::{self, Deed, Doubt, Fate, Late, SLACK, TABLE, Told, WITHIN, What};
use super::super::record::value_of;
use super::{Client, Notes, ORDERED_SLOTS, Slot};

/// Of so many in a hundred writes each has a key of its own: what is acknowledged of it has to be
/// there at the end.
const ALONE: u64 = 10;
/// So many in a hundred writes that were answered are asked again.
const REPEATED: u64 = 3;

/// A question about the table.
fn asking<const N: usize>(words: [&str; N]) -> Vec<String> {
    let patience = WITHIN.as_millis().to_string();
    let options = ["TABLE", TABLE, "PATIENCE", &patience];
    words.into_iter().chain(options).map(str::to_owned).collect()
}

impl Client<'_> {
    /// Asks until it is to stop, with a pause of so many milliseconds at most; what it noted.
    #[must_use]
    pub fn order(mut self, (least, most): (u64, u64)) -> Notes {
        while !self.shared.is_over() {
            if self.connect() {
                self.place_order();
            }
            let think = self.draws.magnitude(least, most);
            std::thread::sleep(Duration::from_millis(think));
        }
        self.notes
    }

    fn place_order(&mut self) {
        // What nobody knows of is asked again, mostly before anything else.
        if !self.notes.orders.doubts.is_empty() && self.draws.percent(80) {
            let doubt = self.notes.orders.doubts.remove(0);
            return self.ask_again(doubt);
        }
        let reads = self.draws.percent(40);
        let alone = !reads && self.draws.percent(ALONE);
        let place = (!alone).then(|| self.draws.below(ORDERED_SLOTS as u64) as usize);
        let slot = self.shared.ordered_slot(place);
        if reads { self.read_order(&slot) } else { self.write_order(&slot, alone) }
    }

    fn read_order(&mut self, slot: &Slot) {
        let mut words = asking(["SYNOD.GET", &slot.name]);
        let mut seen = self.shown;
        let linearizable = self.draws.percent(30);
        if linearizable {
            words.extend(["LINEARIZABLE", "FOLLOW"].map(str::to_owned));
        }
        if self.draws.percent(40) {
            // What it has been shown elsewhere counts as well.
            seen = self.carried;
            words.extend(["SEEN".to_owned(), seen.to_string()]);
        }
        let (node, call) = (self.node, self.shared.now());
        let Some(reply) = self.attempt(words) else { return };
        let ret = self.shared.now();
        match primary::shown(&reply) {
            Ok(Some((place, value))) => {
                self.see(place);
                let what = What::Read { linearizable, seen, place, value };
                let deed = Deed { client: self.id, key: slot.number, node, call, ret, what };
                self.notes.orders.deeds.push(deed);
            }
            Ok(None) => self.move_on(&reply),
            Err(why) => {
                self.shared.complain(format!("a read of {} at node {node}: {why}", slot.name));
            }
        }
    }

    fn write_order(&mut self, slot: &Slot, alone: bool) {
        let number = self.number();
        let value = value_of(self.id, number);
        let removes = !alone && self.draws.percent(20);
        let mut words = if removes {
            asking(["SYNOD.REMOVE", &slot.name])
        } else {
            asking(["SYNOD.PUT", &slot.name, &answers::text_of(value)])
        };
        // Nobody else's: no two runs begin in the same millisecond on one cluster.
        let request =
            [self.shared.wall << 16 | u64::from(self.id), number].map(|it| it.to_string());
        words.push("REQUEST".to_owned());
        words.extend(request.clone());
        if self.draws.percent(70) {
            words.push("FOLLOW".to_owned());
        }
        let since = self.carried;
        let what = What::Write((!removes).then_some(value), Fate::Unknown);
        let (node, call) = (self.node, self.shared.now());
        let deed = Deed { client: self.id, key: slot.number, node, call, ret: call, what };
        let doubt = Doubt { deed, request, since, words };
        let doubts = self.notes.orders.doubts.len();
        let told = self.attempt(doubt.words.clone()).map(|reply| (primary::told(&reply), reply));
        match told {
            None => self.notes.orders.doubts.push(doubt),
            Some((Told::Refused, reply)) => {
                self.move_on(&reply);
                self.note_order(doubt, Fate::Never);
            }
            Some((told, _)) => self.take(doubt, told),
        }
        let doubts = self.notes.orders.doubts.len() - doubts;
        self.shared.unknown.fetch_add(doubts as u64, Ordering::Relaxed);
    }

    /// Asks for the same again, at this node, or for what became of it.
    fn ask_again(&mut self, mut doubt: Doubt) {
        let words = if self.draws.percent(50) {
            doubt.resolve()
        } else {
            let again = ["AGAIN".to_owned(), "SEEN".to_owned(), doubt.since.to_string()];
            doubt.words.iter().cloned().chain(again).collect()
        };
        doubt.deed.node = self.node;
        match self.attempt(words).map(|reply| (primary::told(&reply), reply)) {
            None => self.notes.orders.doubts.push(doubt),
            // That it was refused now says nothing of what became of it before.
            Some((Told::Refused, reply)) => {
                self.move_on(&reply);
                self.notes.orders.doubts.push(doubt);
            }
            Some((told, _)) => self.take(doubt, told),
        }
    }

    fn take(&mut self, doubt: Doubt, told: Told) {
        match told {
            Told::Fate(Fate::Unknown) | Told::Refused => self.notes.orders.doubts.push(doubt),
            Told::Fate(fate) => self.note_order(doubt, fate),
            Told::Strange(why) => {
                let node = self.node;
                self.shared.complain(format!("{} at node {node}: {why}", doubt.words[0]));
                self.notes.orders.doubts.push(doubt);
            }
        }
    }

    /// It is known what became of it. At times it is asked again all the same, for the same answer.
    fn note_order(&mut self, mut doubt: Doubt, fate: Fate) {
        doubt.deed.ret = self.shared.now();
        if let Fate::Done { place, reign, .. } = fate {
            self.see(place);
            self.shared.acknowledged(reign, doubt.deed.ret);
        }
        if self.draws.percent(REPEATED) && self.connection.is_some() {
            let words = doubt.resolve();
            let told = self.attempt(words).map(|reply| primary::told(&reply));
            self.notes.orders.repeated += u64::from(matches!(told, Some(Told::Fate(_))));
            if let Some(Told::Fate(other)) = told
                && other != fate
                && other != Fate::Unknown
            {
                let name = doubt.request.join(".");
                self.shared.complain(format!("request {name}: first {fate:?}, then {other:?}"));
            }
        }
        if let What::Write(_, known) = &mut doubt.deed.what {
            *known = fate;
        }
        self.notes.orders.deeds.push(doubt.deed);
    }

    fn see(&mut self, place: u64) {
        self.shown = self.shown.max(place);
        self.carried = self.carried.max(place);
    }

    /// Whoever takes no part cannot be asked.
    fn move_on(&mut self, reply: &Reply) {
        if matches!(reply, Reply::Error(code, _) if code == "NOTREADY" || code == "NOREPLICA") {
            self.turn();
        }
    }

    /// Asks once. No answer is owed by who has closed the connection; else it is, in time.
    fn attempt(&mut self, words: Vec<String>) -> Option<Reply> {
        let (node, call) = (self.node, self.shared.now());
        let reply = self.call(&words);
        let ret = self.shared.now();
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
        let took = ret - call;
        let orders = &mut self.notes.orders;
        if !matches!(reply, Err(Lost::Closed(_))) {
            orders.longest = orders.longest.max(took);
            if Duration::from_nanos(took) > WITHIN + SLACK || matches!(reply, Err(Lost::Late)) {
                orders.late.push(Late { node, call, ret });
            }
        }
        match reply {
            Ok(reply) => Some(reply),
            Err(lost) => {
                if let Lost::Garbled(what) = lost {
                    self.shared.complain(format!("{} at node {node}: {what}", words[0]));
                }
                self.turn();
                None
            }
        }
    }
}
