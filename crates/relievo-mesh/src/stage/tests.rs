use super::*;
use crate::shapes;

const SHOT: Shot = Shot { width: 60, height: 40, samples: 2 };

/// A flag on a pole: not the same as its mirror image.
fn flag() -> Mesh {
    Mesh::new(
        vec![
            [0.0, -1.0, 0.0],
            [0.1, -1.0, 0.0],
            [0.1, 1.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.9, 0.7, 0.0],
            [0.1, 0.4, 0.0],
        ],
        vec![[0, 1, 2], [0, 2, 3], [5, 4, 2]],
    )
}

fn all() -> Wanted {
    Wanted { colour: true, silhouette: true, depth: true, normals: true, faces: true }
}

#[test]
fn right_handed_meshes_are_not_mirrored() {
    let stage = Stage::new(&flag(), &Look::default()).unwrap();
    let orbit = Orbit { azimuth: 0.0, elevation: 0.0, ..Orbit::default() };
    let shown = stage.shoot(&orbit, SHOT, Light::default(), all()).unwrap();
    // The cloth is at +x and +y of the pole's middle.
    let [right, down] = of_cloth(&shown);
    assert!(right > 5.0 && down < -5.0, "{right} {down}");
    // From behind it is at the left.
    let shown = stage.shoot(&Orbit { azimuth: 180.0, ..orbit }, SHOT, Light::default(), all()).unwrap();
    let [right, down] = of_cloth(&shown);
    assert!(right < -5.0 && down < -5.0, "{right} {down}");
    // From +x, what is at -z is to the right; from above, what is at -z is up.
    let mut turned = flag();
    turned.vertices.iter_mut().for_each(|vertex| *vertex = [0.0, vertex[1], -vertex[0]]);
    let stage = Stage::new(&turned, &Look::default()).unwrap();
    let shown = stage.shoot(&Orbit { azimuth: 90.0, ..orbit }, SHOT, Light::default(), all()).unwrap();
    assert!(of_cloth(&shown)[0] > 5.0);
    turned.vertices.iter_mut().for_each(|vertex| *vertex = [vertex[1], 0.0, vertex[2]]);
    let stage = Stage::new(&turned, &Look::default()).unwrap();
    let shown = stage.shoot(&Orbit { elevation: 90.0, ..orbit }, SHOT, Light::default(), all()).unwrap();
    let [right, down] = of_cloth(&shown);
    assert!(right > 5.0 && down < -5.0, "{right} {down}");
}

/// From the middle of the pole to that of the cloth, in pixels to the right and down.
fn of_cloth(shown: &Shown) -> [f64; 2] {
    let middle = |of: fn(u32) -> bool| {
        let pixels: Vec<usize> =
            (0..shown.faces.len()).filter(|at| shown.faces[*at].is_some_and(of)).collect();
        let mean = |place: &dyn Fn(usize) -> usize| {
            pixels.iter().map(|at| place(*at) as f64).sum::<f64>() / pixels.len() as f64
        };
        [mean(&|at| at % shown.width), mean(&|at| at / shown.width)]
    };
    let (pole, cloth) = (middle(|face| face < 2), middle(|face| face == 2));
    [cloth[0] - pole[0], cloth[1] - pole[1]]
}

#[test]
fn meshes_of_any_place_and_size_fill_the_frame() {
    for (scale, shift) in [(1.0f32, 0.0f32), (1e-20, 0.0), (1e20, 0.0), (3.0, 1e4)] {
        let mut mesh = shapes::cube();
        mesh.vertices.as_flattened_mut().iter_mut().for_each(|value| *value = *value * scale + shift);
        let stage = Stage::new(&mesh, &Look::default()).unwrap();
        for (width, height) in [(60, 40), (40, 60), (30, 200)] {
            let shot = Shot { width, height, samples: 2 };
            for azimuth in [0.0, 33.0] {
                let orbit = Orbit { azimuth, ..Orbit::default() };
                let shown = stage.shoot(&orbit, shot, Light::default(), all()).unwrap();
                let seen = |at: &usize| shown.alpha[*at] > 0.0;
                let columns = (0..width * height).filter(seen).map(|at| at % width);
                let rows = (0..width * height).filter(seen).map(|at| at / width);
                let span = |list: Vec<usize>| [*list.iter().min().unwrap(), *list.iter().max().unwrap()];
                let [[left, right], [top, bottom]] = [span(columns.collect()), span(rows.collect())];
                let filled =
                    ((right - left + 1) as f64 / width as f64).max((bottom - top + 1) as f64 / height as f64);
                assert!((0.8..0.97).contains(&filled), "{scale} {width}x{height}: {filled}");
            }
        }
    }
}

#[test]
fn depths_and_normals_are_those_of_the_surface() {
    let mut mesh = shapes::uv_sphere(96, 48);
    mesh.vertices.as_flattened_mut().iter_mut().for_each(|value| *value = *value * 5.0 + 100.0);
    let stage = Stage::new(&mesh, &Look::default()).unwrap();
    let orbit = Orbit { distance: Some(30.0), ..Orbit::default() };
    let shot = Shot { width: 65, height: 65, samples: 1 };
    let shown = stage.shoot(&orbit, shot, Light::default(), all()).unwrap();
    let centre = 32 * 65 + 32;
    assert!((shown.depth[centre] - 25.0).abs() < 0.02, "{}", shown.depth[centre]);
    let [x, y, z] = shown.normals.as_chunks::<3>().0[centre];
    assert!(x.abs() < 0.01 && y.abs() < 0.01 && (z - 1.0).abs() < 1e-3);
    // relievo's sign: to the right of the middle, the outward normal has +x, the stored one -x.
    let [x, y, _] = shown.normals.as_chunks::<3>().0[centre + 8];
    assert!(x < -0.3 && y.abs() < 0.02, "{x} {y}");
    assert!(shown.depth[0].is_nan() && shown.faces[0].is_none() && shown.alpha[0] == 0.0);
    let covered = shown.depth.iter().filter(|depth| depth.is_finite()).count() as f64;
    // The outline of the sphere at distance 6 radii: tan(asin(1/6)) of tan(15 degrees).
    let radius = (1.0f64 / 6.0).asin().tan() / 15f64.to_radians().tan() * 32.5;
    assert!((covered / (std::f64::consts::PI * radius * radius) - 1.0).abs() < 0.02, "{covered}");
}

#[test]
fn a_calibrated_camera_sees_what_an_orbit_sees() {
    let stage = Stage::new(&shapes::teapot(4), &Look::default()).unwrap();
    let orbit = Orbit {
        azimuth: 20.0,
        elevation: 10.0,
        distance: Some(12.0),
        target: Some([0.5, 1.0, 0.2]),
        ..Orbit::default()
    };
    let expected = stage.shoot(&orbit, SHOT, Light::default(), all()).unwrap();
    for size in [[60, 40], [120, 80]] {
        let camera = stage.calibrated(&orbit, size).unwrap();
        let shown = stage.shoot_calibrated(&camera, SHOT, Light::default(), all()).unwrap();
        // The point that it looks at is in the middle, at its distance.
        let seen: [f64; 3] =
            std::array::from_fn(|i| dot(camera.rotation[i], [0.5, 1.0, 0.2]) + camera.translation[i]);
        assert!(seen[0].abs() < 1e-9 && seen[1].abs() < 1e-9 && (seen[2] - 12.0).abs() < 1e-9);
        let same = shown.faces.iter().zip(&expected.faces).filter(|(a, b)| a == b).count();
        assert!(same >= 60 * 40 - 8, "{same}");
        let far =
            shown.over([1.0; 3]).iter().zip(expected.over([1.0; 3])).map(|(a, b)| (a - b).abs()).sum::<f32>();
        assert!(far < 5.0, "{far}");
    }
}

#[test]
fn windows_make_one_image() {
    let stage = Stage::new(&shapes::teapot(3), &Look::default()).unwrap();
    // A window has 1,024 x 16 pixels of 16 x 16 samples.
    let shot = Shot { width: 1100, height: 40, samples: 16 };
    let whole =
        stage.shoot(&Orbit::default(), shot, Light::default(), Wanted { colour: true, ..Wanted::default() });
    let coarse = stage.shoot(
        &Orbit::default(),
        Shot { samples: 2, ..shot },
        Light::default(),
        Wanted { colour: true, ..Wanted::default() },
    );
    let (whole, coarse) = (whole.unwrap(), coarse.unwrap());
    let mean = |shown: &Shown| shown.alpha.iter().map(|alpha| f64::from(*alpha)).sum::<f64>();
    assert!((mean(&whole) / mean(&coarse) - 1.0).abs() < 1e-3);
    let off = whole.alpha.iter().zip(&coarse.alpha).filter(|(a, b)| (*a - *b).abs() > 0.6).count();
    assert!(off < 20, "{off}");
}

#[test]
fn what_cannot_be_shown_says_why() {
    let message = |mesh: &Mesh| Stage::new(mesh, &Look::default()).unwrap_err().to_string();
    assert!(message(&Mesh::default()).contains("0 vertices and no faces"));
    assert!(message(&Mesh::new(vec![[f32::NAN; 3]; 3], vec![[0, 1, 2]])).contains("none of the 1 faces"));
    assert!(message(&Mesh::new(vec![[0.0; 3]; 3], vec![[0, 1, 9]])).contains("vertex 9"));
    let mut partly = flag();
    partly.vertices[4][1] = f32::INFINITY;
    let stage = Stage::new(&partly, &Look::default()).unwrap();
    assert_eq!(stage.left_out(), 1);
    let message = |orbit: Orbit, shot: Shot, light: Light| {
        stage.shoot(&orbit, shot, light, all()).unwrap_err().to_string()
    };
    let (orbit, light) = (Orbit::default(), Light::default());
    assert!(
        message(Orbit { field_of_view: 180.0, ..orbit }, SHOT, light)
            .contains("field of view must be above 0")
    );
    assert!(
        message(Orbit { distance: Some(0.0), ..orbit }, SHOT, light)
            .contains("distance of the camera must be above 0")
    );
    assert!(message(Orbit { azimuth: f64::NAN, ..orbit }, SHOT, light).contains("azimuth"));
    assert!(message(orbit, Shot { width: 20_000, ..SHOT }, light).contains("1 to 16384 pixels"));
    assert!(message(orbit, SHOT, Light { ambient: 2.0, ..light }).contains("from 0 to 1"));
    // A camera inside the mesh, and one that looks away: images, no errors.
    let cube = Stage::new(&shapes::cube(), &Look::default()).unwrap();
    let inside = cube.shoot(&Orbit { distance: Some(0.1), ..orbit }, SHOT, light, all()).unwrap();
    let holes = inside.alpha.iter().filter(|alpha| **alpha < 1.0).count();
    let deep = inside.depth.iter().filter(|depth| !depth.is_finite()).count();
    assert!(holes + deep == 0, "{holes} {deep} {:?}", inside.alpha);
    let away = cube.shoot(
        &Orbit { distance: Some(0.1), target: Some([0.0, 0.0, 90.0]), azimuth: 180.0, ..orbit },
        SHOT,
        light,
        all(),
    );
    let _ = away.unwrap();
}

#[test]
fn colours_of_files_are_shown_or_left_out() {
    let mut mesh = shapes::cube();
    mesh.vertex_colours = Some(vec![[1.0, 0.0, 0.0]; 8]);
    for (textured, crease_angle) in [(true, 40.0), (true, 0.0), (false, 40.0)] {
        let look = Look { textured, colour: [0.0, 0.0, 1.0], crease_angle };
        let stage = Stage::new(&mesh, &look).unwrap();
        let shown = stage.shoot(&Orbit::default(), SHOT, Light::default(), all()).unwrap();
        let [red, _, blue] = shown.colour.as_chunks::<3>().0[20 * 60 + 30];
        assert_eq!((red > 0.1, blue > 0.1), (textured, !textured));
    }
}
