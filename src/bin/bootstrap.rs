//! The function: environment, handler, `fc::serve`. It refers to no emulator and no command line.

use std::sync::Arc;

use appsnap::acs::Credentials;
use appsnap::clock::Clock;
use appsnap::fc;
use appsnap::handler::{App, Invocation};
use appsnap::report::{Report, Status};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), fc::Error> {
    fc::init_log(&std::env::var("APPSNAP_LOG").unwrap_or_default())?;
    // A wrong environment is told in the answer of each invocation: a function that does not start tells nobody.
    let app = Arc::new(App::new(Clock::system(), std::env::vars().collect()));
    fc::serve(move |event, context| {
        let app = app.clone();
        async move {
            let app =
                (*app).as_ref().map_err(|error| fc::Failure::new("InvalidEnvironment", error.as_str()))?;
            answer(app.handle(event.bytes(), &invocation(context)).await)
        }
    })
    .await
}

fn invocation(context: fc::Context) -> Invocation {
    let credentials = context.credentials.map(|keys| Credentials {
        access_key_id: keys.access_key_id,
        access_key_secret: keys.access_key_secret,
        security_token: keys.security_token,
        expires_at: None,
    });
    Invocation {
        request_id: context.request_id,
        async_task_id: context.async_task_id,
        region_id: context.region,
        account_id: context.account_id,
        function: context.function_name.map(|name| (name, context.qualifier)),
        credentials,
        deadline: context.deadline,
    }
}

/// One report, or `{"reports": […]}` for an event that held several triggers.
fn answer(reports: Vec<Report>) -> Result<Value, fc::Failure> {
    let failed = reports.iter().find(|report| report.is_failure());
    let failure = failed.map(|report| {
        let message =
            report.error.as_ref().or_else(|| report.units.iter().find_map(|unit| unit.error.as_ref()));
        let message = message.map(|error| format!("{}: {}", error.code, error.message));
        let below = || {
            format!(
                "{}: {}",
                Status::Failed.as_str(),
                report.units.iter().flat_map(|unit| unit.reasons.clone()).collect::<Vec<_>>().join(", ")
            )
        };
        fc::Failure::new("RunFailed", message.unwrap_or_else(below))
    });
    let body = match reports.as_slice() {
        [report] => json!(report),
        several => json!({ "reports": several }),
    };
    match failure {
        Some(failure) => Err(failure.with_report(body)),
        None => Ok(body),
    }
}
