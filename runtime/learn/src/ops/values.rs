//! The numbers of a tensor on the CPU as a slice.

use std::ops::Deref;

use candle_core::{CpuStorage, Result, Storage, Tensor};

/// The elements of a contiguous f32 tensor on the CPU, borrowed from it.
pub(crate) struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + Sync + 'a>,
    start: usize,
    end: usize,
}

impl<'a> Values<'a> {
    /// # Errors
    /// A tensor of another element type or device, or one that is a strided view: a mistake of the caller.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Values<'a>> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("BUG: expected contiguous values, found strides {:?}", layout.stride())
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(data)) if end <= data.len() => {
                Ok(Values { storage: Box::new(storage), start, end })
            }
            _ => candle_core::bail!("BUG: expected f32 values on the CPU, found {:?}", tensor.dtype()),
        }
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.end],
            // `of` has looked.
            _ => &[],
        }
    }
}
