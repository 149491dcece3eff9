//! Weight files: safetensors, single or sharded, in f32, bf16 or f16; computed in f32.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::decoder::COMPUTE;
use crate::error::LearnError;

/// A tensor of a file in the element type of computation, or why it cannot be had.
pub(crate) fn to_f32(view: &TensorView<'_>, device: &Device) -> Result<Tensor, String> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        other => return Err(format!("element type {other:?}; supported: F32, BF16, F16")),
    };
    let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device);
    tensor.and_then(|tensor| tensor.to_dtype(COMPUTE)).map_err(|e| e.to_string())
}

/// Every tensor of a safetensors file's bytes, by name.
///
/// # Errors
/// [`LearnError::Weights`] naming `path`.
pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Tensor>, LearnError> {
    let damaged = |reason: String| LearnError::Weights { path: path.to_owned(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let tensor =
            to_f32(&view, &Device::Cpu).map_err(|reason| damaged(format!("tensor `{name}`: {reason}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}
