#!/bin/sh
# A Redis for the local cloud, the demo and the tests, of the binaries that this machine has. Run as root:
#   make DATADIR               an empty database, then some 30 MB of rows, and the counter `acked`
#   start DATADIR, stop DATADIR
#   load KIND SECONDS          idle | busy | acked | open-transaction | long-select; all but idle also count `acked` up
#   unload                     ends the load
#   acked                      the highest number whose INCR was acknowledged
#   count                      the highest number in the database
#   conf                       the lines of /etc/appsnap/redis.conf that lead the recipe to this server
# AOF with appendfsync everysec, and the save points that Redis has by default. Everything else is in /run.
#
# Redis has no log on a disk of its own: it refuses to start where appendonlydir lies on another file system than `dir`
# ("Error moving temp append only file on the final destination: Invalid cross-device link", 7.0.15). So `make` refuses
# a LOGDIR with 64.
#
# MULTI without EXEC is no open transaction here: the server only remembers what was said. What others have to wait for
# is a script. `open-transaction` is one that reads for SECONDS and writes at its end; nobody is served meanwhile, the
# counter neither. `long-select` is a row of shorter ones.
set -eu
RUN=/run/appsnap-engine/redis
SOCKET=$RUN/redis.sock

say() { redis-cli -s "$SOCKET" "$@"; }
fail() { echo "redis.sh: $1" >&2 && exit "${2:-1}"; }
alive() { [ -s "$RUN/pid" ] && read -r pid <"$RUN/pid" && [ -d "/proc/$pid" ]; }
until_() { # SECONDS COMMAND...: until it is true, looked at every tenth
    tries=$(($1 * 10)) && shift
    while ! "$@" >/dev/null 2>&1; do
        [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}
answers() { [ "$(say PING)" = PONG ]; }
gone() { ! alive; }

start() { # DATADIR
    ! alive || fail "a server runs already: process $pid"
    mkdir -p "$RUN" && chmod 755 "${RUN%/*}"
    owner=$(stat -c '%u' "$1") group=$(stat -c '%g' "$1")
    chown "$owner:$group" "$RUN"
    (cd / && exec setpriv --reuid "$owner" --regid "$group" --clear-groups redis-server --dir "$1" --daemonize yes \
        --pidfile "$RUN/pid" --logfile "$RUN/log" --port 0 --unixsocket "$SOCKET" --unixsocketperm 700 \
        --appendonly yes --appendfsync everysec </dev/null >/dev/null)
    until_ 30 answers || fail "the server does not answer; its log ends with: $(tail -n 3 "$RUN/log")"
}
stop() {
    alive || return 0
    say SHUTDOWN >/dev/null 2>&1 || true
    until_ 30 gone || fail "the server, process $pid, does not end"
}
make() { # DATADIR
    [ -z "$(ls -A "$1" 2>/dev/null)" ] || fail "$1 is not empty"
    mkdir -p "$1" && chmod 750 "$1"
    ! id redis >/dev/null 2>&1 || chown redis:redis "$1"
    start "$1"
    # 100,000 rows of some 300 bytes that do not compress well; then they are the base, and no log is to be replayed.
    rm -f "$RUN/acked"
    say EVAL "for i = 1, 100000 do local s = redis.sha1hex(i)
        redis.call('set', 'row:' .. i, s .. redis.sha1hex(s) .. redis.sha1hex(s .. 1) .. redis.sha1hex(s .. 2) ..
            redis.sha1hex(s .. 3) .. redis.sha1hex(s .. 4) .. redis.sha1hex(s .. 5)) end
        redis.call('set', 'acked', 0)" 0 >/dev/null
    until_ 30 written || fail "the rows are not written"
    stop
}
written() {
    say BGREWRITEAOF >/dev/null
    sleep 0.3
    until_ 30 eval "say INFO persistence | grep -q 'aof_rewrite_in_progress:0'"
    say INFO persistence | grep -q 'aof_last_bgrewrite_status:ok'
}

# The texts of other shells. One INCR at a time, and the next only when the answer to the last one is on tmpfs. That
# file is not truncated first: numbers only grow, and a reader finds a whole one, whenever the writer is killed.
# shellcheck disable=SC2016
ACKED='mkfifo in out && exec 5<>in 6<>out
redis-cli -s redis.sock <&5 >&6 2>&1 &
while echo "INCR acked" >&5 && read -r n <&6; do
    case $n in "" | *[!0-9]*) sleep 0.1 ;; *) echo "$n" 1<>acked ;; esac
done'
BUSY='exec redis-benchmark -s redis.sock -c 8 -d 100 -r 100000 -n 1000000 -l -q -t set,hset'
# shellcheck disable=SC2016
OPEN='redis-cli -s redis.sock EVAL "local till = redis.call(\"time\")[1] + ARGV[1]
    while redis.call(\"time\")[1] + 0 < till do redis.call(\"get\", \"acked\") end
    redis.call(\"set\", \"open\", ARGV[1])" 0 "$1"'
LONG='while :; do redis-cli -s redis.sock EVAL "local n for i = 1, 4e7 do n = i end" 0; sleep 0.2; done'

work() { # SECONDS TEXT: in a session of its own, whose number is kept
    setsid timeout -k 1 "$1" sh -c "$2" work "$1" </dev/null >/dev/null 2>&1 &
    echo $! >>"$RUN/load"
}
moves() { [ "$(acked)" -gt "$before" ]; }
load() { # KIND SECONDS
    [ ! -e "$RUN/load" ] || fail "there is a load already: unload it first"
    case $1 in idle | busy | acked | open-transaction | long-select) ;; *) fail "no load $1" 64 ;; esac
    cd "$RUN" && : >load
    [ "$1" != idle ] || return 0
    before=$(acked)
    rm -f in out && work "$2" "$ACKED"
    until_ 10 moves || fail "the counter does not move"
    case $1 in
    busy) work "$2" "$BUSY" ;;
    open-transaction) work "$2" "$OPEN" && sleep 0.5 ;;
    long-select) work "$2" "$LONG" ;;
    esac
}
unload() {
    [ -e "$RUN/load" ] || return 0
    while read -r session; do
        kill -KILL "-$session" 2>/dev/null || true
    done <"$RUN/load"
    rm -f "$RUN/load"
    ! alive || until_ 30 free || fail "the server is still busy with a script"
}
free() { # a script outlives its client; the server listens again when it has run for 5 s (busy-reply-threshold)
    timeout 1 redis-cli -s "$SOCKET" SCRIPT KILL
    [ "$(timeout 1 redis-cli -s "$SOCKET" PING)" = PONG ]
}
acked() { cat "$RUN/acked" 2>/dev/null || echo 0; }

[ $# -ge 1 ] || fail "make | start | stop | load | unload | acked | count | conf" 64
verb=$1 && shift
case $verb in
make)
    [ "${2:--}" = - ] || fail "Redis has no log on another disk: appendonlydir has to be in the file system of $1" 64
    make "$1"
    ;;
start | load) "$verb" "$@" ;;
stop | unload | acked) "$verb" ;;
count) say GET acked ;;
conf) echo "socket=$SOCKET" ;;
*) fail "no verb $verb" 64 ;;
esac
