//! Reference tensors, finite differences, fuzzing, benchmarks (never published).

pub mod golden;
