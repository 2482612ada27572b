//! Which device a run uses. The only place that asks which features were built in.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device as written in a config or on the command line: `cpu`, `cuda`, `cuda:N`, `metal`, `metal:N` or
/// `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Device {
    /// The first CUDA device, else the first Metal device, else the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
    /// The Metal device of this index.
    Metal(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(i) => write!(f, "cuda:{i}"),
            Device::Metal(i) => write!(f, "metal:{i}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, index.parse::<usize>().ok()),
            None => (text, Some(0)),
        };
        match (kind, index) {
            ("auto", _) if text == "auto" => Ok(Device::Auto),
            ("cpu", _) if text == "cpu" => Ok(Device::Cpu),
            ("cuda", Some(i)) => Ok(Device::Cuda(i)),
            ("metal", Some(i)) => Ok(Device::Metal(i)),
            _ => Err(Error::config(format!(
                "device {text:?}: expected cpu, cuda, cuda:N, metal, metal:N or auto"
            ))),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(d: Device) -> Self {
        d.to_string()
    }
}

impl Device {
    /// Reads a device name.
    ///
    /// # Errors
    /// If it is not one of the known forms.
    pub fn parse(text: &str) -> Result<Self> {
        text.parse()
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If this build has no support for it (the message names the feature to build with), or the driver
    /// refuses it.
    pub fn open(self) -> Result<candle_core::Device> {
        let refused = |e: candle_core::Error| Error::Other(format!("device {self}: {}", Error::from(e)));
        let unbuilt = |feature: &str| {
            Error::config(format!(
                "device {self}: this build has no support for it; build with `--features {feature}`, or use device cpu"
            ))
        };
        match self {
            Device::Cpu => Ok(candle_core::Device::Cpu),
            Device::Cuda(i) if cfg!(feature = "cuda") => candle_core::Device::new_cuda(i).map_err(refused),
            Device::Cuda(_) => Err(unbuilt("cuda")),
            Device::Metal(i) if cfg!(feature = "metal") => candle_core::Device::new_metal(i).map_err(refused),
            Device::Metal(_) => Err(unbuilt("metal")),
            Device::Auto => {
                let built =
                    [(cfg!(feature = "cuda"), Device::Cuda(0)), (cfg!(feature = "metal"), Device::Metal(0))];
                // A build with CUDA on a machine without a card is a normal case: only a device asked for by
                // name must exist.
                let found = built.into_iter().filter(|(b, _)| *b).find_map(|(_, d)| d.open().ok());
                Ok(found.unwrap_or(candle_core::Device::Cpu))
            }
        }
    }
}

/// The variable and value that suit candle's own pool to this machine, or `None` if the caller's environment
/// has settled either.
///
/// The kernels run on rayon's threads; candle's element-wise operators have a pool beside them whose workers
/// spin for a while before they sleep. On few cores they spin where a kernel would run, so there the pool is
/// turned off; on many, the time that they spin is cut. candle reads the variable at its first operator: it
/// counts for a process only if it is set before that. No result depends on it.
pub fn candle_pool_setting() -> Option<(&'static str, &'static str)> {
    const VARIABLES: [(&str, &str); 2] =
        [("CANDLE_NUM_THREADS", "1"), ("CANDLE_BARRIER_POOL_SPIN_LIMIT", "200")];
    const FEW: usize = 4;
    if VARIABLES.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return None;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Some(VARIABLES[usize::from(cores > FEW)])
}

/// The abilities of this build and machine, which `doctor` prints and a report of a speed carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Version of selfsup.
    pub version: String,
    /// Operating system and architecture, such as `linux x86_64`.
    pub platform: String,
    /// Compute threads (`RAYON_NUM_THREADS` changes it).
    pub threads: usize,
    /// Vector instructions of the processor that matter to the kernels.
    pub cpu_features: Vec<String>,
    /// Features that were built in.
    pub build_features: Vec<String>,
    /// The device that `auto` opens.
    pub auto: String,
}

/// Describes build and machine.
pub fn describe() -> Description {
    let built = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("hub", cfg!(feature = "hub")),
    ];
    let auto = match Device::Auto.open() {
        Ok(candle_core::Device::Cuda(_)) => "cuda:0",
        Ok(candle_core::Device::Metal(_)) => "metal:0",
        _ => "cpu",
    };
    Description {
        version: env!("CARGO_PKG_VERSION").into(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        threads: rayon::current_num_threads(),
        cpu_features: cpu_features()
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name.to_string())
            .collect(),
        build_features: built.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_string()).collect(),
        auto: auto.into(),
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |v: &[String]| if v.is_empty() { "none".to_string() } else { v.join(" ") };
        writeln!(f, "selfsup         {}", self.version)?;
        writeln!(f, "platform        {}", self.platform)?;
        writeln!(f, "threads         {}", self.threads)?;
        writeln!(f, "cpu features    {}", list(&self.cpu_features))?;
        writeln!(f, "build features  {}", list(&self.build_features))?;
        write!(f, "device auto     {}", self.auto)
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    vec![
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, want) in [
            ("cpu", Device::Cpu),
            ("auto", Device::Auto),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("metal", Device::Metal(0)),
            ("metal:1", Device::Metal(1)),
        ] {
            assert_eq!(Device::parse(text).unwrap(), want);
            assert_eq!(Device::parse(&want.to_string()).unwrap(), want);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "CPU"] {
            assert!(Device::parse(text).unwrap_err().to_string().contains("cuda:N"), "{text}");
        }
        #[derive(Deserialize)]
        struct C {
            device: Device,
        }
        assert_eq!(toml::from_str::<C>("device = \"cuda:1\"").unwrap().device, Device::Cuda(1));
        assert!(toml::from_str::<C>("device = \"tpu\"").is_err());
    }

    #[test]
    fn opening() {
        assert!(Device::Cpu.open().unwrap().is_cpu());
        assert!(Device::Auto.open().is_ok());
        if !cfg!(feature = "cuda") {
            let e = Device::Cuda(0).open().unwrap_err();
            assert!(e.to_string().contains("--features cuda") && e.exit_code() == 2, "{e}");
        }
        if !cfg!(feature = "metal") {
            assert!(Device::Metal(0).open().unwrap_err().to_string().contains("--features metal"));
        }
        let d = describe();
        assert!(d.threads >= 1 && d.to_string().contains("threads"));
    }
}
