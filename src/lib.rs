//! appsnap takes application-consistent snapshots of Alibaba Cloud ECS instances from a serverless
//! function, never leaves a guest frozen and never lies about what it got.
//!
//! The way of one event: `event` → `policy` → `api` (survey) → `eligibility` → `protect` (`guest`) →
//! `report` → `notify`.

pub mod acs;
pub mod api;
pub mod cli;
pub mod clock;
pub mod eligibility;
pub mod event;
pub mod fc;
pub mod guest;
pub mod handler;
pub mod local;
pub mod notify;
pub mod policy;
pub mod protect;
pub mod report;
pub mod secret;
