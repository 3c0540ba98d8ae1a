//! Where the time of captured work goes: events in the graph before and after every operation.

use std::cell::RefCell;
use std::time::Instant;

use super::time::Event;
use super::{CAPTURES, Gpu};
use crate::ops::{Activation, ConvParams, cast, conv2d};
use crate::{DataType, Device, Random, Result, Tensor};

thread_local! {
    /// What this thread's profiler has marked so far.
    static MARKED: RefCell<Option<Vec<Marked>>> = const { RefCell::new(None) };
}

/// Which way an operation ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// From inputs to outputs.
    Forward,
    /// From the outputs' gradients to the inputs'.
    Backward,
    /// Neither: the optimiser.
    Update,
}

/// The least that an operation must do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written if each is touched once.
    pub bytes: f64,
    /// Multiplications and additions.
    pub flops: f64,
}

impl Cost {
    /// Reading or writing these tensors once.
    pub(crate) fn from_tensors<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Self {
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.data_type().bytes()) as f64;
        Self { bytes: tensors.into_iter().map(bytes).sum(), flops: 0.0 }
    }
}

/// An operation of captured work.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its name.
    pub operation: &'static str,
    /// Which way it ran.
    pub pass: Pass,
    /// The least it must do.
    pub cost: Cost,
    /// How long it took in the last replay, in seconds.
    pub seconds: f64,
}

struct Marked {
    operation: &'static str,
    pass: Pass,
    cost: Cost,
    began: Event,
    ended: Event,
}

/// Takes the time of every operation in work that this thread captures while it is there. Not for work in lanes
/// ([`super::set_lanes`]): side by side, each takes longer.
pub struct Profiler {
    gpu: &'static Gpu,
}

impl Profiler {
    /// Begins to mark what is captured. Drop the captured graph first, and the profiler after it.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn new(ordinal: usize) -> Result<Self> {
        let gpu = Gpu::get(ordinal)?;
        MARKED.set(Some(Vec::new()));
        Ok(Self { gpu })
    }

    /// What the last replay's operations took, in their order. Waits for the GPU.
    ///
    /// # Errors
    /// If the captured work was never replayed, or the GPU fails.
    pub fn spans(&self) -> Result<Vec<Span>> {
        self.gpu.synchronize()?;
        MARKED.with_borrow(|marked| {
            let span = |marked: &Marked| {
                let Marked { operation, pass, cost, began, ended } = marked;
                let seconds = began.seconds_until(ended, self.gpu)?;
                Ok(Span { operation, pass: *pass, cost: *cost, seconds })
            };
            marked.iter().flatten().map(span).collect()
        })
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        MARKED.set(None);
    }
}

/// Runs an operation of a device, between two marks if it is captured and profiled. `cost` is asked for then only.
pub(crate) fn marked<T>(
    device: Device,
    operation: &'static str,
    pass: Pass,
    run: impl FnOnce() -> Result<T>,
    cost: impl FnOnce(&T) -> Cost,
) -> Result<T> {
    let Device::Cuda(ordinal) = device else { return run() };
    if !CAPTURES.get() || MARKED.with_borrow(Option::is_none) {
        return run();
    }
    let gpu = Gpu::get(ordinal)?;
    let (began, ended) = (Event::new(gpu)?, Event::new(gpu)?);
    began.record_in_graph(gpu)?;
    let done = run()?;
    ended.record_in_graph(gpu)?;
    let mark = Marked { operation, pass, cost: cost(&done), began, ended };
    MARKED.with_borrow_mut(|marked| marked.get_or_insert_default().push(mark));
    Ok(done)
}

/// What a GPU can do at best, measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Bytes read and written, in a large copy on the GPU.
    pub bytes_per_second: f64,
    /// Multiplications and additions, in a large product of matrices with factors of the type asked for.
    pub flops_per_second: f64,
}

impl Ceilings {
    /// Measures for about `repetitions` milliseconds on a large GPU. `extent` scales the work: 2048 fills one, a small
    /// one only tries whether it works.
    ///
    /// # Errors
    /// If the GPU fails or is out of memory.
    pub fn measure(ordinal: usize, data_type: DataType, extent: usize, repetitions: usize) -> Result<Self> {
        let device = Device::Cuda(ordinal);
        let random = |seed, shape: [usize; 4]| -> Result<Tensor> {
            let random = Random::new(seed, 0);
            let numbers: Vec<f32> = (0..shape.iter().product::<usize>() as u64)
                .map(|at| 2.0 * random.uniform(at) - 1.0)
                .collect();
            cast(&Tensor::new(&numbers, shape)?.to_device(device)?, data_type)
        };
        // The fastest of three, each long enough for the host's clock.
        let seconds = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
            let mut best = f64::INFINITY;
            for round in 0..4 {
                super::synchronize(ordinal)?;
                let began = Instant::now();
                for _ in 0..repetitions.max(1) {
                    work()?;
                }
                super::synchronize(ordinal)?;
                // The first round compiles and measures algorithms.
                if round > 0 {
                    best = best.min(began.elapsed().as_secs_f64() / repetitions.max(1) as f64);
                }
            }
            Ok(best)
        };
        let x = random(1, [1, 16, extent, extent])?;
        let mut y = x.zeros_like()?;
        let copy = seconds(&mut || y.copy_from(&x))?;
        let w = random(2, [extent, 1, 1, extent])?;
        let params = ConvParams { stride: 1, padding: 0, activation: Activation::Identity };
        let product = seconds(&mut || conv2d(&x, &w, None, params).map(|_| ()))?;
        Ok(Self {
            bytes_per_second: Cost::from_tensors([&x, &y]).bytes / copy,
            flops_per_second: 2.0 * (x.numel() * extent) as f64 / product,
        })
    }

    /// The least time that this much work takes, in seconds.
    pub fn floor(&self, cost: Cost) -> f64 {
        (cost.bytes / self.bytes_per_second).max(cost.flops / self.flops_per_second)
    }
}
