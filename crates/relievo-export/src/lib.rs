//! Results out: panels, contact sheets, depth and normal pictures.
