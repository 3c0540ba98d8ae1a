//! Reference tensors and how ours are compared with them. The tests that need several crates stand in `tests/`.

pub mod golden;
