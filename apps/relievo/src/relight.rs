//! `relievo relight`: a face under other light.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use relievo::{Camera, Environment, Image, Light, LightPath, Lighting};

use crate::animations::AnimationOptions;
use crate::console::Console;
use crate::faces::{ComputingOptions, Face, FaceOptions};
use crate::meshes;

/// Put the faces of photographs under another light
///
/// Each face is reconstructed as `relievo reconstruct` does it and rendered in
/// the photograph's own pixels, out of which its light is taken. By default a
/// light goes around the viewer's direction, as an animation: of NAME.jpg it is
/// NAME.relievo/NAME.relit.gif. With --light-azimuth or --light-elevation the
/// light stands still, and the result is NAME.relit.png.
///
/// --environment takes the light of a panorama: an image of 360 by 180 degrees
/// (twice as wide as high), as seen from the face, in its middle what lies in the
/// viewer's direction. It turns once around the face, or stands still with
/// --environment-angle.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(flatten)]
    faces: FaceOptions,
    /// How the light moves
    #[arg(long, value_enum, default_value_t, help_heading = "Light")]
    path: LightPath,
    /// How far it goes from the viewer's direction
    #[arg(long, value_name = "DEGREES", default_value_t = 50.0, value_parser = meshes::angle, help_heading = "Light")]
    angle: f32,
    /// A light that stands still: 0 is in front of the face, 90 on the viewer's right
    #[arg(long, value_name = "DEGREES", value_parser = meshes::angle, help_heading = "Light")]
    light_azimuth: Option<f32>,
    /// A light that stands still: how far it is above
    #[arg(long, value_name = "DEGREES", value_parser = meshes::angle, help_heading = "Light")]
    light_elevation: Option<f32>,
    /// Light from everywhere
    #[arg(long, value_name = "SHARE", default_value_t = 0.4, value_parser = share, help_heading = "Light")]
    ambient: f32,
    /// Light from the direction, where the surface faces it
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = share, help_heading = "Light")]
    diffuse: f32,
    /// Panorama to take the light from
    #[arg(
        long,
        value_name = "IMAGE",
        conflicts_with_all = ["path", "angle", "light_azimuth", "light_elevation", "ambient", "diffuse"],
        help_heading = "Light"
    )]
    environment: Option<PathBuf>,
    /// A panorama that stands still, turned by so much to the viewer's right
    #[arg(long, value_name = "DEGREES", requires = "environment", value_parser = meshes::angle, help_heading = "Light")]
    environment_angle: Option<f32>,
    /// From which side the face is seen: 0 is in front, positive the viewer's right
    #[arg(long, value_name = "DEGREES", default_value_t = 0.0, value_parser = meshes::angle)]
    yaw: f32,
    /// How far it is seen from above
    #[arg(long, value_name = "DEGREES", default_value_t = 0.0, value_parser = meshes::angle)]
    pitch: f32,
    #[command(flatten)]
    animation: AnimationOptions,
    #[command(flatten)]
    computing: ComputingOptions,
}

/// What the results are called, behind the image's name.
const NAME: &str = "relit";

/// A share of light.
fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|share| (0.0..=4.0).contains(share));
    number.ok_or_else(|| "light is a number from 0 to 4".into())
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let Options { animation, .. } = options;
    let lights = lights(options, console)?;
    let _memory = animation.check(lights.len())?;
    let camera = Camera::yaw(options.yaw).with_pitch(options.pitch).on(animation.background());
    let frames: Vec<_> = lights.into_iter().map(|light| (camera, light)).collect();
    options.faces.with_job(&options.computing, &AnimationOptions::endings(NAME), &[], console, |job| {
        let write = |face: &Face| {
            let path = job.folder.path().join(format!("{}.{NAME}", face.stem));
            let frames = face.reconstruction.render_frames(&frames, usize::from(animation.size))?;
            animation.write(frames, &path)
        };
        let mut first = None;
        let summary = job.each_face(console, write, |file| first = first.take().or(file))?;
        summary.conclude(job.folder, first, console)
    })
}

/// The light of each frame.
fn lights(options: &Options, console: &Console) -> anyhow::Result<Vec<Lighting>> {
    let count = usize::from(options.animation.frames);
    if let Some(path) = &options.environment {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let image = Image::decode(&bytes).map_err(|reason| anyhow!("{}: {reason}", path.display()))?;
        let (width, height) = (image.width, image.height);
        if width.abs_diff(2 * height) > height / 50 {
            console.warning(format_args!(
                "{}: {width}x{height} pixels, and a panorama is twice as wide as high; it is stretched to 360 by 180 degrees",
                path.display()
            ));
        }
        let environment = Environment::from_panorama(&image);
        let turned = |degrees: f32| Lighting::from(environment.clone().turned(degrees));
        return Ok(match options.environment_angle {
            Some(angle) => vec![turned(angle)],
            None => (0..count).map(|number| turned(360.0 * number as f32 / count as f32)).collect(),
        });
    }
    let strength =
        |light: Light| Light { ambient: options.ambient, diffuse: options.diffuse, ..light }.into();
    Ok(match (options.light_azimuth, options.light_elevation) {
        (None, None) => options.path.lights(options.angle, count).map(strength).collect(),
        (azimuth, elevation) => {
            vec![strength(Light::from_angles(azimuth.unwrap_or(0.0), elevation.unwrap_or(0.0)))]
        }
    })
}
