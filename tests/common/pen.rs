//! A pen for a server and a recipe's scripts: mount and process namespaces of their own, a fresh /run, an /etc that may be
//! changed, and one shell as `sh`. Whatever runs in it ends with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What a pen is made of.
pub const NEEDS: [&str; 6] = ["root", "unshare", "nsenter", "setsid", "flock", "timeout"];
/// The shells that the scripts are for.
pub const SHELLS: [&str; 4] = ["sh", "dash", "bash", "busybox"];

const SETUP: &str = r#"set -e
read -r pid _ </proc/self/stat # still the host's
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/bin /run/etc/up /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work etc /etc
rm -rf /etc/appsnap && mkdir /etc/appsnap
ln -s "$(command -v "$1")" /run/bin/sh
echo "$pid"
while :; do sleep 86400 & wait; done"#;

/// What a script came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it printed as errors.
    pub err: String,
}

pub struct Pen {
    init: Child,
    pid: String,
}

impl Pen {
    /// One in which `sh` is this shell.
    pub fn new(shell: &str) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
        ]);
        unshare.args([SETUP, "pen", shell]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut init = unshare.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(init.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let pid = pid.trim().to_owned();
        assert!(!pid.is_empty(), "the pen was not made");
        Self { init, pid }
    }

    /// Runs a script there, with its arguments, for two minutes at most.
    pub fn run(&self, script: &str, args: &[&str]) -> Ran {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid, "-m", "-p", "timeout", "-k", "5", "120", "sh", "-c", script, "sh"]);
        command.args(args).env_clear().stdin(Stdio::null());
        let output = command.env("PATH", "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// As [`run`](Self::run), of what has to succeed; what it printed, without the last line's end.
    pub fn good(&self, script: &str, args: &[&str]) -> String {
        let ran = self.run(script, args);
        assert_eq!(ran.code, 0, "{script} {args:?}: {ran:?}");
        ran.out.trim_end().to_owned()
    }

    /// Installs a recipe's scripts as the operator's command does, and its settings.
    pub fn install(&self, recipe: &str, conf: &str) {
        let recipe = appsnap::guest::recipes::find(recipe).unwrap();
        let put = r#"umask 077; printf %s "$2" >"$1" && chmod 700 "$1""#;
        self.good(put, &["/etc/appsnap/prescript.sh", &recipe.prescript()]);
        self.good(put, &["/etc/appsnap/postscript.sh", &recipe.postscript()]);
        self.good(put, &[&format!("/etc/appsnap/{}.conf", recipe.name), conf]);
    }

    /// Runs the prescript with the pen's shell.
    pub fn pre(&self) -> Ran {
        self.run("exec sh /etc/appsnap/prescript.sh", &[])
    }

    /// Runs the postscript.
    pub fn post(&self) -> Ran {
        self.run("exec sh /etc/appsnap/postscript.sh", &[])
    }

    /// The process that a recipe's state names: `holder`, `runner`, `client`, `owner`.
    pub fn process(&self, recipe: &str, who: &str) -> String {
        self.good("read -r pid _ <\"/run/appsnap-recipe/$1/$2\" && echo $pid", &[recipe, who])
    }

    /// Waits until a script succeeds there; how many tenths of a second that took.
    pub fn until(&self, script: &str) -> u32 {
        let wait = r#"n=0; until eval "$1"; do [ $((n += 1)) -le 300 ] || exit 1; sleep 0.1; done; echo $n"#;
        let ran = self.run(wait, &[script]);
        assert_eq!(ran.code, 0, "this never came true in the pen: {script}: {ran:?}");
        ran.out.trim_end().rsplit('\n').next().unwrap().parse().unwrap()
    }

    /// No process and no state of a recipe is left; what ends within two seconds has ended.
    pub fn nothing_is_left(&self, recipe: &str) {
        let left = r#"n=0
        while [ -e "/run/appsnap-recipe/$1" ] || grep -lsa "/run/appsnap-recip[e]/$1/" /proc/[0-9]*/cmdline >/run/left; do
            [ $((n += 1)) -le 20 ] || { tr '\0' ' ' <"$(head -n 1 /run/left)"; ls "/run/appsnap-recipe/$1"; exit 1; }
            sleep 0.1
        done"#;
        self.good(left, &[recipe]);
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        // With the first process of a namespace all others go.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}
