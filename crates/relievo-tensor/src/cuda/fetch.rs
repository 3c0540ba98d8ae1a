//! Results on their way back from a GPU: many tensors through pinned memory, with one wait for all of them.

use cudarc::driver::result;
use rayon::prelude::*;

use super::Gpu;
use crate::ops::cast;
use crate::{DataType, Error, Result, Shape, Tensor};

/// Fetches tensors from a GPU. The pinned memory that they pass through is kept for the next time.
///
/// [`Tensor::to_device`] waits for each tensor, and the driver copies it piece by piece through pinned memory of its
/// own.
pub struct Download {
    gpu: &'static Gpu,
    pinned: *mut f32,
    /// Elements that there is pinned memory for.
    capacity: usize,
}

// SAFETY: pinned memory may be used from any thread; all use needs exclusive access.
unsafe impl Send for Download {}

impl Download {
    /// From GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn new(ordinal: usize) -> Result<Self> {
        Ok(Self { gpu: Gpu::get(ordinal)?, pinned: std::ptr::null_mut(), capacity: 0 })
    }

    /// The first `count` entries of each tensor along its first axis, on the CPU, in f32. Waits for the work queued
    /// before.
    ///
    /// # Errors
    /// If a tensor is not on the GPU or has fewer entries, or the GPU fails.
    pub fn first(&mut self, tensors: &[&Tensor], count: usize) -> Result<Vec<Tensor>> {
        let gpu = self.gpu;
        gpu.bind()?;
        let there = tensors.iter().map(|tensor| cast(&tensor.detach(), DataType::F32));
        let there = there.collect::<Result<Vec<Tensor>>>()?;
        let shapes = there.iter().map(|tensor| cut(tensor, count)).collect::<Result<Vec<Shape>>>()?;
        self.make_room(shapes.iter().map(Shape::numel).sum())?;
        let failed = |cause| gpu.failed("results cannot be fetched", cause);
        let pointers = there.iter().map(|tensor| self.pointer(tensor)).collect::<Result<Vec<u64>>>()?;
        let mut end = 0;
        {
            let _queue = gpu.enter();
            for (pointer, shape) in pointers.into_iter().zip(&shapes) {
                // SAFETY: there is room for all of them, and nobody looks before the wait is over.
                unsafe {
                    let pinned = std::slice::from_raw_parts_mut(self.pinned.add(end), shape.numel());
                    result::memcpy_dtoh_async(pinned, pointer, gpu.stream()).map_err(failed)?;
                }
                end += shape.numel();
            }
        }
        gpu.synchronize()?;
        let mut here: Vec<Tensor> = shapes.iter().map(|shape| Tensor::empty(*shape)).collect();
        // SAFETY: the copies have written these elements.
        let mut rest = unsafe { std::slice::from_raw_parts(self.pinned, end) };
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
    fn pointer(&self, tensor: &Tensor) -> Result<u64> {
        let pointer = tensor.gpu_pointer().filter(|_| tensor.device() == self.gpu.device());
        pointer.ok_or_else(|| {
            Error::shape("fetch", format!("a tensor on {} for {}", tensor.device(), self.gpu.device()))
        })
    }

    /// Pinned memory for this many elements.
    fn make_room(&mut self, elements: usize) -> Result<()> {
        if elements <= self.capacity && !self.pinned.is_null() {
            return Ok(());
        }
        self.free();
        // SAFETY: the memory is freed once, by `free`.
        let pinned = unsafe { result::malloc_host(elements.max(1) * size_of::<f32>(), 0) }
            .map_err(|cause| self.gpu.failed("no pinned memory for results", cause))?;
        (self.pinned, self.capacity) = (pinned.cast(), elements);
        Ok(())
    }

    /// Nothing may be under way.
    fn free(&mut self) {
        if !self.pinned.is_null() {
            // SAFETY: `first` leaves no copy under way but after an error of the GPU, which keeps every copy from
            // happening.
            let _ = unsafe { result::free_host(self.pinned.cast()) };
            (self.pinned, self.capacity) = (std::ptr::null_mut(), 0);
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            self.free();
        }
    }
}

/// The tensor's shape with `count` entries along the first axis.
fn cut(tensor: &Tensor, count: usize) -> Result<Shape> {
    let mut axes = tensor.shape().to_vec();
    match axes.first_mut() {
        Some(first) if count <= *first => *first = count,
        _ => return Err(Error::shape("fetch", format!("{count} entries of {}", tensor.shape()))),
    }
    Ok(Shape::from(axes.as_slice()))
}
