//! The recipe for MySQL. Debian has no MySQL: a stand-in for its client writes down what it is told, and hands it on to a
//! real MariaDB, with those few words changed that only MySQL understands.

mod common;
#[allow(dead_code)] // others need the rest of it
#[path = "common/pen.rs"]
mod pen;

use common::need;
use pen::Pen;

const ENGINE: &str = include_str!("../src/local/engine/mariadb.sh");
const DATA: &str = "/run/d";

/// `$1`: the version that it claims.
const STAND_IN: &str = r#"cat >/run/bin/mysql <<'EOF'
#!/bin/sh
tee -a /run/dialogue | sed -u -e "s/@@version, /'VERSION', /" -e 's/@@GLOBAL.super_read_only/@@GLOBAL.read_only/' \
    -e 's/LOCK INSTANCE FOR BACKUP;//' -e 's/SHOW BINARY LOG STATUS/SHOW MASTER STATUS/' \
    -e "s/@@GLOBAL.gtid_executed/'3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5'/" | mariadb "$@"
EOF
chmod 755 /run/bin/mysql
sed -i "s/VERSION/$1/" /run/bin/mysql"#;

fn server(version: &str, wait: u32) -> Option<Pen> {
    if !need(&[&pen::NEEDS[..], &["mariadbd", "mariadb", "mariadb-install-db", "tee"]].concat()) {
        return None;
    }
    let pen = Pen::new("dash");
    pen.good(ENGINE, &["make", DATA]);
    pen.good(ENGINE, &["start", DATA]);
    pen.install("mysql", &format!("{}\nwait={wait}\nsettle=20\n", pen.good(ENGINE, &["conf"])));
    pen.good(STAND_IN, &[version]);
    Some(pen)
}

fn acked(pen: &Pen) -> u64 {
    pen.good(ENGINE, &["acked"]).parse().unwrap()
}

#[test]
fn each_version_is_asked_in_its_own_words_and_writers_wait_while_it_is_locked() {
    let new = ["SHOW REPLICA STATUS", "LOCK INSTANCE FOR BACKUP", "SHOW BINARY LOG STATUS"];
    let old = ["SHOW SLAVE STATUS", "SHOW MASTER STATUS", "SELECT CONNECTION_ID()"];
    for (version, said, unsaid) in [("8.4.3", new, &old[..2]), ("5.7.42-log", old, &new[..])] {
        let Some(pen) = server(version, 30) else { return };
        pen.good(ENGINE, &["load", "busy", "100"]);
        let pre = pen.pre();
        assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{version}: {pre:?}");
        let plain = format!("version={}", version.trim_end_matches("-log"));
        for mark in ["engine=mysql", &plain, "datadir=/run/d", "gtid=3e11fa47-", "binlog=binlog.0"] {
            assert!(pre.out.contains(&format!("appsnap-mark: {mark}")), "{mark}: {pre:?}");
        }
        let before = acked(&pen);
        let dialogue = pen.good("sleep 1; cat /run/dialogue", &[]);
        assert_eq!(acked(&pen), before, "{version}: a commit was acknowledged under the lock");
        let lock = dialogue.find("FLUSH LOCAL TABLES WITH READ LOCK").unwrap();
        assert!(dialogue.find("FLUSH LOCAL TABLES;").unwrap() < lock, "{dialogue}");
        for words in said {
            assert!(dialogue.contains(words), "{version}: {words}: {dialogue}");
        }
        for words in unsaid {
            assert!(!dialogue.contains(words), "{version}: {words}: {dialogue}");
        }
        let post = pen.post();
        assert_eq!((post.code, post.err.as_str()), (0, ""), "{version}: {post:?}");
        pen.until(&format!("[ $(tail -n 1 /run/appsnap-engine/mariadb/acked) -gt {before} ]"));
        pen.nothing_is_left("mysql");
    }
}

#[test]
fn a_lock_that_a_long_reader_would_hold_up_is_not_even_tried() {
    let Some(pen) = server("8.0.36", 3) else { return };
    pen.good(ENGINE, &["load", "long-select", "100"]);
    pen.good("sleep 1", &[]);
    let before = acked(&pen);
    let pre = pen.pre();
    assert_eq!(pre.code, 11, "{pre:?}");
    assert!(pre.err.starts_with("mysql: no lock within 3 s") && pre.err.contains("SLEEP(0.1)"), "{pre:?}");
    assert!(acked(&pen) > before + 100, "writers go on");
    assert!(!pen.good("cat /run/dialogue", &[]).contains("FLUSH"), "not even tried");
    pen.nothing_is_left("mysql");
}

#[test]
fn an_open_transaction_is_10_and_a_mariadb_is_sent_to_its_own_recipe() {
    let Some(pen) = server("8.0.36", 3) else { return };
    pen.good(ENGINE, &["load", "open-transaction", "100"]);
    let pre = pen.pre();
    assert!(pre.code == 10 && pre.err.contains("1000 rows"), "{pre:?}");
    pen.nothing_is_left("mysql");
    pen.good("ln -sf \"$(command -v mariadb)\" /run/bin/mysql", &[]);
    let pre = pen.pre();
    assert!(pre.code == 16 && pre.err.contains("use the recipe mariadb"), "{pre:?}");
    pen.nothing_is_left("mysql");
}
