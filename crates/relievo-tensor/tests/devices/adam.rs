//! Adam on a GPU, directed by the host and by itself.

use relievo_tensor::cuda::Graph;
use relievo_tensor::ops::{AdamStep, DeviceAdam, NonFinite, cast, ema_update, scale_all, squared_norm};
use relievo_tensor::testing::random_tensor;
use relievo_tensor::{DataType, Device, Result, Tensor};

use super::assert_same_bits;

/// Parameters: more than go with one launch, one larger than a block, one without elements.
fn parameters(seed: u64) -> Vec<Tensor> {
    let lengths = (0..70).map(|i| match i {
        3 => 40_003,
        9 => 0,
        _ => 1 + 37 * i % 101,
    });
    (0..).zip(lengths).map(|(i, length)| random_tensor(1000 * seed + i, [length])).collect()
}

fn sent(tensors: &[Tensor], device: Device) -> Vec<Tensor> {
    tensors.iter().map(|tensor| tensor.to_device(device).unwrap()).collect()
}

fn rule(step: u64) -> AdamStep {
    AdamStep { learning_rate: 1e-2 / step as f64, weight_decay: 5e-4, step, ..AdamStep::default() }
}

#[test]
fn adam_directed_by_the_host() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut here = beginning();
    let mut there = here.each_ref().map(|tensors| sent(tensors, device));
    for step in 1..=3 {
        let mut gradients = [parameters(step), sent(&parameters(step), device)];
        let norms = gradients.each_ref().map(|gradients| squared_norm(gradients).unwrap());
        assert!((norms[0] / norms[1] - 1.0).abs() < 1e-13, "{norms:?}");
        // One of them in bf16.
        gradients[1][4] = cast(&gradients[1][4], DataType::Bf16).unwrap();
        gradients.iter_mut().for_each(|gradients| scale_all(gradients, 0.5).unwrap());
        gradients[0][4] = gradients[1][4].to_device(Device::Cpu).unwrap();
        assert_same_bits(&gradients[1], &gradients[0]);
        for ([p, m, v], gradients) in [&mut here, &mut there].into_iter().zip(&gradients) {
            rule(step).apply(p, gradients, m, v).unwrap();
        }
    }
    // To the last bit, since every operation is rounded as on the CPU.
    for (there, here) in there.iter().zip(&here) {
        assert_same_bits(there, here);
    }
    let [p, m, v] = &mut there;
    assert!(rule(1).apply(p, &parameters(1), m, v).unwrap_err().to_string().contains("on cuda:0 and on cpu"));
    let mut gradients = sent(&parameters(1), device);
    scale_all(&mut gradients[69..], f32::INFINITY).unwrap();
    assert_eq!(squared_norm(&gradients).unwrap(), f64::INFINITY);
    scale_all(&mut gradients[3..4], f32::NAN).unwrap();
    assert!(squared_norm(&gradients).unwrap().is_nan());
    assert_eq!(squared_norm(&[]).unwrap(), 0.0);
}

/// What the host does with a gradient that is too long, and the step.
fn clipped_step([p, m, v]: &mut [Vec<Tensor>; 3], mut gradients: Vec<Tensor>, clip: f64, step: u64) -> f64 {
    let norm = squared_norm(&gradients).unwrap().sqrt();
    if norm > clip {
        scale_all(&mut gradients, (clip / norm) as f32).unwrap();
    }
    rule(step).apply(p, &gradients, m, v).unwrap();
    norm
}

#[test]
fn running_means() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut here = parameters(0);
    let mut there = sent(&here, device);
    for step in 1..=3 {
        ema_update(&mut here, &parameters(step), 0.1).unwrap();
        ema_update(&mut there, &sent(&parameters(step), device), 0.1).unwrap();
    }
    assert_same_bits(&there, &here);
    let shared = there[66].clone();
    let error = ema_update(&mut there, &sent(&parameters(4), device), 0.1).unwrap_err().to_string();
    assert_eq!(error, "ema_update: tensor 66 shares its memory with another tensor");
    drop(shared);
    assert_same_bits(&there, &here);
}

/// A step by itself on a GPU: parameters, moments, gradients and a loss, with copies in bf16 of every other parameter.
struct There {
    p: Vec<Tensor>,
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    copies: Vec<Option<Tensor>>,
    gradients: Vec<Tensor>,
    loss: Tensor,
}

impl There {
    fn new(device: Device, here: &[Vec<Tensor>; 3]) -> Self {
        let [p, m, v] = here.each_ref().map(|tensors| sent(tensors, device));
        let copy = |(index, p): (usize, &Tensor)| (index % 2 == 1).then(|| cast(p, DataType::Bf16).unwrap());
        let copies = p.iter().enumerate().map(copy).collect();
        let gradients = sent(&parameters(1), device);
        There { p, m, v, copies, gradients, loss: Tensor::scalar(1.0).to_device(device).unwrap() }
    }

    fn step(&mut self, adam: &mut DeviceAdam) -> Result<()> {
        let There { p, m, v, copies, gradients, loss } = self;
        adam.step(p, gradients, m, v, copies, loss)
    }

    /// Why the step is refused.
    fn refusal(&mut self, adam: &mut DeviceAdam) -> String {
        self.step(adam).unwrap_err().to_string()
    }

    /// The same parameters and moments, and copies of these parameters.
    #[track_caller]
    fn assert_same(&self, here: &[Vec<Tensor>; 3]) {
        for (there, here) in [&self.p, &self.m, &self.v].into_iter().zip(here) {
            assert_same_bits(there, here);
        }
        for (p, copy) in self.p.iter().zip(&self.copies).filter_map(|(p, copy)| Some((p, copy.as_ref()?))) {
            let right = cast(p, DataType::Bf16).unwrap().to_device(Device::Cpu).unwrap();
            assert_same_bits(std::slice::from_ref(copy), &[right]);
        }
    }
}

/// Parameters and moments before the first step.
fn beginning() -> [Vec<Tensor>; 3] {
    let mut here = [parameters(0), parameters(0), parameters(0)];
    here[1..].iter_mut().flatten().for_each(|moment| moment.data_mut().fill(0.0));
    here
}

#[test]
fn adam_by_itself_in_a_graph() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut here = beginning();
    let mut there = There::new(device, &here);
    // Between the norms of gradients scaled by 1 and by 0.5.
    let clip = 0.75 * squared_norm(&parameters(1)).unwrap().sqrt();
    let mut adam = DeviceAdam::new(device, clip).unwrap();
    adam.prepare(&rule(1)).unwrap();
    there.step(&mut adam).unwrap();
    let norm = clipped_step(&mut here, parameters(1), clip, 1);
    there.assert_same(&here);
    let state = adam.state().unwrap();
    assert!((state.gradient_norm / norm - 1.0).abs() < 1e-13 && norm > clip);
    assert_eq!((state.taken, state.stopped), (1, None));

    let mut graph = Graph::capture(ordinal, || there.step(&mut adam)).unwrap();
    assert_eq!(adam.state().unwrap().taken, 1);
    for step in 2..=5 {
        let mut new = parameters(step);
        if step % 2 == 0 {
            scale_all(&mut new, 0.5).unwrap();
        }
        for (gradient, new) in there.gradients.iter_mut().zip(&new) {
            gradient.copy_from(new).unwrap();
        }
        adam.prepare(&rule(step)).unwrap();
        graph.replay().unwrap();
        let norm = clipped_step(&mut here, new, clip, step);
        let state = adam.state().unwrap();
        assert!((state.gradient_norm / norm - 1.0).abs() < 1e-13);
        assert_eq!((state.taken, state.stopped, norm > clip), (step, None, step % 2 == 1));
    }
    there.assert_same(&here);

    // From the first number that is not finite on, nothing changes.
    let mut broken = parameters(6)[66].clone();
    broken.data_mut()[0] = f32::NAN;
    there.gradients[66].copy_from(&broken).unwrap();
    for step in 6..9 {
        adam.prepare(&rule(step)).unwrap();
        graph.replay().unwrap();
        there.gradients[66].copy_from(&parameters(6)[66]).unwrap();
        let state = adam.state().unwrap();
        assert_eq!((state.taken, state.stopped), (5, Some(NonFinite::Gradient(66))));
        assert!(state.gradient_norm.is_nan());
    }
    there.assert_same(&here);
}

#[test]
fn adam_by_itself_stops_at_a_loss_that_is_not_finite() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let here = beginning();
    let mut there = There::new(device, &here);
    let mut adam = DeviceAdam::new(device, 0.0).unwrap();
    adam.prepare(&rule(1)).unwrap();
    there.loss.copy_from(&Tensor::scalar(f32::INFINITY)).unwrap();
    there.step(&mut adam).unwrap();
    let state = adam.state().unwrap();
    assert_eq!((state.taken, state.stopped), (0, Some(NonFinite::Loss)));
    assert!(state.gradient_norm.is_finite());
    there.assert_same(&here);
}

#[test]
fn adam_by_itself_refuses_what_does_not_fit() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let here = beginning();
    let mut there = There::new(device, &here);
    let mut adam = DeviceAdam::new(device, 0.0).unwrap();
    assert!(there.step(&mut adam).is_err(), "not prepared");
    adam.prepare(&rule(1)).unwrap();

    let shared = there.p[5].clone();
    let error = there.refusal(&mut adam);
    assert!(error.contains("parameter 5, a moment or a copy of it shares"), "{error}");
    drop(shared);
    let first = there.copies.remove(0);
    assert_eq!(there.refusal(&mut adam), "adam: 69 copies of 70 parameters");
    there.copies.insert(0, first);
    there.copies.swap(1, 5);
    let error = there.refusal(&mut adam);
    assert!(error.contains("the copy of parameter 1 has the shape"), "{error}");
    there.copies.swap(1, 5);
    there.assert_same(&here);
    assert_eq!(adam.state().unwrap().taken, 0);
}
