//! Arithmetic of vectors of three numbers, for the renderers of this project.

/// Three coordinates.
pub type Vector = [f32; 3];

/// Below this length a vector is divided by it instead of by its own length.
const LEAST_LENGTH: f32 = 1e-5;

/// `a - b`.
#[inline(always)]
pub fn sub(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] - b[i])
}

/// `a + b`.
#[inline(always)]
pub fn add(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] + b[i])
}

/// The scalar product.
#[inline(always)]
pub fn dot(a: Vector, b: Vector) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The vector product `a x b`.
#[inline(always)]
pub fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// `by * a`.
#[inline(always)]
pub fn scale(a: Vector, by: f32) -> Vector {
    a.map(|x| x * by)
}

/// The Euclidean length.
#[inline(always)]
pub fn length(a: Vector) -> f32 {
    dot(a, a).sqrt()
}

/// `v / max(|v|, 1e-5)`.
#[inline(always)]
pub(crate) fn normalise(v: Vector) -> Vector {
    scale(v, 1.0 / length(v).max(LEAST_LENGTH))
}

/// The gradient of [`normalise`] at `v`, given that of its result: `(g - n (n.g)) / |v|`, or `g / 1e-5` below the bound.
#[inline(always)]
pub(crate) fn normalise_gradient(v: Vector, g: Vector) -> Vector {
    let norm = length(v);
    if norm <= LEAST_LENGTH {
        return scale(g, 1.0 / LEAST_LENGTH);
    }
    let n = scale(v, 1.0 / norm);
    scale(sub(g, scale(n, dot(n, g))), 1.0 / norm)
}

/// `matrix * v`.
#[inline(always)]
pub fn apply(matrix: &[Vector; 3], v: Vector) -> Vector {
    matrix.map(|row| dot(row, v))
}

/// `transpose(matrix) * v`.
#[inline(always)]
pub fn apply_transposed(matrix: &[Vector; 3], v: Vector) -> Vector {
    std::array::from_fn(|i| matrix[0][i] * v[0] + matrix[1][i] * v[1] + matrix[2][i] * v[2])
}
