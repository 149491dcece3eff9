//! Weights as they are stored: f32, bf16 or f16 elements of a safetensors file that stay where they are and are
//! widened where they are used. Norms, biases and adapters are small and become f32 tensors.

use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::decoder::COMPUTE;
use crate::error::LearnError;
use crate::mapped::Mapped;
use crate::ops::{Elements, Frozen, Values};

/// The bytes of a file, wherever they are. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    /// Part of the program.
    Static(&'static [u8]),
    /// Read or made.
    Owned(Arc<Vec<u8>>),
    /// A file of weights.
    Mapped(Arc<Mapped>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }
}

/// A matrix `[out, in]` of a linear layer or an embedding.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    /// On a device, or one that is trained or computed.
    Tensor(Tensor),
    /// Elements of a file, in their stored type.
    Stored(Stored),
}

/// Elements of a file.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    bytes: Bytes,
    range: Range<usize>,
    kind: DType,
    out: usize,
    input: usize,
}

impl Matrix {
    /// Rows: outputs of the layer.
    pub(crate) fn out(&self) -> usize {
        match self {
            Matrix::Tensor(tensor) => tensor.dims().first().copied().unwrap_or(0),
            Matrix::Stored(stored) => stored.out,
        }
    }

    /// Lends the elements to the kernels. The tensor, if it is one, must be of f32 on the CPU.
    pub(crate) fn with<R>(&self, work: impl FnOnce(Frozen<'_>) -> R) -> candle_core::Result<R> {
        match self {
            Matrix::Stored(stored) => stored
                .elements()
                .map(|elements| work(Frozen { elements, out: stored.out, input: stored.input })),
            Matrix::Tensor(tensor) => {
                let (out, input) = tensor.dims2()?;
                let values = Values::of(tensor)?;
                Ok(work(Frozen { elements: Elements::F32(&values), out, input }))
            }
        }
    }

    /// A copy as a tensor: of f32 on the CPU, of `kind` elsewhere.
    ///
    /// # Errors
    /// Only the tensor library's.
    pub(crate) fn tensor(&self, kind: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self {
            Matrix::Tensor(tensor) => tensor.to_device(device)?.to_dtype(kind),
            Matrix::Stored(Stored { bytes, range, kind: stored, out, input }) => {
                let bytes = &bytes[range.clone()];
                Tensor::from_raw_buffer(bytes, *stored, &[*out, *input], device)?.to_dtype(kind)
            }
        }
    }

    /// The matrix for computing in `kind` on a device. Where that is f32 on the CPU, elements of a file stay there.
    ///
    /// # Errors
    /// Only the tensor library's.
    pub(crate) fn to_device(&self, device: &Device, kind: DType) -> candle_core::Result<Matrix> {
        match self {
            Matrix::Stored(_) if device.is_cpu() && kind == COMPUTE => Ok(self.clone()),
            _ => Ok(Matrix::Tensor(self.tensor(kind, device)?)),
        }
    }

    /// The matrix as an f32 tensor that can be changed.
    ///
    /// # Errors
    /// Only the tensor library's.
    pub(crate) fn thaw(&mut self) -> candle_core::Result<&mut Tensor> {
        if let Matrix::Stored(_) = self {
            *self = Matrix::Tensor(self.tensor(COMPUTE, &Device::Cpu)?);
        }
        match self {
            Matrix::Tensor(tensor) => Ok(tensor),
            Matrix::Stored(_) => candle_core::bail!("BUG: a thawed matrix is a tensor"),
        }
    }

    /// The rows with these indices, `[ids, in]`, widened.
    ///
    /// # Errors
    /// Only the tensor library's; indices are checked by the caller.
    pub(crate) fn rows(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let Matrix::Stored(stored) = self else {
            let Matrix::Tensor(tensor) = self else { candle_core::bail!("BUG: two kinds of matrix") };
            return tensor.index_select(&Tensor::new(ids, tensor.device())?, 0);
        };
        let mut rows = Vec::with_capacity(ids.len() * stored.input);
        let elements = stored.elements()?;
        for &id in ids {
            let at = id as usize * stored.input..(id as usize + 1) * stored.input;
            match elements {
                Elements::F32(all) => rows.extend_from_slice(&all[at]),
                Elements::Bf16(all) => {
                    rows.extend(all[at].iter().map(|&x| half::bf16::from_bits(x).to_f32()))
                }
                Elements::F16(all) => rows.extend(all[at].iter().map(|&x| half::f16::from_bits(x).to_f32())),
            }
        }
        Tensor::from_vec(rows, (ids.len(), stored.input), &Device::Cpu)
    }
}

impl Stored {
    fn elements(&self) -> candle_core::Result<Elements<'_>> {
        let bytes = &self.bytes[self.range.clone()];
        let bad = |e: bytemuck::PodCastError| candle_core::Error::Msg(format!("BUG: weights: {e}"));
        Ok(match self.kind {
            DType::F32 => Elements::F32(bytemuck::try_cast_slice(bytes).map_err(bad)?),
            DType::BF16 => Elements::Bf16(bytemuck::try_cast_slice(bytes).map_err(bad)?),
            DType::F16 => Elements::F16(bytemuck::try_cast_slice(bytes).map_err(bad)?),
            other => candle_core::bail!("BUG: weights of {other:?}"),
        })
    }
}

/// Where a file's tensors are.
pub(crate) struct Shard {
    bytes: Bytes,
    /// For messages.
    path: PathBuf,
    /// Element type, shape and place of each tensor.
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Range<usize>)>,
}

impl Shard {
    /// Reads the header of a safetensors file.
    ///
    /// # Errors
    /// [`LearnError::Weights`] naming `path`, when it is damaged. Unsupported element types are refused when
    /// the tensor is used.
    pub(crate) fn open(bytes: Bytes, path: &Path) -> Result<Shard, LearnError> {
        let damaged = |reason: String| LearnError::Weights { path: path.to_owned(), reason };
        let mut tensors = BTreeMap::new();
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let start = bytes.as_ptr() as usize;
        for (name, view) in file.iter() {
            let at = view.data().as_ptr() as usize - start;
            let place = (view.dtype(), view.shape().to_vec(), at..at + view.data().len());
            tensors.insert(name.to_owned(), place);
        }
        Ok(Shard { bytes, path: path.to_owned(), tensors })
    }

    /// A tensor of this shape by name; `None` when the file has none of this name.
    ///
    /// # Errors
    /// [`LearnError::Shape`], and [`LearnError::Weights`] for an element type that is not supported.
    pub(crate) fn matrix(&self, name: &str, shape: &[usize]) -> Result<Option<Matrix>, LearnError> {
        let Some((kind, found, range)) = self.tensors.get(name) else { return Ok(None) };
        if found != shape {
            let (name, expected, found) = (name.to_owned(), shape.to_vec(), found.clone());
            return Err(LearnError::Shape { name, expected, found });
        }
        let kind = &element_type(*kind).map_err(|e| LearnError::Weights {
            path: self.path.clone(),
            reason: format!("tensor `{name}`: {e}"),
        })?;
        let place = &self.bytes[range.clone()];
        // A vector is small and wanted as f32. Kernels read elements in place, where they are aligned for it.
        let [out, input] = *shape else {
            let tensor = Tensor::from_raw_buffer(place, *kind, shape, &Device::Cpu)?;
            return Ok(Some(Matrix::Tensor(tensor.to_dtype(COMPUTE)?)));
        };
        let aligned = (place.as_ptr() as usize).is_multiple_of(kind.size_in_bytes());
        if !aligned || cfg!(target_endian = "big") {
            let tensor = Tensor::from_raw_buffer(place, *kind, shape, &Device::Cpu)?;
            return Ok(Some(Matrix::Tensor(tensor.to_dtype(COMPUTE)?)));
        }
        let (bytes, range, kind) = (self.bytes.clone(), range.clone(), *kind);
        Ok(Some(Matrix::Stored(Stored { bytes, range, kind, out, input })))
    }
}

fn element_type(kind: Dtype) -> Result<DType, String> {
    match kind {
        Dtype::F32 => Ok(DType::F32),
        Dtype::BF16 => Ok(DType::BF16),
        Dtype::F16 => Ok(DType::F16),
        other => Err(format!("element type {other:?}; supported: F32, BF16, F16")),
    }
}

/// A tensor of a file in the element type of computation, or why it cannot be had.
pub(crate) fn to_f32(view: &TensorView<'_>, device: &Device) -> Result<Tensor, String> {
    let kind = element_type(view.dtype())?;
    let tensor = Tensor::from_raw_buffer(view.data(), kind, view.shape(), device);
    tensor.and_then(|tensor| tensor.to_dtype(COMPUTE)).map_err(|e| e.to_string())
}

/// Every tensor of a safetensors file's bytes, by name, as f32.
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
