//! The command from the outside: what users type, what they see, what is left on disk. One binary, so that a
//! new file costs no link of its own.
#![allow(clippy::unwrap_used)] // tests

mod common;

#[cfg(feature = "vision")]
mod bad_input;
#[cfg(all(feature = "vision", feature = "text", feature = "speech", feature = "medical", debug_assertions))]
mod crash;
#[cfg(feature = "vision")]
mod curve;
#[cfg(feature = "vision")]
mod dense;
#[cfg(all(feature = "vision", feature = "text", feature = "speech", feature = "medical"))]
mod examples;
#[cfg(feature = "vision")]
mod folder;
#[cfg(feature = "vision")]
mod groups;
#[cfg(feature = "vision")]
mod habits;
#[cfg(all(
    target_os = "linux",
    feature = "vision",
    feature = "text",
    feature = "speech",
    feature = "medical"
))]
mod hostile;
#[cfg(all(unix, feature = "vision"))]
mod kill;
#[cfg(feature = "vision")]
mod measures;
#[cfg(all(feature = "vision", feature = "text", feature = "speech", feature = "medical"))]
mod modalities;
#[cfg(all(feature = "vision", feature = "text", feature = "speech", feature = "medical"))]
mod newcomer;
#[cfg(all(feature = "text", feature = "parquet"))]
mod parquet;
#[cfg(feature = "vision")]
mod readme;
#[cfg(feature = "vision")]
mod report;
#[cfg(all(feature = "vision", feature = "text", feature = "speech"))]
mod robustness;
#[cfg(feature = "vision")]
mod search;
#[cfg(feature = "text")]
mod shared;
#[cfg(feature = "signals")]
mod signals;
#[cfg(all(feature = "vision", feature = "medical"))]
mod slices;
#[cfg(feature = "speech")]
mod speech;
#[cfg(feature = "vision")]
mod tables;
#[cfg(feature = "vision")]
mod tasks;
#[cfg(feature = "text")]
mod text_tasks;
#[cfg(all(unix, feature = "vision", feature = "medical"))]
mod volumes;
