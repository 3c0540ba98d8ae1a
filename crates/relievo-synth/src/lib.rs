//! Synthetic images: parametric heads with exact depth, a source like any other.
//!
//! Image N of [`Heads`] of seed S shows an identity drawn from the bases of MakeHuman's head, with an expression, skin,
//! hair and eyes, a light, a viewpoint and a background, all from integer random numbers that depend on S and N alone.
//! Each part of a head (its light, say) has a stream of its own, so a change in the draws of one part leaves the others
//! alone.
//!
//! ```
//! use relievo_data::Source;
//! use relievo_synth::{Heads, Variation};
//!
//! // Heads 0 to 999 of seed 7, which look up and down further than usual.
//! let heads = Heads::range(7, 0, 1_000).varied(Variation { pitch_spread: 10.0, ..Variation::default() });
//! let head = heads.sample(17, 64)?;
//! let truth = head.truth.ok_or("every head has a truth")?;
//! assert_eq!((head.image.pixels.len(), truth.depth.len()), (64 * 64 * 3, 64 * 64));
//! println!("turned by {:.0} degrees", truth.view[1].to_degrees());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The truth
//! The camera is the model's: 10 degrees, fx = fy = (S-1)/2 / tan 5, cx = cy = (S-1)/2; x right, y down, z away.
//! * `view` moves the *canonical* head (frontal, plane of symmetry at x = 0, framed as face crops are framed) to the
//!   one that is seen: P = R (P_canonical - c) + c + t, c = (0, 0, 1), R = Rz Ry Rx. t_z = 0.
//! * `depth`, `normals` and `mask` are those of the surface at the pixel's centre, u = column, v = row. Normals are the
//!   surface's smooth ones, interpolated between vertices as in the shading, with the sign of t_u x t_v.
//! * `light.direction` is given in the canonical frame, as the model has it: shading = ambient + diffuse *
//!   max(0, R^T normal . direction). It turns with the head.
//! * `image` = albedo * shading, clipped at 1, no tone curve, the mean of four samples a pixel; `albedo` is the mean
//!   of the same samples' albedo. At the head's outline they mix with the background, the albedo does not.
//! * [`Heads::images_of_each`] gives several images of each head: the object is the same, expression, viewpoint, light and
//!   background are others.
//! * [`Heads::perturbed`] occludes one side of each image with a coloured patch and changes nothing else;
//!   [`Heads::varied`] changes the distribution of pitch and of the light's elevation, and the asymmetry of faces.
//! * [`Heads::cut_out`] and [`Heads::background`] give its two layers, whole heads and wide backgrounds, for scenes of
//!   several heads: `examples/paint_scene.rs` paints one.
//! * Outside the head: mask 0, depth 1.1 (nothing further away is seen), normal (0, 0, 1), albedo = image.
//!
//! # How a head is made
//! `asset` decodes the embedded model, and `head` completes it with `teeth` and a `curtain` of hair. `identity` draws the
//! shape (decimetres, y up), `hair` lets it grow, `pose` places it in the canonical frame and draws the view,
//! `appearance` colours points of the base mesh, `rendering` rasterises. `random` has the draws and the noise.

mod appearance;
mod asset;
mod background;
mod colour;
mod curtain;
mod hair;
mod head;
mod heads;
mod identity;
mod light;
mod patch;
mod pose;
mod random;
mod rendering;
mod sheet;
mod teeth;
mod variation;

pub use heads::Heads;
pub use rendering::CutOut;
pub use variation::Variation;
