# shellcheck shell=sh
# A PostgreSQL server to protect, for demo and tests: the newest of Debian's binaries, run as root in a guest or in a
# private mount namespace. What runs is in /run/appsnap-engine/postgresql, and ends with `stop`, `unload` or the guest.
#
#   make DATADIR [LOGDIR]   a database with pgbench_accounts (26 MB) and acked(n); WAL in LOGDIR. Neither may be a mount point
#   start DATADIR           waits up to 30 s; socket in /run/appsnap-engine/postgresql, no TCP
#   stop DATADIR            all clients are dropped
#   load KIND SECONDS       idle | busy | acked | open-transaction | long-select, in the background. busy: pgbench, 4 clients;
#                           open-transaction: 1,000 rows written, never committed; all but idle write acknowledged counters
#   unload                  ends the load
#   acked, count            the highest n whose commit was acknowledged; max(n) in the database
#   conf                    what /etc/appsnap/postgresql.conf has to say for this server
set -eu
run=/run/appsnap-engine/postgresql
export LC_ALL=C PGHOST=$run PGUSER=postgres PGDATABASE=postgres PGAPPNAME=appsnap-load
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
cd / && mkdir -p $run && chown postgres: $run
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
sql() { as "$bin/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }

# Both run in sessions of their own, so that they are ended by their group. A row is printed once its commit is acknowledged.
# shellcheck disable=SC2016 # they are expanded by the shell that runs them
COUNT='{ n=$3; while :; do echo "INSERT INTO acked VALUES ($n) RETURNING n;"; n=$((n + 1)); done; } |
    timeout --foreground "$4" setpriv --reuid postgres --regid postgres --init-groups "$1/psql" -XqAt -v ON_ERROR_STOP=1 |
    while read -r n; do echo "$n" >"$2/acked"; done'
# shellcheck disable=SC2016
TEXT='echo "$2" | exec setpriv --reuid postgres --regid postgres --init-groups "$1/psql" -XqAt'
background() { # CODE ARGS...
    setsid sh -c "$@" </dev/null >/dev/null 2>>$run/load.log &
    echo $! >>$run/load
}

case $1 in
make)
    mkdir -p "$2" && chown postgres: "$2" && chmod 700 "$2"
    set -- "$2" "${3:-}" -D "$2" -U postgres -A peer -E UTF8 --locale=C
    if [ "$2" ]; then
        mkdir -p "$2" && chown postgres: "$2" && chmod 700 "$2"
        set -- "$@" -X "$2"
    fi
    data=$1
    shift 2
    as "$bin/initdb" "$@" >/dev/null
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$run'" "max_connections = 50" >>"$data/postgresql.conf"
    as "$bin/pg_ctl" start -D "$data" -w -t 30 -s -l $run/log
    as "$bin/pgbench" -i -q -s 2 >/dev/null 2>&1
    sql -c 'CREATE TABLE acked (n bigint PRIMARY KEY)'
    as "$bin/pg_ctl" stop -D "$data" -m fast -w -s
    sync # a crash copy has to show what the server lost, not what its installation did
    ;;
start) as "$bin/pg_ctl" start -D "$2" -w -t 30 -s -l $run/log ;;
stop) as "$bin/pg_ctl" stop -D "$2" -m fast -w -t 30 -s ;;
load)
    rm -f $run/acked
    [ "$2" = idle ] || background "$COUNT" sh "$bin" $run "$(sql -c 'SELECT coalesce(max(n), 0) + 1 FROM acked')" "$3"
    case $2 in
    idle | acked) ;;
    busy)
        # shellcheck disable=SC2016
        background 'exec setpriv --reuid postgres --regid postgres --init-groups "$1/pgbench" -n -c 4 -j 2 -T "$2"' sh "$bin" "$3"
        ;;
    open-transaction)
        background "$TEXT" sh "$bin" "BEGIN; UPDATE pgbench_accounts SET abalance = -1 WHERE aid <= 1000; SELECT pg_sleep($3);"
        ;;
    long-select)
        background "$TEXT" sh "$bin" "SELECT count(*), pg_sleep($3) FROM pgbench_accounts;"
        ;;
    *) echo "no load $2" >&2 && exit 2 ;;
    esac
    case $2 in open-transaction | long-select) sleeps=1 ;; *) sleeps=0 ;; esac
    n=0
    until [ "$2" = idle ] || [ -s $run/acked ] &&
        [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")" -ge $sleeps ]; do
        [ $((n += 1)) -le 100 ] || { echo "the load does not run: $(cat $run/load.log)" >&2 && exit 1; }
        sleep 0.1
    done
    ;;
unload)
    [ -e $run/load ] || exit 0
    while read -r pid; do kill -TERM "-$pid" 2>/dev/null || :; done <$run/load
    n=0
    while read -r pid; do
        while kill -0 "-$pid" 2>/dev/null && [ $((n += 1)) -le 100 ]; do sleep 0.1; done
        kill -KILL "-$pid" 2>/dev/null || :
    done <$run/load
    rm -f $run/load
    # A backend that sleeps does not see that its client has gone.
    others="application_name = '$PGAPPNAME' AND pid <> pg_backend_pid()"
    sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $others" >/dev/null 2>&1 || exit 0
    while [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE $others")" != 0 ]; do sleep 0.05; done
    ;;
acked)
    for _ in 1 2 3 4 5; do # it is written anew all the time
        [ ! -s $run/acked ] || break
        sleep 0.05
    done
    cat $run/acked
    ;;
count) sql -c 'SELECT max(n) FROM acked' ;;
conf) echo "socket=$run" ;;
*) echo "no verb $1" >&2 && exit 2 ;;
esac
