//! The OpenAPI client core: signature, credentials, endpoints, transport, retries, waits and errors. It knows no
//! product: typed calls live in [`crate::api`].
//!
//! The way of one call: [`Call`] → credentials of the [`Client`] (assumed role, cached) → [`presign`] (pure) →
//! [`Transport`] → judged by `retry` → JSON, or an [`Error`] that tells the whole story.

mod call;
mod client;
mod credentials;
mod encode;
mod endpoint;
mod error;
mod identity;
mod presign;
mod retry;
pub mod signature;
#[cfg(test)]
mod tests;
mod transport;
mod wait;

pub use call::{Call, Kind};
pub use client::{Client, Settings};
pub use credentials::{Credentials, MissingCredentials};
pub use encode::{json_list, path as encode_path};
pub use endpoint::{BadEndpoint, Endpoint, Endpoints, Network, Product};
pub use error::{Detail, Error, is_denied};
pub use identity::{Identities, PolicyTooLong, Role, STS};
pub use presign::{Presigned, presign};
pub use retry::is_passing;
pub use transport::{BadBundle, Failure, Reply, Stage, Transport, Wire, https_client};
pub use wait::{Pace, past_limits, wait_until};
