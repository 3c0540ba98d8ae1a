//! The section `[data]`: where the images come from.

use std::sync::Arc;

use relievo_data::{
    Holdout, Jitter, LoaderOptions, Registry, SYNTHETIC, Source, SourceError, SourceSpec, Split, SplitError,
};
use relievo_settings::{Invalid, choices, settings, with_unit};
use relievo_tensor::Device;

/// Every epoch is an order of all heads, held in memory.
const MOST_HEADS: u64 = 10_000_000;

/// Beyond these, heads turn further than the model can express, and most lights stand where it can no longer follow.
const MOST_PITCH_SPREAD: f32 = 20.0;
const MOST_ELEVATION_SPREAD: f32 = 2.0;

/// Beyond this, faces fold over themselves.
const MOST_ASYMMETRY: f32 = 10.0;

/// Images of a head.
const MOST_IMAGES: u64 = 1000;

/// More threads than any machine has cores for.
const MOST_WORKERS: usize = 1024;

settings! {
    /// Where the images come from.
    pub struct DataSettings {
        /// Folders of images or .tar files, and the word `synthetic` for generated heads
        source: Vec<SourceSpec> = vec![SourceSpec::registered(SYNTHETIC)], kind(Source);
        /// Seed of the synthetic heads
        synthetic_seed: u64 = 0, kind(Data);
        /// Number of synthetic heads; an epoch is all but the held-out ones
        synthetic_count: u64 = 20_000, kind(Data);
        /// Images of each synthetic head, with other expressions, viewpoints, lights and backgrounds; more than one for
        /// `pairs` of a collection
        synthetic_images: u64 = 1, in 1..=MOST_IMAGES, kind(Data);
        /// Factor on the differences in shape between the two sides of synthetic faces
        asymmetry: f32 = 1.0, in 0.0..=MOST_ASYMMETRY, kind(Data);
        /// Cover part of one side of each synthetic head with a random coloured patch, which breaks the symmetry
        /// assumption (section 4.2 of the paper)
        perturbed: bool = false, kind(Data);
        /// Standard deviation of the pitch of synthetic heads, in degrees
        pitch_spread: f32 = 5.5, in with_unit(0.0..=MOST_PITCH_SPREAD, "degrees"), kind(Data);
        /// Standard deviation of the tangent of the light's elevation over synthetic heads
        elevation_spread: f32 = 0.35, in 0.0..=MOST_ELEVATION_SPREAD, kind(Data);
        /// Which images a model that learns from pairs gets as a pair; with a collection, images are held out and counted
        /// by objects
        pairs: Pairs = Pairs::Mirror, kind(Data);
        /// Images held out for validation: a share below 1, a number from 1 on, none for 0
        validation: f64 = 0.02, kind(Data);
        /// Which images are held out; `last` requires a number of them
        held_out: HeldOut = HeldOut::ByName, kind(Data);
        /// Mirror half of the training images, at random
        mirror: bool = true, kind(Data);
        /// Translate and scale training images at random by up to this share of their side; 0.05 helps with few images
        jitter: f32 = 0.0, in 0.0..1.0, kind(Data);
        /// Rotate training images in-plane at random by up to this many degrees either way
        roll: f32 = 0.0, in with_unit(0.0..=180.0, "degrees"), kind(Data);
        /// Threads that decode or render images; 0 chooses one for every two cores, at most four, and with a GPU one
        /// for every core but one
        workers: usize = 0, in 0..=MOST_WORKERS, kind(Free);
        /// Memory for decoded and rendered images, in MiB; images that do not fit are made again in every epoch. The
        /// default holds 200,000 images of 64x64
        cache: u64 = 2560, kind(Free);
    }
}

choices! {
    /// Which images are held out.
    #[derive(Default)]
    pub enum HeldOut {
        /// By a hash of their names: an image keeps its side when others are added or removed
        #[default]
        ByName,
        /// The last ones, in the order of the source
        Last,
    }
}

choices! {
    /// Which images are a pair.
    #[derive(Default)]
    pub enum Pairs {
        /// Each image and its mirror image
        #[default]
        Mirror,
        /// Two images of one object: of one sub-folder, of one folder in an archive, of one synthetic head. An epoch goes
        /// once through the objects; an object with one image is paired with its mirror image
        Collection,
    }
}

impl DataSettings {
    /// Whether all images are made by a program, which can know their depth.
    pub(crate) fn is_generated(&self) -> bool {
        self.source.iter().all(SourceSpec::is_registered)
    }

    /// The augmentation of training images.
    pub(crate) fn jitter_of_crops(&self) -> Jitter {
        Jitter { crop: self.jitter, roll: self.roll.to_radians() }
    }

    /// Whether some images are made by a program.
    pub(crate) fn has_generated(&self) -> bool {
        self.source.iter().any(SourceSpec::is_registered)
    }

    /// Opens the images: those on disk, and what `registry` makes of these settings.
    ///
    /// # Errors
    /// Those of [`Registry::open`].
    pub fn open(&self, registry: &Registry<Self>) -> Result<Arc<dyn Source>, SourceError> {
        registry.open(self, &self.source)
    }

    /// Cuts the images into those to learn from and those held out.
    ///
    /// # Errors
    /// If nothing is left to learn from.
    pub fn split(&self, source: Arc<dyn Source>) -> Result<Split, SplitError> {
        match self.pairs {
            Pairs::Mirror => Split::new(source, self.holdout()),
            Pairs::Collection => Split::by_object(source, self.holdout()),
        }
    }

    /// Threads that read or generate images for a device.
    pub fn workers_beside(&self, device: Device) -> usize {
        match (self.workers, device) {
            (0, Device::Cpu) => LoaderOptions::new(1, 1).workers,
            (0, Device::Cuda(_)) => LoaderOptions::beside_gpu(1, 1).workers,
            (workers, _) => workers,
        }
    }

    /// What is held out.
    pub fn holdout(&self) -> Holdout {
        match (self.held_out, self.validation) {
            (HeldOut::ByName, share) if share < 1.0 => Holdout::Fraction(share),
            (HeldOut::ByName, count) => Holdout::Count(count as u64),
            (HeldOut::Last, count) => Holdout::Last(count as u64),
        }
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        self.check_each()?;
        let rule = |holds: bool, setting, reason: String| {
            if holds { Ok(()) } else { Err(Invalid { setting, reason }) }
        };
        rule(
            !self.source.is_empty(),
            "source",
            "source names nothing; give a folder, a .tar file or the word synthetic".into(),
        )?;
        let (heads, share) = (self.synthetic_count, self.validation);
        rule(
            !self.has_generated() || (1..=MOST_HEADS / self.synthetic_images).contains(&heads),
            "synthetic-count",
            format!(
                "synthetic-count is {heads}; it must be a number from 1 to {}",
                MOST_HEADS / self.synthetic_images
            ),
        )?;
        rule(
            share.is_finite() && share >= 0.0 && (share < 1.0 || share.fract() == 0.0),
            "validation",
            format!(
                "validation is {share}; it must be a share from 0 to below 1, or a whole number of images"
            ),
        )?;
        rule(
            self.held_out != HeldOut::Last || share.fract() == 0.0,
            "validation",
            format!("validation is {share}; of the last images it must be a whole number"),
        )?;
        rule(
            !self.perturbed || self.has_generated(),
            "perturbed",
            "perturbed is true; only synthetic heads can be perturbed".into(),
        )
    }
}
