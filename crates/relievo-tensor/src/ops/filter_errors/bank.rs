//! Banks of filters that are sums of separable ones.

use crate::{Device, Error, Result, Tensor};

/// A product of two kernels: `factor * down[v] * along[u]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Separable {
    /// What the product is multiplied by.
    pub factor: f32,
    /// Taps down a column, an odd number.
    pub down: Vec<f32>,
    /// Taps along a row, an odd number.
    pub along: Vec<f32>,
}

/// A filter: a sum of separable ones, all with the same middle.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// What it is called.
    pub name: String,
    /// The standard deviation, in pixels, of the window over which an error of its response is judged; 0 is a pixel.
    pub scale: f32,
    /// What it is the sum of.
    pub terms: Vec<Separable>,
}

impl Filter {
    /// Its taps `[height][width]`, as large as its largest term.
    pub fn taps(&self) -> Vec<Vec<f32>> {
        let largest = |length: fn(&Separable) -> usize| self.terms.iter().map(length).max().unwrap_or(0);
        let (height, width) = (largest(|term| term.down.len()), largest(|term| term.along.len()));
        let mut taps = vec![vec![0.0; width]; height];
        for Separable { factor, down, along } in &self.terms {
            let (above, left) = ((height - down.len()) / 2, (width - along.len()) / 2);
            for (row, down) in taps[above..].iter_mut().zip(down) {
                row[left..].iter_mut().zip(along).for_each(|(tap, along)| *tap += factor * down * along);
            }
        }
        taps
    }
}

/// The most filters, different products of kernels, taps of a kernel and scales of a bank. The kernels count on them.
const FILTERS: usize = 64;
const PRODUCTS: usize = 64;
const TAPS: usize = 63;
const SCALES: usize = 8;

/// A bank of filters, with what it shares between them: each kernel along the rows is applied once, and so is each
/// product.
#[derive(Debug, Clone)]
pub struct FilterBank {
    filters: Vec<Filter>,
    /// The scales, ascending, and how many filters have each.
    scales: Vec<(f32, usize)>,
    /// The different kernels along rows.
    pub(super) alongs: Vec<Vec<f32>>,
    /// The different products: taps down the columns of the result of a kernel along rows.
    pub(super) products: Vec<(Vec<f32>, usize)>,
    /// For each filter the number of its scale, and products with factors.
    pub(super) sums: Vec<(usize, Vec<(usize, f32)>)>,
    /// All of it as the GPU's kernels read it.
    pub(super) table: Tensor,
}

/// Where the parts of the table begin, in elements. As in the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct TableLayout {
    pub alongs: i32,
    pub products: i32,
    pub filters: i32,
    pub scales: i32,
}

impl FilterBank {
    /// A bank of filters.
    ///
    /// # Errors
    /// If there is none or too many, or one of them is no sum of kernels of an odd number of finite taps.
    pub fn new(filters: Vec<Filter>) -> Result<Self> {
        let invalid = |detail: String| Error::shape("filter bank", detail);
        if filters.is_empty() || filters.len() > FILTERS {
            return Err(invalid(format!("{} filters; a bank has 1 to {FILTERS}", filters.len())));
        }
        for filter in &filters {
            check(filter).map_err(|reason| invalid(format!("the filter `{}` {reason}", filter.name)))?;
        }
        let mut scales: Vec<(f32, usize)> = Vec::new();
        for filter in &filters {
            match scales.iter_mut().find(|(scale, _)| *scale == filter.scale) {
                Some((_, count)) => *count += 1,
                None => scales.push((filter.scale, 1)),
            }
        }
        scales.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut alongs, mut products) = (Vec::new(), Vec::new());
        let mut number_of = |term: &Separable| {
            let along = place_of(&mut alongs, term.along.clone());
            (place_of(&mut products, (term.down.clone(), along)), term.factor)
        };
        let sums = filters.iter().map(|filter| {
            let scale = scales.iter().position(|(scale, _)| *scale == filter.scale).unwrap_or(0);
            (scale, filter.terms.iter().map(&mut number_of).collect())
        });
        let sums: Vec<(usize, Vec<(usize, f32)>)> = sums.collect();
        if products.len() > PRODUCTS || scales.len() > SCALES {
            let (products, scales) = (products.len(), scales.len());
            let most = format!("a bank has at most {PRODUCTS} and {SCALES}");
            return Err(invalid(format!(
                "{products} different products of kernels and {scales} scales; {most}"
            )));
        }
        let table = table(&alongs, &products, &sums, &scales)?;
        Ok(Self { filters, scales, alongs, products, sums, table })
    }

    /// The filters.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// The scales of the filters, ascending, and the share of the filters that has each.
    pub fn scales(&self) -> impl Iterator<Item = (f32, f32)> {
        self.scales.iter().map(|(scale, count)| (*scale, *count as f32 / self.filters.len() as f32))
    }

    /// How many scales there are.
    pub(super) fn scale_count(&self) -> usize {
        self.scales.len()
    }

    /// The share that the response of each filter in a channel has in the error of its scale.
    pub(super) fn share(&self, scale: usize, channels: usize) -> f32 {
        1.0 / (self.scales[scale].1 * channels) as f32
    }

    pub(super) fn table_layout(&self) -> TableLayout {
        TableLayout {
            alongs: self.alongs.len() as i32,
            products: self.products.len() as i32,
            filters: self.sums.len() as i32,
            scales: self.scales.len() as i32,
        }
    }

    /// The same bank for work on a device.
    ///
    /// # Errors
    /// If the device is missing or out of memory.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        Ok(Self { table: self.table.to_device(device)?, ..self.clone() })
    }
}

fn check(filter: &Filter) -> std::result::Result<(), String> {
    if !(filter.scale >= 0.0 && filter.scale <= 16.0) {
        return Err(format!("has the scale {}; it must lie between 0 and 16 pixels", filter.scale));
    }
    if filter.terms.is_empty() {
        return Err("has no terms".into());
    }
    for Separable { factor, down, along } in &filter.terms {
        for taps in [down, along] {
            if taps.len() % 2 == 0 || taps.len() > TAPS {
                return Err(format!(
                    "has a kernel of {} taps; it must be an odd number up to {TAPS}",
                    taps.len()
                ));
            }
        }
        if [&[*factor], &**down, along].concat().iter().any(|number| !number.is_finite()) {
            return Err("has a tap or a factor that is no finite number".into());
        }
    }
    Ok(())
}

/// The place of an item in a list that it is added to if it is not there.
fn place_of<T: PartialEq>(all: &mut Vec<T>, item: T) -> usize {
    all.iter().position(|of| *of == item).unwrap_or_else(|| {
        all.push(item);
        all.len() - 1
    })
}

/// What the GPU's kernels read: for each kernel along rows its first tap and the number of taps; for each product the
/// same of its taps down, and its kernel along rows; for each filter its scale; for each scale how many filters it has;
/// for each filter a factor for each product; then all taps. Numbers are below 2^24, and so exact.
fn table(
    alongs: &[Vec<f32>],
    products: &[(Vec<f32>, usize)],
    sums: &[(usize, Vec<(usize, f32)>)],
    scales: &[(f32, usize)],
) -> Result<Tensor> {
    let head =
        2 * alongs.len() + 3 * products.len() + sums.len() + scales.len() + sums.len() * products.len();
    let (mut numbers, mut taps) = (Vec::with_capacity(head), Vec::<f32>::new());
    for along in alongs {
        numbers.extend([(head + taps.len()) as f32, along.len() as f32]);
        taps.extend(along);
    }
    for (down, along) in products {
        numbers.extend([(head + taps.len()) as f32, down.len() as f32, *along as f32]);
        taps.extend(down);
    }
    numbers.extend(sums.iter().map(|(scale, _)| *scale as f32));
    numbers.extend(scales.iter().map(|(_, count)| *count as f32));
    for (_, terms) in sums {
        let mut factors = vec![0.0; products.len()];
        terms.iter().for_each(|(product, factor)| factors[*product] += factor);
        numbers.extend(factors);
    }
    numbers.extend(taps);
    Tensor::new(&numbers, [numbers.len()])
}
