//! Reference tensors, finite differences, fuzzing, benchmarks (never published).
