//! The hostile guests that are in the binary.
