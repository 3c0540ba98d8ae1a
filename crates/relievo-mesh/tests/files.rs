//! Mesh files written and read back, by this crate and by others: the crate `gltf`, Khronos's validator
//! (`npm install gltf-validator`, found through `NODE_PATH`), trimesh (`pip install trimesh pillow`, in the `python3` of the
//! path). Where one of the last two is missing, its test is skipped, unless `RELIEVO_REQUIRE` has `meshes`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use relievo_mesh::files::{MeshFormat, Place, ReadError, beside};
use relievo_mesh::{Image, Material, Mesh, TextureCoordinates, Wrap, shapes};
use relievo_require::{Requirement, skip};

fn image(width: usize, height: usize) -> Arc<Image> {
    Arc::new(Image { width, height, rgb: (0..width * height * 3).map(|at| (at * 7 % 251) as u8).collect() })
}

fn material(name: &str, colour: [f32; 3], image: Option<Arc<Image>>, wrap: Wrap) -> Material {
    Material { name: name.into(), colour, image, wrap: [wrap; 2], ..Material::default() }
}

/// A cube with three materials, two with images, one side without any.
fn dressed_cube() -> Mesh {
    let wood = image(5, 3);
    let mut mesh = shapes::cube();
    mesh.name = "a \"box\"".into();
    mesh.materials = vec![
        material("wood", [1.0; 3], Some(Arc::clone(&wood)), Wrap::Repeat),
        material("red", [1.0, 0.25, 0.0], None, Wrap::Repeat),
        material("stone", [1.0; 3], Some(image(2, 2)), Wrap::ClampToEdge),
    ];
    mesh.face_materials = [None, Some(0), Some(0), Some(1), Some(2), Some(2)]
        .iter()
        .flat_map(|&material| [material; 2])
        .collect();
    mesh
}

/// What is seen of each face: positions, texture coordinates, colours of corners, material.
fn seen(mesh: &Mesh) -> Vec<(Vec<f32>, Option<Material>)> {
    mesh.check().unwrap();
    let face = |face: usize| {
        let corners = mesh.faces[face];
        let mut numbers: Vec<f32> =
            corners.iter().flat_map(|&corner| mesh.vertices[corner as usize]).collect();
        if let Some(texture) = &mesh.texture_coordinates {
            let corners = texture.faces[face].iter().flatten();
            numbers.extend(corners.flat_map(|&corner| texture.coordinates[corner as usize]));
        }
        if let Some(colours) = &mesh.vertex_colours {
            numbers.extend(corners.iter().flat_map(|&corner| colours[corner as usize]));
        }
        (numbers, mesh.material(face).cloned())
    };
    (0..mesh.faces.len()).map(face).collect()
}

fn assert_same(found: &Mesh, expected: &Mesh, tolerance: f32) {
    let (found, expected) = (seen(found), seen(expected));
    assert_eq!(found.len(), expected.len());
    for (face, ((numbers, material), (expected, wanted))) in found.iter().zip(&expected).enumerate() {
        assert_eq!(numbers.len(), expected.len());
        for (a, b) in numbers.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance, "face {face}: {numbers:?} {expected:?}");
        }
        let [a, b] = [material, wanted].map(|material| material.as_ref());
        let looks = |m: &&Material| (m.name.clone(), m.image.clone(), m.wrap);
        assert_eq!(a.as_ref().map(looks), b.as_ref().map(looks));
        let colours = a.zip(b).map(|(a, b)| (a.colour, b.colour)).unwrap_or_default();
        assert!(colours.0.iter().zip(colours.1).all(|(a, b)| (a - b).abs() <= 1e-6), "{colours:?}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = dressed_cube();
    for (name, tolerance) in [("made/for it/a cube.obj", 0.0), ("made/a cube.GLB", 1e-6)] {
        let path = folder.path().join(name);
        mesh.write(&path).unwrap();
        let read = Mesh::open(&path).unwrap();
        assert_eq!((&read.name, &read.vertices), (&mesh.name, &mesh.vertices));
        assert_same(&read, &mesh, tolerance);
    }
    let mut files: Vec<String> = std::fs::read_dir(folder.path().join("made/for it"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["a cube.mtl", "a cube.obj", "a cube.texture.1.png", "a cube.texture.png"]);
}

#[test]
fn shapes_keep_their_vertices_and_faces() {
    let folder = tempfile::tempdir().unwrap();
    let mut coloured = shapes::icosphere(1);
    coloured.vertex_colours =
        Some((0..coloured.vertices.len()).map(|at| [at as f32 / 51.0, 0.2, 1.0]).collect());
    // The teapot's handle ends in a vertex of its body.
    let mut teapot = shapes::teapot(3);
    teapot.merge_vertices();
    for (number, mesh) in [teapot, shapes::torus(2.0, 0.5, 7, 5), coloured].into_iter().enumerate() {
        for extension in ["obj", "glb", "ply"] {
            let path = folder.path().join(format!("{number}.{extension}"));
            mesh.write(&path).unwrap();
            let read = Mesh::open(&path).unwrap();
            assert_eq!((&read.vertices, &read.faces), (&mesh.vertices, &mesh.faces));
            // Eight bits in PLY; linear light in glTF.
            let tolerance = match extension {
                "obj" => 0.0,
                "glb" => 1e-6,
                _ => 0.5001 / 255.0,
            };
            let [found, expected] = [&read, &mesh].map(|mesh| mesh.vertex_colours.iter().flatten().flatten());
            assert_eq!(found.clone().count(), expected.clone().count());
            assert!(found.zip(expected).all(|(a, b)| (a - b).abs() <= tolerance));
            assert!(
                extension == "ply"
                    || read.texture_coordinates.is_some() == mesh.texture_coordinates.is_some()
            );
        }
    }
}

#[test]
fn a_colour_over_an_image_becomes_part_of_it_in_obj() {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = dressed_cube();
    mesh.materials[0].colour = [0.5, 1.0, 0.0];
    let path = folder.path().join("cube.obj");
    mesh.write(&path).unwrap();
    let read = Mesh::open(&path).unwrap();
    let wood = read.materials.iter().find(|material| material.name == "wood").unwrap();
    let expected: Vec<u8> = image(5, 3)
        .rgb
        .iter()
        .zip([0.5, 1.0, 0.0].iter().cycle())
        .map(|(&value, factor): (&u8, &f32)| (f32::from(value) * factor).round() as u8)
        .collect();
    assert_eq!((wood.colour, &wood.image.as_ref().unwrap().rgb), ([1.0; 3], &expected));
    let glb = Mesh::from_bytes(&mesh.to_glb().unwrap(), MeshFormat::Glb, &mut |_| Ok(None)).unwrap();
    assert_same(&glb, &mesh, 1e-6);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = dressed_cube();
    broken.faces[3][1] = 8;
    let mut infinite = dressed_cube();
    infinite.vertices[2][0] = f32::INFINITY;
    let cases = [
        (&broken, "a.obj", "face 3 names vertex 8, but there are 8"),
        (&broken, "a.ply", "face 3 names vertex 8"),
        (&broken, "a.glb", "face 3 names vertex 8"),
        (&infinite, "a.glb", "vertex 2 is not finite"),
        (&Mesh::default(), "a.glb", "without faces"),
        (&broken, "a.stl", "face 3 names vertex 8"),
        (&infinite, "a.off", ".obj, .glb, .ply or .stl"),
    ];
    for (mesh, name, expected) in cases {
        let error = mesh.write(folder.path().join(name)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn errors_name_the_file_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    dressed_cube().write(at("cube.obj")).unwrap();
    std::fs::write(at("cube.texture.png"), b"no image").unwrap();
    let error = Mesh::open(at("cube.obj")).unwrap_err();
    assert_eq!((error.path, error.place), (at("cube.mtl"), Place::Line(4)));
    std::fs::remove_file(at("cube.mtl")).unwrap();
    let error = Mesh::open(at("cube.obj")).unwrap_err().to_string();
    let expected = format!(
        "cannot read {}, line 1: it names \"cube.mtl\", which cannot be read",
        at("cube.obj").display()
    );
    assert!(error.starts_with(&expected), "{error}");
    // Without the material, the shape is there.
    let mut files = beside(folder.path());
    let mut lenient = |name: &str| Ok(files(name).unwrap_or(None));
    let bytes = std::fs::read(at("cube.obj")).unwrap();
    assert_eq!(Mesh::from_bytes(&bytes, MeshFormat::Obj, &mut lenient).unwrap().faces.len(), 12);
    for (name, expected) in
        [("missing.obj", "cannot read"), ("cube.texture.png", "not a mesh of a known kind")]
    {
        let error = Mesh::open(at(name)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
}

#[test]
fn images_of_all_kinds_are_decoded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for (kind, tolerance) in [("bmp", 0), ("gif", 0), ("jpg", 12), ("tga", 0), ("tif", 0), ("webp", 0)] {
        let material = format!("newmtl m\nmap_Kd picture.{kind}\n");
        let mut files = beside(&folder);
        let mut resolver = |name: &str| {
            if name == "a.mtl" { Ok(Some(material.clone().into_bytes())) } else { files(name) }
        };
        let text = b"mtllib a.mtl\nv 0 0 0\nusemtl m\nf 1 1 1\n";
        let mesh = Mesh::from_bytes(text, MeshFormat::Obj, &mut resolver).unwrap();
        let Image { width, height, ref rgb } = **mesh.materials[0].image.as_ref().unwrap();
        assert_eq!((width, height), (4, 3), "{kind}");
        let expected = (0..12).flat_map(|at| [at % 4 * 60, at / 4 * 100, 30]);
        for (found, expected) in rgb.iter().zip(expected) {
            assert!((i32::from(*found) - expected).abs() <= tolerance, "{kind}: {rgb:?}");
        }
    }
}

#[test]
fn files_are_found_by_the_paths_of_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("maps")).unwrap();
    std::fs::write(folder.path().join("maps/a.png"), b"1").unwrap();
    std::fs::write(folder.path().join("b.png"), b"2").unwrap();
    let mut files = beside(folder.path());
    for (name, content) in
        [("maps/a.png", "1"), ("maps\\a.png", "1"), ("C:\\made\\b.png", "2"), ("/made/b.png", "2")]
    {
        assert_eq!(files(name).unwrap().unwrap(), content.as_bytes());
    }
    assert!(files("maps").is_err() && files("").is_err());
}

/// A glTF document whose only buffer holds `numbers`.
fn document(json: &str, numbers: &[u8]) -> Result<Mesh, ReadError> {
    let mut resolver = |name: &str| {
        assert_eq!(name, "a b.bin");
        Ok(Some(numbers.to_vec()))
    };
    let json = json.replace(
        "BUFFERS",
        &format!("\"buffers\":[{{\"uri\":\"a%20b.bin\",\"byteLength\":{}}}]", numbers.len()),
    );
    let json = format!("{{\"asset\":{{\"version\":\"2.0\"}},{json}}}");
    Mesh::from_bytes(json.as_bytes(), MeshFormat::Gltf, &mut resolver)
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A triangle, three times: 36 bytes of positions.
const TRIANGLE: &str = "\"meshes\":[{\"primitives\":[{\"attributes\":{\"POSITION\":0}}]}],
    \"accessors\":[{\"bufferView\":0,\"componentType\":5126,\"type\":\"VEC3\",\"count\":3}],
    \"bufferViews\":[{\"buffer\":0,\"byteLength\":36}],BUFFERS";
const CORNERS: [f32; 9] = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

#[test]
fn nodes_move_turn_and_mirror_their_meshes() {
    let nodes = "\"scenes\":[{\"nodes\":[0]}],\"nodes\":[
        {\"translation\":[10,0,0],\"children\":[1,2],\"name\":\"root\"},
        {\"mesh\":0,\"name\":\"turned\",\"rotation\":[0,0,0.70710678118,0.70710678118],\"scale\":[2,2,2]},
        {\"mesh\":0,\"matrix\":[-1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,5,1]}],";
    let mesh = document(&format!("{nodes}{TRIANGLE}"), &floats(&CORNERS)).unwrap();
    assert_eq!((mesh.name.as_str(), &mesh.faces[..]), ("turned", &[[0, 1, 2], [3, 5, 4]][..]));
    let expected = [
        [10.0, 0.0, 0.0],
        [10.0, 2.0, 0.0],
        [8.0, 0.0, 0.0],
        [10.0, 0.0, 5.0],
        [9.0, 0.0, 5.0],
        [10.0, 1.0, 5.0],
    ];
    for (found, expected) in mesh.vertices.as_flattened().iter().zip(expected.as_flattened()) {
        assert!((found - expected).abs() < 1e-5, "{:?}", mesh.vertices);
    }
    // Without a scene, nodes that are nobody's children are drawn, or all meshes.
    let without = nodes.replace("\"scenes\":[{\"nodes\":[0]}],", "");
    assert_eq!(document(&format!("{without}{TRIANGLE}"), &floats(&CORNERS)).unwrap(), mesh);
    assert_eq!(document(TRIANGLE, &floats(&CORNERS)).unwrap().faces.len(), 1);
}

#[test]
fn strips_fans_quantised_sparse_and_interleaved_numbers_are_read() {
    // Five vertices: x, y as signed bytes out of 127, every eight bytes; then indices; then one sparse position.
    let mut numbers = Vec::new();
    for [x, y] in [[0, 0], [127, 0], [0, 127], [127, 127], [-128_i8, 0]] {
        numbers.extend([x as u8, y as u8, 0, 0, 255, 0, 128, 255]);
    }
    numbers.extend([0, 1, 2, 2, 3, 0, 0, 0]);
    numbers.extend([4, 0, 0, 0, 0, 127, 64, 0]);
    let rest = "\"extensionsRequired\":[\"KHR_mesh_quantization\"],\"accessors\":[
        {\"bufferView\":0,\"componentType\":5120,\"normalized\":true,\"type\":\"VEC3\",\"count\":5,
         \"sparse\":{\"count\":1,\"indices\":{\"bufferView\":2,\"componentType\":5121},\"values\":{\"bufferView\":2,\"byteOffset\":4}}},
        {\"bufferView\":0,\"byteOffset\":4,\"componentType\":5121,\"normalized\":true,\"type\":\"VEC4\",\"count\":5},
        {\"bufferView\":1,\"componentType\":5121,\"type\":\"SCALAR\",\"count\":5}],
        \"bufferViews\":[{\"buffer\":0,\"byteLength\":40,\"byteStride\":8},{\"buffer\":0,\"byteOffset\":40,\"byteLength\":8},
        {\"buffer\":0,\"byteOffset\":48,\"byteLength\":8}],BUFFERS";
    let primitive = |mode: u32| {
        format!(
            "\"meshes\":[{{\"primitives\":[{{\"attributes\":{{\"POSITION\":0,\"COLOR_0\":1}},\"indices\":2,\"mode\":{mode}}}]}}],{rest}"
        )
    };
    let strip = document(&primitive(5), &numbers).unwrap();
    assert_eq!(
        strip.vertices,
        [[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 64.0 / 127.0]]
    );
    // Faces that repeat a corner only lead on to the next.
    assert_eq!(strip.faces, [[0, 1, 2]]);
    assert_eq!(document(&primitive(6), &numbers).unwrap().faces, [[0, 1, 2], [0, 2, 3]]);
    assert_eq!(document(&primitive(4), &numbers).unwrap().faces, [[0, 1, 2]]);
    assert_eq!(document(&primitive(1), &numbers).unwrap().faces.len(), 0);
    let [red, green, blue] = strip.vertex_colours.unwrap()[0];
    // Half of the light is a lighter value than half.
    assert!(red == 1.0 && green == 0.0 && (blue - 0.7367).abs() < 1e-3, "{blue}");
}

#[test]
fn textures_are_placed_as_materials_say() {
    let mut numbers = floats(&CORNERS);
    numbers.extend(floats(&[0.0, 0.0, 1.0, 0.0, 0.0, 1.0]));
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
    let json = format!("\"meshes\":[{{\"primitives\":[{{\"attributes\":{{\"POSITION\":0,\"TEXCOORD_1\":1}},\"material\":0}}]}}],
        \"materials\":[{{\"name\":\"m\",\"pbrMetallicRoughness\":{{\"baseColorFactor\":[1,0.2158605,0,1],\"baseColorTexture\":
        {{\"index\":0,\"texCoord\":1,\"extensions\":{{\"KHR_texture_transform\":{{\"offset\":[0.5,0],\"scale\":[2,3]}}}}}}}}}}],
        \"textures\":[{{\"source\":0,\"sampler\":0}}],\"samplers\":[{{\"wrapS\":33071,\"wrapT\":33648}}],\"images\":[{{\"uri\":\"{png}\"}}],
        \"accessors\":[{{\"bufferView\":0,\"componentType\":5126,\"type\":\"VEC3\",\"count\":3}},
        {{\"bufferView\":0,\"byteOffset\":36,\"componentType\":5126,\"type\":\"VEC2\",\"count\":3}}],
        \"bufferViews\":[{{\"buffer\":0,\"byteLength\":60}}],BUFFERS");
    let mesh = document(&json, &numbers).unwrap();
    let texture = mesh.texture_coordinates.as_ref().unwrap();
    assert_eq!(texture.coordinates, [[0.5, 1.0], [2.5, 1.0], [0.5, -2.0]]);
    let material = mesh.material(0).unwrap();
    assert_eq!(material.wrap, [Wrap::ClampToEdge, Wrap::MirroredRepeat]);
    assert_eq!(material.image.as_ref().unwrap().rgb, [255, 0, 0]);
    assert!((material.colour[1] - 0.502).abs() < 1e-3 && material.colour[0] == 1.0);
}

#[test]
fn impossible_documents_are_refused_with_their_place() {
    let error = |json: &str| document(json, &floats(&CORNERS)).unwrap_err().to_string();
    let node = "\"nodes\":[{\"mesh\":0}],\"scenes\":[{\"nodes\":[0]}],";
    let changed = |from: &str, to: &str| error(&format!("{node}{TRIANGLE}").replacen(from, to, 1));
    for (message, expected) in [
        (
            changed("\"count\":3", "\"count\":4"),
            "accessors[0]: the file ends within the buffer view of an accessor",
        ),
        (changed("\"count\":3", "\"count\":18446744073709551615"), "accessors[0]: the file ends within"),
        (changed("\"POSITION\":0", "\"POSITION\":1"), "accessors 1 does not exist; there are 1"),
        (changed("\"mesh\":0", "\"mesh\":-1"), "nodes[0].mesh: a whole number expected, found \"-1\""),
        (
            changed("\"byteLength\":36", "\"byteLength\":37"),
            "bufferViews[0]: the file ends within the buffer of a view",
        ),
        (changed("\"VEC3\"", "\"VEC2\""), "accessors[0]: vectors of more numbers expected"),
        (changed("\"VEC3\"", "\"MAT4\""), "type SCALAR, VEC2, VEC3 or VEC4 expected"),
        (changed("5126", "5130"), "accessors[0].componentType: a type of numbers expected"),
        (
            changed("{\"mesh\":0}", "{\"mesh\":0,\"children\":[0]}"),
            "nodes[0]: a node with one parent expected",
        ),
        (changed("{\"mesh\":0}", "{\"matrix\":[1]}"), "nodes[0].matrix: a list of numbers"),
        (changed("\"nodes\":[0]", "\"nodes\":[7]"), "nodes 7 does not exist; there are 1"),
        (
            changed("\"meshes\"", "\"extensionsRequired\":[\"KHR_draco_mesh_compression\"],\"meshes\""),
            "KHR_draco_mesh_compression cannot be read here; save the mesh without compression",
        ),
        (error("\"meshes\":"), "line 1: JSON expected"),
    ] {
        assert!(message.contains(expected), "{message:?} should have {expected:?}");
    }
    let open =
        |bytes: &[u8], format| Mesh::from_bytes(bytes, format, &mut |_| Ok(None)).unwrap_err().to_string();
    assert!(
        open(b"{\"asset\":{\"version\":\"1.0\"}}", MeshFormat::Gltf).contains("asset: version 1.0 of glTF")
    );
    assert!(open(b"{}", MeshFormat::Gltf).contains("asset with a version expected"));
    assert!(open(b"glTF\x02\0\0\0\0\0\0\0", MeshFormat::Glb).contains("ends within the JSON chunk"));
    assert!(open(b"glTF\x01\0\0\0\0\0\0\0", MeshFormat::Glb).contains("byte 4: version 1 of glTF"));
    let glb = shapes::cube().to_glb().unwrap();
    assert!(open(&glb[..glb.len() - 1], MeshFormat::Glb).contains("the file ends within"));
}

#[test]
fn repeated_meshes_are_limited_by_the_size_of_the_file() {
    let positions: Vec<f32> = (0..3 * 3000).map(|at| at as f32).collect();
    let scene = |nodes: usize| {
        let list = vec!["{\"mesh\":0}"; nodes].join(",");
        let json = format!("\"nodes\":[{list}],{TRIANGLE}").replace("\"count\":3", "\"count\":3000");
        document(&json.replace("\"byteLength\":36", "\"byteLength\":36000"), &floats(&positions))
    };
    assert_eq!(scene(100).unwrap().faces.len(), 100_000);
    let error = scene(1000).unwrap_err().to_string();
    assert!(error.contains("vertices and faces, which is too much"), "{error}");
    // Zeros take no bytes in the file.
    let zeros = TRIANGLE.replace("\"bufferView\":0,", "").replace("\"count\":3", "\"count\":99999999999");
    let error = document(&zeros, &floats(&CORNERS)).unwrap_err().to_string();
    assert!(error.contains("vertices and faces, which is too much"), "{error}");
}

#[test]
fn the_gltf_crate_finds_what_was_written() {
    let mesh = dressed_cube();
    let bytes = mesh.to_glb().unwrap();
    // Validates on the way: indices, required fields, bounds of POSITION.
    let document = gltf::Gltf::from_slice(&bytes).unwrap();
    let binary = document.blob.as_deref().unwrap();
    let node = document.default_scene().unwrap().nodes().next().unwrap();
    assert_eq!(node.name(), Some(mesh.name.as_str()));
    let mut faces = 0;
    for primitive in node.mesh().unwrap().primitives() {
        let reader = primitive.reader(|_| Some(binary));
        let positions: Vec<[f32; 3]> = reader.read_positions().unwrap().collect();
        let places: Vec<[f32; 2]> = reader.read_tex_coords(0).unwrap().into_f32().collect();
        let corners: Vec<u32> = reader.read_indices().unwrap().into_u32().collect();
        let texture = mesh.texture_coordinates.as_ref().unwrap();
        for face in corners.chunks(3) {
            for (at, &corner) in face.iter().enumerate() {
                assert_eq!(positions[corner as usize], mesh.vertices[mesh.faces[faces][at] as usize]);
                let [u, v] = texture.coordinates[texture.faces[faces].unwrap()[at] as usize];
                assert_eq!(places[corner as usize], [u, 1.0 - v]);
            }
            faces += 1;
        }
    }
    assert_eq!(faces, mesh.faces.len());
    assert_eq!(document.materials().count(), 3);
    assert_eq!(document.images().count(), 2);
}

/// A bump with a round outline, normals and an image: as the program writes its results.
fn bump(unlit: bool) -> Mesh {
    const SIZE: usize = 64;
    let point = |at: usize| {
        let [x, y] = [at % SIZE, at / SIZE].map(|index| index as f32 / 31.5 - 1.0);
        let depth = 0.95 + 0.1 * (x * x + y * y);
        ([0.0875 * x * depth, 0.0875 * y * depth, depth], 1.02 - depth)
    };
    let (points, level): (Vec<_>, Vec<_>) = (0..SIZE * SIZE).map(point).unzip();
    let mut mesh = shapes::relief(&points, &level, SIZE, 3).unwrap();
    mesh.name = "a \"name\"".into();
    let skin = material("surface", [1.0; 3], Some(image(128, 128)), Wrap::ClampToEdge);
    mesh.materials = vec![Material { unlit, double_sided: true, ..skin }];
    mesh.face_materials = vec![Some(0); mesh.faces.len()];
    mesh
}

#[test]
fn normals_both_sides_and_light_in_the_image_are_written() {
    for unlit in [false, true] {
        let mesh = bump(unlit);
        let bytes = mesh.to_glb().unwrap();
        let document = gltf::Gltf::from_slice(&bytes).unwrap();
        let binary = document.blob.as_deref().unwrap();
        let material = document.materials().next().unwrap();
        assert_eq!((material.unlit(), material.double_sided()), (unlit, true));
        assert_eq!(document.extensions_used().any(|name| name == "KHR_materials_unlit"), unlit);
        let primitive = document.meshes().next().unwrap().primitives().next().unwrap();
        let reader = primitive.reader(|_| Some(binary));
        assert_eq!(reader.read_normals().unwrap().collect::<Vec<_>>(), mesh.normals.clone().unwrap());
        assert_eq!(reader.read_positions().unwrap().count(), mesh.vertices.len(), "none was doubled");
        let read = Mesh::from_bytes(&bytes, MeshFormat::Glb, &mut |_| Ok(None)).unwrap();
        assert_eq!((read.materials[0].unlit, read.materials[0].double_sided), (unlit, true));
        assert_same(&read, &mesh, 1e-6);
    }
    // In OBJ every corner names its normal, with a texture coordinate or without.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bump.obj");
    let mesh = bump(false);
    mesh.write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let corners = text.lines().filter(|line| line.starts_with("f ")).flat_map(|line| line.split(' ').skip(1));
    let normals: Vec<&str> = text.lines().filter(|line| line.starts_with("vn ")).collect();
    assert_eq!(normals.len(), mesh.vertices.len());
    for corner in corners {
        let numbers: Vec<usize> = corner.split('/').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() == 3 && numbers[0] == numbers[2], "{corner}");
    }
    let bare = Mesh { texture_coordinates: None, materials: vec![], face_materials: vec![], ..mesh };
    bare.write(&path).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().lines().any(|line| line.starts_with("f 1//1 ")));
    assert_eq!(Mesh::open(&path).unwrap().faces, bare.faces);
    // Its image is marked: no command takes it for a photograph.
    let image = std::fs::read(folder.path().join("bump.texture.png")).unwrap();
    assert!(relievo_files::mark::is_result_png(&image));
}

/// The lines that a program prints, one for each path, or `None` if it or its library is missing.
fn output(program: &str, option: &str, import: &str, script: &str, paths: &[PathBuf]) -> Option<Vec<String>> {
    let probe = Command::new(program).args([option, import]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        skip(Requirement::Meshes, &format!("{program} cannot run {import}"));
        return None;
    }
    let output = Command::new(program).args([option, script]).args(paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn khronoss_validator_has_no_complaints() {
    /// Prints errors, warnings and the codes of all messages of each file.
    const VALIDATE: &str = "const v = require('gltf-validator'), fs = require('fs');
Promise.all(process.argv.slice(1).map(path => v.validateBytes(new Uint8Array(fs.readFileSync(path))))).then(all =>
    all.forEach(r => console.log(r.issues.numErrors, r.issues.numWarnings, ':',
        r.issues.messages.map(m => m.code + ' ' + m.pointer).join(', '))));";
    let folder = tempfile::tempdir().unwrap();
    let mut coloured = shapes::icosphere(2);
    coloured.vertex_colours = Some(vec![[0.1, 0.5, 1.0]; coloured.vertices.len()]);
    let names = ["cube.glb", "sphere.glb", "teapot.glb", "lit bump.glb", "bump.glb"];
    let paths = names.map(|name| folder.path().join(name));
    let meshes = [dressed_cube(), coloured, shapes::teapot(4), bump(false), bump(true)];
    for (path, mesh) in paths.iter().zip(meshes) {
        mesh.write_glb(path).unwrap();
    }
    let import = "require('gltf-validator')";
    let Some(lines) = output("node", "-e", import, VALIDATE, &paths) else { return };
    assert!(lines.len() == 5 && lines.iter().all(|line| line.starts_with("0 0 ")), "{lines:#?}");
    // Not even a hint for those of the program.
    assert!(lines[3..].iter().all(|line| line.trim() == "0 0 :"), "{lines:#?}");
}

#[test]
fn trimesh_reads_the_same_from_all_formats() {
    /// Prints faces, the share of them that agree with normals, area, volume and bounds of each file.
    const LOAD: &str = "
import sys, trimesh
def agree(mesh):
    return ((mesh.face_normals * mesh.vertex_normals[mesh.faces].mean(1)).sum(1) >= 0).mean()
for path in sys.argv[1:]:
    scene = trimesh.load(path, force='scene')
    mesh = scene.to_geometry() if hasattr(scene, 'to_geometry') else scene.dump(concatenate=True)
    print(len(mesh.faces), agree(mesh), mesh.area, mesh.volume, *mesh.bounds.ravel())";
    let folder = tempfile::tempdir().unwrap();
    let mut teapot = shapes::teapot(5);
    teapot.vertex_colours = Some(vec![[0.2, 0.4, 1.0]; teapot.vertices.len()]);
    let meshes = [dressed_cube(), teapot, shapes::uv_sphere(24, 12), bump(false)];
    let mut paths = Vec::new();
    for (number, mesh) in meshes.iter().enumerate() {
        for extension in ["obj", "glb", "ply"] {
            paths.push(folder.path().join(format!("{number}.{extension}")));
            mesh.write(&paths[paths.len() - 1]).unwrap();
        }
    }
    let Some(lines) = output("python3", "-c", "import trimesh, PIL", LOAD, &paths) else { return };
    assert_eq!(lines.len(), paths.len());
    for (mesh, lines) in meshes.iter().zip(lines.chunks(3)) {
        let numbers = |line: &String| -> Vec<f64> {
            line.split_whitespace().map(|number| number.parse().unwrap()).collect()
        };
        let first = numbers(&lines[0]);
        assert_eq!(first[0] as usize, mesh.faces.len());
        assert!(mesh.normals.is_none() || lines.iter().all(|line| numbers(line)[1] == 1.0), "{lines:#?}");
        for line in lines {
            let pairs = first.iter().zip(numbers(line)).skip(2);
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4), "{lines:#?}");
        }
    }
}

fn any_mesh() -> impl Strategy<Value = Mesh> {
    let number =
        prop_oneof![4 => -10.0_f32..10.0, 1 => any::<f32>().prop_filter("finite", |value| value.is_finite())];
    let vertices = prop::collection::vec(prop::array::uniform3(number), 3..12);
    let places = prop::collection::vec([0.0_f32..1.0, 0.0_f32..1.0], 1..9);
    let colour = || prop::array::uniform3(0.0_f32..=1.0);
    (vertices, places, prop::collection::vec(colour(), 1..3), any::<bool>()).prop_flat_map(
        move |(vertices, coordinates, materials, with_colours)| {
            let count = vertices.len() as u32;
            let (places, kinds) = (coordinates.len() as u32, materials.len() as u32);
            let face = (
                prop::array::uniform3(0..count),
                prop::option::of(prop::array::uniform3(0..places)),
                prop::option::of(0..kinds),
            );
            let colours = prop::collection::vec(colour(), count as usize);
            (Just((vertices, coordinates, materials)), prop::collection::vec(face, 1..9), colours).prop_map(
                move |((vertices, coordinates, materials), mut faces, colours)| {
                    // The order in which they are written.
                    faces.sort_by_key(|(_, places, material)| (*material, places.is_some()));
                    let named = |(at, colour): (usize, &[f32; 3])| {
                        material(&format!("m{at}"), *colour, None, Wrap::Repeat)
                    };
                    let mut mesh = Mesh::new(vertices, faces.iter().map(|(corners, ..)| *corners).collect());
                    mesh.vertex_colours = with_colours.then_some(colours);
                    let faces_with = faces.iter().map(|(_, places, _)| *places).collect();
                    mesh.texture_coordinates = Some(TextureCoordinates { coordinates, faces: faces_with });
                    mesh.materials = materials.iter().enumerate().map(named).collect();
                    mesh.face_materials = faces.iter().map(|(.., material)| *material).collect();
                    mesh
                },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_mesh_comes_back(mesh in any_mesh()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.obj");
        mesh.write_obj(&path).unwrap();
        let read = Mesh::open(&path).unwrap();
        prop_assert_eq!(&read.vertices, &mesh.vertices);
        prop_assert_eq!(&read.vertex_colours, &mesh.vertex_colours);
        assert_same(&read, &mesh, 0.0);
        let read = Mesh::from_bytes(&mesh.to_glb().unwrap(), MeshFormat::Glb, &mut |_| Ok(None)).unwrap();
        assert_same(&read, &mesh, 1e-6);
        let read = Mesh::from_bytes(&mesh.to_ply().unwrap(), MeshFormat::Ply, &mut |_| Ok(None)).unwrap();
        prop_assert_eq!((read.vertices, read.faces), (mesh.vertices, mesh.faces));
    }
}
