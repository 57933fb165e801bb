//! The commands of a verification on the instance that lends itself to it, and what it tells; the work itself is
//! `verify/verify.sh`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::render::{Data, RenderError, command, pack, strip};

const SCRIPT: &str = include_str!("verify/verify.sh");

/// What starts each engine on a copy.
pub const ENGINES: [(&str, &str); 5] = [
    ("mariadb", include_str!("verify/mariadb.sh")),
    ("mysql", include_str!("verify/mariadb.sh")),
    ("postgresql", include_str!("verify/postgresql.sh")),
    ("redis", include_str!("verify/redis.sh")),
    ("sqlite", include_str!("verify/sqlite.sh")),
];

/// The script that starts this engine on a copy.
pub fn engine_script(name: &str) -> Option<&'static str> {
    ENGINES.iter().find(|(known, _)| *known == name).map(|(_, script)| *script)
}

/// A disk that was made from a member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// `d-…`, attached to the instance.
    pub disk_id: String,
    /// `d-…`, of which the snapshot was taken.
    pub source_disk_id: String,
}

/// A file system as it was mounted when the snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `d-…`, the source.
    pub source_disk_id: String,
    /// Where it was mounted.
    pub mount: String,
    /// `ext4`, `xfs`, …
    pub kind: String,
    /// Of the file system, or `-`.
    pub uuid: String,
}

/// The engine whose data is in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `postgresql`, …
    pub engine: String,
    /// What starts it on a copy: `verify/NAME.sh`.
    pub script: String,
    /// Absolute path of its data.
    pub data_dir: String,
    /// Of its log, where that lies elsewhere.
    pub log_dir: Option<String>,
    /// What is asked of it when it is up.
    pub query: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Of this verification: letters, digits and `-`.
    pub run: String,
    /// `ssg-…`
    pub group_id: String,
    /// At most so many seconds, all in all.
    pub limit: u32,
    /// The attached copies.
    pub disks: Vec<Copied>,
    /// Where they lived; see [`fit`].
    pub places: Vec<Place>,
    /// `None`: the file systems alone are looked at.
    pub database: Option<Database>,
}

/// Whether the guest can be handed this as a path: absolute, spelled in one way only, nothing that a shell would read.
pub fn fit(path: &str) -> bool {
    let normal = |name: &str| !name.is_empty() && name != ".";
    path.strip_prefix('/').is_some_and(|rest| rest.is_empty() || rest.split('/').all(normal))
        && !path.contains("..")
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.:@+,=%".contains(&b))
}

/// The command that does the work, at most [`LIMIT`](super::render::LIMIT) bytes.
pub fn render(work: &Work) -> Result<Vec<u8>, RenderError> {
    let database = work.database.as_ref();
    let engine = database.map_or(String::new(), |database| {
        format!("u '{}' >$d/engine.sh && ", { pack(&strip(&database.script)) })
    });
    body(work, &format!("{engine}u '{}' >$d/plan && ", pack(&plan(work)?)), "run")
}

/// The command that takes away what an earlier verification of the group left in the instance.
pub fn clean(run: &str, group_id: &str) -> Result<Vec<u8>, RenderError> {
    let (run, group_id) = (run.to_owned(), group_id.to_owned());
    let work = Work { run, group_id, limit: 60, disks: Vec::new(), places: Vec::new(), database: None };
    body(&work, "", "clean")
}

fn body(work: &Work, more: &str, verb: &str) -> Result<Vec<u8>, RenderError> {
    let mut data = Data::default();
    let database = work.database.as_ref();
    let of = |field: fn(&Database) -> Option<&str>| database.and_then(field).unwrap_or_default();
    data.set("RUN", &work.run)?;
    data.set("GROUP", &work.group_id)?;
    data.set("LIMIT", &work.limit.to_string())?;
    data.set("ENGINE", of(|database| Some(&database.engine)))?;
    data.set("DATADIR", of(|database| Some(&database.data_dir)))?;
    data.set("LOGDIR", of(|database| database.log_dir.as_deref()))?;
    data.set("QUERY", &BASE64.encode(of(|database| database.query.as_deref())))?;
    let text = format!(
        "d=/run/appsnap-verify/{0}-$$\n\
         mkdir -p $d && chmod 711 /run/appsnap-verify $d || e 'state.space /run cannot be written'\n\
         {more}u '{1}' >$d/verify.sh && u '{2}' >$d/data || {{ rm -rf $d; e 'state.space /run has no room'; }}\n\
         exec sh $d/verify.sh {verb} $d\n",
        work.run,
        pack(&strip(SCRIPT)),
        pack(&data.0)
    );
    command("verify", &work.run, &text)
}

/// The lines of `plan`: the shortest path first, so that what lies within another file system is mounted after it.
fn plan(work: &Work) -> Result<String, RenderError> {
    let word = |field: &'static str, text: &str| match text.bytes().all(|b| b.is_ascii_graphic()) {
        true if !text.is_empty() => Ok(()),
        _ => Err(RenderError::Unfit { field, value: text.into() }),
    };
    let mut lines = String::new();
    for Copied { disk_id, source_disk_id } in &work.disks {
        word("disk", disk_id)?;
        word("disk", source_disk_id)?;
        lines.push_str(&format!("disk {disk_id} {source_disk_id}\n"));
    }
    let mut places: Vec<&Place> = work.places.iter().collect();
    places.sort_by_key(|place| place.mount.len());
    for Place { source_disk_id, mount, kind, uuid } in places {
        let good = fit(mount);
        [("disk", source_disk_id), ("type", kind), ("uuid", uuid)]
            .iter()
            .try_for_each(|(field, text)| word(field, text))?;
        if !good {
            return Err(RenderError::Unfit { field: "mount", value: mount.clone() });
        }
        lines.push_str(&format!("fs {source_disk_id} {mount} {kind} {uuid}\n"));
    }
    Ok(lines)
}

/// What a freeze, or a crash, left in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journal {
    /// At rest: nothing has to be replayed but what a freeze leaves. With the figures, where there are any.
    Rest(String),
    /// It has to be replayed: how it stands.
    Replay(String),
    /// The file system keeps none.
    None,
    /// Its tool is not installed there, or did not read it.
    Unknown,
}

/// A file system on the copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// `d-…`, the source.
    pub source_disk_id: String,
    /// Where it was mounted; `-`: the tags do not say.
    pub mount: String,
    /// `ext4`, …
    pub kind: String,
    /// Before anything changed it.
    pub journal: Journal,
    /// Whether it could be mounted.
    pub mounted: bool,
    /// `good`, `bad`, `late`, `unknown`; `-`: not checked, since an engine was to be started.
    pub check: String,
    /// The last that a tool said, where something went wrong.
    pub said: String,
}

/// What the instance told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// All that were found.
    pub file_systems: Vec<FileSystem>,
    /// Code and words of what stood in the way.
    pub notes: Vec<(String, String)>,
    /// Whether it came to its end by itself.
    pub done: bool,
    /// Why it did not begin, where it says so.
    pub refused: Option<String>,
}

impl Told {
    /// Reads an output; the engine's own lines are judged elsewhere.
    pub fn read(output: &str) -> Self {
        let mut told = Self::default();
        for line in output.lines() {
            if let Some(fields) = line.strip_prefix("fs: ") {
                told.file_systems.extend(file_system(fields));
            } else if let Some(note) = line.strip_prefix("note: ") {
                let (code, words) = note.split_once(' ').unwrap_or((note, ""));
                told.notes.push((code.to_owned(), words.to_owned()));
            } else if let Some(how) = line.strip_prefix("end: ") {
                told.done = how == "done" || how == "clean";
            } else if line.starts_with("{\"appsnap\":") {
                let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                told.refused = value["reason"][0].as_str().map(str::to_owned);
            }
        }
        told
    }
}

fn file_system(fields: &str) -> Option<FileSystem> {
    let fields: Vec<&str> = fields.split('|').collect();
    let [source, mount, kind, journal, mounted, check, said] = fields[..] else { return None };
    Some(FileSystem {
        source_disk_id: source.into(),
        mount: mount.into(),
        kind: kind.into(),
        journal: self::journal(journal),
        mounted: mounted == "yes",
        check: check.into(),
        said: said.trim().into(),
    })
}

/// Most blocks (of 512 bytes) of two small records: what a freeze puts in place last, and the superblock.
const LAST_RECORDS: u64 = 4;

/// ext4 sets `needs_recovery`, which a freeze clears. XFS has a dirty log after a freeze too, on purpose: the superblock
/// by itself last, and before it at most the one record whose contents were put in place just before.
fn journal(words: &str) -> Journal {
    match words {
        "clean" => return Journal::Rest("needs_recovery is not set".into()),
        "replay" => return Journal::Replay("needs_recovery is set".into()),
        "none" => return Journal::None,
        _ => {}
    }
    let figures: std::collections::BTreeMap<&str, &str> =
        words.split(' ').filter_map(|word| word.split_once('=')).collect();
    let number = |name: &str| figures.get(name).and_then(|text| text.parse::<u64>().ok());
    let (Some(tail), Some(head)) = (number("tail"), number("head")) else { return Journal::Unknown };
    let place = format!("log tail at block {tail}, head at {head}");
    let state = figures.get("state").copied().unwrap_or_default();
    if state == "<CLEAN>" {
        return Journal::Rest(place);
    }
    let [items, buffers, elsewhere] =
        ["items", "buffers", "elsewhere"].map(|name| number(name).unwrap_or(u64::MAX));
    let length = number("length").unwrap_or_default();
    let blocks = if head >= tail { head - tail } else { (head + length).saturating_sub(tail) };
    let alone = items == 0 && elsewhere == 0 && buffers > 0;
    match alone || blocks <= LAST_RECORDS && figures.get("last") == Some(&"super") {
        true => Journal::Rest(format!("{place}: no more than a freeze leaves")),
        false => Journal::Replay(format!("{place}: {items} items and {elsewhere} buffers to be replayed")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::LIMIT;
    use super::*;

    fn work(disks: usize) -> Work {
        let id = |kind: &str, n: usize| format!("d-{kind}{n:018}");
        let disks =
            (0..disks).map(|n| Copied { disk_id: id("v", n * 7919), source_disk_id: id("s", n * 104_729) });
        let disks: Vec<Copied> = disks.collect();
        let places = disks.iter().map(|disk| Place {
            source_disk_id: disk.source_disk_id.clone(),
            mount: format!("/srv/{}", disk.source_disk_id),
            kind: "xfs".into(),
            uuid: format!("0f3a2b1c-1111-4222-8333-{}", &disk.source_disk_id[8..]),
        });
        Work {
            run: "v-0123456789abcdef".into(),
            group_id: "ssg-bp10123456789abcdefgh".into(),
            limit: 600,
            places: places.collect(),
            disks,
            database: None,
        }
    }

    #[test]
    fn the_command_fits_with_every_engine_whatever_an_instance_can_have_attached() {
        for (name, script) in ENGINES.iter().copied().chain([("none", "")]) {
            let mut work = work(16);
            work.database = Some(Database {
                engine: name.into(),
                script: script.into(),
                data_dir: format!("/{}", "d".repeat(120)),
                log_dir: Some(format!("/{}", "l".repeat(120))),
                query: Some("select max(n) from acked".into()),
            });
            let size = render(&work).unwrap().len();
            println!("{name}: {size}");
            assert!(size <= LIMIT, "{name}: {size}");
        }
    }

    #[test]
    fn a_path_that_a_shell_would_read_is_not_handed_over() {
        for path in
            ["data", "/a/", "//etc", "/./etc", "/a b", "/a\\040b", "/$(x)", "/a'b", "/../x", "/a;b", "/ä"]
        {
            assert!(!fit(path), "{path}");
            let mut work = work(1);
            work.places[0].mount = path.into();
            assert!(render(&work).is_err(), "{path}");
        }
        assert!(fit("/") && fit("/var/lib/postgresql/15/main"));
    }

    #[test]
    fn what_lies_within_another_file_system_is_mounted_after_it() {
        let mut work = work(2);
        work.places[0].mount = "/data/log".into();
        work.places[1].mount = "/data".into();
        let plan = plan(&work).unwrap();
        assert!(plan.find(" /data ").unwrap() < plan.find(" /data/log ").unwrap(), "{plan}");
    }

    #[test]
    fn a_log_of_xfs_is_judged_by_what_a_replay_would_write() {
        let log = |words: &str| journal(&format!("tail=898 head=902 length=131072 {words}"));
        let rest = |journal: Journal| matches!(journal, Journal::Rest(_));
        assert!(rest(log("state=<CLEAN> items=0 buffers=0 elsewhere=0 last=other")));
        assert!(rest(log("state=<DIRTY> items=0 buffers=2 elsewhere=0 last=super")));
        assert!(rest(log("state=<DIRTY> items=1 buffers=2 elsewhere=0 last=super")), "one record before it");
        assert!(!rest(log("state=<DIRTY> items=1 buffers=2 elsewhere=0 last=other")));
        let far = "tail=890 head=902 length=131072 state=<DIRTY> items=1 buffers=2 elsewhere=0 last=super";
        assert!(matches!(journal(far), Journal::Replay(_)));
        let round = "tail=131070 head=2 length=131072 state=<DIRTY> items=1 buffers=1 elsewhere=0 last=super";
        assert!(rest(journal(round)), "round the end");
        assert_eq!((journal("unknown"), journal("")), (Journal::Unknown, Journal::Unknown));
    }

    #[test]
    fn what_was_told_is_read() {
        let told = Told::read(
            "fs: d-1|/data|ext4|replay|yes|good|\nfs: d-2|-|xfs|unknown|no|-|mount: bad superblock\n\
             note: disk.not_found d-3: x\nfs: half\nend: done\n",
        );
        assert_eq!(told.file_systems.len(), 2);
        assert_eq!(told.file_systems[0].journal, Journal::Replay("needs_recovery is set".into()));
        assert!(told.file_systems[0].mounted && !told.file_systems[1].mounted && told.done);
        assert_eq!(told.notes, [("disk.not_found".to_owned(), "d-3: x".to_owned())]);
        let refused = r#"{"appsnap":"1","run":"v-1","phase":"refused","reason":["state.not_tmpfs no"]}"#;
        assert_eq!(Told::read(refused).refused.as_deref(), Some("state.not_tmpfs no"));
        assert!(!Told::read("fs: d-1|/data|ext4|clean|yes|-|").done);
    }
}
