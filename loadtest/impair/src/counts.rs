use serde::Serialize;

/// What a wire has done to packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// That came in, and their bytes.
    pub packets: u64,
    pub bytes: u64,
    /// That came out, duplicates among them.
    pub delivered: u64,
    pub lost: u64,
    pub lost_in_bursts: u64,
    /// That found the bottleneck's queue full.
    pub queue_full: u64,
    /// That found more packets on the way than the proxy holds.
    pub crowded: u64,
    pub duplicated: u64,
    /// That others overtook on purpose.
    pub held_back: u64,
    /// Of a stream: pieces that were lost, so to say, and held everything up.
    pub stalls: u64,
    /// The longest wait in the bottleneck's queue. Milliseconds.
    pub queue_ms_max: u64,
}

/// Why a packet does not come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    Lost,
    LostInBurst,
    QueueFull,
    Crowded,
}

impl Counts {
    pub(crate) fn dropped(&mut self, why: Drop) {
        let count = match why {
            Drop::Lost => &mut self.lost,
            Drop::LostInBurst => &mut self.lost_in_bursts,
            Drop::QueueFull => &mut self.queue_full,
            Drop::Crowded => &mut self.crowded,
        };
        *count += 1;
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.lost_in_bursts += other.lost_in_bursts;
        self.queue_full += other.queue_full;
        self.crowded += other.crowded;
        self.duplicated += other.duplicated;
        self.held_back += other.held_back;
        self.stalls += other.stalls;
        self.queue_ms_max = self.queue_ms_max.max(other.queue_ms_max);
    }
}
