//! The lowerings and algorithms chosen so far, in a file of the user's cache folder.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::super::kernels;
use super::Key;
use crate::{DataType, Lowering, Product};

/// How a product is computed. cuDNN numbers the algorithms of each product from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub lowering: Lowering,
    pub algorithm: u32,
    pub math: u32,
}

impl Choice {
    /// A choice with numbers that the library knows.
    pub fn checked(lowering: Lowering, algorithm: u32, math: u32) -> Option<Self> {
        // The smallest of the three enumerations has six algorithms; plans check theirs again.
        (algorithm < 8 && math < 4).then_some(Self { lowering, algorithm, math })
    }
}

/// Choices of this and of earlier runs.
pub(super) struct Choices {
    /// By the text of their key.
    known: HashMap<String, Choice>,
    /// Where they are kept; `None` without a cache folder.
    file: Option<PathBuf>,
}

impl Choices {
    /// Those of earlier runs on a GPU of this name with this version of cuDNN.
    pub fn open(gpu: &str, version: usize) -> Self {
        let name: String = gpu.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let file = kernels::cache_folder().map(|folder| folder.join(format!("cudnn-{version}-{name}.txt")));
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        Self { known: parse(&text), file }
    }

    pub fn get(&self, key: &Key) -> Option<Choice> {
        self.known.get(&text_of(key)).copied()
    }

    /// Adds a choice and saves all.
    pub fn keep(&mut self, key: &Key, choice: Choice) {
        self.known.insert(text_of(key), choice);
        let mut lines: Vec<_> = self.known.iter().collect();
        lines.sort_by_key(|(key, _)| key.as_str());
        let mut text = String::new();
        for (key, Choice { lowering, algorithm, math }) in lines {
            let _ = writeln!(text, "{} {algorithm} {math} {key}", lowering.name());
        }
        // Only saves measuring again; a disk that is full or read-only is no reason to stop.
        if let Some(file) = &self.file {
            let _ = relievo_files::write_atomic(file, |file| file.write_all(text.as_bytes()));
        }
    }
}

/// A key in the file: `forward 2x4x4x6 16x4x4x6 stride 1 padding 0 bf16 relu deterministic`.
fn text_of(key: &Key) -> String {
    let Key { product, extents, data_type, relu, policy } = key;
    let product = match product {
        Product::Forward => "forward",
        Product::InputGradient => "input-gradient",
        Product::WeightGradient => "weight-gradient",
    };
    let data_type = match data_type {
        DataType::F32 if policy.tf32 => "tf32",
        DataType::F32 => "f32",
        DataType::Bf16 => "bf16",
    };
    let [x, w, y] = [extents.x, extents.w, extents.y].map(|[a, b, c, d]| format!("{a}x{b}x{c}x{d}"));
    let (stride, padding) = (extents.stride, extents.padding);
    let mut text = format!("{product} {x} {w} {y} stride {stride} padding {padding} {data_type}");
    for (flag, name) in [(*relu, " relu"), (policy.deterministic, " deterministic")] {
        text.push_str(if flag { name } else { "" });
    }
    text
}

/// Lines of `lowering algorithm math key`; others are ignored.
fn parse(text: &str) -> HashMap<String, Choice> {
    let parse = |line: &str| {
        let (lowering, rest) = line.split_once(' ')?;
        let (algorithm, rest) = rest.split_once(' ')?;
        let (math, key) = rest.split_once(' ')?;
        let lowering = Lowering::ALL.into_iter().find(|known| known.name() == lowering)?;
        Some((key.to_owned(), Choice::checked(lowering, algorithm.parse().ok()?, math.parse().ok()?)?))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConvExtents, ConvPolicy};

    #[test]
    fn choices_are_read_back_and_damage_is_ignored() {
        // The second is of the time before there were lowerings.
        let lines = [
            "plain 1 3 Key { a }",
            "1 3 Key { d }",
            "nonsense",
            "padded 99 0 Key { b }",
            "thin 0 1 Key { e }",
            "flat 0 1 Key { c: 2 }",
            "plain 2 ",
        ];
        let choices = parse(&lines.join("\n"));
        let mut keys: Vec<_> = choices.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["Key { a }", "Key { c: 2 }"]);
        assert_eq!(choices["Key { a }"], Choice { lowering: Lowering::Plain, algorithm: 1, math: 3 });
        assert_eq!(choices["Key { c: 2 }"], Choice { lowering: Lowering::Flat, algorithm: 0, math: 1 });
    }

    #[test]
    fn keys_differ_where_choices_may() {
        let extents =
            ConvExtents { x: [2, 4, 4, 6], w: [16, 4, 4, 6], y: [2, 1, 1, 16], stride: 1, padding: 0 };
        let key = |data_type, relu, tf32, deterministic| {
            let policy = ConvPolicy { tf32, deterministic };
            text_of(&Key::new(Product::Forward, &extents, data_type, relu, policy))
        };
        assert_eq!(
            key(DataType::Bf16, true, false, true),
            "forward 2x4x4x6 16x4x4x6 2x1x1x16 stride 1 padding 0 bf16 relu deterministic"
        );
        assert_ne!(key(DataType::F32, false, true, false), key(DataType::F32, false, false, false));
        assert_eq!(key(DataType::Bf16, false, true, false), key(DataType::Bf16, false, false, false));
    }
}
