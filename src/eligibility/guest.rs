//! Rules about what a check sees in the guest. What a run would tell by a reason of its own keeps that reason's words
//! (`protect::reasons`); here is how much it weighs beforehand, and what else is worth knowing.

use super::rules::Rule;
use crate::report::{Finding, Level, Severity};

/// What the guest told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestFacts {
    /// `i-…`
    pub instance_id: String,
    /// OSName of DescribeInstances.
    pub os_name: String,
    /// `ID` and `VERSION_ID` of os-release.
    pub os: Option<(String, String)>,
    /// Paths of the scripts that may run.
    pub scripts: Vec<String>,
    /// Devices of the chosen disks that cannot be frozen.
    pub quiet: Vec<String>,
    /// Mount points on the chosen disks that cannot be frozen.
    pub calm: Vec<String>,
    /// Swap among `quiet`.
    pub swap: Vec<String>,
    /// SELinux enforces: the context of Cloud Assistant's commands, `user:role:type:level`.
    pub selinux: Option<String>,
    /// Free on `/run`, KiB.
    pub room_kib: Option<u64>,
}

const SEQUENCE: &str = "docs/architecture.md, The guest sequence";

const QUIET: Rule = Rule {
    code: "fs.quiet",
    severity: Severity::Note,
    message: "something on a chosen disk cannot be frozen: a run flushes it, and comes to crash if it is written to in the freeze",
    cure: "none needed while nobody writes there; else leave its disk out, or stop the writer in the prescript (swapoff)",
    source: SEQUENCE,
};
const OS_DIFFERS: Rule = Rule {
    code: "os.differs",
    severity: Severity::Note,
    message: "the guest runs another system than the API says; the rules were asked about that of the API",
    cure: "none needed if it was upgraded or replaced in place: do a first run and read its report",
    source: "API reference, DescribeInstances: OSName; os-release in the guest",
};
const TMP: Rule = Rule {
    code: "script.tmp",
    severity: Severity::Note,
    message: "a script lies where cleaners (systemd-tmpfiles, a restart) take it away",
    cure: "move it to /etc/appsnap, owner root, mode 0700 (or name its path by linux.preScriptPath and postScriptPath)",
    source: "the vendor's page places scripts in /tmp; systemd's tmpfiles.d clears it of what is ten days old",
};
const CONFINED: Rule = Rule {
    code: "selinux.confined",
    severity: Severity::Note,
    message: "SELinux is enforcing, and the commands of Cloud Assistant run in a confined domain: agents so confined were seen to fail at the freeze",
    cure: "do a run on a test instance and look for `fsfreeze` in the audit log (ausearch -m avc); allow what is denied, or let the agent's service run unconfined",
    source: "reports on qemu-ga under RHEL 9 and SUSE: denied until a policy of its own allowed it (dac_read_search, …)",
};
const LOW: Rule = Rule {
    code: "state.low",
    severity: Severity::Note,
    message: "/run has little room: a run keeps its state there and is refused when it is full (state.space)",
    cure: "free some space on /run, 1 MiB at least",
    source: SEQUENCE,
};

/// What the cloud says against a command; its own words follow.
pub const REFUSED: Rule = Rule {
    code: "agent.refused",
    severity: Severity::Blocker,
    message: "a command for the guest would not be run",
    cure: "see the cloud's code: the client in the guest has to run and answer (service aliyun), and the role to be \
           allowed ecs:RunCommand on the instance",
    source: "API reference, RunCommand: RepeatMode DryRun",
};
/// The vendor's plugin comes at its first use.
pub const PLUGIN: Rule = Rule {
    code: "plugin.absent",
    severity: Severity::Note,
    message: "the vendor's plugin is not in the guest yet: Cloud Assistant downloads it in the first run, which takes longer",
    cure: "none needed where the guest reaches 100.100.100.200, the region's Cloud Assistant endpoint and its OSS",
    source: "API reference, ListPluginStatus",
};

/// By code.
pub const RULES: &[Rule] = &[REFUSED, QUIET, OS_DIFFERS, PLUGIN, TMP, CONFINED, LOW];

/// Less than this on `/run` is worth a note, KiB: a run of many disks takes some hundred.
const ROOM: u64 = 1024;
/// Domains that are confined by nothing: of shells, of services without a policy of their own, of early boot.
const UNCONFINED: [&str; 5] = ["unconfined_t", "unconfined_service_t", "initrc_t", "init_t", "kernel_t"];
/// What a system is called in os-release, and by the API at its name's beginning, in lower case.
const SYSTEMS: [(&str, &[&str]); 11] = [
    ("alinux", &["alibaba cloud linux", "aliyun linux"]),
    ("almalinux", &["almalinux"]),
    ("anolis", &["anolis"]),
    ("centos", &["centos"]),
    ("debian", &["debian"]),
    ("fedora", &["fedora"]),
    ("opensuse-leap", &["opensuse"]),
    ("rhel", &["red hat"]),
    ("rocky", &["rocky"]),
    ("sles", &["suse linux"]),
    ("ubuntu", &["ubuntu"]),
];

/// What is worth knowing beside the reasons that a run would have.
pub fn findings(guest: &GuestFacts) -> Vec<Finding> {
    let id = guest.instance_id.as_str();
    let mut found = Vec::new();
    if let Some(detail) = differs(guest) {
        found.push(OS_DIFFERS.finding(id, &detail));
    }
    let tmp: Vec<&str> = guest
        .scripts
        .iter()
        .map(String::as_str)
        .filter(|path| path.starts_with("/tmp/") || path.starts_with("/var/tmp/"))
        .collect();
    if !tmp.is_empty() {
        found.push(TMP.finding(id, &tmp.join(", ")));
    }
    if !guest.quiet.is_empty() || !guest.calm.is_empty() {
        let kinds = [("device ", &guest.quiet), ("mounted at ", &guest.calm), ("swap on ", &guest.swap)];
        let told = kinds.iter().filter(|(_, names)| !names.is_empty());
        let told: Vec<String> = told.map(|(kind, names)| format!("{kind}{}", names.join(" "))).collect();
        found.push(QUIET.finding(id, &told.join("; ")));
    }
    if let Some(context) = &guest.selinux
        && !UNCONFINED.contains(&context.split(':').nth(2).unwrap_or_default())
    {
        found.push(CONFINED.finding(id, context));
    }
    if let Some(kib) = guest.room_kib.filter(|kib| *kib < ROOM) {
        found.push(LOW.finding(id, &format!("{kib} KiB are free")));
    }
    found
}

/// Both names, where family or major version contradict each other; a system that is not known contradicts nothing.
fn differs(guest: &GuestFacts) -> Option<String> {
    let (id, version) = guest.os.as_ref()?;
    let api = guest.os_name.to_lowercase();
    let of_api = SYSTEMS.iter().find(|(_, names)| names.iter().any(|name| api.starts_with(name)))?;
    let major = |text: &str| -> Option<u32> {
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let (known, own) = (SYSTEMS.iter().any(|(name, _)| name == id), *id == of_api.0);
    let another_version = own && matches!((major(version), major(&api)), (Some(a), Some(b)) if a != b);
    (known && !own || another_version).then(|| {
        format!("{} in the guest, {} by the API", [id.as_str(), version].join(" ").trim(), guest.os_name)
    })
}

/// What a reason of the guest weighs before a run: some refuse it, others leave it a lower level.
pub fn weight(code: &str) -> Severity {
    let refuses = ["tool.", "state.", "fs.shared", "connect.", "busy", "plugin.manager_missing"];
    match refuses.iter().any(|start| code.starts_with(start)) {
        true => Severity::Blocker,
        false => Severity::Downgrade,
    }
}

/// Whether a reason of the look means something to a run by the vendor's plugin, which has fewer demands.
pub fn concerns_plugin(code: &str) -> bool {
    let vetted = ["script.missing", "script.type", "script.owner", "script.mode"];
    vetted.contains(&code) || ["plugin.manager_missing", "freeze.watched", "fs.shared"].contains(&code)
}

/// The level that a run would reach, as far as findings tell: scripts and writers cost it `application`, anything else
/// that lowers leaves `crash`.
pub fn expected(findings: &[Finding], wanted: Level) -> Level {
    let of = |finding: &Finding| match finding.severity {
        Severity::Note => wanted,
        Severity::Blocker => Level::None,
        Severity::Downgrade
            if ["script.", "writers."].iter().any(|start| finding.code.starts_with(start)) =>
        {
            Level::Filesystem
        }
        Severity::Downgrade => Level::Crash,
    };
    findings.iter().map(of).fold(wanted, Level::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> GuestFacts {
        GuestFacts {
            instance_id: "i-1".into(),
            os_name: "Alibaba Cloud Linux  3.2104 LTS 64 bit".into(),
            os: Some(("alinux".into(), "3".into())),
            scripts: vec!["/etc/appsnap/prescript.sh".into()],
            selinux: Some("system_u:system_r:unconfined_service_t:s0".into()),
            room_kib: Some(100_000),
            ..GuestFacts::default()
        }
    }

    #[test]
    fn each_rule_has_a_guest_that_fails_it() {
        type Change = fn(&mut GuestFacts);
        let table: [(Change, &str); 8] = [
            (|g| g.os = Some(("debian".into(), "12".into())), "os.differs"),
            (|g| g.os = Some(("alinux".into(), "2.1903".into())), "os.differs"),
            (|g| g.scripts.push("/tmp/postscript.sh".into()), "script.tmp"),
            (|g| g.quiet = vec!["vda1".into()], "fs.quiet"),
            (|g| g.calm = vec!["/boot/efi".into()], "fs.quiet"),
            (|g| g.selinux = Some("system_u:system_r:virt_qemu_ga_t:s0".into()), "selinux.confined"),
            (|g| g.selinux = Some("odd".into()), "selinux.confined"),
            (|g| g.room_kib = Some(1023), "state.low"),
        ];
        assert_eq!(findings(&good()), vec![]);
        let raw = findings(&GuestFacts { quiet: vec!["vdb".into()], swap: vec!["vdb".into()], ..good() });
        assert!(raw[0].message.ends_with(": device vdb; swap on vdb"), "{raw:?}");
        let mut failed: Vec<&str> = table.iter().map(|(_, code)| *code).collect();
        for (change, code) in table {
            let mut guest = good();
            change(&mut guest);
            let found = findings(&guest);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].code == code && found[0].resource == "i-1" && !found[0].cure.is_empty(),
                "{found:?}"
            );
        }
        failed.sort_unstable();
        failed.dedup();
        // The other two are what the cloud says.
        failed.extend([REFUSED.code, PLUGIN.code]);
        failed.sort_unstable();
        assert_eq!(
            failed,
            RULES.iter().map(|rule| rule.code).collect::<Vec<_>>(),
            "a rule that nothing fails"
        );
    }

    #[test]
    fn systems_are_compared_only_where_both_are_known() {
        let differs = |api: &str, id: &str, version: &str| {
            let guest = GuestFacts { os_name: api.into(), os: Some((id.into(), version.into())), ..good() };
            super::differs(&guest).is_some()
        };
        let table = [
            ("CentOS  7.9 64 bit", "centos", "7", false),
            ("CentOS Stream  9 64 bit", "centos", "9", false),
            ("CentOS  7.9 64 bit", "rocky", "8.9", true),
            ("Aliyun Linux  2.1903 LTS 64 bit", "alinux", "2.1903", false),
            ("Ubuntu  22.04 64 bit", "ubuntu", "24.04", true),
            ("Customized Linux", "debian", "12", false),
            ("CentOS  7.9 64 bit", "mine", "1", false),
            ("", "debian", "12", false),
        ];
        for (api, id, version, expected) in table {
            assert_eq!(differs(api, id, version), expected, "{api} {id} {version}");
        }
    }

    #[test]
    fn the_expected_level_is_what_the_worst_finding_leaves() {
        let finding = |code: &str, severity| {
            let text = String::new;
            Finding { code: code.into(), severity, resource: text(), message: text(), cure: text() }
        };
        let (note, lowers) =
            (finding("fs.network", Severity::Note), |code| finding(code, Severity::Downgrade));
        let table = [
            (vec![], Level::Application),
            (vec![note.clone()], Level::Application),
            (vec![note, lowers("script.mode")], Level::Filesystem),
            (vec![lowers("writers.off")], Level::Filesystem),
            (vec![lowers("script.mode"), lowers("fs.spans")], Level::Crash),
            (vec![lowers("instance.stopped")], Level::Crash),
            (vec![lowers("script.mode"), finding("tool.https", Severity::Blocker)], Level::None),
        ];
        for (findings, level) in table {
            assert_eq!(expected(&findings, Level::Application), level, "{findings:?}");
        }
        assert_eq!(
            expected(&[lowers("script.mode")], Level::Crash),
            Level::Crash,
            "never above what is wanted"
        );
    }

    #[test]
    fn what_ends_a_run_at_its_look_blocks_and_the_rest_lowers() {
        for code in
            ["tool.missing", "tool.https", "state.space", "state.not_tmpfs", "fs.shared", "connect.failed"]
        {
            assert_eq!(weight(code), Severity::Blocker, "{code}");
        }
        for code in ["script.mode", "fs.spans", "fs.hidden", "disk.not_found", "freeze.watched"] {
            assert_eq!(weight(code), Severity::Downgrade, "{code}");
        }
    }
}
