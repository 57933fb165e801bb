//! Which actions there are, and what answers them.

use serde_json::Value;

use super::params::Params;
use super::reply::ApiError;
use super::{Context, World};

/// The actions that heed a ClientToken.
pub(super) const IDEMPOTENT: [&str; 7] = [
    "RunCommand",
    "CreateCommand",
    "InvokeCommand",
    "CreateSnapshotGroup",
    "CreateDisk",
    "CreateImage",
    "RunInstances",
];

pub(super) type Handler = fn(&mut World, &Context, &mut Params) -> Result<Value, ApiError>;

impl World {
    pub(super) fn handler(version: &str, action: &str) -> Result<Handler, ApiError> {
        let handler: Handler = match (version, action) {
            ("2015-04-01", "AssumeRole") => Self::assume_role,
            ("2015-04-01", "GetCallerIdentity") => Self::get_caller_identity,
            ("2014-05-26", "DescribeRegions") => Self::describe_regions,
            ("2014-05-26", "DescribeInstances") => Self::describe_instances,
            ("2014-05-26", "RunInstances") => Self::run_instances,
            ("2014-05-26", "DeleteInstance") => Self::delete_instance,
            ("2014-05-26", "StopInstance") => Self::stop_instance,
            ("2014-05-26", "StartInstance") => Self::start_instance,
            ("2014-05-26", "DescribeInstanceRamRole") => Self::describe_instance_ram_role,
            ("2014-05-26", "ListPluginStatus") => Self::list_plugin_status,
            ("2014-05-26", "DescribeDisks") => Self::describe_disks,
            ("2014-05-26", "CreateDisk") => Self::create_disk,
            ("2014-05-26", "AttachDisk") => Self::attach_disk,
            ("2014-05-26", "DetachDisk") => Self::detach_disk,
            ("2014-05-26", "ResetDisk") => Self::reset_disk,
            ("2014-05-26", "DeleteDisk") => Self::delete_disk,
            ("2014-05-26", "DescribeCloudAssistantStatus") => Self::describe_cloud_assistant_status,
            ("2014-05-26", "RunCommand") => Self::run_command,
            ("2014-05-26", "CreateCommand") => Self::create_command,
            ("2014-05-26", "DescribeCommands") => Self::describe_commands,
            ("2014-05-26", "InvokeCommand") => Self::invoke_command,
            ("2014-05-26", "StopInvocation") => Self::stop_invocation,
            ("2014-05-26", "DescribeInvocations") => Self::describe_invocations,
            ("2014-05-26", "DescribeInvocationResults") => Self::describe_invocation_results,
            ("2014-05-26", "CreateSnapshotGroup") => Self::create_snapshot_group,
            ("2014-05-26", "DescribeSnapshotGroups") => Self::describe_snapshot_groups,
            ("2014-05-26", "DeleteSnapshotGroup") => Self::delete_snapshot_group,
            ("2014-05-26", "DescribeSnapshots") => Self::describe_snapshots,
            ("2014-05-26", "DeleteSnapshot") => Self::delete_snapshot,
            ("2014-05-26", "CreateImage") => Self::create_image,
            ("2014-05-26", "DescribeImages") => Self::describe_images,
            ("2014-05-26", "DeleteImage") => Self::delete_image,
            ("2014-05-26", "TagResources") => Self::tag_resources,
            ("2014-05-26", "UntagResources") => Self::untag_resources,
            ("2014-05-26" | "2015-04-01", "") => {
                let why = "Action is mandatory for this action.";
                return Err(ApiError::new(400, "MissingParameter.Action", why));
            }
            ("2014-05-26" | "2015-04-01", _) => {
                let why = format!("Specified api is not found: {action} is not in the local cloud.");
                return Err(ApiError::new(404, "InvalidAction.NotFound", why));
            }
            _ => {
                let why = format!("Specified version {version:?} is not valid.");
                return Err(ApiError::new(400, "InvalidVersion", why));
            }
        };
        Ok(handler)
    }
}
