"""The vendor's JSON Schema against the rendered props of s.yaml: fc3_schema.py SCHEMA <props.json

One line for each problem; exit 0 without any, 1 with some.
"""
import json
import sys

import jsonschema_rs

with open(sys.argv[1]) as file:
    schema = json.load(file)
props = json.load(sys.stdin)


def problems(schema, value, place):
    for error in jsonschema_rs.validator_for(schema).iter_errors(value):
        yield f"{place}/{'/'.join(map(str, error.instance_path))}: {error.message}"


found = list(problems(schema, props, ""))
# The schema lets any object pass as any trigger's configuration, so a timer is held to the vendor's own type for it.
timer = {"$schema": schema["$schema"], **schema["definitions"]["ITimerTriggerConfig"]}
for index, trigger in enumerate(props.get("triggers", [])):
    if trigger.get("triggerType") == "timer":
        found += problems(timer, trigger["triggerConfig"], f"/triggers/{index}/triggerConfig")
for problem in found:
    print(problem.replace("/:", ":"))
sys.exit(bool(found))
