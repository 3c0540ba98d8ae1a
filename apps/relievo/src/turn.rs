//! `relievo turn`: a face seen from all sides, as an animation.

use clap::Args;
use relievo::{CameraPath, Lighting};

use crate::animations::AnimationOptions;
use crate::console::Console;
use crate::faces::{ComputingOptions, Face, FaceOptions};
use crate::meshes;

/// Turn the faces of photographs, as animations
///
/// Each face is reconstructed as `relievo reconstruct` does it and rendered from
/// a camera that moves around it, in the photograph's own pixels and light.
/// Without -o, the animation of NAME.jpg is NAME.relievo/NAME.turn.gif; with
/// --format frames, NAME.turn-00.png and so on.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(flatten)]
    faces: FaceOptions,
    /// How the camera moves
    #[arg(long, value_enum, default_value_t)]
    path: CameraPath,
    /// How far it goes from the front
    #[arg(long, value_name = "DEGREES", default_value_t = 50.0, value_parser = meshes::angle)]
    angle: f32,
    #[command(flatten)]
    animation: AnimationOptions,
    #[command(flatten)]
    computing: ComputingOptions,
}

/// What the results are called, behind the image's name.
const NAME: &str = "turn";

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let Options { animation, .. } = options;
    let _memory = animation.check(usize::from(animation.frames))?;
    options.faces.with_job(&options.computing, &AnimationOptions::endings(NAME), &[], console, |job| {
        let write = |face: &Face| {
            let lighting = Lighting::from(face.reconstruction.light());
            let cameras = options.path.cameras(options.angle, usize::from(animation.frames));
            let frames: Vec<_> =
                cameras.map(|camera| (camera.on(animation.background()), lighting.clone())).collect();
            let frames = face.reconstruction.render_frames(&frames, usize::from(animation.size))?;
            animation.write(frames, &job.folder.path().join(format!("{}.{NAME}", face.stem)))
        };
        let mut first = None;
        let summary = job.each_face(console, write, |file| first = first.take().or(file))?;
        summary.conclude(job.folder, first, console)
    })
}
