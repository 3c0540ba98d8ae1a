//! The operations, one folder each: `mod.rs` states the contract (shapes, gradient, source), `cpu.rs` computes.

mod reshape;
mod sum;

pub use reshape::reshape;
pub use sum::{add_into, weighted_sum};
