//! An RGB image in memory, drawing on it, resizing.

/// Red, green and blue, sRGB, as stored in files.
pub type Colour = [u8; 3];

/// An 8-bit RGB image to draw on. Drawing outside of it is clipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    /// `[height, width]`
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A canvas of one colour.
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    /// From `[H,W,3]` in \[-1,1\], the range of the networks. Values outside are clamped, NaN is black.
    ///
    /// # Panics
    /// As all conversions: if `values` is not a whole number of rows of `width` colours.
    pub fn from_signed(values: &[f32], width: usize) -> Self {
        Self::from_colours(values, width, |value| value / 2.0 + 0.5)
    }

    /// From `[H,W,3]` in \[0,1\]. Values outside are clamped, NaN is black.
    pub fn from_unit(values: &[f32], width: usize) -> Self {
        Self::from_colours(values, width, |value| value)
    }

    /// From one value per pixel, `[H,W]` in \[0,1\], as grey; for masks.
    pub fn from_grey(values: &[f32], width: usize) -> Self {
        Self::from_values(values, width, |value| [byte(value); 3])
    }

    /// From 8-bit `[H,W,3]`.
    pub fn from_rgb8(bytes: &[u8], width: usize) -> Self {
        let height = rows(bytes.len(), width * 3);
        Self { width, height, pixels: bytes.as_chunks::<3>().0.to_vec() }
    }

    /// From one value per pixel, `[H,W]`, by a colour map.
    pub(crate) fn from_values(values: &[f32], width: usize, colour: impl Fn(f32) -> Colour) -> Self {
        let height = rows(values.len(), width);
        Self { width, height, pixels: values.iter().map(|&value| colour(value)).collect() }
    }

    /// From three values per pixel, `[H,W,3]`, each mapped to \[0,1\].
    fn from_colours(values: &[f32], width: usize, map: impl Fn(f32) -> f32) -> Self {
        let height = rows(values.len(), width * 3);
        // Number by number, not colour by colour, so that the compiler vectorises.
        let mut pixels = vec![[0; 3]; width * height];
        let bytes = pixels.as_flattened_mut().iter_mut();
        bytes.zip(values).for_each(|(target, value)| *target = byte(map(*value)));
        Self { width, height, pixels }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The colour of a pixel; `None` outside.
    #[cfg(test)]
    pub(crate) fn get(&self, x: usize, y: usize) -> Option<Colour> {
        (x < self.width && y < self.height).then(|| self.pixels[y * self.width + x])
    }

    /// `[height, width, 3]` bytes, row-major.
    pub fn bytes(&self) -> &[u8] {
        self.pixels.as_flattened()
    }

    /// Blends a colour over a pixel, with `opacity` in \[0,1\].
    pub(crate) fn blend(&mut self, x: i64, y: i64, colour: Colour, opacity: f32) {
        let inside = |at: i64, size: usize| usize::try_from(at).ok().filter(|&at| at < size);
        let (Some(x), Some(y)) = (inside(x, self.width), inside(y, self.height)) else { return };
        for (below, above) in self.pixels[y * self.width + x].iter_mut().zip(colour) {
            let (from, to) = (f32::from(*below), f32::from(above));
            *below = (from + (to - from) * opacity).round() as u8;
        }
    }

    /// Fills a rectangle.
    pub(crate) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Colour) {
        let right = x.saturating_add(width).min(self.width);
        for row in y..y.saturating_add(height).min(self.height) {
            if let Some(pixels) = self.pixels.get_mut(row * self.width + x..row * self.width + right) {
                pixels.fill(colour);
            }
        }
    }

    /// Copies another canvas, its upper left corner to `x`, `y`.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let width = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let from = &other.pixels[row * other.width..][..width];
            self.pixels[(y + row) * self.width + x..][..width].copy_from_slice(from);
        }
    }

    /// Draws connected lines, antialiased and with round ends. Points and `width` are in pixels; (0,0) is the upper
    /// left corner of the upper left pixel.
    pub(crate) fn polyline(&mut self, points: &[[f32; 2]], width: f32, colour: Colour) {
        // The stronger coverage counts where segments meet: blending twice would leave dark joints.
        let mut coverage = std::collections::BTreeMap::<(i64, i64), f32>::new();
        for pair in points.windows(2) {
            cover(&mut coverage, pair[0], pair[1], width);
        }
        for ((y, x), opacity) in coverage {
            self.blend(x, y, colour, opacity);
        }
    }

    /// The image resampled to `width` x `height` pixels: cubic (Catmull-Rom) to enlarge, averaging to shrink.
    pub fn resized(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let across = taps(self.width, width);
        let down = taps(self.height, height);
        // Overshoot of the first pass is kept; clamping happens once, at the end.
        let mut narrow = vec![[0_f32; 3]; self.height * width];
        let mut line = vec![[0_f32; 3]; self.width];
        for (row, target) in narrow.chunks_exact_mut(width).enumerate() {
            let bytes = self.pixels[row * self.width..][..self.width].as_flattened();
            line.as_flattened_mut().iter_mut().zip(bytes).for_each(|(value, byte)| *value = f32::from(*byte));
            for (pixel, taps) in target.iter_mut().zip(&across) {
                for &(at, weight) in taps {
                    pixel.iter_mut().zip(line[at]).for_each(|(sum, value)| *sum += weight * value);
                }
            }
        }
        let mut pixels = vec![[0; 3]; width * height];
        let mut line = vec![0_f32; 3 * width];
        for (target, taps) in pixels.chunks_exact_mut(width).zip(&down) {
            line.fill(0.0);
            for &(at, weight) in taps {
                let from = narrow[at * width..][..width].as_flattened();
                line.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * value);
            }
            target.as_flattened_mut().iter_mut().zip(&line).for_each(|(byte, value)| *byte = to_byte(*value));
        }
        Self { width, height, pixels }
    }
}

/// A value in \[0,1\] as a byte.
pub(crate) fn byte(value: f32) -> u8 {
    to_byte(value * 255.0)
}

/// The nearest byte. The cast truncates, and saturates at both ends; `round` would be a function call per value.
fn to_byte(value: f32) -> u8 {
    (value + 0.5) as u8
}

fn rows(values: usize, row: usize) -> usize {
    assert!(row > 0 && values.is_multiple_of(row), "{values} values are not a whole number of rows of {row}");
    values / row
}

/// For each pixel of a line of `to` pixels, the pixels of a line of `from` it is made of, with their weights. Edge
/// pixels are repeated.
fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    (0..to)
        .map(|place| {
            let centre = (place as f64 + 0.5) * scale - 0.5;
            let reach = 2.0 * stretch;
            let first = (centre - reach).ceil() as i64;
            let last = (centre + reach).floor() as i64;
            let weights: Vec<f64> =
                (first..=last).map(|at| catmull_rom((at as f64 - centre) / stretch)).collect();
            let total: f64 = weights.iter().sum();
            let clamped = (first..=last).map(|at| at.clamp(0, from as i64 - 1) as usize);
            clamped.zip(weights).map(|(at, weight)| (at, (weight / total) as f32)).collect()
        })
        .collect()
}

/// The cubic of Catmull and Rom (1974): it interpolates the samples and has a continuous slope.
fn catmull_rom(x: f64) -> f64 {
    match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    }
}

/// Records how much of each pixel a thick segment covers: 1 inside, falling to 0 over one pixel at the edge.
fn cover(
    coverage: &mut std::collections::BTreeMap<(i64, i64), f32>,
    from: [f32; 2],
    to: [f32; 2],
    width: f32,
) {
    let reach = width / 2.0 + 0.5;
    let range = |axis: usize| {
        let (low, high) = (from[axis].min(to[axis]), from[axis].max(to[axis]));
        (low - reach).floor() as i64..=(high + reach).floor() as i64
    };
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let squared = dx * dx + dy * dy;
    for y in range(1) {
        for x in range(0) {
            let (px, py) = (x as f32 + 0.5 - from[0], y as f32 + 0.5 - from[1]);
            let share = if squared > 0.0 { ((px * dx + py * dy) / squared).clamp(0.0, 1.0) } else { 0.0 };
            let opacity = (reach - (px - share * dx).hypot(py - share * dy)).clamp(0.0, 1.0);
            if opacity > 0.0 {
                let most = coverage.entry((y, x)).or_insert(0.0);
                *most = most.max(opacity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_become_bytes() {
        let nan = f32::NAN;
        let signed = Canvas::from_signed(&[-1.0, 0.0, 1.0, -9.0, 9.0, nan], 2);
        assert_eq!(signed.bytes(), [0, 128, 255, 0, 255, 0]);
        let unit = Canvas::from_unit(&[0.0, 0.2, 1.0, -9.0, 9.0, nan], 1);
        assert_eq!((unit.width(), unit.height()), (1, 2));
        assert_eq!(unit.bytes(), [0, 51, 255, 0, 255, 0]);
        assert_eq!(Canvas::from_grey(&[0.0, 1.0], 2).bytes(), [0, 0, 0, 255, 255, 255]);
        assert_eq!(Canvas::from_rgb8(&[1, 2, 3, 4, 5, 6], 1).get(0, 1), Some([4, 5, 6]));
    }

    #[test]
    fn drawing_is_clipped_at_the_edges() {
        let mut canvas = Canvas::new(4, 4, [0; 3]);
        canvas.fill(3, 3, 10, 10, [9; 3]);
        canvas.fill(9, 0, 2, 2, [9; 3]);
        canvas.paste(&Canvas::new(3, 3, [5; 3]), 2, 0);
        canvas.paste(&Canvas::new(3, 3, [5; 3]), 7, 7);
        canvas.polyline(&[[-20.0, 2.5], [1.0, 2.5]], 1.0, [255; 3]);
        let reds: Vec<u8> = canvas.bytes().chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(reds, [0, 0, 5, 5, 0, 0, 5, 5, 255, 128, 5, 5, 0, 0, 0, 9]);
    }

    #[test]
    fn joints_of_a_line_are_not_darker_than_the_line() {
        let mut bent = Canvas::new(20, 5, [255; 3]);
        bent.polyline(&[[1.0, 2.0], [10.0, 2.0], [19.0, 2.0]], 2.0, [0; 3]);
        let mut straight = Canvas::new(20, 5, [255; 3]);
        straight.polyline(&[[1.0, 2.0], [19.0, 2.0]], 2.0, [0; 3]);
        assert_eq!(bent, straight);
    }

    proptest! {
        #[test]
        fn a_flat_image_stays_flat_at_any_size(
            from in (1_usize..20, 1_usize..20), to in (1_usize..40, 1_usize..40), shade in any::<u8>(),
        ) {
            let resized = Canvas::new(from.0, from.1, [shade; 3]).resized(to.0, to.1);
            prop_assert_eq!(resized, Canvas::new(to.0, to.1, [shade; 3]));
        }
    }

    #[test]
    fn enlarging_by_an_odd_factor_keeps_the_samples() {
        let small = Canvas::from_grey(&[0.1, 0.9, 0.4, 0.6, 0.2, 0.7, 0.3, 0.8, 0.5], 3);
        let large = small.resized(9, 9);
        for y in 0..3 {
            for x in 0..3 {
                assert_eq!(large.get(x * 3 + 1, y * 3 + 1), small.get(x, y));
            }
        }
    }
}
