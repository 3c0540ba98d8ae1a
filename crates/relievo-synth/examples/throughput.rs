//! Heads per second: `cargo run --release -p relievo-synth --example throughput -- [SIZE COUNT]`, on one thread and on
//! two.

use std::{env, time::Instant};

use anyhow::Result;
use rayon::prelude::*;
use relievo_data::Source;
use relievo_synth::Heads;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (size, count) = (number(64)? as u32, number(1000)?);
    let heads = Heads::range(0, 0, count);
    // Decodes the model.
    heads.sample(0, size)?;
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let start = Instant::now();
        pool.install(|| {
            (0..count).into_par_iter().try_for_each(|index| heads.sample(index, size).map(drop))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{count} heads of {size} x {size} pixels, {threads} threads: {:.0} a second",
            count as f64 / seconds
        );
    }
    Ok(())
}
