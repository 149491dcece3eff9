//! 512-bit vectors: 32 registers, so tiles of 12 rows by two vectors.
#![expect(unsafe_code, reason = "intrinsics")]

use std::arch::x86_64::*;

use super::simd::{MOST_LANES, MicroFn, Simd};

/// The vector unit of a CPU with `avx512f`.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// A mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY (of every block below): the trait's contract gives the CPU feature and valid pointers.
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 12;
    const BLOCK_K: usize = 512;
    const DOT_ROWS: usize = 4;
    const AXPY_ROWS: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m512 {
        // SAFETY: see above; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(first(n), from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: __m512, n: usize) {
        // SAFETY: see above; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(n), v) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(v) }
    }

    #[inline(always)]
    unsafe fn transpose(square: &mut [__m512; MOST_LANES]) {
        // SAFETY: see above.
        unsafe {
            let mut t = *square;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(square[2 * i], square[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(square[2 * i], square[2 * i + 1]);
            }
            let mut r = t;
            for i in 0..4 {
                let (a, b) = (_mm512_castps_pd(t[4 * i]), _mm512_castps_pd(t[4 * i + 1]));
                let (c, d) = (_mm512_castps_pd(t[4 * i + 2]), _mm512_castps_pd(t[4 * i + 3]));
                r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            for j in 0..4 {
                let a = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
                let b = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
                let c = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
                let d = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
                square[j] = _mm512_shuffle_f32x4::<0x88>(a, c);
                square[4 + j] = _mm512_shuffle_f32x4::<0x88>(b, d);
                square[8 + j] = _mm512_shuffle_f32x4::<0xdd>(a, c);
                square[12 + j] = _mm512_shuffle_f32x4::<0xdd>(b, d);
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    fn micro(rows: usize, vectors: usize, form: u8) -> MicroFn {
        super::pick_micro!(rows, vectors, form, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    }
}

super::entry_points!(Avx512, "avx512f");
