//! Registered commands on real shells: a whole run, and what a value can do there that means harm: nothing.
#![allow(clippy::disallowed_methods)] // the endpoint measures real time

mod common;
#[allow(dead_code)] // others need the rest of it
#[path = "common/endpoint.rs"]
mod endpoint;
#[allow(dead_code)] // others need the rest of it
#[path = "common/rig.rs"]
mod rig;
#[path = "common/values.rs"]
mod values;

use std::time::Duration;

use appsnap::guest::pinned::Command;
use appsnap::guest::told::Told;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::need;
use endpoint::{Endpoint, Manners};
use rig::{DISKS, Rig};
use values::{lines, orders, packed, script};

const TOOLS: [&str; 11] = [
    "root",
    "mkfs.xfs",
    "mkfs.ext4",
    "losetup",
    "unshare",
    "fsfreeze",
    "curl",
    "openssl",
    "dash",
    "bash",
    "busybox",
];
const SHELLS: [&str; 3] = ["dash", "bash", "busybox sh"];
const EVIL: &str = "touch /run/evil";

/// Whether something of a value was run since this was asked last.
fn evil(rig: &mut Rig) -> bool {
    rig.sh("rm /run/evil 2>/dev/null").1 == 0
}

/// Runs each of these files by each shell, and tells what came of it: shell, number, exit code, output.
fn run_all(rig: &mut Rig, files: &[Vec<u8>]) -> Vec<(String, usize, i32, String)> {
    let dir = rig.dir.join("attacks");
    std::fs::create_dir_all(&dir).unwrap();
    for (number, bytes) in files.iter().enumerate() {
        std::fs::write(dir.join(number.to_string()), bytes).unwrap();
    }
    let mut all = Vec::new();
    for shell in SHELLS {
        let dir = dir.display();
        let (out, _) = rig.sh(&format!(
            "n=0; while [ -e {dir}/$n ]; do timeout 30 {shell} {dir}/$n >/run/out 2>&1; c=$?; \
             echo \"@$n $c $(tail -c 3000 /run/out | tr -d '\\000' | tr '\\n' '~')\"; n=$((n + 1)); done"
        ));
        assert!(!evil(rig), "{shell}: something of a value was run: {out}");
        for line in out.lines().filter_map(|line| line.strip_prefix('@')) {
            let mut words = line.splitn(3, ' ');
            let mut number = || words.next().unwrap().parse().unwrap();
            let (file, code): (i32, i32) = (number(), number());
            all.push((shell.to_owned(), file as usize, code, words.next().unwrap_or_default().to_owned()));
        }
    }
    assert_eq!(all.len(), SHELLS.len() * files.len());
    std::fs::remove_dir_all(dir).unwrap();
    all
}

fn refused_for(output: &str, code: &str) -> bool {
    let told = Told::read(&output.replace('~', "\n"));
    told.is_some_and(|told| told.phase == "refused" && told.reasons.iter().any(|(own, _)| own == code))
}

#[test]
fn a_pinned_run_is_frozen_visible_and_thawed_under_every_shell() {
    if !need(&TOOLS) {
        return;
    }
    for shell in SHELLS {
        let manners = Manners { visible_after: Duration::from_millis(200), hang: false };
        let endpoint = Endpoint::start(manners, &DISKS);
        let mut rig = Rig::start();
        rig.scripts("echo 'appsnap-mark: lsn=0/16B3748'", "");
        std::fs::write(rig.dir.join("ca.pem"), &endpoint.ca_pem).unwrap();
        let dir = rig.dir.display().to_string();
        for (command, value) in orders(&rig, endpoint.port) {
            std::fs::write(rig.dir.join(command.kind), script(&command, value.as_bytes())).unwrap();
        }
        rig.sh(&format!(
            "mkdir /run/sh && printf '#!/bin/sh\\nexec {shell} \"$@\"\\n' >/run/sh/sh && chmod 755 /run/sh/sh"
        ));
        let mut run = |kind: &str| rig.sh(&format!("PATH=/run/sh:$PATH {shell} {dir}/{kind}"));
        let found = run("find");
        assert_eq!((Told::read(&found.0).unwrap().phase.as_str(), found.1), ("found", 0), "{}", found.0);
        let (output, status) = run("go");
        let told = Told::read(&output).unwrap();
        assert_eq!((told.phase.as_str(), status, told.reasons.len()), ("done", 0, 0), "{shell}: {output}");
        let freeze = told.freeze.unwrap();
        assert_eq!((freeze.frozen, freeze.thawed, freeze.wanted), (2, 2, 2));
        assert!(told.visible && !told.fired && told.pre_exit.as_deref() == Some("0"));
        assert_eq!(told.sequence.as_deref(), Some(appsnap::guest::render::sequence_sha256().as_str()));
        assert_eq!(run("settle").0, output, "the kept report");
        // A repeat of either finds that this attempt was run.
        assert!(refused_for(&run("find").0, "busy") && refused_for(&run("go").0, "busy"));
        assert_eq!(rig.sh("cat /run/post.a-1").0, "application\n");
        assert_eq!((rig.left_frozen(), rig.processes()), (String::new(), String::new()));
    }
}

#[test]
fn what_pin_prints_is_what_would_be_registered() {
    let file = std::env::temp_dir().join(format!("appsnap-pin-{}.json", std::process::id()));
    let request = r#"{ "policy": "p", "regionId": "cn-beijing", "targets": { "instanceIds": ["i-1"] },
        "linux": { "preScriptPath": "/opt/pre.sh", "endpoint": "public" } }"#;
    std::fs::write(&file, request).unwrap();
    let mut appsnap = std::process::Command::new(env!("CARGO_BIN_EXE_appsnap"));
    let output =
        appsnap.args(["pin", "--print"]).arg(&file).env_remove("APPSNAP_ECS_ENDPOINT").output().unwrap();
    std::fs::write(&file, request.replace("\"endpoint\": \"public\"", "\"engine\": \"plugin\"")).unwrap();
    let plugin =
        std::process::Command::new(env!("CARGO_BIN_EXE_appsnap")).arg("pin").arg(&file).output().unwrap();
    let why = String::from_utf8_lossy(&plugin.stderr).into_owned();
    assert!(plugin.status.code() == Some(2) && why.contains("linux.engine"), "{why}");
    std::fs::remove_file(&file).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.matches("\n#=\n{{values}}\n").count() == 3, "{text}");
    for fixed in ["PRE='/opt/pre.sh'\nPOST=''\n", "HOST='ecs.cn-beijing.aliyuncs.com'\n"] {
        assert_eq!(text.matches(fixed).count(), 1, "{fixed}");
    }
}

#[test]
fn what_stands_in_the_place_of_a_value_is_never_run() {
    if !need(&TOOLS) {
        return;
    }
    let mut rig = Rig::start();
    // That it would be seen: the same in a text that has its place for values elsewhere.
    let naive = Command { kind: "find", name: String::new(), text: "#!/bin/sh\necho '{{values}}'\n".into() };
    std::fs::write(rig.dir.join("naive"), script(&naive, format!("'; {EVIL}; '").as_bytes())).unwrap();
    rig.sh(&format!("sh {}/naive", rig.dir.display()));
    assert!(evil(&mut rig));
    for (command, value) in orders(&rig, 1) {
        let good = value.as_bytes();
        let mut tails: Vec<Vec<u8>> = [
            "",
            "\n",
            " ",
            "\r\n",
            "$(X)",
            "`X`",
            "\nX\n",
            ";X;",
            "&& X",
            "| X",
            "'\nX\n'",
            "\"\nX\n\"",
            "'",
            "\"",
            "`",
            "$(",
            "${",
            "$((",
            "<<E\nX\nE\nX\n",
            "<<'E'\n",
            "\nE\nX\n",
            "\\\nX\n",
            "{\nX\n}\nX",
            "}\nX\n",
            ")\nX\n",
            "esac\nX\n",
            "done\nX\n",
            "fi\nX\n",
            "\n#=\nX\n",
            "#=\nX",
            "\nexit\nX\n",
            "\rX\r",
            "{{values}}\nX",
            "}}\nX",
            "a=$(X)\nX",
            "\n.\nX\n",
            "\u{e9}\nX\n",
            "%s%n\nX\n",
            "-n\nX\n",
            "*",
            "/*",
            "\n\n\nX\n\n\n",
        ]
        .iter()
        .map(|tail| tail.replace('X', EVIL).into_bytes())
        .collect();
        tails.push([b"\0", EVIL.as_bytes(), b"\0"].concat());
        tails.push([b"\x81\x82\x88\xff\xfe\n", EVIL.as_bytes(), b"\n"].concat());
        for more in ["\nX\n", "\r", " ", "\n\0\nX", "\t", "=\n=", "'", "\n#=\nX"] {
            tails.push([good, more.replace('X', EVIL).as_bytes()].concat());
            tails.push([more.replace('X', EVIL).as_bytes(), b"\n", good].concat());
        }
        tails.push(vec![b'A'; 20_000]);
        tails.push([vec![b'\''; 20_000], format!("\n{EVIL}\n").into_bytes()].concat());
        tails.push(packed(&vec![b'a'; 200_000])); // more than may be unpacked
        tails.push(BASE64_STANDARD.encode("no gzip").into_bytes());
        tails.push(format!("{}\n", BASE64_STANDARD.encode(EVIL)).into_bytes());
        let files: Vec<Vec<u8>> = tails.iter().map(|tail| script(&command, tail)).collect();
        for (shell, number, code, output) in run_all(&mut rig, &files) {
            let shown = String::from_utf8_lossy(&tails[number][..tails[number].len().min(60)]).into_owned();
            assert_eq!(code, 20, "{shell}, {}: {shown:?}: {output}", command.kind);
            assert!(refused_for(&output, "pinned.value"), "{shell}, {}: {shown:?}: {output}", command.kind);
        }
        assert_eq!(rig.sh("ls /run/appsnap 2>/dev/null").0, "", "{}: nothing was begun", command.kind);
    }
}

#[test]
fn a_value_is_taken_line_by_line_and_only_of_its_kind() {
    if !need(&TOOLS) {
        return;
    }
    let mut rig = Rig::start();
    const BAD: [&str; 16] = [
        "$(X)",
        "`X`",
        "x'; X; '",
        "x'\nX\n'",
        "a[$(X)]",
        "x[`X`]=1",
        "0x10",
        "08",
        "1e3",
        "-1",
        "99999999999999999999",
        "../../tmp",
        "*",
        "\\",
        "\"",
        "a\rb\u{e9}",
    ];
    for (command, value) in orders(&rig, 1) {
        let good = lines(&value);
        let mut lists = Vec::new();
        for place in 0..good.len() {
            for bad in BAD {
                let mut list = good.clone();
                list[place] = bad.replace('X', EVIL);
                lists.push(list);
            }
            let mut list = good.clone();
            list.remove(place);
            lists.push(list);
        }
        lists.push([good.clone(), vec![EVIL.into()]].concat());
        lists.push(good.iter().rev().cloned().collect());
        if command.kind == "settle" {
            lists.retain(|list| list.len() < 3); // its list has one line
        }
        for attempt in
            ["lock", "a-1/..", "..", ".", "a-", "a-1 a-2", "A-1", "a-g", &format!("a-{}", "1".repeat(39))]
        {
            lists.push([vec![attempt.to_owned()], good[1..].to_vec()].concat());
        }
        let files: Vec<Vec<u8>> =
            lists.iter().map(|list| script(&command, &packed(list.join("\n").as_bytes()))).collect();
        let mut taken = Vec::new();
        for (shell, number, code, output) in run_all(&mut rig, &files) {
            if refused_for(&output, "pinned.value") {
                assert_eq!(code, 20);
            } else {
                taken.push((shell, number));
            }
        }
        // What was taken all the same is harmless, and the same for every shell.
        let of = |shell: &str| -> Vec<usize> {
            taken.iter().filter(|(own, _)| own == shell).map(|(_, number)| *number).collect()
        };
        assert!(SHELLS.iter().all(|shell| of(shell) == of("dash")), "{taken:?}");
        for number in of("dash") {
            let shown = lists[number].join("\n");
            let plain = |c: char| c.is_ascii_alphanumeric() || "-+/=.,_~@%&;: \n".contains(c);
            assert!(shown.chars().all(plain) && !shown.starts_with(['l', '.']), "{}: {shown}", command.kind);
        }
        assert!(of("dash").len() * 4 < lists.len(), "{}: {} of {}", command.kind, taken.len(), lists.len());
        rig.sh("rm -rf /run/appsnap");
    }
}

#[test]
fn a_registered_command_reads_its_own_file_or_refuses() {
    if !need(&TOOLS) {
        return;
    }
    let mut rig = Rig::start();
    let (command, value) = orders(&rig, 1)[0].clone();
    let dir = rig.dir.display().to_string();
    for tail in [value, format!("'\n{EVIL}\n"), format!("\n{EVIL}\n"), format!("<<E\n{EVIL}\n")] {
        std::fs::write(rig.dir.join("one"), script(&command, tail.as_bytes())).unwrap();
        for shell in SHELLS {
            // As an agent does that could not save it; from standard input; by half a path; by a link.
            for line in [
                format!("{shell} -c \"$(cat {dir}/one)\""),
                format!("cd {dir} && {shell} <one"),
                format!("cd {dir} && {shell} one"),
                format!("ln -sf {dir}/one /run/link && {shell} /run/link"),
            ] {
                let (output, code) = rig.sh(&line);
                assert!(code == 20 && refused_for(&output, "pinned.file"), "{line}: {tail:?}: {output}");
            }
        }
    }
    assert_eq!(rig.sh("ls /run/evil /run/appsnap 2>/dev/null").0, "");
}

/// xorshift; the seed is printed, and taken back as `SEED`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[test]
fn random_values_never_run_either() {
    if !need(&TOOLS) {
        return;
    }
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let fresh = || u64::from_str_radix(&appsnap::clock::Clock::system().nonce()[..16], 16).unwrap() | 1;
    let seed: u64 = seed.unwrap_or_else(fresh);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let mut rig = Rig::start();
    const PIECES: [&str; 30] = [
        "\n",
        "\nX\n",
        "$(X)",
        "`X`",
        "'",
        "\"",
        "\\",
        "\\\n",
        "\r",
        "\0",
        "#=\n",
        "\n#=\n",
        "<<E\n",
        "\nE\n",
        ";",
        "&",
        "|",
        "(",
        ")",
        "{",
        "}",
        "$((",
        "))",
        "${a[$(X)]}",
        "fi\n",
        "done\n",
        "esac\n",
        "X",
        " ",
        "AAAA",
    ];
    for (command, value) in orders(&rig, 1) {
        let good = lines(&value);
        let mut files = Vec::new();
        for round in 0..60 {
            let mut tail = Vec::new();
            for _ in 0..=dice.below(8) {
                match dice.below(6) {
                    0 => tail.extend(&value.as_bytes()[..dice.below(value.len())]),
                    1 => tail.extend((0..dice.below(40)).map(|_| dice.below(256) as u8)),
                    _ => tail.extend(PIECES[dice.below(PIECES.len())].replace('X', EVIL).bytes()),
                }
            }
            if round % 2 == 1 {
                let mut list = good.clone();
                let place = dice.below(list.len());
                let text = String::from_utf8_lossy(&tail).into_owned();
                list[place] = if dice.below(2) == 0 { text } else { format!("{}{text}", list[place]) };
                tail = packed(list.join("\n").as_bytes());
            }
            files.push(script(&command, &tail));
        }
        for (shell, number, code, output) in run_all(&mut rig, &files) {
            let told = Told::read(&output.replace('~', "\n"));
            assert!(
                [0, 20].contains(&code) && told.is_some(),
                "SEED={seed}: {shell}, {number}: {code} {output}"
            );
        }
        rig.sh("rm -rf /run/appsnap");
    }
}
