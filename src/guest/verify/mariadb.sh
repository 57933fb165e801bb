#!/bin/sh
# Starts MariaDB or MySQL on a copy of its data, reads its log and stops it: mariadb.sh DATADIR LOGDIR LIMIT
# LOGDIR is `-` where the redo log lies in DATADIR; LIMIT in seconds. $WORK is an empty directory on tmpfs, $QUERY an SQL
# statement to be answered. What this machine's own my.cnf says counts (page size, keys, plugins), except for what is said
# here. Exit status: 0 started and stopped, 1 it did not start, 2 nothing here can judge it.
set -u
data=$1 logs=$2 limit=$3 own=$WORK/engine
[ "$logs" != - ] || logs=$data
umask 077

fact() { printf 'fact: %s\n' "$1=$2"; }
unable() { fact started no; fact unable "$1"; exit 2; }
left() { # seconds until the limit
    read -r up _ </proc/uptime
    [ "${up%.*}" -lt "$end" ]
}
hundredths() { read -r up _ </proc/uptime && echo "${up%.*}${up#*.}"; }
read -r up _ </proc/uptime
end=$((${up%.*} + limit))

# Whose data is it? InnoDB's redo log names its maker, from the 16th byte on.
[ -e "$data/ibdata1" ] || unable "$data holds no ibdata1"
owner=$(stat -c %u:%g "$data")
for redo in "$logs/ib_logfile0" "$logs"/*innodb_redo/*ib_redo*; do
    case $redo in *_tmp) ;; *) [ ! -e "$redo" ] || break ;; esac
done
[ -e "$redo" ] || unable "no redo log in $logs"
maker=$(dd if="$redo" bs=1 skip=16 count=32 2>/dev/null | tr -d '\000')
[ ! -e "$data/mysql.ibd" ] || maker="MySQL ${maker##* }" # a clone has another maker
case $maker in
MariaDB*) names='mariadbd mysqld' ;;
*) names=mysqld ;;
esac
PATH=$PATH:/usr/sbin:/usr/libexec:/usr/local/mysql/bin
server=
for name in $names; do
    found=$(command -v "$name") || continue
    version=$("$found" --no-defaults --version 2>/dev/null)
    case $maker/$version in
    MariaDB*/*MariaDB* | MySQL*/*MariaDB*) [ "${maker%% *}" = MariaDB ] && server=$found && break ;;
    MySQL*) server=$found && break ;;
    esac
done
[ "$server" ] || unable "no server here for data of $maker"
case $maker in
MariaDB*) client=$(command -v mariadb || command -v mysql) ;;
*) client=$(command -v mysql) ;;
esac
[ "$client" ] || unable "no client for $maker here"
version=$(echo "$version" | sed 's/.*Ver \([0-9.]*\).*/\1/')
fact version "$version"
fact maker "$maker"
number=$(echo "${maker#* }" | grep -oE '^[0-9]+\.[0-9]+') && [ "${version%.*}" != "$number" ] &&
    unable "the data is of $maker, the server here is $version"

# The binary log decides about prepared transactions, so it has to be the copy's own.
binlog=
for index in "$logs"/*.index "$data"/*.index; do
    first=$(head -n 1 "$index" 2>/dev/null) || continue
    case $first in '' | *relay*) continue ;; /*) ;; *) first=$data/$first ;; esac
    [ -z "$binlog" ] && [ -e "$first" ] && binlog=${first%.*} && set -- --log-bin="$binlog" --log-bin-index="$index"
done
[ "$binlog" ] || set -- --skip-log-bin

mkdir "$own" || unable "cannot write to $WORK"
chown "$owner" "$own"
begin=$(hundredths)
(cd / && exec setpriv --reuid "${owner%:*}" --regid "${owner#*:}" --clear-groups "$server" "$@" \
    --datadir="$data" --innodb-log-group-home-dir="$logs" --tmpdir="$own" --socket="$own/s" --pid-file="$own/pid" \
    --log-error="$own/server.log" --secure-file-priv="$own" --skip-networking --skip-grant-tables --event-scheduler=OFF \
    --loose-skip-slave-start --loose-skip-replica-start --loose-wsrep-on=OFF --loose-mysqlx=OFF --loose-expire-logs-days=0 \
    --loose-binlog-expire-logs-seconds=0 --innodb-buffer-pool-load-at-startup=OFF --loose-general-log=OFF \
    --innodb-buffer-pool-dump-at-shutdown=OFF --loose-aria-recover-options=OFF --loose-myisam-recover-options=OFF \
    --loose-slow-query-log=OFF --loose-log-error-verbosity=3 --server-id=1) </dev/null >"$own/out" 2>&1 &
pid=$!
trap 'kill -KILL $pid 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM

ask() { timeout "$limit" "$client" --no-defaults --socket="$own/s" -N -B -e "$1" 2>&1; }
alive() { read -r _ _ state _ <"/proc/$pid/stat" && [ "$state" != Z ]; } 2>/dev/null
# The lines that matter, by what they tell of.
words='crash recovery|shutdown normally|checkpoint lsn|Doing recovery|End of log|To recover:|pply(ing)? (a )?batch|redo log'
words="$words|rash table recovery|after a crash|prepared transaction|rolled back|Rolled back|Rolling back"
words="$words|Aria engine|recovered pages|tables to flush|marked as crashed|orrupt|ERROR|signal|Upgrad"
words="$words|ready for connections"
tell() { # the counts say how many there were of what is cut short
    cat "$own/out" "$own/server.log" 2>/dev/null >"$own/all"
    fact rolledBack "$(grep -c 'Rolled back recovered transaction\|Rolling back trx with id' "$own/all")"
    fact prepared "$(grep -c 'was in the XA prepared state' "$own/all")"
    grep -E "$words" "$own/all" | awk '/Rolled back recovered|Rolling back trx/ && ++n > 6 { next }
        { print "log: " substr($0, 1, 200) }' | head -n 40
}
failed() { # WHY
    fact started no
    fact why "$1"
    tell
    ! grep -qE 'ERROR.*unknown (option|variable)' "$own/all" || exit 2 # this machine's my.cnf
    exit 1
}

until [ "$(ask 'SELECT 1')" = 1 ]; do
    alive || failed "the server ended"
    left || { fact late yes; failed "no answer within $limit s"; }
    sleep 0.1
done
fact started yes
fact startMs $((($(hundredths) - begin) * 10))
# Rolling back goes on in the background.
while grep -q 'in background the rollback' "$own/server.log" && left; do
    ! grep -q 'ollback of non-prepared transactions completed' "$own/server.log" || break
    sleep 0.1
done
# Tables without transactions: whether they were closed, and are whole.
tables=$(ask "SET SESSION group_concat_max_len = 100000; SELECT GROUP_CONCAT('\`', table_schema, '\`.\`', table_name, '\`')
    FROM information_schema.tables WHERE engine IN ('MyISAM', 'Aria') AND table_type = 'BASE TABLE'
    AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')")
if [ "$tables" ] && [ "$tables" != NULL ]; then
    ask "CHECK TABLE $tables FAST QUICK" >"$own/check"
    fact unclosed "$(grep -c 'closed the table properly' "$own/check")"
    fact damaged "$(cut -f 3 "$own/check" | grep -ci '^error')"
    grep -i 'error\|closed the table' "$own/check" | head -n 5 | cut -c1-200 | sed 's/^/log: /'
fi
[ -z "${QUERY:-}" ] || fact answer "$(ask "$QUERY" | head -n 1 | cut -c1-200)"
kill -TERM $pid
while alive; do
    left || break # the trap ends it
    sleep 0.1
done
tell
