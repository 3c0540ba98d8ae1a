//! Where an object is, from its silhouettes alone.

use relievo_mesh::stage::CalibratedCamera;
use relievo_tensor::Tensor;

use crate::FitError;

/// The centre and the radius of a sphere that is about where the object is and about as large: the point nearest to the
/// rays through the middles of all silhouettes `[H, W]`, and the radius of discs of their areas. Distortion is left out of
/// account. From a single view the distance is not known, and taken for that of the world's origin.
///
/// # Errors
/// If there is no view, or a silhouette is empty, not two-dimensional or not of its camera's size.
pub fn enclosing_sphere(views: &[(CalibratedCamera, Tensor)]) -> Result<([f64; 3], f64), FitError> {
    let discs =
        views.iter().enumerate().map(|(number, (camera, silhouette))| disc(number, camera, silhouette));
    let discs = discs.collect::<Result<Vec<Disc>, FitError>>()?;
    let Some(first) = discs.first() else {
        return Err(FitError::Input("there is no silhouette; give at least one".into()));
    };
    // The sum of I - d d^T over rays, and of that times their origins.
    let (mut matrix, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for Disc { eye, direction, .. } in &discs {
        for i in 0..3 {
            for j in 0..3 {
                let entry = f64::from(u8::from(i == j)) - direction[i] * direction[j];
                matrix[i][j] += entry;
                right[i] += entry * eye[j];
            }
        }
    }
    let centre = solve(matrix, right).unwrap_or_else(|| {
        let along = -dot(first.eye, first.direction);
        std::array::from_fn(|axis| first.eye[axis] + along * first.direction[axis])
    });
    let radius = |disc: &Disc| {
        let from: [f64; 3] = std::array::from_fn(|axis| centre[axis] - disc.eye[axis]);
        dot(from, disc.direction).abs() * disc.tangent
    };
    let mut radii: Vec<f64> = discs.iter().map(radius).collect();
    radii.sort_by(f64::total_cmp);
    Ok((centre, radii[radii.len() / 2].max(1e-9)))
}

/// A silhouette as a disc: the ray through its middle, and the tangent of the angle of its radius.
struct Disc {
    eye: [f64; 3],
    direction: [f64; 3],
    tangent: f64,
}

fn disc(number: usize, camera: &CalibratedCamera, silhouette: &Tensor) -> Result<Disc, FitError> {
    let [height, width] = silhouette.dims("enclosing_sphere")?;
    if [width, height] != camera.size {
        return Err(FitError::Input(format!(
            "silhouette {number}, counted from 0, has {width}x{height} pixels, and its camera is for {}x{}",
            camera.size[0], camera.size[1]
        )));
    }
    let (mut area, mut sums) = (0.0, [0.0; 2]);
    for (at, share) in silhouette.data().iter().enumerate() {
        let share = f64::from(*share);
        area += share;
        sums[0] += share * (at % width) as f64;
        sums[1] += share * (at / width) as f64;
    }
    if area <= 0.0 {
        return Err(FitError::Input(format!("silhouette {number}, counted from 0, is empty")));
    }
    let [[fx, skew, cx], [_, fy, cy], _] = camera.matrix;
    let y = (sums[1] / area - cy) / fy;
    let x = (sums[0] / area - cx - skew * y) / fx;
    let rotation = camera.rotation;
    let to_world = |v: [f64; 3]| -> [f64; 3] {
        std::array::from_fn(|axis| (0..3).map(|row| rotation[row][axis] * v[row]).sum())
    };
    let length = (x * x + y * y + 1.0).sqrt();
    let direction = to_world([x, y, 1.0].map(|value| value / length));
    let eye = to_world(camera.translation).map(|value| -value);
    Ok(Disc { eye, direction, tangent: (area / std::f64::consts::PI / (fx * fy).abs()).sqrt() })
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Cramer's rule; `None` if rays are all parallel.
fn solve(matrix: [[f64; 3]; 3], right: [f64; 3]) -> Option<[f64; 3]> {
    let determinant = |[a, b, c]: [[f64; 3]; 3]| {
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
    };
    let whole = determinant(matrix);
    let replaced = |column: usize| {
        let mut matrix = matrix;
        (0..3).for_each(|row| matrix[row][column] = right[row]);
        determinant(matrix) / whole
    };
    (whole.abs() > 1e-6).then(|| std::array::from_fn(replaced))
}

#[cfg(test)]
mod tests {
    use relievo_mesh::shapes;
    use relievo_mesh::stage::{Light, Look, Orbit, Shot, Stage, Wanted};

    use super::*;

    #[test]
    fn a_sphere_is_found_where_it_is() {
        let mut mesh = shapes::icosphere(3);
        let centre = [7.0, -2.0, 30.0];
        for vertex in &mut mesh.vertices {
            *vertex = std::array::from_fn(|axis| 2.5 * vertex[axis] + centre[axis]);
        }
        let stage = Stage::new(&mesh, &Look::default()).unwrap();
        let shot = Shot { width: 96, height: 64, samples: 2 };
        let view = |azimuth: f64| {
            let orbit =
                Orbit { azimuth, target: Some([7.5, -2.0, 30.0]), distance: Some(20.0), ..Orbit::default() };
            let wanted = Wanted { silhouette: true, ..Wanted::default() };
            let shown = stage.shoot(&orbit, shot, Light::default(), wanted).unwrap();
            (stage.calibrated(&orbit, [96, 64]).unwrap(), Tensor::new(&shown.alpha, [64, 96]).unwrap())
        };
        let (found, radius) = enclosing_sphere(&[view(0.0), view(80.0), view(200.0)]).unwrap();
        let far: f64 = found.iter().zip(centre).map(|(a, b)| (a - f64::from(b)).abs()).sum();
        assert!(far < 0.1 && (radius - 2.5).abs() < 0.1, "{found:?} {radius}");
        assert!(enclosing_sphere(&[]).is_err());
        let (camera, _) = view(0.0);
        assert!(enclosing_sphere(&[(camera.clone(), Tensor::zeros([64, 96]))]).is_err());
        assert!(enclosing_sphere(&[(camera, Tensor::zeros([6, 9]))]).is_err());
    }
}
