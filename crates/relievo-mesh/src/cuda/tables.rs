//! Lists that kernels read: small ones sent along with launches, those of faces kept on the GPU.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use relievo_tensor::cuda::{DevicePointer, Kernels, Launch};
use relievo_tensor::{Device, Result, Tensor};

use super::{empty, launch};
use crate::Faces;
use crate::raster::Piece;

/// `table.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "mesh_table", source: include_str!("table.cu") };

/// Words that one launch takes along. As in the kernel.
const WORDS: usize = 896;

/// Words as an argument.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument([u32; WORDS]);

/// A table in the making: words of 32 bits, and the tensors that it points to.
#[derive(Default)]
pub(crate) struct Words {
    words: Vec<u32>,
    tensors: Vec<Tensor>,
}

impl Words {
    /// A whole number.
    pub fn int(&mut self, value: usize) -> Result<()> {
        self.words.push(relievo_tensor::cuda::kernel_int(value, "render")? as u32);
        Ok(())
    }

    /// -1, for a number that is not there.
    pub fn none(&mut self) {
        self.words.push(u32::MAX);
    }

    /// A pointer to a tensor's elements; null for `None`. It takes two words, of which the first must be an even one.
    pub fn pointer(&mut self, tensor: Option<&Tensor>) {
        debug_assert!(self.words.len().is_multiple_of(2));
        let address = tensor.and_then(DevicePointer::memory).map_or(0, |memory| memory.pointer());
        self.words.extend([address as u32, (address >> 32) as u32]);
        self.tensors.extend(tensor.map(Tensor::detach));
    }

    /// The table on a GPU.
    pub fn send(self, device: Device) -> Result<Table> {
        let mut words = empty(device, [self.words.len().max(1)])?;
        put(&mut words, &self.words)?;
        Ok(Table { words, tensors: self.tensors })
    }
}

/// Writes words to a tensor without waiting: for few of them.
fn put(to: &mut Tensor, words: &[u32]) -> Result<()> {
    let device = to.device();
    for (index, words) in words.chunks(WORDS).enumerate() {
        let mut argument = Argument([0; WORDS]);
        argument.0[..words.len()].copy_from_slice(words);
        launch(device, &KERNELS, "put")?
            .output(to)
            .structure(argument)
            .int(index * WORDS)
            .int(words.len())
            .elements(words.len())?;
    }
    Ok(())
}

/// A tensor of the CPU on a GPU, without waiting if it is small.
pub(super) fn send_small(tensor: &Tensor, device: Device) -> Result<Tensor> {
    if tensor.numel() > WORDS {
        return tensor.to_device(device);
    }
    let mut there = Tensor::empty_on(device, relievo_tensor::DataType::F32, tensor.shape())?;
    let bits: Vec<u32> = tensor.data().iter().map(|x| x.to_bits()).collect();
    put(&mut there, &bits)?;
    Ok(there)
}

/// A table on a GPU.
#[derive(Clone)]
pub(crate) struct Table {
    words: Tensor,
    tensors: Vec<Tensor>,
}

impl Table {
    /// Gives it to a launch as the next argument, together with all that it points to.
    pub fn input(&self, launch: Launch) -> Launch {
        let memory = self.tensors.iter().filter_map(DevicePointer::memory);
        memory.fold(launch.input(&self.words), Launch::uses)
    }
}

/// Whole numbers on a GPU, however many.
pub(super) fn send_ints(device: Device, ints: impl Iterator<Item = u32>) -> Result<Tensor> {
    let bits: Vec<f32> = ints.map(f32::from_bits).collect();
    let count = bits.len();
    Tensor::new(&bits, [count])?.to_device(device)
}

/// What was made of a list that is in use, on a GPU.
struct Kept<K: ?Sized, T> {
    of: Weak<K>,
    device: Device,
    value: T,
}

/// Tables of the lists in use. A list that is gone takes its tables with it when the next one is asked for.
struct Cache<K: ?Sized, T>(Mutex<Vec<Kept<K, T>>>);

impl<K: ?Sized, T: Clone> Cache<K, T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn get(&self, list: &Arc<K>, device: Device, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.of.strong_count() > 0);
        let own = Arc::downgrade(list);
        if let Some(found) = kept.iter().find(|kept| kept.device == device && kept.of.ptr_eq(&own)) {
            return Ok(found.value.clone());
        }
        let value = make()?;
        kept.push(Kept { of: own, device, value: value.clone() });
        Ok(value)
    }
}

/// The faces of an object on a GPU.
#[derive(Clone)]
pub(crate) struct FaceTables {
    /// `[F, 3]`, the indices.
    pub indices: Tensor,
    /// The first of each vertex in `corners`, and the number of all.
    pub starts: Tensor,
    /// The corners of faces at each vertex, ascending: corner k of face f is 3 f + k.
    pub corners: Tensor,
    /// The vertices that `starts` has.
    pub vertices: usize,
}

static FACES: Cache<[[u32; 3]], FaceTables> = Cache::new();

impl FaceTables {
    /// The tables of some faces, made when they are first asked for.
    pub fn of(faces: &Faces, device: Device) -> Result<Self> {
        FACES.get(faces.shared(), device, || {
            let indices = faces.as_slice().as_flattened();
            let vertices = indices.iter().max().map_or(0, |most| *most as usize + 1);
            let mut starts = vec![0u32; vertices + 1];
            indices.iter().for_each(|vertex| starts[*vertex as usize + 1] += 1);
            (0..vertices).for_each(|vertex| starts[vertex + 1] += starts[vertex]);
            let (mut next, mut corners) = (starts.clone(), vec![0; indices.len()]);
            for (corner, vertex) in indices.iter().enumerate() {
                let place = &mut next[*vertex as usize];
                corners[*place as usize] = corner as u32;
                *place += 1;
            }
            Ok(Self {
                indices: send_ints(device, indices.iter().copied())?,
                starts: send_ints(device, starts.into_iter())?,
                corners: send_ints(device, corners.into_iter())?,
                vertices,
            })
        })
    }
}

/// Texture coordinates of faces on a GPU: of each face u and v of its corners, and whether it has any; `[F, 8]`.
pub(crate) struct TextureTable;

type TextureCorners = [Option<[[f32; 2]; 3]>];
static TEXTURES: Cache<TextureCorners, Tensor> = Cache::new();

impl TextureTable {
    /// The table of some coordinates, made when it is first asked for.
    pub fn of(corners: &Arc<TextureCorners>, device: Device) -> Result<Tensor> {
        TEXTURES.get(corners, device, || {
            let of_face = |corners: &Option<[[f32; 2]; 3]>| {
                let [[a, b], [c, d], [e, f]] = corners.unwrap_or_default();
                [a, b, c, d, e, f, f32::from(corners.is_some()), 0.0]
            };
            let all: Vec<[f32; 8]> = corners.iter().map(of_face).collect();
            Tensor::new(all.as_flattened(), [all.len(), 8])?.to_device(device)
        })
    }
}

/// Pieces of faces on a GPU, as `common.cuh` has them.
pub(crate) fn pieces(pieces: &[Piece], device: Device) -> Result<Tensor> {
    let words = pieces.iter().flat_map(|piece| {
        let corners = piece.corners.unwrap_or_default();
        let corners: [[u32; 3]; 3] = corners.map(|corner| corner.map(f32::to_bits));
        let head = [piece.face, u32::from(piece.corners.is_some()), 0];
        head.into_iter().chain(corners.into_iter().flatten())
    });
    send_ints(device, words)
}
