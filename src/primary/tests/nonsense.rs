//! One replica among others that keep no rules: whatever they say, it goes on, and what it writes
//! can be read back.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::world::{key, member, small};
use crate::base::{ClientId, Incarnation, Instant, OpId, RequestId, Value};
use crate::paxos::Ballot;
use crate::primary::*;

#[derive(Clone, Debug)]
enum Step {
    Arbiter(u64, u16),
    Ask(Ask),
    /// By whom, in which reign.
    Message(u16, u64, Body),
    Persisted,
    Session(u16, bool),
    Wait(u64),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..14_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)]
}

fn reign() -> impl Strategy<Value = Reign> {
    prop_oneof![16 => (0..4_u64).prop_map(Reign), 1 => Just(Reign(u64::MAX))]
}

fn place() -> impl Strategy<Value = Place> {
    (reign(), number()).prop_map(|(reign, index)| Place { reign, index })
}

fn op() -> impl Strategy<Value = OpId> {
    let id =
        |(client, request)| OpId { client: ClientId::new(client), request: RequestId(request) };
    (1..3_u64, 0..6_u64).prop_map(id)
}

fn entry(place: Place, op: OpId, what: u8) -> Entry {
    let what = match what {
        0 => What::Begin,
        1 => What::Remove(op, key(1)),
        2 => What::Resolve(op),
        _ => What::Put(op, key(u16::from(what % 3)), Value::from("v")),
    };
    Entry { place, what }
}

/// Mostly behind each other, as entries are, behind a place.
fn entries() -> impl Strategy<Value = (Place, Vec<Entry>)> {
    let one = (op(), 0..6_u8, prop::option::weighted(0.1, place()), 0..10_u64);
    (place(), prop::collection::vec(one, 0..5)).prop_map(|(prev, many)| {
        let mut last = prev;
        let entries = many.into_iter().map(|(op, what, other, later)| {
            let reign = Reign(last.reign.0.saturating_add(u64::from(later == 0)));
            let next = Place { reign, index: last.index.saturating_add(1) };
            last = other.unwrap_or(next);
            entry(last, op, what)
        });
        (prev, entries.collect())
    })
}

fn cursor() -> impl Strategy<Value = Cursor> {
    let mark = prop_oneof![
        (0..3_u16).prop_map(|row| Mark::Rows(row.checked_sub(1).map(key))),
        number().prop_map(Mark::Remembered),
        Just(Mark::Whole),
    ];
    (place(), mark).prop_map(|(place, mark)| Cursor { place, mark })
}

fn piece() -> impl Strategy<Value = Piece> {
    let after = prop::option::of(cursor());
    let remembered = prop::collection::vec((place(), op()), 0..3);
    (after, entries(), cursor(), remembered, number()).prop_map(
        |(after, (prev, entries), mut upto, remembered, floor)| {
            let begin = after.as_ref().map_or(prev, |after| after.place);
            upto.place = entries.last().map_or(begin, |last| last.place);
            let told = |(place, op)| Remembered { place, op, fate: Fate::Resolved };
            let remembered = remembered.into_iter().map(told).collect();
            let rows = [(key(1), Value::from("r"))].to_vec();
            Piece { after, entries, rows, remembered, floor, upto }
        },
    )
}

/// Greetings are those of a replica that has said few.
fn body() -> impl Strategy<Value = Body> {
    let greeting = || (0..4_u64).prop_map(|greeting| (1 << 32) + greeting);
    prop_oneof![
        2 => (number(), number()).prop_map(|(index, round)| Body::Ack { index, round }),
        8 => (entries(), number(), number()).prop_map(|((prev, entries), committed, round)| {
            Body::Append { prev, entries, committed, round }
        }),
        2 => (greeting(), prop::option::of(cursor()))
            .prop_map(|(greeting, cursor)| Body::Behind { greeting, cursor }),
        2 => (greeting(), prop::collection::vec(place(), 0..4))
            .prop_map(|(greeting, ends)| Body::Hello { greeting, ends }),
        1 => Just(Body::Leave),
        4 => (greeting(), piece()).prop_map(|(greeting, piece)| Body::Piece { greeting, piece }),
        2 => (greeting(), prop::option::of(cursor()))
            .prop_map(|(greeting, after)| Body::Pull { greeting, after }),
        1 => Just(Body::SwearOff),
        1 => place().prop_map(Body::Sworn),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (op(), number(), any::<bool>(), 0..4_u8).prop_map(|(op, seen, again, what)| {
        let command = match what {
            0 => Command::Get(key(1), ReadLevel::Linearizable),
            1 => Command::Scan { after: None, limit: u32::MAX },
            2 => Command::Resolve,
            _ => Command::Put(key(1), Value::from("v")),
        };
        Ask { op, seen, again, within: core::time::Duration::MAX, command }
    });
    prop_oneof![
        1 => (1..4_u64, 1..4_u16).prop_map(|(reign, primary)| Step::Arbiter(reign, primary)),
        2 => ask.prop_map(Step::Ask),
        20 => (2..4_u16, reign(), body())
            .prop_map(|(from, reign, body)| Step::Message(from, reign.0, body)),
        8 => Just(Step::Persisted),
        1 => (1..4_u16, any::<bool>()).prop_map(|(of, open)| Step::Session(of, open)),
        3 => (1..2_000_u64).prop_map(Step::Wait),
    ]
}

fn roster(reign: u64, primary: u16) -> Roster {
    Roster {
        reign: Reign(reign),
        primary: member(primary, 1),
        acknowledge: Acknowledge::Quorum,
        in_sync: (1..4).map(|node| member(node, 1)).collect(),
        joining: [].into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_nonsense_stops_a_replica(
        first in 1..4_u16,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut replica = Replica::new(member(1, 1), Incarnation(1), small());
        let mut journal = Journal::new(small().limits.remembered);
        let mut now = Instant(1_000_000_000);
        let (mut known, mut batch) = (0, None);
        let begin = [Step::Arbiter(1, first), Step::Persisted];
        for step in begin.into_iter().chain(steps) {
            let input = match step {
                Step::Arbiter(reign, primary) if reign > known => {
                    known = reign;
                    let version = Ballot { round: reign, ..Ballot::ZERO };
                    Input::Arbiter { asked: 0, version, roster: Some(roster(reign, primary)) }
                }
                Step::Arbiter(..) => Input::Timeout,
                Step::Ask(ask) => Input::Ask(ask),
                Step::Message(from, reign, body) => {
                    let message = Message { reign: Reign(reign), body };
                    Input::Message { from: member(from, 1), message }
                }
                Step::Persisted => {
                    let Some((ticket, records)) = batch.take() else { continue };
                    let records: Vec<Record> = records;
                    for record in records {
                        prop_assert_eq!(journal.add(record), Ok(()), "what is written is read");
                    }
                    Input::Persisted(ticket)
                }
                Step::Session(of, open) => Input::Session { member: member(of, 1), open },
                Step::Wait(time) => {
                    now = now + core::time::Duration::from_millis(time);
                    Input::Timeout
                }
            };
            let mut effects = Vec::new();
            replica.handle(input, now, &mut effects);
            for effect in effects {
                if let Effect::Persist { ticket, records } = effect {
                    batch = Some((ticket, records));
                }
            }
            prop_assert!(replica.reign().0 <= known, "who reigns is the arbiter's to say");
        }
        let mut folded = Journal::new(small().limits.remembered);
        journal.clone().into_records().for_each(|record| folded.add(record).expect("sound"));
        prop_assert_eq!(folded.log().content(), journal.log().content());
    }
}
