#!/bin/sh
# A MariaDB server under test, from the binaries of this machine, run as root: mariadb.sh VERB ...
#   make DATADIR [LOGDIR]   an empty database, its redo and binary log in LOGDIR where given; a table of 30 MB
#   start DATADIR           the server, in the background; waits until it answers
#   stop DATADIR            shuts it down
#   load KIND SECONDS       idle | busy | acked | open-transaction | long-select, in the background
#   unload                  ends the load
#   acked                   the highest number whose commit the server has acknowledged
#   count                   the highest number in the database
#   conf                    what /etc/appsnap/mariadb.conf has to say about this server
set -eu
umask 022
run=/run/appsnap-engine/mariadb
socket=$run/socket
[ "$(id -u)" = 0 ] || { echo "$0: has to run as root" >&2; exit 2; }

fail() { echo "mariadb.sh: $*" >&2; exit 1; }
sql() { mariadb --no-defaults --socket="$socket" -u root -N -B; } # statements on stdin

make() { # DATADIR [LOGDIR]
    data=$1 logs=${2:-$1}
    install -d -o mysql -g mysql -m 700 "$data" "$logs"
    mkdir -p "$run"
    cat >"$data/server.cnf" <<CNF
[mariadbd]
datadir=$data
innodb_log_group_home_dir=$logs
log_bin=$logs/binlog
log_error=$data/error.log
server_id=1
sync_binlog=1
max_binlog_size=64M
innodb_buffer_pool_size=128M
innodb_log_file_size=96M
skip_networking
CNF
    mariadb-install-db --defaults-file="$data/server.cnf" --user=mysql --skip-test-db \
        --auth-root-authentication-method=socket >"$run/install.log" 2>&1 || { cat "$run/install.log" >&2; fail "install"; }
    start "$data"
    sql <<'SQL'
CREATE DATABASE app;
USE app;
CREATE TABLE acked (n BIGINT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE item (id INT PRIMARY KEY, hits INT NOT NULL, filler CHAR(120) NOT NULL) ENGINE=InnoDB;
CREATE TABLE event (id BIGINT AUTO_INCREMENT PRIMARY KEY, item INT NOT NULL, note CHAR(60) NOT NULL) ENGINE=InnoDB;
CREATE TABLE visit (item INT PRIMARY KEY, seen INT NOT NULL) ENGINE=Aria TRANSACTIONAL=0;
INSERT INTO item SELECT seq, 0, REPEAT(CHAR(97 + seq MOD 26), 120) FROM seq_1_to_180000;
SQL
    stop "$data"
}

start() { # DATADIR
    mkdir -p "$run" && chown mysql "$run"
    setsid mariadbd --defaults-file="$1/server.cnf" --user=mysql --socket="$socket" --pid-file="$run/pid" \
        </dev/null >/dev/null 2>&1 &
    echo $! >"$run/server"
    n=0
    until echo 'SELECT 1;' | sql >/dev/null 2>&1; do
        [ $((n += 1)) -le 300 ] || fail "no answer within 30 s: $(tail -n 5 "$1/error.log")"
        kill -0 "$(cat "$run/server")" 2>/dev/null || fail "the server ended: $(tail -n 5 "$1/error.log")"
        sleep 0.1
    done
}

stop() { # DATADIR
    [ -e "$run/server" ] || return 0
    server=$(cat "$run/server")
    ! kill -TERM "$server" 2>/dev/null || gone "$server" 600 || fail "still running after 60 s"
    rm -f "$run/server"
}
gone() { # PID TENTHS: until it is gone
    n=0
    while kill -0 "$1" 2>/dev/null; do
        read -r _ _ state _ <"/proc/$1/stat" && [ "$state" = Z ] && return
        [ $((n += 1)) -le "$2" ] || return 1
        sleep 0.1
    done 2>/dev/null
}

keep() { # KIND: its statements on stdin go to a session of its own; known to unload
    # shellcheck disable=SC2016 # for a shell of its own
    setsid sh -c 'echo $$ >>"$1/load"; shift; exec "$@"' load "$run" \
        mariadb --no-defaults --socket="$socket" -u root -N -B --unbuffered app
}
acked_writer() { # one commit after another; the number is told when the server has acknowledged its commit
    awk -v n="$(count)" 'BEGIN { while (++n) print "INSERT INTO acked VALUES (" n ");\nSELECT " n ";" }' 2>/dev/null |
        keep >>"$run/acked" 2>/dev/null &
}
busy_writer() { # SEED: transactions of four statements, and a table without transactions
    awk -v seed="$1" 'BEGIN { srand(seed); for (;;) { a = int(rand() * 180000) + 1; b = int(rand() * 180000) + 1
        if (a > b) { c = a; a = b; b = c }
        print "BEGIN;\nUPDATE item SET hits = hits + 1 WHERE id = " a ";\nUPDATE item SET hits = hits + 1 WHERE id = " b ";"
        print "INSERT INTO event (item, note) VALUES (" a ", UUID());\nCOMMIT;"
        if (rand() < 0.05) print "REPLACE INTO visit VALUES (" a % 1000 ", " b ");" } }' 2>/dev/null |
        keep >/dev/null 2>&1 &
}

# shellcheck disable=SC2016 # for the shell that waits
AFTER='echo $$ >>"$1/load"; sleep "$2"; while read -r p; do [ "$p" = $$ ] || kill -KILL "-$p"; done <"$1/load"'
writers() { # KIND SECONDS
    case $1 in
    busy) for seed in 1 2 3 4; do busy_writer $seed; done ;;
    open-transaction) # has written, and stays open: no snapshot of it is without a rollback
        { echo "BEGIN; INSERT INTO event (item, note) SELECT seq, 'open' FROM seq_1_to_1000;"; sleep "$2"; } | keep & ;;
    long-select) echo "SELECT COUNT(*) FROM item WHERE id <= 10 * $2 AND SLEEP(0.1) = 0;" | keep & ;;
    esac
    acked_writer
    setsid sh -c "$AFTER" timer "$run" "$2" &
}
load() { # KIND SECONDS
    unload
    : >"$run/acked"
    case $1 in
    idle) return ;;
    acked | busy | open-transaction | long-select) ;;
    *) echo "mariadb.sh load: idle, busy, acked, open-transaction or long-select, not $1" >&2; exit 2 ;;
    esac
    : >"$run/load"
    (exec </dev/null >/dev/null 2>&1 && writers "$@") # whoever reads our output does not wait for them
    n=0
    until [ -s "$run/acked" ]; do
        [ $((n += 1)) -le 100 ] || fail "the load does not begin"
        sleep 0.1
    done
}

unload() {
    [ -e "$run/load" ] || return 0
    while read -r leader; do
        kill -KILL "-$leader" 2>/dev/null || :
    done <"$run/load"
    rm "$run/load"
}

acked() { tail -n 1 "$run/acked" | grep . || echo 0; }
count() { echo 'SELECT COALESCE(MAX(n), 0) FROM app.acked;' | sql; }
conf() { echo "socket=$socket"; }

verb=${1:-}
case $verb in
make | start | stop | load | unload | acked | count | conf) shift && "$verb" "$@" ;;
*) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
