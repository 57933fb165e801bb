//! `appsnap recipe` against a guest of the local cloud: installs, installs again, refuses by name, takes away.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use appsnap::guest::install::{Task, commands};
use appsnap::guest::recipes::{Recipe, find, sha256};
use appsnap::local::cloud::{INSTANCE, OPERATOR, REGION, role_arn};
use appsnap::local::world::Settings;
use appsnap::report::{Level, Status};
use bench::{Bench, NEEDS, tick, verdict};
use common::need;
use serde_json::{Value, json};

/// `appsnap recipe` with these words and this environment.
fn cli(words: &[&str], env: &[(&str, String)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appsnap"));
    command.arg("recipe").args(words).stdin(Stdio::null());
    for name in ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_REGION_ID"]
    {
        command.env_remove(name);
    }
    let output = command.envs(env.iter().map(|(name, value)| (*name, value.as_str()))).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The same on the guest, with the operator's key.
async fn on_guest(bench: &Bench, words: &[&str]) -> (i32, String, String) {
    let keys = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.0.to_owned()),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.1.to_owned()),
    ];
    with_keys(bench, words, &keys).await
}

async fn with_keys(bench: &Bench, words: &[&str], keys: &[(&'static str, String)]) -> (i32, String, String) {
    let words: Vec<String> = words
        .iter()
        .copied()
        .chain(["--instance", INSTANCE, "--region", REGION])
        .map(str::to_owned)
        .collect();
    let mut env = vec![
        ("APPSNAP_ECS_ENDPOINT", bench.cloud.endpoint()),
        ("APPSNAP_STS_ENDPOINT", bench.cloud.endpoint()),
        ("APPSNAP_CA_BUNDLE", bench.cloud.ca_file.display().to_string()),
    ];
    env.extend(keys.iter().cloned());
    let work = move || cli(&words.iter().map(String::as_str).collect::<Vec<_>>(), &env);
    // The cloud's own work goes on meanwhile.
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn good(bench: &Bench, words: &[&str]) -> Value {
    let (code, text, errors) = on_guest(bench, &[words, &["--json"]].concat()).await;
    assert_eq!(code, 0, "{words:?}: {text}{errors}");
    serde_json::from_str(&text).unwrap()
}

/// Refused by the guest, with these words; nothing is left behind.
async fn refused(bench: &Bench, words: &[&str], said: &str) {
    let (code, text, errors) = on_guest(bench, words).await;
    assert!(code == 4 && text.is_empty() && errors.contains(said), "{words:?}: {code} {text}{errors}");
    assert_eq!(
        sh(bench, "ls -A /etc/appsnap /run/appsnap 2>/dev/null | grep -e '^\\.' -e ^recipe || :").await,
        ""
    );
}

async fn sh(bench: &Bench, script: &str) -> String {
    let done = bench.cloud.guest.exec(script, &[], b"", Duration::from_secs(20)).await.unwrap();
    assert_eq!(done.status, Some(0), "{script}: {done:?}");
    String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
}

/// Name, mode, owner and hash of all that is in /etc/appsnap.
const ALL: &str = "cd /etc/appsnap && for f in $(ls -A); do echo $f $(stat -c '%a %u:%g %h' $f) $(sha256sum <$f | cut -c1-64); done";

fn row(name: &str, mode: u32, text: &str) -> String {
    format!("{name} {mode} 0:0 1 {}", sha256(text))
}

fn scripts(recipe: &Recipe) -> String {
    [row("postscript.sh", 700, &recipe.postscript()), row("prescript.sh", 700, &recipe.prescript())]
        .join("\n")
}

/// A pair of the user's own.
const OWN: &str = "mkdir -p /etc/appsnap; cd /etc/appsnap; rm -f *script.sh*; umask 077
    printf '#!/bin/sh\\n: mine\\n' >prescript.sh; printf '#!/bin/sh\\n: mine too\\n' >postscript.sh; chmod 700 *script.sh";
const PRE: &str = "#!/bin/sh\n: mine\n";
const POST: &str = "#!/bin/sh\n: mine too\n";
const CONF: &str = "lock_command=true\nunlock_command=true\n";

#[test]
fn recipes_are_listed_and_printed_without_a_cloud_and_wrong_usage_is_told() {
    let generic = find("generic").unwrap();
    let (code, text, _) = cli(&[], &[]);
    assert!(code == 0 && text.lines().any(|line| line.starts_with("generic ")), "{text}");
    let (_, text, _) = cli(&["--json"], &[]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert!(all["recipes"].as_array().unwrap().iter().any(|one| one["name"] == "generic"), "{all:#}");
    assert_eq!(cli(&["generic", "--print", "pre"], &[]).1, generic.prescript());
    assert_eq!(cli(&["generic", "--print", "post"], &[]).1, generic.postscript());
    assert!(cli(&["generic", "--print", "conf"], &[]).1.contains("\n#lock_wait=30\n"));
    let sums = [generic.prescript(), generic.postscript()].map(|text| sha256(&text));
    let expected =
        format!("{}  /etc/appsnap/prescript.sh\n{}  /etc/appsnap/postscript.sh\n", sums[0], sums[1]);
    assert_eq!(cli(&["generic", "--sha256"], &[]).1, expected);
    let file = std::env::temp_dir().join(format!("appsnap-recipe-{}.conf", std::process::id()));
    std::fs::write(&file, "hold=60\npassword=secret\n").unwrap();
    let conf = file.display().to_string();
    let install = ["generic", "--install", "--instance", INSTANCE];
    let table = [
        (vec!["oracle"], 2, "there is no recipe \"oracle\"; there are: "),
        (vec!["generic", "--install"], 2, "--instance"),
        (vec!["generic", "--instance", INSTANCE], 2, "belong to --install or --remove"),
        (vec!["generic", "--print", "pre", "--sha256"], 2, "cannot be used with"),
        (vec!["generic", "--remove", "--force", "--instance", INSTANCE], 2, "cannot be used with"),
        (
            [&install[..], &["--conf", &conf]].concat(),
            2,
            ".conf: line 2: \"password\" is no setting of generic",
        ),
        (install.to_vec(), 1, "no credentials"),
    ];
    for (words, expected, said) in table {
        let (code, text, errors) = cli(&words, &[]);
        assert!(code == expected && errors.contains(said), "{words:?}: {code} {text}{errors}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_function_is_linked_without_them() {
    let has = |binary: &str| {
        let bytes = std::fs::read(binary).unwrap();
        bytes.windows(12).any(|part| part == b"# The frame ")
    };
    assert!(has(env!("CARGO_BIN_EXE_appsnap")) && !has(env!("CARGO_BIN_EXE_bootstrap")));
}

#[tokio::test]
async fn a_recipe_is_installed_once_used_by_a_run_replaced_by_force_only_and_taken_away() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "exit 1").await;
    let generic = find("generic").unwrap();
    let file = bench.cloud.store.state().join("generic.conf");
    std::fs::write(&file, CONF).unwrap();
    let conf = file.display().to_string();
    let install = ["generic", "--install", "--conf", &conf];
    let told = good(&bench, &install).await;
    assert_eq!(
        (&told["outcome"], told["files"].as_array().unwrap().len()),
        (&json!("installed"), 3),
        "{told:#}"
    );
    let whole = format!("{}\n{}", row("generic.conf", 600, CONF), scripts(generic));
    assert_eq!(sh(&bench, ALL).await, whole);
    assert_eq!(sh(&bench, "stat -c '%a %u:%g' /etc/appsnap").await, "755 0:0");
    // The same again changes nothing, but for a mode that was wrong.
    sh(&bench, "chmod 755 /etc/appsnap/prescript.sh").await;
    let inodes = "ls -i /etc/appsnap";
    let before = sh(&bench, inodes).await;
    let told = good(&bench, &install).await;
    assert_eq!(told["outcome"], "unchanged", "{told:#}");
    assert_eq!((sh(&bench, inodes).await, sh(&bench, ALL).await), (before, whole.clone()));
    // A run takes it, not what is in /tmp.
    let report = bench.send(tick("2026-11-22T03:00:00Z", json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]), "{report:#?}");
    assert_eq!(report.units[0].scripts.pre, Some(sha256(&generic.prescript())));
    assert_eq!(report.units[0].marks["engine"], "generic");
    // Other scripts stay, unless a word is said; then they are kept aside.
    sh(&bench, OWN).await;
    let own = sh(&bench, ALL).await;
    let said = format!("/etc/appsnap/prescript.sh (sha256 {})", &sha256(PRE)[..12]);
    refused(&bench, &["generic", "--install"], &said).await;
    refused(&bench, &["generic", "--remove"], "not what this version of generic installs").await;
    assert_eq!(sh(&bench, ALL).await, own);
    let told = good(&bench, &["generic", "--install", "--force"]).await;
    let aside = |name: &str, text: &str| row(&format!("{name}.before-{}", &sha256(text)[..12]), 700, text);
    let kept = [aside("postscript.sh", POST), aside("prescript.sh", PRE)];
    let before = |n: usize| kept[n].split(' ').next().unwrap();
    let files = told["files"].as_array().unwrap();
    assert!(files.iter().all(|file| file["state"] == "replaced"), "{told:#}");
    assert!(files.iter().any(|file| file["before"] == format!("/etc/appsnap/{}", before(1))), "{told:#}");
    let mut expected = format!("{whole}\n{}", kept.join("\n")).lines().map(str::to_owned).collect::<Vec<_>>();
    expected.sort();
    let mut all: Vec<String> = sh(&bench, ALL).await.lines().map(str::to_owned).collect();
    all.sort();
    assert_eq!(all, expected);
    let told = good(&bench, &["generic", "--remove"]).await;
    assert_eq!(told["outcome"], "removed", "{told:#}");
    assert_eq!(told["files"].as_array().unwrap().iter().filter(|file| file["state"] == "kept").count(), 3);
    assert_eq!(sh(&bench, ALL).await, format!("{}\n{}", row("generic.conf", 600, CONF), kept.join("\n")));
    assert_eq!(good(&bench, &["generic", "--remove"]).await["outcome"], "absent");
    // By a role that may run commands there; and without it, told what is missing.
    let (keys, role) = (bench.cloud.function_keys().unwrap(), role_arn());
    let (code, text, errors) = with_keys(&bench, &["generic", "--install", "--role-arn", &role], &keys).await;
    assert!(code == 0 && text.starts_with("generic is installed on i-"), "{text}{errors}");
    let (code, _, errors) = with_keys(&bench, &["generic", "--remove"], &keys).await;
    let lacks = errors.contains("Forbidden.RAM") && errors.contains("allow ecs:RunCommand on");
    assert!(code == 1 && lacks, "{code} {errors}");
    bench.close().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_refused_by_name_and_the_old_pair_stays_whole() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let alive = "read -r s </proc/1/stat; set -- ${s##*) };";
    let lock = format!("mkdir -p /run/appsnap; {alive} ln -sn \"1 ${{20}} a-1\" /run/appsnap/lock");
    let holder =
        format!("mkdir -p /run/appsnap-recipe/x; {alive} echo 1 ${{20}} >/run/appsnap-recipe/x/holder");
    let table = [
        ("ln -s /tmp /etc/appsnap", "/etc/appsnap is a symbolic link to /tmp", "rm /etc/appsnap"),
        ("touch /etc/appsnap", "/etc/appsnap is no directory", "rm /etc/appsnap"),
        ("mkdir /etc/appsnap; chmod 775 /etc/appsnap", "by others (mode 775): chmod 0755 /etc/appsnap", ""),
        (
            "chmod 755 /etc/appsnap; chown 7 /etc/appsnap",
            "belongs to uid 7, not to root",
            "chown 0 /etc/appsnap",
        ),
        (
            "ln -s /x /etc/appsnap/prescript.sh",
            "prescript.sh is a symbolic link to /x",
            "rm /etc/appsnap/prescript.sh",
        ),
        ("mkdir /etc/appsnap/postscript.sh", "is no regular file", "rmdir /etc/appsnap/postscript.sh"),
        (&lock, "a run of appsnap is at work in this guest (a-1)", "rm /run/appsnap/lock"),
        (&holder, "a lock is held (/run/appsnap-recipe/x)", "echo 1 1 >/run/appsnap-recipe/x/holder"),
    ];
    for (spoil, said, mend) in table {
        sh(&bench, spoil).await;
        refused(&bench, &["generic", "--install"], said).await;
        sh(&bench, &format!("{mend}\n:")).await;
    }
    assert_eq!(sh(&bench, ALL).await, "");
    sh(&bench, OWN).await;
    let old = sh(&bench, ALL).await;
    // Full, then not to be written at all.
    let full = "cp -a /etc/appsnap /run/old; mount -t tmpfs -o mode=755,size=64k none /etc/appsnap
        cp -a /run/old/. /etc/appsnap; rm -r /run/old; head -c 100000 /dev/zero >/etc/appsnap/fill 2>/dev/null; :";
    sh(&bench, full).await;
    let whole = sh(&bench, ALL).await;
    assert!(whole.ends_with(&old), "{whole}");
    let force = ["generic", "--install", "--force"];
    refused(&bench, &force, "0 KiB are free on /etc/appsnap; nothing was changed").await;
    assert_eq!(sh(&bench, ALL).await, whole);
    sh(&bench, "rm /etc/appsnap/fill; mount -o remount,ro /etc/appsnap").await;
    refused(&bench, &force, "/etc/appsnap is read-only").await;
    sh(&bench, "umount /etc/appsnap").await;
    assert_eq!(sh(&bench, ALL).await, old);
    bench.cloud.cloud.look(|world, _| world.instance_mut(INSTANCE).unwrap().status = "Stopped".into());
    let (code, _, errors) = on_guest(&bench, &["generic", "--install"]).await;
    assert!(code == 1 && errors.contains("RunCommand on i-"), "{code} {errors}");
    bench.close().await;
}

/// Ends whoever calls it before (KILLb) or after (KILLa, TERM) its nth rename.
const MV: &str = r#"mount -t tmpfs none /usr/local/sbin && cat >/usr/local/sbin/mv <<'END'
#!/bin/sh
n=$(cat /run/n) how=$(cat /run/how)
echo $((n - 1)) >/run/n
[ "$n.$how" != 1.KILLb ] || kill -KILL $PPID
/usr/bin/mv "$@"
[ "$n" != 1 ] || case $how in KILLa) kill -KILL $PPID ;; TERM) kill -TERM $PPID ;; esac
END
chmod 755 /usr/local/sbin/mv"#;

#[tokio::test]
async fn an_installation_that_dies_never_leaves_one_script_of_each() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let new = find("generic").unwrap();
    let parts = commands(new, Task::Install { conf: None, force: true }, "0123abcd").unwrap();
    for (number, content) in parts.iter().enumerate() {
        bench.cloud.guest.write_file(&format!("/run/new.{number}"), content, "700").await.unwrap();
    }
    let run = |shell: &str| -> String {
        (0..parts.len()).map(|number| format!("{shell} /run/new.{number} 2>&1\n")).collect()
    };
    sh(&bench, MV).await;
    let old = [row("postscript.sh", 700, POST), row("prescript.sh", 700, PRE)].join("\n");
    for shell in ["dash", "bash", "busybox sh"] {
        for (how, nth) in
            ["KILLb", "KILLa", "TERM"].into_iter().flat_map(|how| (1..=4).map(move |n| (how, n)))
        {
            sh(&bench, OWN).await;
            let fall = format!("echo {nth} >/run/n; echo {how} >/run/how\n{}:", run(shell));
            sh(&bench, &fall).await;
            let left = sh(&bench, ALL).await;
            let of = |pair: &str| pair.lines().filter(|row| left.contains(*row)).count();
            let told = format!("{shell}, {how} at rename {nth}: {left}");
            assert!(of(&old) == 0 || of(&scripts(new)) == 0, "{told}");
            assert!(how != "TERM" || left == old, "{told}");
            assert!(how.starts_with("KILL") && nth < 4 || of(&old) + of(&scripts(new)) == 2, "{told}");
            // Whatever is left, the next one brings it to its end.
            let said = sh(&bench, &format!("echo 99 >/run/n\n{}", run(shell))).await;
            assert!(said.ends_with("appsnap-recipe: done"), "{told}: {said}");
            let left = sh(&bench, ALL).await;
            assert!(scripts(new).lines().all(|row| left.contains(row)), "{told}: {left}");
        }
    }
    sh(&bench, "umount /usr/local/sbin").await;
    bench.close().await;
}
