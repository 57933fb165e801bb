//! The judgement of a dry run against a scripted cloud: what is asked, what never is, and what comes of it.

use serde_json::json;

use super::*;
use crate::eligibility::DiskFacts;
use crate::protect::testing::{Answer, Asked, ended, ok, refuse, scripted_with, silence};

/// What the guest tells; `A` stands for the look's own id.
const LOOKED: &str = r#"{"appsnap":"1","run":"A","os":"alinux 3","disk":["d-1 vdb"],"fs":["d-1 ext4 u-1 /data"],"pre.path":"/etc/appsnap/prescript.sh","post.path":"/etc/appsnap/postscript.sh","room":"90000","step":["look 1000 2000 ok ","connect 2000 3000 ok curl"],"via":"curl","https":"ok","phase":"looked"}"#;

/// A cloud in which all is well but for what `script` answers, by the name of the call.
fn cloud(script: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> (Task, Asked) {
    scripted_with(move |call, params| {
        // The id that the look was given comes back in its report.
        if let Some(answer) = script(call) {
            return Some(answer);
        }
        match call {
            "RunCommand look" => {
                let id = params["ClientToken"].trim_start_matches("appsnap-");
                Some(ok(json!({ "InvokeId": format!("look {id}") })))
            }
            "RunCommand dry" => Some(refuse("DryRunOperation")),
            "DescribeInstanceRamRole" => {
                let role = json!([{ "InstanceId": "i-1", "RamRoleName": "snap" }]);
                Some(ok(json!({ "InstanceRamRoleSets": { "InstanceRamRoleSet": role } })))
            }
            "DescribeDisks" => Some(ok(json!({ "Disks": { "Disk": [{ "DiskId": "d-1" }] } }))),
            "ListPluginStatus" => Some(refuse("Forbidden.RAM")),
            "DescribeSnapshots" => Some(ok(json!({}))),
            call => call
                .strip_prefix("result look ")
                .map(|id| ended(&LOOKED.replace("\"A\"", &format!("{id:?}")))),
        }
    })
}

/// As [`cloud`], with a guest that tells something else.
fn telling(from: &'static str, to: &'static str) -> (Task, Asked) {
    assert!(LOOKED.contains(from), "{from}");
    cloud(move |call| {
        let id = call.strip_prefix("result look ")?;
        Some(ended(&LOOKED.replace(from, to).replace("\"A\"", &format!("{id:?}"))))
    })
}

fn surveyed(task: &Task, findings: Vec<Finding>) -> Surveyed {
    Surveyed {
        instance_id: task.instance_id.clone(),
        os_type: task.os_type.clone(),
        os_name: "Alibaba Cloud Linux  3.2104 LTS 64 bit".into(),
        disks: task.disks.clone(),
        findings,
    }
}

async fn checked(task: &Task, findings: Vec<Finding>) -> (Status, Option<Level>, Vec<String>, Unit) {
    let outcome = check(task, surveyed(task, findings)).await;
    let unit = outcome.unit;
    assert_eq!(unit.level, Level::None, "nothing was made");
    assert!(unit.findings.iter().all(|finding| !finding.cure.is_empty()), "{:?}", unit.findings);
    (outcome.status, unit.expected_level, unit.reasons.clone(), unit)
}

/// Calls in order, but for those that count snapshots.
fn asked(asked: &Asked) -> Vec<String> {
    let asked = asked.lock().unwrap();
    let calls = asked.iter().map(|(call, _)| call.split(' ').take(2).collect::<Vec<_>>().join(" "));
    calls.filter(|call| call != "DescribeSnapshots").collect()
}

fn blocker(code: &str) -> Finding {
    let text = || "x".to_string();
    Finding {
        code: code.into(),
        severity: Severity::Blocker,
        resource: text(),
        message: text(),
        cure: text(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_guest_is_expected_to_reach_what_is_wanted_and_nothing_is_written_anywhere() {
    let (task, calls) = cloud(|_| None);
    let (status, expected, reasons, unit) = checked(&task, vec![]).await;
    assert_eq!((status, expected, reasons), (Status::Succeeded, Some(Level::Application), vec![]));
    assert!(unit.findings.iter().all(|finding| finding.severity == Severity::Note), "{:?}", unit.findings);
    let look = unit.timeline.iter().find(|step| step.step == "guest.look").unwrap();
    assert_eq!(look.detail, "to freeze: /data (ext4) of d-1");
    let names = asked(&calls);
    assert_eq!(names, ["RunCommand dry", "RunCommand look", "result look"]);
    for (_, params) in calls.lock().unwrap().iter() {
        assert!(!params.keys().any(|key| key.starts_with("Tag.")), "no trace of a run: {params:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_check_looks_anew() {
    let (task, calls) = cloud(|_| None);
    checked(&task, vec![]).await;
    checked(&task, vec![]).await;
    let calls = calls.lock().unwrap();
    let looks: Vec<&String> = calls
        .iter()
        .filter(|(call, _)| call == "RunCommand look")
        .map(|(_, params)| &params["ClientToken"])
        .collect();
    assert!(looks.len() == 2 && looks[0] != looks[1], "{looks:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_guest_tells_decides_about_the_level_and_the_minimum_about_the_rest() {
    let script = (r#""via""#, r#""reason":["script.mode /x has mode 0755"],"via""#);
    let watched = (r#""via""#, r#""reason":["script.mode /x","freeze.watched fapolicyd (7)"],"via""#);
    let tls = (r#","https":"ok""#, r#","reason":["connect.failed curl: (60) no trust"]"#);
    let table = [
        (script, Level::Crash, Status::Degraded, Level::Filesystem, vec!["script.mode"]),
        (script, Level::Application, Status::Refused, Level::None, vec!["script.mode"]),
        (watched, Level::Crash, Status::Degraded, Level::Crash, vec!["script.mode", "freeze.watched"]),
        (watched, Level::Filesystem, Status::Refused, Level::None, vec!["freeze.watched", "script.mode"]),
        (tls, Level::Crash, Status::Refused, Level::None, vec!["connect.failed"]),
    ];
    for ((from, to), minimum, status, level, reasons) in table {
        let (mut task, _) = telling(from, to);
        task.request.minimum_level = minimum;
        let told = checked(&task, vec![]).await;
        let reasons: Vec<String> = reasons.into_iter().map(str::to_owned).collect();
        assert_eq!((told.0, told.1, told.2), (status, Some(level), reasons), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn file_systems_that_were_left_out_of_the_answer_are_not_told_as_none() {
    for (cut, told) in [("", "no file system to freeze"), (r#""cut":"1","#, "too many file systems to name")]
    {
        let (task, _) = cloud(move |call| {
            let id = call.strip_prefix("result look ")?;
            let line = format!(
                r#"{{"appsnap":"1","run":"{id}","step":["look 1 2 ok "],{cut}"https":"ok","phase":"looked"}}"#
            );
            Some(ended(&line))
        });
        let (.., unit) = checked(&task, vec![]).await;
        let step = unit.timeline.iter().find(|step| step.step == "guest.look").unwrap();
        assert_eq!(step.detail, told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_agent_is_told_by_the_dry_run_and_the_guest_is_left_alone() {
    let (task, calls) = cloud(|call| (call == "RunCommand dry").then(|| refuse("ClientNotRunning")));
    let (status, expected, reasons, unit) = checked(&task, vec![]).await;
    assert_eq!((status, expected), (Status::Refused, Some(Level::None)));
    assert_eq!(reasons, ["agent.refused"]);
    assert!(unit.findings.iter().any(|finding| finding.message.contains("ClientNotRunning: no")), "{unit:?}");
    assert_eq!(asked(&calls), ["RunCommand dry"]);
}

#[tokio::test(start_paused = true)]
async fn a_denied_command_is_told_with_the_right_to_add() {
    let (task, _) = cloud(|call| (call == "RunCommand dry").then(|| refuse("Forbidden.RAM")));
    let (.., unit) = checked(&task, vec![]).await;
    let denied = unit.findings.iter().find(|finding| finding.code == "agent.refused").unwrap();
    assert!(denied.cure.contains("RunCommand"), "{denied:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_all_the_snapshots_that_it_may_have_is_told_before_the_create_refuses() {
    let (task, _) = cloud(|call| {
        let many: Vec<_> = (0..10).map(|n| json!({ "SnapshotId": format!("s-{n}") })).collect();
        (call == "DescribeSnapshots").then(|| ok(json!({ "Snapshots": { "Snapshot": many } })))
    });
    let (status, _, reasons, unit) = checked(&task, vec![]).await;
    assert_eq!((status, reasons), (Status::Refused, vec!["disk.tasks".to_owned()]), "{unit:?}");
    let (task, _) = cloud(|call| (call == "DescribeSnapshots").then(|| refuse("Forbidden.RAM")));
    let (status, _, _, unit) = checked(&task, vec![]).await;
    assert!(unit.findings.iter().any(|finding| finding.code == "disk.snapshots_unknown"), "{unit:?}");
    assert_eq!(status, Status::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_or_unknown_instance_is_judged_without_its_guest() {
    let stopped = Finding { severity: Severity::Downgrade, ..blocker("instance.stopped") };
    let table = [
        (stopped, Status::Succeeded, Level::Crash),
        (blocker("instance.unknown"), Status::Refused, Level::None),
        (blocker("agent.offline"), Status::Refused, Level::None),
    ];
    for (finding, status, level) in table {
        let (mut task, calls) = cloud(|_| None);
        task.at_rest = finding.code == "instance.stopped";
        task.request.linux.enable_fs_freeze = false;
        task.request.consistency = if task.at_rest { Level::Application } else { Level::Crash };
        let told = checked(&task, vec![finding.clone()]).await;
        assert_eq!((told.0, told.1, told.2), (status, Some(level), vec![finding.code]));
        assert!(asked(&calls).is_empty());
    }
    // A disk that cannot be snapshotted keeps nobody from looking at the rest.
    let (task, calls) = telling(r#""via""#, r#""reason":["script.mode /x"],"via""#);
    let told = checked(&task, vec![blocker("disk.category")]).await;
    assert_eq!((told.0, told.2), (Status::Refused, vec!["disk.category".into(), "script.mode".into()]));
    assert_eq!(asked(&calls).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_asked_is_an_error_and_no_level_is_promised() {
    type Script = fn(&str) -> Option<Answer>;
    let table: [(Script, &str); 3] = [
        (|call| (call == "RunCommand dry").then(silence), "network.no_answer"),
        (|call| call.starts_with("result look").then(|| ended("cut off")), "guest.silent"),
        (|call| (call == "RunCommand look").then(|| refuse("Forbidden.RAM")), "Forbidden.RAM"),
    ];
    for (script, code) in table {
        let (task, _) = cloud(script);
        let (status, expected, _, unit) = checked(&task, vec![]).await;
        assert_eq!((status, expected), (Status::Failed, None), "{code}");
        let error = unit.error.unwrap();
        assert!(error.code == code && (error.cure.is_some() || code.starts_with("network.")), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_vendors_plugin_is_asked_about_its_role_and_its_fewer_demands() {
    let plugin = |task: &mut Task| task.request.linux.engine = Engine::Plugin;
    let roleless = |call: &str| (call == "DescribeInstanceRamRole").then(|| ok(json!({})));
    let (mut task, calls) = cloud(roleless);
    plugin(&mut task);
    let (status, _, reasons, unit) = checked(&task, vec![]).await;
    assert_eq!((status, reasons), (Status::Refused, vec!["plugin.role_none".to_owned()]));
    let role = unit.findings.iter().find(|finding| finding.code == "plugin.role_none").unwrap();
    assert!(role.cure.contains("AttachInstanceRamRole"), "{role:?}");
    assert!(asked(&calls).contains(&"RunCommand look".to_owned()), "the scripts are looked at all the same");
    assert!(!unit.findings.iter().any(|finding| finding.code == "role.none"), "no session is narrowed");
    let absent = |call: &str| (call == "ListPluginStatus").then(|| ok(json!({})));
    let (mut task, _) = cloud(absent);
    plugin(&mut task);
    let (status, _, _, unit) = checked(&task, vec![]).await;
    assert!(
        status == Status::Succeeded && unit.findings.iter().any(|finding| finding.code == "plugin.absent")
    );
    let (mut task, _) =
        telling(r#""via""#, r#""reason":["script.parent /x","fs.spans vdb","script.owner /y"],"via""#);
    plugin(&mut task);
    assert_eq!(checked(&task, vec![]).await.2, ["script.owner"], "the plugin does not ask for the others");
}

#[tokio::test(start_paused = true)]
async fn windows_is_judged_without_a_look_and_without_writers_it_is_no_application() {
    let (mut task, calls) = cloud(|_| None);
    (task.os_type, task.request.enable_writers) = ("windows".into(), false);
    let (status, expected, reasons, _) = checked(&task, vec![]).await;
    assert_eq!((status, expected), (Status::Degraded, Some(Level::Filesystem)));
    assert_eq!(reasons, ["writers.off"]);
    assert!(!asked(&calls).contains(&"RunCommand look".to_owned()));
    task.request.minimum_level = Level::Application;
    assert_eq!(checked(&task, vec![]).await.0, Status::Refused);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_narrowed_is_told() {
    let (mut task, _) = cloud(|_| None);
    task.role_arn = None;
    let codes = |unit: &Unit| unit.findings.iter().map(|finding| finding.code.clone()).collect::<Vec<_>>();
    assert_eq!(codes(&checked(&task, vec![]).await.3), ["role.none"]);
    task.role_arn = Some("acs:ram::1234567890123456:role/appsnap".into());
    task.disks = (0..128).map(|n| DiskFacts::named(&format!("d-bp1{n:017}"))).collect();
    assert_eq!(codes(&checked(&task, vec![]).await.3), ["session.instance"]);
    task.disks.truncate(1);
    assert!(codes(&checked(&task, vec![]).await.3).is_empty());
}
