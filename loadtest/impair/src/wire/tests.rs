use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn wire(trace: &str, carriage: Carriage) -> Wire<u32> {
    Wire::new(trace.parse().unwrap(), carriage, 42, Duration::ZERO)
}

fn datagrams(trace: &str) -> Wire<u32> {
    wire(trace, Carriage::Datagrams)
}

/// Sends packets of 125 bytes, 1 ms at 1 Mb/s, one every `every`; which come out, and when.
fn through(wire: &mut Wire<u32>, packets: u32, every: Duration) -> Vec<(Duration, u32)> {
    let mut came = Vec::new();
    for number in 0..packets {
        let now = every * number;
        drain(wire, now, &mut came);
        wire.handle(number, 125, now).ok();
    }
    drain(wire, Duration::from_secs(3_600), &mut came);
    came
}

/// What comes out until then, each when it is due.
fn drain(wire: &mut Wire<u32>, until: Duration, came: &mut Vec<(Duration, u32)>) {
    while let Some(due) = wire.timeout().filter(|due| *due <= until) {
        came.extend(std::iter::from_fn(|| wire.poll(due)).map(|packet| (due, packet)));
    }
}

fn numbers(came: &[(Duration, u32)]) -> Vec<u32> {
    came.iter().map(|(_, number)| *number).collect()
}

/// How many of a hundred thousand, in thousandths.
fn share_of(count: u64) -> u64 {
    (count + 50) / 100
}

#[test]
fn a_clear_wire_does_nothing() {
    let came = through(&mut datagrams("clear"), 1_000, ms(1));
    assert!(came.iter().enumerate().all(|(at, came)| *came == (ms(at as u64), at as u32)));
}

#[test]
fn delay_is_exact_and_jitter_within_its_range() {
    let came = through(&mut datagrams("delay=20ms"), 100, ms(1));
    assert!(came.iter().all(|(at, number)| *at == ms(20 + u64::from(*number))));
    for (spread, max) in [("uniform", 30), ("normal", 30), ("pareto", 120)] {
        let came = through(&mut datagrams(&format!("delay=20ms jitter=30ms/{spread} order=free")), 100_000, ms(200));
        let mut late: Vec<u64> =
            came.iter().map(|(at, number)| (*at - ms(200) * *number - ms(20)).as_millis() as u64).collect();
        late.sort_unstable();
        assert!(*late.last().unwrap() <= max, "{spread}");
        let at = |percent: usize| late[late.len() * percent / 100];
        let told = (at(5), at(50), at(95));
        match spread {
            "uniform" => assert_eq!(told, (1, 14, 28)),
            "normal" => assert_eq!(told, (7, 14, 22)),
            _ => assert_eq!(told, (0, 3, 26)),
        }
    }
}

#[test]
fn jitter_keeps_the_order_unless_it_is_free() {
    let kept = through(&mut datagrams("jitter=30ms"), 1_000, ms(1));
    assert!(numbers(&kept).is_sorted() && kept.is_sorted());
    let free = through(&mut datagrams("jitter=30ms order=free"), 1_000, ms(1));
    assert!(!numbers(&free).is_sorted());
    assert_eq!(free.len(), 1_000);
}

#[test]
fn each_is_lost_for_itself_as_often_as_it_says() {
    let mut wire = datagrams("loss=5%");
    let came = numbers(&through(&mut wire, 100_000, ms(1)));
    assert_eq!(share_of(wire.counts().lost), 50);
    assert_eq!(wire.counts().delivered + wire.counts().lost, 100_000);
    // After a loss the next is lost no more often than any.
    let twice = came.windows(2).filter(|pair| pair[1] - pair[0] == 3).count() as u64;
    assert!((200..300).contains(&twice), "{twice} pairs, 226 by the product");
}

#[test]
fn bursts_lose_as_much_as_they_say_and_in_a_row() {
    let mut wire = datagrams("bursts=10%x4");
    let came = numbers(&through(&mut wire, 100_000, ms(1)));
    let lost = wire.counts().lost_in_bursts;
    assert!((95..=105).contains(&share_of(lost)), "{lost}");
    let bursts = came.windows(2).filter(|pair| pair[1] - pair[0] > 1).count() as u64;
    assert!((38..=42).contains(&(lost * 10 / bursts)), "{lost} in {bursts} bursts");
}

#[test]
fn some_are_held_back_and_some_come_twice() {
    let mut wire = datagrams("reorder=2%+30ms duplicate=1%");
    let came = through(&mut wire, 100_000, ms(10));
    assert_eq!((share_of(wire.counts().held_back), share_of(wire.counts().duplicated)), (20, 10));
    let late: Vec<_> = came.iter().filter(|(at, number)| *at > ms(10) * *number).collect();
    assert!(late.iter().all(|(at, number)| *at == ms(10) * *number + ms(30)));
    assert_eq!(came.len() as u64, 100_000 + wire.counts().duplicated);
}

#[test]
fn a_bottleneck_takes_its_time_and_queues() {
    let mut wire = datagrams("1M queue=1s");
    for number in 0..3 {
        wire.handle(number, 125, ms(0)).unwrap();
    }
    assert_eq!(wire.queue_time(ms(0)), Some(ms(3)));
    let mut came = Vec::new();
    drain(&mut wire, ms(10), &mut came);
    assert_eq!(came, [(ms(1), 0), (ms(2), 1), (ms(3), 2)]);
    assert_eq!(wire.queue_time(ms(10)), Some(ms(0)));
    assert_eq!(wire.counts().queue_ms_max, 2);
}

#[test]
fn a_queue_of_time_at_its_limit_and_one_past() {
    let mut wire = datagrams("1M queue=5ms");
    // One passes, five wait: the last of them for 5 ms.
    let taken = (0..10).filter(|number| wire.handle(*number, 125, ms(0)).is_ok()).count();
    assert_eq!(taken, 6);
    assert_eq!(wire.handle(10, 125, ms(1) - Duration::from_nanos(1)), Err(Drop::QueueFull));
    assert_eq!(wire.handle(11, 125, ms(1)), Ok(()));
    assert_eq!(wire.counts().queue_full, 5);
}

#[test]
fn a_queue_of_bytes_at_its_limit_and_one_past() {
    let mut wire = datagrams("1M queue=300B");
    assert_eq!(wire.handle(0, 1_500, ms(0)), Ok(()), "what passes does not wait");
    assert_eq!([150, 151, 150, 1].map(|bytes| wire.handle(1, bytes, ms(0)).is_ok()), [true, false, true, false]);
}

#[test]
fn an_idle_bottleneck_lets_a_bucket_through_at_once() {
    let mut wire = datagrams("1M bucket=250B queue=1s");
    for number in 0..4 {
        wire.handle(number, 125, ms(100)).unwrap();
    }
    let mut came = Vec::new();
    drain(&mut wire, ms(200), &mut came);
    assert_eq!(came, [(ms(100), 0), (ms(100), 1), (ms(101), 2), (ms(102), 3)]);
}

#[test]
fn buffer_bloat_is_two_hundred_milliseconds_and_what_is_more_is_lost() {
    // Twice what passes.
    let mut wire = datagrams("1M queue=200ms");
    let came = through(&mut wire, 10_000, Duration::from_micros(500));
    let waits = |(at, number): &(Duration, u32)| *at - Duration::from_micros(500) * *number;
    assert_eq!(came.iter().map(waits).max().unwrap().as_millis(), 201);
    assert_eq!(wire.counts().queue_ms_max, 200);
    // A packet a millisecond for 5 s, and what waited in the end.
    assert_eq!(came.len(), 5_200);
    let (first, last) = (came[0].0, came.last().unwrap().0);
    assert_eq!((last - first).as_millis(), 5_199, "the bottleneck is never idle");
}

#[test]
fn a_trace_switches_when_it_says_and_for_what_waits_too() {
    let mut wire = datagrams("1M queue=1s for 10ms, 100k queue=1s for 20ms, clear");
    let came = through(&mut wire, 20, Duration::ZERO);
    let millis: Vec<u128> = came.iter().map(|(at, _)| at.as_millis()).collect();
    // Ten in 10 ms; then each takes 10 ms; the rest comes with the end of the bottleneck.
    assert_eq!(millis[..10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(millis[10..12], [20, 30]);
    assert!(millis[12..].iter().all(|at| *at == 30), "{millis:?}");
}

#[test]
fn nothing_passes_an_outage_and_what_was_queued_by_bytes_comes_after_it() {
    let mut wire = datagrams("0 queue=250B for 1s, 1M");
    assert_eq!([0, 1, 2].map(|number| wire.handle(number, 125, ms(1)).is_ok()), [true, true, false]);
    assert_eq!((wire.poll(ms(999)), wire.queue_time(ms(999))), (None, None));
    let mut came = Vec::new();
    drain(&mut wire, ms(2_000), &mut came);
    assert_eq!(came, [(ms(1_001), 0), (ms(1_002), 1)]);
    let mut by_time = datagrams("0 queue=1s");
    assert_eq!(by_time.handle(0, 125, ms(1)), Err(Drop::QueueFull), "it would wait for ever");
}

#[test]
fn a_part_with_rebind_is_told_once_when_it_begins() {
    let mut wire = datagrams("clear for 10ms, rebind for 10ms, repeat");
    let mut rebinds = |at| {
        wire.poll(ms(at));
        wire.take_rebinds()
    };
    assert_eq!([9, 10, 11, 20, 30, 79].map(&mut rebinds), [0, 1, 0, 0, 1, 2]);
}

#[test]
fn another_trace_begins_when_it_is_told() {
    let mut wire = datagrams("delay=10ms");
    wire.handle(0, 125, ms(0)).unwrap();
    wire.follow("delay=50ms for 1s, clear".parse().unwrap(), ms(5), ms(5));
    wire.handle(1, 125, ms(5)).unwrap();
    let mut came = Vec::new();
    drain(&mut wire, ms(3_000), &mut came);
    assert_eq!(came, [(ms(10), 0), (ms(55), 1)]);
    assert_eq!(wire.profile(), Profile::CLEAR);
}

#[test]
fn a_stream_loses_nothing_but_time() {
    let mut wire = wire("delay=10ms loss=5% reorder=5%+30ms duplicate=5% jitter=5ms order=free", Carriage::Stream);
    let came = through(&mut wire, 10_000, ms(10));
    assert_eq!(numbers(&came), Vec::from_iter(0..10_000));
    let counts = wire.counts();
    assert_eq!((counts.lost, counts.duplicated, counts.held_back), (0, 0, 0));
    assert!((450..550).contains(&counts.stalls), "{}", counts.stalls);
    let stalled = came.windows(2).filter(|pair| pair[1].0 - pair[0].0 > ms(50)).count() as u64;
    assert!(stalled * 10 > counts.stalls * 8, "{stalled} gaps of {} stalls", counts.stalls);
}

#[test]
fn a_stream_has_room_up_to_its_queue() {
    let mut wire = wire("1M queue=5ms", Carriage::Stream);
    let mut taken = 0;
    while wire.has_room(ms(0)) {
        wire.handle(taken, 125, ms(0)).unwrap();
        taken += 1;
    }
    assert_eq!(taken, 6, "the last one makes a queue of 5 ms and what passes");
    assert!(wire.has_room(ms(1)));
    assert!(!wire.is_empty());
}

#[test]
fn the_crowd_at_its_limit_and_one_past() {
    let mut wire = datagrams("delay=1s");
    assert!((0..PACKETS_MAX as u32).all(|number| wire.handle(number, 1, ms(0)).is_ok()));
    assert_eq!(wire.handle(0, 1, ms(0)), Err(Drop::Crowded));
    assert_eq!(wire.counts().crowded, 1);
    wire.poll(ms(1_000));
    assert_eq!(wire.handle(0, 1, ms(1_000)), Ok(()));
}

#[test]
fn the_same_seed_is_the_same_network() {
    let trace = "1M queue=10ms jitter=20ms/pareto order=free loss=3% bursts=2%x3 duplicate=1% reorder=1%+5ms";
    let play = |seed| {
        let mut wire = Wire::new(trace.parse().unwrap(), Carriage::Datagrams, seed, Duration::ZERO);
        (through(&mut wire, 5_000, Duration::from_micros(900)), wire.counts())
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2));
    let (came, counts) = play(1);
    let gone = counts.lost + counts.lost_in_bursts + counts.queue_full;
    assert_eq!(came.len() as u64, counts.packets + counts.duplicated - gone, "every packet is accounted for");
}
