//! Accessors: numbers in the binary buffers.

use super::json::At;
use crate::files::{Fault, ReadError};

#[derive(Clone, Copy, PartialEq)]
enum Component {
    I8,
    U8,
    I16,
    U16,
    U32,
    F32,
}

impl Component {
    fn of(at: &At<'_>, key: &'static str) -> Result<Self, ReadError> {
        Ok(match at.required(key)? {
            5120 => Self::I8,
            5121 => Self::U8,
            5122 => Self::I16,
            5123 => Self::U16,
            5125 => Self::U32,
            5126 => Self::F32,
            _ => return Err(at.get(key).unwrap_or_else(|| at.clone()).unexpected("a type of numbers")),
        })
    }

    fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::U32 | Self::F32 => 4,
        }
    }

    /// The number at the start of `bytes`.
    fn read(self, bytes: &[u8]) -> f64 {
        match self {
            Self::I8 => f64::from(bytes[0] as i8),
            Self::U8 => f64::from(bytes[0]),
            Self::I16 => f64::from(i16::from_le_bytes([bytes[0], bytes[1]])),
            Self::U16 => f64::from(u16::from_le_bytes([bytes[0], bytes[1]])),
            Self::U32 => f64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            Self::F32 => f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        }
    }

    /// What a normalised number is divided by.
    fn unit(self) -> f64 {
        match self {
            Self::I8 => 127.0,
            Self::U8 => 255.0,
            Self::I16 => 32767.0,
            Self::U16 => 65535.0,
            Self::U32 | Self::F32 => 1.0,
        }
    }
}

/// Elements in a view, each at a multiple of `stride`.
struct Layout<'d> {
    bytes: &'d [u8],
    stride: usize,
    component: Component,
}

impl Layout<'_> {
    fn read(&self, element: usize, at: usize) -> f64 {
        self.component.read(&self.bytes[element * self.stride + at * self.component.size()..])
    }
}

/// Gives the bytes of a buffer view, by its number, and its stride.
pub(super) trait Views<'d> {
    fn view(&self, at: &At<'_>, index: usize) -> Result<(&'d [u8], Option<usize>), ReadError>;
}

/// A checked accessor: every element can be read.
pub(super) struct Accessor<'d> {
    pub count: usize,
    pub width: usize,
    is_float: bool,
    component: Component,
    unit: f64,
    /// None if all are zero, but for the sparse ones.
    layout: Option<Layout<'d>>,
    /// Indices and values.
    sparse: Option<(usize, Layout<'d>, Layout<'d>)>,
}

impl<'d> Accessor<'d> {
    pub fn parse(at: &At<'_>, views: &impl Views<'d>) -> Result<Self, ReadError> {
        let component = Component::of(at, "componentType")?;
        let count = at.required("count")?;
        let width = match at.text("type")? {
            Some("SCALAR") => 1,
            Some("VEC2") => 2,
            Some("VEC3") => 3,
            Some("VEC4") => 4,
            _ => return Err(at.missing("type SCALAR, VEC2, VEC3 or VEC4")),
        };
        let normalised = at.get("normalized").is_some_and(|normalised| normalised.value == true);
        let layout = |at: &At<'_>, component: Component, width: usize, count: usize, strides: bool| {
            let Some(index) = at.optional("bufferView")? else { return Ok(None) };
            let (bytes, stride) = views.view(at, index)?;
            let offset = at.optional("byteOffset")?.unwrap_or(0);
            let size = component.size() * width;
            let stride = stride.filter(|_| strides).unwrap_or(size);
            if stride < size {
                return Err(at.unexpected("a byteStride of at least an element"));
            }
            let end = count
                .checked_sub(1)
                .map_or(Some(0), |last| last.checked_mul(stride)?.checked_add(offset)?.checked_add(size));
            let truncated = || at.error(Fault::Truncated("the buffer view of an accessor"));
            if end.is_none_or(|end| end > bytes.len()) {
                return Err(truncated());
            }
            let bytes = if count == 0 { &[] } else { &bytes[offset..] };
            Ok(Some(Layout { bytes, stride, component }))
        };
        let sparse = match at.get("sparse") {
            None => None,
            Some(sparse) => {
                let of = sparse.required("count")?;
                let part = |key: &'static str| sparse.get(key).ok_or_else(|| sparse.missing(key));
                let (indices, values) = (part("indices")?, part("values")?);
                let kind = Component::of(&indices, "componentType")?;
                let need = |layout: Option<_>, at: &At<'_>| layout.ok_or_else(|| at.missing("bufferView"));
                let indices = need(layout(&indices, kind, 1, of, false)?, &indices)?;
                let values = need(layout(&values, component, width, of, false)?, &values)?;
                for element in 0..of {
                    let index = indices.read(element, 0);
                    if !(0.0..count as f64).contains(&index) {
                        let index = index as i64;
                        return Err(sparse.error(Fault::Index {
                            what: "element of the accessor",
                            index,
                            count,
                        }));
                    }
                }
                Some((of, indices, values))
            }
        };
        let layout = layout(at, component, width, count, true)?;
        let is_float = component == Component::F32;
        let unit = if normalised { component.unit() } else { 1.0 };
        Ok(Self { count, width, is_float, component, unit, layout, sparse })
    }

    /// All elements, the first N numbers of each.
    ///
    /// # Panics
    /// If elements are narrower.
    pub fn floats<const N: usize>(&self) -> Vec<[f32; N]> {
        assert!(self.width >= N);
        let element = |layout: &Layout<'_>, at: usize| {
            // -128/127 counts as -1.
            std::array::from_fn(|axis| {
                let value = layout.read(at, axis) / self.unit;
                if self.is_float || self.unit == 1.0 { value as f32 } else { value.max(-1.0) as f32 }
            })
        };
        let mut elements = match &self.layout {
            Some(layout) => (0..self.count).map(|at| element(layout, at)).collect(),
            None => vec![[0.0; N]; self.count],
        };
        if let Some((count, indices, values)) = &self.sparse {
            for at in 0..*count {
                elements[indices.read(at, 0) as usize] = element(values, at);
            }
        }
        elements
    }

    /// All elements as indices; `None` if they are not unsigned whole numbers.
    pub fn indices(&self) -> Option<Vec<u32>> {
        let unsigned = matches!(self.component, Component::U8 | Component::U16 | Component::U32);
        if !unsigned || self.width != 1 {
            return None;
        }
        let mut elements = match &self.layout {
            Some(layout) => (0..self.count).map(|at| layout.read(at, 0) as u32).collect(),
            None => vec![0; self.count],
        };
        if let Some((count, indices, values)) = &self.sparse {
            for at in 0..*count {
                elements[indices.read(at, 0) as usize] = values.read(at, 0) as u32;
            }
        }
        Some(elements)
    }
}
