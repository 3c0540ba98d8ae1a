//! The extents of a convolution, checked once, so that the kernels can rely on them.

use crate::shape::checked_numel;
use crate::{Error, Result};

/// Why a convolution is refused whose sizes overflow.
const TOO_LARGE: &str = "too large for the address space";

/// The error of `operation` for its input, weight and parameters.
fn refused(
    operation: &'static str,
    input: [usize; 4],
    w: [usize; 4],
    stride: usize,
    padding: usize,
    why: &str,
) -> Error {
    Error::shape(
        operation,
        format!("input {input:?}, weight {w:?}, stride {stride}, padding {padding}: {why}"),
    )
}

/// The extents of a two-dimensional convolution of `x [batch, in_h, in_w, in_c]` with
/// `w [out_c, kernel_h, kernel_w, in_c]` into `y [batch, out_h, out_w, out_c]`:
/// `y[b, i, j, o] = sum over r, s, c of x[b, i*stride + r - padding, j*stride + s - padding, c] * w[o, r, s, c]`,
/// where x is zero outside.
///
/// The fields are private because kernels that work on pointers rely on them: y follows from x, w, stride and padding,
/// no extent is zero, and all three tensors fit into the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dGeometry {
    batch: usize,
    in_h: usize,
    in_w: usize,
    in_c: usize,
    out_h: usize,
    out_w: usize,
    out_c: usize,
    kernel_h: usize,
    kernel_w: usize,
    stride: usize,
    padding: usize,
}

/// Read access to a field of its name.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[inline]
            pub const fn $name(&self) -> usize {
                self.$name
            }
        )+
    };
}

impl Conv2dGeometry {
    /// The geometry of the convolution of `x` (extents `[batch, in_h, in_w, in_c]`) with `w`
    /// (`[out_c, kernel_h, kernel_w, in_c]`).
    ///
    /// # Errors
    /// If the channels differ, an extent or the stride is zero, the kernel is larger than the padded input, or a tensor
    /// does not fit into the address space.
    pub fn new(x: [usize; 4], w: [usize; 4], stride: usize, padding: usize) -> Result<Self> {
        let [batch, in_h, in_w, in_c] = x;
        let [out_c, kernel_h, kernel_w, weight_c] = w;
        let refuse = |why: &str| refused("conv2d", x, w, stride, padding, why);
        if x.contains(&0) || w.contains(&0) || stride == 0 {
            return Err(refuse("no extent may be zero"));
        }
        if in_c != weight_c {
            return Err(refuse("the weight's last axis must be the input's channels"));
        }
        let padded = |extent: usize| padding.checked_mul(2)?.checked_add(extent);
        let (Some(padded_h), Some(padded_w)) = (padded(in_h), padded(in_w)) else {
            return Err(refuse(TOO_LARGE));
        };
        if padded_h < kernel_h || padded_w < kernel_w {
            return Err(refuse("the kernel is larger than the padded input"));
        }
        let out_h = (padded_h - kernel_h) / stride + 1;
        let out_w = (padded_w - kernel_w) / stride + 1;
        Self { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride, padding }
            .addressable()
            .ok_or_else(|| refuse(TOO_LARGE))
    }

    /// The geometry of the convolution that the transposed convolution of `y` (`[batch, h, w, out_c]`) with `w`
    /// (`[out_c, kernel_h, kernel_w, in_c]`) is the adjoint of: its input has `(h - 1)*stride + kernel_h - 2*padding`
    /// rows, and columns alike.
    ///
    /// # Errors
    /// If the channels differ, an extent or the stride is zero, the padding leaves no output, or a tensor does not fit
    /// into the address space.
    pub(crate) fn adjoint(y: [usize; 4], w: [usize; 4], stride: usize, padding: usize) -> Result<Self> {
        let [batch, out_h, out_w, out_c] = y;
        let [weight_c, kernel_h, kernel_w, in_c] = w;
        let refuse = |why: &str| refused("conv_transpose2d", y, w, stride, padding, why);
        if y.contains(&0) || w.contains(&0) || stride == 0 {
            return Err(refuse("no extent may be zero"));
        }
        if out_c != weight_c {
            return Err(refuse("the weight's first axis must be the input's channels"));
        }
        let full = |extent: usize, kernel: usize| (extent - 1).checked_mul(stride)?.checked_add(kernel);
        let (Some(full_h), Some(full_w), Some(cut)) =
            (full(out_h, kernel_h), full(out_w, kernel_w), padding.checked_mul(2))
        else {
            return Err(refuse(TOO_LARGE));
        };
        if full_h <= cut || full_w <= cut {
            return Err(refuse("the padding leaves no output"));
        }
        let (in_h, in_w) = (full_h - cut, full_w - cut);
        Self { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride, padding }
            .addressable()
            .ok_or_else(|| refuse(TOO_LARGE))
    }

    /// The same, if each of its tensors (x with its padding) can be a buffer.
    fn addressable(self) -> Option<Self> {
        let [batch, h, w, c] = self.x_shape();
        let padded = [batch, h + 2 * self.padding, w + 2 * self.padding, c];
        [padded, self.w_shape(), self.y_shape()]
            .iter()
            .all(|shape| checked_numel(shape).is_some())
            .then_some(self)
    }

    getters! {
        /// Images.
        batch,
        /// Rows of x.
        in_h,
        /// Columns of x.
        in_w,
        /// Channels of x.
        in_c,
        /// Rows of y.
        out_h,
        /// Columns of y.
        out_w,
        /// Channels of y.
        out_c,
        /// Rows of the kernel.
        kernel_h,
        /// Columns of the kernel.
        kernel_w,
        /// Pixels of x between neighbours of y, the same along both axes.
        stride,
        /// Zeros around x, the same on all four sides.
        padding,
    }

    /// The extents of x.
    pub(crate) fn x_shape(&self) -> [usize; 4] {
        [self.batch, self.in_h, self.in_w, self.in_c]
    }

    /// The extents of w.
    pub(crate) fn w_shape(&self) -> [usize; 4] {
        [self.out_c, self.kernel_h, self.kernel_w, self.in_c]
    }

    /// The extents of y.
    pub(crate) fn y_shape(&self) -> [usize; 4] {
        [self.batch, self.out_h, self.out_w, self.out_c]
    }

    /// Elements of x.
    pub fn x_elements(&self) -> usize {
        self.x_shape().iter().product()
    }

    /// Elements of w.
    pub fn w_elements(&self) -> usize {
        self.w_shape().iter().product()
    }

    /// Elements of y.
    pub fn y_elements(&self) -> usize {
        self.y_shape().iter().product()
    }

    /// Positions of the kernel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel_h * self.kernel_w
    }

    /// Multiplications and additions of the textbook convolution, two for each product (taps in the padding too).
    pub fn flops(&self) -> f64 {
        2.0 * self.y_elements() as f64 * (self.taps() * self.in_c) as f64
    }

    /// The input gradient as a forward convolution: that of dy with the weights rotated by 180 degrees and input and
    /// output channels swapped. `None` unless the stride is 1, the kernel square and larger than the padding.
    pub(crate) fn flipped(&self) -> Option<Self> {
        let applies = self.stride == 1 && self.kernel_h == self.kernel_w && self.padding < self.kernel_h;
        applies.then(|| Self {
            in_h: self.out_h,
            in_w: self.out_w,
            in_c: self.out_c,
            out_h: self.in_h,
            out_w: self.in_w,
            out_c: self.in_c,
            padding: self.kernel_h - 1 - self.padding,
            ..*self
        })
    }

    /// The same product as a 1x1 convolution of single pixels that have all of an image's numbers as channels, that is
    /// as one matrix product. `None` unless the kernel covers the whole of an input without padding, and if the
    /// convolution has that form already.
    pub(crate) fn as_single_pixels(&self) -> Option<Self> {
        let covers = self.padding == 0 && [self.in_h, self.in_w] == [self.kernel_h, self.kernel_w];
        let in_c = self.in_h * self.in_w * self.in_c;
        let pixels = Self { in_h: 1, in_w: 1, in_c, kernel_h: 1, kernel_w: 1, stride: 1, ..*self };
        (covers && pixels != *self).then_some(pixels)
    }

    /// The coordinate of x, along one axis, that tap `tap` of output `out` reads; `None` in the padding.
    #[inline]
    pub(crate) fn source(&self, out: usize, tap: usize, extent: usize) -> Option<usize> {
        (out * self.stride + tap).checked_sub(self.padding).filter(|&at| at < extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents() {
        let g = Conv2dGeometry::new([2, 64, 64, 3], [32, 4, 4, 3], 2, 1).unwrap();
        assert_eq!(g.y_shape(), [2, 32, 32, 32]);
        let back = Conv2dGeometry::adjoint([2, 32, 32, 32], [32, 4, 4, 3], 2, 1).unwrap();
        assert_eq!(back, g);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |x, w| Conv2dGeometry::new(x, w, 1, 0);
        assert!(new([1, 4, 4, 3], [8, 3, 3, 2]).unwrap_err().to_string().contains("channels"));
        assert!(new([1, 2, 4, 3], [8, 3, 3, 3]).unwrap_err().to_string().contains("larger"));
        assert!(new([0, 4, 4, 3], [8, 3, 3, 3]).unwrap_err().to_string().contains("zero"));
        assert!(Conv2dGeometry::adjoint([1, 1, 1, 8], [8, 2, 2, 3], 1, 1).is_err());
        assert!(Conv2dGeometry::adjoint([1, 1, 1, 7], [8, 2, 2, 3], 1, 0).is_err());
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let half = 1 << (usize::BITS - 1);
        for error in [
            // Twice the padding is 0 in the arithmetic of a machine word.
            Conv2dGeometry::new([1, 4, 4, 3], [8, 3, 3, 3], 1, half),
            Conv2dGeometry::adjoint([1, 4, 4, 8], [8, 3, 3, 3], 1, half),
            Conv2dGeometry::adjoint([1, 3, 3, 8], [8, 3, 3, 3], half, 0),
            // The extents fit, their product does not.
            Conv2dGeometry::new([half, 4, 4, 3], [8, 3, 3, 3], 1, 0),
            Conv2dGeometry::new([1, 4, 4, 3], [half / 8, 3, 3, 3], 1, 0),
        ] {
            assert!(error.unwrap_err().to_string().contains("too large for the address space"));
        }
    }

    #[test]
    fn other_views_of_a_convolution() {
        let g = Conv2dGeometry::new([2, 4, 4, 3], [8, 4, 4, 3], 1, 0).unwrap();
        let pixels = Conv2dGeometry::new([2, 1, 1, 48], [8, 1, 1, 48], 1, 0).unwrap();
        assert_eq!((g.as_single_pixels(), pixels.as_single_pixels()), (Some(pixels), None));
        let same = Conv2dGeometry::new([2, 9, 7, 3], [8, 3, 3, 3], 1, 1).unwrap();
        assert_eq!(same.flipped(), Some(Conv2dGeometry::new([2, 9, 7, 8], [3, 3, 3, 8], 1, 1).unwrap()));
        assert_eq!((same.as_single_pixels(), same.flipped().unwrap().flipped()), (None, Some(same)));
        let strided = Conv2dGeometry::new([2, 9, 7, 3], [8, 3, 3, 3], 2, 1).unwrap();
        assert_eq!(strided.flipped(), None);
    }
}
