//! Several accounts, external ids, tag filters, small pages.

use super::lab::*;
use super::*;

#[test]
fn a_role_that_asks_for_an_external_id_takes_no_other() {
    let mut lab = Lab::new(Settings::default());
    let (account_id, name, policy) = ("2".into(), "other".into(), Policy::full());
    let external_id = Some("orders".into());
    lab.world.add_role(Role { account_id, name, trust: Trust::open(), external_id, policy });
    let asked = [("RoleArn", "acs:ram::2:role/other"), ("RoleSessionName", "s1")];
    assert_eq!(lab.refused("AssumeRole", &asked), "403 NoPermission");
    assert_eq!(
        lab.refused("AssumeRole", &[&asked[..], &[("ExternalId", "Orders")]].concat()),
        "403 NoPermission"
    );
    let session = lab.ok("AssumeRole", &[&asked[..], &[("ExternalId", "orders")]].concat());
    assert_eq!(session["AssumedRoleUser"]["Arn"], "acs:ram::2:assumed-role/other/s1");
    // Who asks for none takes any.
    let own = [("RoleArn", "acs:ram::1:role/appsnap"), ("RoleSessionName", "s1"), ("ExternalId", "orders")];
    lab.ok("AssumeRole", &own);
}

fn shown(answer: &Value) -> Vec<&str> {
    let instances = answer["Instances"]["Instance"].as_array().unwrap();
    instances.iter().map(|one| one["InstanceId"].as_str().unwrap()).collect()
}

#[test]
fn instances_are_filtered_by_tags_and_shown_page_by_page() {
    let mut lab = Lab::new(Settings { page_limit: 2, ..Settings::default() });
    for n in 0..5 {
        let tags = [("all", "y"), ("odd", if n % 2 == 1 { "y" } else { "n" })];
        let tags = tags.map(|(key, value)| (key.to_string(), value.to_string()));
        lab.world.add_instance(Instance {
            id: format!("i-t{n}"),
            account_id: if n == 4 { "2" } else { "1" }.into(),
            region_id: "cn-hangzhou".into(),
            tags: Tags(tags.into()),
            ..Instance::default()
        });
    }
    let all = [("Tag.1.Key", "all"), ("Tag.1.Value", "y"), ("MaxResults", "100")];
    let first = lab.ok("DescribeInstances", &all);
    assert_eq!(shown(&first), ["i-t0", "i-t1"]);
    let token = first["NextToken"].as_str().unwrap();
    let second = lab.ok("DescribeInstances", &[&all[..], &[("NextToken", token)]].concat());
    assert_eq!((shown(&second), &second["NextToken"]), (vec!["i-t2", "i-t3"], &Value::from("")));
    let both =
        lab.ok("DescribeInstances", &[&all[..], &[("Tag.2.Key", "odd"), ("Tag.2.Value", "n")]].concat());
    assert_eq!(shown(&both), ["i-t0", "i-t2"]);
}
