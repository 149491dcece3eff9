//! Where models are computed: the CPU, or a CUDA device where the program was built for them and there is one.
//!
//! On the CPU everything is computed in f32, on a CUDA device in bf16 with sums and adapters in f32: the same code
//! with other operations below it (`ops`). Results of two devices agree within rounding, and not bit for bit.

use std::fmt::{Display, Formatter};
use std::panic::catch_unwind;
use std::str::FromStr;

use candle_core::{DType, Device, DeviceLocation, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::LearnError;

/// What a user asks for. Written as `auto`, `cpu`, `cuda:N`; `cuda` is `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first CUDA device if there is one that can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its number, from 0.
    Cuda(usize),
}

/// A device that works, and what models compute in there.
#[derive(Debug, Clone)]
pub struct Compute {
    device: Device,
    kind: DType,
}

/// Why there is no CUDA device, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCuda {
    /// This program cannot use any.
    #[error(
        "built without the feature `cuda`: with a CUDA toolkit, build it again with `cargo install --features cuda`"
    )]
    NotBuilt,
    /// Nothing to talk to.
    #[error("no CUDA driver (libcuda.so.1) was found: install NVIDIA's driver")]
    NoDriver,
    /// The driver sees no device.
    #[error("the driver sees no GPU: look at `nvidia-smi`, and at CUDA_VISIBLE_DEVICES if it is set")]
    NoDevice,
    /// There are fewer devices.
    #[error("there is no CUDA device {0}: `nvidia-smi -L` lists them, from 0")]
    NoSuchDevice(usize),
    /// The driver is older than the toolkit that the program was built with.
    #[error(
        "the driver is too old for this program: update it, or build with its CUDA version (it reports: {0})"
    )]
    OldDriver(String),
    /// Whatever else.
    #[error("the driver reports: {0}")]
    Driver(String),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        let number = |number: &str| number.parse().map(DeviceChoice::Cuda).ok();
        match text {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            other => other.strip_prefix("cuda:").and_then(number),
        }
        .ok_or_else(|| "expected auto, cpu, cuda, or cuda:N with the number of a device".to_owned())
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<DeviceChoice, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> String {
        choice.to_string()
    }
}

impl DeviceChoice {
    /// The device, ready: bf16 on CUDA, f32 on the CPU.
    ///
    /// # Errors
    /// [`LearnError::Device`] saying why, when a CUDA device was asked for and cannot be used.
    pub fn resolve(self) -> Result<Compute, LearnError> {
        match self {
            DeviceChoice::Cpu => Ok(Compute::cpu()),
            DeviceChoice::Auto => Ok(Compute::cuda(0).unwrap_or_else(|_| Compute::cpu())),
            DeviceChoice::Cuda(number) => Compute::cuda(number)
                .map_err(|why| LearnError::Device(format!("`{self}` cannot be used: {why}"))),
        }
    }
}

impl Compute {
    /// f32 on the CPU.
    pub fn cpu() -> Compute {
        Compute { device: Device::Cpu, kind: DType::F32 }
    }

    /// bf16 on a CUDA device, which has shown that it computes.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn cuda(number: usize) -> Result<Compute, NoCuda> {
        if !candle_core::utils::cuda_is_available() {
            return Err(NoCuda::NotBuilt);
        }
        // Where a library is missing, the bindings may panic.
        let probed = catch_unwind(|| probe(number).map_err(|error| error.to_string()));
        let panicked = |_| Err("panicked: a CUDA library is missing".to_owned());
        let device = probed.unwrap_or_else(panicked).map_err(|report| explained(&report, number))?;
        Ok(Compute { device, kind: DType::BF16 })
    }

    /// The same device with models of another element type: f32, bf16 or f16.
    pub fn with_kind(self, kind: DType) -> Compute {
        Compute { kind, ..self }
    }

    /// What asks for this device and no other.
    pub fn choice(&self) -> DeviceChoice {
        match self.device.location() {
            DeviceLocation::Cuda { gpu_id } => DeviceChoice::Cuda(gpu_id),
            DeviceLocation::Cpu | DeviceLocation::Metal { .. } => DeviceChoice::Cpu,
        }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What models compute in.
    pub fn kind(&self) -> DType {
        self.kind
    }
}

impl Display for Compute {
    /// `cpu, f32` or `cuda:0, bf16`.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.choice(), self.kind.as_str())
    }
}

/// A device that has added and multiplied: that a driver refuses the kernels shows at the first one.
fn probe(number: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda(number)?;
    let ones = Tensor::ones((2, 2), DType::BF16, &device)?;
    let sum = ones.matmul(&ones)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
    match sum == 8.0 {
        true => Ok(device),
        false => candle_core::bail!("a product of ones that sums to {sum} and not to 8"),
    }
}

/// A driver's words in ours.
fn explained(report: &str, number: usize) -> NoCuda {
    let says = |words: &[&str]| words.iter().any(|word| report.contains(word));
    if says(&["libcuda", "could not be loaded", "STUB_LIBRARY", "panicked"]) {
        NoCuda::NoDriver
    } else if says(&["NO_DEVICE"]) {
        NoCuda::NoDevice
    } else if says(&["INVALID_DEVICE"]) {
        NoCuda::NoSuchDevice(number)
    } else if says(&["INSUFFICIENT_DRIVER", "DRIVER_MISMATCH", "UNSUPPORTED_PTX", "INVALID_PTX"]) {
        NoCuda::OldDriver(first_line(report))
    } else {
        NoCuda::Driver(first_line(report))
    }
}

fn first_line(report: &str) -> String {
    report.lines().next().unwrap_or_default().trim().to_owned()
}

/// The vector unit that the CPU's kernels use, chosen at run time: `AVX-512`, `AVX2`, or `portable`, which is whatever
/// the program was built for.
pub fn cpu_kernels() -> &'static str {
    match crate::ops::best_name() {
        "Avx512" => "AVX-512",
        "Avx2" => "AVX2",
        _ => "portable",
    }
}

/// Threads that the CPU's kernels use; `RAYON_NUM_THREADS` changes it.
pub fn cpu_threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` on threads of its own, so many (0 is one a core), whose passes do not wait for those of other threads.
/// Returns at once; `work` is dropped when it is done.
///
/// # Errors
/// When the threads cannot be started.
pub fn spawn_on_own_threads(
    name: &'static str,
    threads: usize,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), LearnError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(move |_| name.to_owned());
    let pool = pool.build().map_err(|error| LearnError::Config(format!("threads for `{name}`: {error}")))?;
    pool.spawn(work);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:12", DeviceChoice::Cuda(12)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "cuda0", "cpu "] {
            let refused = text.parse::<DeviceChoice>();
            assert!(refused.is_err_and(|why| why.starts_with("expected auto, cpu")), "{text}");
        }
    }

    #[test]
    fn reports_of_drivers_are_explained() {
        for (report, why) in [
            ("DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device\")", NoCuda::NoDevice),
            ("DriverError(CUDA_ERROR_STUB_LIBRARY, \"stub\")", NoCuda::NoDriver),
            ("CUDA_ERROR_NO_DEVICE, no CUDA driver: libcuda.so.1 could not be loaded", NoCuda::NoDriver),
            ("DriverError(CUDA_ERROR_INVALID_DEVICE, \"ordinal\")", NoCuda::NoSuchDevice(3)),
            (
                "DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION)\n  at kernel",
                NoCuda::OldDriver("DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION)".to_owned()),
            ),
            ("out of memory\nbacktrace", NoCuda::Driver("out of memory".to_owned())),
        ] {
            assert_eq!(explained(report, 3), why, "{report}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(DeviceChoice::Cpu.resolve().expect("the CPU").to_string(), "cpu, f32");
        let auto = DeviceChoice::Auto.resolve().expect("a device").to_string();
        assert!(["cpu, f32", "cuda:0, bf16"].contains(&auto.as_str()), "{auto}");
        assert!(!cpu_kernels().is_empty());
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_with_the_reason() {
        // No machine has so many.
        let error = DeviceChoice::Cuda(4_000_000).resolve().expect_err("no device").to_string();
        assert!(error.starts_with("device: `cuda:4000000` cannot be used: "), "{error}");
    }
}
