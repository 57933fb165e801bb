use super::*;
use crate::guest::render::tests::worst;

fn pins(plan: &Plan, host: &str) -> Pins {
    Pins {
        pre_script: plan.pre_script.clone(),
        post_script: plan.post_script.clone(),
        ca_bundle: plan.ca_bundle.clone(),
        host: host.into(),
    }
}

#[test]
fn the_worst_case_stays_below_the_vendors_limit_with_its_values() {
    let (mut plan, signed) = worst();
    plan.attempt = "a-0123456789abcdef".into();
    let pins = pins(&plan, &signed.host);
    let all = [
        (find_command(&pins).unwrap(), find_value(&plan).unwrap()),
        (go_command(&pins).unwrap(), go_value(&plan.attempt, &signed).unwrap()),
        (settle_command().unwrap(), settle_value(&plan.attempt).unwrap()),
    ];
    for (command, value) in &all {
        println!("{}: {} bytes, value {}", command.name, command.text.len(), value.len());
        check_size(command, value).unwrap();
        assert!(command.text.ends_with("\n#=\n{{values}}"), "{}", command.text);
    }
    let too_much = "A".repeat(LIMIT);
    assert!(matches!(check_size(&all[0].0, &too_much), Err(RenderError::TooLarge { command: "find", .. })));
}

#[test]
fn a_registered_text_depends_on_what_it_pins_and_on_nothing_else() {
    let (plan, signed) = worst();
    let first = pins(&plan, &signed.host);
    assert_eq!(find_command(&first), find_command(&first));
    let other = Pins { pre_script: Some("/opt/pre.sh".into()), ..first.clone() };
    assert_ne!(find_command(&first).unwrap().name, find_command(&other).unwrap().name);
    assert_eq!(go_command(&first), go_command(&other));
    let elsewhere = Pins { host: "ecs.cn-hangzhou.aliyuncs.com".into(), ..first.clone() };
    assert_ne!(go_command(&first).unwrap().text, go_command(&elsewhere).unwrap().text);
}

#[test]
fn what_the_vendor_would_take_for_a_parameter_is_not_registered() {
    let (plan, signed) = worst();
    let odd = Pins { pre_script: Some("/opt/{{values}}".into()), ..pins(&plan, &signed.host) };
    assert!(matches!(find_command(&odd), Err(RenderError::Unfit { .. })));
}

#[test]
fn a_value_that_the_guest_would_refuse_is_not_sent() {
    let good = || {
        let (mut plan, _) = worst();
        plan.attempt = "a-1".into();
        plan
    };
    assert!(find_value(&good()).is_ok());
    let unfit = |plan: &Plan| match find_value(plan) {
        Err(RenderError::Unfit { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(unfit(&Plan { attempt: "lock".into(), ..good() }), "RUN");
    assert_eq!(unfit(&Plan { attempt: "a-x".into(), ..good() }), "RUN");
    assert_eq!(unfit(&Plan { policy: "A".into(), ..good() }), "POLICY");
    assert_eq!(unfit(&Plan { disks: vec!["d-1;".into()], ..good() }), "DISKS");
    assert_eq!(unfit(&Plan { disks: Vec::new(), ..good() }), "DISKS");
    assert_eq!(unfit(&Plan { window: 61, ..good() }), "WINDOW");
    assert_eq!(unfit(&Plan { visible: 0, ..good() }), "VISTIME");
    assert_eq!(unfit(&Plan { script_timeout: 781, ..good() }), "LIMIT");
    let (_, signed) = worst();
    assert!(go_value("a-1", &signed).is_ok());
    assert!(go_value("a-1", &Signed { security_token: String::new(), ..signed.clone() }).is_ok());
    let token = |text: &str| Signed { security_token: text.repeat(600), ..signed.clone() };
    for unfit in ["CAISfake", "CAIS'fake"].map(|text| go_value("a-1", &token(text)).unwrap_err()) {
        assert!(
            unfit.to_string().contains("TOKEN") && !format!("{unfit} {unfit:?}").contains("CAIS"),
            "{unfit}"
        );
    }
    let creates = Signed { creates: Vec::new(), ..signed };
    assert!(matches!(go_value("a-1", &creates), Err(RenderError::Unfit { field: "Sc", .. })));
}
