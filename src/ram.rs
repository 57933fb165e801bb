//! The RAM documents of `policies/`: filled in for an account, and the statement that a denied call lacks. Pure, and
//! used by all that speaks of rights: the command `ram`, the cures of errors, and the local cloud, whose demo runs
//! with these very documents.
//!
//! Which resource an action takes is from the table "RAM authorization" of each action's page, e.g.
//! <https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-ram>; RunCommand by tag, and that it
//! takes `command/*` besides, from
//! <https://www.alibabacloud.com/help/en/resource-management/tag/use-cases/use-tags-to-control-the-running-of-cloud-assistant-commands>.

mod statement;

use serde_json::Value;

pub use self::statement::{addition, statement};

/// What the placeholders in the documents stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Account id: digits.
    pub account: String,
    /// Regions; empty: every one.
    pub regions: Vec<String>,
    /// The function.
    pub function: String,
    /// What the function is.
    pub function_role: String,
    /// What the function assumes to work on ECS.
    pub work_role: String,
    /// What the function assumes to verify groups.
    pub verify_role: String,
    /// What an instance has for the vendor's plugin.
    pub instance_role: String,
    /// Key and value of the tag without which no command runs on an instance.
    pub tag: (String, String),
    /// Ids of the registered commands, for the pinned mode.
    pub commands: Vec<String>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            account: String::new(),
            regions: Vec::new(),
            function: "appsnap".into(),
            function_role: "appsnap-function".into(),
            work_role: "appsnap-snapshots".into(),
            verify_role: "appsnap-verify".into(),
            instance_role: "appsnap-plugin".into(),
            tag: ("appsnap".into(), "allowed".into()),
            commands: Vec::new(),
        }
    }
}

/// Whose a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The function's own role.
    Function,
    /// The role that the function assumes.
    Work,
    /// As `Work`, in pinned mode.
    Pinned,
    /// The role that the function, or an operator, assumes to verify groups.
    Verify,
    /// The role of an instance, for the vendor's plugin.
    Instance,
    /// A role for a step that is still to come.
    Later,
}

/// One document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document {
    /// Of its file, without `.json`.
    pub name: &'static str,
    /// Whose it is.
    pub of: Of,
    /// What it is for, in a line.
    pub purpose: &'static str,
    /// The file.
    pub text: &'static str,
}

impl Document {
    /// Whether it says who may assume a role, and not what the role may do.
    pub fn is_trust(&self) -> bool {
        self.name.starts_with("trust-")
    }

    /// With the names in their places.
    pub fn filled(&self, names: &Names) -> Value {
        let document: Value = serde_json::from_str(self.text).unwrap_or_default();
        fill(&document, names)
    }
}

macro_rules! document {
    ($name:literal, $of:ident, $purpose:literal) => {
        Document {
            name: $name,
            of: Of::$of,
            purpose: $purpose,
            text: include_str!(concat!("../policies/", $name, ".json")),
        }
    };
}

/// All of them, a role's trust document first.
pub const DOCUMENTS: &[Document] = &[
    document!("trust-function", Function, "Function Compute may give the function this role"),
    document!("function", Function, "assume the other role; hand an event on to itself"),
    document!("trust-snapshots", Work, "the function's role, and nobody else, may assume this one"),
    document!("survey", Work, "look at instances, disks and their Cloud Assistant"),
    document!("protect", Work, "run commands on tagged instances; make, see and label snapshot groups"),
    document!(
        "protect-pinned",
        Pinned,
        "in place of protect: run registered commands only, on tagged instances"
    ),
    document!(
        "check",
        Work,
        "what only a dry run asks: how many snapshots a disk has, and the plugin's state"
    ),
    document!("plugin", Work, "with the vendor's plugin as engine, beside survey and protect"),
    document!("trust-instance", Instance, "ECS may give an instance this role"),
    document!("instance", Instance, "what the vendor's plugin asks for in the guest, as its page has it"),
    document!("retain", Later, "delete groups that appsnap made (no step does that yet)"),
    document!("trust-verify", Verify, "the function's role, and nobody else, may assume this one"),
    document!(
        "verify",
        Verify,
        "make, attach and delete disks of its own; run commands on the instance that lends itself; label snapshots"
    ),
];

/// The document of this name.
pub fn document(name: &str) -> Option<&'static Document> {
    DOCUMENTS.iter().find(|document| document.name == name)
}

/// A string with `{region}` or `{command}` in a list becomes one for each; alone it becomes a list where there are several.
fn fill(value: &Value, names: &Names) -> Value {
    match value {
        Value::String(text) => {
            let mut all = texts(text, names);
            if all.len() == 1 { all.remove(0) } else { Value::Array(all) }
        }
        Value::Array(items) => {
            let flat = items.iter().flat_map(|item| match item {
                Value::String(text) => texts(text, names),
                other => vec![fill(other, names)],
            });
            Value::Array(flat.collect())
        }
        Value::Object(fields) => {
            let named = |text: &str| place(text, names, "*");
            fields.iter().map(|(key, value)| (named(key), fill(value, names))).collect()
        }
        other => other.clone(),
    }
}

fn texts(text: &str, names: &Names) -> Vec<Value> {
    let everywhere = ["*".to_owned()];
    let regions = if names.regions.is_empty() { &everywhere[..] } else { &names.regions };
    let times = if text.contains("{region}") { regions.len() } else { 1 };
    let of = |region: &String| -> Vec<Value> {
        let text = place(text, names, region);
        match text.contains("{command}") {
            true => names.commands.iter().map(|id| text.replace("{command}", id).into()).collect(),
            false => vec![text.into()],
        }
    };
    regions[..times].iter().flat_map(of).collect()
}

fn place(text: &str, names: &Names, region: &str) -> String {
    let places = [
        ("{account}", names.account.as_str()),
        ("{region}", region),
        ("{function}", &names.function),
        ("{functionRole}", &names.function_role),
        ("{workRole}", &names.work_role),
        ("{verifyRole}", &names.verify_role),
        ("{tagKey}", &names.tag.0),
        ("{tagValue}", &names.tag.1),
    ];
    places.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

impl Names {
    /// Checks that each name can be what it is to be; so none of them can be more than a name in a document or on a
    /// command line.
    ///
    /// # Errors
    /// A sentence that names the wrong one.
    pub fn check(&self) -> Result<(), String> {
        // No name begins with `-`: on a command line it would be an option.
        let within = |text: &str, most: usize, others: &str| {
            (1..=most).contains(&text.len())
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || others.contains(c))
        };
        let wrong = |what: &str, given: &str, how: &str| Err(format!("{what} {given:?} {how}"));
        if !(8..=20).contains(&self.account.len()) || !self.account.bytes().all(|c| c.is_ascii_digit()) {
            return wrong(
                "account",
                &self.account,
                "has to be an account id: digits, as shown in the console",
            );
        }
        for region in &self.regions {
            if !region.contains('-') || !within(region, 40, "-") {
                return wrong("region", region, "has to be a region id, as cn-hangzhou");
            }
        }
        for (what, role) in [
            ("function role", &self.function_role),
            ("work role", &self.work_role),
            ("verify role", &self.verify_role),
            ("instance role", &self.instance_role),
        ] {
            if !within(role, 64, "-.") {
                let how = "has to be 1 to 64 small letters, digits, - and . (Serverless Devs writes role ARNs small)";
                return wrong(what, role, how);
            }
        }
        let roles = [&self.function_role, &self.work_role, &self.verify_role, &self.instance_role];
        if let Some(twice) =
            roles.iter().enumerate().find_map(|(n, one)| roles[..n].contains(one).then_some(one))
        {
            return wrong("role", twice, "stands for two: what one may do, the other would do by itself");
        }
        let letters = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if self.function.len() > 64 || !letters(&self.function) || !self.function.starts_with(first) {
            return wrong(
                "function",
                &self.function,
                "has to be a function's name: letters, digits, - and _",
            );
        }
        for id in &self.commands {
            if !id.starts_with("c-") || !within(id, 64, "-") {
                return wrong(
                    "command",
                    id,
                    "has to be the id of a registered command: c-…, as appsnap pin prints it",
                );
            }
        }
        let mut ids = self.commands.clone();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != self.commands.len() || !ids.len().is_multiple_of(3) {
            return Err(format!(
                "the commands {:?} have to be three for each region, each once, as appsnap pin prints them: \
                 a run needs all three",
                self.commands
            ));
        }
        let fit = |text: &str| {
            (1..=128).contains(&text.len())
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || ".:/@+-_=".contains(c))
        };
        let (key, value) = &self.tag;
        let reserved = ["aliyun", "acs:"].iter().any(|start| key.to_lowercase().starts_with(start));
        if !fit(key) || !fit(value) || reserved || key.contains('=') {
            let how = "has to be key=value: letters, digits and .:/@+-_, not starting with -, and the key not with aliyun or acs:";
            return wrong("tag", &format!("{key}={value}"), how);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            account: "1234567890123456".into(),
            regions: vec!["cn-hangzhou".into()],
            commands: ["c-1", "c-2", "c-3"].map(String::from).to_vec(),
            ..Names::default()
        }
    }

    #[test]
    fn every_file_is_a_document_and_every_placeholder_is_filled() {
        let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .collect();
        files.sort();
        let mut known: Vec<&str> = DOCUMENTS.iter().map(|one| one.name).collect();
        known.sort_unstable();
        assert_eq!(files, known);
        for one in DOCUMENTS {
            let filled = one.filled(&names());
            assert_eq!(filled["Version"], "1", "{}", one.name);
            let text = filled.to_string();
            for placeholder in ["{account", "{region", "{function", "{work", "{verify", "{tag", "{command"] {
                assert!(!text.contains(placeholder), "{}: {text}", one.name);
            }
        }
    }

    #[test]
    fn the_longest_names_fit_what_ram_takes() {
        let long = "a".repeat(64);
        let names = Names {
            account: "1".repeat(16),
            regions: (0..5).map(|n| format!("ap-southeast-{n}")).collect(),
            function: long.clone(),
            function_role: long.clone(),
            work_role: "b".repeat(64),
            verify_role: "d".repeat(64),
            instance_role: "c".repeat(64),
            tag: ("k".repeat(128), "v".repeat(128)),
            commands: (0..15).map(|n| format!("c-hz0{n:028}")).collect(),
        };
        names.check().unwrap();
        for one in DOCUMENTS {
            // Custom policies take 6,144 characters, trust policies 2,048.
            let most = if one.is_trust() { 2048 } else { 6144 };
            assert!(one.filled(&names).to_string().len() <= most, "{}", one.name);
        }
    }

    #[test]
    fn regions_are_named_one_by_one_or_not_at_all() {
        let of = |regions: &[&str]| {
            let regions = regions.iter().map(|region| region.to_string()).collect();
            let filled = document("survey").unwrap().filled(&Names { regions, ..names() });
            filled["Statement"][1]["Resource"].clone()
        };
        assert_eq!(of(&[]), "acs:ecs:*:1234567890123456:disk/*");
        assert_eq!(of(&["cn-a"]), "acs:ecs:cn-a:1234567890123456:disk/*");
        assert_eq!(of(&["cn-a", "cn-b"])[1], "acs:ecs:cn-b:1234567890123456:disk/*");
        let pinned = document("protect-pinned").unwrap().filled(&names());
        assert_eq!(pinned["Statement"][1]["Resource"][2], "acs:ecs:*:1234567890123456:command/c-3");
        let protect = document("protect").unwrap().filled(&names());
        assert_eq!(
            protect["Statement"][0]["Condition"]["StringEquals"]["acs:ResourceTag/appsnap"],
            "allowed"
        );
    }

    #[test]
    fn the_pinned_policy_is_that_of_a_run_with_registered_commands_in_place_of_run_command() {
        let statements = |name: &str, other: &[&str]| -> Vec<Value> {
            let all = document(name).unwrap().filled(&names())["Statement"].as_array().unwrap().clone();
            all.into_iter().filter(|one| !other.iter().any(|action| one["Action"] == *action)).collect()
        };
        let pinned = statements("protect-pinned", &["ecs:InvokeCommand", "ecs:DescribeCommands"]);
        assert_eq!(pinned, statements("protect", &["ecs:RunCommand"]));
    }

    #[test]
    fn a_name_that_cannot_be_one_is_told() {
        type Change = fn(&mut Names);
        let table: [(Change, &str); 16] = [
            (|n| n.commands = vec!["c-1/*".into()], "registered command"),
            (|n| n.commands = vec!["c-1".into()], "three for each region"),
            (|n| n.commands = ["c-1", "c-1", "c-2"].map(String::from).into(), "each once"),
            (|n| n.account.clear(), "account"),
            (|n| n.account = "123456789x".into(), "account"),
            (|n| n.regions = vec!["hangzhou".into()], "region"),
            (|n| n.regions = vec!["cn-'; rm".into()], "region"),
            (|n| n.function_role = "AppSnap".into(), "small letters"),
            (|n| n.work_role.clear(), "work role"),
            (|n| n.function = "1st".into(), "function"),
            (|n| n.tag = ("acs:x".into(), "y".into()), "tag"),
            (|n| n.tag = ("a'b".into(), "y".into()), "key=value"),
            (|n| n.tag = ("a".into(), "--profile".into()), "key=value"),
            (|n| n.regions = vec!["-".into()], "region"),
            (|n| n.work_role = "--profile".into(), "work role"),
            (|n| n.work_role = n.function_role.clone(), "stands for two"),
        ];
        for (change, word) in table {
            let mut wrong = names();
            change(&mut wrong);
            assert!(wrong.check().unwrap_err().contains(word), "{word}");
        }
        names().check().unwrap();
    }
}
