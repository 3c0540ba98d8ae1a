//! Whether there is memory, and for whom.

use std::sync::{Mutex, PoisonError};

/// The bytes of all reservations.
struct Ledger(Mutex<u64>);

static LEDGER: Ledger = Ledger(Mutex::new(0));

/// Memory that somebody is about to allocate: to be kept until that is done with.
#[must_use = "dropped at once, it reserves nothing"]
pub struct Reservation {
    bytes: u64,
    ledger: &'static Ledger,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}

impl Ledger {
    fn reserve(&'static self, bytes: u64, room: u64, has: impl Fn(u64) -> bool) -> Option<Reservation> {
        let mut reserved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = reserved.checked_add(bytes)?;
        has(all.checked_add(room)?).then(|| {
            *reserved = all;
            Reservation { bytes, ledger: self }
        })
    }
}

/// Reserves `bytes` if the system would give them now and `room` besides, on top of what others have reserved. An
/// allocation that fails ends the program, so what needs much asks first: under a limit (`ulimit -v`, a container without
/// overcommitment) the answer is no in time. Threads that ask at the same time are not promised the same memory. What was
/// reserved and is allocated counts twice until the reservation is dropped, so the answer may be no too early. Nothing is
/// touched, so asking costs microseconds.
pub fn reserve_memory(bytes: u64, room: u64) -> Option<Reservation> {
    LEDGER.reserve(bytes, room, has_memory)
}

/// Whether the system would give so many bytes now.
pub(crate) fn has_memory(bytes: u64) -> bool {
    usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_there_and_more_than_addresses_is_not() {
        assert!(reserve_memory(0, 1 << 16).is_some() && reserve_memory(1 << 16, 0).is_some());
        assert!(reserve_memory(1 << 62, 0).is_none() && reserve_memory(0, 1 << 62).is_none());
        assert!(reserve_memory(u64::MAX, 1).is_none() && reserve_memory(1, u64::MAX).is_none());
    }

    #[test]
    fn memory_is_promised_once() {
        static OF_TEST: Ledger = Ledger(Mutex::new(0));
        let reserve = |bytes, room| OF_TEST.reserve(bytes, room, |bytes| bytes <= 100);
        let first = reserve(60, 40).unwrap();
        assert!(reserve(60, 0).is_none() && reserve(30, 20).is_none());
        let second = reserve(40, 0).unwrap();
        drop(first);
        assert!(reserve(61, 0).is_none());
        drop(second);
        assert!(reserve(100, 0).is_some() && reserve(60, 40).is_some());
    }
}
