//! Packs the head model into the asset that the crate embeds.
//!
//! `cargo run --release -p relievo-synth --example pack_head_model -- head_model.safetensors
//! crates/relievo-synth/assets/head_model.bin.gz`
//!
//! The input is MakeHuman's head as the data set's README describes it: vertices, triangles, part per triangle, region
//! masks per uv vertex, and dense bases in half precision. What is left out: uv coordinates (the texture is a function
//! of the place on the base mesh), newborns (their proportions belong to no face crop), and targets that move the whole
//! head or belong to the trunk. Displacements are rounded to [`STEP`], 20 micrometres, and stored for the vertices that
//! move: differences from one such vertex to the next, as variable-length integers, which deflate then takes by half.
//! `src/asset.rs` is the reader, and says the layout.

use std::{env, fs, io::Write};

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, GzBuilder};
use half::f16;
use safetensors::{SafeTensors, tensor::TensorView};

/// Rounding of displacements, decimetres.
const STEP: f32 = 0.0002;
const MASKS: [&str; 5] = ["face", "lips", "eyelids", "ears", "inside-mouth"];
const BASES: [&str; 4] = ["macro", "shape", "asymmetry", "expression"];
const LEFT_OUT: [&str; 6] =
    ["-baby", "asymm-", "head-trans-", "neck-scale-vert-", "measure-neck-height-", "neck-platysma"];

fn main() -> Result<()> {
    let [input, output] = <[String; 2]>::try_from(env::args().skip(1).collect::<Vec<_>>())
        .ok()
        .context("usage: INPUT OUTPUT")?;
    let bytes = fs::read(&input).with_context(|| format!("reading {input}"))?;
    let model = SafeTensors::deserialize(&bytes)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let metadata = header.metadata().as_ref().context("no metadata")?;

    let vertices = floats(&model.tensor("vertices")?)?;
    let triangles = integers(&model.tensor("triangles")?)?;
    let uv_triangles = integers(&model.tensor("uv_triangles")?)?;
    let parts = integers(&model.tensor("triangle_part")?)?;
    let count = vertices.len() / 3;

    let mut packed = b"RELIEVO-HEAD-1\n".to_vec();
    packed.extend(u32::try_from(count)?.to_le_bytes());
    packed.extend(u32::try_from(parts.len())?.to_le_bytes());
    packed.extend(STEP.to_le_bytes());
    for value in &vertices {
        packed.extend(value.to_le_bytes());
    }
    // A vertex on a seam has several uv vertices; the masks agree there.
    for name in MASKS {
        let of_uv = floats(&model.tensor(&format!("mask.{name}"))?)?;
        let mut mask = vec![0u8; count];
        for (&vertex, &uv) in triangles.iter().zip(&uv_triangles) {
            mask[vertex as usize] = (of_uv[uv as usize] * 255.0).round() as u8;
        }
        packed.extend(mask);
    }
    for &vertex in &triangles {
        packed.extend(u16::try_from(vertex)?.to_le_bytes());
    }
    for &part in &parts {
        packed.push(u8::try_from(part)?);
    }
    for basis in BASES {
        let names: Vec<String> =
            serde_json::from_str(metadata.get(&format!("names.{basis}")).context("names missing")?)?;
        let values = floats(&model.tensor(&format!("basis.{basis}"))?)?;
        ensure!(
            values.len() == names.len() * vertices.len(),
            "basis {basis} has another shape than its names"
        );
        let is_kept = |name: &String| !LEFT_OUT.iter().any(|part| name.contains(part));
        packed.extend(u32::try_from(names.iter().filter(|name| is_kept(name)).count())?.to_le_bytes());
        for (name, target) in names.iter().zip(values.chunks_exact(vertices.len())) {
            if !is_kept(name) {
                continue;
            }
            let name = name.rsplit_once("macrodetails/").map_or(name.as_str(), |(_, tail)| tail);
            packed.push(u8::try_from(name.len())?);
            packed.extend(name.as_bytes());
            write_target(&mut packed, target, basis == "macro");
        }
    }

    // No time stamp and no name in the gzip header: the same input gives the same bytes.
    let mut file = GzBuilder::new().write(fs::File::create(&output)?, Compression::best());
    file.write_all(&packed)?;
    file.finish()?;
    println!("{output}: {} bytes, {} before compression", fs::metadata(&output)?.len(), packed.len());
    Ok(())
}

/// Number of moved vertices, their indices, then their displacements in x, y and z. `centred`: less the mean
/// displacement, which for whole-body targets is the body's height and not the head's shape.
fn write_target(packed: &mut Vec<u8>, target: &[f32], centred: bool) {
    let count = target.len() / 3;
    let mean: [f32; 3] = std::array::from_fn(|axis| {
        if centred { target.iter().skip(axis).step_by(3).sum::<f32>() / count as f32 } else { 0.0 }
    });
    let rounded: Vec<[i32; 3]> = target
        .chunks_exact(3)
        .map(|d| std::array::from_fn(|axis| ((d[axis] - mean[axis]) / STEP).round() as i32))
        .collect();
    let moved: Vec<usize> = (0..count).filter(|&vertex| rounded[vertex] != [0; 3]).collect();
    write_integer(packed, moved.len() as i32);
    let mut last = 0;
    for &vertex in &moved {
        write_integer(packed, vertex as i32 - last);
        last = vertex as i32;
    }
    let displacements: Vec<[i32; 3]> = moved.iter().map(|&vertex| rounded[vertex]).collect();
    for axis in 0..3 {
        let mut last = 0;
        for displacement in &displacements {
            write_integer(packed, displacement[axis] - last);
            last = displacement[axis];
        }
    }
}

/// Zigzag, then seven bits a byte, low bits first, the top bit saying that more follow.
fn write_integer(packed: &mut Vec<u8>, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        packed.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    packed.push(rest as u8);
}

fn floats(tensor: &TensorView) -> Result<Vec<f32>> {
    let data = tensor.data();
    Ok(match tensor.dtype() {
        safetensors::Dtype::F32 => {
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        safetensors::Dtype::F16 => {
            data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        other => bail!("unexpected type {other:?}"),
    })
}

fn integers(tensor: &TensorView) -> Result<Vec<i32>> {
    ensure!(tensor.dtype() == safetensors::Dtype::I32, "unexpected type {:?}", tensor.dtype());
    Ok(tensor.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
