//! Sums along the lines of a raster: what the samples of a line ask of an edge that crosses it.
//!
//! Lines are columns or rows. A block of lines is brought together once, so that every sum runs over neighbouring numbers
//! whichever way the lines go, and all edges that cross the block use it.

use crate::raster::{Covered, Samples};

/// Lines in a block.
pub(super) const BLOCK: usize = 16;
/// Samples that are added up together.
const LANES: usize = 8;

/// The way lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Axis {
    /// A line is a column, a place on it a row.
    Column,
    /// A line is a row, a place on it a column.
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
pub(super) trait Lines {
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
    /// Over the places from `inner + step` on to the border: the sum of G / D for both ends, over those that want to become
    /// what `inner` is.
    fn outward(&self, line: usize, inner: usize, step: isize, crossing: &Crossing) -> [f32; 2];
    /// Over those places in `first..=last` that show `face`: the same for becoming what `outer` is.
    fn inward(&self, line: usize, outer: usize, face: f32, span: [usize; 2], crossing: &Crossing)
    -> [f32; 2];
}

/// Calls `each(line of the block, place on it, sample, pixel)` for all samples of a block.
#[inline(always)]
fn visit(
    axis: Axis,
    first: usize,
    count: usize,
    samples: Samples,
    per_pixel: usize,
    mut each: impl FnMut(usize, usize, usize, usize),
) {
    let [_, length] = axis.extents(samples);
    let [width, height] = [samples.columns / per_pixel, samples.rows / per_pixel];
    let half = per_pixel - 1;
    match axis {
        Axis::Column => {
            for row in 0..length {
                let pixels = (height - 1 - (row >> half)) * width;
                for line in 0..count {
                    let column = first + line;
                    each(line, row, row * samples.columns + column, pixels + (column >> half));
                }
            }
        }
        Axis::Row => {
            for line in 0..count {
                let row = first + line;
                let pixels = (height - 1 - (row >> half)) * width;
                for column in 0..length {
                    each(line, column, row * samples.columns + column, pixels + (column >> half));
                }
            }
        }
    }
}

/// Places and pulls of some samples.
type Pulls = [[f32; LANES]; 2];

/// The sums of `pull / D` for both ends over the positive pulls from index `start` up to `end`. `from(index)` gives those of
/// [`LANES`] indices; lists have room behind their ends.
#[inline(always)]
fn sum(start: usize, end: usize, crossing: &Crossing, from: impl Fn(usize) -> Pulls) -> [f32; 2] {
    let Crossing { at, slopes: [a, b], eps } = *crossing;
    let (mut first, mut second) = ([0.0f32; LANES], [0.0f32; LANES]);
    let mut index = start;
    while index < end {
        let [places, pulls] = from(index);
        let left = (end - index) as i32;
        for lane in 0..LANES {
            let pull = if (pulls[lane] > 0.0) & ((lane as i32) < left) { pulls[lane] } else { 0.0 };
            let away = places[lane] - at;
            let [da, db] = [a * away, b * away].map(|d| if d > 0.0 { d + eps } else { d - eps });
            // One division for both.
            let share = pull / (da * db);
            first[lane] += share * db;
            second[lane] += share * da;
        }
        index += LANES;
    }
    [first, second].map(|lanes| {
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + b) + (c + d)) + ((e + f) + (g + h))
    })
}

/// The numbers from `index` on.
#[inline(always)]
fn lanes(list: &[f32], index: usize) -> [f32; LANES] {
    list[index..index + LANES].try_into().expect("as many lanes as asked for")
}

/// A number for every lane.
#[inline(always)]
fn each(of_lane: impl Fn(usize) -> f32) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    for (lane, one) in all.iter_mut().enumerate() {
        *one = of_lane(lane);
    }
    all
}

/// Places that follow each other.
#[inline(always)]
fn places_from(place: usize) -> [f32; LANES] {
    each(|lane| (place + lane) as f32)
}

/// Lines of silhouettes: a covered sample counts one, others nothing. Only an uncovered sample that should be covered pulls
/// an edge outwards; those are listed, line by line, so that a sum goes over them alone.
pub(super) struct SilhouetteLines {
    length: usize,
    shows: Vec<f32>,
    gradients: Vec<f32>,
    /// Places and strengths of the pulls of each line.
    places: Vec<f32>,
    pulls: Vec<f32>,
    /// For each place of a line the number of pulls before it, and the number of all.
    before: Vec<u32>,
}

impl SilhouetteLines {
    /// Samples from one line to the next in all lists: one more than there are, and room for the last lanes.
    fn stride(&self) -> usize {
        self.length + LANES
    }
}

impl Lines for SilhouetteLines {
    fn new(length: usize) -> Self {
        let room = BLOCK * (length + LANES);
        let [shows, gradients, places, pulls] = [(); 4].map(|()| vec![0.0; room]);
        Self { length, shows, gradients, places, pulls, before: vec![0; room] }
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
        let stride = self.stride();
        let gradients = upstream.alpha.expect("silhouettes have a gradient");
        let share = 1.0 / (upstream.per_pixel * upstream.per_pixel) as f32;
        let (own, shows) = (&mut self.gradients[..], &mut self.shows[..]);
        visit(axis, first, count, image.samples, upstream.per_pixel, |line, place, sample, pixel| {
            shows[line * stride + place] = image.numbers[sample];
            own[line * stride + place] = gradients[pixel] * share;
        });
        for line in 0..count {
            let all = line * stride..(line + 1) * stride;
            let [shows, gradients] = [&self.shows[all.clone()], &self.gradients[all.clone()]];
            let [places, pulls] =
                [&mut self.places[..], &mut self.pulls[..]].map(|list| &mut list[all.clone()]);
            let before = &mut self.before[all];
            let mut found = 0;
            for place in 0..self.length {
                before[place] = found as u32;
                places[found] = place as f32;
                pulls[found] = -gradients[place];
                found += usize::from((shows[place] < 0.0) & (gradients[place] < 0.0));
            }
            before[self.length] = found as u32;
        }
    }

    #[inline(always)]
    fn shows(&self, line: usize, place: usize) -> f32 {
        self.shows[line * self.stride() + place]
    }

    #[inline(always)]
    fn outward(&self, line: usize, inner: usize, step: isize, crossing: &Crossing) -> [f32; 2] {
        let all = line * self.stride()..(line + 1) * self.stride();
        let before = &self.before[all.clone()];
        let [start, end] = if step > 0 { [inner + 1, self.length] } else { [0, inner] };
        let [places, pulls] = [&self.places[all.clone()], &self.pulls[all]];
        sum(before[start] as usize, before[end] as usize, crossing, |index| {
            [lanes(places, index), lanes(pulls, index)]
        })
    }

    #[inline(always)]
    fn inward(
        &self,
        line: usize,
        outer: usize,
        face: f32,
        span: [usize; 2],
        crossing: &Crossing,
    ) -> [f32; 2] {
        if self.shows(line, outer) >= 0.0 {
            return [0.0; 2];
        }
        let all = line * self.stride()..(line + 1) * self.stride();
        let [shows, gradients] = [&self.shows[all.clone()], &self.gradients[all]];
        sum(span[0], span[1] + 1, crossing, |place| {
            let (shows, gradients) = (lanes(shows, place), lanes(gradients, place));
            [places_from(place), each(|lane| if shows[lane] == face { gradients[lane] } else { 0.0 })]
        })
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

    /// The sum over the places `start..end` that `counts` lets pass, of becoming like `model`.
    #[inline(always)]
    fn towards(
        &self,
        line: usize,
        model: usize,
        [start, end]: [usize; 2],
        crossing: &Crossing,
        counts: impl Fn(f32) -> bool,
    ) -> [f32; 2] {
        let all = line * self.stride()..(line + 1) * self.stride();
        let [a, b, c, d] = self.values[all.clone()][model];
        let [ga, gb, gc, gd] = [0, 1, 2, 3].map(|channel: usize| &self.gradients[channel][all.clone()]);
        let [own, shows] = [&self.own[all.clone()], &self.shows[all]];
        sum(start, end, crossing, |place| {
            let [own, shows, ga, gb, gc, gd] = [own, shows, ga, gb, gc, gd].map(|list| lanes(list, place));
            let gain = each(|i| {
                let gain = own[i] - (ga[i] * a + gb[i] * b + gc[i] * c + gd[i] * d);
                if counts(shows[i]) { gain } else { 0.0 }
            });
            [places_from(place), gain]
        })
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
        let stride = self.stride();
        let [by_pixel, colours] = upstream.colour.expect("colours have a gradient");
        let [by_pixel, colours] = [by_pixel, colours].map(|list| list.as_chunks::<3>().0);
        let share = 1.0 / (upstream.per_pixel * upstream.per_pixel) as f32;
        visit(axis, first, count, image.samples, upstream.per_pixel, |line, place, sample, pixel| {
            let at = line * stride + place;
            let shows = image.numbers[sample];
            let [a, b, c] = colours[sample];
            let values = [a, b, c, f32::from(shows >= 0.0)];
            let [ga, gb, gc] = by_pixel[pixel];
            let alpha = upstream.alpha.map_or(0.0, |alpha| alpha[pixel]);
            let mut own = 0.0;
            for (channel, g) in [ga, gb, gc, alpha].into_iter().enumerate() {
                let g = g * share;
                self.gradients[channel][at] = g;
                own += g * values[channel];
            }
            self.shows[at] = shows;
            self.values[at] = values;
            self.own[at] = own;
        });
    }

    #[inline(always)]
    fn shows(&self, line: usize, place: usize) -> f32 {
        self.shows[line * self.stride() + place]
    }

    #[inline(always)]
    fn outward(&self, line: usize, inner: usize, step: isize, crossing: &Crossing) -> [f32; 2] {
        let span = if step > 0 { [inner + 1, self.length] } else { [0, inner] };
        self.towards(line, inner, span, crossing, |_| true)
    }

    #[inline(always)]
    fn inward(
        &self,
        line: usize,
        outer: usize,
        face: f32,
        span: [usize; 2],
        crossing: &Crossing,
    ) -> [f32; 2] {
        self.towards(line, outer, [span[0], span[1] + 1], crossing, |shows| shows == face)
    }
}
