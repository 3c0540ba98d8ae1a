//! The sources of images that the program makes itself.

use std::sync::Arc;

use relievo_data::{Registry, SYNTHETIC, Source};
use relievo_detect::WithPoints;
use relievo_reproduce::heads;
use relievo_train::{DataSettings, Settings};

/// What may be named as a source besides folders and files.
pub fn registry() -> Registry<DataSettings> {
    let synthetic = |data: &DataSettings, arguments: &str| -> Result<Arc<dyn Source>, String> {
        if !arguments.is_empty() {
            return Err("heads are chosen by --synthetic-seed and --synthetic-count".into());
        }
        Ok(Arc::new(heads(data, 0..data.synthetic_count)))
    };
    Registry::default().register(SYNTHETIC, synthetic)
}

/// The images of a run; with the points of their faces if its loss needs them.
pub fn open(settings: &Settings) -> anyhow::Result<Arc<dyn Source>> {
    let source = settings.data.open(&registry())?;
    if !settings.model.uses_landmarks() {
        return Ok(source);
    }
    Ok(Arc::new(WithPoints::new(source)?))
}

#[cfg(test)]
mod tests {
    use relievo_data::SourceSpec;

    use super::*;

    #[test]
    fn images_have_points_where_the_loss_needs_them() {
        let mut settings = Settings::default();
        settings.data.synthetic_count = 2;
        assert_eq!(open(&settings).unwrap().sample(0, 64).unwrap().points, None);
        settings.model.landmark_weight = Some(0.5);
        let source = open(&settings).unwrap();
        assert!((0..2).any(|index| source.sample(index, 64).unwrap().points.is_some()));
    }

    #[test]
    fn heads_are_those_of_the_settings() {
        let mut data = DataSettings { synthetic_count: 3, synthetic_seed: 5, ..DataSettings::default() };
        assert_eq!(data.open(&registry()).unwrap().describe(), "synthetic heads 0 to 2 of seed 5");
        data.pitch_spread = 9.0;
        let wider = data.open(&registry()).unwrap().describe();
        assert_eq!(wider, "synthetic heads 0 to 2 of seed 5, pitch spread 9 degrees, elevation spread 0.35");
        let refusal = |source: &str| {
            let data = DataSettings { source: vec![SourceSpec::from(source)], ..DataSettings::default() };
            data.open(&registry()).err().unwrap().to_string()
        };
        assert!(refusal("synthetic:3").contains("--synthetic-count"));
        assert!(refusal("cars:").starts_with("no source is called cars; there is synthetic."));
    }
}
