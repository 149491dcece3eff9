//! What a kernel needs from a vector unit, and how stored weights become f32 vectors.
#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

/// The most lanes that any vector has.
pub(super) const MOST_LANES: usize = 16;

/// The microkernel of one tile shape; see [`super::product::Micro`].
pub(super) type MicroFn = unsafe fn(&super::product::Micro);

/// One vector unit: a vector of [`Simd::LANES`] f32 and the tile sizes that suit its register file.
///
/// Every method is `#[inline(always)]`: the kernels are written once over this trait and compiled inside
/// entry points that enable the features of the unit.
///
/// # Safety
/// The methods may only be called where the CPU has the features of the implementor. Pointers need `LANES`
/// readable or writable elements (`_first`: only the first `n`, with `n <= LANES`); no alignment is needed.
pub(super) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// f32 per vector.
    const LANES: usize;
    /// Rows of a register tile, which is two vectors wide.
    const TILE_ROWS: usize;
    /// The most steps of the inner dimension per block, a multiple of 16.
    const BLOCK_K: usize;
    /// Rows of `x` in one tile of the dot kernel (by four weight rows).
    const DOT_ROWS: usize;
    /// Rows in one tile of the axpy kernel (by two vectors).
    const AXPY_ROWS: usize;

    /// The distance between the rows of a packed row-form left side; not a power of two.
    const LEFT_STRIDE: usize = Self::BLOCK_K + 16;
    /// The distance between the steps of a packed column-form left side.
    const LEFT_STEP: usize = Self::TILE_ROWS.next_multiple_of(Self::LANES);
    /// Columns of a full panel of the right side.
    const PANEL: usize = 2 * Self::LANES;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    unsafe fn load_f16(from: *const u16) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn store_first(to: *mut f32, v: Self::V, n: usize);
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of the lanes, in one fixed order.
    unsafe fn sum(v: Self::V) -> f32;
    /// Transposes the first `LANES` vectors as a square.
    unsafe fn transpose(square: &mut [Self::V; MOST_LANES]);
    /// A hint that the cache line at `at` is needed soon; any address is allowed.
    unsafe fn prefetch(at: *const u8);
    /// The microkernel for `rows` in `1..=TILE_ROWS` by `vectors` in `1..=2`, over a left side in
    /// `form`.
    fn micro(rows: usize, vectors: usize, form: u8) -> MicroFn;
}

/// How an element is stored.
///
/// # Safety
/// As for [`Simd`].
pub(super) trait Element: Copy {
    /// It is f32 as it lies.
    const PLAIN: bool = false;
    unsafe fn load<S: Simd>(from: *const Self) -> S::V;
    unsafe fn load_first<S: Simd>(from: *const Self, n: usize) -> S::V;
}

impl Element for f32 {
    const PLAIN: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::V {
        // SAFETY: as promised by the caller.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn load_first<S: Simd>(from: *const f32, n: usize) -> S::V {
        // SAFETY: as promised by the caller.
        unsafe { S::load_first(from, n) }
    }
}

/// A bfloat16 number, as its bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Bf16(u16);

/// An IEEE half-precision number, as its bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct F16(u16);

macro_rules! half_element {
    ($half:ty, $load:ident) => {
        impl Element for $half {
            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const $half) -> S::V {
                // SAFETY: as promised by the caller; the type is transparent over u16.
                unsafe { S::$load(from.cast()) }
            }

            #[inline(always)]
            unsafe fn load_first<S: Simd>(from: *const $half, n: usize) -> S::V {
                let mut first = [0u16; MOST_LANES];
                // SAFETY: `n <= LANES <= MOST_LANES` elements are readable and fit into `first`.
                unsafe {
                    for (i, slot) in first.iter_mut().enumerate().take(n) {
                        *slot = (*from.add(i)).0;
                    }
                    S::$load(first.as_ptr())
                }
            }
        }
    };
}
half_element!(Bf16, load_bf16);
half_element!(F16, load_f16);
