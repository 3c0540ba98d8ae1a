//! Tensors, the reverse-mode tape, and one folder per operation.
