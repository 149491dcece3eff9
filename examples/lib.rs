//! Flat programs that embed the runtime: see the `.rs` files beside this one.
