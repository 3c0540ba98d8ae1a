//! Faces found in photographs, and framed as models want them.
//!
//! [`Detector`] finds boxes and five landmarks with CenterFace (Xu et al. 2020, *CenterFace: Joint Face Detection and
//! Alignment Using Face as Point*), whose weights are embedded. [`Face::frame`] is the square that a face is cropped
//! to; [`Frame::cut`] cuts it out of the photograph. [`crops`] makes training sets.
//!
//! ```
//! use relievo_data::Image;
//! use relievo_detect::{Detector, Face, FaceSelection};
//!
//! let photograph = Image { width: 96, height: 64, pixels: vec![128; 96 * 64 * 3] };
//! let places = Detector::new()?.places(&photograph, FaceSelection::Largest, Face::frame)?;
//! let crops: Vec<Image> = places.iter().map(|place| place.crop.cut(&photograph, 64)).collect();
//! assert!(crops.is_empty(), "nobody is there");
//! # Ok::<(), relievo_detect::DetectError>(())
//! ```
//!
//! # How faces of all sizes are found
//! The network finds faces between a dozen and some hundred pixels. It looks at the whole photograph twice: with a long
//! side of 384 pixels, for faces that fill it, and with one of 2,048, for those down to a hundredth of it (small
//! images are looked at once). At either look only faces of a middling size count at once. Others are only suspected:
//! they are cut out of the photograph, scaled to the size the network knows best, and looked at once more. That rejects
//! most mistakes and improves landmarks. Where two looks found a face, the more certain
//! one counts. Heads that lean far are turned upright and looked at once more, for their landmarks.

pub mod crops;
mod detector;
mod face;
mod framing;
mod location;
mod network;
pub mod router;
mod with_points;

pub use detector::{DetectError, Detector};
pub use face::{Area, Face, Landmarks};
pub use framing::{Frame, MOST_OUTSIDE};
pub use location::{FaceLocation, FaceSelection};
pub use with_points::WithPoints;
