//! `ecs:CloudAssistant:TaskCompleted`: a command has ended. If it was a run of ours and nobody settled it, its function
//! died in between: settle it now.

use std::time::Duration;

use serde_json::json;

use super::places::account_of;
use super::{App, FAREWELL, Invocation, Origin};
use crate::acs::{Client, Role};
use crate::api::assistant::{self, InvocationResult};
use crate::policy::Request;
use crate::protect::{self, Task, attempts};
use crate::report::{ErrorReport, Report, Status, Unit};

/// The function that started the command is usually still at work when its end is told: it goes first.
const GRACE: Duration = Duration::from_secs(20);

impl App {
    pub(super) async fn settle(
        &self,
        origin: &Origin,
        invoke_id: &str,
        instance_id: &str,
        invocation: &Invocation,
    ) -> Report {
        match self.settled(origin, invoke_id, instance_id, invocation).await {
            Ok(report) => report,
            Err(error) => {
                let report = self.report(origin, "", Status::Failed, Vec::new(), Some(error), 0);
                self.notified(report, None, origin, invocation).await
            }
        }
    }

    async fn settled(
        &self,
        origin: &Origin,
        invoke_id: &str,
        instance_id: &str,
        invocation: &Invocation,
    ) -> Result<Report, ErrorReport> {
        let region_id = invocation.region_id.clone().unwrap_or_default();
        let base = self.client(&region_id, invocation)?;
        let role_arn = self.get("APPSNAP_ROLE_ARN");
        let client =
            role_arn.as_deref().map_or_else(|| base.clone(), |arn| base.assuming(Role::new(arn, "appsnap")));
        let look = async |client: &Client| -> Result<Option<InvocationResult>, ErrorReport> {
            assistant::invocation_result(client, &region_id, invoke_id, instance_id)
                .await
                .map_err(|error| ErrorReport::from(&error))
        };
        let Some(mut result) = look(&client).await? else {
            return Ok(self.ignored(origin, format!("the cloud does not show {invoke_id}")));
        };
        if tag(&result, "appsnap:unit").is_none() {
            return Ok(self.ignored(origin, format!("{invoke_id} is no run of appsnap")));
        }
        if tag(&result, "appsnap:outcome").is_none() {
            self.clock.sleep(GRACE).await;
            result = look(&client).await?.unwrap_or(result);
        }
        if tag(&result, "appsnap:outcome").is_some() {
            return Ok(self.ignored(origin, format!("{invoke_id} is settled")));
        }
        let word = |key: &str| tag(&result, key).unwrap_or_default();
        let linux = match tag(&result, "appsnap:engine") {
            Some("plugin") => {
                json!({ "engine": "plugin", "enableFsFreeze": word("appsnap:freeze") != "false" })
            }
            _ => json!({ "thawOn": tag(&result, "appsnap:thaw-on").unwrap_or("visible") }),
        };
        let request = json!({
            "policy": word("appsnap:policy"), "targets": { "instanceIds": [instance_id] },
            "consistency": word("appsnap:wanted"), "minimumLevel": word("appsnap:minimum"),
            "linux": linux,
            "windows": { "enableWriters": word("appsnap:writers") != "false" },
        });
        let request = Request::parse(&request).map_err(|invalid| ErrorReport::from(&invalid))?;
        let task = Task {
            client: client.clone(),
            role_arn: role_arn.clone(),
            external_id: None,
            run: word("appsnap:run").into(),
            unit: word("appsnap:unit").into(),
            region_id: region_id.clone(),
            account_id: role_arn
                .as_deref()
                .and_then(account_of)
                .or_else(|| invocation.account_id.clone())
                .unwrap_or_default(),
            instance_id: instance_id.into(),
            os_type: tag(&result, "appsnap:os").unwrap_or("linux").into(),
            at_rest: false,
            disks: Vec::new(),
            pinned: self.pinned,
            due: None,
            started: origin.started,
            deadline: invocation.deadline - FAREWELL,
            request,
        };
        let number = attempts::number(&task, word("appsnap:attempt"));
        let unit = Unit { attempt: number, ..protect::blank(&task) };
        let noted = word("appsnap:first-use") == "shown";
        // Should another attempt be of use: it takes the whole request, which a repeat of the event brings.
        let outcome = protect::finish(&task, unit, invoke_id, noted).await;
        let mut report = self.summed_up(origin, &task.request, vec![outcome], &client);
        report.run.clone_from(&task.run);
        Ok(self.notified(report, None, origin, invocation).await)
    }
}

fn tag<'a>(result: &'a InvocationResult, key: &str) -> Option<&'a str> {
    result
        .tags
        .iter()
        .find(|tag| tag.key == key)
        .map(|tag| tag.value.as_str())
        .filter(|value| !value.is_empty())
}
