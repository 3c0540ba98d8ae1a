//! What a kernel's declaration in CUDA C says of its parameters.
//!
//! A launch gives the driver a list of addresses, and the driver reads behind them as many bytes as the compiled kernel
//! has parameters: with too few or too small arguments it would read past our memory. So every launch is checked, in two
//! ways. Number and sizes are the compiled kernel's own, asked of the driver: that makes a launch safe for the host.
//! Kinds (a pointer to read from or to write to, the type of its elements, `int`, `float`) are those of the declaration
//! in the source. A list of types beside the source would say the same a second time, and could be wrong.

use crate::DataType;

/// A parameter as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// A pointer.
    Pointer {
        /// Whether the kernel may write there.
        writes: bool,
        /// The type of the elements; `None` if it is another than `float`, `bf16` and `real`.
        element: Option<Element>,
    },
    /// An `int`.
    Int,
    /// A `float`.
    Float,
    /// Anything else, passed by value.
    Structure,
}

/// A type of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// `float` or `bf16`.
    Only(DataType),
    /// `real`: what the file is compiled for.
    Real,
}

impl Element {
    /// The type in a file that is compiled for `real`.
    pub fn of(self, real: DataType) -> DataType {
        match self {
            Self::Only(data_type) => data_type,
            Self::Real => real,
        }
    }
}

/// The parameters of the kernel `name`, declared as `extern "C" __global__ void name(..)`; `None` if the source has no such
/// kernel.
pub(super) fn parse(source: &str, name: &str) -> Option<Vec<Parameter>> {
    const KERNEL: &str = "__global__ void";
    let list = source.match_indices(KERNEL).find_map(|(at, _)| {
        let rest = source[at + KERNEL.len()..].trim_start().strip_prefix(name)?.trim_start();
        rest.strip_prefix('(')?.split_once(')').map(|(list, _)| list)
    })?;
    Some(list.split(',').map(str::trim).filter(|parameter| !parameter.is_empty()).map(parameter).collect())
}

/// A parameter from its declaration, `const float* x`.
fn parameter(declaration: &str) -> Parameter {
    let Some((pointee, _)) = declaration.split_once('*') else {
        let mut words = declaration.split_whitespace().filter(|word| *word != "const");
        return match (words.next(), words.next(), words.next()) {
            (Some("int"), Some(_), None) => Parameter::Int,
            (Some("float"), Some(_), None) => Parameter::Float,
            _ => Parameter::Structure,
        };
    };
    let writes = !pointee.split_whitespace().any(|word| word == "const");
    let element = match pointee.split_whitespace().filter(|word| *word != "const").collect::<Vec<_>>()[..] {
        ["real"] => Some(Element::Real),
        ["float"] => Some(Element::Only(DataType::F32)),
        ["bf16"] => Some(Element::Only(DataType::Bf16)),
        _ => None,
    };
    Parameter::Pointer { writes, element }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let source = "struct Group { int n; };\n\
            template <typename T> __device__ void scale_all(T* x) {}\n\
            extern \"C\" __global__ void scale_all(bf16* x) {}\n\
            extern \"C\" __global__ void scale(real* y, const real* x,\n    const unsigned long long* sums, float2* pairs, \
            float factor, const Group group, int count) { f(y); }\n\
            extern \"C\" __global__ void nothing() {}";
        let pointer = |writes, element| Parameter::Pointer { writes, element };
        assert_eq!(
            parse(source, "scale").unwrap(),
            [
                pointer(true, Some(Element::Real)),
                pointer(false, Some(Element::Real)),
                pointer(false, None),
                pointer(true, None),
                Parameter::Float,
                Parameter::Structure,
                Parameter::Int,
            ]
        );
        assert_eq!(parse(source, "scale_all").unwrap(), [pointer(true, Some(Element::Only(DataType::Bf16)))]);
        assert_eq!(parse(source, "nothing").unwrap(), []);
        assert_eq!(parse(source, "scal"), None);
    }
}
