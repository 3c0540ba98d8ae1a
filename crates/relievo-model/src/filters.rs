//! Banks of filters for terms of the loss: those of the program, and files.
//!
//! A bank as a file is TOML. Each filter is a sum of separable ones, `factor` times `down` (taps down a column) times
//! `along` (taps along a row), with odd numbers of taps around the same middle. `scale` is the standard deviation, in
//! pixels, of the window over which confidence is averaged; 0 is a pixel.
//!
//! ```toml
//! [[filter]]
//! name = "differences along rows"
//! scale = 0.0
//! terms = [{ down = [1.0], along = [-0.5, 0.0, 0.5] }]
//! ```

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_PI_4, PI};

use relievo_tensor::ops::{Filter, FilterBank, Separable};
use relievo_tensor::{Device, Error};
use serde::{Deserialize, Serialize};

use crate::losses::LossKind;
use crate::settings::ModelSettings;

/// The standard deviations of the bank's Gaussians, in pixels.
const SCALES: [f32; 3] = [1.0, 2.0, 4.0];

/// Orientations of slopes and stripes.
const ORIENTATIONS: usize = 4;

/// Standard deviation of the window of the Gabor pairs, and the length of their waves, in pixels.
const GABOR: f32 = 2.0;
const WAVE: f32 = 6.0;

/// A bank of filters that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FiltersError {
    /// Not TOML, or other keys.
    #[error("{0}")]
    Malformed(String),
    /// Filters that make no bank.
    #[error(transparent)]
    Invalid(#[from] Error),
}

/// The banks of those terms of a model's loss that need one.
#[derive(Debug, Default)]
pub(crate) struct Banks(Vec<(LossKind, FilterBank)>);

impl Banks {
    /// Those that the settings ask for, on the CPU.
    pub fn new(settings: &ModelSettings) -> Result<Self, Error> {
        let kinds = settings.loss.iter().filter(|term| term.weight > 0.0).map(|term| term.kind);
        let banks = kinds.filter_map(|kind| Some((kind, filters_of(kind)?)));
        Ok(Self(
            banks
                .map(|(kind, filters)| Ok((kind, FilterBank::new(filters)?)))
                .collect::<Result<_, Error>>()?,
        ))
    }

    /// That of a term.
    pub fn get(&self, kind: LossKind) -> Option<&FilterBank> {
        self.0.iter().find(|(of, _)| *of == kind).map(|(_, bank)| bank)
    }

    /// Puts another bank in the place of a term's.
    pub fn replace(&mut self, kind: LossKind, bank: FilterBank) {
        if let Some((_, of)) = self.0.iter_mut().find(|(of, _)| *of == kind) {
            *of = bank;
        }
    }

    /// The same on a device.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        let moved = self.0.iter().map(|(kind, bank)| Ok((*kind, bank.to_device(device)?)));
        Ok(Self(moved.collect::<Result<_, Error>>()?))
    }
}

/// The filters of a term, if it has some.
fn filters_of(kind: LossKind) -> Option<Vec<Filter>> {
    match kind {
        LossKind::FilterBank => Some(standard_filters()),
        LossKind::LaplacianPyramid => Some(laplacian_pyramid()),
        LossKind::GradientDifference => Some(differences()),
        _ => None,
    }
}

/// The taps of a function of the distance from the middle, up to three standard deviations.
fn taps(deviation: f32, of: impl Fn(f32) -> f32) -> Vec<f32> {
    let radius = (3.0 * deviation).ceil() as i32;
    (-radius..=radius).map(|at| of(at as f32)).collect()
}

/// A Gaussian whose taps add up to 1.
fn gaussian(deviation: f32) -> Vec<f32> {
    let taps = taps(deviation, |at| (-0.5 * (at / deviation).powi(2)).exp());
    let sum: f32 = taps.iter().sum();
    taps.iter().map(|tap| tap / sum).collect()
}

fn separable(factor: f32, down: &[f32], along: &[f32]) -> Separable {
    Separable { factor, down: down.to_vec(), along: along.to_vec() }
}

/// A filter whose absolute taps add up to 1, so that a response is at most as large as the largest error.
fn normalised(name: String, scale: f32, terms: Vec<Separable>) -> Filter {
    let mut filter = Filter { name, scale, terms };
    let sum: f32 = filter.taps().iter().flatten().map(|tap| tap.abs()).sum();
    filter.terms.iter_mut().for_each(|term| term.factor /= sum);
    filter
}

/// The bank of the term `filter-bank` where no file is given: the pixel itself; Gaussians, derivatives of Gaussians at four
/// angles (steered: sums of the two along the axes; Freeman and Adelson 1991) and Laplacians of Gaussians at three scales;
/// pairs of even and odd Gabor filters at four angles. Absolute taps of each add up to 1.
pub fn standard_filters() -> Vec<Filter> {
    let one = [1.0];
    let mut filters = vec![normalised("pixel".into(), 0.0, vec![separable(1.0, &one, &one)])];
    for scale in SCALES {
        let bell = gaussian(scale);
        let by = |factor: fn(f32, f32) -> f32| -> Vec<f32> {
            let places = taps(scale, |at| at);
            places.iter().zip(&bell).map(|(at, bell)| factor(*at, scale) * bell).collect()
        };
        let slope = by(|at, _| at);
        let bend = by(|at, scale| at * at / (scale * scale) - 1.0);
        filters.push(normalised(format!("gaussian {scale}"), scale, vec![separable(1.0, &bell, &bell)]));
        for number in 0..ORIENTATIONS {
            let angle = number as f32 * FRAC_PI_4;
            let steered = [(angle.cos(), &bell, &slope), (angle.sin(), &slope, &bell)];
            // The cosine of 90 degrees is 0, but for rounding.
            let terms = steered.into_iter().filter(|(factor, ..)| factor.abs() > 1e-6);
            let terms = terms.map(|(factor, down, along)| separable(factor, down, along)).collect();
            filters.push(normalised(format!("slope {scale}, {}°", 45 * number), scale, terms));
        }
        let terms = vec![separable(1.0, &bend, &bell), separable(1.0, &bell, &bend)];
        filters.push(normalised(format!("laplacian {scale}"), scale, terms));
    }
    for number in 0..ORIENTATIONS {
        filters.extend(gabor_pair(number));
    }
    filters
}

/// Stripes under a Gaussian at an angle of so many times 45 degrees, even and odd. The even one has no mean.
fn gabor_pair(number: usize) -> [Filter; 2] {
    let bell = gaussian(GABOR);
    let wave = |frequency: f32, of: fn(f32) -> f32| -> Vec<f32> {
        let places = taps(GABOR, |at| at);
        places.iter().zip(&bell).map(|(at, bell)| bell * of(frequency * at)).collect()
    };
    let frequency = 2.0 * PI / WAVE;
    let straight = [wave(frequency, f32::cos), wave(frequency, f32::sin)];
    let slanted = [f32::cos, f32::sin].map(|of| wave(FRAC_1_SQRT_2 * frequency, of));
    // cos(a + b) and sin(a + b) are sums of products; at 135 degrees the row's part is negative.
    let sign = if number == 3 { -1.0 } else { 1.0 };
    let [mut even, odd] = match number {
        0 => straight.map(|wave| vec![separable(1.0, &bell, &wave)]),
        2 => straight.map(|wave| vec![separable(1.0, &wave, &bell)]),
        _ => {
            let [cos, sin] = &slanted;
            [
                vec![separable(1.0, cos, cos), separable(-sign, sin, sin)],
                vec![separable(1.0, sin, cos), separable(sign, cos, sin)],
            ]
        }
    };
    let sum = |taps: &[f32]| taps.iter().sum::<f32>();
    let mean: f32 = even.iter().map(|term| term.factor * sum(&term.down) * sum(&term.along)).sum();
    even.push(separable(-mean, &bell, &bell));
    let name = |of: &str| format!("gabor {of}, {}°", 45 * number);
    [normalised(name("even"), GABOR, even), normalised(name("odd"), GABOR, odd)]
}

/// The bands of a Laplacian pyramid as differences of Gaussians: they add up to the error itself.
fn laplacian_pyramid() -> Vec<Filter> {
    let mut finer = vec![1.0];
    let mut bands = Vec::new();
    for scale in SCALES {
        let coarser = gaussian(scale);
        let terms = vec![separable(1.0, &finer, &finer), separable(-1.0, &coarser, &coarser)];
        bands.push(Filter { name: format!("band {scale}"), scale, terms });
        finer = coarser;
    }
    let [.., scale] = SCALES;
    bands.push(Filter { name: "rest".into(), scale, terms: vec![separable(1.0, &finer, &finer)] });
    bands
}

/// The difference of each pixel and the one before it, along rows and down columns.
fn differences() -> Vec<Filter> {
    let (step, one) = ([-1.0, 1.0, 0.0], [1.0]);
    let filter = |name: &str, term| Filter { name: name.into(), scale: 0.0, terms: vec![term] };
    vec![filter("along", separable(1.0, &one, &step)), filter("down", separable(1.0, &step, &one))]
}

/// A bank as a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BankFile {
    filter: Vec<FilterEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterEntry {
    name: String,
    scale: f32,
    terms: Vec<TermEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TermEntry {
    #[serde(default = "one")]
    factor: f32,
    down: Vec<f32>,
    along: Vec<f32>,
}

fn one() -> f32 {
    1.0
}

/// A bank from the text of a file.
///
/// # Errors
/// If it is not TOML of that form, or its filters make no bank.
pub fn filters_from_toml(text: &str) -> Result<FilterBank, FiltersError> {
    let file: BankFile = toml::from_str(text)
        .map_err(|error| FiltersError::Malformed(error.to_string().trim_end().to_owned()))?;
    let term = |TermEntry { factor, down, along }| Separable { factor, down, along };
    let filter = |FilterEntry { name, scale, terms }| Filter {
        name,
        scale,
        terms: terms.into_iter().map(term).collect(),
    };
    Ok(FilterBank::new(file.filter.into_iter().map(filter).collect())?)
}

/// Filters as the text of a file.
pub fn filters_to_toml(filters: &[Filter]) -> String {
    let term = |Separable { factor, down, along }: &Separable| TermEntry {
        factor: *factor,
        down: down.clone(),
        along: along.clone(),
    };
    let entry = |filter: &Filter| FilterEntry {
        name: filter.name.clone(),
        scale: filter.scale,
        terms: filter.terms.iter().map(term).collect(),
    };
    let file = BankFile { filter: filters.iter().map(entry).collect() };
    toml::to_string(&file).expect("names and numbers are TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(filter: &Filter, of: impl Fn(f32) -> f32) -> f32 {
        filter.taps().iter().flatten().map(|tap| of(*tap)).sum()
    }

    #[test]
    fn the_standard_bank_is_what_it_says() {
        let filters = standard_filters();
        assert_eq!(filters.len(), 1 + 3 * (1 + 4 + 1) + 8);
        for filter in &filters {
            assert!((sum(filter, f32::abs) - 1.0).abs() < 1e-5, "{}", filter.name);
            let mean = sum(filter, |tap| tap);
            let is_even = filter.name.starts_with("pixel") || filter.name.starts_with("gaussian");
            let right = if is_even { 1.0 } else { 0.0 };
            // A Laplacian that is cut off at three deviations has a mean left.
            let tolerance = if filter.name.starts_with("laplacian") { 0.03 } else { 1e-5 };
            assert!((mean - right).abs() < tolerance, "{}: {mean}", filter.name);
        }
        let named = |name: &str| filters.iter().find(|filter| filter.name == name).unwrap().taps();
        // Slopes rise to the right, to the bottom right, to the bottom, to the bottom left.
        for (angle, [down, along]) in [(0, [0, 1]), (45, [1, 1]), (90, [1, 0]), (135, [1, -1])] {
            for name in [format!("slope 2, {angle}°"), format!("gabor odd, {angle}°")] {
                let taps = named(&name);
                let middle = taps.len() as i32 / 2;
                let at = |sign: i32| taps[(middle + sign * down) as usize][(middle + sign * along) as usize];
                let across = taps[(middle + along) as usize][(middle - down) as usize];
                assert!(at(1) > 1e-3 && (at(1) + at(-1)).abs() < 1e-6 && across.abs() < 1e-6, "{name}");
            }
        }
        FilterBank::new(filters).unwrap();
    }

    #[test]
    fn bands_of_the_pyramid_add_up_to_the_image() {
        let mut all = vec![vec![0.0; 25]; 25];
        for band in laplacian_pyramid() {
            let taps = band.taps();
            let margin = (25 - taps.len()) / 2;
            for (row, taps) in all[margin..].iter_mut().zip(&taps) {
                row[margin..].iter_mut().zip(taps).for_each(|(sum, tap)| *sum += tap);
            }
        }
        for (at, tap) in all.iter().flatten().enumerate() {
            assert!((tap - if at == 12 * 25 + 12 { 1.0 } else { 0.0 }).abs() < 1e-6);
        }
    }

    #[test]
    fn a_bank_survives_its_file_and_errors_say_where() {
        let filters = standard_filters();
        let again = filters_from_toml(&filters_to_toml(&filters)).unwrap();
        assert_eq!(again.filters(), filters);
        let refusal = |text: &str| filters_from_toml(text).unwrap_err().to_string();
        let unknown = refusal("[[filter]]\nname = \"a\"\nscale = 0.0\ntaps = [1.0]\n");
        assert!(unknown.contains("line 4") && unknown.contains("taps"), "{unknown}");
        let even = "[[filter]]\nname = \"a\"\nscale = 0.0\nterms = [{ down = [1.0, 2.0], along = [1.0] }]\n";
        assert!(refusal(even).contains("the filter `a` has a kernel of 2 taps"), "{}", refusal(even));
        assert!(refusal("filter = []").contains("0 filters"));
    }
}
