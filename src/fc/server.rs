//! The HTTP server that the platform calls: it routes, runs the handler, and stops in good order.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::Error;
use super::answer::{self, Answer, Failure};
use super::context::Context;
use super::event::Event;
use super::lifecycle::Lifecycle;
use super::log::{Log, span};
use crate::clock::Clock;

/// How long connections may take to close after the last answer, before a stop drops them.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

type Working = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;

/// The user's function.
pub(super) type Handler = Box<dyn Fn(Event, Context) -> Working + Send + Sync>;

pub(super) struct Server {
    handler: Handler,
    clock: Clock,
    log: Log,
    lifecycle: Arc<Lifecycle>,
}

impl Server {
    pub(super) fn new(handler: Handler, clock: Clock, log: Log) -> Self {
        Self { handler, lifecycle: Arc::new(Lifecycle::new(clock.clone())), clock, log }
    }

    /// Accepts until `stop` or `/pre-stop`, then waits for what is in flight.
    pub(super) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(self.clone().connection(stream));
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: it passes when connections end.
                        tracing::warn!(%error, "cannot accept a connection");
                        self.clock.sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = &mut stop => break,
                () = self.lifecycle.stopping() => break,
            }
        }
        drop(listener);
        self.lifecycle.stop();
        let unfinished = self.lifecycle.drained(Timestamp::MAX).await;
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = self.clock.sleep(CLOSE_LIMIT) => {}
        }
        if unfinished == 0 { Ok(()) } else { Err(Error::Unfinished(unfinished)) }
    }

    /// Serves one connection until the platform closes it; we close it only when the instance stops.
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let server = self.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        // The platform does not repeat a POST on a connection that we closed: the caller would get a 502. hyper's
        // default of 30 s between requests needs a timer, and none is installed; None says it for good.
        let connection = http1::Builder::new()
            .keep_alive(true)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.lifecycle.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let context = Context::from_headers(request.headers(), &self.clock);
        let id = context.request_id.clone();
        let control_path = request.headers().get("x-fc-control-path").map(HeaderValue::as_bytes);
        match route(request.method(), request.uri().path(), control_path) {
            Route::Invoke => self.invoke(context, request.into_body()).await,
            Route::Initialize => {
                // Nothing is left to do: the program did it before it listened.
                self.log.start("Initialize", &id);
                self.log.end("Initialize", &id, false);
                answer::success(&json!({}))
            }
            Route::PreStop => {
                self.log.start("PreStop", &id);
                self.lifecycle.stop();
                let running = self.lifecycle.drained(context.deadline).await;
                self.log.end("PreStop", &id, running > 0);
                if running == 0 {
                    return answer::success(&json!({}));
                }
                let message = format!("{running} invocation(s) still running at the deadline");
                answer::failure(StatusCode::NOT_FOUND, &Failure::new("Unfinished", message))
            }
            Route::Health => answer::success(&json!({ "status": "ok" })),
            Route::HttpTrigger => {
                self.log.start("Invoke", &id);
                self.log.end("Invoke", &id, true);
                let message = "this function takes event invocations only (InvokeFunction, a timer, EventBridge), \
                               no HTTP triggers: remove the HTTP trigger or the custom domain";
                answer::failure(StatusCode::NOT_FOUND, &Failure::new("HttpTriggerNotSupported", message))
            }
            Route::WrongMethod(allowed) => {
                let message = format!("{} {}: use {allowed}", request.method(), request.uri().path());
                let failure = Failure::new("MethodNotAllowed", message);
                let mut answer = answer::failure(StatusCode::METHOD_NOT_ALLOWED, &failure);
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                answer
            }
            Route::NotFound => {
                let message = format!(
                    "{}: no such path; here are POST /invoke, POST /initialize, GET /pre-stop and GET /healthz",
                    request.uri().path()
                );
                answer::failure(StatusCode::NOT_FOUND, &Failure::new("NotFound", message))
            }
        }
    }

    /// One invocation, as a task of its own: should the connection break, the work is still brought to its end.
    async fn invoke(self: Arc<Self>, context: Context, body: Incoming) -> Answer {
        let running = self.lifecycle.begin(context.deadline);
        let id = context.request_id.clone();
        let invocation = async move {
            self.log.start("Invoke", &id);
            let result = self.clone().work(context, body).instrument(span(&id)).await;
            self.log.end("Invoke", &id, result.is_err());
            drop(running);
            result
        };
        // The task itself does not panic, but a runtime that shuts down cancels it.
        let result = match tokio::spawn(invocation).await {
            Ok(result) => result,
            Err(error) => Err((StatusCode::NOT_FOUND, panicked(error))),
        };
        match result {
            Ok(value) => answer::success(&value),
            Err((status, failure)) => answer::failure(status, &failure),
        }
    }

    async fn work(self: Arc<Self>, context: Context, body: Incoming) -> Result<Value, (StatusCode, Failure)> {
        let event = Event::read(body).await?;
        // A task catches the panic of the handler, the call that makes its future included.
        let handled =
            tokio::spawn(async move { (self.handler)(event, context).await }.in_current_span()).await;
        let result = handled.unwrap_or_else(|error| Err(panicked(error)));
        result.map_err(|failure| {
            tracing::error!(errorType = failure.error_type, "{}", failure.error_message);
            (StatusCode::NOT_FOUND, failure)
        })
    }
}

/// What to tell of a handler that did not come to its end.
fn panicked(error: JoinError) -> Failure {
    let Ok(panic) = error.try_into_panic() else {
        return Failure::new("HandlerCancelled", "the handler was cancelled: the instance is stopping");
    };
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Failure::new("HandlerPanicked", format!("the handler panicked: {}", text.unwrap_or("no message")))
}

#[derive(Debug, PartialEq)]
enum Route {
    Invoke,
    Initialize,
    PreStop,
    Health,
    HttpTrigger,
    WrongMethod(&'static str),
    NotFound,
}

/// Traffic of an HTTP trigger carries the client's own path, so that even `/invoke` may be such: only the control
/// path, which no client can set, tells.
fn route(method: &Method, path: &str, control_path: Option<&[u8]>) -> Route {
    let (allowed, route) = match path {
        "/healthz" => ("GET", Route::Health),
        _ if control_path == Some(b"/http-invoke") => return Route::HttpTrigger,
        "/invoke" => ("POST", Route::Invoke),
        "/initialize" => ("POST", Route::Initialize),
        "/pre-stop" => ("GET", Route::PreStop),
        _ => return Route::NotFound,
    };
    if method == allowed { route } else { Route::WrongMethod(allowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let event = Some(b"/invoke".as_slice());
        let http = Some(b"/http-invoke".as_slice());
        for (method, path, control, expected) in [
            (Method::POST, "/invoke", event, Route::Invoke),
            (Method::POST, "/invoke", None, Route::Invoke),
            (Method::POST, "/invoke", http, Route::HttpTrigger),
            (Method::GET, "/pre-stop", http, Route::HttpTrigger),
            (Method::GET, "/", http, Route::HttpTrigger),
            (Method::GET, "/healthz", http, Route::Health),
            (Method::GET, "/healthz", None, Route::Health),
            (Method::POST, "/initialize", Some(b"/initialize"), Route::Initialize),
            (Method::GET, "/pre-stop", None, Route::PreStop),
            (Method::POST, "/pre-stop", None, Route::WrongMethod("GET")),
            (Method::GET, "/invoke", None, Route::WrongMethod("POST")),
            (Method::PUT, "/initialize", None, Route::WrongMethod("POST")),
            (Method::POST, "/healthz", None, Route::WrongMethod("GET")),
            (Method::GET, "/pre-freeze", None, Route::NotFound),
            (Method::POST, "/invoke/", None, Route::NotFound),
        ] {
            assert_eq!(route(&method, path, control), expected, "{method} {path} {control:?}");
        }
    }
}
