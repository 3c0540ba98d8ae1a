//! Adam (Kingma and Ba 2015) over all parameters at once, with the norm and the scaling of gradients that precede it.
//!
//! These functions change tensors in place and are not recorded. A tensor that shares its buffer with another is copied
//! first (see [`Tensor::data_mut`]): drop the tape's variables before the step.
//!
//! The host directs an [`AdamStep`], on any device. A [`DeviceAdam`] runs on a GPU without the host and can be captured in
//! a graph.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;
pub use cuda::{DeviceAdam, DeviceAdamState, NonFinite};

use rayon::prelude::*;

use crate::{DataType, Device, Error, Result, Tensor};

/// One step of Adam. Its numbers are f64, as in PyTorch, so that 1 - 0.9 is rounded once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// The learning rate.
    pub learning_rate: f64,
    /// The decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// This much of the parameter is added to its gradient (not decoupled).
    pub weight_decay: f64,
    /// The number of this step; the first is 1.
    pub step: u64,
}

impl Default for AdamStep {
    /// PyTorch's defaults, at the first step.
    fn default() -> Self {
        Self { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0, step: 1 }
    }
}

impl AdamStep {
    /// Updates the parameters from their gradients and the running first and second moments (zeros before the first
    /// step). With g = gradient + weight_decay p: m += (1 - b1)(g - m), v = b2 v + (1 - b2) g^2,
    /// p -= learning_rate / (1 - b1^step) * m / (sqrt(v) / sqrt(1 - b2^step) + epsilon), rounded where
    /// `torch.optim.Adam` rounds.
    ///
    /// # Errors
    /// If the lists differ in lengths, shapes or devices, if a parameter or moment is not f32, or if the step is zero:
    /// then nothing was changed. If a GPU fails.
    pub fn apply(
        &self,
        parameters: &mut [Tensor],
        gradients: &[Tensor],
        first: &mut [Tensor],
        second: &mut [Tensor],
    ) -> Result<()> {
        let device = self.check(parameters, gradients, [first, second])?;
        if device != Device::Cpu {
            return cuda::apply(self, device, parameters, gradients, [first, second]);
        }
        let scalars = Scalars::new(self);
        let moments = first.par_iter_mut().zip(second.par_iter_mut());
        let parameters = parameters.par_iter_mut().zip(gradients.par_iter());
        parameters.zip(moments).for_each(|((parameter, gradient), (first, second))| {
            let moments = [first.data_mut(), second.data_mut()];
            cpu::update(&scalars, parameter.data_mut(), gradient.data(), moments);
        });
        Ok(())
    }

    /// The device that all tensors are on.
    fn check(
        &self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        [first, second]: [&[Tensor]; 2],
    ) -> Result<Device> {
        let lengths = [parameters.len(), gradients.len(), first.len(), second.len()];
        if self.step == 0 || lengths.iter().any(|length| *length != parameters.len()) {
            let detail = format!("step {} with lists of {lengths:?} tensors", self.step);
            return Err(Error::shape("adam", detail));
        }
        check_tensors(parameters, gradients, [first, second])
    }
}

/// Checks that lists of one length fit each other, and returns their device.
fn check_tensors(
    parameters: &[Tensor],
    gradients: &[Tensor],
    [first, second]: [&[Tensor]; 2],
) -> Result<Device> {
    for (index, parameter) in parameters.iter().enumerate() {
        let shape = parameter.shape();
        let others = [gradients[index].shape(), first[index].shape(), second[index].shape()];
        if others.iter().any(|other| *other != shape) {
            let detail =
                format!("parameter {index} has the shape {shape}, its gradient and moments {others:?}");
            return Err(Error::shape("adam", detail));
        }
        if [parameter, &first[index], &second[index]].iter().any(|x| x.data_type() != DataType::F32) {
            return Err(Error::shape("adam", format!("parameter {index} or a moment of it is not f32")));
        }
    }
    let lists = [parameters, gradients, first, second];
    common_device("adam", lists.into_iter().flatten())
}

/// The one device of all tensors; the CPU if there are none.
fn common_device<'a>(what: &'static str, tensors: impl Iterator<Item = &'a Tensor>) -> Result<Device> {
    let mut devices = tensors.map(Tensor::device);
    let first = devices.next().unwrap_or_default();
    match devices.find(|device| *device != first) {
        None => Ok(first),
        Some(other) => {
            Err(Error::Device { device: first, detail: format!("{what}: tensors on {first} and on {other}") })
        }
    }
}

/// The factors of a step, computed in f64 and rounded once. The kernels read them in this order.
#[repr(C)]
struct Scalars {
    weight_decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    epsilon: f32,
    /// Minus learning rate / (1 - beta1^step).
    minus_step_size: f32,
    /// sqrt(1 - beta2^step).
    root_of_correction2: f32,
}

impl Scalars {
    fn new(rule: &AdamStep) -> Self {
        let [beta1, beta2] = rule.betas;
        let correction = |beta: f64| 1.0 - beta.powf(rule.step as f64);
        Self {
            weight_decay: rule.weight_decay as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            epsilon: rule.epsilon as f32,
            minus_step_size: (-rule.learning_rate / correction(beta1)) as f32,
            root_of_correction2: correction(beta2).sqrt() as f32,
        }
    }
}

/// The sum of the squares of all elements, in f64. It is finite if and only if all of them are. Waits for the GPU.
///
/// # Errors
/// If the tensors are not on one device, or a GPU fails.
pub fn squared_norm(tensors: &[Tensor]) -> Result<f64> {
    match common_device("squared norm", tensors.iter())? {
        Device::Cpu => Ok(tensors.iter().map(|tensor| cpu::sum_of_squares(tensor.data())).sum()),
        device => cuda::squared_norm(device, tensors),
    }
}

/// Multiplies every element by `factor`.
///
/// # Errors
/// If the tensors are not on one device, or a GPU fails.
pub fn scale_all(tensors: &mut [Tensor], factor: f32) -> Result<()> {
    match common_device("scale", tensors.iter())? {
        Device::Cpu => {
            tensors.par_iter_mut().for_each(|tensor| cpu::scale(tensor.data_mut(), factor));
            Ok(())
        }
        device => cuda::scale_all(device, tensors, factor),
    }
}

/// Updates exponential moving averages: x += share (y - x) for every element x of `tensors` and y of `targets`, with a share
/// of 1 - decay.
///
/// # Errors
/// If the lists do not fit each other, are not on one device or not f32; if a GPU fails. On a GPU also if a tensor shares
/// its memory with another one, because a captured update would change a copy.
pub fn ema_update(tensors: &mut [Tensor], targets: &[Tensor], share: f32) -> Result<()> {
    if tensors.len() != targets.len() {
        return Err(Error::shape(
            "ema_update",
            format!("{} tensors, {} targets", tensors.len(), targets.len()),
        ));
    }
    for (index, (tensor, target)) in tensors.iter().zip(targets).enumerate() {
        let [one, other] = [tensor, target].map(|x| (x.shape(), x.data_type()));
        if one != other || tensor.data_type() != DataType::F32 {
            return Err(Error::shape(
                "ema_update",
                format!("tensor {index} is {one:?}, its target {other:?}"),
            ));
        }
    }
    match common_device("ema_update", tensors.iter().chain(targets))? {
        Device::Cpu => {
            let pairs = tensors.par_iter_mut().zip(targets);
            pairs.for_each(|(tensor, target)| cpu::lerp(tensor.data_mut(), target.data(), share));
            Ok(())
        }
        device => cuda::ema_update(device, tensors, targets, share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_independent_of_threads, distance, random_tensor};

    #[test]
    fn follows_the_formula() {
        let shapes = [[3, 5], [1, 1], [700, 101]];
        let mut parameters: Vec<Tensor> =
            (0..).zip(shapes).map(|(i, shape)| random_tensor(i, shape)).collect();
        let mut first: Vec<Tensor> = shapes.map(Tensor::zeros).to_vec();
        let mut second = first.clone();
        let wide = |tensor: &Tensor| tensor.data().iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let mut exact: Vec<[Vec<f64>; 3]> =
            (parameters.iter()).map(|p| [wide(p), vec![0.0; p.numel()], vec![0.0; p.numel()]]).collect();
        for step in 1..=3 {
            let rule = AdamStep { learning_rate: 1e-2, weight_decay: 5e-4, step, ..AdamStep::default() };
            let gradients: Vec<Tensor> =
                (10 * step..).zip(shapes).map(|(i, shape)| random_tensor(i, shape)).collect();
            rule.apply(&mut parameters, &gradients, &mut first, &mut second).unwrap();
            for ([p, m, v], gradient) in exact.iter_mut().zip(&gradients) {
                for (i, g) in wide(gradient).into_iter().enumerate() {
                    let g = g + 5e-4 * p[i];
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.999 * v[i] + 0.001 * g * g;
                    let corrected =
                        [m[i] / (1.0 - 0.9f64.powi(step as i32)), v[i] / (1.0 - 0.999f64.powi(step as i32))];
                    p[i] -= 1e-2 * corrected[0] / (corrected[1].sqrt() + 1e-8);
                }
            }
        }
        for (i, [p, m, v]) in exact.iter().enumerate() {
            for (found, right) in [(&parameters[i], p), (&first[i], m), (&second[i], v)] {
                let off = distance(found.data(), right);
                assert!(off < 3e-7, "tensor {i}: off by {off}");
            }
        }
    }

    #[test]
    fn the_roundings_are_pytorchs() {
        let number = |i: u64| i as f32;
        let tensor = |elements: Vec<f32>| [Tensor::new(&elements, [1000]).unwrap()];
        let mut p = tensor((0..1000).map(|i| number(i) / 7.0 - 50.0).collect());
        let (mut m, mut v) = ([Tensor::zeros([1000])], [Tensor::zeros([1000])]);
        for step in 1..4 {
            let gradient = |i: u64| (number(i * step * 37 % 101) - 50.0) / number(64 * step * step);
            let rule = AdamStep { learning_rate: 1e-4, weight_decay: 5e-4, step, ..AdamStep::default() };
            rule.apply(&mut p, &tensor((0..1000).map(gradient).collect()), &mut m, &mut v).unwrap();
        }
        // From torch.optim.Adam of PyTorch 2.11 on a CPU. Of the parameters, the exclusive or of the bits of element i
        // times 2 i + 1: they are the same to the last bit. Of the moments two elements; PyTorch fuses some of their
        // multiplications and additions.
        let bits = (0..).zip(p[0].data()).map(|(i, x)| x.to_bits().wrapping_mul(2 * i + 1));
        assert_eq!(bits.fold(0, |all, bits| all ^ bits), 0x2814_fb92);
        for (found, right) in
            [(&m[0], [-0.071_361_01, -0.017_265_845]), (&v[0], [4.450_549e-4, 1.379_646_9e-4])]
        {
            for (found, right) in [found.data()[3], found.data()[997]].into_iter().zip(right) {
                assert!((found / right - 1.0f32).abs() < 1.5e-7, "{found} for {right}");
            }
        }
    }

    #[test]
    fn norms_and_scales() {
        let mut tensors = [random_tensor(1, [100_003]), random_tensor(2, [3, 7])];
        let exact: f64 = tensors.iter().flat_map(|t| t.data()).map(|x| f64::from(*x).powi(2)).sum();
        assert!((squared_norm(&tensors).unwrap() / exact - 1.0).abs() < 1e-12);
        assert_independent_of_threads(|| {
            let norm = squared_norm(&tensors).unwrap().to_bits();
            vec![Tensor::new(&[(norm >> 32) as u32, norm as u32].map(f32::from_bits), [2]).unwrap()]
        });
        let before = tensors[1].data().to_vec();
        scale_all(&mut tensors, 0.5).unwrap();
        assert!(tensors[1].data().iter().zip(&before).all(|(after, before)| *after == 0.5 * before));
        tensors[1].data_mut()[20] = f32::INFINITY;
        assert_eq!(squared_norm(&tensors).unwrap(), f64::INFINITY);
        tensors[0].data_mut()[70_000] = f32::NAN;
        assert!(squared_norm(&tensors).unwrap().is_nan());
        assert!(squared_norm(&[Tensor::full([4], f32::MAX)]).unwrap().is_finite());
    }

    #[test]
    fn a_running_mean() {
        let values: Vec<[Tensor; 2]> =
            (0..5).map(|step| [random_tensor(step, [40_001]), random_tensor(9 + step, [3, 7])]).collect();
        let mut mean = values[0].clone();
        values[1..].iter().for_each(|values| ema_update(&mut mean, values, 0.25).unwrap());
        for (tensor, mean) in mean.iter().enumerate() {
            let exact: Vec<f64> = (0..mean.numel())
                .map(|at| {
                    let values = values.iter().map(|values| f64::from(values[tensor].data()[at]));
                    values.reduce(|mean, value| 0.75 * mean + 0.25 * value).unwrap()
                })
                .collect();
            assert!(distance(mean.data(), &exact) < 2e-7);
        }
        let error = ema_update(&mut mean, &[values[0][0].clone(), Tensor::zeros([21])], 0.5).unwrap_err();
        assert_eq!(error.to_string(), "ema_update: tensor 1 is ([3, 7], F32), its target ([21], F32)");
        assert!(ema_update(&mut mean, &values[0][..1], 0.5).is_err());
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let rule = AdamStep::default();
        let (mut p, mut m, mut v) = ([Tensor::zeros([2])], [Tensor::zeros([2])], [Tensor::zeros([2])]);
        assert!(rule.apply(&mut p, &[], &mut m, &mut v).is_err());
        let error = rule.apply(&mut p, &[Tensor::zeros([3])], &mut m, &mut v).unwrap_err().to_string();
        assert_eq!(error, "adam: parameter 0 has the shape [2], its gradient and moments [[3], [2], [2]]");
        let zeroth = AdamStep { step: 0, ..rule };
        assert!(zeroth.apply(&mut p, &[Tensor::zeros([2])], &mut m, &mut v).is_err());
    }
}
