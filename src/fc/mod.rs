//! A custom runtime for Alibaba Cloud Function Compute 3.0, lambda-style: hand over an async function, be done.
//!
//! ```no_run
//! use appsnap::fc;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), fc::Error> {
//!     fc::serve(|event: fc::Event, context: fc::Context| async move {
//!         let name: String = event.json()?;
//!         Ok(serde_json::json!({ "greeting": format!("Hello, {name}!"), "deadline": context.deadline.to_string() }))
//!     })
//!     .await
//! }
//! ```
//!
//! The platform starts the program, waits until it listens, and calls it over HTTP: `POST /invoke` with the raw
//! event, around it `POST /initialize` and `GET /pre-stop`. It holds its connections open, stops the process
//! between requests, and discards our HTTP status: only the header `x-fc-status` tells success from failure.
//! The way of a request: `server` routes it, `context` reads its headers, `event` holds its body, the handler
//! works, `answer` wraps what came out. `lifecycle` counts what is in flight, so that a stop waits for it; `log`
//! writes the lines by which the platform cuts its log into requests.
//!
//! A handler should finish or cancel all it started before it returns: the instance is frozen after the answer.

mod answer;
mod context;
mod event;
mod lifecycle;
mod log;
mod server;

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use answer::Failure;
pub use context::{Context, Credentials};
pub use event::{Event, MAX_EVENT_BYTES};
pub use log::{Log, init_log};

use crate::clock::Clock;

/// Serves invocations with `handler` until the platform stops the instance (`/pre-stop` or SIGTERM), then lets
/// what is in flight finish and returns `Ok`.
///
/// Listens on `0.0.0.0`, port `FC_SERVER_PORT`, else `FC_CUSTOM_LISTEN_PORT`, else 9000. Several invocations run
/// at once where the function's `instanceConcurrency` allows it; on a `current_thread` runtime they share a thread,
/// so that a handler which blocks holds up the others. A panic of the handler becomes a failure.
///
/// # Errors
/// A bad or taken port, and invocations that were still running at their deadline when the instance stopped.
pub async fn serve<H, F>(handler: H) -> Result<(), Error>
where
    H: Fn(Event, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port(|name| std::env::var(name).ok())?));
    let mut term = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
    tracing::info!(%address, "listening");
    let stop = async move {
        term.recv().await;
    };
    serve_on(listener, Clock::system(), Log::stdout(), stop, handler).await
}

/// [`serve`] on a listener, a clock and a log of the caller's choice, until `stop` resolves or `/pre-stop` comes.
///
/// # Errors
/// Invocations that were still running at their deadline.
pub async fn serve_on<H, F>(
    listener: TcpListener,
    clock: Clock,
    log: Log,
    stop: impl Future<Output = ()>,
    handler: H,
) -> Result<(), Error>
where
    H: Fn(Event, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let handler: server::Handler = Box::new(move |event, context| Box::pin(handler(event, context)));
    Arc::new(server::Server::new(handler, clock, log)).run(listener, stop).await
}

/// The port to listen on. The vendor's own runtime library reads `FC_SERVER_PORT`; the documented variable is
/// `FC_CUSTOM_LISTEN_PORT`; the platform's default is 9000.
fn port(env: impl Fn(&str) -> Option<String>) -> Result<u16, Error> {
    for name in ["FC_SERVER_PORT", "FC_CUSTOM_LISTEN_PORT"] {
        if let Some(value) = env(name).filter(|value| !value.is_empty()) {
            return match value.parse::<NonZeroU16>() {
                Ok(port) => Ok(port.get()),
                Err(_) => Err(Error::Port { name, value }),
            };
        }
    }
    Ok(9000)
}

/// Why the runtime could not start, or did not end well.
#[derive(thiserror::Error)]
pub enum Error {
    /// A port variable holds no port.
    #[error("{name}={value:?} is not a port: set it to a number from 1 to 65535, or unset it")]
    Port {
        /// The environment variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// The port is taken or not allowed.
    #[error("cannot listen on {address}: {source} (another port: set FC_SERVER_PORT)")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no signal handler.
    #[error("cannot wait for SIGTERM: {0}")]
    Signal(std::io::Error),
    /// The log filter cannot be read, or a log is installed already.
    #[error("{0}")]
    Log(String),
    /// The instance was stopped and these many invocations did not finish by their deadline.
    #[error("stopped with {0} invocation(s) still running at their deadline")]
    Unfinished(usize),
}

/// As `Display`, because that is what a `main` which returns this error shows.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_with(vars: &[(&str, &str)]) -> Result<u16, String> {
        port(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_port_comes_from_the_first_variable_that_is_set() {
        assert_eq!(port_with(&[]), Ok(9000));
        assert_eq!(port_with(&[("FC_CUSTOM_LISTEN_PORT", "8080")]), Ok(8080));
        assert_eq!(port_with(&[("FC_CUSTOM_LISTEN_PORT", "8080"), ("FC_SERVER_PORT", "8081")]), Ok(8081));
        assert_eq!(port_with(&[("FC_SERVER_PORT", ""), ("FC_CUSTOM_LISTEN_PORT", "8080")]), Ok(8080));
    }

    #[test]
    fn a_bad_port_is_refused_with_its_name_and_value() {
        for bad in ["0", "65536", "nine thousand", "-1"] {
            let error = port_with(&[("FC_SERVER_PORT", bad), ("FC_CUSTOM_LISTEN_PORT", "9000")]).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "FC_SERVER_PORT={bad:?} is not a port: set it to a number from 1 to 65535, or unset it"
                )
            );
        }
    }
}
