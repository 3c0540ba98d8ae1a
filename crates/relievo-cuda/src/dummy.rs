//! The same interface in a program built without support for GPUs: nothing here can be made, and whoever tries gets an
//! error.

#![allow(missing_docs, reason = "documented where it does something: in `runtime`")]

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::{
    ConvExtents, ConvPolicy, Cost, DataType, DevicePointer, Error, GpuMemoryStatistics, Kernels, Lowering,
    Pass, Product, Relu, Result, Span,
};

fn absent<T>(ordinal: usize) -> Result<T> {
    Err(Error::gpu(ordinal, "this program was built without support for GPUs (the feature cuda)"))
}

pub fn name(ordinal: usize) -> Result<String> {
    absent(ordinal)
}

pub fn check(ordinal: usize) -> Result<()> {
    absent(ordinal)
}

pub fn synchronize(ordinal: usize) -> Result<()> {
    absent(ordinal)
}

pub fn memory_statistics(ordinal: usize) -> Result<GpuMemoryStatistics> {
    absent(ordinal)
}

pub fn compile_check(_: &Kernels, _: DataType, _: (i32, i32)) -> Option<std::result::Result<usize, String>> {
    None
}

#[doc(hidden)]
pub fn kernels() -> Vec<&'static Kernels> {
    Vec::new()
}

pub fn current_stream(_: Option<usize>) -> usize {
    0
}

pub fn marked<T, E: From<Error>>(
    _: Option<usize>,
    _: &'static str,
    _: Pass,
    run: impl FnOnce() -> std::result::Result<T, E>,
    _: impl FnOnce(&T) -> Cost,
) -> std::result::Result<T, E> {
    run()
}

pub struct Gpu(Infallible);

impl Gpu {
    pub fn get(ordinal: usize) -> Result<&'static Self> {
        absent(ordinal)
    }

    pub fn ordinal(&self) -> usize {
        match self.0 {}
    }

    pub fn convolve(
        &'static self,
        _: Product,
        _: &ConvExtents,
        _: DataType,
        _: ConvPolicy,
        _: &[Memory; 3],
        _: Option<&Relu<'_>>,
    ) -> Result<()> {
        match self.0 {}
    }

    #[doc(hidden)]
    #[allow(clippy::too_many_arguments, reason = "those of `convolve` and the lowering")]
    pub fn convolve_lowered(
        &'static self,
        _: Lowering,
        _: Product,
        _: &ConvExtents,
        _: DataType,
        _: ConvPolicy,
        _: &[Memory; 3],
        _: Option<&Relu<'_>>,
    ) -> Result<bool> {
        match self.0 {}
    }
}

#[derive(Clone)]
pub struct Memory(Infallible);

impl Memory {
    pub fn empty(gpu: &'static Gpu, _: usize) -> Result<Self> {
        match gpu.0 {}
    }

    pub fn pointer(&self) -> u64 {
        match self.0 {}
    }

    pub fn gpu(&self) -> &'static Gpu {
        match self.0 {}
    }

    pub fn write(&mut self, _: &[f32]) -> Result<()> {
        match self.0 {}
    }

    pub fn read(&self, _: &mut [f32]) -> Result<()> {
        match self.0 {}
    }

    pub fn copy_from(&mut self, _: &Self, _: usize) -> Result<()> {
        match self.0 {}
    }

    pub fn fill(&mut self, _: f32, _: usize) -> Result<()> {
        match self.0 {}
    }

    pub fn clear(&mut self, _: usize) -> Result<()> {
        match self.0 {}
    }
}

pub struct Launch(Infallible);

impl Launch {
    pub fn new(ordinal: usize, _: &'static Kernels, _: &'static str, _: DataType) -> Result<Self> {
        absent(ordinal)
    }

    pub fn input(self, _: &impl DevicePointer) -> Self {
        match self.0 {}
    }

    pub fn output(self, _: &mut impl DevicePointer) -> Self {
        match self.0 {}
    }

    pub fn input_memory(self, _: &Memory) -> Self {
        match self.0 {}
    }

    pub fn output_memory(self, _: &Memory) -> Self {
        match self.0 {}
    }

    pub fn null(self) -> Self {
        match self.0 {}
    }

    pub fn uses(self, _: &Memory) -> Self {
        match self.0 {}
    }

    pub fn int(self, _: usize) -> Self {
        match self.0 {}
    }

    pub fn float(self, _: f32) -> Self {
        match self.0 {}
    }

    pub fn structure<T: Copy>(self, _: T) -> Self {
        match self.0 {}
    }

    pub fn elements(self, _: usize) -> Result<()> {
        match self.0 {}
    }

    pub fn blocks(self, _: [usize; 3], _: usize) -> Result<()> {
        match self.0 {}
    }
}

pub struct Graph<T>(Infallible, PhantomData<T>);

impl<T> Graph<T> {
    pub fn capture<E: From<Error>>(
        ordinal: usize,
        _: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<Self, E> {
        Ok(absent(ordinal)?)
    }

    pub fn replay(&mut self) -> Result<()> {
        match self.0 {}
    }

    pub fn launches(&self) -> usize {
        match self.0 {}
    }

    pub fn outputs(&self) -> &T {
        match self.0 {}
    }
}

pub struct ForkedStreams(());

impl ForkedStreams {
    pub fn on(ordinal: Option<usize>) -> Result<Self> {
        ordinal.map_or(Ok(Self(())), absent)
    }

    pub fn fork<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        work()
    }

    pub fn run<T, E: From<Error>>(
        &mut self,
        _: usize,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        work()
    }

    pub fn join(&mut self) -> Result<()> {
        Ok(())
    }
}

pub struct Profiler(Infallible);

impl Profiler {
    pub fn new(ordinal: usize) -> Result<Self> {
        absent(ordinal)
    }

    pub fn spans(&self) -> Result<Vec<Span>> {
        match self.0 {}
    }
}

pub struct UploadQueue(Infallible);

impl UploadQueue {
    pub fn new(ordinal: usize, _: usize) -> Result<Self> {
        absent(ordinal)
    }

    pub fn put(&mut self, _: &[f32]) -> Result<()> {
        match self.0 {}
    }

    pub fn take(&mut self, _: &Memory) -> Result<()> {
        match self.0 {}
    }
}

pub struct Download(Infallible);

impl Download {
    pub fn new(ordinal: usize) -> Result<Self> {
        absent(ordinal)
    }

    pub fn read(&mut self, _: &[(&Memory, usize)]) -> Result<&[f32]> {
        match self.0 {}
    }
}
