//! Damaged and hostile files: whatever the bytes are, reading ends in a sound mesh or an error, and memory stays within
//! what `Mesh::from_bytes` promises.
//!
//!     cargo test --release -p relievo-mesh --test hostile -- --ignored --nocapture
//!
//! tries a million files, and prints what became of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use relievo_mesh::files::MeshFormat;
use relievo_mesh::{CubeOptions, Image, Material, Mesh, shapes};

/// Counts the bytes that each thread has and has had at most.
struct Counting;

thread_local! {
    static BYTES: Cell<[usize; 2]> = const { Cell::new([0; 2]) };
}

fn count(more: usize, less: usize) {
    // The counter is gone while a thread ends.
    let _ = BYTES.try_with(|bytes| {
        let [now, most] = bytes.get();
        let now = (now + more).saturating_sub(less);
        bytes.set([now, most.max(now)]);
    });
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `work` has at a time, beyond what there was before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let [before, _] = BYTES.get();
    BYTES.set([before; 2]);
    let result = work();
    (result, BYTES.get()[1] - before)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d049bb133111eb);
        x ^ x >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A mesh and the files that it names, which are all damaged.
struct Seed {
    format: MeshFormat,
    mesh: Vec<u8>,
    companions: Vec<(String, Vec<u8>)>,
    /// Bytes of memory for each byte of the files, and beyond.
    memory: (usize, usize),
}

fn seeds() -> Vec<Seed> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut cube = shapes::cube();
    let image = Some(Arc::new(Image { width: 4, height: 3, rgb: (0..36).collect() }));
    let colour = [0.5, 1.0, 0.25];
    cube.materials.push(Material { name: "m".into(), colour, image, ..Material::default() });
    cube.materials.push(Material { name: "n".into(), colour, ..Material::default() });
    cube.face_materials = (0..12).map(|face| [None, Some(0), Some(1)][face % 3]).collect();
    cube.vertex_colours = Some((0..8).map(|at| [at as f32 / 7.0; 3]).collect());
    cube.write_obj(at("a.obj")).unwrap();
    let read = |name: &str| std::fs::read(at(name)).unwrap();
    let (mtl, png) = (read("a.mtl"), read("a.texture.png"));
    let faces = b"f -1 -2 -3\nf 1//1 2//2 3//3 4//4 5//5\nf 1/2/3 4/5/6 \\\n7/8/9\no x\ng y\n# z\nl 1 2\n";
    let obj = [&read("a.obj")[..], faces].concat();
    let mtl = [&mtl[..], b"newmtl k\nmap_Kd -s 1 2 -o 1 -clamp on -mm 0 1 a.png\n"].concat();
    let glb = cube.to_glb().unwrap();
    let ply = cube.to_ply().unwrap();
    let header = "element vertex 3\ncomment TextureFile a.png\nproperty float x\nproperty double y\nproperty short z
property uchar red\nproperty uchar green\nproperty float blue\nproperty float s\nproperty float t\nelement edge 1
property list uint int a\nelement face 2\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord
property int texnumber\nend_header\n";
    let text = format!(
        "ply\nformat ascii 1.0\n{header}0 0 0 1 2 3 0 0\n1 0 0 1 2 3 0 0\n0 1 0 1 2 3 0 0
2 1 2\n3 0 1 2 6 0 0 1 0 0 1 0\n3 0 1 2 0 -1\n"
    );
    let mut big = format!("ply\nformat binary_big_endian 1.0\n{header}").into_bytes();
    big.extend([0; 3 * (4 + 8 + 2 + 2 + 4 + 8)]);
    big.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    big.extend([3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0].repeat(2));
    let mut stl = vec![b' '; 80];
    stl.extend(12_u32.to_le_bytes());
    for face in &cube.faces {
        stl.extend([0; 12]);
        stl.extend(face.iter().flat_map(|&corner| cube.vertices[corner as usize]).flat_map(f32::to_le_bytes));
        stl.extend([0; 2]);
    }
    let solid = "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n".repeat(2);
    let numbers: Vec<u8> = (0..60).flat_map(|at| (at as f32 / 8.0).to_le_bytes()).collect();
    let gltf = "{\"asset\":{\"version\":\"2.0\"},\"scene\":0,\"scenes\":[{\"nodes\":[0,1]}],\"nodes\":[{\"children\":[2],\"translation\":[1,2,3],
\"rotation\":[0,0,0,1],\"scale\":[1,-1,1]},{\"mesh\":0,\"matrix\":[1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]},{\"mesh\":0}],\"meshes\":[{\"primitives\":[
{\"attributes\":{\"POSITION\":0,\"TEXCOORD_0\":1,\"COLOR_0\":3},\"indices\":2,\"material\":0,\"mode\":5},{\"attributes\":{\"POSITION\":0},\"mode\":6}]}],
\"materials\":[{\"pbrMetallicRoughness\":{\"baseColorFactor\":[1,0,0.5,1],\"baseColorTexture\":{\"index\":0,\"extensions\":{\"KHR_texture_transform\":{\"scale\":[2,2],\"rotation\":1}}}}}],
\"textures\":[{\"source\":0,\"sampler\":0}],\"samplers\":[{\"wrapS\":33071}],\"images\":[{\"uri\":\"a.png\"}],\"accessors\":[
{\"bufferView\":0,\"componentType\":5126,\"type\":\"VEC3\",\"count\":4,\"sparse\":{\"count\":1,\"indices\":{\"bufferView\":1,\"componentType\":5123},\"values\":{\"bufferView\":0}}},
{\"bufferView\":0,\"byteOffset\":8,\"componentType\":5123,\"normalized\":true,\"type\":\"VEC2\",\"count\":4},
{\"bufferView\":1,\"componentType\":5121,\"type\":\"SCALAR\",\"count\":8},{\"componentType\":5126,\"type\":\"VEC4\",\"count\":4}],
\"bufferViews\":[{\"buffer\":0,\"byteLength\":96,\"byteStride\":16},{\"buffer\":1,\"byteLength\":8}],
\"buffers\":[{\"uri\":\"a.bin\",\"byteLength\":240},{\"uri\":\"data:application/octet-stream;base64,AAECAwIBAAM=\",\"byteLength\":8}]}";
    // Images may have 64 MiB, decoded, in memory three times; glTF may repeat meshes.
    const IMAGES: usize = 256 << 20;
    const REPEATED: usize = 512 << 20;
    let seed = |format, mesh: &[u8], companions: &[(&str, &[u8])], beyond: usize| Seed {
        format,
        mesh: mesh.to_vec(),
        companions: companions.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect(),
        memory: (200, beyond),
    };
    let plain = 1 << 16;
    let images = ["bmp", "gif", "jpg", "tga", "tif", "webp"].map(|kind| {
        let name = format!("picture.{kind}");
        let bytes = std::fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mtl = format!("newmtl m\nmap_Kd {name}\n");
        let obj = b"mtllib a.mtl\nv 0 0 0\nvt 0 0\nusemtl m\nf 1/1 1/1 1/1\n";
        seed(MeshFormat::Obj, obj, &[("a.mtl", mtl.as_bytes()), (&name, &bytes)], IMAGES)
    });
    let meshes = vec![
        seed(MeshFormat::Obj, &obj, &[], plain),
        seed(MeshFormat::Obj, &obj, &[("a.mtl", &mtl), ("a.texture.png", &png), ("a.png", &png)], IMAGES),
        seed(MeshFormat::Ply, &ply, &[], plain),
        seed(MeshFormat::Ply, text.as_bytes(), &[("a.png", &png)], IMAGES),
        seed(MeshFormat::Ply, &big, &[], plain),
        seed(MeshFormat::Stl, &stl, &[], plain),
        seed(MeshFormat::Stl, solid.as_bytes(), &[], plain),
        seed(MeshFormat::Glb, &glb, &[], IMAGES + REPEATED),
        seed(MeshFormat::Gltf, gltf.as_bytes(), &[("a.bin", &numbers), ("a.png", &png)], IMAGES + REPEATED),
    ];
    meshes.into_iter().chain(images).collect()
}

/// Texts and bytes that programs trip over.
const NASTY: [&[u8]; 24] = [
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"-inf",
    b"4294967295",
    b"4294967296",
    b"2147483648",
    b"18446744073709551615",
    b"99999999999999999999999",
    b"\n",
    b"\\\n",
    b" ",
    b"/",
    b"//",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"[[[[[[[[",
    b"{}",
    b"null",
    b"\"",
    b"-",
    b"\x00\x00\x80\x7f",
];

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            4 => {
                let end = (at + 1 + random.below(64)).min(bytes.len());
                let copy = bytes[at.min(end)..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let nasty = NASTY[random.below(NASTY.len())];
                bytes.splice(at..at, nasty.iter().copied());
            }
            6 => {
                let nasty = NASTY[random.below(NASTY.len())];
                let end = (at + nasty.len()).min(bytes.len());
                bytes.splice(at..end, nasty.iter().copied());
            }
            // A whole number becomes another one.
            7 | 8 => {
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                if let Some(start) = bytes[at..].iter().position(is_digit).map(|start| at + start) {
                    let length = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
                    let number = match random.below(3) {
                        0 => NASTY[random.below(10)].to_vec(),
                        _ => random.below(20).to_string().into_bytes(),
                    };
                    bytes.splice(start..start + length, number);
                }
            }
            _ => {}
        }
    }
}

/// Reads damaged files; returns how many were meshes all the same.
fn try_files(count: usize, stream: u64) -> usize {
    let seeds = seeds();
    let mut random = Random(stream << 32);
    let mut meshes = 0;
    for number in 0..count {
        let seed = &seeds[number % seeds.len()];
        let mut bytes = seed.mesh.clone();
        let mut companions = seed.companions.clone();
        let which = random.below(1 + companions.len());
        damage(if which == 0 { &mut bytes } else { &mut companions[which - 1].1 }, &mut random);
        let size = bytes.len() + companions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let mut resolver = |name: &str| {
            let found = companions.iter().find(|(known, _)| known == name);
            found.map(|(_, bytes)| Some(bytes.clone())).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        };
        let (result, most) = peak(|| Mesh::from_bytes(&bytes, seed.format, &mut resolver));
        let (each, beyond) = seed.memory;
        assert!(most <= each * size + beyond, "{most} bytes for {size}, {:?}, number {number}", seed.format);
        match result {
            Ok(mut mesh) => {
                meshes += 1;
                mesh.check().unwrap();
                if mesh.faces.len() < 1000 {
                    mesh.texture_cubes(&CubeOptions { side: 2, ..CubeOptions::default() }).unwrap();
                    mesh.merge_vertices();
                    mesh.normalise();
                    let _ = mesh.to_glb();
                    mesh.to_ply().unwrap();
                }
            }
            Err(error) => assert!(error.to_string().starts_with("cannot read ")),
        }
    }
    meshes
}

#[test]
fn damaged_files_are_errors_or_sound_meshes() {
    let meshes = try_files(9_000, 1);
    // Both happen, so the damage is neither too little nor too much.
    assert!((500..8_500).contains(&meshes), "{meshes} of 9000 are meshes");
}

#[test]
#[ignore = "a million files take minutes"]
fn a_million_damaged_files() {
    let threads = 2;
    let each = 1_000_000 / threads;
    let start = std::time::Instant::now();
    let meshes: usize = std::thread::scope(|scope| {
        let work: Vec<_> =
            (0..threads).map(|stream| scope.spawn(move || try_files(each, 100 + stream as u64))).collect();
        work.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{} files in {:?}: {meshes} are meshes, the others errors", each * threads, start.elapsed());
}

#[test]
fn long_files_take_memory_in_proportion() {
    let open = |bytes: &[u8], format| {
        let (result, most) = peak(|| Mesh::from_bytes(bytes, format, &mut |_| Ok(None)));
        (result, most as f64 / bytes.len() as f64)
    };
    // A polygon of many corners: a face for each two bytes.
    let polygon = format!("v 0 0 0\nusemtl m\nvt 0 0\nf{}\n", " 1/1".repeat(200_000));
    let (mesh, share) = open(polygon.as_bytes(), MeshFormat::Obj);
    assert_eq!(mesh.unwrap().faces.len(), 199_998);
    assert!(share < 60.0, "{share}");
    let narrow = format!("v 0 0 0\nf{}\n", " 1".repeat(200_000));
    assert!(open(narrow.as_bytes(), MeshFormat::Obj).1 < 60.0);
    // Small JSON values.
    for item in ["{}", "0", "[]", "\"\""] {
        let list = vec![item; 200_000].join(",");
        let json = format!("{{\"asset\":{{\"version\":\"2.0\"}},\"nodes\":[{list}]}}");
        let (_, share) = open(json.as_bytes(), MeshFormat::Gltf);
        assert!(share < 150.0, "{item}: {share}");
    }
    let ply = format!(
        "ply\nformat ascii 1.0\nelement vertex 200000\nproperty float x\nproperty float y\nproperty float z\nend_header\n{}",
        "0 0 0 ".repeat(200_000)
    );
    let (mesh, share) = open(ply.as_bytes(), MeshFormat::Ply);
    assert!(mesh.unwrap().vertices.len() == 200_000 && share < 10.0, "{share}");
}
