# Starts PostgreSQL on a copy of its data and tells how it came up, for appsnap verify. The data is a copy that is thrown
# away, writable, at its original path; the caller has made mount and network namespaces for it.
#
#   WORK=DIR [QUERY=SQL] sh postgresql.sh DATADIR LOGDIR LIMIT
#
# WORK is an empty private directory on tmpfs, LIMIT the seconds until the server has to answer. LOGDIR says nothing here:
# the data names it by a link. QUERY goes to psql in the database `postgres`; `\connect NAME \\ SELECT ...` chooses another.
# Configuration is ours throughout (a Debian cluster has its own in /etc, and may archive, replicate, preload jobs): only
# what recovery cannot do without is taken from the data. Exit: 0 started and stopped; 1 did not start; 2 no binaries.
set -u
umask 077
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
data=$1 limit=$3 server=''
cd / || exit 2
fact() { echo "fact: $1=$2"; }

version=$(cat "$data/PG_VERSION") || { fact why "$data is no data directory of PostgreSQL" && exit 2; }
for bin in "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin" /usr/local/pgsql/bin ${PGBIN:+"$PGBIN"} ''; do
  case $("$bin/postgres" --version 2>/dev/null) in *" $version"[.\ r]*) break ;; esac
done
[ "$bin" ] || { fact why "no binaries of PostgreSQL $version on this machine" && exit 2; }
uid=$(stat -c %u "$data") gid=$(stat -c %g "$data")
as() { setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"; }

control=$(as "$bin/pg_controldata" "$data") || { fact why "pg_controldata cannot read $data" && fact started no && exit 1; }
told() { printf '%s\n' "$control" | sed -n "s/^$1: *//p"; }
fact version "$("$bin/postgres" --version | sed 's/.*) //; s/ .*//')"
fact state "$(told 'Database cluster state')"
fact checkpoint "$(told 'Latest checkpoint location')"
fact redo "$(told "Latest checkpoint's REDO location")"
fact minRecovery "$(told 'Minimum recovery ending location')"
[ -e "$data/backup_label" ] && fact backupLabel yes
[ -e "$data/standby.signal" ] && fact standby yes

# The copied lock file names a process and a shared memory that may be somebody else's here.
rm -f "$data/postmaster.pid"
mkdir "$WORK/socket" && : >"$WORK/log" && : >"$WORK/conf" && : >"$WORK/ident" && echo 'local all all trust' >"$WORK/hba" || exit 2
chown -R "$uid:$gid" "$WORK/socket" "$WORK/log" "$WORK/conf" "$WORK/ident" "$WORK/hba"
slots=$(find "$data/pg_replslot" -mindepth 1 -maxdepth 1 | wc -l)

up() { read -r _ _ is _ 2>/dev/null <"/proc/$server/stat" && [ "$is" != Z ]; } # its name has no spaces
end() {
  [ "$server" ] && up && kill -QUIT "$server" # at once; its children go with it
  wait
}
trap end EXIT
trap 'exit 1' TERM INT HUP
now() { date +%s%3N; }
begin=$(now)
# Arguments win over postgresql.auto.conf, which is read all the same.
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups "$bin/postgres" -D "$data" -c config_file="$WORK/conf" -c hba_file="$WORK/hba" -c ident_file="$WORK/ident" \
  -c listen_addresses= -c port=5432 -c unix_socket_directories="$WORK/socket" -c external_pid_file= -c ssl=off \
  -c logging_collector=off -c log_destination=stderr -c log_line_prefix= -c lc_messages=C -c log_min_messages=log \
  -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c log_checkpoints=off \
  -c shared_buffers=128MB -c huge_pages=off -c shared_preload_libraries= -c session_preload_libraries= \
  -c local_preload_libraries= -c archive_mode=off -c autovacuum=off -c fsync=off -c restart_after_crash=off \
  -c primary_conninfo= -c primary_slot_name= -c restore_command= -c archive_cleanup_command= -c recovery_end_command= \
  -c synchronous_standby_names= -c max_logical_replication_workers=0 -c hot_standby=on \
  -c wal_level="$(told 'wal_level setting')" -c max_connections="$(told 'max_connections setting')" \
  -c max_worker_processes="$(told 'max_worker_processes setting')" -c max_wal_senders="$(told 'max_wal_senders setting')" \
  -c max_prepared_transactions="$(told 'max_prepared_xacts setting')" \
  -c max_locks_per_transaction="$(told 'max_locks_per_xact setting')" -c max_replication_slots=$((slots + 10)) \
  </dev/null >>"$WORK/log" 2>&1 &
server=$!

ask() { as timeout 60 "$bin/psql" -XqAtw -h "$WORK/socket" -p 5432 -U "$1" -d postgres; }
started=no role=postgres
while up && [ $(($(now) - begin)) -lt $((limit * 1000)) ]; do
  # Whoever made the cluster owns it; that its name is `postgres` is usual, and else it is its account's.
  for role in postgres "$(stat -c %U "$data")"; do
    [ "$(echo 'SELECT 1' | ask "$role" 2>/dev/null)" = 1 ] && started=yes && break 2
  done
  sleep 0.05
done
fact started $started
[ $started = yes ] || ! up || fact late yes
fact startMs $(($(now) - begin))
if [ $started = yes ] && [ "${QUERY:-}" ]; then
  fact answer "$(printf '%s\n' "$QUERY" | ask "$role" 2>&1 | tr '\n' ' ' | sed 's/ $//' | cut -c1-500)"
fi
if [ $started = yes ]; then
  kill -INT "$server" # a fast shutdown
  n=0
  while up && [ $((n += 1)) -le 300 ]; do sleep 0.1; done
fi
grep -E 'FATAL|PANIC|ERROR|database system|recovery|redo |record|invalid|consistent|last completed|unexpected' "$WORK/log" |
  grep -vE 'DETAIL: +Consistent recovery state has not|FATAL: +(the database system is (starting up|not yet)|role ".*" does not exist)|terminating connection due to administrator command' |
  head -n 40 | cut -c1-200 | sed 's/^/log: /'
[ $started = yes ]
