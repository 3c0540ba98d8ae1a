//! Line charts of losses and errors over a run.

use crate::canvas::{Canvas, Colour};
use crate::text::Text;

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [40, 44, 52];
const FAINT: Colour = [110, 116, 126];
const GRID: Colour = [228, 230, 235];

/// Colours that colour-blind people can distinguish (Okabe and Ito, "Color Universal Design", 2008), darker ones first;
/// used in turn.
const PALETTE: [Colour; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];

/// Around the chart, in pixels.
const MARGIN: usize = 20;
/// Between parts, in pixels.
const GAP: usize = 8;
/// Length of a line in the legend, in pixels.
const SWATCH: usize = 28;
const LINE_WIDTH: f32 = 2.2;
/// Most points of a curve: noise from pixel to pixel would hide its course.
const MOST_POINTS: usize = 400;

/// Curves over common axes, with numbers and a legend. The axes span the curves' extent.
#[derive(Clone, Debug)]
pub struct Chart {
    title: String,
    x_label: String,
    y_label: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    label: String,
    points: Vec<[f64; 2]>,
}

impl Chart {
    /// A chart without curves.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), lines: Vec::new() }
    }

    /// Adds a curve through (x, y) points in the given order, with gaps at coordinates that are not finite. With more
    /// than 400 points, neighbours are averaged. A curve without a label is not in the legend.
    #[must_use]
    pub fn curve(mut self, label: impl Into<String>, points: impl IntoIterator<Item = [f64; 2]>) -> Self {
        let points: Vec<[f64; 2]> = points.into_iter().collect();
        let group = points.len().div_ceil(MOST_POINTS).max(1);
        self.lines.push(Line { label: label.into(), points: points.chunks(group).map(mean).collect() });
        self
    }

    /// Draws the chart. Below about 300 x 200 pixels little room is left for the curves.
    pub fn draw(&self, width: usize, height: usize) -> Canvas {
        let mut canvas = Canvas::new(width, height, PAPER);
        let small = Text::Small;
        Text::Large.draw(&mut canvas, &self.title, MARGIN as i64, MARGIN as i64, INK);
        let mut top = MARGIN + if self.title.is_empty() { 0 } else { Text::Large.height() + GAP };
        top = self.legend(&mut canvas, top) + GAP;
        small.draw(&mut canvas, &self.y_label, MARGIN as i64, top as i64, FAINT);
        top += small.height() + GAP;

        let bottom = height.saturating_sub(MARGIN + 2 * small.height() + 2 * GAP).max(top + 1);
        let y_axis = Axis::new(self.extent(1), (bottom - top) / 44, 0.04);
        let y_numbers = y_axis.ticks();
        let number_width = y_numbers.iter().map(|(_, number)| small.width(number)).max().unwrap_or(0);
        let left = MARGIN + number_width + GAP;
        let right = width.saturating_sub(MARGIN + GAP).max(left + 1);
        let x_axis = Axis::new(self.extent(0), (right - left) / 90, 0.0);
        let place = |[x, y]: [f64; 2]| {
            let across = left as f64 + x_axis.share(x) * (right - left) as f64;
            [across as f32, (bottom as f64 - y_axis.share(y) * (bottom - top) as f64) as f32]
        };

        for (y, number) in &y_numbers {
            let at = place([x_axis.low, *y])[1];
            canvas.fill(left, at as usize, right - left, 1, GRID);
            let x = left as i64 - GAP as i64 - small.width(number) as i64;
            small.draw(&mut canvas, number, x, at as i64 - small.height() as i64 / 2, FAINT);
        }
        for (x, number) in x_axis.ticks() {
            let at = place([x, y_axis.low])[0];
            canvas.fill(at as usize, bottom, 1, 5, FAINT);
            // Keep the last number inside the image.
            let most = (width as i64 - small.width(&number) as i64 - 2).max(0);
            let x = (at as i64 - small.width(&number) as i64 / 2).min(most);
            small.draw(&mut canvas, &number, x, (bottom + GAP) as i64, FAINT);
        }
        canvas.fill(left, bottom, right - left, 1, FAINT);
        let middle = ((left + right) / 2) as i64 - small.width(&self.x_label) as i64 / 2;
        small.draw(&mut canvas, &self.x_label, middle, (bottom + 2 * GAP + small.height()) as i64, FAINT);

        for (line, colour) in self.lines.iter().zip(PALETTE.into_iter().cycle()) {
            for part in line.points.split(|point| !is_finite(point)) {
                let mut part: Vec<[f32; 2]> = part.iter().map(|&point| place(point)).collect();
                // A single point is drawn as a dot.
                part.extend((part.len() == 1).then(|| part[0]));
                canvas.polyline(&part, LINE_WIDTH, colour);
            }
        }
        canvas
    }

    /// Draws the legend, on several lines if necessary; returns the row where it ends.
    fn legend(&self, canvas: &mut Canvas, top: usize) -> usize {
        let small = Text::Small;
        let (mut x, mut y) = (MARGIN, top);
        let labelled = |(line, _): &(&Line, Colour)| !line.label.is_empty();
        for (line, colour) in self.lines.iter().zip(PALETTE.into_iter().cycle()).filter(labelled) {
            let entry = SWATCH + GAP + small.width(&line.label) + 2 * GAP;
            if x > MARGIN && x + entry > canvas.width() {
                (x, y) = (MARGIN, y + small.height() + GAP / 2);
            }
            let middle = (y + small.height() / 2) as f32 + 0.5;
            let ends = [[x as f32 + 1.0, middle], [(x + SWATCH) as f32 - 1.0, middle]];
            canvas.polyline(&ends, LINE_WIDTH, colour);
            small.draw(canvas, &line.label, (x + SWATCH + GAP) as i64, y as i64, INK);
            x += entry;
        }
        if self.lines.iter().all(|line| line.label.is_empty()) { top } else { y + small.height() }
    }

    /// Minimum and maximum of one coordinate over all curves.
    fn extent(&self, axis: usize) -> Option<(f64, f64)> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let coordinates = points.filter(|point| is_finite(point)).map(|point| point[axis]);
        coordinates.fold(None, |extent, at| match extent {
            None => Some((at, at)),
            Some((low, high)) => Some((f64::min(low, at), f64::max(high, at))),
        })
    }
}

/// The mean of the finite points; not finite if there are none.
fn mean(points: &[[f64; 2]]) -> [f64; 2] {
    let finite = || points.iter().filter(|point| is_finite(point));
    [0, 1].map(|axis| finite().map(|point| point[axis]).sum::<f64>() / finite().count() as f64)
}

fn is_finite(point: &[f64; 2]) -> bool {
    point.iter().all(|number| number.is_finite())
}

/// One axis: its range and the distance between its numbers.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Spans an extent, with `room` at both ends (a share of the extent) and about `numbers` numbers.
    fn new(extent: Option<(f64, f64)>, numbers: usize, room: f64) -> Self {
        let (mut low, mut high) = extent.unwrap_or((0.0, 1.0));
        if high - low <= 1e-9 * high.abs().max(low.abs()) {
            // A single value, or values too close for distinct numbers: centre it.
            let around = if low == 0.0 { 0.5 } else { low.abs() / 2.0 };
            (low, high) = (low - around, high + around);
        }
        let room = (high - low) * room;
        (low, high) = (low - room, high + room);
        // At most half the axis, however little room there is: with a larger step it may have no number at all.
        let step = round_step((high - low) / numbers.max(1) as f64, high - low);
        Self { low, high, step }
    }

    fn share(&self, at: f64) -> f64 {
        (at - self.low) / (self.high - self.low)
    }

    /// Round numbers on the axis, as values and as text.
    fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let largest = self.low.abs().max(self.high.abs());
        let first = (self.low / self.step).ceil();
        let count = ((self.high / self.step).floor() - first) as usize + 1;
        (0..count)
            .map(|number| {
                // Adding 0 turns -0 into 0.
                let at = (first + number as f64) * self.step + 0.0;
                let text = if decimals > 6 || largest >= 1e9 {
                    format!("{at:.2e}")
                } else {
                    format!("{at:.decimals$}")
                };
                (at, text)
            })
            .collect()
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `least`; if that exceeds half of `length`, the largest
/// that does not.
fn round_step(least: f64, length: f64) -> f64 {
    let power = 10_f64.powf((length / 2.0).min(least).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let mut fitting = steps.into_iter().filter(|&step| step <= length / 2.0);
    fitting.clone().find(|&step| step >= least).or(fitting.next_back()).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticks(low: f64, high: f64, numbers: usize) -> Vec<String> {
        Axis::new(Some((low, high)), numbers, 0.0).ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn numbers_are_round() {
        assert_eq!(ticks(0.0, 75_000.0, 5), ["0", "20000", "40000", "60000"]);
        assert_eq!(ticks(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(ticks(-0.013, 0.017, 4), ["-0.01", "0.00", "0.01"]);
        assert_eq!(ticks(3.0, 3.0, 3), ["2", "3", "4"]);
        assert_eq!(ticks(0.0, 0.0, 2), ["-0.5", "0.0", "0.5"]);
    }

    proptest! {
        #[test]
        fn any_extent_has_numbers_inside_it(low in -1e6..1e6_f64, exponent in -9.0..9.0_f64, numbers in 0_usize..20) {
            let high = low + 10_f64.powf(exponent);
            let axis = Axis::new(Some((low, high)), numbers, 0.04);
            let ticks = axis.ticks();
            prop_assert!((2..=numbers.max(5) + 1).contains(&ticks.len()), "{:?}", ticks);
            prop_assert!(ticks.iter().all(|(at, _)| (-1e-6..=1.0 + 1e-6).contains(&axis.share(*at))));
        }

        #[test]
        fn any_chart_can_be_drawn(
            points in proptest::collection::vec(
                (prop_oneof![Just(f64::NAN), -1e3..1e3_f64], prop_oneof![Just(f64::INFINITY), -1e-3..1e3_f64]), 0..20,
            ),
            width in 1_usize..400,
            height in 1_usize..300,
        ) {
            let chart = Chart::new("t", "x", "y").curve("c", points.into_iter().map(|(x, y)| [x, y]));
            let drawn = chart.draw(width, height);
            prop_assert_eq!((drawn.width(), drawn.height()), (width, height));
        }
    }

    #[test]
    fn many_points_become_their_means() {
        let chart = Chart::new("", "", "").curve("", (0..4000).map(|n| [f64::from(n), f64::from(n % 10)]));
        let points = &chart.lines[0].points;
        assert_eq!((points.len(), points[0], points[399]), (400, [4.5, 4.5], [3994.5, 4.5]));
        let gap = mean(&[[1.0, f64::NAN], [3.0, 5.0]]);
        assert_eq!(gap, [3.0, 5.0]);
        assert!(!is_finite(&mean(&[[1.0, f64::NAN]])));
    }

    #[test]
    fn curves_go_where_the_numbers_are() {
        let drawn = Chart::new("", "", "").curve("a", [[0.0, 0.0], [10.0, 1.0]]).draw(600, 400);
        // Below the legend.
        let curve: Vec<(usize, usize)> = (60..400)
            .flat_map(|y| (0..600).map(move |x| (x, y)))
            .filter(|&(x, y)| drawn.get(x, y) == Some(PALETTE[0]))
            .collect();
        let highest = curve.iter().min_by_key(|(_, y)| *y).unwrap();
        let lowest = curve.iter().max_by_key(|(_, y)| *y).unwrap();
        assert!(highest.0 > 550 && lowest.0 < 100, "{highest:?} {lowest:?}");
    }
}
