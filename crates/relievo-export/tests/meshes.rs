//! Meshes as other people's programs read them: Khronos's validator (`npm install gltf-validator`, found through
//! `NODE_PATH` or in a `node_modules` above the folder of the test) and trimesh (`pip install trimesh scipy pillow`, in
//! the `python3` of the path). Where one is missing, its test is skipped, unless `RELIEVO_REQUIRE` has `meshes`.

use std::path::Path;
use std::process::Command;

use relievo_export::{Canvas, Lighting, SurfaceMesh};
use relievo_require::{Requirement, skip};

const SIZE: usize = 64;

/// Prints errors, warnings, notes and hints.
const VALIDATE: &str = "const v = require('gltf-validator'), fs = require('fs');
v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(r => console.log(
    r.issues.numErrors, r.issues.numWarnings, r.issues.numInfos, r.issues.numHints,
    r.issues.messages.map(m => m.code + ' ' + m.pointer).join(', ')));";

/// Prints corners, triangles, pieces, whether windings agree with each other, the share of the triangles that agree
/// with the normals, bounds, and the size of the texture.
const LOAD: &str = "
import sys, numpy, trimesh
mesh = trimesh.load(sys.argv[1], force='mesh', process=False, maintain_order=True)
a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
faces = numpy.cross(b - a, c - a)
agree = ((faces * mesh.vertex_normals[mesh.faces].mean(1)).sum(1) > 0).mean()
material = mesh.visual.material
texture = getattr(material, 'baseColorTexture', None) or getattr(material, 'image', None)
print(len(mesh.vertices), len(mesh.faces), mesh.body_count, mesh.is_winding_consistent, agree, *texture.size,
      *mesh.bounds.round(5).ravel())";

/// A bump with a round outline.
fn mesh() -> SurfaceMesh {
    let point = |at: usize| {
        let [x, y] = [at % SIZE, at / SIZE].map(|place| place as f32 / 31.5 - 1.0);
        let depth = 0.95 + 0.1 * (x * x + y * y);
        ([0.0875 * x * depth, 0.0875 * y * depth, depth], 1.02 - depth)
    };
    let (points, level): (Vec<_>, Vec<_>) = (0..SIZE * SIZE).map(point).unzip();
    SurfaceMesh::from_grid(&points, &level, SIZE, 3).unwrap()
}

fn texture() -> Canvas {
    Canvas::from_unit(&(0..128 * 128 * 3).map(|at| (at % 97) as f32 / 97.0).collect::<Vec<_>>(), 128)
}

/// What a program prints, or `None` if it or its library is missing.
fn output(program: &str, arguments: [&str; 2], library: &str, path: &Path) -> Option<String> {
    let [option, import] = arguments;
    let probe = Command::new(program).args([option, import]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        skip(Requirement::Meshes, &format!("{program} with {library} is not installed"));
        return None;
    }
    let script = if program == "node" { VALIDATE } else { LOAD };
    let output = Command::new(program).args([option, script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn khronoss_validator_has_nothing_to_say() {
    let folder = tempfile::tempdir().unwrap();
    for lighting in [Lighting::Viewer, Lighting::InTexture] {
        let path = folder.path().join("a face.glb");
        mesh().write_glb(&path, "a face", &texture(), lighting).unwrap();
        let Some(issues) = output("node", ["-e", "require('gltf-validator')"], "gltf-validator", &path)
        else {
            return;
        };
        assert_eq!(issues, "0 0 0 0");
    }
}

#[test]
fn trimesh_reads_the_same_from_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let [glb, obj] = ["a face.glb", "a face.obj"].map(|name| folder.path().join(name));
    let mesh = mesh();
    mesh.write_glb(&glb, "a face", &texture(), Lighting::Viewer).unwrap();
    mesh.write_obj(&obj, &texture()).unwrap();
    for path in [glb, obj] {
        let Some(text) = output("python3", ["-c", "import trimesh, scipy, PIL"], "trimesh", &path) else {
            return;
        };
        let (what, bounds) = text.split_at(text.match_indices(' ').nth(6).unwrap().0);
        let counts = format!("{} {}", mesh.positions().len(), mesh.triangles().len());
        assert_eq!(what, format!("{counts} 1 True 1.0 128 128"), "{}", path.display());
        let bounds = bounds.split_whitespace().map(|bound| bound.parse::<f32>().unwrap());
        assert!(bounds.zip(mesh.bounds().as_flattened()).all(|(a, b)| (a - b).abs() < 2e-5));
    }
}
