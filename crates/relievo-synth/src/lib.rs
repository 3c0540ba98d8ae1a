//! Images made: parametric heads with exact depth, a source like any other.
//!
//! [`Heads`] is image number N of seed S: an identity drawn from the bases of MakeHuman's head, an expression, skin,
//! hair and eyes, a light, a viewpoint and a background, all from integer random numbers that depend on S and N alone.
//! A part of a head (its light, say) has a stream of its own, so it stays when what another part draws is changed.
//!
//! # What the truth says
//! The camera is the model's: 10 degrees, fx = fy = (S-1)/2 / tan 5, cx = cy = (S-1)/2; x right, y down, z away.
//! * `view` moves the *canonical* head (frontal, plane of symmetry at x = 0, framed as face crops are framed) to the
//!   one that is seen: P = R (P_canonical - c) + c + t, c = (0, 0, 1), R = Rz Ry Rx. t_z = 0.
//! * `depth`, `normals` and `mask` are those of the surface at the pixel's centre, u = column, v = row. Normals are the
//!   surface's smooth ones, interpolated between vertices as in the shading, with the sign of t_u x t_v.
//! * `light.direction` is given in the canonical frame, as the model has it: shading = ambient + diffuse *
//!   max(0, R^T normal . direction). It turns with the head.
//! * `image` = albedo * shading, clipped at 1, no tone curve, the mean of four samples a pixel; `albedo` is the mean
//!   of the same samples' albedo. At the head's outline they mix with the background, the albedo does not.
//! * [`Heads::perturbed`] hangs a patch of colour before one side of each image; all the rest stays as it is.
//! * [`Heads::cut_out`] and [`Heads::background`] give its two layers, whole heads and wide backgrounds, for scenes of
//!   several heads: `examples/paint_scene.rs` paints one.
//! * Where no head is: mask 0, depth 1.1 (nothing further away is seen), normal (0, 0, 1), albedo = image.
//!
//! # How a head comes about
//! `identity` draws the shape (decimetres, y up), `teeth` and `hair` complete it, `pose` places it in the canonical
//! frame and draws the view, `appearance` colours places of the base mesh, `image` rasterises. `asset` holds the
//! embedded model, `random` the draws and the noise.

mod appearance;
mod asset;
mod background;
mod hair;
mod heads;
mod identity;
mod light;
mod patch;
mod pose;
mod random;
mod rendering;
mod teeth;

pub use heads::Heads;
pub use rendering::CutOut;
