//! Results on their way back from a GPU: many tensors through pinned memory, with one wait for all of them.

use rayon::prelude::*;
use relievo_cuda::DevicePointer;

use crate::cuda::Memory;
use crate::ops::cast;
use crate::{DataType, Device, Error, Result, Shape, Tensor};

/// Fetches tensors from a GPU. The pinned memory that they pass through is kept for the next time.
///
/// [`Tensor::to_device`] waits for each tensor, and the driver copies it piece by piece through pinned memory of its
/// own.
pub struct Download {
    download: relievo_cuda::Download,
    device: Device,
}

impl Download {
    /// From GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn new(ordinal: usize) -> Result<Self> {
        Ok(Self { download: relievo_cuda::Download::new(ordinal)?, device: Device::Cuda(ordinal) })
    }

    /// The first `count` entries of each tensor along its first axis, on the CPU, in f32. Waits for the work queued
    /// before.
    ///
    /// # Errors
    /// If a tensor is not on the GPU or has fewer entries, or the GPU fails.
    pub fn first(&mut self, tensors: &[&Tensor], count: usize) -> Result<Vec<Tensor>> {
        let there = tensors.iter().map(|tensor| cast(&tensor.detach(), DataType::F32));
        let there = there.collect::<Result<Vec<Tensor>>>()?;
        let shapes =
            there.iter().map(|tensor| first_entries(tensor, count)).collect::<Result<Vec<Shape>>>()?;
        let blocks =
            there.iter().zip(&shapes).map(|(tensor, shape)| Ok((self.memory(tensor)?, shape.numel())));
        let blocks = blocks.collect::<Result<Vec<(&Memory, usize)>>>()?;
        let mut rest = self.download.read(&blocks)?;
        let mut here: Vec<Tensor> = shapes.iter().map(|shape| Tensor::empty(*shape)).collect();
        let mut copies = Vec::with_capacity(here.len());
        for tensor in &mut here {
            let (elements, after) = rest.split_at(tensor.numel());
            copies.push((tensor, elements));
            rest = after;
        }
        copies.into_par_iter().for_each(|(tensor, elements)| tensor.data_mut().copy_from_slice(elements));
        Ok(here)
    }

    /// Where a tensor lies on the GPU.
    fn memory<'t>(&self, tensor: &'t Tensor) -> Result<&'t Memory> {
        let memory = tensor.memory().filter(|_| tensor.device() == self.device);
        memory.ok_or_else(|| {
            Error::shape("download", format!("a tensor on {} for {}", tensor.device(), self.device))
        })
    }
}

/// The tensor's shape with `count` entries along the first axis.
fn first_entries(tensor: &Tensor, count: usize) -> Result<Shape> {
    let mut axes = tensor.shape().to_vec();
    match axes.first_mut() {
        Some(first) if count <= *first => *first = count,
        _ => return Err(Error::shape("download", format!("{count} entries of {}", tensor.shape()))),
    }
    Ok(Shape::from(axes.as_slice()))
}
