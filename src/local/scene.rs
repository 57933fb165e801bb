//! Which instances a local cloud has, by name.

use serde_json::{Map, Value, json};

use super::cloud::{INSTANCE, LocalCloud, REGION};
use super::host::Failure;
use super::{seed, windows};

/// What a check of the local cloud is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// What every local cloud starts with: a real Linux guest and a simulated Windows.
    Demo,
    /// Beside those, an instance for each condition that can be unmet ([`seed`]).
    Seed,
}

impl Scene {
    /// What there is.
    pub const NAMES: [&str; 2] = ["demo", "seed"];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        let mut known = [Self::Demo, Self::Seed].into_iter().zip(Self::NAMES);
        known.find_map(|(scene, own)| (own == name).then_some(scene))
    }

    /// A request's `targets` that mean its instances.
    pub fn targets(self) -> Map<String, Value> {
        let fields = match self {
            Self::Demo => vec![("instanceIds", json!([INSTANCE, windows::INSTANCE]))],
            Self::Seed => vec![
                ("tags", json!({ (seed::TAG.0): [seed::TAG.1] })),
                ("scope", json!([{ "regionIds": [REGION, seed::FAR] }])),
            ],
        };
        fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
    }

    /// Brings in what belongs to it beside what every cloud starts with.
    pub async fn set(self, cloud: &LocalCloud) -> Result<(), Failure> {
        match self {
            Self::Demo => cloud.write_scripts("0700").await,
            Self::Seed => seed::populate(cloud).await,
        }
    }
}
