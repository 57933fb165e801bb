//! Which instances a local cloud has, by name.

use super::cloud::{INSTANCE, LocalCloud};
use super::host::Failure;
use super::windows;

/// What a check of the local cloud is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// What every local cloud starts with: a real Linux guest and a simulated Windows.
    Demo,
}

impl Scene {
    /// What there is.
    pub const NAMES: [&str; 1] = ["demo"];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        (name == "demo").then_some(Self::Demo)
    }

    /// Its instances.
    pub fn instances(self) -> &'static [&'static str] {
        match self {
            Self::Demo => &[INSTANCE, windows::INSTANCE],
        }
    }

    /// Brings in what belongs to it beside what every cloud starts with.
    pub async fn set(self, cloud: &LocalCloud) -> Result<(), Failure> {
        match self {
            Self::Demo => cloud.write_scripts("0700").await,
        }
    }
}
