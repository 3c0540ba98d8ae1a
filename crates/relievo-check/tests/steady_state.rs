//! After the first training steps no tensor memory is asked of the system any more.

use relievo_model::{Model, ModelSettings};
use relievo_tensor::ops::AdamStep;
use relievo_tensor::{Random, Tensor, pool_statistics};

#[test]
fn a_training_step_takes_its_memory_from_the_last_one() {
    let settings = ModelSettings { width: 8, code: 16, encoder_width: 8, ..ModelSettings::default() };
    let mut model = Model::new(settings, 0).unwrap();
    let zeros = || model.parameters().iter().map(|p| Tensor::zeros(p.shape())).collect::<Vec<_>>();
    let (mut first, mut second) = (zeros(), zeros());
    let mut step = |number: u64| {
        let random = Random::new(number, 0);
        let pixels: Vec<f32> = (0..2 * 64 * 64 * 3).map(|at| 2.0 * random.uniform(at) - 1.0).collect();
        let images = Tensor::new(&pixels, [2, 64, 64, 3]).unwrap();
        let (_, gradients) = model.loss_and_gradients(&images, 0.5).unwrap();
        let adam = AdamStep { step: number, ..AdamStep::default() };
        adam.apply(model.parameters_mut(), &gradients, &mut first, &mut second).unwrap();
    };
    // On one thread: on several, how many need scratch memory at once depends on how they are scheduled.
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| {
        (1..=2).for_each(&mut step);
        let before = pool_statistics();
        (3..=5).for_each(&mut step);
        assert_eq!(pool_statistics(), before);
    });
}
