//! Coverage on a GPU.

use relievo_tensor::cuda::{Kernels, kernel_int};
use relievo_tensor::{Device, Error, Result, Tensor};

use super::{FaceTables, THREADS, Table, Words, empty, kernels, launch, scan, zeros};
use crate::raster::{Geometry, Samples};

/// `raster.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("raster", "scan.cuh", "parts.cuh");

/// As `common.cuh` has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RasterArgument {
    columns: i32,
    rows: i32,
    bin: i32,
    bins_across: i32,
    bins_down: i32,
    near: f32,
    far: f32,
    backs: i32,
}

/// Faces on the screen and what belongs to them, for the operations that follow.
pub(crate) struct Drawn {
    /// All faces of all images, as `common.cuh` has them, `[F, 12]`.
    pub faces: Tensor,
    /// First face and number of faces of each image.
    pub images: Table,
    /// The parts, as `parts.cuh` has them, and how many there are.
    pub parts: Table,
    pub part_count: usize,
    pub image_count: usize,
    /// Faces of all images, and vertices.
    pub count: usize,
    pub vertices: usize,
    /// How many bins all faces touch together.
    pub touched: usize,
    pub raster: RasterArgument,
}

/// Samples along the side of the smallest bins, and how many bins an image may have.
const BIN: usize = 16;
const MOST_BINS: usize = 1 << 16;
/// Entries of all lists of bins: so many a face, and so many that it does not matter. Bins grow until that holds; where
/// there is one for each image, each face is in one list.
const LISTED: usize = 4;
const FREELY_LISTED: usize = 1 << 22;

impl RasterArgument {
    /// With bins of `side` samples, or larger ones if those are too many.
    fn new(mut side: usize, samples: Samples, [near, far]: [f32; 2], backs: bool) -> Result<Self> {
        let bins = |side: usize| [samples.columns, samples.rows].map(|count| count.div_ceil(side));
        while bins(side)[0] * bins(side)[1] > MOST_BINS {
            side *= 2;
        }
        let [columns, rows, bin, across, down] =
            [samples.columns, samples.rows, side, bins(side)[0], bins(side)[1]]
                .map(|value| kernel_int(value, "render"));
        Ok(Self {
            columns: columns?,
            rows: rows?,
            bin: bin?,
            bins_across: across?,
            bins_down: down?,
            near,
            far,
            backs: i32::from(backs),
        })
    }
}

/// The parts as `parts.cuh` has them, and the images.
fn describe(geometries: &[Geometry], screens: &[&Tensor], device: Device) -> Result<[Words; 2]> {
    let (mut parts, mut images) = (Words::default(), Words::default());
    let (mut first, mut vertex, mut screens) = (0, 0, screens.iter());
    for (image, geometry) in geometries.iter().enumerate() {
        images.int(first)?;
        images.int(geometry.faces())?;
        let image_vertex = vertex;
        for part in geometry.parts() {
            let screen = screens.next().ok_or_else(|| Error::shape("render", "a part has no vertices"))?;
            parts.pointer(Some(screen));
            parts.pointer(Some(&FaceTables::of(&part.faces, device)?.indices));
            parts.int(first)?;
            parts.int(image)?;
            parts.int(vertex)?;
            parts.int(image_vertex)?;
            first += part.faces.len();
            vertex += part.vertices;
        }
    }
    Ok([parts, images])
}

/// Draws all images: the numbers of the faces, the depths if they are asked for, and the faces themselves.
pub(crate) fn cover(
    geometries: &[Geometry],
    screens: &[&Tensor],
    samples: Samples,
    near_far: [f32; 2],
    keep_depth: bool,
    device: Device,
) -> Result<(Tensor, Option<Tensor>, Drawn)> {
    let [parts, images] = describe(geometries, screens, device)?;
    let own = Sorting {
        parts: parts.send(device)?,
        images: images.send(device)?,
        part_count: screens.len(),
        image_count: geometries.len(),
        count: geometries.iter().map(Geometry::faces).sum::<usize>(),
        device,
    };
    let backs = geometries.iter().any(Geometry::has_backs);
    let Sorted { faces, starts, list, touched, raster, bins } = own.sorted(samples, near_far, backs, None)?;
    let extents = [geometries.len(), samples.rows, samples.columns];
    let mut numbers = empty(device, extents)?;
    let mut depth = keep_depth.then(|| empty(device, extents)).transpose()?;
    launch(device, &KERNELS, "draw")?
        .output(&mut numbers)
        .optional_output(depth.as_mut())
        .input(&faces)
        .input(&starts)
        .input(&list)
        .structure(raster)
        .blocks([bins, 1, 1], THREADS)?;
    let Sorting { parts, images, part_count, image_count, count, .. } = own;
    let vertices = geometries.iter().map(Geometry::vertices).sum();
    let drawn = Drawn { faces, images, parts, part_count, image_count, count, vertices, touched, raster };
    Ok((numbers, depth, drawn))
}

/// Faces of all images in the bins that they reach.
pub(crate) struct Sorted {
    /// As `common.cuh` has them, `[F, 12]`.
    pub faces: Tensor,
    /// Where the list of each bin begins, and the faces in it.
    pub starts: Tensor,
    pub list: Tensor,
    pub touched: usize,
    pub raster: RasterArgument,
    /// Bins of all images.
    pub bins: usize,
}

/// What is sorted.
struct Sorting {
    parts: Table,
    images: Table,
    part_count: usize,
    image_count: usize,
    count: usize,
    device: Device,
}

impl Sorting {
    /// Faces in the bins of the samples that they can cover, or of those within `reach` samples of them.
    fn sorted(
        &self,
        samples: Samples,
        near_far: [f32; 2],
        backs: bool,
        reach: Option<f32>,
    ) -> Result<Sorted> {
        let Self { parts, images, part_count, image_count, count, device } = self;
        let (part_count, count, device) = (*part_count, *count, *device);
        let mut faces = empty(device, [count, 12])?;
        let mut side = BIN;
        let (raster, bins, mut counts, starts, touched) = loop {
            let raster = RasterArgument::new(side, samples, near_far, backs)?;
            side = raster.bin as usize;
            let bins = image_count * raster.bins_across as usize * raster.bins_down as usize;
            let mut counts = zeros(device, [bins])?;
            let set_up = launch(device, &KERNELS, "set_up")?.output(&mut faces).output(&mut counts);
            images
                .input(parts.input(set_up))
                .structure(raster)
                .float(reach.unwrap_or(-1.0))
                .int(part_count)
                .int(count)
                .elements(count)?;
            let [starts, total] = scan::scan(&KERNELS, &counts)?;
            let touched = if count == 0 { 0 } else { scan::read(&total)? };
            let enough = touched <= (FREELY_LISTED + LISTED * count) as u64;
            if enough || side >= samples.columns.max(samples.rows) {
                break (raster, bins, counts, starts, touched);
            }
            side *= 2;
        };
        // Kernels count entries, too.
        let touched = touched as usize;
        kernel_int(touched, "render")?;
        let mut list = empty(device, [touched])?;
        let fill = launch(device, &KERNELS, "fill")?
            .output(&mut list)
            .output(&mut counts)
            .input(&starts)
            .input(&faces);
        parts.input(fill).structure(raster).int(part_count).int(count).elements(count)?;
        Ok(Sorted { faces, starts, list, touched, raster, bins })
    }
}

impl Drawn {
    /// All faces that are seen from their front in the bins that come within `reach` samples of them; those that cover no
    /// sample, too.
    pub fn within(&self, reach: f32, device: Device) -> Result<Sorted> {
        let RasterArgument { columns, rows, near, far, backs, .. } = self.raster;
        let samples = Samples { columns: columns as usize, rows: rows as usize };
        let own = Sorting {
            parts: self.parts.clone(),
            images: self.images.clone(),
            part_count: self.part_count,
            image_count: self.image_count,
            count: self.count,
            device,
        };
        own.sorted(samples, [near, far], backs != 0, Some(reach))
    }
}

impl Sorted {
    /// Puts the lists in the order of the faces' numbers, which they have then in place of the faces.
    pub fn ordered(&mut self) -> Result<()> {
        launch(self.faces.device(), &KERNELS, "sort_lists")?
            .output(&mut self.list)
            .input(&self.starts)
            .input(&self.faces)
            .blocks([self.bins, 1, 1], THREADS)?;
        Ok(())
    }
}
