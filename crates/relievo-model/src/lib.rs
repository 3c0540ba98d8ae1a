//! The photo-geometric autoencoder: predict, reconstruct, losses, presets, weights.
