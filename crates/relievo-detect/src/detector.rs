//! Detection: the scales at which the network looks at a photograph, and how its outputs become faces.

use std::ops::RangeInclusive;

use relievo_data::{Image, Rectangle, Reservation, reserve_memory};
use relievo_tensor::safetensors::ReadError;
use relievo_tensor::{Tensor, pool_release, pool_statistics};

use crate::face::{Area, Face, Landmarks, suppress};
use crate::network::{CenterFace, MULTIPLE, OUTPUTS, STRIDE};

static WEIGHTS: &[u8] = include_bytes!("../assets/centerface-f16.safetensors");

/// Least certainty of a face.
const CERTAIN: f32 = 0.35;

/// Least certainty of a face in the second look, which faces pass easily.
const CONFIRMED: f32 = 0.5;

/// Least certainty of what is worth a second look.
const SUSPECTED: f32 = 0.1;

/// Two boxes that overlap by more are the same face.
const SAME: f32 = 0.3;

/// A box of which more lies in that of a more certain face is a part of it.
const PART: f32 = 0.9;

/// Long side of a photograph of [`SMALL`] pixels or less, for the only look. Smaller ones are enlarged to it.
const TINY: u32 = 192;

/// A photograph with a long side of this many pixels is small.
const SMALL: u32 = 288;

/// Long side of other photographs for the first look.
const COARSE: u32 = 384;

/// Long side from which on there is a look for faces that the first one is too coarse for.
const LARGE: u32 = 576;

/// The long side for that look. Larger photographs are shrunk to it.
const FINE: u32 = 2048;

/// The most of an image that the network sees at a time, height and width: what is larger is taken in parts, which
/// saves memory. The smaller ones are for when there is not enough of it.
const PART_SIDES: [usize; 4] = [1152, 832, 576, 384];

/// Memory of the network's tensors for each pixel that it sees, in bytes.
const BYTES_PER_PIXEL: u64 = 136;

/// By how much neighbouring parts overlap: by the largest face that is found in them only.
const PART_OVERLAP: usize = 160;

/// Heights of faces, in pixels, at which the network is certain and exact. Others are looked at again.
const SHARP: RangeInclusive<f32> = 64.0..=200.0;

/// Height of a face in the second look, in pixels.
const CLOSE: f32 = 112.0;

/// Height and width of the second look, in pixels.
const WINDOW: u32 = 256;

/// Second looks taken together.
const WINDOWS: usize = 4;

/// Outputs of the network for a window.
const WINDOW_OUTPUTS: usize = (WINDOW as usize / STRIDE) * (WINDOW as usize / STRIDE) * OUTPUTS;

/// Second looks at one photograph, at its most certain candidates: beyond this number they are more likely texture than
/// faces.
const MOST_WINDOWS: usize = 256;

/// Memory of tensors kept for the next photograph, in bytes. Photographs of other shapes need tensors of other sizes.
const KEPT_MEMORY: usize = 1 << 30;

/// A failure of the detector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The embedded weights do not hold what they should: the program was built from a damaged checkout.
    #[error(
        "the weights of the face detector are damaged ({0}); restore crates/relievo-detect/assets and build again"
    )]
    Damaged(#[from] ReadError),
    /// An image without pixels.
    #[error("an image of {width} x {height} pixels has no faces")]
    Empty {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The system has too little memory.
    #[error("there is too little memory to look for faces: it needs {} MiB", .0 >> 20)]
    OutOfMemory(
        /// What the smallest look needs, in bytes.
        u64,
    ),
    /// The network failed.
    #[error(transparent)]
    Tensor(#[from] relievo_tensor::Error),
}

/// Finds faces.
pub struct Detector {
    network: CenterFace,
}

impl Detector {
    /// The detector with the embedded weights.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn new() -> Result<Self, DetectError> {
        Ok(Self { network: CenterFace::from_safetensors(WEIGHTS)? })
    }

    /// The faces of an upright photograph, the largest first. The result does not depend on the number of threads. Where
    /// memory is short, the network sees the photograph in smaller parts.
    ///
    /// # Errors
    /// If the image has no pixels, or memory does not suffice for the smallest parts.
    pub fn faces(&self, photograph: &Image) -> Result<Vec<Face>, DetectError> {
        self.search(photograph, |_| false)
    }

    /// The faces of a photograph; or, if the first look shows one that `is_enough` and that is too large for the other,
    /// those of the first look that are not much smaller. The other look has nothing to add then: it finds smaller faces,
    /// and suspects this one, which is known. So the largest that is enough is the same as without this.
    pub(crate) fn search(
        &self,
        photograph: &Image,
        is_enough: impl Fn(&Face) -> bool,
    ) -> Result<Vec<Face>, DetectError> {
        let &Image { width, height, .. } = photograph;
        if width == 0 || height == 0 {
            return Err(DetectError::Empty { width, height });
        }
        if pool_statistics().bytes_held > KEPT_MEMORY {
            pool_release();
        }
        let long = width.max(height);
        let fine = (long > LARGE).then_some(long.min(FINE));
        // Pixels of the fine look to one of the photograph.
        let finest = fine.map_or(1.0, |fine| fine as f32 / long as f32);
        let is_too_large = |face: &Face| face.area.height() * finest > *SHARP.end();
        let (together, memory) = windows_together()?;
        let look_closely = |suspects: &[Face], faces: &mut Vec<Face>| {
            suspects.chunks(together).try_for_each(|group| {
                faces.extend(self.look_closely(photograph, group)?);
                Ok::<_, DetectError>(())
            })
        };
        let (mut faces, mut suspects) = (Vec::new(), Vec::new());
        self.look_whole(photograph, if long > SMALL { COARSE } else { TINY }, &mut faces, &mut suspects)?;
        if fine.is_some() {
            // Those of a portrait are too large for both looks; the other has nothing to say of them.
            let is_portrait = |face: &mut Face| is_too_large(face) && face.score >= CERTAIN;
            let mut portraits: Vec<Face> = suspects.extract_if(.., is_portrait).collect();
            suppress(&mut portraits, SAME, PART);
            look_closely(&portraits, &mut faces)?;
        }
        let enough = faces.iter().filter(|face| is_too_large(face) && is_enough(face));
        if let Some(largest) = enough.map(|face| face.area.pixels()).max_by(f32::total_cmp) {
            // The close look may find them larger than they seem.
            suspects.retain(|suspect| suspect.area.pixels() > largest / 2.0);
        } else if let Some(fine) = fine {
            self.look_whole(photograph, fine, &mut faces, &mut suspects)?;
        }
        suppress(&mut suspects, SAME, PART);
        suspects.retain(|suspect| faces.iter().all(|face| face.area.overlap(&suspect.area) <= SAME));
        suspects.truncate(MOST_WINDOWS);
        look_closely(&suspects, &mut faces)?;
        suppress(&mut faces, SAME, PART);
        faces.sort_by(|a, b| b.area.pixels().total_cmp(&a.area.pixels()));
        let leaning: Vec<usize> = (0..faces.len()).filter(|at| faces[*at].leans()).collect();
        for group in leaning.chunks(together) {
            self.look_upright(photograph, group, &mut faces)?;
        }
        drop(memory);
        Ok(faces)
    }

    /// What the network alone says of images `[B,H,W,3]`, RGB in 0..255, H and W multiples of 32: `[B,H/4,W/4,15]`, for
    /// each place the heat of a face's middle before the sigmoid, then ln of height and width over 4, the offset of the
    /// middle (y, x), and five landmarks (y, x) as fractions of the box. For measurements; [`Detector::faces`] chooses what
    /// the network looks at.
    ///
    /// # Errors
    /// If the images have another shape.
    pub fn network_output(&self, images: &Tensor) -> Result<Tensor, DetectError> {
        Ok(self.network.forward(images)?)
    }

    /// Adds what the whole photograph, its long side of `long` pixels, shows sharply to `faces`, and the rest to `suspects`.
    fn look_whole(
        &self,
        photograph: &Image,
        long: u32,
        faces: &mut Vec<Face>,
        suspects: &mut Vec<Face>,
    ) -> Result<(), DetectError> {
        let seen = whole(photograph, long);
        let scale =
            [photograph.width as f32 / seen.width as f32, photograph.height as f32 / seen.height as f32];
        for face in self.look(&seen)? {
            let sharp = SHARP.contains(&face.area.height());
            let face = face.moved([0.0; 2], scale);
            if !sharp {
                suspects.push(face);
            } else if face.score >= CERTAIN {
                faces.push(face);
            }
        }
        Ok(())
    }

    /// Candidates in an image, in its pixels.
    fn look(&self, seen: &Image) -> Result<Vec<Face>, DetectError> {
        let extents = |side: usize| [seen.height, seen.width].map(|extent| parts(extent as usize, side));
        let pixels = |[rows, columns]: &[Parts; 2]| rows.length * columns.length;
        let ([rows, columns], _memory) = first_that_fits(PART_SIDES.map(extents), pixels)?;
        let mut faces = Vec::new();
        for top in &rows.starts {
            for left in &columns.starts {
                let mut part = Tensor::empty([1, rows.length, columns.length, 3]);
                for (row, to) in part.data_mut().chunks_exact_mut(columns.length * 3).enumerate() {
                    let from = ((top + row) * seen.width as usize + left) * 3;
                    for (to, &from) in to.iter_mut().zip(&seen.pixels[from..]) {
                        *to = f32::from(from);
                    }
                }
                let output = self.network.forward(&part)?;
                let found = candidates(output.data(), columns.length / STRIDE, SUSPECTED);
                faces.extend(found.iter().map(|face| face.moved([*left as f32, *top as f32], [1.0; 2])));
            }
        }
        suppress(&mut faces, SAME, 1.0);
        Ok(faces)
    }

    /// Cuts candidates out of the photograph at the size that the network knows best, and returns those that are faces.
    fn look_closely(&self, photograph: &Image, suspects: &[Face]) -> Result<Vec<Face>, DetectError> {
        let windows: Vec<Rectangle> = suspects.iter().map(|suspect| window(&suspect.area)).collect();
        let output = self.see(windows.iter().map(|window| photograph.resampled(*window, WINDOW, WINDOW)))?;
        let mut faces = Vec::new();
        for ((output, window), suspect) in
            output.data().chunks_exact(WINDOW_OUTPUTS).zip(&windows).zip(suspects)
        {
            let scale = (window.width / f64::from(WINDOW)) as f32;
            let offset = [window.left as f32, window.top as f32];
            let seen = candidates(output, WINDOW as usize / STRIDE, CONFIRMED);
            let seen = seen.iter().map(|face| face.moved(offset, [scale; 2]));
            // A neighbour that is in the window too has a look of its own.
            let same = seen.filter(|face| face.area.overlap(&suspect.area) > SAME);
            faces.extend(same.max_by(|a, b| a.score.total_cmp(&b.score)));
        }
        Ok(faces)
    }

    /// Finds the landmarks of the faces with these numbers again, with the head turned upright: the network puts them
    /// in place best there. A face that is not seen then stays as it is.
    fn look_upright(
        &self,
        photograph: &Image,
        numbers: &[usize],
        faces: &mut [Face],
    ) -> Result<(), DetectError> {
        let places: Vec<_> = numbers
            .iter()
            .map(|number| {
                let Rectangle { left, top, width, .. } = window(&faces[*number].area);
                let middle = [left + width / 2.0, top + width / 2.0];
                (middle, width, faces[*number].landmarks.roll().to_radians())
            })
            .collect();
        let turned = places
            .iter()
            .map(|(middle, side, angle)| photograph.turned_square(*middle, *side, *angle, WINDOW));
        let output = self.see(turned)?;
        let half = WINDOW as f32 / 2.0;
        let of_face = half * CLOSE / WINDOW as f32;
        let expected =
            Area { left: half - of_face, top: half - of_face, right: half + of_face, bottom: half + of_face };
        for ((output, (middle, side, angle)), number) in
            output.data().chunks_exact(WINDOW_OUTPUTS).zip(places).zip(numbers)
        {
            let seen = candidates(output, WINDOW as usize / STRIDE, CONFIRMED);
            let same = seen.into_iter().filter(|face| face.area.overlap(&expected) > SAME);
            let Some(upright) = same.max_by(|a, b| a.score.total_cmp(&b.score)) else { continue };
            let (sine, cosine) = angle.sin_cos();
            let scale = side as f32 / WINDOW as f32;
            let back = |[x, y]: [f32; 2]| {
                let (right, down) = (scale * (x - half), scale * (y - half));
                [
                    middle[0] as f32 + right * cosine - down * sine,
                    middle[1] as f32 + right * sine + down * cosine,
                ]
            };
            faces[*number].landmarks = Landmarks::from_points(upright.landmarks.points().map(back));
        }
        Ok(())
    }

    /// The network's output for images of [`WINDOW`] rows and columns, [`WINDOWS`] at most.
    fn see(&self, windows: impl ExactSizeIterator<Item = Image>) -> Result<Tensor, DetectError> {
        let side = WINDOW as usize;
        // One, two or four, so that groups need tensors of few sizes.
        let mut values = Tensor::full([windows.len().next_power_of_two(), side, side, 3], 0.0);
        for (values, seen) in values.data_mut().chunks_exact_mut(side * side * 3).zip(windows) {
            for (value, &byte) in values.iter_mut().zip(&seen.pixels) {
                *value = f32::from(byte);
            }
        }
        Ok(self.network.forward(&values)?)
    }
}

/// The whole image with a long side of about `long`, the sides being multiples of what the network wants. They are
/// rounded up and the image is stretched, by which the detector's authors feed it, too.
fn whole(image: &Image, long: u32) -> Image {
    let scale = f64::from(long) / f64::from(image.width.max(image.height));
    let [width, height] = [image.width, image.height].map(|extent| {
        let scaled = (f64::from(extent) * scale).round().max(1.0) as u32;
        scaled.next_multiple_of(MULTIPLE as u32)
    });
    let [right, bottom] = [image.width, image.height].map(f64::from);
    let all = Rectangle { left: 0.0, top: 0.0, width: right, height: bottom };
    image.resampled(all, width, height)
}

/// Where the parts of a line begin, and how long they all are.
struct Parts {
    starts: Vec<usize>,
    length: usize,
}

/// The first of several ways to look that memory suffices for, and that memory; the last one needs least. `pixels` says how
/// many the network sees at a time.
fn first_that_fits<T, const N: usize>(
    ways: [T; N],
    pixels: impl Fn(&T) -> usize,
) -> Result<(T, Reservation), DetectError> {
    let mut needed = 0;
    for way in ways {
        needed = (pixels(&way) as u64).saturating_mul(BYTES_PER_PIXEL);
        let reserved = reserve_memory(needed, 0).or_else(|| {
            // Tensors of the last photograph may be all that stands in the way.
            pool_release();
            reserve_memory(needed, 0)
        });
        if let Some(memory) = reserved {
            return Ok((way, memory));
        }
    }
    Err(DetectError::OutOfMemory(needed))
}

/// How many second looks are taken together.
fn windows_together() -> Result<(usize, Reservation), DetectError> {
    first_that_fits([WINDOWS, 1], |count| count * (WINDOW * WINDOW) as usize)
}

/// The fewest parts of at most `side` that cover a line of `extent`, a multiple of [`MULTIPLE`].
fn parts(extent: usize, side: usize) -> Parts {
    let count = extent.saturating_sub(PART_OVERLAP).div_ceil(side - PART_OVERLAP).max(1);
    if count == 1 {
        return Parts { starts: vec![0], length: extent };
    }
    let length = ((extent - PART_OVERLAP).div_ceil(count) + PART_OVERLAP).next_multiple_of(MULTIPLE);
    // At multiples too, so that every part has its pixels where the whole image would have them.
    let starts =
        (0..count).map(|part| part * (extent - length) / (count - 1) / MULTIPLE * MULTIPLE).collect();
    Parts { starts, length }
}

/// The square that a face is looked at closely in.
fn window(area: &Area) -> Rectangle {
    let side = f64::from(area.height().max(area.width()).max(1.0)) * f64::from(WINDOW) / f64::from(CLOSE);
    let centre = |low: f32, high: f32| f64::from(low + high) / 2.0;
    Rectangle {
        left: centre(area.left, area.right) - side / 2.0,
        top: centre(area.top, area.bottom) - side / 2.0,
        width: side,
        height: side,
    }
}

/// The boxes at all places of an output `[rows, columns, 15]` where a face is seen with at least the given certainty,
/// in pixels of the network's input.
fn candidates(output: &[f32], columns: usize, least: f32) -> Vec<Face> {
    // The sigmoid is monotonous: what is below needs no exponential.
    let threshold = (least / (1.0 - least)).ln();
    let stride = STRIDE as f32;
    let (places, _) = output.as_chunks::<OUTPUTS>();
    let seen = places.iter().enumerate().filter(|(_, place)| place[0] >= threshold);
    seen.map(|(at, &[heat, height, width, y, x, ref points @ ..])| {
        let (row, column) = ((at / columns) as f32, (at % columns) as f32);
        let [height, width] = [height, width].map(|size| size.exp() * stride);
        let left = (column + x + 0.5) * stride - width / 2.0;
        let top = (row + y + 0.5) * stride - height / 2.0;
        let point = |at: usize| [left + points[2 * at + 1] * width, top + points[2 * at] * height];
        Face {
            area: Area { left, top, right: left + width, bottom: top + height },
            score: 1.0 / (1.0 + (-heat).exp()),
            landmarks: Landmarks::from_points([0, 1, 2, 3, 4].map(point)),
        }
    })
    .filter(|face| face.area.pixels().is_finite())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_line_and_overlap_enough() {
        for side in PART_SIDES {
            for extent in (MULTIPLE..6000).step_by(MULTIPLE) {
                let Parts { starts, length } = parts(extent, side);
                assert!(length <= side && length.is_multiple_of(MULTIPLE), "{extent}: {length}");
                assert_eq!((starts[0], starts[starts.len() - 1] + length), (0, extent));
                for pair in starts.windows(2) {
                    assert!(
                        pair[0] + length >= pair[1] + PART_OVERLAP - MULTIPLE,
                        "{extent}: {starts:?} of {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_taken_in_smaller_parts_or_refused() {
        let way = |pixels: [usize; 3]| first_that_fits(pixels, |pixels| *pixels);
        assert_eq!(way([usize::MAX >> 2, 4, 2]).unwrap().0, 4);
        let error = way([usize::MAX >> 2, usize::MAX >> 3, 1 << 50]).err().unwrap().to_string();
        assert!(error.starts_with("there is too little memory to look for faces: it needs "), "{error}");
    }
}
