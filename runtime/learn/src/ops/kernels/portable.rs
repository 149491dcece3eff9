//! Vectors of four lanes in plain Rust, which compilers turn into whatever 128-bit unit there is.
#![expect(unsafe_code, reason = "loads and stores take pointers")]

use super::simd::{MOST_LANES, MicroFn, Simd};

/// Any CPU.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// Four f32.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(super) struct Four([f32; 4]);

/// The f32 of an IEEE half-precision number.
fn widen_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let wide = match magnitude {
        0x7c01.. => (magnitude << 13) | 0x7fc0_0000,
        0x7c00 => 0x7f80_0000,
        0x0400.. => (magnitude << 13) + (112 << 23),
        // Subnormal: a multiple of 2^-24, exact in f32.
        _ => (magnitude as f32 * f32::from_bits(103 << 23)).to_bits(),
    };
    f32::from_bits(sign | wide)
}

// SAFETY (of every block below): the trait's contract gives valid pointers; no feature is needed.
impl Simd for Portable {
    type V = Four;
    const LANES: usize = 4;
    const TILE_ROWS: usize = 6;
    const BLOCK_K: usize = 256;
    const DOT_ROWS: usize = 2;
    const AXPY_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Four {
        Four([0.0; 4])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Four {
        Four([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Four {
        // SAFETY: see above.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Four {
        let mut four = [0.0; 4];
        for (i, slot) in four.iter_mut().enumerate().take(n) {
            // SAFETY: see above.
            *slot = unsafe { *from.add(i) };
        }
        Four(four)
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Four {
        // SAFETY: see above.
        Four(
            unsafe { from.cast::<[u16; 4]>().read_unaligned() }
                .map(|bits| f32::from_bits(u32::from(bits) << 16)),
        )
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Four {
        // SAFETY: see above.
        Four(unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(widen_f16))
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Four) {
        // SAFETY: see above.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v.0) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: Four, n: usize) {
        for (i, &value) in v.0.iter().enumerate().take(n) {
            // SAFETY: see above.
            unsafe { *to.add(i) = value };
        }
    }

    #[inline(always)]
    unsafe fn mul(a: Four, b: Four) -> Four {
        Four(std::array::from_fn(|i| a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul_add(a: Four, b: Four, c: Four) -> Four {
        // A fused multiply-add without an instruction for it is a slow library call.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            Four(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], c.0[i])))
        } else {
            Four(std::array::from_fn(|i| a.0[i] * b.0[i] + c.0[i]))
        }
    }

    #[inline(always)]
    unsafe fn sum(v: Four) -> f32 {
        (v.0[0] + v.0[2]) + (v.0[1] + v.0[3])
    }

    #[inline(always)]
    unsafe fn transpose(square: &mut [Four; MOST_LANES]) {
        let from: [[f32; 4]; 4] = std::array::from_fn(|i| square[i].0);
        for (i, to) in square.iter_mut().enumerate().take(4) {
            *to = Four(std::array::from_fn(|j| from[j][i]));
        }
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}

    fn micro(rows: usize, vectors: usize, form: u8) -> MicroFn {
        super::pick_micro!(rows, vectors, form, [1, 2, 3, 4, 5, 6])
    }
}

super::entry_points!(Portable);
