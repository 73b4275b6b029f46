//! What must hold when everything has been quiet for a while.

use std::collections::BTreeMap;

use veza_engine::ledger::Kind;
use veza_history::{Checker, Event, Grace, Report};
use veza_proto::{RoomId, UserId};

use crate::client::Row;
use crate::faults::Weather;
use crate::stage::SECOND;
use crate::world::World;

/// Everything that is wrong with a run, a sentence each.
pub(crate) fn judge(world: &mut World) -> (Vec<String>, Report) {
    let mut wrong: Vec<String> = world.broken.take().into_iter().collect();
    tell_the_end(world);
    // What one node does is heard at once, what two do after a while; and who does not read hears it later still.
    let removal_us = match (world.weather, world.nodes_used) {
        (Weather::Fair, 1) => SECOND,
        (Weather::Fair, _) => 5 * SECOND,
        (Weather::Rough, _) => 25 * SECOND,
    };
    let mut checker = Checker::new(Grace { settle_us: 5 * SECOND, removal_us });
    world.stage.journal.records.iter().for_each(|record| checker.take(record));
    let report = checker.finish();
    for judgement in &report.judgements {
        wrong.extend(judgement.violations.iter().map(|found| format!("{}: {found}", judgement.invariant)));
    }
    if world.stage.sabotage.is_none() {
        wrong.extend(world.store.reference.compare_all(&world.store.ledger).err());
        wrong.extend(world.nodes.iter().flat_map(|node| node.leaks()));
        wrong.extend(world.clients.iter().filter_map(|client| client.unfinished()));
        wrong.extend(shown(world));
    }
    (wrong, report)
}

/// The final histories, as the database has them.
fn tell_the_end(world: &mut World) {
    let source = || "store".to_owned();
    let mut told = Vec::new();
    for (id, row) in world.store.ledger.rooms.iter() {
        let room = || String::from(id);
        for (_, entry) in world.store.ledger.entries.range((id.clone(), 0), (id.clone(), u64::MAX)) {
            let entry = (&world.store.shown(entry, &entry.author)).into();
            told.push(Event::Stored { source: source(), room: room(), entry });
        }
        let (epoch, first_available, head) = (row.epoch, row.first_available, row.head);
        told.push(Event::Final { source: source(), room: room(), epoch, first_available, head });
    }
    told.into_iter().for_each(|event| world.told(event));
}

/// What every client shows against what is stored.
fn shown(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for client in &world.clients {
        let user = UserId::parse(&client.user).expect("short names");
        for (name, place) in client.places.iter().filter(|(_, place)| place.wanted) {
            let id = RoomId::parse(name).expect("short names");
            let Some((row, _)) = world.store.place(&id, &user) else {
                wrong.push(format!("{} is in {name}, of which {user} is no member", client.name));
                continue;
            };
            let who = format!("{} in {name}", client.name);
            if place.stands_at() != Some((row.epoch, row.head)) {
                wrong.push(format!("{who} stands at {:?}, the room at {:?}", place.stands_at(), (row.epoch, row.head)));
                continue;
            }
            let stored: BTreeMap<u64, Row> = world
                .store
                .ledger
                .entries
                .range((id.clone(), 0), (id.clone(), u64::MAX))
                .filter(|(_, entry)| entry.detail.kind() == Kind::Text)
                .map(|((_, seq), entry)| (*seq, Row::of(&world.store.shown(entry, &user))))
                .collect();
            for (seq, row) in place.view.rows() {
                if let Some(stored) = stored.get(&seq).filter(|stored| *stored != row) {
                    wrong.push(format!("{who} shows #{seq} as {row:?}, stored is {stored:?}"));
                }
            }
        }
    }
    wrong
}
