//! Light that is put on an object: from one direction, or from all around as an image of the surroundings shows it.

use std::f32::consts::PI;

use relievo_data::{Image, Light};

/// What lights an object. `From` takes a [`Light`] or an [`Environment`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Lighting {
    /// From one direction, and a share from everywhere.
    Directional(Light),
    /// From all around.
    Environment(Environment),
}

impl From<Light> for Lighting {
    fn from(light: Light) -> Self {
        Self::Directional(light)
    }
}

impl From<Environment> for Lighting {
    fn from(environment: Environment) -> Self {
        Self::Environment(environment)
    }
}

impl Lighting {
    /// The factors for red, green and blue of a colour under this light, for a normal as the maps have them.
    pub(crate) fn on(&self, normal: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Directional(Light { ambient, diffuse, direction }) => {
                let facing: f32 = normal.iter().zip(direction).map(|(n, d)| n * d).sum();
                [ambient + diffuse * facing.max(0.0); 3]
            }
            // Normals of maps point into the object, in a frame with y down and z away from the viewer.
            Self::Environment(environment) => environment.on([-normal[0], normal[1], normal[2]]),
        }
    }
}

/// Light from all around, of matt surfaces: nine numbers for each colour (spherical harmonics up to the second degree).
///
/// A matt surface averages half of what surrounds it, so these nine tell its light within a few percent. Source:
/// Ramamoorthi and Hanrahan, *An Efficient Representation for Irradiance Environment Maps*, SIGGRAPH 2001.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// Linear light that a matt surface sends back, over that of the brightest side.
    coefficients: [[f32; 3]; 9],
    /// Radians by which the surroundings are turned about the vertical axis.
    turned: f32,
}

impl Environment {
    /// Of an image of the surroundings, a panorama of 360 by 180 degrees (equirectangular, sRGB): as it is seen from the
    /// object, in its middle what lies in the viewer's direction. Light is measured by the side that gets most of it, on
    /// which the object has its albedo's brightness.
    pub fn from_panorama(image: &Image) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        // By a table: an image has millions of values.
        let linear: Vec<f32> =
            (0..=255).map(|byte| linear_from_srgb(f32::from(byte as u8) / 255.0)).collect();
        let mut coefficients = [[0.0_f64; 3]; 9];
        for (row, pixels) in image.pixels.chunks_exact((3 * width).max(1)).enumerate() {
            let elevation = PI * (0.5 - (row as f32 + 0.5) / height as f32);
            let (up, level) = elevation.sin_cos();
            for (column, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
                let azimuth = 2.0 * PI * ((column as f32 + 0.5) / width as f32 - 0.5);
                // The image's right is on the left of a viewer who looks at the object.
                let basis = harmonics([-azimuth.sin() * level, up, azimuth.cos() * level]);
                for (sums, basis) in coefficients.iter_mut().zip(basis) {
                    for (sum, byte) in sums.iter_mut().zip(pixel) {
                        *sum += f64::from(basis * level * linear[usize::from(*byte)]);
                    }
                }
            }
        }
        // The solid angle of a pixel over its `level`; then what a matt surface makes of each degree.
        let angle = 2.0 * f64::from(PI * PI) / (width * height).max(1) as f64;
        let share = |number: usize| match number {
            0 => 1.0,
            1..=3 => 2.0 / 3.0,
            _ => 0.25,
        };
        let mut number = 0;
        let coefficients = coefficients.map(|sums| {
            let scaled = sums.map(|sum| (sum * angle * share(number)) as f32);
            number += 1;
            scaled
        });
        let mut environment = Self { coefficients, turned: 0.0 };
        let brightest =
            directions().map(|direction| luminance(environment.linear(direction))).fold(0.0, f32::max);
        if brightest > 0.0 {
            environment.coefficients.iter_mut().flatten().for_each(|value| *value /= brightest);
        }
        environment
    }

    /// The same surroundings turned about the vertical axis: what was in front is to the viewer's right after 90 degrees.
    #[must_use]
    pub fn turned(self, degrees: f32) -> Self {
        Self { turned: self.turned + degrees.to_radians(), ..self }
    }

    /// The factors for a normal: x to the viewer's right, y up, z towards the viewer.
    fn on(&self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let (sine, cosine) = self.turned.sin_cos();
        let linear = self.linear([cosine * x - sine * z, y, sine * x + cosine * z]);
        // Colours of photographs are not linear, and the factor is one for those.
        linear.map(|value| value.max(0.0).powf(1.0 / 2.2))
    }

    fn linear(&self, normal: [f32; 3]) -> [f32; 3] {
        let basis = harmonics(normal);
        std::array::from_fn(|channel| {
            self.coefficients.iter().zip(basis).map(|(colour, basis)| colour[channel] * basis).sum()
        })
    }
}

/// The real spherical harmonics up to the second degree.
fn harmonics([x, y, z]: [f32; 3]) -> [f32; 9] {
    [
        0.282_095,
        0.488_603 * y,
        0.488_603 * z,
        0.488_603 * x,
        1.092_548 * x * y,
        1.092_548 * y * z,
        0.315_392 * (3.0 * z * z - 1.0),
        1.092_548 * x * z,
        0.546_274 * (x * x - y * y),
    ]
}

/// Directions all around: to the corners, edges and sides of a cube.
fn directions() -> impl Iterator<Item = [f32; 3]> {
    (0..27).filter(|number| *number != 13).map(|number| {
        let v = [number % 3, number / 3 % 3, number / 9].map(|place| place as f32 - 1.0);
        let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
        v.map(|x| x / length)
    })
}

fn luminance([red, green, blue]: [f32; 3]) -> f32 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn linear_from_srgb(value: f32) -> f32 {
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panorama of 64x32 pixels.
    fn panorama(colour: impl Fn(u32, u32) -> [u8; 3]) -> Image {
        let (width, height) = (64, 32);
        let pixels = (0..width * height).flat_map(|at| colour(at / width, at % width)).collect();
        Image { width, height, pixels }
    }

    /// Toward the viewer, to the viewer's right, up: outward normals in the frame of maps.
    const FRONT: [f32; 3] = [0.0, 0.0, 1.0];
    const RIGHT: [f32; 3] = [-1.0, 0.0, 0.0];
    const LEFT: [f32; 3] = [1.0, 0.0, 0.0];
    const UP: [f32; 3] = [0.0, 1.0, 0.0];
    const DOWN: [f32; 3] = [0.0, -1.0, 0.0];

    #[test]
    fn surroundings_of_one_colour_light_all_sides_alike() {
        let lighting = Lighting::from(Environment::from_panorama(&panorama(|_, _| [120; 3])));
        for normal in [FRONT, RIGHT, LEFT, UP, DOWN] {
            assert!(
                lighting.on(normal).iter().all(|value| (value - 1.0).abs() < 0.01),
                "{:?}",
                lighting.on(normal)
            );
        }
    }

    #[test]
    fn light_comes_from_where_the_panorama_is_bright() {
        let sky =
            Environment::from_panorama(&panorama(|row, _| if row < 16 { [200, 220, 255] } else { [20; 3] }));
        let [up, down] = [UP, DOWN].map(|normal| Lighting::from(sky.clone()).on(normal));
        assert!(up[1] > 2.0 * down[1] && up[2] > up[0], "{up:?} {down:?}");
        // A lamp in the right half of the panorama is on the viewer's left; turned by 90 degrees it is in front or behind.
        let lamp =
            Environment::from_panorama(&panorama(
                |_, column| if (44..52).contains(&column) { [255; 3] } else { [0; 3] },
            ));
        let side = |environment: &Environment, normal| Lighting::from(environment.clone()).on(normal)[0];
        assert!(side(&lamp, LEFT) > 0.95 && side(&lamp, RIGHT) < 0.4);
        assert!(side(&lamp.clone().turned(90.0), FRONT) > 0.95);
        assert!(side(&lamp.turned(180.0), RIGHT) > 0.95);
    }

    #[test]
    fn a_directional_light_is_that_of_the_model() {
        let light = Light { ambient: 0.3, diffuse: 0.5, direction: [0.6, 0.0, 0.8] };
        assert_eq!(Lighting::from(light).on(FRONT), [0.3 + 0.5 * 0.8; 3]);
        assert_eq!(Lighting::from(light).on([-1.0, 0.0, 0.0]), [0.3; 3]);
    }
}
