//! How many images a second one core gives to learn from: read, mirrored, put together in batches, and copied to
//! where a GPU would fetch them.
//!
//! `cargo bench -p relievo-train --bench feed [-- SECONDS]` prints a line for each kind of source, synthetic heads and,
//! if `RELIEVO_DATA` names a folder of tar files of images, those. On Linux the rate is by processor time over all
//! threads, so other programs disturb it little; elsewhere it is by the clock.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use relievo_data::{
    CacheBudget, Cached, Images, Jitter, Loader, LoaderOptions, Source, Training, WithoutTruth,
};
use relievo_synth::Heads;

const BATCH: usize = 64;
const SIZE: u32 = 64;
/// Heads and images that the caches hold: few, so that the first pass is short.
const CACHED: u64 = 2048;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3.0);
    let cached = |source: Arc<dyn Source>| -> Arc<dyn Source> {
        Arc::new(Cached::new(source, SIZE, CacheBudget::new(u64::MAX)))
    };
    println!("{:<40}{:>12}", "", "images/s");
    let still = Jitter::default();
    if let Some(folder) = std::env::var_os("RELIEVO_DATA") {
        let images = || -> Outcome<Arc<dyn Source>> { Ok(Arc::new(Images::open(&[&folder])?)) };
        measure("images of tar files, decoded", images()?, seconds, 0, still)?;
        let first = images()?.len().div_ceil(BATCH as u64);
        measure("the same from the cache", cached(images()?), seconds, first, still)?;
    }
    let heads = || -> Arc<dyn Source> { Arc::new(WithoutTruth(Heads::range(0, 0, CACHED))) };
    measure("synthetic heads, rendered", heads(), seconds, 0, still)?;
    measure("the same from the cache", cached(heads()), seconds, CACHED / BATCH as u64, still)?;
    let moved = Jitter { crop: 0.05, roll: 0.25 };
    measure("and their crops moved and turned", cached(heads()), seconds, CACHED / BATCH as u64, moved)
}

/// Takes batches for `seconds`, the first few apart.
fn measure(name: &str, source: Arc<dyn Source>, seconds: f64, first: u64, jitter: Jitter) -> Outcome {
    let options = LoaderOptions { workers: 1, ..LoaderOptions::new(BATCH, SIZE) };
    let order = Training { mirror: true, jitter, ..Training::default() };
    let mut loader = Loader::training(source, options, order)?;
    let mut pinned = vec![0.0_f32; BATCH * (SIZE * SIZE * 3) as usize];
    let mut take = || -> Outcome {
        let Some(batch) = loader.next() else { unreachable!("training never ends") };
        pinned.copy_from_slice(batch?.images.data());
        std::hint::black_box(&mut pinned);
        Ok(())
    };
    for _ in 0..first + 4 {
        take()?;
    }
    let (began, used) = (Instant::now(), processor_seconds());
    let mut batches = 0;
    while began.elapsed().as_secs_f64() < seconds {
        take()?;
        batches += 1;
    }
    let elapsed = began.elapsed().as_secs_f64();
    let used = processor_seconds().zip(used).map_or(elapsed, |(now, then)| now - then);
    println!("{name:<40}{:>12.0}", (batches * BATCH) as f64 / used);
    Ok(())
}

/// Processor time of this process so far, all threads, where the system tells.
fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name in brackets; utime and stime are fields 14 and 15, in hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}
