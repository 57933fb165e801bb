//! A simulated Windows guest: no VSS, no disks, no agent. It answers a command that runs the vendor's plugin as the plugin
//! is documented to, through the API and with the instance's role; its cuts copy nothing. What the real plugin takes and
//! returns on Windows was never observed.

use std::time::Duration;

use serde_json::Value;

use super::cloud::{ACCOUNT, REGION, disk, instance};
use super::server::Cloud;
use super::world::{self, ApiError, CommandNews, Happening, PluginFault, Task, World};
use crate::clock::Clock;

/// The instance.
pub const INSTANCE: &str = "i-bp1demowindows00000";
/// Its disks: system and data.
pub const DISKS: [&str; 2] = ["d-bp1demowinsystem0000", "d-bp1demowindata000000"];

/// Adds instance and disks.
pub fn add(world: &mut World) {
    world.add_instance(world::Instance {
        os_type: "windows".into(),
        os_name: "Windows Server  2022 Datacenter Edition 64bit".into(),
        agent_version: "2.1.4.900".into(),
        ..instance(INSTANCE, "erp")
    });
    for (index, id) in DISKS.into_iter().enumerate() {
        world.add_disk(disk(id, INSTANCE, index));
    }
}

/// Runs a command, and reports what came of it.
pub async fn run(cloud: &Cloud, clock: &Clock, task: &Task, faults: &[PluginFault]) {
    let tell = |news| {
        let (invoke_id, instance_id) = (task.invoke_id.clone(), task.instance_id.clone());
        cloud.report(Happening::Command { invoke_id, instance_id, news });
    };
    let script = String::from_utf8_lossy(&task.content).into_owned();
    if task.kind != "RunPowerShellScript" {
        return tell(CommandNews::Refused("CommandNotApplicable".into()));
    }
    tell(CommandNews::Started);
    let (code, output) = match Arguments::of(&script) {
        None => (1, "the simulated guest can run the plugin and nothing else\r\n".to_string()),
        Some(arguments) => {
            let injected = faults.iter().find_map(|fault| match fault {
                PluginFault::Exit(code) => Some(i64::from(*code)),
                _ => None,
            });
            let (code, said) = match injected {
                Some(code) => (code, format!("ExecutePluginOnline error {code}: a fault on demand")),
                None => match plugin(cloud, clock, &arguments, faults).await {
                    Ok(()) => (0, "Finish whole Processes of Snapshot successfully".to_string()),
                    Err(error) => (1, format!("{error:?}")),
                },
            };
            // What the script's own last lines do with the exit code.
            let attempt = arguments.attempt;
            let line = format!(
                r#"{{"appsnap-plugin":"1","run":"{attempt}","phase":"done","exit":"{code}","thawed":"","reason":[]}}"#
            );
            (code, format!("{said}\r\n{line}\r\n"))
        }
    };
    tell(CommandNews::Finished { exit_code: code, output: output.into_bytes(), dropped: 0 });
}

/// What the script hands to the plugin.
struct Arguments {
    attempt: String,
    role: String,
    writers: bool,
    exclude: Option<String>,
    name: String,
}

impl Arguments {
    fn of(script: &str) -> Option<Self> {
        let assigned = |name: &str| Some(script.split_once(name)?.1.split_once('\'')?.1.split_once('\'')?.0);
        script.contains(" --exec --plugin app-snapshot-plugin ").then_some(())?;
        let params = assigned("$params = ")?;
        let of = |key: &str| {
            let part = params.split(',').find_map(|part| part.trim_start_matches('-').strip_prefix(key));
            part.map(str::to_owned)
        };
        Some(Self {
            attempt: assigned("$attempt = ")?.to_owned(),
            role: of("RamRoleName=")?,
            writers: of("EnableWriters=")? == "true",
            exclude: of("ExcludeDiskId="),
            name: of("Name=")?,
        })
    }
}

/// As documented: VSS freezes the writers, the group is asked for, VSS thaws, the snapshots are tagged.
async fn plugin(
    cloud: &Cloud,
    clock: &Clock,
    arguments: &Arguments,
    faults: &[PluginFault],
) -> Result<(), ApiError> {
    let role = format!("acs:ram::{ACCOUNT}:role/{}", arguments.role);
    let call = |action: &str, pairs: &[(&str, &str)]| cloud.act(&role, action, REGION, pairs);
    let mut create = vec![("InstanceId", INSTANCE), ("Name", &arguments.name)];
    create.extend(arguments.exclude.iter().map(|id| ("ExcludeDiskId.1", id.as_str())));
    let group =
        call("CreateSnapshotGroup", &create)?["SnapshotGroupId"].as_str().unwrap_or_default().to_owned();
    let mut members = Vec::new();
    for _ in 0..200 {
        let seen = call("DescribeSnapshotGroups", &[("SnapshotGroupId.1", &group)])?;
        let shown =
            seen.pointer("/SnapshotGroups/SnapshotGroup/0/Snapshots/Snapshot").and_then(Value::as_array);
        let ids = shown.into_iter().flatten().filter_map(|one| one["SnapshotId"].as_str());
        members = ids.map(str::to_owned).collect();
        if !members.is_empty() {
            break;
        }
        clock.sleep(Duration::from_millis(70)).await;
    }
    if faults.contains(&PluginFault::Untagged) {
        return Ok(());
    }
    let key = match (arguments.writers, faults.contains(&PluginFault::Misspelt)) {
        (true, true) => "AppConsistent",
        (true, false) => "APPConsistent",
        (false, _) => "FsConsistent",
    };
    let names: Vec<String> = (1..=members.len()).map(|n| format!("ResourceId.{n}")).collect();
    let mut tag = vec![("ResourceType", "snapshot"), ("Tag.1.Key", key), ("Tag.1.Value", "True")];
    tag.extend(names.iter().map(String::as_str).zip(members.iter().map(String::as_str)));
    call("TagResources", &tag).map(|_| ())
}
