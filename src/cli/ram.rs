//! `appsnap ram`: the RAM documents filled in, as a script for the Alibaba Cloud CLI whose arguments can as well be pasted
//! into the console.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Failure, out};
use crate::ram::{DOCUMENTS, Document, Names, Of, document};

/// Print the RAM policies and trust documents for an account.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The account's id.
    #[arg(long)]
    account: String,
    /// A region to work in; may be given several times. Default: every region.
    #[arg(long = "region")]
    regions: Vec<String>,
    /// The function's name.
    #[arg(long, default_value = "appsnap")]
    function: String,
    /// The role that the function is.
    #[arg(long, default_value = "appsnap-function")]
    function_role: String,
    /// The role that the function assumes.
    #[arg(long, default_value = "appsnap-snapshots")]
    work_role: String,
    /// The role that verifies groups; made with --verify.
    #[arg(long, default_value = "appsnap-verify")]
    verify_role: String,
    /// With --plugin: the role of the instances.
    #[arg(long, default_value = "appsnap-plugin", requires = "plugin")]
    instance_role: String,
    /// Commands are run only on instances with this tag.
    #[arg(long, default_value = "appsnap=allowed", value_name = "KEY=VALUE")]
    tag: String,
    /// Also what the vendor's plugin needs (Windows, or linux.engine: plugin).
    #[arg(long)]
    plugin: bool,
    /// Also the role for `appsnap verify` and for the request's `verify`.
    #[arg(long)]
    verify: bool,
    /// The id of a registered command, three times as `appsnap pin` prints them: the work role may run these only.
    #[arg(long, value_name = "COMMAND")]
    pinned: Vec<String>,
    /// Only the document of this name, as in policies/: the JSON and nothing else.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// For machines: documents and commands as one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let tag = args.tag.split_once('=').ok_or_else(|| Failure::usage("--tag: has to be key=value"))?;
    let names = Names {
        account: args.account.clone(),
        regions: args.regions.clone(),
        function: args.function.clone(),
        function_role: args.function_role.clone(),
        work_role: args.work_role.clone(),
        verify_role: args.verify_role.clone(),
        instance_role: args.instance_role.clone(),
        tag: (tag.0.into(), tag.1.into()),
        commands: args.pinned.clone(),
    };
    names.check().map_err(Failure::usage)?;
    if args.only.as_deref() == Some("protect-pinned") && names.commands.is_empty() {
        return Err(Failure::usage(
            "--only protect-pinned: name the commands by --pinned, as appsnap pin prints them",
        ));
    }
    let also = Also { plugin: args.plugin, verify: args.verify };
    let text = match &args.only {
        Some(name) => {
            let known = || DOCUMENTS.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
            let one = document(name)
                .ok_or_else(|| Failure::usage(format!("--only: {name:?} is none of {}", known())))?;
            format!("{:#}\n", one.filled(&names))
        }
        None if args.json => format!("{:#}\n", for_machines(&names, also)),
        None => script(&names, also),
    };
    out(&text)?;
    Ok(0)
}

/// What is made beside the roles that every run needs.
#[derive(Debug, Clone, Copy, Default)]
struct Also {
    plugin: bool,
    verify: bool,
}

/// The documents of the roles that are made, in their order.
fn chosen(names: &Names, Also { plugin, verify }: Also) -> impl Iterator<Item = &'static Document> {
    let pinned = !names.commands.is_empty();
    DOCUMENTS.iter().filter(move |one| match one.of {
        Of::Function => true,
        Of::Work => (plugin || one.name != "plugin") && (!pinned || one.name != "protect"),
        Of::Pinned => pinned,
        Of::Instance => plugin,
        Of::Verify => verify,
        Of::Later => false,
    })
}

fn role<'a>(one: &Document, names: &'a Names) -> &'a str {
    match one.of {
        Of::Function => &names.function_role,
        Of::Instance => &names.instance_role,
        Of::Verify => &names.verify_role,
        Of::Work | Of::Pinned | Of::Later => &names.work_role,
    }
}

/// What makes one document take effect. The names were checked and a document holds no quote: `'…'` is one argument.
fn commands(one: &Document, names: &Names, pretty: bool) -> Vec<String> {
    let filled = one.filled(names);
    let (role, name) = (role(one, names), one.name);
    let text = if pretty { format!("{filled:#}") } else { filled.to_string() };
    if one.is_trust() {
        return vec![format!("aliyun ram CreateRole --RoleName {role} --AssumeRolePolicyDocument '{text}'")];
    }
    vec![
        format!("aliyun ram CreatePolicy --PolicyName appsnap-{name} --PolicyDocument '{text}'"),
        format!(
            "aliyun ram AttachPolicyToRole --PolicyType Custom --PolicyName appsnap-{name} --RoleName {role}"
        ),
    ]
}

/// What is taken away: with `protect` beside it, a role that is to be pinned would still have RunCommand.
fn taken_away(names: &Names) -> Vec<String> {
    let role = &names.work_role;
    let detach = format!(
        "aliyun ram DetachPolicyFromRole --PolicyType Custom --PolicyName appsnap-protect --RoleName {role}"
    );
    if names.commands.is_empty() { Vec::new() } else { vec![detach] }
}

/// What is done for each instance.
fn on_instances(names: &Names, also: Also) -> Vec<String> {
    let region = names.regions.first().map_or("REGION", String::as_str);
    let (key, value) = &names.tag;
    let mut all = vec![format!(
        "aliyun ecs TagResources --RegionId {region} --ResourceType instance --ResourceId.1 INSTANCE \
         --Tag.1.Key {key} --Tag.1.Value {value}"
    )];
    if also.plugin {
        all.push(format!(
            "aliyun ecs AttachInstanceRamRole --RegionId {region} --RamRoleName {} --InstanceIds '[\"INSTANCE\"]'",
            names.instance_role
        ));
    }
    all
}

/// Lets an instance lend itself to verifications.
fn lent(names: &Names) -> String {
    let region = names.regions.first().map_or("REGION", String::as_str);
    format!(
        "aliyun ecs TagResources --RegionId {region} --ResourceType instance --ResourceId.1 INSTANCE \
         --Tag.1.Key appsnap:verify --Tag.1.Value allowed"
    )
}

fn arn(names: &Names, role: &str) -> String {
    format!("acs:ram::{}:role/{role}", names.account)
}

fn script(names: &Names, also: Also) -> String {
    let mut text = String::from(
        "#!/bin/sh\n\
         # RAM roles for appsnap: a script for the Alibaba Cloud CLI (`aliyun configure` first). Read it, then run it\n\
         # by `sh`. The documents between the quotes can as well be pasted into the RAM console.\n\
         # What is there already is told as EntityAlreadyExists and stays as it is; a policy is changed by\n\
         # `aliyun ram CreatePolicyVersion --SetAsDefault true`.\n",
    );
    let mut line = |words: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{words}");
    };
    for one in chosen(names, also) {
        line(&format!("\n# {}: {}", one.name, one.purpose));
        commands(one, names, true).iter().for_each(|command| line(command));
    }
    for command in taken_away(names) {
        line("\n# protect, with which the role would still have RunCommand (EntityNotExist: it had not):");
        line(&command);
    }
    line("\n# Then for each instance, with its id in the place of INSTANCE:");
    on_instances(names, also).iter().for_each(|command| line(&format!("#   {command}")));
    if also.verify {
        line("# For the one instance that verifications may attach disks to and start databases on:");
        line(&format!("#   {}", lent(names)));
    }
    line("# And s.yaml has to say the same, under vars and props:");
    line(&format!("#   functionRole: {}", arn(names, &names.function_role)));
    line(&format!("#   roleArn: {}", arn(names, &names.work_role)));
    line(&format!("#   functionName: {}", names.function));
    text
}

fn for_machines(names: &Names, also: Also) -> Value {
    let documents: Vec<Value> = chosen(names, also)
        .map(|one| {
            let kind = if one.is_trust() { "trust" } else { "policy" };
            json!({ "name": one.name, "kind": kind, "role": role(one, names), "purpose": one.purpose,
                    "document": one.filled(names) })
        })
        .collect();
    let made = chosen(names, also).flat_map(|one| commands(one, names, false));
    let commands: Vec<String> = made.chain(taken_away(names)).collect();
    let lent: Vec<String> = also.verify.then(|| lent(names)).into_iter().collect();
    json!({
        "onTheLentInstance": lent,
        "documents": documents, "commands": commands, "onEachInstance": on_instances(names, also),
        "deployment": { "functionRole": arn(names, &names.function_role),
                        "roleArn": arn(names, &names.work_role), "functionName": names.function },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For those who have no Rust: the script with `<account>` and `<region>` to be put in by sed.
    #[test]
    fn the_script_in_policies_is_the_one_that_is_printed() {
        let names =
            Names { account: "<account>".into(), regions: vec!["<region>".into()], ..Names::default() };
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/ram.sh");
        let written = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            written == script(&names, Also::default()),
            "policies/ram.sh has to say:\n{}",
            script(&names, Also::default())
        );
    }

    #[test]
    fn pinned_takes_the_place_of_protect() {
        let of = |commands: &[&str]| -> Vec<&str> {
            let commands = commands.iter().map(|id| id.to_string()).collect();
            let names = Names { commands, ..Names::default() };
            chosen(&names, Also::default()).filter(|one| !one.is_trust()).map(|one| one.name).collect()
        };
        assert_eq!(of(&[]), ["function", "survey", "protect", "check"]);
        assert_eq!(of(&["c-1"]), ["function", "survey", "protect-pinned", "check"]);
        // A role that was made before has it still.
        let detach = "\naliyun ram DetachPolicyFromRole --PolicyType Custom --PolicyName appsnap-protect --RoleName appsnap-snapshots\n";
        let pinned = Names { commands: vec!["c-1".into()], ..Names::default() };
        assert!(script(&pinned, Also::default()).contains(detach));
        assert!(for_machines(&pinned, Also::default())["commands"].to_string().contains(detach.trim()));
        assert!(!script(&Names::default(), Also { plugin: true, verify: true }).contains("DetachPolicy"));
    }

    #[test]
    fn what_s_yaml_has_to_say_is_what_it_can_say() {
        let account = "${config('AccountID')}";
        let text = script(&Names { account: account.into(), ..Names::default() }, Also::default());
        let (_, told) = text.split_once("# And s.yaml has to say").unwrap();
        let s_yaml = include_str!("../../s.yaml");
        let lines: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
        assert_eq!(lines.len(), 3, "{told}");
        for line in lines {
            assert!(s_yaml.contains(&format!("  {line}")), "s.yaml has no {line:?}");
        }
    }
}
