//! Sums along the lines of a raster: what the samples of a line ask of an edge that crosses it.
//!
//! Lines are columns or rows. A block of lines is brought together once, so that every sum runs over neighbouring numbers
//! whichever way the lines go, and all edges that cross the block use it.

use super::far::Far;
use crate::lanes::{LANES, Lanes};
use crate::raster::{Covered, Samples};

/// Lines in a block.
pub(super) const BLOCK: usize = 16;

/// The way lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Axis {
    /// A line is a column, a position on it a row.
    Column,
    /// A line is a row, a position on it a column.
    Row,
}

impl Axis {
    /// How many lines there are, and how many samples each has.
    pub fn extents(self, samples: Samples) -> [usize; 2] {
        match self {
            Self::Column => [samples.columns, samples.rows],
            Self::Row => [samples.rows, samples.columns],
        }
    }
}

/// An edge where it crosses a line, and how its two ends feel a sample at v: D = slope (v - crossing), plus or minus eps,
/// whichever is further from zero.
#[derive(Clone, Copy)]
pub(super) struct Crossing {
    pub at: f32,
    /// For the first and the second end.
    pub slopes: [f32; 2],
    pub eps: f32,
}

/// Upstream gradients of one image, by pixel from the top, and what the samples show.
#[derive(Clone, Copy)]
pub(super) struct Upstream<'a> {
    pub alpha: Option<&'a [f32]>,
    /// Gradient by pixel, and the colours of all samples.
    pub colour: Option<[&'a [f32]; 2]>,
    /// Samples along a side of a pixel.
    pub per_pixel: usize,
}

/// Sums over one line of a block.
pub(super) trait Lines: Send {
    /// Room for a block of lines of so many samples.
    fn new(samples_per_line: usize) -> Self;
    /// Takes the lines from `first` on, `count` of them.
    fn gather(
        &mut self,
        axis: Axis,
        first: usize,
        count: usize,
        image: &Covered<'_>,
        upstream: &Upstream<'_>,
    );
    /// The face that a sample of a line of the block shows.
    fn shows(&self, line: usize, place: usize) -> f32;
    /// Whether a sample beyond `inner` may want to become what it is.
    fn pulls_outward(&self, line: usize, inner: usize, up: bool) -> bool;
    /// Over the positions beyond `inner` up to the border: the sum of G / D for both ends, over those that want to become what
    /// `inner` is.
    fn outward<L: Lanes>(&self, l: L, line: usize, inner: usize, up: bool, crossing: &Crossing) -> [f32; 2];
    /// Whether a sample of a face may want to become what `outer` is.
    fn pulls_inward(&self, line: usize, outer: usize) -> bool;
    /// Over those positions in `first..=last` that show `face`: the same for becoming what `outer` is.
    fn inward<L: Lanes>(
        &self,
        l: L,
        line: usize,
        outer: usize,
        face: f32,
        span: [usize; 2],
        crossing: &Crossing,
    ) -> [f32; 2];
}

/// Copies what the samples of a block of lines show, line by line.
#[inline(always)]
fn copy_shown(axis: Axis, first: usize, count: usize, image: &Covered<'_>, stride: usize, shows: &mut [f32]) {
    let Samples { columns, rows } = image.samples;
    match axis {
        Axis::Column => {
            for row in 0..rows {
                let numbers = &image.numbers[row * columns + first..][..count];
                for (line, number) in numbers.iter().enumerate() {
                    shows[line * stride + row] = *number;
                }
            }
        }
        Axis::Row => {
            let numbers = image.numbers[first * columns..].chunks_exact(columns).take(count);
            for (line, numbers) in shows.chunks_exact_mut(stride).zip(numbers) {
                line[..columns].copy_from_slice(numbers);
            }
        }
    }
}

/// Calls `each(line of the block, position on it, pixel)` for the first sample of each pixel of a block of lines.
#[inline(always)]
fn visit_pixels(
    axis: Axis,
    first: usize,
    count: usize,
    samples: Samples,
    per_pixel: usize,
    mut each: impl FnMut(usize, usize, usize),
) {
    let [width, height] = [samples.columns / per_pixel, samples.rows / per_pixel];
    let lines = first / per_pixel..(first + count) / per_pixel;
    match axis {
        Axis::Column => {
            for y in 0..height {
                for x in lines.clone() {
                    each(x * per_pixel - first, y * per_pixel, (height - 1 - y) * width + x);
                }
            }
        }
        Axis::Row => {
            for y in lines {
                for x in 0..width {
                    each(y * per_pixel - first, x * per_pixel, (height - 1 - y) * width + x);
                }
            }
        }
    }
}

/// Writes a value to all samples of a pixel.
#[inline(always)]
fn spread(list: &mut [f32], stride: usize, [line, place]: [usize; 2], per_pixel: usize, value: f32) {
    for line in line..line + per_pixel {
        list[line * stride + place..][..per_pixel].fill(value);
    }
}

/// Where the samples of a sum come from.
trait Source {
    /// Positions and pulls of [`LANES`] indices; lists have room behind their ends.
    fn at<L: Lanes>(&self, l: L, index: usize) -> [L::V; 2];
}

/// `d + eps` above zero, else `d - eps`.
#[inline(always)]
fn away_from_zero<L: Lanes>(l: L, d: L::V, eps: f32) -> L::V {
    l.add(d, l.select(l.gt(d, l.splat(0.0)), l.splat(eps), l.splat(-eps)))
}

/// The sums of `pull / D` for both ends over the positive pulls from index `start` up to `end`.
#[inline(always)]
fn sum<L: Lanes, S: Source>(l: L, start: usize, end: usize, crossing: &Crossing, source: S) -> [f32; 2] {
    let Crossing { at, slopes, eps } = *crossing;
    let (at, a, b, zero) = (l.splat(at), l.splat(slopes[0]), l.splat(slopes[1]), l.splat(0.0));
    let (mut first, mut second) = (zero, zero);
    let mut index = start;
    while index < end {
        let [places, pulls] = source.at(l, index);
        let counts = l.and(l.gt(pulls, zero), l.gt(l.splat((end - index) as f32), l.from(0.0)));
        let pulls = l.select(counts, pulls, zero);
        let away = l.sub(places, at);
        let da = away_from_zero(l, l.mul(a, away), eps);
        let db = away_from_zero(l, l.mul(b, away), eps);
        // One division for both.
        let share = l.div(pulls, l.mul(da, db));
        first = l.add(first, l.mul(share, db));
        second = l.add(second, l.mul(share, da));
        index += LANES;
    }
    [l.sum(first), l.sum(second)]
}

/// Listed pulls.
struct Listed<'a> {
    places: &'a [f32],
    pulls: &'a [f32],
}

impl Source for Listed<'_> {
    #[inline(always)]
    fn at<L: Lanes>(&self, l: L, index: usize) -> [L::V; 2] {
        [l.load(self.places, index), l.load(self.pulls, index)]
    }
}

/// Gradients of the samples that show a face.
struct OfFace<'a> {
    shows: &'a [f32],
    gradients: &'a [f32],
    face: f32,
}

impl Source for OfFace<'_> {
    #[inline(always)]
    fn at<L: Lanes>(&self, l: L, place: usize) -> [L::V; 2] {
        let own = l.eq(l.load(self.shows, place), l.splat(self.face));
        [l.from(place as f32), l.select(own, l.load(self.gradients, place), l.splat(0.0))]
    }
}

/// What samples gain by becoming like a model, those of `face` only if there is one.
struct Gains<'a> {
    own: &'a [f32],
    gradients: [&'a [f32]; CHANNELS],
    model: [f32; CHANNELS],
    shows: &'a [f32],
    face: Option<f32>,
}

impl Source for Gains<'_> {
    #[inline(always)]
    fn at<L: Lanes>(&self, l: L, place: usize) -> [L::V; 2] {
        let [ga, gb, gc, gd] = self.gradients;
        let [a, b, c, d] = self.model;
        let warm = l.add(l.mul(l.load(ga, place), l.splat(a)), l.mul(l.load(gb, place), l.splat(b)));
        let cold = l.add(l.mul(l.load(gc, place), l.splat(c)), l.mul(l.load(gd, place), l.splat(d)));
        let gain = l.sub(l.load(self.own, place), l.add(warm, cold));
        let gain = match self.face {
            Some(face) => l.select(l.eq(l.load(self.shows, place), l.splat(face)), gain, l.splat(0.0)),
            None => gain,
        };
        [l.from(place as f32), gain]
    }
}

/// Lines of silhouettes: a covered sample counts one, others nothing. Only an uncovered sample that should be covered pulls
/// an edge outwards; those are listed, line by line, so that a sum goes over them alone.
pub(super) struct SilhouetteLines {
    length: usize,
    shows: Vec<f32>,
    gradients: Vec<f32>,
    /// Positions and strengths of the pulls of each line.
    places: Vec<f32>,
    pulls: Vec<f32>,
    /// For each position of a line the number of pulls before it, and the number of all.
    before: Vec<u32>,
    /// Far pulls together.
    far: Far,
}

impl SilhouetteLines {
    /// Samples from one line to the next in all lists: one more than there are, and room for the last lanes.
    fn stride(&self) -> usize {
        self.length + LANES
    }

    /// First and last but one of the pulls beyond `inner`.
    #[inline(always)]
    fn beyond(&self, line: usize, inner: usize, up: bool) -> [usize; 2] {
        let before = &self.before[line * self.stride()..][..self.length + 1];
        let [start, end] = if up { [inner + 1, self.length] } else { [0, inner] };
        [before[start] as usize, before[end] as usize]
    }
}

impl Lines for SilhouetteLines {
    fn new(length: usize) -> Self {
        let room = BLOCK * (length + LANES);
        let [shows, gradients, places, pulls] = [(); 4].map(|()| vec![0.0; room]);
        let far = Far::new(BLOCK, length);
        Self { length, shows, gradients, places, pulls, before: vec![0; room], far }
    }

    #[inline(always)]
    fn gather(
        &mut self,
        axis: Axis,
        first: usize,
        count: usize,
        image: &Covered<'_>,
        upstream: &Upstream<'_>,
    ) {
        let (stride, per_pixel) = (self.stride(), upstream.per_pixel);
        let gradients = upstream.alpha.expect("silhouettes have a gradient");
        let share = 1.0 / (per_pixel * per_pixel) as f32;
        copy_shown(axis, first, count, image, stride, &mut self.shows);
        let own = &mut self.gradients[..];
        visit_pixels(axis, first, count, image.samples, per_pixel, |line, place, pixel| {
            spread(own, stride, [line, place], per_pixel, gradients[pixel] * share);
        });
        for line in 0..count {
            let all = line * stride..(line + 1) * stride;
            let [shows, gradients] =
                [&self.shows, &self.gradients].map(|list| &list[all.clone()][..self.length]);
            let [places, pulls] =
                [&mut self.places, &mut self.pulls].map(|list| &mut list[all.clone()][..self.length]);
            let before = &mut self.before[all][..self.length + 1];
            let mut found = 0;
            for (place, (shows, g)) in shows.iter().zip(gradients).enumerate() {
                before[place] = found as u32;
                places[found] = place as f32;
                pulls[found] = -g;
                found += usize::from((*shows < 0.0) & (*g < 0.0));
            }
            before[self.length] = found as u32;
            self.far.gather(line, &places[..found], &pulls[..found]);
        }
    }

    #[inline(always)]
    fn shows(&self, line: usize, place: usize) -> f32 {
        self.shows[line * self.stride() + place]
    }

    #[inline(always)]
    fn pulls_outward(&self, line: usize, inner: usize, up: bool) -> bool {
        let [start, end] = self.beyond(line, inner, up);
        start < end
    }

    #[inline(always)]
    fn outward<L: Lanes>(&self, l: L, line: usize, inner: usize, up: bool, crossing: &Crossing) -> [f32; 2] {
        let all = line * self.stride()..(line + 1) * self.stride();
        let [places, pulls] = [&self.places[all.clone()], &self.pulls[all]];
        let [start, end] = self.beyond(line, inner, up);
        let Some((blocks, border)) = self.far.beyond(inner, up) else {
            return sum(l, start, end, crossing, Listed { places, pulls });
        };
        let border = self.before[line * self.stride() + border.min(self.length)] as usize;
        let [start, end] = if up { [start, border] } else { [border, end] };
        let near = sum(l, start, end, crossing, Listed { places, pulls });
        let far = self.far.sum(l, line, blocks, up, crossing);
        [near[0] + far[0], near[1] + far[1]]
    }

    #[inline(always)]
    fn pulls_inward(&self, line: usize, outer: usize) -> bool {
        self.shows(line, outer) < 0.0
    }

    #[inline(always)]
    fn inward<L: Lanes>(
        &self,
        l: L,
        line: usize,
        _: usize,
        face: f32,
        span: [usize; 2],
        crossing: &Crossing,
    ) -> [f32; 2] {
        let all = line * self.stride()..(line + 1) * self.stride();
        let [shows, gradients] = [&self.shows[all.clone()], &self.gradients[all]];
        sum(l, span[0], span[1] + 1, crossing, OfFace { shows, gradients, face })
    }
}

/// Colour, and the silhouette where it has a gradient.
const CHANNELS: usize = 4;

/// Lines of colours, with or without the silhouette. What a sample gains by looking like another, the sum over channels of
/// (I - I') g, is its own sum of I g less that of I' g.
pub(super) struct ColourLines {
    length: usize,
    shows: Vec<f32>,
    /// The sum of I g of each sample.
    own: Vec<f32>,
    /// g by channel.
    gradients: [Vec<f32>; CHANNELS],
    /// I of each sample.
    values: Vec<[f32; CHANNELS]>,
}

impl ColourLines {
    fn stride(&self) -> usize {
        self.length + LANES
    }

    /// The sum over the positions `start..end`, those of `face` only if there is one, of becoming like `model`.
    #[inline(always)]
    fn towards<L: Lanes>(
        &self,
        l: L,
        line: usize,
        model: usize,
        [start, end]: [usize; 2],
        crossing: &Crossing,
        face: Option<f32>,
    ) -> [f32; 2] {
        let all = line * self.stride()..(line + 1) * self.stride();
        let model = self.values[all.clone()][model];
        let [a, b, c, d] = &self.gradients;
        let gradients = [&a[all.clone()], &b[all.clone()], &c[all.clone()], &d[all.clone()]];
        let (own, shows) = (&self.own[all.clone()], &self.shows[all]);
        sum(l, start, end, crossing, Gains { own, gradients, model, shows, face })
    }
}

impl Lines for ColourLines {
    fn new(length: usize) -> Self {
        let room = BLOCK * (length + LANES);
        let list = || vec![0.0; room];
        let gradients = [(); CHANNELS].map(|()| list());
        Self { length, shows: list(), own: list(), gradients, values: vec![[0.0; CHANNELS]; room] }
    }

    #[inline(always)]
    fn gather(
        &mut self,
        axis: Axis,
        first: usize,
        count: usize,
        image: &Covered<'_>,
        upstream: &Upstream<'_>,
    ) {
        let (stride, per_pixel) = (self.stride(), upstream.per_pixel);
        let [by_pixel, colours] = upstream.colour.expect("colours have a gradient");
        let [by_pixel, colours] = [by_pixel, colours].map(|list| list.as_chunks::<3>().0);
        let share = 1.0 / (per_pixel * per_pixel) as f32;
        copy_shown(axis, first, count, image, stride, &mut self.shows);
        visit_pixels(axis, first, count, image.samples, per_pixel, |line, place, pixel| {
            let [a, b, c] = by_pixel[pixel].map(|g| g * share);
            let alpha = upstream.alpha.map_or(0.0, |alpha| alpha[pixel] * share);
            let gradients = [a, b, c, alpha];
            for (list, g) in self.gradients.iter_mut().zip(gradients) {
                spread(list, stride, [line, place], per_pixel, g);
            }
            for line in line..line + per_pixel {
                for place in place..place + per_pixel {
                    let at = line * stride + place;
                    let sample = match axis {
                        Axis::Column => place * image.samples.columns + first + line,
                        Axis::Row => (first + line) * image.samples.columns + place,
                    };
                    let [a, b, c] = colours[sample];
                    let values = [a, b, c, f32::from(self.shows[at] >= 0.0)];
                    self.values[at] = values;
                    let warm = gradients[0] * values[0] + gradients[1] * values[1];
                    self.own[at] = warm + (gradients[2] * values[2] + gradients[3] * values[3]);
                }
            }
        });
    }

    #[inline(always)]
    fn shows(&self, line: usize, place: usize) -> f32 {
        self.shows[line * self.stride() + place]
    }

    #[inline(always)]
    fn pulls_outward(&self, _: usize, _: usize, _: bool) -> bool {
        true
    }

    #[inline(always)]
    fn outward<L: Lanes>(&self, l: L, line: usize, inner: usize, up: bool, crossing: &Crossing) -> [f32; 2] {
        let span = if up { [inner + 1, self.length] } else { [0, inner] };
        self.towards(l, line, inner, span, crossing, None)
    }

    #[inline(always)]
    fn pulls_inward(&self, _: usize, _: usize) -> bool {
        true
    }

    #[inline(always)]
    fn inward<L: Lanes>(
        &self,
        l: L,
        line: usize,
        outer: usize,
        face: f32,
        span: [usize; 2],
        crossing: &Crossing,
    ) -> [f32; 2] {
        self.towards(l, line, outer, [span[0], span[1] + 1], crossing, Some(face))
    }
}
