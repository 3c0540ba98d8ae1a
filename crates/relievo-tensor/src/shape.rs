//! The extents of a tensor, stored inline.

use std::fmt;
use std::ops::Deref;

/// The most axes a tensor can have.
pub(crate) const MAX_RANK: usize = 5;

/// Extents, outermost axis first. A scalar has no axes and one element.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// A shape of the given extents.
    ///
    /// # Panics
    /// If there are more than five axes, or as many elements as do not fit into the address space.
    pub fn new(extents: &[usize]) -> Self {
        assert!(extents.len() <= MAX_RANK, "a tensor has at most {MAX_RANK} axes, not {}", extents.len());
        assert!(
            checked_numel(extents).is_some(),
            "{extents:?} are more elements than the address space has room for"
        );
        let mut all = [1; MAX_RANK];
        all[..extents.len()].copy_from_slice(extents);
        Self { extents: all, rank: extents.len() }
    }

    /// The number of elements: the product of the extents.
    pub fn numel(&self) -> usize {
        self.iter().product()
    }

    /// The extents as a fixed array, or `None` when the tensor has another number of axes.
    pub fn dims<const N: usize>(&self) -> Option<[usize; N]> {
        self.extents[..self.rank].try_into().ok()
    }
}

/// The product of the extents, or `None` if as many f32 do not fit into the address space.
pub(crate) fn checked_numel(extents: &[usize]) -> Option<usize> {
    // First, because one axis without extent makes all others meaningless.
    if extents.contains(&0) {
        return Some(0);
    }
    let count = extents.iter().try_fold(1usize, |count, extent| count.checked_mul(*extent))?;
    (count <= isize::MAX as usize / size_of::<f32>()).then_some(count)
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.extents[..self.rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Self {
        Self::new(&extents)
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        Self::new(extents)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted() {
        assert_eq!((Shape::new(&[]).numel(), Shape::new(&[2, 3, 4]).numel()), (1, 24));
        // An empty tensor has no elements, however long its other axes are.
        assert_eq!(Shape::new(&[usize::MAX, usize::MAX, 0]).numel(), 0);
    }

    #[test]
    #[should_panic(
        expected = "[4294967296, 4294967296] are more elements than the address space has room for"
    )]
    #[cfg(target_pointer_width = "64")]
    fn a_product_that_overflows_is_refused() {
        // 0 in the arithmetic of a machine word.
        Shape::new(&[1 << 32, 1 << 32]);
    }

    #[test]
    #[should_panic(expected = "more elements than the address space has room for")]
    fn more_bytes_than_addresses_are_refused() {
        Shape::new(&[usize::MAX / 4 + 1]);
    }
}
