#!/bin/sh
# Starts Redis or Valkey on a copy of its data, reads its log and stops it: redis.sh DATADIR LOGDIR LIMIT
# LOGDIR is `-`: Redis has everything in DATADIR. LIMIT in seconds. $WORK is an empty directory on tmpfs, $QUERY a command
# to be answered (GET counter). Where there is an append-only file, it is what is loaded, as a server with `appendonly yes`
# does; the check does not see redis.conf. Exit status: 0 started and stopped, 1 it did not start, 2 nothing here can judge it.
set -u
data=$1 limit=$3 own=$WORK/engine
umask 077

fact() { printf 'fact: %s\n' "$1=$2"; }
unable() { fact started no; fact unable "$1"; exit 2; }
hundredths() { read -r up _ </proc/uptime && echo "${up%.*}${up#*.}"; }
end=$(($(hundredths) + limit * 100))
left() { [ "$(hundredths)" -lt $end ]; }
bytes() { cat "$@" 2>/dev/null | wc -c; }

# What is there: the files of an append-only log with their manifest (7.0 and later), the one file of 6.2, or a dump.
for manifest in "$data"/*/*.aof.manifest; do
    [ ! -e "$manifest" ] || break
done
for single in "$data"/*.aof; do
    [ ! -e "$single" ] || break
done
dump=$(find "$data" -maxdepth 1 -name '*.rdb' ! -name 'temp-*' -size +0 -printf '%T@ %f\n' | sort -rn | head -n 1)
dump=${dump#* }
base='' incremental=''
if [ -e "$manifest" ]; then
    set -- --appendonly yes --appenddirname "$(basename "${manifest%/*}")" --appendfilename "$(basename "${manifest%.manifest}")"
    base=${manifest%/*}/$(sed -n 's/^file \([^ ]*\) .* type b$/\1/p' "$manifest")
    incremental=$(sed -n 's/^file \([^ ]*\) .* type i$/\1/p' "$manifest")
    fact source aof
    fact baseBytes "$(bytes "$base")"
    # shellcheck disable=SC2086
    fact redoBytes "$(cd "${manifest%/*}" && bytes $incremental)"
elif [ -e "$single" ]; then
    set -- --appendonly yes --appendfilename "$(basename "$single")" && base=$single
    fact source aof
    fact redoBytes "$(bytes "$single")"
elif [ "$dump" ]; then
    set -- --appendonly no --dbfilename "$dump" && base=$data/$dump
    fact source rdb
    fact baseBytes "$(bytes "$base")"
else
    unable "$data holds no append-only file and no dump"
fi

# The head of a dump names its maker.
maker='' names='redis-server valkey-server'
[ ! -f "$base" ] || maker=$(head -c 64 "$base" | tr -c '[:print:]' ' ' | sed -n 's/.*\(redis\|valkey\)-ver  *\([0-9.]*\).*/\1 \2/p')
[ "${maker%% *}" != valkey ] || names='valkey-server redis-server'
[ -z "$maker" ] || fact maker "$maker"
server=''
for name in $names; do
    server=$(command -v "$name") && break
done
[ "$server" ] || unable "no redis-server or valkey-server here"
kind=${server##*/} && kind=${kind%-server}
client=$(command -v "$kind-cli") || unable "no $kind-cli here"
fact version "$("$server" --version | sed 's/.* v=\([0-9.]*\) .*/\1/')"

mkdir "$own" || unable "cannot write to $WORK"
owner=$(stat -c %u:%g "$data")
chown "$owner" "$own"
checker=$(command -v "$kind-check-aof") && [ -e "$manifest" ] &&
    timeout "$limit" "$checker" "$manifest" </dev/null >"$own/check" 2>&1
code=$?
[ ! -e "$own/check" ] || fact check "$code"

# Save points would write a dump on their own; a replica would ask its primary; a name of redis.conf is not known here.
begin=$(hundredths)
(cd / && exec setpriv --reuid "${owner%:*}" --regid "${owner#*:}" --clear-groups "$server" "$@" --dir "$data" --port 0 \
    --unixsocket "$own/s" --pidfile "$own/pid" --logfile "$own/server.log" --save '' --auto-aof-rewrite-percentage 0 \
    --daemonize no) </dev/null >"$own/out" 2>&1 &
pid=$!
trap 'kill -KILL $pid 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM

ask() { timeout "$limit" "$client" -s "$own/s" 2>&1; }
alive() { read -r _ _ state _ <"/proc/$pid/stat" && [ "$state" != Z ]; } 2>/dev/null
words='loaded from|loading|keys loaded|runcated|runcating|Bad file format|hort read|nexpected end|orrupt|checksum'
words="$words|incomplete MULTI|atal|FATAL|signature|Can.t handle|Can.t open|rror |nternal error|Ready to accept|manifest|annot open|No such file"
tell() {
    cat "$own/check" "$own/out" "$own/server.log" 2>/dev/null | grep -E "$words" | cut -c1-200 | head -n 40 | sed 's/^/log: /'
}
failed() { # WHY
    fact started no
    fact why "$1"
    tell
    ! grep -q "Can't handle RDB format version" "$own/server.log" || exit 2 # it was made by a newer one
    exit 1
}

until [ "$(echo PING | ask)" = PONG ]; do
    alive || failed "the server ended"
    left || { fact late yes; failed "not loaded within $limit s"; }
    sleep 0.1
done
fact started yes
fact startMs $((($(hundredths) - begin) * 10))
fact keys "$(echo INFO keyspace | ask | tr -d '\r' | sed -n 's/^db[0-9]*:keys=\([0-9]*\),.*/\1/p' | awk '{ n += $1 } END { print n + 0 }')"
[ -z "${QUERY:-}" ] || fact answer "$(printf '%s\n' "$QUERY" | ask | head -n 1 | cut -c1-200)"
echo SHUTDOWN NOSAVE | ask >/dev/null
while alive; do
    left || break # the trap ends it
    sleep 0.1
done
tell
