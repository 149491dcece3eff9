//! The arithmetic of a decoder: what a tensor library lacks, makes without a gradient, or makes slowly, each with a
//! hand-written backward where training needs one. No parameter names and no graph. Rows are tokens.
//!
//! In f32 on the CPU these are loops over slices and our own matrix products (`kernels`), for the processor that is
//! found at run time; on any other device, and in any other type, they are put together from the tensor library's
//! operations (`portable`), with the same interfaces and, within rounding, the same results.
//!
//! Results depend on neither the number of threads nor on what sequences are packed beside each other, except
//! that matrix products of few rows and of many rows sum in different orders.

mod attention;
mod fresh;
pub(crate) mod kernels;
mod linear;
pub(crate) mod portable;
mod rows;
mod values;
mod vector;

use candle_core::{DType, Tensor};

pub(crate) use attention::{Heads, Pattern, attention, attention_backward};
pub(crate) use kernels::{Elements, FEW_ROWS, Frozen, best_name};
pub(crate) use linear::{Dropout, Update, linear, linear_backward};
#[cfg(test)]
pub(crate) use rows::arg_max;
pub(crate) use rows::{
    add, cross_entropy, rms_norm, rms_norm_backward, rms_norm_weight_gradient, rotate, swiglu,
    swiglu_backward, token_log_probs,
};
pub(crate) use values::Values;
pub(crate) use vector::{dot, exp, vectorised};

/// Runs `work` on a thread of the pool, where it stays: every parallel operation that is begun elsewhere is handed
/// over to the pool and waited for, and its data moves from one core's cache to another's.
pub(crate) fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    #[cfg(test)]
    if forced::is_portable() {
        return work();
    }
    rayon::scope(|_| work())
}

/// Whether our own kernels take this tensor; all others are the tensor library's.
pub(crate) fn has_kernels(x: &Tensor) -> bool {
    #[cfg(test)]
    if forced::is_portable() {
        return false;
    }
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// How tests take the way of another device on the CPU.
#[cfg(test)]
pub(crate) mod forced {
    use std::cell::Cell;

    thread_local!(static PORTABLE: Cell<bool> = const { Cell::new(false) });

    pub(super) fn is_portable() -> bool {
        PORTABLE.get()
    }

    /// Runs `work` on this thread without our own kernels.
    pub(crate) fn portable<R>(work: impl FnOnce() -> R) -> R {
        struct Restore(bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                PORTABLE.set(self.0);
            }
        }
        let _restore = Restore(PORTABLE.replace(true));
        work()
    }
}
