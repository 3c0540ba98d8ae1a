//! Pictures made: parametric heads with exact depth, a source like any other.
