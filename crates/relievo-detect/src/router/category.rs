//! What a router tells apart: each category a direction in the space of features, the program's own and a user's alike.

use serde::{Deserialize, Serialize};

use super::network::FEATURES;

/// Where a category is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum View {
    /// At each place of a photograph, in several sizes.
    Places,
    /// In the middle square of an image as a whole.
    Whole,
}

/// A category: its certainty is the logistic function of `weight` * features + `bias`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RouterCategory {
    /// Its name: letters, digits and hyphens.
    pub name: String,
    /// What reconstructs it: the name of weights in the program, or a path.
    pub model: String,
    /// Where it is looked for.
    pub view: View,
    /// The least certainty that counts, in \[0,1\].
    pub threshold: f32,
    /// Images that it was made from; 0 for one that was trained.
    #[serde(default)]
    pub images: usize,
    /// A number for each feature ([`FEATURES`]).
    pub weight: Vec<f32>,
    /// Added to them.
    pub bias: f32,
}

impl RouterCategory {
    /// The logarithm of the odds that features show it.
    pub(super) fn odds(&self, features: &[f32]) -> f32 {
        self.bias + self.weight.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f32>()
    }

    /// Why it cannot be used, if so.
    pub(super) fn defect(&self) -> Option<String> {
        let is_finite =
            self.weight.iter().chain([&self.bias, &self.threshold]).all(|number| number.is_finite());
        if self.weight.len() != FEATURES {
            return Some(format!("{} numbers for {FEATURES} features", self.weight.len()));
        }
        (!is_finite || !(0.0..=1.0).contains(&self.threshold)).then(|| "numbers that are none".to_owned())
    }
}

/// The probability that has these odds' logarithm.
pub(super) fn certainty(odds: f32) -> f32 {
    1.0 / (1.0 + (-odds).exp())
}

/// A category made from features of images that show it (`shown`) and of images that do not.
pub(super) struct Prototype {
    pub weight: Vec<f32>,
    pub bias: f32,
    /// Of the images that show it, how many are known by a prototype of the others.
    pub recognised: usize,
}

/// Of the images that do not show a category, this share may be taken for it.
const MISTAKEN: f64 = 0.01;

/// How much of the mean variance is added to each feature's: few images do not determine all directions.
const SHRINKAGE: f64 = 0.1;

impl Prototype {
    /// Linear discriminant analysis (Fisher 1936) with the spread of the features of other images, which are many: the
    /// direction is the difference of means, measured by that spread (Hariharan et al. 2012). The threshold lies where one
    /// in a hundred of the others is mistaken; odds grow from there as for two normal distributions.
    pub fn new(shown: &[Vec<f32>], others: &[Vec<f32>]) -> Self {
        let space = Space::new(others);
        let all: Vec<&Vec<f32>> = shown.iter().collect();
        let direction = space.direction(&all);
        let project = |direction: &[f64], features: &[f32]| -> f64 {
            direction.iter().zip(features).map(|(weight, feature)| weight * f64::from(*feature)).sum()
        };
        let mut beside: Vec<f64> = others.iter().map(|features| project(&direction, features)).collect();
        beside.sort_by(f64::total_cmp);
        let limit = quantile(&beside, 1.0 - MISTAKEN);
        let left_out: Vec<(f64, f64)> = (0..shown.len())
            .map(|at| {
                let rest: Vec<&Vec<f32>> =
                    shown.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, row)| row).collect();
                let direction = space.direction(if rest.is_empty() { &all } else { &rest });
                let mut beside: Vec<f64> =
                    others.iter().map(|features| project(&direction, features)).collect();
                beside.sort_by(f64::total_cmp);
                (project(&direction, &shown[at]), quantile(&beside, 1.0 - MISTAKEN))
            })
            .collect();
        let recognised = left_out.iter().filter(|(score, limit)| score > limit).count();
        let mean = beside.iter().sum::<f64>() / beside.len().max(1) as f64;
        let spread =
            beside.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / beside.len().max(1) as f64;
        let apart =
            left_out.iter().map(|(score, _)| score).sum::<f64>() / left_out.len().max(1) as f64 - mean;
        let slope = (apart.max(0.0) / spread.max(1e-9)).max(1e-6);
        Self {
            weight: direction.iter().map(|weight| (slope * weight) as f32).collect(),
            bias: (-slope * limit) as f32,
            recognised,
        }
    }
}

/// The value below which a share of sorted numbers lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Mean and spread of features.
struct Space {
    mean: Vec<f64>,
    /// The lower triangle L of the covariance L L^T, by rows.
    factor: Vec<f64>,
}

impl Space {
    fn new(rows: &[Vec<f32>]) -> Self {
        let mean = mean(&rows.iter().collect::<Vec<_>>());
        let mut covariance = vec![0.0; FEATURES * FEATURES];
        for row in rows {
            let off: Vec<f64> = row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean).collect();
            for (sums, a) in covariance.chunks_exact_mut(FEATURES).zip(&off) {
                for (sum, b) in sums.iter_mut().zip(&off) {
                    *sum += a * b / rows.len() as f64;
                }
            }
        }
        let trace: f64 = (0..FEATURES).map(|at| covariance[at * (FEATURES + 1)]).sum();
        for at in 0..FEATURES {
            covariance[at * (FEATURES + 1)] += SHRINKAGE * trace / FEATURES as f64 + 1e-9;
        }
        Self { mean, factor: cholesky(covariance) }
    }

    /// The inverse covariance times the difference between the mean of some rows and that of all.
    fn direction(&self, rows: &[&Vec<f32>]) -> Vec<f64> {
        let mut x: Vec<f64> = mean(rows).iter().zip(&self.mean).map(|(here, all)| here - all).collect();
        let at = |row: usize, column: usize| self.factor[row * FEATURES + column];
        for row in 0..FEATURES {
            let known: f64 = (0..row).map(|column| at(row, column) * x[column]).sum();
            x[row] = (x[row] - known) / at(row, row);
        }
        for row in (0..FEATURES).rev() {
            let known: f64 = (row + 1..FEATURES).map(|below| at(below, row) * x[below]).sum();
            x[row] = (x[row] - known) / at(row, row);
        }
        x
    }
}

fn mean(rows: &[&Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0; FEATURES];
    for row in rows {
        for (sum, value) in mean.iter_mut().zip(row.iter()) {
            *sum += f64::from(*value) / rows.len() as f64;
        }
    }
    mean
}

/// The lower triangle of a positive definite matrix.
fn cholesky(mut matrix: Vec<f64>) -> Vec<f64> {
    for row in 0..FEATURES {
        for column in 0..=row {
            let known: f64 = (0..column)
                .map(|before| matrix[row * FEATURES + before] * matrix[column * FEATURES + before])
                .sum();
            let rest = matrix[row * FEATURES + column] - known;
            matrix[row * FEATURES + column] = if row == column {
                rest.max(1e-12).sqrt()
            } else {
                rest / matrix[column * FEATURES + column]
            };
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use relievo_tensor::Random;

    use super::*;

    /// Points around `middle` in the first feature, spread in all.
    fn cloud(seed: u64, count: usize, middle: f32) -> Vec<Vec<f32>> {
        let random = Random::new(seed, 0);
        let value = |row: usize, at: usize| {
            let noise: f32 = (0..4).map(|k| random.uniform((4 * (row * FEATURES + at) + k) as u64)).sum();
            noise - 2.0 + if at == 0 { middle } else { 0.0 }
        };
        (0..count).map(|row| (0..FEATURES).map(|at| value(row, at)).collect()).collect()
    }

    #[test]
    fn a_prototype_tells_what_lies_apart() {
        let others = cloud(1, 400, 0.0);
        let prototype = Prototype::new(&cloud(2, 20, 4.0), &others);
        assert!(prototype.recognised >= 18, "{}", prototype.recognised);
        let category = RouterCategory {
            name: "apart".into(),
            model: "x".into(),
            view: View::Whole,
            threshold: 0.5,
            images: 20,
            weight: prototype.weight,
            bias: prototype.bias,
        };
        assert_eq!(category.defect(), None);
        let share = |rows: Vec<Vec<f32>>| {
            let sure = rows.iter().filter(|row| certainty(category.odds(row)) > 0.5).count();
            sure as f32 / rows.len() as f32
        };
        assert!(share(cloud(3, 200, 4.0)) > 0.9 && share(cloud(4, 400, 0.0)) < 0.05);
        // What is no different is not recognised.
        assert!(Prototype::new(&cloud(5, 20, 0.0), &others).recognised < 6);
    }

    #[test]
    fn the_factor_of_a_matrix_solves_it() {
        let rows = cloud(6, 300, 1.0);
        let space = Space::new(&rows);
        let shown: Vec<&Vec<f32>> = rows.iter().take(5).collect();
        let x = space.direction(&shown);
        let difference: Vec<f64> = mean(&shown).iter().zip(&space.mean).map(|(a, b)| a - b).collect();
        let product = |matrix: &dyn Fn(usize, usize) -> f64, x: &[f64]| -> Vec<f64> {
            (0..FEATURES).map(|row| (0..FEATURES).map(|at| matrix(row, at) * x[at]).sum()).collect()
        };
        let lower = |row: usize, at: usize| if at <= row { space.factor[row * FEATURES + at] } else { 0.0 };
        let back = product(&lower, &product(&|row, at| lower(at, row), &x));
        assert!(back.iter().zip(&difference).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
    }
}
