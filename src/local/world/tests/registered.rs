//! Registered commands as a client sees them.

use serde_json::{Value, json};

use super::lab::Lab;
use crate::local::world::*;

const ECHO: [(&str, &str); 5] = [
    ("Name", "echo"),
    ("Type", "RunShellScript"),
    ("ContentEncoding", "PlainText"),
    ("CommandContent", "echo {{ Who }} {{what}}\n{{who}}"),
    ("EnableParameter", "true"),
];

fn registered(lab: &mut Lab, pairs: &[(&str, &str)]) -> String {
    lab.ok("CreateCommand", pairs)["CommandId"].as_str().unwrap().to_owned()
}

fn invoke(lab: &mut Lab, id: &str, more: &[(&str, &str)]) -> String {
    let pairs = [&[("CommandId", id), ("InstanceId.1", "i-1")], more].concat();
    let (reply, effects) = lab.call("InvokeCommand", &pairs);
    assert_eq!(reply.status, 200, "{}", reply.body);
    match &effects[..] {
        [Effect::RunCommand(task)] => String::from_utf8(task.content.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_are_put_in_as_they_are_and_names_know_no_case() {
    let mut lab = Lab::new(Settings::default());
    let id = registered(&mut lab, &ECHO);
    let given = json!({ "WHO": "'; rm x\n#", "what": "{{who}}" }).to_string();
    assert_eq!(invoke(&mut lab, &id, &[("Parameters", &given)]), "echo '; rm x\n# {{who}}\n'; rm x\n#");
    assert_eq!(invoke(&mut lab, &id, &[("Parameters", r#"{"who":"a"}"#)]), "echo a \na");
}

#[test]
fn what_does_not_fit_a_registered_command_is_refused() {
    let mut lab = Lab::new(Settings::default());
    let id = registered(&mut lab, &ECHO);
    let plain = registered(&mut lab, &[&ECHO[..3], &[("CommandContent", "echo {{who}}")]].concat());
    let long = format!(r#"{{"who":"{}"}}"#, "x".repeat(7000));
    let many: serde_json::Map<String, Value> = (0..11).map(|n| (format!("p{n}"), json!(""))).collect();
    let many = json!(many).to_string();
    for (command, parameters, code) in [
        (&id, "", "400 Parameter.MissingValue"),
        (&id, "[]", "400 InvalidParameter.Parameters"),
        (&id, r#"{"whom":"a"}"#, "403 Parameter.NotMatched"),
        (&id, r#"{"who":1}"#, "403 ParameterType.NotSupported"),
        (&id, r#"{"who":"a","WHO":"b"}"#, "403 ParameterKey.Duplicate"),
        (&id, &long, "403 CmdContent.ExceedLimit"),
        (&id, &many, "403 ParameterCount.ExceedLimit"),
        (&plain, r#"{"who":"a"}"#, "400 Parameter.Disabled"),
        (&"c-none".to_owned(), r#"{"who":"a"}"#, "404 InvalidCmdId.NotFound"),
    ] {
        let pairs = [("CommandId", command.as_str()), ("InstanceId.1", "i-1"), ("Parameters", parameters)];
        assert_eq!(lab.refused("InvokeCommand", &pairs), code, "{parameters}");
    }
    // Without parameters braces are nothing special.
    assert_eq!(invoke(&mut lab, &plain, &[]), "echo {{who}}");
    let names: String = (0..21).map(|n| format!("{{{{p{n}}}}}")).collect();
    for (content, code) in [
        ("{{a b}}", "400 CmdParamName.InvalidParamName"),
        (&names, "403 CmdParamCount.ExceedLimit"),
        (&"x".repeat(13_825), "403 CmdContent.ExceedLimit"),
    ] {
        let pairs = [&ECHO[..3], &[("CommandContent", content), ("EnableParameter", "true")]].concat();
        assert_eq!(lab.refused("CreateCommand", &pairs), code);
    }
    let base64 = [&ECHO[..2], &ECHO[3..]].concat();
    assert_eq!(lab.refused("CreateCommand", &base64), "400 CmdContent.DecodeError");
}

#[test]
fn a_command_is_found_by_its_tag_and_a_region_keeps_five_hundred() {
    let mut lab = Lab::new(Settings::default());
    let tagged = [&ECHO[..], &[("Tag.1.Key", "k"), ("Tag.1.Value", "v")]].concat();
    let id = registered(&mut lab, &tagged);
    (1..500).for_each(|_| drop(registered(&mut lab, &ECHO)));
    assert_eq!(lab.refused("CreateCommand", &ECHO), "403 CmdCount.ExceedQuota");
    let found = lab.ok("DescribeCommands", &[("Tag.1.Key", "k"), ("Tag.1.Value", "v")]);
    let found = found["Commands"]["Command"].as_array().unwrap();
    assert_eq!((found.len(), found[0]["CommandId"].as_str()), (1, Some(id.as_str())));
    assert_eq!(found[0]["EnableParameter"], true);
}

#[test]
fn a_right_to_invoke_one_command_is_no_right_to_another_and_none_to_run_any() {
    let mut lab = Lab::new(Settings::default());
    let (mine, other) = (registered(&mut lab, &ECHO), registered(&mut lab, &ECHO));
    let policy = |resources: Vec<String>| {
        let text = json!({ "Version": "1", "Statement": [
            { "Effect": "Allow", "Action": "ecs:InvokeCommand", "Resource": resources }] });
        Policy::parse(&text.to_string()).unwrap()
    };
    let (command, instance) = (format!("acs:ecs:*:1:command/{mine}"), "acs:ecs:*:1:instance/i-1".to_owned());
    let invoke = |lab: &mut Lab, id: &str| {
        let pairs = [("CommandId", id), ("InstanceId.1", "i-1"), ("Parameters", r#"{"who":"a"}"#)];
        let (reply, _) = lab.call("InvokeCommand", &pairs);
        reply.code().unwrap_or("ok").to_owned()
    };
    lab.world.add_user(
        "1",
        "narrow",
        (&lab.key.0.clone(), &lab.key.1.clone()),
        policy(vec![command.clone(), instance]),
    );
    assert_eq!((invoke(&mut lab, &mine), invoke(&mut lab, &other)), ("ok".into(), "Forbidden.RAM".into()));
    assert_eq!(lab.refused("RunCommand", &super::RUN), "403 Forbidden.RAM");
    assert_eq!(lab.refused("CreateCommand", &ECHO), "403 Forbidden.RAM");
    lab.world.add_user("1", "narrow", (&lab.key.0.clone(), &lab.key.1.clone()), policy(vec![command]));
    assert_eq!(invoke(&mut lab, &mine), "Forbidden.RAM", "nor without a right to the instance");
}

#[test]
fn a_command_of_another_account_is_neither_seen_nor_tagged_nor_invoked() {
    let mut lab = Lab::new(Settings::default());
    let tagged = [&ECHO[..], &[("Tag.1.Key", "k"), ("Tag.1.Value", "v")]].concat();
    let id = registered(&mut lab, &tagged);
    lab.world.add_user("2", "other", (&lab.key.0.clone(), &lab.key.1.clone()), Policy::full());
    let found = lab.ok("DescribeCommands", &[("Tag.1.Key", "k"), ("Tag.1.Value", "v")]);
    assert_eq!(found["TotalCount"], 0);
    let one = [("ResourceType", "command"), ("ResourceId.1", &*id)];
    let tag = [&one[..], &[("Tag.1.Key", "k"), ("Tag.1.Value", "w")]].concat();
    assert!(lab.refused("TagResources", &tag).starts_with("404"));
    assert!(lab.refused("UntagResources", &[&one[..], &[("TagKey.1", "k")]].concat()).starts_with("404"));
    assert!(lab.refused("InvokeCommand", &[("CommandId", &*id), ("InstanceId.1", "i-1")]).starts_with("404"));
}
