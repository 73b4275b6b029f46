//! Who may come in: a total, a share per address, a pause for drain and memory, and a block after failed logins.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed logins per address and minute before the address is refused (security.md).
pub const FAILED_LOGINS_MAX: u32 = 10;
const FAILED_LOGINS_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failed logins are remembered. Beyond it, the ones whose minute ends first are forgotten.
const FAILED_ADDRESSES_MAX: usize = 10_000;

/// Counts connections and says whether one more may come in. Clones share the counts.
///
/// An address is an IPv4 address or the /64 of an IPv6 address. Loopback is an address like any other.
#[derive(Debug, Clone)]
pub struct Admissions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total_max: usize,
    per_address_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    per_address: HashMap<IpAddr, usize>,
    failed_logins: HashMap<IpAddr, Failed>,
    pause: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    since: Instant,
    count: u32,
}

/// Why nobody is admitted for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The node goes away.
    Draining,
    /// The node is short of memory.
    Shedding,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `MAX_CONNECTIONS` is reached.
    Full,
    /// This address has its share.
    Address,
    /// Ten logins failed from this address within a minute.
    FailedLogins,
    Draining,
    Shedding,
}

impl Refusal {
    /// As metrics and logs say it.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::Address => "address",
            Refusal::FailedLogins => "failed_logins",
            Refusal::Draining => "draining",
            Refusal::Shedding => "shedding",
        }
    }

    /// The HTTP status that says it: 429 when this address did it, 503 when it is our state.
    pub fn status(self) -> http::StatusCode {
        match self {
            Refusal::Address | Refusal::FailedLogins => http::StatusCode::TOO_MANY_REQUESTS,
            Refusal::Full | Refusal::Draining | Refusal::Shedding => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What `Retry-After` says, seconds.
    pub fn retry_after_s(self) -> u32 {
        match self {
            Refusal::Full | Refusal::Address | Refusal::Shedding => 5,
            Refusal::Draining => 2,
            Refusal::FailedLogins => 60,
        }
    }
}

/// One admitted connection; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Admission {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Admissions {
    pub fn new(total_max: usize, per_address_max: usize) -> Self {
        Self(Arc::new(Shared { total_max, per_address_max, state: Mutex::default() }))
    }

    /// Takes a place for a connection from this address.
    ///
    /// # Errors
    /// The first reason that applies.
    pub fn try_admit(&self, ip: IpAddr) -> Result<Admission, Refusal> {
        self.try_admit_at(ip, Instant::now())
    }

    fn try_admit_at(&self, ip: IpAddr, now: Instant) -> Result<Admission, Refusal> {
        let address = address_of(ip);
        let state = &mut *self.0.lock();
        match state.pause {
            Some(Pause::Draining) => return Err(Refusal::Draining),
            Some(Pause::Shedding) => return Err(Refusal::Shedding),
            None => {}
        }
        if state.blocked(address, now) {
            return Err(Refusal::FailedLogins);
        }
        if state.total >= self.0.total_max {
            return Err(Refusal::Full);
        }
        let here = state.per_address.entry(address).or_default();
        if *here >= self.0.per_address_max {
            return Err(Refusal::Address);
        }
        *here += 1;
        state.total += 1;
        Ok(Admission { shared: self.0.clone(), address })
    }

    /// Remembers that a login from this address failed.
    pub fn note_failed_login(&self, ip: IpAddr) {
        self.note_failed_login_at(ip, Instant::now());
    }

    fn note_failed_login_at(&self, ip: IpAddr, now: Instant) {
        let address = address_of(ip);
        let state = &mut *self.0.lock();
        state.make_room_for_failure(address, now);
        let failed = state.failed_logins.entry(address).or_insert(Failed { since: now, count: 0 });
        if now.duration_since(failed.since) >= FAILED_LOGINS_WINDOW {
            *failed = Failed { since: now, count: 0 };
        }
        failed.count += 1;
    }

    /// Whether this address failed to log in too often within the last minute.
    pub fn logins_blocked(&self, ip: IpAddr) -> bool {
        self.0.lock().blocked(address_of(ip), Instant::now())
    }

    /// Refuses everybody from now on; connections that are in stay.
    pub fn pause(&self, why: Pause) {
        self.0.lock().pause = Some(why);
    }

    /// Ends a pause for that reason; a drain is not ended by memory that is free again.
    pub fn resume(&self, why: Pause) {
        let state = &mut *self.0.lock();
        if state.pause == Some(why) {
            state.pause = None;
        }
    }

    /// Connections that are in now.
    pub fn admitted(&self) -> usize {
        self.0.lock().total
    }

    /// Why nobody is admitted now, if so.
    pub fn paused(&self) -> Option<Pause> {
        self.0.lock().pause
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn blocked(&self, address: IpAddr, now: Instant) -> bool {
        self.failed_logins.get(&address).is_some_and(|failed| {
            failed.count >= FAILED_LOGINS_MAX && now.duration_since(failed.since) < FAILED_LOGINS_WINDOW
        })
    }

    fn make_room_for_failure(&mut self, address: IpAddr, now: Instant) {
        if self.failed_logins.len() < FAILED_ADDRESSES_MAX || self.failed_logins.contains_key(&address) {
            return;
        }
        self.failed_logins.retain(|_, failed| now.duration_since(failed.since) < FAILED_LOGINS_WINDOW);
        if self.failed_logins.len() < FAILED_ADDRESSES_MAX {
            return;
        }
        // A tenth at once, so that a flood of addresses does not scan the map at every failure.
        let mut since: Vec<Instant> = self.failed_logins.values().map(|failed| failed.since).collect();
        let (_, &mut tenth, _) = since.select_nth_unstable(FAILED_ADDRESSES_MAX / 10);
        self.failed_logins.retain(|_, failed| failed.since > tenth);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let state = &mut *self.shared.lock();
        state.total -= 1;
        if let Some(here) = state.per_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                state.per_address.remove(&self.address);
            }
        }
    }
}

/// IPv4 as it is, IPv6 without its lower half: whoever has one address of a /64 usually has all.
fn address_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_total_at_its_limit_and_one_past() {
        let admissions = Admissions::new(2, 10);
        let first = admissions.try_admit(ip("10.0.0.1")).unwrap();
        let _second = admissions.try_admit(ip("10.0.0.2")).unwrap();
        assert_eq!(admissions.try_admit(ip("10.0.0.3")).unwrap_err(), Refusal::Full);
        drop(first);
        assert_eq!(admissions.admitted(), 1);
        admissions.try_admit(ip("10.0.0.3")).unwrap();
    }

    #[test]
    fn an_address_has_a_share_and_a_v6_network_counts_as_one() {
        let admissions = Admissions::new(100, 2);
        let held: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|a| admissions.try_admit(ip(a)).unwrap()).into();
        assert_eq!(admissions.try_admit(ip("2001:db8::3")).unwrap_err(), Refusal::Address);
        admissions.try_admit(ip("2001:db8:0:1::1")).unwrap();
        drop(held);
        admissions.try_admit(ip("2001:db8::3")).unwrap();
        assert_eq!(admissions.0.lock().per_address.len(), 0, "addresses without connections are forgotten");
    }

    #[test]
    fn loopback_is_not_exempt_and_mapped_addresses_count_as_v4() {
        let admissions = Admissions::new(100, 1);
        let _held = admissions.try_admit(ip("127.0.0.1")).unwrap();
        assert_eq!(admissions.try_admit(ip("::ffff:127.0.0.1")).unwrap_err(), Refusal::Address);
    }

    #[test]
    fn a_pause_refuses_and_a_drain_is_not_ended_by_free_memory() {
        let admissions = Admissions::new(100, 10);
        admissions.pause(Pause::Shedding);
        assert_eq!(admissions.try_admit(ip("10.0.0.1")).unwrap_err(), Refusal::Shedding);
        admissions.pause(Pause::Draining);
        admissions.resume(Pause::Shedding);
        assert_eq!(admissions.try_admit(ip("10.0.0.1")).unwrap_err(), Refusal::Draining);
        admissions.resume(Pause::Draining);
        admissions.try_admit(ip("10.0.0.1")).unwrap();
    }

    #[test]
    fn the_tenth_failed_login_blocks_for_the_rest_of_the_minute() {
        let admissions = Admissions::new(100, 10);
        let start = Instant::now();
        for _ in 0..FAILED_LOGINS_MAX - 1 {
            admissions.note_failed_login_at(ip("10.0.0.1"), start);
        }
        admissions.try_admit_at(ip("10.0.0.1"), start).unwrap();
        admissions.note_failed_login_at(ip("10.0.0.1"), start);
        assert_eq!(admissions.try_admit_at(ip("10.0.0.1"), start).unwrap_err(), Refusal::FailedLogins);
        admissions.try_admit_at(ip("10.0.0.2"), start).unwrap();
        admissions.try_admit_at(ip("10.0.0.1"), start + FAILED_LOGINS_WINDOW).unwrap();
    }

    #[test]
    fn remembered_failures_are_bounded() {
        let admissions = Admissions::new(100, 10);
        let start = Instant::now();
        for n in 0..2 * FAILED_ADDRESSES_MAX as u32 {
            let at = start + Duration::from_millis(u64::from(n));
            admissions.note_failed_login_at(IpAddr::V4(n.into()), at);
        }
        assert!(admissions.0.lock().failed_logins.len() <= FAILED_ADDRESSES_MAX);
    }
}
