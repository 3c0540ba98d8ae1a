//! What commands on meshes share: the mesh that an argument names, sizes, colours, points.

use std::path::Path;

use anyhow::Context;
use relievo_mesh::stage::{LONGEST, Light, Look, Stage};
use relievo_mesh::{Mesh, shapes};

use crate::console::{Console, counted};

/// Names Newell's teapot, which comes with the program.
pub const TEAPOT: &str = "teapot";

/// The mesh that an argument names: a file, or the teapot.
pub fn open(path: &Path) -> anyhow::Result<Mesh> {
    if path == Path::new(TEAPOT) && !path.exists() {
        return Ok(shapes::teapot(24));
    }
    Ok(Mesh::open(path)?)
}

/// The mesh on a stage; says so where faces are left out.
pub fn stage(mesh: &Mesh, path: &Path, look: &Look, console: &Console) -> anyhow::Result<Stage> {
    let stage = Stage::new(mesh, look).with_context(|| path.display().to_string())?;
    if stage.left_out() > 0 {
        let faces = counted(stage.left_out() as u64, "face");
        console
            .warning(format_args!("{}: {faces} with a vertex that is not finite left out", path.display()));
    }
    Ok(stage)
}

/// The name of results: the mesh's file without folder and extension.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Width and height from `640x480` or, for squares, `512`.
pub fn size(text: &str) -> Result<[usize; 2], String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=LONGEST).contains(side));
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    match (side(width), side(height)) {
        (Some(width), Some(height)) => Ok([width, height]),
        _ => Err(format!("a size is a number of pixels from 1 to {LONGEST}, or two: 640x480")),
    }
}

/// A colour, sRGB in 0..=1, from a name or `#rrggbb`.
pub fn colour(text: &str) -> Result<[f32; 3], String> {
    let of_hex = |hex: &str| {
        let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (hex.len() == 6 && hex.is_ascii()).then(|| Some([byte(0)?, byte(2)?, byte(4)?]))?
    };
    let bytes = match text {
        "white" => Some([255; 3]),
        "grey" | "gray" => Some([128; 3]),
        "black" => Some([0; 3]),
        _ => of_hex(text.trim_start_matches('#')),
    };
    let bytes = bytes.ok_or("a colour is white, grey, black, or six digits as in #ff8000")?;
    Ok(bytes.map(|byte| f32::from(byte) / 255.0))
}

/// An angle in degrees, at most once around.
pub fn angle(text: &str) -> Result<f32, String> {
    let angle = text.parse().ok().filter(|angle| (-360.0..=360.0).contains(angle));
    angle.ok_or_else(|| "an angle is a number of degrees from -360 to 360".into())
}

/// A point from `X,Y,Z`.
pub fn point(text: &str) -> Result<[f64; 3], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    let point = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
    point
        .filter(|point| point.iter().all(|x| x.is_finite()))
        .ok_or("a point is three numbers: 0,1.5,0".into())
}

/// How a mesh looks.
#[derive(Clone, Debug, clap::Args)]
pub struct LookOptions {
    /// Show the shape alone, without textures, vertex colours and materials
    #[arg(long, help_heading = "Look")]
    no_texture: bool,
    /// Colour of faces without one: white, grey, black or #rrggbb
    #[arg(long, value_name = "COLOUR", default_value = "#d9d4cc", value_parser = colour, help_heading = "Look")]
    colour: [f32; 3],
    /// Faces that meet at less than this angle are lit as one curved surface; 0 shows every face flat
    #[arg(long, value_name = "DEGREES", default_value_t = 40.0, help_heading = "Look")]
    crease_angle: f64,
    /// Where the light is: 0 is at the camera, 90 to the right of it
    #[arg(long, value_name = "DEGREES", default_value_t = Light::default().azimuth, help_heading = "Look")]
    light_azimuth: f64,
    /// How far the light is above the camera
    #[arg(long, value_name = "DEGREES", default_value_t = Light::default().elevation, help_heading = "Look")]
    light_elevation: f64,
    /// Share of the light that comes from everywhere, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = Light::default().ambient, help_heading = "Look")]
    ambient: f64,
}

impl LookOptions {
    pub fn look(&self) -> Look {
        Look { textured: !self.no_texture, colour: self.colour, crease_angle: self.crease_angle }
    }

    pub fn light(&self) -> Light {
        Light { azimuth: self.light_azimuth, elevation: self.light_elevation, ambient: self.ambient }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_colours_and_points_are_read() {
        assert_eq!((size("512"), size("640x480")), (Ok([512; 2]), Ok([640, 480])));
        assert!(["", "0", "x", "5x", "20000", "1x2x3", "-4"].iter().all(|text| size(text).is_err()));
        assert_eq!((colour("white"), colour("#ff0000")), (Ok([1.0; 3]), Ok([1.0, 0.0, 0.0])));
        assert!(["", "#ff", "#gggggg", "red", "#ä1ä1"].iter().all(|text| colour(text).is_err()));
        assert_eq!(point("1,-2.5, 3e1"), Ok([1.0, -2.5, 30.0]));
        assert!(["", "1,2", "1,2,x", "1,2,inf"].iter().all(|text| point(text).is_err()));
    }
}
