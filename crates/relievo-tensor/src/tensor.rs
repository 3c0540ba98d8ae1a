//! The tensor: a shape, a type of elements, and a shared buffer on a device.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::cuda::{self, Gpu, Memory};
use crate::shape::Shape;
use crate::storage::Buffer;
use crate::tape::Node;
use crate::{DataType, Error, Result};

/// The device that holds a tensor. In text: `cpu`, `cuda:0`, `cuda:1` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor; work is shared by all cores.
    #[default]
    Cpu,
    /// An NVIDIA GPU, counted from 0.
    Cuda(usize),
}

impl Device {
    /// The first GPU if it is usable, else the CPU.
    pub fn best() -> Self {
        if cuda::check(0).is_ok() { Self::Cuda(0) } else { Self::Cpu }
    }

    /// The number of the GPU; `None` for the CPU.
    pub fn ordinal(self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda(ordinal) => Some(ordinal),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let ordinal = |text: &str| text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                ordinal(text).map(Self::Cuda).ok_or_else(|| format!("{text} is neither cpu nor cuda:NUMBER"))
            }
        }
    }
}

/// The elements, wherever they are.
enum Storage {
    Cpu(Buffer),
    Cuda(Memory),
}

/// An array of numbers, row-major, channels last (`[B,H,W,C]`). A clone shares the buffer; writing through
/// [`Tensor::data_mut`] copies it first if it is shared.
///
/// On the CPU elements are f32 and can be read ([`Tensor::data`]). On a GPU they are f32 or bf16 and only operations
/// access them; [`Tensor::to_device`] copies them to the CPU.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    data_type: DataType,
    storage: Arc<Storage>,
    pub(crate) node: Option<Node>,
}

impl Tensor {
    /// A tensor of the given elements, on the CPU.
    ///
    /// # Errors
    /// If the shape has another number of elements.
    pub fn new(elements: &[f32], shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if elements.len() != shape.numel() {
            let detail = format!("{} elements do not fill the shape {shape}", elements.len());
            return Err(Error::shape("tensor", detail));
        }
        let mut buffer = Buffer::empty(elements.len());
        buffer.copy_from_slice(elements);
        Ok(Self::from_buffer(buffer, shape))
    }

    /// A tensor on the CPU that takes over a buffer.
    ///
    /// # Panics
    /// If the shape has another number of elements.
    pub(crate) fn from_buffer(buffer: Buffer, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(buffer.len(), shape.numel(), "buffer and shape {shape} differ in size");
        let storage = Arc::new(Storage::Cpu(buffer));
        Self { shape, data_type: DataType::F32, storage, node: None }
    }

    /// A tensor on the CPU with arbitrary elements, for outputs that are written completely.
    pub fn empty(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self::from_buffer(Buffer::empty(shape.numel()), shape)
    }

    /// As [`Tensor::empty`], on any device.
    ///
    /// # Errors
    /// If the device is missing or out of memory.
    pub fn empty_on(device: Device, data_type: DataType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        match device {
            Device::Cpu if data_type == DataType::F32 => Ok(Self::empty(shape)),
            Device::Cpu => {
                Err(Error::Device { device, detail: format!("tensors of {data_type:?} are for GPUs") })
            }
            Device::Cuda(ordinal) => {
                let memory = Memory::empty(Gpu::get(ordinal)?, shape.numel() * data_type.bytes())?;
                Ok(Self { shape, data_type, storage: Arc::new(Storage::Cuda(memory)), node: None })
            }
        }
    }

    /// As [`Tensor::empty_on`], on this tensor's device and of its type.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn empty_like(&self, shape: impl Into<Shape>) -> Result<Self> {
        Self::empty_on(self.device(), self.data_type, shape)
    }

    /// Zeros of this tensor's shape and type, on its device.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn zeros_like(&self) -> Result<Self> {
        let mut zeros = self.empty_like(self.shape)?;
        zeros.clear()?;
        Ok(zeros)
    }

    /// Sets every element to zero, on any device.
    ///
    /// # Errors
    /// If the device is out of memory or fails.
    pub fn clear(&mut self) -> Result<()> {
        let bytes = self.numel() * self.data_type.bytes();
        match self.storage_mut()? {
            Storage::Cpu(buffer) => buffer.fill(0.0),
            Storage::Cuda(memory) => memory.clear(bytes)?,
        }
        Ok(())
    }

    /// All zeros, on the CPU.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        Self::full(shape, 0.0)
    }

    /// Every element `value`, on the CPU.
    pub fn full(shape: impl Into<Shape>, value: f32) -> Self {
        let mut tensor = Self::empty(shape);
        tensor.data_mut().fill(value);
        tensor
    }

    /// Every element `value`, f32, on any device.
    ///
    /// # Errors
    /// If the device is missing, out of memory, or fails.
    pub fn full_on(device: Device, shape: impl Into<Shape>, value: f32) -> Result<Self> {
        let mut tensor = Self::empty_on(device, DataType::F32, shape)?;
        let count = tensor.numel();
        match tensor.storage_mut()? {
            Storage::Cpu(buffer) => buffer.fill(value),
            Storage::Cuda(memory) => memory.fill(value, count)?,
        }
        Ok(tensor)
    }

    /// A tensor without axes, on the CPU.
    pub fn scalar(value: f32) -> Self {
        Self::full([], value)
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The extents as a fixed array.
    ///
    /// # Errors
    /// If the tensor does not have `N` axes: an error of `operation`.
    pub fn dims<const N: usize>(&self, operation: &'static str) -> Result<[usize; N]> {
        self.shape.dims().ok_or_else(|| {
            Error::shape(operation, format!("needs a tensor of {N} axes, got the shape {}", self.shape))
        })
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// The device that holds it.
    pub fn device(&self) -> Device {
        match &*self.storage {
            Storage::Cpu(_) => Device::Cpu,
            Storage::Cuda(memory) => Device::Cuda(memory.gpu().ordinal()),
        }
    }

    /// The type of its elements.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The elements in row-major order.
    ///
    /// # Panics
    /// If the tensor is on a GPU: copy it with [`Tensor::to_device`] first.
    pub fn data(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(buffer) => buffer,
            Storage::Cuda(_) => {
                panic!("a tensor on {} cannot be read from the CPU: copy it with `to_device`", self.device())
            }
        }
    }

    /// The elements, for writing. Copies the buffer first if another tensor shares it, and takes the tensor off its tape:
    /// the operation that computed the old elements did not compute the new ones.
    ///
    /// # Panics
    /// If the tensor is on a GPU.
    pub fn data_mut(&mut self) -> &mut [f32] {
        let device = self.device();
        match self.storage_mut() {
            Ok(Storage::Cpu(buffer)) => buffer,
            _ => panic!("a tensor on {device} cannot be written from the CPU"),
        }
    }

    /// The storage, made unique, and the tensor off its tape.
    fn storage_mut(&mut self) -> std::result::Result<&mut Storage, cuda::Error> {
        self.node = None;
        if Arc::get_mut(&mut self.storage).is_none() {
            let own = match &*self.storage {
                Storage::Cpu(buffer) => {
                    let mut own = Buffer::empty(buffer.len());
                    own.copy_from_slice(buffer);
                    Storage::Cpu(own)
                }
                Storage::Cuda(memory) => {
                    let bytes = self.numel() * self.data_type.bytes();
                    let mut own = Memory::empty(memory.gpu(), bytes)?;
                    own.copy_from(memory, bytes)?;
                    Storage::Cuda(own)
                }
            };
            self.storage = Arc::new(own);
        }
        Ok(Arc::get_mut(&mut self.storage).expect("the storage was made unique above"))
    }

    /// Its memory on a GPU; `None` on the CPU.
    pub(crate) fn gpu_memory(&self) -> Option<&Memory> {
        match &*self.storage {
            Storage::Cpu(_) => None,
            Storage::Cuda(memory) => Some(memory),
        }
    }

    /// As [`Tensor::gpu_memory`], made unique, and off the tape.
    pub(crate) fn own_gpu_memory(&mut self) -> std::result::Result<Option<&Memory>, cuda::Error> {
        match self.storage_mut()? {
            Storage::Cpu(_) => Ok(None),
            Storage::Cuda(memory) => Ok(Some(memory)),
        }
    }

    /// Whether another tensor shares the elements, so that writing to them copies them first.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.storage) > 1
    }

    /// A copy on a device, off the tape; the tensor itself if it is there already. A copy to the CPU is f32 and waits for
    /// the work queued on the GPU; a copy to a GPU stays f32.
    ///
    /// # Errors
    /// If the device is missing, out of memory, or fails.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if self.device() == device {
            return Ok(self.detach());
        }
        match &*self.storage {
            Storage::Cpu(buffer) => {
                let mut there = Self::empty_on(device, DataType::F32, self.shape)?;
                if let Storage::Cuda(memory) = there.storage_mut()? {
                    memory.write(buffer)?;
                }
                Ok(there)
            }
            Storage::Cuda(memory) if self.data_type == DataType::F32 => {
                let mut here = Self::empty(self.shape);
                memory.read(here.data_mut())?;
                here.to_device(device)
            }
            Storage::Cuda(_) => crate::ops::cast(&self.detach(), DataType::F32)?.to_device(device),
        }
    }

    /// Overwrites the elements with those of `source`, a tensor of the same shape on this device or on the CPU.
    ///
    /// # Errors
    /// If the shapes or types differ, or the device fails.
    pub fn copy_from(&mut self, source: &Self) -> Result<()> {
        let fits = source.shape == self.shape && source.data_type == self.data_type;
        let bytes = self.numel() * self.data_type.bytes();
        let device = self.device();
        match (self.storage_mut()?, &*source.storage) {
            (Storage::Cpu(target), Storage::Cpu(source)) if fits => target.copy_from_slice(source),
            (Storage::Cuda(target), Storage::Cpu(source)) if fits => target.write(source)?,
            (Storage::Cuda(target), Storage::Cuda(memory)) if fits && source.device() == device => {
                target.copy_from(memory, bytes)?;
            }
            _ => {
                let detail = format!(
                    "{} of {:?} on {} cannot be copied into {} of {:?} on {device}",
                    source.shape,
                    source.data_type,
                    source.device(),
                    self.shape,
                    self.data_type,
                );
                return Err(Error::shape("copy", detail));
            }
        }
        Ok(())
    }

    /// The element of a tensor that has exactly one, copied from the GPU if need be.
    ///
    /// # Errors
    /// If it does not have exactly one, or the device fails.
    pub fn item(&self) -> Result<f32> {
        match self.to_device(Device::Cpu)?.data() {
            [only] => Ok(*only),
            _ => Err(Error::shape("item", format!("needs one element, got the shape {}", self.shape))),
        }
    }

    /// A copy of entries `first..first + count` of the first axis, on the CPU and off the tape.
    ///
    /// # Errors
    /// If the first axis is shorter, or the tensor is on a GPU that fails.
    pub fn narrow(&self, first: usize, count: usize) -> Result<Self> {
        let here = self.to_device(Device::Cpu)?;
        let refused = || Error::shape("narrow", format!("{count} from {first} of the shape {}", self.shape));
        let [all, rest @ ..] = &*self.shape else { return Err(refused()) };
        if first.checked_add(count).is_none_or(|end| end > *all) {
            return Err(refused());
        }
        let each: usize = rest.iter().product();
        Self::new(&here.data()[first * each..(first + count) * each], [&[count], rest].concat().as_slice())
    }

    /// The same elements, off the tape: no gradient flows through the result.
    pub fn detach(&self) -> Self {
        Self { node: None, ..self.clone() }
    }

    /// The same elements in another shape, off the tape (the recorded form is [`crate::ops::reshape()`]).
    pub(crate) fn with_shape(&self, shape: Shape) -> Self {
        debug_assert_eq!(shape.numel(), self.numel());
        Self { shape, node: None, ..self.clone() }
    }

    /// Whether the tensor is on a tape.
    pub fn is_recorded(&self) -> bool {
        self.node.is_some()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.device() != Device::Cpu {
            return write!(f, "Tensor{} of {:?} on {}", self.shape, self.data_type, self.device());
        }
        let head = &self.data()[..self.numel().min(4)];
        write!(f, "Tensor{} {head:?}", self.shape)?;
        if self.numel() > head.len() { write!(f, "..") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_to_a_shared_tensor_copies_it() {
        let mut a = Tensor::new(&[1.0, 2.0], [2]).unwrap();
        let b = a.clone();
        a.data_mut()[0] = 5.0;
        assert_eq!((a.data(), b.data()), (&[5.0, 2.0][..], &[1.0, 2.0][..]));
    }

    #[test]
    fn narrow_takes_a_range_of_the_first_axis() {
        let x = Tensor::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]).unwrap();
        let last = x.narrow(1, 2).unwrap();
        assert_eq!((last.data(), &last.shape()[..]), (&[3.0, 4.0, 5.0, 6.0][..], &[2, 2][..]));
        assert_eq!(x.narrow(3, 0).unwrap().numel(), 0);
        assert!(x.narrow(2, 2).is_err() && x.narrow(usize::MAX, 2).is_err());
        assert!(Tensor::new(&[1.0], []).unwrap().narrow(0, 1).is_err());
    }

    #[test]
    fn devices_are_written_and_read() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(11)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        assert_eq!("gpu".parse::<Device>().unwrap_err(), "gpu is neither cpu nor cuda:NUMBER");
    }

    #[test]
    fn a_wrong_number_of_elements_is_refused() {
        let error = Tensor::new(&[1.0; 5], [2, 3]).unwrap_err().to_string();
        assert_eq!(error, "tensor: 5 elements do not fill the shape [2, 3]");
    }
}
