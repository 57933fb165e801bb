//! The smallest function: it greets whoever the event names.
//!
//! Try it: `cargo run --example hello`, then `curl -d '{"name": "Function Compute"}' localhost:9000/invoke`.

use appsnap::fc;
use serde_json::{Value, json};

async fn hello(event: fc::Event, context: fc::Context) -> Result<Value, fc::Failure> {
    let event: Value = event.json()?;
    let Some(name) = event["name"].as_str() else {
        return Err(fc::Failure::new("NoName", "the event has no name: send {\"name\": \"...\"}"));
    };
    tracing::info!(name, "greeting");
    Ok(json!({ "greeting": format!("Hello, {name}!"), "requestId": context.request_id }))
}

/// Serves until SIGTERM.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), fc::Error> {
    fc::init_log(&std::env::var("HELLO_LOG").unwrap_or_default())?;
    fc::serve(hello).await
}
