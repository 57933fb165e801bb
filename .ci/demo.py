"""Judges what `appsnap demo --json` printed: demo.py FILE EXIT_CODE VARIANT.

VARIANT: good | mode (--script-mode 0755) | refused (the same with --minimum-level application) | fault (--fault NAME) |
database (--database NAME).
"""

import json
import sys

file, code, variant = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open(file, encoding="utf-8") as stream:
    told = json.load(stream)  # one document and nothing else
report = told["report"]
units = report["units"]
wrong = []


def expect(what, got, wanted):
    if got != wanted:
        wrong.append(f"{what}: {got!r}, expected {wanted!r}")


if variant == "fault":
    fault = told["fault"]
    for check in fault["checks"]:
        if not check["ok"]:
            wrong.append(f"{fault['name']}: not so: {check['check']}: {check['evidence']}")
    expect("exit code", code, 0)
    expect("survived", fault["survived"], True)
    expect("checks that were made", len(fault["checks"]) >= 8, True)
    for line in wrong:
        print(f"demo ({variant}): {line}")
    levels = [unit["level"] for unit in units]
    print(f"demo --fault {fault['name']}: exit {code}, {report['status']}, {levels}, survived: {fault['survived']}")
    sys.exit(1 if wrong else 0)

if variant == "database":
    expect("exit code", code, 0)
    expect("status", report["status"], "succeeded")
    copies = {copy["copy"]: copy for copy in told["disks"]}
    levels = {name: copy["level"] for name, copy in copies.items()}
    expect("levels", levels, {"crash": "crash", "frozen": "filesystem", "application": "application"})
    for name, copy in copies.items():
        expect(f"{name}: lines of the engine's log", len(copy["evidence"]) > 0, True)
    best = copies["application"]
    expect("application: state", best["state"], "clean")
    expect("application: acknowledged writes kept", best["keptInCopy"] >= best["acknowledgedBefore"] > 0, True)
    for line in wrong:
        print(f"demo ({variant}): {line}")
    states = {name: copy["state"] for name, copy in copies.items()}
    print(f"demo --database {best['engine']}: exit {code}, {report['status']}, {states}")
    sys.exit(1 if wrong else 0)

EXPECTED = {
    "good": (0, "succeeded", "application", "APPConsistent"),
    "mode": (3, "degraded", "filesystem", "FsConsistent"),
    "refused": (4, "refused", "none", None),
}
exit_code, status, level, tag = EXPECTED[variant]
expect("exit code", code, exit_code)
expect("status", report["status"], status)
expect("levels", [unit["level"] for unit in units], [level])
if variant == "refused":
    expect("groups", [unit["snapshotGroupId"] for unit in units], [None])
    expect("snapshots", [unit["snapshots"] for unit in units], [[]])
else:
    expect("file systems", sorted(disk["filesystem"] for disk in told["disks"]), ["ext4", "xfs"])
    members = {snapshot["diskId"] for unit in units for snapshot in unit["snapshots"]}
    for disk in told["disks"]:
        name = f"{disk['diskId']} ({disk['filesystem']})"
        expect(f"{name}: in the group", disk["diskId"] in members, True)
        marks = {key for key in disk["tags"] if key in ("APPConsistent", "FsConsistent")}
        expect(f"{name}: consistency tags", marks, {tag})
        expect(f"{name}: {tag}", disk["tags"].get(tag), "True")
        expect(f"{name}: copy from the group is clean", disk["snapshotCopy"]["clean"], True)
        expect(f"{name}: plain copy is clean", disk["plainCopy"]["clean"], False)
    expect("status in the webhook", told["webhook"]["status"], status)
if variant == "good":
    expect("reasons", [unit["reasons"] for unit in units], [[]])
else:
    reasons = [reason for unit in units for reason in unit["reasons"]]
    expect("reasons name the mode", "script.mode" in reasons, True)

for line in wrong:
    print(f"demo ({variant}): {line}")
if not wrong:
    print(f"demo ({variant}): exit {code}, {status}, {level}")
sys.exit(1 if wrong else 0)
