//! What has to hold for s.yaml beyond the vendor's schema, which lets misspelt keys and any trigger pass.
//!
//! Sources: Alibaba Cloud, Function Compute 3.0, "Environment variables", "Timer triggers"; the fc3 component, whose
//! `deploy/impl/trigger.ts` returns at the first EventBridge trigger that has not changed, and whose `base.ts` writes
//! roles in small letters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use appsnap::clock::Clock;
use appsnap::event::{self, Action, Arrival};
use appsnap::handler::App;
use appsnap::policy::Request;
use appsnap::ram::Names;
use serde_json::Value;

/// Keys by the path of their object: those that have to be there, then those that may be.
const KEYS: [(&str, &[&str], &[&str]); 11] = [
    ("", &["edition", "name", "access", "vars", "resources"], &[]),
    ("resources", &["appsnap"], &[]),
    ("resources.appsnap", &["component", "props"], &[]),
    (
        "props",
        &[
            "region",
            "functionName",
            "runtime",
            "code",
            "cpu",
            "memorySize",
            "diskSize",
            "timeout",
            "instanceConcurrency",
            "internetAccess",
            "role",
            "environmentVariables",
            "logConfig",
            "customRuntimeConfig",
            "instanceLifecycleConfig",
            "asyncInvokeConfig",
            "triggers",
        ],
        &["description", "vpcConfig", "tags", "resourceGroupId"],
    ),
    ("props.customRuntimeConfig", &["port"], &["command", "args"]),
    ("props.instanceLifecycleConfig", &["preStop"], &[]),
    ("props.instanceLifecycleConfig.preStop", &["handler", "timeout"], &[]),
    (
        "props.asyncInvokeConfig",
        &["asyncTask", "maxAsyncRetryAttempts", "maxAsyncEventAgeInSeconds"],
        &["destinationConfig"],
    ),
    ("trigger", &["triggerName", "triggerType", "triggerConfig"], &["description", "qualifier"]),
    ("timer", &["cronExpression", "enable", "payload"], &[]),
    (
        "eventbridge",
        &["triggerEnable", "asyncInvocationType", "eventRuleFilterPattern", "eventSourceConfig"],
        &["eventSinkConfig", "runOptions"],
    ),
];
/// The variables that the function's code names, and those of its endpoints.
fn known_variables() -> BTreeSet<String> {
    let endpoints = appsnap::api::PRODUCTS.iter().map(|product| format!("APPSNAP_{}_ENDPOINT", product.name));
    let mut known: BTreeSet<String> = endpoints.collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && path != src.join("local") && path != src.join("cli") {
                folders.push(path);
            } else if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = text.split('"').filter(|word| word.starts_with("APPSNAP_"));
                known.extend(
                    names
                        .filter(|name| !name.contains(|c: char| c != '_' && !c.is_ascii_uppercase()))
                        .map(str::to_owned),
                );
            }
        }
    }
    known
}

/// Everything that is wrong with a rendered document.
pub fn check(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let props = &document["resources"]["appsnap"]["props"];
    for (path, _, _) in &KEYS[..8] {
        let mut object = if path.starts_with("props") { props } else { document };
        for key in path.strip_prefix("props").unwrap_or(path).split('.').filter(|key| !key.is_empty()) {
            object = &object[key];
        }
        keys(path, object, path, &mut wrong);
    }
    for (what, good) in [
        ("component is fc3", document["resources"]["appsnap"]["component"] == "fc3"),
        ("code is what build.sh writes", props["code"] == "./pkg/appsnap.zip"),
        ("the platform repeats nothing", props["asyncInvokeConfig"]["maxAsyncRetryAttempts"] == 0),
        ("tasks have ids", props["asyncInvokeConfig"]["asyncTask"] == true),
        ("there is a way out, or APPSNAP_NETWORK is vpc and there is a VPC", way_out(props)),
        ("memorySize is 1 to 4 GB for each core", {
            let gb = props["memorySize"].as_f64().unwrap_or_default() / 1024.0;
            props["cpu"].as_f64().is_some_and(|cores| (cores..=4.0 * cores).contains(&gb))
        }),
        ("the port is the runtime's own", props["customRuntimeConfig"]["port"] == 9000),
    ] {
        if !good {
            wrong.push(format!("not so: {what}"));
        }
    }
    let env = variables(props, &mut wrong);
    // `appsnap ram` makes these.
    let names = Names::default();
    let roles = [
        (props["role"].as_str(), &names.function_role),
        (env.get("APPSNAP_ROLE_ARN").map(String::as_str), &names.work_role),
    ];
    for (arn, name) in roles {
        let arn = arn.unwrap_or_default();
        if arn != arn.to_lowercase() {
            wrong.push(format!("{arn:?} is not in small letters"));
        }
        if !arn.starts_with("acs:ram::") || !arn.ends_with(&format!(":role/{name}")) {
            wrong.push(format!("{arn:?} is not the role {name}"));
        }
    }
    if props["functionName"] != names.function {
        wrong.push(format!("the rights are for the function {}", names.function));
    }
    triggers(props, &env, &mut wrong);
    wrong
}

/// Whether the APIs are reached as the variables say.
fn way_out(props: &Value) -> bool {
    let inside = props["environmentVariables"]["APPSNAP_NETWORK"] == "vpc";
    if inside { props["vpcConfig"].is_object() } else { props["internetAccess"] == true }
}

fn keys(kind: &str, object: &Value, path: &str, wrong: &mut Vec<String>) {
    let Some((_, required, optional)) = KEYS.iter().find(|(known, ..)| *known == kind) else {
        return wrong.push(format!("{path}: {kind:?} is not known"));
    };
    let Some(fields) = object.as_object() else { return wrong.push(format!("{path}: is no object")) };
    for key in
        fields.keys().filter(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str()))
    {
        wrong.push(format!("{path}: unknown key {key}"));
    }
    for key in required.iter().filter(|key| fields.get(**key).is_none_or(Value::is_null)) {
        wrong.push(format!("{path}: {key} is missing"));
    }
}

/// The function's variables, as the function itself takes them.
fn variables(props: &Value, wrong: &mut Vec<String>) -> BTreeMap<String, String> {
    let (mut env, known) = (BTreeMap::new(), known_variables());
    for (name, value) in props["environmentVariables"].as_object().into_iter().flatten() {
        let Some(value) = value.as_str() else {
            wrong.push(format!("{name} is no string"));
            continue;
        };
        let letters = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !letters(name) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.starts_with("FC_") {
            wrong.push(format!("{name}: not allowed as a variable's name"));
        }
        if name.starts_with("APPSNAP_") && !known.contains(name) {
            wrong.push(format!("{name}: appsnap reads no such variable"));
        }
        env.insert(name.clone(), value.to_owned());
    }
    let size: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > 4096 {
        wrong.push(format!("the variables are {size} bytes, 4096 are the limit"));
    }
    wrong.extend(App::new(Clock::system(), env.clone()).err());
    let lookup = |name: &str| env.get(name).cloned();
    match appsnap::notify::channels(None, &lookup) {
        Err(error) => wrong.push(format!("APPSNAP_NOTIFY: {error}")),
        Ok(channels) => {
            for named in
                channels.iter().flat_map(|channel| [Some(&channel.url), channel.secret.as_ref()]).flatten()
            {
                wrong.extend(named.resolve(&lookup).err().map(|error| format!("APPSNAP_NOTIFY: {error}")));
            }
        }
    }
    env
}

fn triggers(props: &Value, env: &BTreeMap<String, String>, wrong: &mut Vec<String>) {
    let triggers = props["triggers"].as_array().cloned().unwrap_or_default();
    let kind = |trigger: &Value| trigger["triggerType"].as_str().unwrap_or_default().to_owned();
    let bridge = triggers.iter().position(|trigger| kind(trigger) == "eventbridge");
    if bridge.is_some_and(|at| at + 1 != triggers.len()) {
        wrong.push("a trigger stands behind EventBridge's: fc3 would skip it".into());
    }
    for trigger in &triggers {
        let name = trigger["triggerName"].as_str().unwrap_or("?");
        keys("trigger", trigger, name, wrong);
        let config = &trigger["triggerConfig"];
        keys(&kind(trigger), config, name, wrong);
        let problem = match kind(trigger).as_str() {
            "timer" => timer(name, config, props, env),
            "eventbridge" => rule(config),
            _ => Ok(()), // said already
        };
        wrong.extend(problem.err().map(|problem| format!("{name}: {problem}")));
    }
}

/// The tick that the platform would make of it is a request that the function would take.
fn timer(name: &str, config: &Value, props: &Value, env: &BTreeMap<String, String>) -> Result<(), String> {
    let cron = config["cronExpression"].as_str().unwrap_or_default();
    let fields = match cron.strip_prefix("CRON_TZ=").map(|rest| rest.split_once(' ')) {
        Some(Some((zone, fields))) if zone.contains('/') => fields,
        None => cron,
        Some(_) => return Err(format!("{cron:?}: CRON_TZ=Area/City, then six fields")),
    };
    if fields.split_whitespace().count() != 6
        || fields.bytes().any(|b| !b.is_ascii_alphanumeric() && !b" *,-/?#".contains(&b))
    {
        return Err(format!("{cron:?} has not the six fields of a cron expression (seconds first)"));
    }
    let tick = serde_json::json!({ "triggerTime": "2026-11-22T03:00:00Z", "triggerName": name, "payload": config["payload"] });
    let arrival = Arrival { request_id: "1-2-3", async_task_id: None, default_request: None };
    let triggers = event::read(tick.to_string().as_bytes(), arrival).map_err(|error| error.to_string())?;
    let [event::Trigger { action: Action::Run(request), .. }] = triggers.as_slice() else {
        return Err("the payload is no request".into());
    };
    let request = Request::parse(request).map_err(|invalid| invalid.to_string())?;
    request.role(&|name: &str| env.get(name).cloned()).map_err(|invalid| invalid.to_string())?;
    let timeout = Duration::from_secs(props["timeout"].as_u64().unwrap_or(3));
    // An earlier run may have to be settled in the same invocation.
    request
        .check_deadline(timeout / 2, request.targets.instance_ids.len())
        .map_err(|invalid| invalid.to_string())?;
    let age = &props["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"];
    let good = age.as_u64().is_some_and(|age| (60..86_400).contains(&age));
    if good { Ok(()) } else { Err(format!("a tick that is {age} s late would still freeze something")) }
}

/// The rule lets through what the function can use: the event of our own sample.
fn rule(config: &Value) -> Result<(), String> {
    let text = config["eventRuleFilterPattern"].as_str().unwrap_or_default();
    let pattern: BTreeMap<String, Vec<String>> =
        serde_json::from_str(text).map_err(|error| format!("eventRuleFilterPattern: {error}"))?;
    let sample: Value = serde_json::from_str(include_str!("../../events/eventbridge-task-completed.json"))
        .map_err(|error| error.to_string())?;
    let passes =
        |(field, words): (&String, &Vec<String>)| words.iter().any(|word| sample[field] == word.as_str());
    if pattern.is_empty() || !pattern.iter().all(passes) {
        return Err(format!("{text} does not let TaskCompleted through, or everything"));
    }
    match config["eventSourceConfig"]["eventSourceType"].as_str() {
        Some("Default") => Ok(()),
        other => Err(format!("eventSourceType {other:?}: Cloud Assistant's events come on the default bus")),
    }
}
