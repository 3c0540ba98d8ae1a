//! Launches of kernels, checked against what the kernel declares (`signature.rs`).

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::memory::{Block, Memory};
use super::signature::Parameter;
use super::{Gpu, graph};
use crate::{DataType, DevicePointer, Error, Kernels, Result, kernel_int};

/// Threads of a block where nothing else is asked for.
const THREADS: usize = 256;

/// A kernel, loaded.
#[derive(Clone, Copy)]
pub(super) struct Function {
    pub handle: sys::CUfunction,
    /// The declared parameters, each with its size in bytes.
    pub parameters: &'static [(Parameter, usize)],
}

/// One launch of a kernel: arguments in the order of the kernel's parameters, then [`Launch::elements`] or
/// [`Launch::blocks`].
///
/// Launching is safe: number, sizes and kinds of the arguments are checked against the kernel's declaration, pointers are
/// to memory of the kernel's GPU, the launch owns that memory with others until it is queued, and a graph that is being
/// captured keeps it. What the kernel does within the GPU's memory is its source's business (see [`Kernels`]).
#[must_use]
pub struct Launch {
    gpu: &'static Gpu,
    name: &'static str,
    /// The type of `real`.
    real: DataType,
    function: Function,
    /// The arguments one after the other, each at a multiple of 16 bytes.
    bytes: Vec<[u64; 2]>,
    /// Where each begins.
    starts: Vec<usize>,
    /// What the pointers point to. An array that was dropped before the launch is queued would go back to the pool, and
    /// another thread might write to it first.
    blocks: Vec<Arc<Block>>,
    /// The first thing that is wrong with the arguments.
    refused: Option<Error>,
}

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Input(Option<DataType>),
    Output(Option<DataType>),
    Null,
    Int,
    Float,
    Structure,
}

impl Kind {
    /// Whether a parameter takes it, in a file that is compiled for `real`.
    fn fits(self, parameter: Parameter, real: DataType) -> bool {
        let same = |element: Option<super::signature::Element>, data_type: Option<DataType>| {
            element.zip(data_type).is_none_or(|(element, data_type)| element.of(real) == data_type)
        };
        match (self, parameter) {
            (Self::Input(data_type), Parameter::Pointer { writes: false, element })
            | (Self::Output(data_type), Parameter::Pointer { writes: true, element }) => {
                same(element, data_type)
            }
            (Self::Null, Parameter::Pointer { .. }) => true,
            (Self::Int, Parameter::Int) | (Self::Float, Parameter::Float) => true,
            (Self::Structure, Parameter::Structure) => true,
            _ => false,
        }
    }
}

impl Launch {
    /// The kernel `name` of a file, with `real` of the given type, on GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU or kernel, or it does not compile.
    pub fn new(
        ordinal: usize,
        kernels: &'static Kernels,
        name: &'static str,
        real: DataType,
    ) -> Result<Self> {
        let gpu = Gpu::get(ordinal)?;
        let function = gpu.function(kernels, name, real)?;
        Ok(Self {
            gpu,
            name,
            real,
            function,
            bytes: Vec::new(),
            starts: Vec::new(),
            blocks: Vec::new(),
            refused: None,
        })
    }

    fn refuse(&mut self, detail: impl FnOnce() -> String) {
        if self.refused.is_none() {
            self.refused = Some(self.gpu.error(format!("{}: {}", self.name, detail())));
        }
    }

    fn argument<T: Copy>(mut self, kind: Kind, value: T) -> Self {
        let (index, size) = (self.starts.len(), size_of::<T>());
        let (real, parameters) = (self.real, self.function.parameters);
        match parameters.get(index) {
            Some(&(parameter, bytes)) if kind.fits(parameter, real) && bytes == size => {}
            Some((parameter, bytes)) => self.refuse(|| {
                format!(
                    "argument {index} is {kind:?} of {size} bytes, the kernel takes {parameter:?} of {bytes}"
                )
            }),
            None => self.refuse(|| format!("the kernel takes {} arguments", parameters.len())),
        }
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.resize(start + size.div_ceil(16).max(1), [0; 2]);
        // SAFETY: the slots have room for the value.
        unsafe { self.bytes.as_mut_ptr().add(start).cast::<T>().write_unaligned(value) };
        self
    }

    /// Where a block begins, if it may be used here; the launch owns it, and a graph that is being captured keeps it.
    fn address(&mut self, memory: Option<&Memory>, describe: impl Fn() -> String) -> u64 {
        let Some(memory) = memory.filter(|memory| memory.gpu().ordinal() == self.gpu.ordinal()) else {
            let place =
                memory.map_or_else(|| "the CPU".into(), |memory| format!("cuda:{}", memory.gpu().ordinal()));
            self.refuse(|| format!("{} is on {place}", describe()));
            return 0;
        };
        if memory.belongs_to_another_stream() {
            self.refuse(|| format!("{} was made on another forked stream", describe()));
        }
        graph::keep(memory);
        self.blocks.push(Arc::clone(memory.block()));
        memory.pointer()
    }

    /// A pointer to elements to be read.
    pub fn input(mut self, array: &impl DevicePointer) -> Self {
        let pointer = self.address(array.memory(), || array.describe());
        self.argument(Kind::Input(Some(array.data_type())), pointer)
    }

    /// A pointer to elements to be written. Copies them first if they are shared.
    pub fn output(mut self, array: &mut impl DevicePointer) -> Self {
        let data_type = array.data_type();
        if let Err(failure) = array.memory_mut() {
            self.refused.get_or_insert(failure);
        }
        let pointer = self.address(array.memory(), || array.describe());
        self.argument(Kind::Output(Some(data_type)), pointer)
    }

    /// A pointer to memory to be read, whatever is stored there.
    pub fn input_memory(mut self, memory: &Memory) -> Self {
        let pointer = self.address(Some(memory), || "memory".into());
        self.argument(Kind::Input(None), pointer)
    }

    /// A pointer to memory to be written, whatever is stored there and whoever shares it.
    pub fn output_memory(mut self, memory: &Memory) -> Self {
        let pointer = self.address(Some(memory), || "memory".into());
        self.argument(Kind::Output(None), pointer)
    }

    /// A null pointer.
    pub fn null(self) -> Self {
        self.argument(Kind::Null, 0u64)
    }

    /// Says that a structure among the arguments points to this memory.
    pub fn uses(mut self, memory: &Memory) -> Self {
        self.address(Some(memory), || "memory in a structure".into());
        self
    }

    /// An `int`.
    pub fn int(mut self, value: usize) -> Self {
        let narrow = kernel_int(value, self.name).unwrap_or_else(|failure| {
            self.refused.get_or_insert(failure);
            0
        });
        self.argument(Kind::Int, narrow)
    }

    /// A `float`.
    pub fn float(self, value: f32) -> Self {
        self.argument(Kind::Float, value)
    }

    /// A struct passed by value: `repr(C)`, aligned to 8 bytes at most, at most 4 KiB together with all else.
    pub fn structure<T: Copy>(self, value: T) -> Self {
        self.argument(Kind::Structure, value)
    }

    /// Launches one thread for each of `count` elements, in blocks of 256; nothing for none.
    ///
    /// # Errors
    /// If an argument does not fit the kernel, or the GPU fails.
    pub fn elements(self, count: usize) -> Result<()> {
        self.blocks([count.div_ceil(THREADS), 1, 1], THREADS)
    }

    /// Launches blocks of `threads` threads; nothing if there are none. Threads along x are counted in an `int`.
    ///
    /// # Errors
    /// If an argument does not fit the kernel, or the GPU fails.
    pub fn blocks(mut self, blocks: [usize; 3], threads: usize) -> Result<()> {
        let parameters = self.function.parameters.len();
        if self.starts.len() < parameters {
            let given = self.starts.len();
            self.refuse(|| format!("{given} arguments for a kernel that takes {parameters}"));
        }
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if blocks.contains(&0) {
            return Ok(());
        }
        let [x, y, z] = blocks;
        let is_countable = x.checked_mul(threads).is_some_and(|all| i32::try_from(all).is_ok());
        if y.max(z) > 65_535 || !is_countable || threads > 1024 {
            let detail = format!("{}: cannot launch {x} x {y} x {z} blocks of {threads} threads", self.name);
            return Err(self.gpu.error(detail));
        }
        let base = self.bytes.as_mut_ptr();
        let mut pointers: Vec<*mut c_void> = self
            .starts
            .iter()
            // SAFETY: the starts lie within the bytes.
            .map(|start| unsafe { base.add(*start) }.cast::<c_void>())
            .collect();
        let _queue = self.gpu.enter();
        let grid = (x as u32, y as u32, z as u32);
        // SAFETY: there are as many arguments as the kernel has parameters, each of the parameter's size. `self.blocks` owns
        // their memory until this is queued, and memory of dropped arrays is only used by what is queued later.
        unsafe {
            result::launch_kernel(
                self.function.handle,
                grid,
                (threads as u32, 1, 1),
                0,
                self.gpu.stream(),
                &mut pointers,
            )
        }
        .map_err(|cause| self.gpu.failed(self.name, cause))
    }
}
