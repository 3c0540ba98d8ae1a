//! Convolutions ask the system for memory in their first round only. A test program of its own: tests that ran beside
//! it would take buffers of the same pool.

use relievo_tensor::ops::{Activation, ConvParams, conv_transpose2d, conv2d};
use relievo_tensor::{Result, Tape, Tensor, pool_statistics};

/// Direct, Winograd both ways, few channels in and out, and transposed: forward and backward.
fn round() -> Result<()> {
    for (x, w, stride) in [
        ([2, 32, 32, 3], [64, 4, 4, 3], 2),
        ([2, 16, 16, 64], [96, 4, 4, 64], 2),
        ([2, 32, 32, 32], [32, 3, 3, 32], 1),
        ([2, 16, 16, 150], [160, 3, 3, 150], 1),
        ([2, 16, 16, 64], [1, 5, 5, 64], 1),
    ] {
        let tape = Tape::new();
        let (x, w) = (tape.watch(&Tensor::full(x, 0.5)), tape.watch(&Tensor::full(w, 0.25)));
        let params = ConvParams::new(stride, 1, Activation::Relu);
        let y = conv2d(&x, &w, None, params)?;
        let back = conv_transpose2d(&y, &w, None, params)?;
        tape.backward(&back)?;
    }
    Ok(())
}

#[test]
fn the_second_round_allocates_nothing() -> Result<()> {
    // One thread: with more, how many hold scratch at the same time may differ from round to round.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    pool.install(|| {
        round()?;
        let after_first = pool_statistics();
        round()?;
        assert_eq!(pool_statistics(), after_first);
        Ok(())
    })
}
