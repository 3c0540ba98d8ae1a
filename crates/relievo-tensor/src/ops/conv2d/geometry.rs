//! The extents of a convolution, checked once, so that the kernels can rely on them.

use crate::{Error, Result};

/// The extents of a two-dimensional convolution of `x [batch, in_h, in_w, in_c]` with
/// `w [out_c, kernel_h, kernel_w, in_c]` into `y [batch, out_h, out_w, out_c]`:
/// `y[b, i, j, o] = sum over r, s, c of x[b, i*stride + r - padding, j*stride + s - padding, c] * w[o, r, s, c]`,
/// where x is zero outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dGeometry {
    /// Images.
    pub batch: usize,
    /// Rows of x.
    pub in_h: usize,
    /// Columns of x.
    pub in_w: usize,
    /// Channels of x.
    pub in_c: usize,
    /// Rows of y.
    pub out_h: usize,
    /// Columns of y.
    pub out_w: usize,
    /// Channels of y.
    pub out_c: usize,
    /// Rows of the kernel.
    pub kernel_h: usize,
    /// Columns of the kernel.
    pub kernel_w: usize,
    /// Pixels of x between neighbours of y, the same along both axes.
    pub stride: usize,
    /// Zeros around x, the same on all four sides.
    pub padding: usize,
}

impl Conv2dGeometry {
    /// The geometry of the convolution of `x` (extents `[batch, in_h, in_w, in_c]`) with `w`
    /// (`[out_c, kernel_h, kernel_w, in_c]`).
    ///
    /// # Errors
    /// If the channels differ, an extent or the stride is zero, or the kernel is larger than the padded input.
    pub fn new(x: [usize; 4], w: [usize; 4], stride: usize, padding: usize) -> Result<Self> {
        let [batch, in_h, in_w, in_c] = x;
        let [out_c, kernel_h, kernel_w, weight_c] = w;
        let refuse = |why: &str| {
            Err(Error::shape(
                "conv2d",
                format!("input {x:?}, weight {w:?}, stride {stride}, padding {padding}: {why}"),
            ))
        };
        if x.contains(&0) || w.contains(&0) || stride == 0 {
            return refuse("no extent may be zero");
        }
        if in_c != weight_c {
            return refuse("the weight's last axis must be the input's channels");
        }
        if in_h + 2 * padding < kernel_h || in_w + 2 * padding < kernel_w {
            return refuse("the kernel is larger than the padded input");
        }
        let out_h = (in_h + 2 * padding - kernel_h) / stride + 1;
        let out_w = (in_w + 2 * padding - kernel_w) / stride + 1;
        Ok(Self { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride, padding })
    }

    /// The geometry of the convolution that the transposed convolution of `y` (`[batch, h, w, out_c]`) with `w`
    /// (`[out_c, kernel_h, kernel_w, in_c]`) is the adjoint of: its input has `(h - 1)*stride + kernel_h - 2*padding`
    /// rows, and columns alike.
    ///
    /// # Errors
    /// If the channels differ, an extent or the stride is zero, or nothing is left between the paddings.
    pub fn adjoint(y: [usize; 4], w: [usize; 4], stride: usize, padding: usize) -> Result<Self> {
        let [batch, out_h, out_w, out_c] = y;
        let [weight_c, kernel_h, kernel_w, in_c] = w;
        let refuse = |why: &str| {
            Err(Error::shape(
                "conv_transpose2d",
                format!("input {y:?}, weight {w:?}, stride {stride}, padding {padding}: {why}"),
            ))
        };
        if y.contains(&0) || w.contains(&0) || stride == 0 {
            return refuse("no extent may be zero");
        }
        if out_c != weight_c {
            return refuse("the weight's first axis must be the input's channels");
        }
        let full_h = (out_h - 1) * stride + kernel_h;
        let full_w = (out_w - 1) * stride + kernel_w;
        if full_h <= 2 * padding || full_w <= 2 * padding {
            return refuse("the padding leaves no output");
        }
        let (in_h, in_w) = (full_h - 2 * padding, full_w - 2 * padding);
        Ok(Self { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride, padding })
    }

    /// The extents of x.
    pub fn x_shape(&self) -> [usize; 4] {
        [self.batch, self.in_h, self.in_w, self.in_c]
    }

    /// The extents of w.
    pub fn w_shape(&self) -> [usize; 4] {
        [self.out_c, self.kernel_h, self.kernel_w, self.in_c]
    }

    /// The extents of y.
    pub fn y_shape(&self) -> [usize; 4] {
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
    pub fn taps(&self) -> usize {
        self.kernel_h * self.kernel_w
    }

    /// Multiplications and additions of the textbook convolution, two for each product (taps in the padding too).
    pub fn flops(&self) -> f64 {
        2.0 * self.y_elements() as f64 * (self.taps() * self.in_c) as f64
    }

    /// Whether the input gradient is a forward convolution too: that of [`Conv2dGeometry::flipped`].
    pub fn can_flip(&self) -> bool {
        self.stride == 1 && self.kernel_h == self.kernel_w && self.padding < self.kernel_h
    }

    /// The geometry of the forward convolution of dy, with the weights turned by half a turn and input and output
    /// channels in each other's place, that is the input gradient; only if [`Conv2dGeometry::can_flip`].
    pub fn flipped(&self) -> Self {
        Self {
            in_h: self.out_h,
            in_w: self.out_w,
            in_c: self.out_c,
            out_h: self.in_h,
            out_w: self.in_w,
            out_c: self.in_c,
            padding: self.kernel_h - 1 - self.padding,
            ..*self
        }
    }

    /// The coordinate of x, along one axis, that tap `tap` of output `out` reads; `None` in the padding.
    #[inline]
    pub fn source(&self, out: usize, tap: usize, extent: usize) -> Option<usize> {
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
}
