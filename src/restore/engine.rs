//! The engine on what was brought back: by the marks that its prescript left, what to check before, how to start it, what
//! to look for in its log, and whether more than the copy can be had.

use super::facts::{Member, Wish};
use super::guest::{How, again, quoted};
use super::plan::Step;
use super::said::Said;

/// What is to be known of an engine.
struct Engine {
    /// As the mark `engine` says.
    name: &'static str,
    /// Its systemd units, the likeliest last; `{}` is the major version.
    units: &'static [&'static str],
    /// A file that lies in its data directory.
    file: &'static str,
    /// What its log should say, and what it means.
    log: &'static str,
    /// Beside a running one.
    beside: &'static str,
    /// From the copy on to a later point.
    later: &'static str,
}

const ENGINES: [Engine; 6] = [
    Engine {
        name: "postgresql",
        units: &["postgresql-{}", "postgresql"],
        file: "PG_VERSION",
        log: "`redo starts at`, `redo done at`: close together after an application copy; then `database system is ready \
              to accept connections`",
        beside: "as the owner of the data: postgres -D DATADIR -p 5433 -c listen_addresses= \
                 -c unix_socket_directories=/tmp -c archive_mode=off (Debian keeps its configuration in /etc/postgresql: \
                 add -c config_file=… of a copy whose data_directory is DATADIR)",
        later: "only where WAL was archived from before the copy on: set restore_command and recovery_target_time (or \
                recovery_target_lsn, beyond the mark lsn), touch DATADIR/recovery.signal (before 12: recovery.conf), \
                then start. No backup_label is needed: the copy is of one instant, and its own WAL is replayed first",
    },
    Engine {
        name: "mariadb",
        units: &["mysql", "mariadb"],
        file: "ibdata1",
        log: "no `Starting crash recovery` after an application copy; `rolled back` lines name transactions that were open \
              at the cut; then `ready for connections`",
        beside: "as the owner of the data: mariadbd --no-defaults --datadir=DATADIR --socket=/tmp/restored.sock \
                 --skip-networking --skip-slave-start, with the original's innodb_ settings and log_bin, which name the copy's \
                 directories",
        later: "only where the binary logs since the copy were kept: mariadb-binlog --start-position=POS FILE … | mariadb, \
                from the mark binlog (FILE:POS), or from GTID on by --start-position=GTID (10.8 or newer)",
    },
    Engine {
        name: "mysql",
        units: &["mysql", "mysqld"],
        file: "ibdata1",
        log: "`Database was not shutdown normally!` or `crash recovery` tell of a redo, `Rollback of trx` of open \
              transactions; then `ready for connections`",
        beside: "as the owner of the data: mysqld --no-defaults --datadir=DATADIR --socket=/tmp/restored.sock \
                 --skip-networking --loose-mysqlx=OFF --skip-slave-start, with the original's innodb_ settings and log_bin, \
                 which name the copy's directories",
        later: "only where the binary logs since the copy were kept: mysqlbinlog --start-position=POS FILE … | mysql, from \
                the mark binlog (FILE:POS); with GTIDs by --exclude-gtids= the mark gtid",
    },
    Engine {
        name: "redis",
        units: &["redis", "valkey-server", "valkey", "redis-server"],
        file: "",
        log: "`DB loaded from append only file` or `DB loaded from disk`; `truncated` or `Bad file format` would tell of a \
              torn file",
        beside: "as the owner of the data: redis-server --dir DATADIR --port 0 --unixsocket /tmp/restored.sock, with the \
                 original's appendonly and appenddirname",
        later: "nothing: Redis keeps no log from which a later point could be reached",
    },
    Engine {
        name: "mongodb",
        units: &["mongod"],
        file: "WiredTiger",
        log: "`Detected unclean shutdown` and `Recovering log N through N` are normal after a copy; then `Waiting for \
              connections`",
        beside: "as the owner of the data: mongod --dbpath DATADIR --port 27018 --bind_ip localhost, without --replSet",
        later: "not from this copy alone: a member of a replica set catches up from the others' oplog while that reaches \
                back to the copy; else start it without --replSet",
    },
    Engine {
        name: "sqlite",
        units: &[],
        file: "",
        log: "`PRAGMA integrity_check` of each file should say ok; a -wal file beside it is replayed at the first opening",
        beside: "it is files: open them where they are",
        later: "nothing: there is no log beyond the file's own",
    },
];

/// The member on whose file systems a path lies: the deepest mount point above it.
pub fn home<'a>(members: impl IntoIterator<Item = &'a Member>, path: &str) -> Option<&'a Member> {
    let on = members.into_iter().filter_map(|member| Some((member, member.place(path)?)));
    on.max_by_key(|(_, place)| place.mount.len()).map(|(member, _)| member)
}

/// The step that brings it up. Beside the original it is only told how, unless the operator says how it is started.
pub fn step(said: &Said, wish: &Wish, on: &str, disks: &[(String, &Member)], how: How) -> Option<Step> {
    let name = said.mark("engine");
    let engine = ENGINES.iter().find(|engine| Some(engine.name) == name);
    let beside = matches!(how, How::Beside { .. });
    let found = |dir: &str| {
        let members = || disks.iter().map(|(_, member)| *member);
        match home(members(), dir) {
            Some(member) => Some(again(how, member, dir)),
            // Elsewhere the same path would be somebody else's data, which may be in use.
            None => (how == How::Booted).then(|| dir.to_owned()),
        }
    };
    let dir = said.mark("datadir").and_then(found);
    if dir.is_none() && said.mark("datadir").is_some() && wish.start.is_none() {
        return None; // a warning tells
    }
    let version = said.mark("version").unwrap_or_default();
    let major = version.split('.').next().unwrap_or_default();
    let major = if major.chars().all(|c| c.is_ascii_digit()) { major } else { "" };
    let mut shell = String::from("set -eu\n");
    if let Some(dir) = &dir {
        shell += &format!("dir={}\n{CHECK}", quoted(dir));
        if let Some(file) = engine.map(|engine| engine.file).filter(|file| !file.is_empty()) {
            shell +=
                &format!("[ -s \"$dir/{file}\" ] || {{ echo \"$dir holds no {file}\" >&2 && exit 1; }}\n");
        }
        if name == Some("postgresql") && !major.is_empty() {
            shell += &format!(
                "[ \"$(cat \"$dir/PG_VERSION\")\" = {major} ] || {{ echo \"$dir is not of PostgreSQL {major}\" >&2 && exit 1; }}\n"
            );
        }
    }
    if name == Some("postgresql") && dir.is_some() {
        shell += RUNS;
    }
    if name == Some("postgresql") && how != How::Booted && dir.is_some() {
        shell += PID;
        let under = match how {
            How::Beside { dir, .. } => Some((dir, STRAY)),
            // There it leads where its own disk is mounted now.
            How::Moved(dir) => Some((dir, "continue")),
            How::Booted => None,
        };
        if let Some((under, stray)) = under {
            let under = format!("{} {}", quoted(under), quoted(&format!("{under}/rootfs")));
            shell += &LINKS.replace("UNDER", &under).replace("STRAY", stray);
        }
    }
    let title = engine.map_or("the application", |engine| engine.name);
    let (title, why) = match (&wish.start, engine) {
        (Some(start), _) => {
            shell += &format!("{start}\n");
            (format!("Start {title}"), "By the command that you named.".to_owned())
        }
        (None, Some(engine)) if !beside && !engine.units.is_empty() => {
            let units: Vec<String> = engine.units.iter().map(|unit| unit.replace("{}", major)).collect();
            let units: Vec<String> = units.into_iter().filter(|unit| !unit.ends_with('-')).collect();
            shell += &format!("units={}\n{START}", quoted(&units.join(" ")));
            // PostgreSQL's own file tells.
            if matches!(how, How::Moved(_)) && dir.is_some() && engine.name != "postgresql" {
                shell += ON_IT;
            }
            (format!("Start {title}"), "By its unit of systemd, where it does not run already.".to_owned())
        }
        _ if dir.is_some() => {
            (format!("See that the data of {title} is there"), "Before anything is started on it.".into())
        }
        _ => return None,
    };
    // It answers only when its recovery is over; the file says so without a login.
    if name == Some("postgresql") && dir.is_some() && title.starts_with("Start") {
        shell += READY;
    }
    let mut step = Step::runs(title, why, on, shell);
    if !version.is_empty() {
        step = step.note(format!("take the same major version: it was {version}"));
    }
    let positions = ["lsn", "gtid", "binlog", "offset"];
    let positions: Vec<String> =
        positions.iter().filter_map(|key| Some(format!("{key} {}", said.mark(key)?))).collect();
    if !positions.is_empty() {
        step = step.note(format!("position at the cut: {}", positions.join(", ")));
    }
    match engine {
        None => Some(step.note("which engine it is the tags do not say: start it as ever, and read its log")),
        Some(engine) => {
            step = step.note(format!("in its log: {}", engine.log));
            if beside {
                if let Some(log) = said.mark("logdir").and_then(found) {
                    step = step.note(format!(
                        "its log lies in {}: where that is named at the start, name the copy",
                        quoted(&log)
                    ));
                }
                let data = dir.map_or_else(|| "DATADIR".into(), |dir| quoted(&dir)); // it is there to be pasted
                step =
                    step.note(format!("beside the running one: {}", engine.beside.replace("DATADIR", &data)));
            }
            Some(step.note(format!("to a later point: {}", engine.later)))
        }
    }
}

/// The owner's number has to mean somebody on this machine.
const CHECK: &str = r#"[ -d "$dir" ] || { echo "$dir is not there: is its file system mounted?" >&2 && exit 1; }
owner=$(stat -c %U "$dir")
[ "$owner" != UNKNOWN ] || { echo "$dir belongs to uid $(stat -c %u "$dir"), nobody here: chown -R it to the engine's user" >&2 && exit 1; }
"#;

const START: &str = r#"for unit in $units; do
    ! systemctl cat "$unit" >/dev/null 2>&1 || last=$unit
done
[ "${last-}" ] || { echo "no unit of systemd is one of: $units; start it as ever" >&2 && exit 1; }
systemctl is-active --quiet "$last" || systemctl start "$last"
"#;

/// Here a server may have run before, and its configuration may name other data.
pub(super) const ON_IT: &str = r#"pid=$(systemctl show -p MainPID "$last") real=$(readlink -f "$dir") n=0
pid=${pid#MainPID=}
until [ "$(readlink "/proc/$pid/cwd")" = "$real" ] || ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF -e "-> $real/"; do
    [ $n -lt 30 ] || { echo "$last runs, but not on $dir: name it in its configuration, restart it" >&2 && exit 1; }
    sleep 1
    n=$((n + 1))
done
"#;

/// The file of the server that ran at the cut is there too, and its number may be anybody's here: the server of this
/// directory is the one that works in it.
pub(super) const RUNS: &str = r#"runs() {
    pid=$(head -n 1 "$dir/postmaster.pid" 2>/dev/null) && [ "$pid" ] &&
        [ "$(readlink "/proc/$pid/cwd")" = "$(readlink -f "$dir")" ]
}
"#;

/// Where the number is that of some server here, the one on the copy would not start. Not where the guest has booted by
/// itself: there the engine may run already; nor where this is done again: without the file it would end.
pub(super) const PID: &str = "runs || rm -f \"$dir/postmaster.pid\" # of the server that ran on the original; none runs on the copy yet\n";

/// WAL and tablespaces elsewhere are links; those of a copy lead to the original's.
const LINKS: &str = r#"for link in "$dir/pg_wal" "$dir"/pg_tblspc/*; do
    [ -L "$link" ] || continue
    to=$(readlink "$link") now=
    case $to in /*) ;; *) continue ;; esac # it stays within the copy
    for under in UNDER; do
        case $to in "$under"/*) now=$to ;; *) [ ! -d "$under$to" ] || now=$under$to ;; esac
    done
    [ "$now" ] || { STRAY; }
    ln -sfn "$now" "$link"
    echo "$link -> $now"
done
"#;

const STRAY: &str = r#"echo "$link leads to $to, of which no copy is mounted" >&2 && exit 1"#;

pub(super) const READY: &str = r#"n=0
until runs && tail -n 1 "$dir/postmaster.pid" | grep -q '^ready'; do
    [ $n -lt 600 ] || { echo "it is not ready after 600 s: read its log" >&2 && exit 1; }
    sleep 1
    n=$((n + 1))
done
"#;
