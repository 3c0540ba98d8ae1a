//! Whether there is memory.

/// Whether the system would give so many bytes now. An allocation that fails ends the program, so what needs much asks
/// first: under a limit (`ulimit -v`, a container without overcommitment) the answer is no in time. Nothing is touched,
/// so asking costs microseconds.
pub fn has_memory(bytes: u64) -> bool {
    usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_there_and_more_than_addresses_is_not() {
        assert!(has_memory(0) && has_memory(1 << 16));
        assert!(!has_memory(1 << 62) && !has_memory(u64::MAX));
    }
}
