//! A GPU whose memory is too small: what the program says of it. On the emulator, which can be given as little as one
//! likes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relievo_model::{
    ComputeSettings, DeviceChoice, Model, ModelError, ModelSettings, Precision, Predictor, Supervision,
};
use relievo_require::{Requirement, skip};
use relievo_synth::Heads;
use relievo_tensor::{Device, Tensor, cuda};
use relievo_train::{DataSettings, Event, Outcome, RunFolder, Settings, TrainError, TrainSettings, Trainer};

/// Enough for a few images at a time, beside the 256 MiB with which algorithms are measured.
const MEMORY: usize = 268 << 20;

fn settings(micro_batch: usize) -> Settings {
    Settings {
        data: DataSettings { synthetic_count: 40, validation: 0.0, ..DataSettings::default() },
        model: ModelSettings {
            width: 4,
            code: 8,
            encoder_width: 4,
            perceptual_weight: 0.0,
            ..ModelSettings::default()
        },
        train: TrainSettings {
            steps: 2,
            batch_size: 8,
            micro_batch,
            preview_images: 0,
            ..TrainSettings::default()
        },
        compute: ComputeSettings {
            device: DeviceChoice::Only(Device::Cuda(0)),
            precision: Precision::F32,
            deterministic: true,
        },
        ..Settings::default()
    }
}

fn train(settings: Settings) -> Result<Outcome, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(folder.path().join("run"), false).unwrap();
    let source = Arc::new(Heads::range(0, 0, settings.data.synthetic_count));
    Trainer::begin(settings, source, folder)?.run(&mut |_: Event<'_>| (), &AtomicBool::new(false))
}

#[test]
fn too_little_memory_is_told_with_a_number_of_images_that_fit() {
    if std::env::var_os("RELIEVO_DEVICE").is_some() {
        return skip(
            Requirement::Emulator,
            "RELIEVO_DEVICE names a real GPU, whose memory cannot be limited",
        );
    }
    // As on the first day: algorithms that are in the cache need no memory to be measured.
    let cache = tempfile::tempdir().unwrap();
    // SAFETY: the only test of its process, and no thread is running yet.
    unsafe {
        std::env::set_var("RELIEVO_EMULATOR_MEMORY", MEMORY.to_string());
        std::env::set_var("XDG_CACHE_HOME", cache.path());
    }
    if relievo_cuda_emulator::test_gpu().is_none() {
        return;
    }

    let error = train(settings(0)).unwrap_err();
    println!("{error}\n{:?}", cuda::memory_statistics(0));
    let TrainError::OutOfMemory { micro_batch: 8, fits: Some(fits), .. } = error else { panic!("{error}") };
    assert!((1..8).contains(&fits));
    let text = error.to_string();
    assert!(text.contains("out of memory") && text.contains(&format!("room for {fits} images")), "{text}");
    // Twice the number would have been too many, and the number is not.
    assert!(matches!(train(settings(2 * fits)), Err(TrainError::OutOfMemory { .. })));
    assert_eq!(train(settings(fits)).unwrap(), Outcome::Finished);

    // One network alone, told the depth: steps of another kind, and more images that fit.
    let supervised = |micro_batch| {
        let mut settings = settings(micro_batch);
        settings.model.supervision = Supervision::Depth;
        settings.train.batch_size = 40;
        settings
    };
    let error = train(supervised(0)).unwrap_err();
    println!("{error}");
    let TrainError::OutOfMemory { micro_batch: 40, fits: Some(fits), .. } = error else { panic!("{error}") };
    assert!(matches!(train(supervised(2 * fits)), Err(TrainError::OutOfMemory { .. })));
    assert_eq!(train(supervised(fits)).unwrap(), Outcome::Finished);

    let mut model = Model::new(settings(0).model, 0).unwrap();
    settings(0).compute.place(&mut model).unwrap();
    let predict = |count: usize| -> Result<(), ModelError> {
        Predictor::new(&model, count)?.predict(&Tensor::zeros([count, 64, 64, 3])).map(|_| ())
    };
    let error = predict(128).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    let fits = Predictor::batch_that_fits(&model, 128).unwrap();
    println!("{fits} images can be taken apart together");
    predict(fits).unwrap();
    assert!(predict(2 * fits).is_err_and(|error| error.is_out_of_memory()));
}
