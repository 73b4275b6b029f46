use veza_proto::v1::{Gap, Live, Recovered, Room, Verdict};

use super::*;

const EPOCH: u64 = 9;

fn message(seq: u64) -> Message {
    of_epoch(EPOCH, seq)
}

fn of_epoch(epoch: u64, seq: u64) -> Message {
    Message { room: "lobby".into(), epoch, seq, body: seq.to_string(), ..Message::default() }
}

fn joined(epoch: u64, head: u64, outcome: verdict::Outcome) -> RoomJoined {
    RoomJoined {
        room: Some(Room { id: "lobby".into(), epoch, head, ..Room::default() }),
        verdict: Some(Verdict { outcome: Some(outcome) }),
        ..RoomJoined::default()
    }
}

fn live(head: u64) -> RoomJoined {
    joined(EPOCH, head, verdict::Outcome::Live(Live {}))
}

/// A log that stands at 10.
fn at_ten() -> RoomLog {
    let mut log = RoomLog::new("lobby", Delivery::Fast);
    assert_eq!(log.settle(&live(10)), []);
    log
}

fn seqs(steps: &[Step]) -> Vec<u64> {
    let seq = |step: &Step| match step {
        Step::Message(message) => message.seq,
        Step::Hole(hole) => panic!("a hole: {hole:?}"),
    };
    steps.iter().map(seq).collect()
}

fn repair(after_seq: u64, up_to_seq: u64) -> Repair {
    Repair { room: "lobby".into(), epoch: EPOCH, after_seq, up_to_seq }
}

fn page(seqs: impl IntoIterator<Item = u64>, head: u64) -> Repaired {
    Repaired { room: "lobby".into(), epoch: EPOCH, messages: seqs.into_iter().map(message).collect(), head }
}

#[test]
fn in_order_they_pass() {
    let mut log = at_ten();
    assert_eq!(seqs(&log.deliver(message(11))), [11]);
    assert_eq!(seqs(&log.deliver(message(12))), [12]);
    assert_eq!(log.missing(), None);
    assert_eq!(log.cursor().last_seq, 12);
}

#[test]
fn a_duplicate_is_dropped() {
    let mut log = at_ten();
    log.deliver(message(11));
    assert_eq!(log.deliver(message(11)), []);
    assert_eq!(log.deliver(message(3)), []);
}

#[test]
fn a_datagram_that_overtakes_waits() {
    let mut log = at_ten();
    assert_eq!(log.deliver(message(13)), []);
    assert_eq!(log.missing(), Some(repair(10, 12)));
    assert_eq!(seqs(&log.deliver(message(11))), [11]);
    assert_eq!(seqs(&log.deliver(message(12))), [12, 13]);
    assert_eq!(log.missing(), None);
}

#[test]
fn a_lost_datagram_is_repaired_and_the_held_ones_follow() {
    let mut log = at_ten();
    log.deliver(message(12));
    log.deliver(message(13));
    let asked = log.missing().unwrap();
    assert_eq!(asked, repair(10, 11));
    assert_eq!(seqs(&log.repaired(&asked, page([11], 13))), [11, 12, 13]);
    assert_eq!(log.missing(), None);
}

#[test]
fn the_head_reveals_a_lost_last_datagram() {
    let mut log = at_ten();
    log.head(EPOCH, 12);
    let asked = log.missing().unwrap();
    assert_eq!(asked, repair(10, 0));
    assert_eq!(seqs(&log.repaired(&asked, page([11, 12], 12))), [11, 12]);
    assert_eq!(log.missing(), None);
    log.head(EPOCH + 1, 99);
    assert_eq!(log.missing(), None, "the head of another epoch is none of ours");
}

#[test]
fn a_lagging_mark_is_caught_up_page_by_page() {
    let mut log = at_ten();
    log.lagging(EPOCH, 10);
    let asked = log.missing().unwrap();
    assert_eq!(seqs(&log.repaired(&asked, page(11..=110, 150))), (11..=110).collect::<Vec<_>>());
    let asked = log.missing().unwrap();
    assert_eq!(asked, repair(110, 0));
    assert_eq!(seqs(&log.repaired(&asked, page(111..=150, 150))), (111..=150).collect::<Vec<_>>());
    assert_eq!(log.missing(), None);
}

#[test]
fn what_came_while_the_repair_was_under_way_is_not_shown_twice() {
    let mut log = at_ten();
    log.deliver(message(13));
    let asked = log.missing().unwrap();
    assert_eq!(seqs(&log.deliver(message(11))), [11]);
    assert_eq!(seqs(&log.repaired(&asked, page([11, 12], 13))), [12, 13]);
}

#[test]
fn what_cannot_be_repaired_is_named_once() {
    let mut log = at_ten();
    log.deliver(message(14));
    let asked = log.missing().unwrap();
    let steps = log.repaired(&asked, page([13], 14));
    let hole = Hole { room: "lobby".into(), epoch: EPOCH, from: 11, to: 12, reason: GapReason::Unspecified };
    assert_eq!(steps[0], Step::Hole(hole));
    assert_eq!(seqs(&steps[1..]), [13, 14]);

    log.deliver(message(17));
    let asked = log.missing().unwrap();
    let steps = log.repaired(&asked, page([], 17));
    let hole = Hole { room: "lobby".into(), epoch: EPOCH, from: 15, to: 16, reason: GapReason::Unspecified };
    assert_eq!(steps[0], Step::Hole(hole));
    assert_eq!(seqs(&steps[1..]), [17]);
    assert_eq!(log.missing(), None);
}

#[test]
fn a_wrong_head_is_not_asked_for_forever() {
    let mut log = at_ten();
    log.head(EPOCH, 20);
    let asked = log.missing().unwrap();
    assert_eq!(log.repaired(&asked, page([], 10)), []);
    assert_eq!(log.missing(), None);
}

#[test]
fn deliveries_that_overtake_the_verdict_are_held_for_it() {
    let mut log = RoomLog::new("lobby", Delivery::Unspecified);
    assert_eq!(log.deliver(message(10)), []);
    assert_eq!(log.deliver(message(11)), []);
    assert_eq!(log.deliver(of_epoch(EPOCH - 1, 12)), []);
    assert_eq!(seqs(&log.settle(&live(10))), [11]);
    assert_eq!(log.missing(), None);
}

#[test]
fn a_recovered_room_goes_on_where_it_stood() {
    let mut log = at_ten();
    log.unsettle();
    assert_eq!((log.cursor().epoch, log.cursor().last_seq), (EPOCH, 10));
    assert_eq!(log.deliver(message(11)), [], "the replay may come before the verdict");
    let verdict = joined(EPOCH, 12, verdict::Outcome::Recovered(Recovered { messages: 2 }));
    assert_eq!(seqs(&log.settle(&verdict)), [11]);
    assert_eq!(log.missing(), None, "the rest is on its way");
    assert_eq!(seqs(&log.deliver(message(12))), [12]);
}

#[test]
fn a_gap_starts_after_the_head() {
    let mut log = at_ten();
    log.unsettle();
    let gap = Gap { reason: GapReason::TooFarBehind.into(), first_available: 1 };
    let steps = log.settle(&joined(EPOCH, 5_000, verdict::Outcome::Gap(gap)));
    let hole = Hole { room: "lobby".into(), epoch: EPOCH, from: 11, to: 5_000, reason: GapReason::TooFarBehind };
    assert_eq!(steps, [Step::Hole(hole)]);
    assert_eq!(seqs(&log.deliver(message(5_001))), [5_001]);
}

#[test]
fn a_new_epoch_starts_a_new_order() {
    let mut log = at_ten();
    assert_eq!(log.deliver(of_epoch(EPOCH + 1, 3)), []);
    assert!(!log.is_settled(), "only a verdict can place it");
    let gap = Gap { reason: GapReason::EpochChanged.into(), first_available: 1 };
    let steps = log.settle(&joined(EPOCH + 1, 2, verdict::Outcome::Gap(gap)));
    let hole = Hole { room: "lobby".into(), epoch: EPOCH + 1, from: 1, to: 2, reason: GapReason::EpochChanged };
    assert_eq!(steps[0], Step::Hole(hole));
    assert_eq!(seqs(&steps[1..]), [3]);
}

#[test]
fn held_messages_at_their_bound_and_one_past() {
    let mut log = at_ten();
    let first = 12;
    let last = first + HELD_MAX as u64 - 1;
    for seq in first..=last {
        log.deliver(message(seq));
    }
    assert_eq!(log.held.len(), HELD_MAX);
    log.deliver(message(last + 1));
    assert_eq!(log.held.len(), HELD_MAX);
    assert_eq!(seqs(&log.deliver(message(11))).last(), Some(&last));
    assert_eq!(log.missing(), Some(repair(last, 0)), "what was let go is asked for");
}
