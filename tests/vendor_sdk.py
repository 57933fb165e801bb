"""Drives the local cloud with Alibaba Cloud's unmodified Python SDK: vendor_sdk.py PORT CA_FILE.

Exits 0 when all is as expected, 3 when the SDK is not installed, 1 otherwise.
"""

import base64
import json
import sys
import time

try:
    from alibabacloud_ecs20140526 import models as ecs_models
    from alibabacloud_ecs20140526.client import Client as Ecs
    from alibabacloud_sts20150401 import models as sts_models
    from alibabacloud_sts20150401.client import Client as Sts
    from alibabacloud_tea_openapi import models as open_api
    from alibabacloud_tea_util.models import RuntimeOptions
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

ENDPOINT = "localhost:" + sys.argv[1]
RUNTIME = RuntimeOptions(ca=sys.argv[2], read_timeout=10000, connect_timeout=5000, autoretry=False)
REGION = "cn-hangzhou"


def config(key, secret, token=None):
    return open_api.Config(
        access_key_id=key, access_key_secret=secret, security_token=token,
        endpoint=ENDPOINT, protocol="https", region_id=REGION,
    )


def refused(code, call, *arguments):
    """The call must fail with this Code."""
    try:
        call(*arguments)
    except Exception as error:  # the SDK has several classes
        assert getattr(error, "code", None) == code, f"{code} expected, not {error!r}"
        return
    raise AssertionError(f"{code} expected, but the call succeeded")


def settled(what, check):
    """Asks again until it is so; 10 s at most."""
    for _ in range(200):
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(what)


def main():
    sts = Sts(config("LTAI5tVendor", "vendor-secret"))
    me = sts.get_caller_identity_with_options(RUNTIME).body
    assert me.account_id == "1" and me.identity_type == "RAMUser", me
    assumed = sts.assume_role_with_options(sts_models.AssumeRoleRequest(
        role_arn="acs:ram::1:role/appsnap", role_session_name="sdk@test", duration_seconds=900,
    ), RUNTIME).body
    assert assumed.assumed_role_user.arn.endswith("role/appsnap/sdk@test"), assumed
    keys = assumed.credentials
    ecs = Ecs(config(keys.access_key_id, keys.access_key_secret, keys.security_token))

    regions = ecs.describe_regions_with_options(ecs_models.DescribeRegionsRequest(), RUNTIME).body.regions.region
    assert [region.region_id for region in regions] == [REGION], regions
    instances = ecs.describe_instances_with_options(ecs_models.DescribeInstancesRequest(
        region_id=REGION, instance_ids=json.dumps(["i-vendor"]), max_results=10,
        tag=[ecs_models.DescribeInstancesRequestTag(key="backup", value="every night + more")],
    ), RUNTIME).body.instances.instance
    assert [(one.instance_id, one.status, one.ostype) for one in instances] == [("i-vendor", "Running", "linux")], instances
    roles = ecs.describe_instance_ram_role_with_options(ecs_models.DescribeInstanceRamRoleRequest(
        region_id=REGION, instance_ids=json.dumps(["i-vendor"]), page_size=50), RUNTIME).body.instance_ram_role_sets
    roles = [(one.instance_id, one.ram_role_name) for one in roles.instance_ram_role_set]
    assert roles == [("i-vendor", "GuestRole")], roles
    disks = ecs.describe_disks_with_options(ecs_models.DescribeDisksRequest(
        region_id=REGION, instance_id="i-vendor", max_results=100), RUNTIME).body.disks.disk
    assert [disk.size for disk in disks] == [20, 20] and disks[0].serial_number == disks[0].disk_id[2:], disks
    agents = ecs.describe_cloud_assistant_status_with_options(ecs_models.DescribeCloudAssistantStatusRequest(
        region_id=REGION, instance_id=["i-vendor"]), RUNTIME).body
    agents = agents.instance_cloud_assistant_status_set.instance_cloud_assistant_status
    assert agents[0].cloud_assistant_status == "true", agents

    script = base64.b64encode("#!/bin/sh\necho 'ünï * ~ + %'\n".encode()).decode()
    invoke_id = ecs.run_command_with_options(ecs_models.RunCommandRequest(
        region_id=REGION, type="RunShellScript", command_content=script, content_encoding="Base64",
        instance_id=["i-vendor"], timeout=60, termination_mode="Process", keep_command=False, client_token="sdk-1",
        name="快照 test", tag=[ecs_models.RunCommandRequestTag(key="appsnap:run", value="r 1")],
    ), RUNTIME).body.invoke_id

    def finished():
        results = ecs.describe_invocation_results_with_options(ecs_models.DescribeInvocationResultsRequest(
            region_id=REGION, invoke_id=invoke_id, content_encoding="PlainText"), RUNTIME).body.invocation
        one = results.invocation_results.invocation_result[0]
        return one if one.invocation_status == "Success" else None

    result = settled("the command ends", finished)
    assert (result.exit_code, result.output) == (0, "ran ünï"), result
    found = ecs.describe_invocations_with_options(ecs_models.DescribeInvocationsRequest(
        region_id=REGION, tag=[ecs_models.DescribeInvocationsRequestTag(key="appsnap:run", value="r 1")]), RUNTIME).body
    assert [one.invoke_id for one in found.invocations.invocation] == [invoke_id], found

    command = ecs.create_command_with_options(ecs_models.CreateCommandRequest(
        region_id=REGION, name="registered", type="RunShellScript", enable_parameter=True, working_dir="/",
        command_content=base64.b64encode(b"echo {{ Word }}").decode(), client_token="sdk-3",
        tag=[ecs_models.CreateCommandRequestTag(key="appsnap:sequence", value="ab")]), RUNTIME).body.command_id
    kept = ecs.describe_commands_with_options(ecs_models.DescribeCommandsRequest(
        region_id=REGION, tag=[ecs_models.DescribeCommandsRequestTag(key="appsnap:sequence", value="ab")],
        content_encoding="PlainText"), RUNTIME).body.commands.command
    assert [(one.command_id, one.command_content, one.working_dir, one.enable_parameter) for one in kept] == [
        (command, "echo {{ Word }}", "/", True)], kept
    invoke = ecs_models.InvokeCommandRequest(
        region_id=REGION, command_id=command, instance_id=["i-vendor"], parameters={"word": "ünï * ~ + %"}, timeout=60,
        termination_mode="Process", client_token="sdk-4", username="root",
        tag=[ecs_models.InvokeCommandRequestTag(key="appsnap:run", value="r 2")])
    invoke_id = ecs.invoke_command_with_options(invoke, RUNTIME).body.invoke_id
    assert settled("the registered command ends", finished).exit_code == 0
    invoke.parameters, invoke.client_token = {"wrd": "x"}, "sdk-5"
    refused("Parameter.NotMatched", ecs.invoke_command_with_options, invoke, RUNTIME)

    create = ecs_models.CreateSnapshotGroupRequest(
        region_id=REGION, instance_id="i-vendor", name="from-the-sdk", client_token="sdk-2",
        tag=[ecs_models.CreateSnapshotGroupRequestTag(key="appsnap:level", value="crash")])
    group_id = ecs.create_snapshot_group_with_options(create, RUNTIME).body.snapshot_group_id
    again = ecs.create_snapshot_group_with_options(create, RUNTIME).body.snapshot_group_id
    assert group_id == again, "one token, one group"
    create.name = "another"
    refused("IdempotentParameterMismatch", ecs.create_snapshot_group_with_options, create, RUNTIME)

    def visible():
        groups = ecs.describe_snapshot_groups_with_options(ecs_models.DescribeSnapshotGroupsRequest(
            region_id=REGION, snapshot_group_id=[group_id]), RUNTIME).body.snapshot_groups.snapshot_group
        return groups[0] if groups else None

    assert visible() is None, "a new group does not show at once"
    group = settled("the group shows", visible)
    assert group.tags.tag[0].key == "appsnap:level" and group.instance_id == "i-vendor", group
    members = group.snapshots.snapshot
    assert sorted(one.source_disk_id for one in members) == sorted(disk.disk_id for disk in disks), members
    ids = [one.snapshot_id for one in members]
    ecs.tag_resources_with_options(ecs_models.TagResourcesRequest(
        region_id=REGION, resource_type="snapshot", resource_id=ids,
        tag=[ecs_models.TagResourcesRequestTag(key="APPConsistent", value="True")]), RUNTIME)
    snapshots = ecs.describe_snapshots_with_options(ecs_models.DescribeSnapshotsRequest(
        region_id=REGION, snapshot_ids=json.dumps(ids)), RUNTIME).body.snapshots.snapshot
    assert all(one.tags.tag[0].tag_key == "APPConsistent" for one in snapshots) and len(snapshots) == 2, snapshots
    made = ecs.create_disk_with_options(ecs_models.CreateDiskRequest(
        region_id=REGION, zone_id="cn-hangzhou-h", snapshot_id=ids[0], disk_category="cloud_essd",
        client_token="sdk-3"), RUNTIME).body.disk_id

    def disk(status):
        found = ecs.describe_disks_with_options(ecs_models.DescribeDisksRequest(
            region_id=REGION, disk_ids=json.dumps([made]), status=status), RUNTIME).body.disks.disk
        return found[0] if found else None

    settled("the disk is made", lambda: disk("Available"))
    attach = ecs_models.AttachDiskRequest(disk_id=made, instance_id="i-vendor", delete_with_instance=True)
    ecs.attach_disk_with_options(attach, RUNTIME)
    attached = settled("the disk is attached", lambda: disk("In_use"))
    assert (attached.instance_id, attached.delete_with_instance) == ("i-vendor", True), attached
    refused("IncorrectDiskStatus", ecs.attach_disk_with_options, attach, RUNTIME)
    refused("IncorrectDiskStatus", ecs.delete_disk_with_options, ecs_models.DeleteDiskRequest(disk_id=made), RUNTIME)
    ecs.detach_disk_with_options(ecs_models.DetachDiskRequest(disk_id=made, instance_id="i-vendor"), RUNTIME)
    settled("the disk is detached", lambda: disk("Available"))
    ecs.delete_disk_with_options(ecs_models.DeleteDiskRequest(disk_id=made), RUNTIME)
    assert disk("All") is None

    def instance(status):
        found = ecs.describe_instances_with_options(ecs_models.DescribeInstancesRequest(
            region_id=REGION, instance_ids=json.dumps(["i-vendor"]), status=status), RUNTIME).body.instances.instance
        return found[0] if found else None

    reset = ecs_models.ResetDiskRequest(disk_id=members[0].source_disk_id, snapshot_id=ids[0])
    refused("IncorrectInstanceStatus", ecs.reset_disk_with_options, reset, RUNTIME)
    ecs.stop_instance_with_options(ecs_models.StopInstanceRequest(
        instance_id="i-vendor", stopped_mode="KeepCharging", force_stop=False), RUNTIME)
    assert settled("the instance stops", lambda: instance("Stopped")).stopped_mode == "KeepCharging"
    settled("the snapshots are done", lambda: ecs.describe_snapshots_with_options(ecs_models.DescribeSnapshotsRequest(
        region_id=REGION, status="accomplished"), RUNTIME).body.total_count == 2)
    ecs.reset_disk_with_options(reset, RUNTIME)
    made = members[0].source_disk_id
    settled("the disk is rolled back", lambda: disk("In_use"))
    ecs.start_instance_with_options(ecs_models.StartInstanceRequest(instance_id="i-vendor"), RUNTIME)
    settled("the instance starts", lambda: instance("Running"))

    system, data = sorted(members, key=lambda one: one.source_disk_type != "system")
    mapping = ecs_models.CreateImageRequestDiskDeviceMapping
    image = ecs.create_image_with_options(ecs_models.CreateImageRequest(
        region_id=REGION, image_name="from-the-sdk", client_token="sdk-6", disk_device_mapping=[
            mapping(snapshot_id=system.snapshot_id, device="/dev/xvda", disk_type="system"),
            mapping(snapshot_id=data.snapshot_id, device="/dev/xvdb", disk_type="data")]), RUNTIME).body.image_id
    found = settled("the image is made", lambda: ecs.describe_images_with_options(ecs_models.DescribeImagesRequest(
        region_id=REGION, image_id=image, status="Available"), RUNTIME).body.images.image)
    assert [one.type for one in found[0].disk_device_mappings.disk_device_mapping] == ["system", "data"], found
    run = ecs_models.RunInstancesRequest(
        region_id=REGION, image_id=image, instance_type="ecs.g7.large", v_switch_id="vsw-vendor",
        security_group_id="sg-vendor", instance_name="again", amount=1, client_token="sdk-7",
        system_disk=ecs_models.RunInstancesRequestSystemDisk(category="cloud_essd"),
        data_disk=[ecs_models.RunInstancesRequestDataDisk(device="/dev/xvdb", category="cloud_essd", performance_level="PL0")],
        tag=[ecs_models.RunInstancesRequestTag(key="k", value="v")])
    new = ecs.run_instances_with_options(run, RUNTIME).body.instance_id_sets.instance_id_set
    described = ecs_models.DescribeInstancesRequest(region_id=REGION, instance_ids=json.dumps(new), status="Running")
    settled("it runs", lambda: ecs.describe_instances_with_options(described, RUNTIME).body.instances.instance)
    refused("SnapshotCreatedImage", ecs.delete_snapshot_with_options,
            ecs_models.DeleteSnapshotRequest(snapshot_id=ids[0], force=True), RUNTIME)
    ecs.delete_instance_with_options(ecs_models.DeleteInstanceRequest(instance_id=new[0], force=True), RUNTIME)
    assert not ecs.describe_instances_with_options(described, RUNTIME).body.instances.instance
    ecs.delete_image_with_options(ecs_models.DeleteImageRequest(region_id=REGION, image_id=image), RUNTIME)
    ecs.delete_snapshot_with_options(ecs_models.DeleteSnapshotRequest(snapshot_id=ids[0], force=True), RUNTIME)

    wrong = Ecs(config("LTAI5tVendor", "not the secret"))
    refused("SignatureDoesNotMatch", wrong.describe_regions_with_options, ecs_models.DescribeRegionsRequest(), RUNTIME)
    refused("InvalidDiskId.NotFound", ecs.create_snapshot_group_with_options, ecs_models.CreateSnapshotGroupRequest(
        region_id=REGION, disk_id=["d-none"]), RUNTIME)


main()
