//! Typed calls, one file per product, over [`crate::acs`]: only the parameters and fields that are used here.
//! Answers are read leniently: unknown fields are ignored, absent ones are empty.
//!
//! **An empty list is not always "there is nothing".** ECS answers a caller without permission with an empty list
//! on most Describe calls (seen for groups and instances); whoever concludes something from absence has to say so.
//! Roles are assumed by [`acs::Client::assuming`](crate::acs::Client::assuming).

mod answer;
pub mod assistant;
pub mod command;
pub mod ecs;
pub mod fc;
pub mod preflight;
#[cfg(test)]
mod testing;

use crate::acs::{Product, STS};

/// The products that are called, for [`Endpoints::from_env`](crate::acs::Endpoints::from_env).
pub static PRODUCTS: [&Product; 3] = [&ecs::ECS, &STS, &fc::FC];
