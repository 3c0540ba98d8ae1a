//! What commands that make animations share: their formats, how many frames, how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use relievo::{Animation, Canvas};
use relievo_data::{Reservation, reserve_memory};

use crate::meshes;

/// A kind of file for frames that are shown in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Animated GIF, of 256 colours
    Gif,
    /// Animated WebP, without loss
    Webp,
    /// Animated PNG, without loss
    Apng,
    /// A PNG file for each frame
    Frames,
}

impl Format {
    /// The ending of its file's name; that of each frame's if there are several files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Apng => "apng",
            Self::Frames => "png",
        }
    }

    /// Writes frames to the file `STEM.ENDING`, or `STEM-0.png` and so on; gives the first file.
    pub fn write(self, animation: &Animation, stem: &Path) -> relievo::Result<PathBuf> {
        let path = followed_by(stem, &format!(".{}", self.ending()));
        match self {
            Self::Gif => animation.write_gif(&path)?,
            Self::Webp => animation.write_webp(&path)?,
            Self::Apng => animation.write_apng(&path)?,
            Self::Frames => {
                let digits = (animation.frames().len().max(1) - 1).to_string().len();
                let path = |number: usize| followed_by(stem, &format!("-{number:0digits$}.png"));
                for (number, frame) in animation.frames().iter().enumerate() {
                    frame.write_png(path(number))?;
                }
                return Ok(path(0));
            }
        }
        Ok(path)
    }
}

/// A path with more behind its name, which may have dots.
fn followed_by(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The size of frames, their number, how long they take, and the files.
#[derive(Args)]
pub struct AnimationOptions {
    /// Width and height of the images
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=4096))]
    pub size: u16,
    /// Colour beside the face: white, grey, black or #rrggbb
    #[arg(long, value_name = "COLOUR", default_value = "white", value_parser = meshes::colour)]
    background: [f32; 3],
    /// Images of an animation
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=3600))]
    pub frames: u16,
    /// How long an animation takes until it begins again
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    seconds: f64,
    /// Files of an animation, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "gif")]
    format: Vec<Format>,
}

impl AnimationOptions {
    /// The colour beside the face.
    pub fn background(&self) -> [u8; 3] {
        self.background.map(|value| (255.0 * value).round() as u8)
    }

    /// The frames with the time that each is shown.
    fn animation(&self, frames: Vec<Canvas>) -> Animation {
        let pause = Duration::from_secs_f64(self.seconds / frames.len().max(1) as f64);
        Animation::new(frames, pause)
    }

    /// Writes frames in all formats to files whose names begin with `stem`, a single frame as a PNG file; gives the first
    /// file.
    pub fn write(&self, mut frames: Vec<Canvas>, stem: &Path) -> relievo::Result<Option<PathBuf>> {
        if frames.len() == 1 {
            let path = followed_by(stem, ".png");
            frames.swap_remove(0).write_png(&path)?;
            return Ok(Some(path));
        }
        let animation = self.animation(frames);
        let files = self.format.iter().map(|format| format.write(&animation, stem));
        Ok(files.collect::<relievo::Result<Vec<_>>>()?.into_iter().next())
    }

    /// Refuses times that no animation takes, and `count` frames of each face that there is no memory for: an allocation
    /// that fails ends the program.
    pub fn check(&self, count: usize) -> anyhow::Result<Reservation> {
        ensure!(
            (0.02..=3600.0).contains(&self.seconds),
            "--seconds {}: an animation takes 0.02 to 3600 seconds",
            self.seconds
        );
        // Frames and what they are encoded as, of one face on each thread.
        let needed = 6 * u64::from(self.size).pow(2) * (count * rayon::current_num_threads()) as u64;
        reserve_memory(needed, 0).with_context(|| {
            format!(
                "there is not enough memory for these images, about {} MiB; take a smaller --size or fewer --frames",
                needed >> 20
            )
        })
    }

    /// The endings of the files that are written, behind a name such as `turn`.
    pub fn endings(name: &str) -> Vec<String> {
        Format::value_variants().iter().map(|format| format!("{name}.{}", format.ending())).collect()
    }
}
