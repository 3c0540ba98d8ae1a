//! What a user of the command line can do about an error: advice that names options, which libraries do not know.

use relievo_data::naming::InsideError;
use relievo_detect::DetectError;
use relievo_detect::crops::CropError;
use relievo_files::NotEmptyError;
use relievo_model::{ModelError, WeightsError};
use relievo_pytorch::CheckpointError;
use relievo_reproduce::{RecipeError, ReproduceError};
use relievo_tensor::safetensors::ReadError;
use relievo_tensor::{Device, Error};
use relievo_train::{EvaluationError, FolderError, HeldOutError, TrainError};

/// The advice for the first error in the chain that has some; `None` if there is none.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        cause
            .downcast_ref::<ReproduceError>()
            .map(reproduce)
            .or_else(|| cause.downcast_ref::<TrainError>().map(train))
            .or_else(|| cause.downcast_ref::<FolderError>().map(folder))
            .or_else(|| cause.downcast_ref::<HeldOutError>().map(held_out))
            .or_else(|| cause.downcast_ref::<relievo::Error>().map(reconstruction))
            .or_else(|| cause.downcast_ref::<relievo::FolderError>().map(results_folder))
            .or_else(|| cause.downcast_ref::<relievo::CategoriesError>().map(categories))
            .or_else(|| cause.downcast_ref::<EvaluationError>().map(evaluation))
            .or_else(|| cause.downcast_ref::<WeightsError>().map(weights))
            .or_else(|| cause.downcast_ref::<CheckpointError>().map(import))
            .or_else(|| cause.downcast_ref::<ModelError>().map(model))
            .or_else(|| cause.downcast_ref::<Error>().map(engine))
            .or_else(|| cause.downcast_ref::<CropError>().map(crop))
            .or_else(|| cause.downcast_ref::<InsideError>().map(inside))
            .or_else(|| cause.downcast_ref::<NotEmptyError>().map(not_empty))
            .flatten()
    })
}

fn folder(error: &FolderError) -> Option<String> {
    let advice = match error {
        FolderError::Occupied(_) => {
            "continue the run in it with --resume, start anew in its place with --overwrite, or give another folder with \
             --out"
        }
        FolderError::Foreign(_) => "give another folder with --out",
        _ => return None,
    };
    Some(advice.into())
}

fn engine(error: &Error) -> Option<String> {
    match error {
        Error::Device { device: Device::Cuda(_), .. } => Some("--device cpu computes without a GPU".into()),
        _ => None,
    }
}

fn weights(error: &WeightsError) -> Option<String> {
    match error {
        WeightsError::Format { source: ReadError::PyTorch(_), .. } => Some(
            "`relievo import CHECKPOINT -o weights.safetensors` makes weights of a checkpoint of unsup3d or LeMul".into(),
        ),
        WeightsError::Model(error) => model(error),
        _ => None,
    }
}

fn import(error: &CheckpointError) -> Option<String> {
    match error {
        CheckpointError::Refused(_) => Some(
            "in the program that trained the model, save the networks' state_dict() alone, by their names (netD, netA, \
             netL, netV)"
                .into(),
        ),
        _ => None,
    }
}

fn model(error: &ModelError) -> Option<String> {
    if let ModelError::Engine(error) = error { engine(error) } else { None }
}

fn evaluation(error: &EvaluationError) -> Option<String> {
    match error {
        EvaluationError::Model(error) => model(error),
        EvaluationError::Engine(error) => engine(error),
        _ => None,
    }
}

fn crop(error: &CropError) -> Option<String> {
    let advice = match error {
        CropError::Inside(error) => return inside(error),
        CropError::NotEmpty(error) => return not_empty(error),
        CropError::OtherWork(_) => "give another folder with --out, or the same inputs and options as then",
        CropError::DamagedFile { .. } => "remove it and start again, or give another folder with --out",
        _ => return None,
    };
    Some(advice.into())
}

fn inside(error: &InsideError) -> Option<String> {
    matches!(error, InsideError::SameFolder(_)).then(|| "give another folder with --out".into())
}

fn not_empty(error: &NotEmptyError) -> Option<String> {
    matches!(error, NotEmptyError::NotEmpty { .. }).then(|| "give another folder with --out".into())
}

fn train(error: &TrainError) -> Option<String> {
    match error {
        TrainError::Model(error) => model(error),
        TrainError::Evaluation(error) => evaluation(error),
        TrainError::Folder(error) => folder(error),
        TrainError::CheckpointsGone { model, .. } => {
            Some(format!("begin a new run with --initial-weights {}", model.display()))
        }
        TrainError::OutOfMemory { fits: Some(fits), .. } => {
            Some(format!("--micro-batch {fits} learns from the same batches in smaller pieces"))
        }
        TrainError::OutOfMemory { fits: None, .. } => Some("take a smaller --width, or --device cpu".into()),
        TrainError::NonFinite { .. } => Some(
            "a lower --learning-rate or a --clip-norm (5, say) may help, or fewer images of that kind".into(),
        ),
        TrainError::Changed { .. } => Some("leave it as it was, or begin a new run".into()),
        TrainError::OtherImages { .. } => {
            Some("put back the images that were there, or begin a new run".into())
        }
        _ => None,
    }
}

fn reproduce(error: &ReproduceError) -> Option<String> {
    let advice = match error {
        ReproduceError::Train(error) => return train(error),
        ReproduceError::Folder(error) => return folder(error),
        ReproduceError::Recipe(RecipeError::NoSteps) => "give their number with --steps",
        ReproduceError::Nothing(_) => "leave the row out or change the recipe",
        ReproduceError::OtherRecipe { .. } => {
            "give another folder with --out, or the recipe it was begun with"
        }
        ReproduceError::Further { .. } | ReproduceError::OtherFeatures(_) => "give another folder with --out",
        _ => return None,
    };
    Some(advice.into())
}

fn held_out(error: &HeldOutError) -> Option<String> {
    match error {
        HeldOutError::Nothing => Some("a run holds images out with --validation".into()),
        HeldOutError::OtherImages { .. } => Some("give the sources that the run had, in their order".into()),
        _ => None,
    }
}

pub fn reconstruction(error: &relievo::Error) -> Option<String> {
    use relievo::Error;
    let advice = match error {
        Error::NothingKnown { .. } => "--model names weights for it, with --framed if it is a crop already",
        Error::NoFace => "if the image is a crop of the object already, add --framed",
        Error::NoDetector { .. } => {
            "leave out --faces, and images are taken as they are; or name a model of faces with --model"
        }
        Error::UnreadableWeights { .. } => {
            let names: Vec<_> = relievo::EMBEDDED_WEIGHTS.iter().map(|(name, _)| *name).collect();
            let known =
                if names.is_empty() { String::new() } else { format!(", or one of {}", names.join(", ")) };
            return Some(format!("give a weights file, the folder of a run{known}"));
        }
        Error::Weights(error) => return weights(error),
        Error::NotEmbedded { .. } => "name a weights file or the folder of a run with --model",
        Error::OutOfMemory { .. } | Error::Detector(DetectError::OutOfMemory(_)) => {
            "a smaller --max-memory leaves more for it, and so do fewer threads"
        }
        error if error.is_out_of_memory() => "the memory is not enough for a single image: take --device cpu",
        _ => return None,
    };
    Some(advice.into())
}

fn categories(error: &relievo::CategoriesError) -> Option<String> {
    use relievo::CategoriesError;
    let advice = match error {
        CategoriesError::NoFolder => "name a file with --categories",
        CategoriesError::OtherRouter(_) => "remove that file and add the categories again",
        CategoriesError::Taken(_) => "take another name, or remove that category first",
        _ => return None,
    };
    Some(advice.into())
}

fn results_folder(error: &relievo::FolderError) -> Option<String> {
    use relievo::FolderError;
    match error {
        FolderError::HoldsInputs(_) | FolderError::OverInput(_) | FolderError::IsFile(_) => {
            Some("give another folder with --out".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn advice_is_found_in_an_error_of_an_error() {
        let occupied = || FolderError::Occupied("run".into());
        for error in [
            anyhow::Error::from(occupied()),
            anyhow::Error::from(TrainError::from(occupied())),
            anyhow::Error::from(ReproduceError::from(TrainError::from(occupied()))).context("the table"),
        ] {
            assert!(hint(&error).unwrap().starts_with("continue the run in it with --resume"), "{error:#}");
        }
        assert_eq!(hint(&anyhow::Error::msg("out of paper")), None);
    }

    #[test]
    fn a_gpu_that_cannot_be_used_can_be_done_without() {
        let broken = || Error::Device { device: Device::Cuda(0), detail: "no driver".into() };
        let errors: [anyhow::Error; 4] = [
            broken().into(),
            ModelError::from(broken()).into(),
            TrainError::from(ModelError::from(broken())).into(),
            anyhow::Error::from(EvaluationError::from(ModelError::from(broken()))).context("measuring"),
        ];
        for error in &errors {
            assert_eq!(hint(error).as_deref(), Some("--device cpu computes without a GPU"), "{error:#}");
        }
        let on_cpu = Error::Device { device: Device::Cpu, detail: "captures nothing".into() };
        assert_eq!(hint(&on_cpu.into()), None);
    }

    #[test]
    fn options_in_advice_exist() {
        let command = crate::Line::command();
        let of = |name: &str| {
            let command = command.find_subcommand(name).unwrap();
            command.get_arguments().filter_map(|option| option.get_long()).collect::<Vec<_>>()
        };
        let (of_train, of_reproduce, of_reconstruct) = (of("train"), of("reproduce"), of("reconstruct"));
        let no_detector =
            relievo::Error::NoDetector { origin: "run".into(), category: relievo::Category::Cats };
        let folder = || "run".into();
        let advice = [
            (train(&FolderError::Occupied(folder()).into()), &of_train),
            (train(&FolderError::Foreign(folder()).into()), &of_train),
            (train(&TrainError::CheckpointsGone { folder: folder(), model: folder() }), &of_train),
            (held_out(&HeldOutError::Nothing), &of_train),
            (reproduce(&RecipeError::NoSteps.into()), &of_reproduce),
            (reproduce(&ReproduceError::OtherFeatures(folder())), &of_reproduce),
            (reconstruction(&relievo::Error::NoFace), &of_reconstruct),
            (reconstruction(&relievo::Error::NothingKnown { nearest: None }), &of_reconstruct),
            (reconstruction(&relievo::Error::OutOfMemory { needed: 1 }), &of_reconstruct),
            (reconstruction(&no_detector), &of_reconstruct),
            (results_folder(&relievo::FolderError::HoldsInputs(folder())), &of_reconstruct),
        ];
        for (advice, options) in advice {
            let advice = advice.unwrap();
            let mut named = advice
                .split("--")
                .skip(1)
                .map(|rest| rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap());
            assert!(named.all(|option| options.contains(&option)), "{advice}");
        }
    }
}
