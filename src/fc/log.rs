//! The log is standard output. The platform cuts it into requests by the lines `FC Invoke Start RequestId: …` and
//! `FC Invoke End RequestId: …`; between them stand JSON lines of `tracing`, each with the request's id, since
//! invocations that run at once share the output. A line is written whole and at once: the instance is frozen
//! after the answer, and what was buffered then is lost.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Span, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use super::Error;
use crate::clock::Clock;

/// The target of the spans that carry the request id; always on, whatever the filter says.
const SPAN: &str = "fc.request";

/// Where log lines go; cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Mutex<dyn Write + Send>>);

impl Log {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::to(io::stdout())
    }

    /// Any writer, for tests.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Takes `tracing` events and writes them here as JSON lines, the request id in `span`. `filter` as in
    /// `info` or `warn,my_crate=debug`; empty means `info`.
    ///
    /// # Errors
    /// A filter that cannot be read.
    pub fn subscriber(
        &self,
        filter: &str,
        clock: Clock,
    ) -> Result<impl Subscriber + Send + Sync + use<>, Error> {
        let filter = if filter.trim().is_empty() { "info" } else { filter };
        let targets: Targets = filter.parse().map_err(|error| {
            Error::Log(format!(
                "log filter {filter:?}: {error}; write it like \"info\" or \"warn,my_crate=debug\""
            ))
        })?;
        let log = self.clone();
        let lines = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_timer(Time(clock))
            .with_writer(move || log.clone());
        Ok(tracing_subscriber::registry().with(targets.with_target(SPAN, LevelFilter::ERROR)).with(lines))
    }

    /// `FC <phase> Start RequestId: <id>`, the phase being Invoke, Initialize or PreStop.
    pub(super) fn start(&self, phase: &str, id: &str) {
        self.line(format!("FC {phase} Start RequestId: {id}\n"));
    }

    /// `FC <phase> End RequestId: <id>`, with the vendor's words for a failure.
    pub(super) fn end(&self, phase: &str, id: &str, failed: bool) {
        let error = if failed { ", Error: Unhandled function error" } else { "" };
        self.line(format!("FC {phase} End RequestId: {id}{error}\n"));
    }

    fn line(&self, line: String) {
        let _ = self.clone().write_all(line.as_bytes()); // never fails, see there
    }
}

/// Sends `tracing` events of the whole program to standard output, as [`Log::subscriber`] describes. A program
/// names its own variable: `init_log(&std::env::var("MY_LOG").unwrap_or_default())`.
///
/// # Errors
/// A filter that cannot be read, or a subscriber that is installed already.
pub fn init_log(filter: &str) -> Result<(), Error> {
    let subscriber = Log::stdout().subscriber(filter, Clock::system())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| Error::Log(format!("log: {error}")))
}

/// The span of one request. Of the highest level, or a filter like `warn` would drop it and with it the id.
pub(super) fn span(id: &str) -> Span {
    tracing::error_span!(target: SPAN, "request", requestId = id)
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that nobody reads any more is no reason to fail the work.
        let _ = out.write_all(bytes).and_then(|()| out.flush());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // every write flushes
    }
}

struct Time(Clock);

impl FormatTime for Time {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:.3}", self.0.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What is written while `work` runs under `filter`.
    fn written(filter: &str, work: impl FnOnce()) -> String {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let log = Log(buffer.clone());
        tracing::subscriber::with_default(log.subscriber(filter, Clock::system()).unwrap(), || {
            work();
        });
        String::from_utf8(buffer.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_json_with_the_request_id() {
        let text = written("", || {
            let _span = span("1-a").entered();
            tracing::info!(disk = "d-1", "two\nlines");
            tracing::debug!("not at this level");
        });
        let line: Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(line["span"], json!({ "name": "request", "requestId": "1-a" }));
        assert_eq!((&line["message"], &line["disk"]), (&json!("two\nlines"), &json!("d-1")));
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    }

    #[test]
    fn no_filter_takes_the_request_id_away() {
        for filter in ["warn", "error", "appsnap=warn", "fc.request=off,warn"] {
            let text = written(filter, || {
                let _span = span("1-a").entered();
                tracing::error!("late");
                tracing::info!("early");
            });
            assert!(text.contains("\"requestId\":\"1-a\"") && !text.contains("early"), "{filter}: {text}");
        }
    }

    #[test]
    fn a_log_that_nobody_reads_fails_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(Log::to(writer).write_all(b"line").is_ok());
    }

    #[test]
    fn a_bad_filter_is_refused_by_name() {
        let error =
            Log::stdout().subscriber("appsnap=loud", Clock::system()).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("log filter \"appsnap=loud\": "), "{error}");
    }
}
