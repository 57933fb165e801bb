# PostgreSQL 12 to 17. On a primary: checkpoints, waits for open transactions that have written, locks all tables of all
# databases against writers (readers go on), and makes one more checkpoint, so that the copy has nothing to replay but that
# checkpoint's own record. On a standby, where the role allows one: a restartpoint; it has no writers, nothing is held.
#
# Settings, /etc/appsnap/postgresql.conf:
#   role=primary        primary | standby | any: a server of the other kind ends this with 75, "not my turn"
#   wait=30             seconds for transactions that have written and have been open for a second; then 10
#   lock_wait=10        seconds for the lock, then 11
#   attempt=500         milliseconds of one attempt, in which new writers queue behind it; they get as much time in between.
#                       Well below the server's deadlock_timeout (1 s), lest a transaction of an application be given up
#   hold=120            seconds after which the lock is let go if no postscript has come
#   user=postgres       the system's and the server's name of a superuser who may log in through the socket (`peer`)
#   socket, port=5432   the socket's directory; else /run/postgresql or /tmp
#   database=postgres   one that this user may always connect to
#   psql                its path; else the newest one that is installed
#
# Not used: pg_backup_start and its ancestor (so 12-14 and 15+ are the same here). They serve copies that are not of one
# moment; a group is, and a server that finds the backup_label of one in its data does not start without an archive.
# Not stopped: nextval, CREATE of new tables, REFRESH of materialized views, and what reads write (pruning, hint bits). All
# that is logged as ever, it makes the redo longer, not wrong. Unlogged tables are empty on the copy, as after any crash:
# the mark `unlogged` counts them.
NAME=postgresql BYE='\q'
role=primary wait=30 lock_wait=10 attempt=500 hold=120 user=postgres socket='' port=5432 database=postgres psql=''
settings role wait lock_wait attempt hold user socket port database psql

# psql in DATABASE with SQL on stdin, as the user himself, so that no password is needed; it replaces the calling shell.
connect() {
  unset HOME
  export PGDATABASE="$1"
  set -- "$PSQL" -XqAtw -v ON_ERROR_STOP=1
  if setpriv --reuid "$PGUID" --regid "$PGGID" --init-groups true 2>/dev/null; then
    exec setpriv --reuid "$PGUID" --regid "$PGGID" --init-groups "$@"
  elif command -v runuser >/dev/null; then
    exec runuser -u "$PGUSER" -- "$@"
  fi
  exec su -s /bin/sh "$PGUSER" -c "exec $*"
}
ask() { # SQL; what the server warns of (a collation's version) is no answer
  printf '%s\n' "$1" | (connect "$database" 2>"$S/warned" 3>&- 9>&-) || { cat "$S/warned" && return 1; }
}

# One psql for each database, since locks are a database's own. All read the same lines; when one ends, all do.
client() {
  read -r tee _ </proc/self/stat && n=0 && set --
  while IFS= read -r base; do
    n=$((n + 1)) && mkfifo "$S/to.$n" && set -- "$@" "$S/to.$n"
    { (connect "$base") <"$S/to.$n"; kill "$tee" 2>/dev/null; } &
  done <"$S/databases"
  exec tee "$@" >/dev/null
}

# Who has written and not committed; a prepared transaction stays so over a crash, and keeps its locks.
written() { # SECONDS that it has been open
  ask "SELECT format('%s: process %s of %s since %s', datname, pid, coalesce(usename, backend_type), xact_start)
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start <= clock_timestamp() - interval '$1 s'
    AND backend_type <> 'autovacuum worker'
    UNION ALL SELECT format('%s: prepared transaction %s of %s since %s', database, gid, owner, prepared) FROM pg_prepared_xacts
    WHERE prepared <= clock_timestamp() - interval '$1 s'"
}
none_written() { # SECONDS OPEN
  tick && end=$((NOW + $1))
  while who=$(written "$2") && [ "$who" ]; do
    tick && [ "$NOW" -lt "$end" ] ||
      fail 10 "transactions have written and stay open; end them, or raise wait: $(echo "$who" | head -n 3)"
    nap
  done
  [ -z "$who" ] || fail 16 "cannot look for open transactions: $who"
}
checkpoint() { lsn=$(ask "CHECKPOINT; SELECT $1;") || fail 16 "CHECKPOINT failed: $lsn"; } # LSN's function

TABLES="pg_class WHERE relkind IN ('r', 'p') AND relpersistence <> 't'
  AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'pg_toast'))
  OR oid = 'pg_largeobject'::regclass"
# EXCLUSIVE stops INSERT, UPDATE, DELETE, DDL and SELECT FOR UPDATE, which writes too (SHARE would let that pass). A table that
# had to be waited for in vain comes first in the next attempt: whoever holds it may want one that was locked before it.
lock() {
  cat <<SQL
BEGIN ISOLATION LEVEL READ COMMITTED;
DO \$lock\$
DECLARE
  late timestamptz := clock_timestamp() + interval '$lock_wait s';
  began timestamptz;
  first oid[] := '{}';
  it record;
BEGIN
  LOOP
    began := clock_timestamp();
    BEGIN
      FOR it IN SELECT oid, relnamespace::regnamespace AS space, relname AS name FROM $TABLES
        ORDER BY array_position(first, oid), oid
      LOOP
        PERFORM set_config('lock_timeout', greatest(1, $attempt
          - floor(1000 * extract(epoch FROM clock_timestamp() - began)))::text, true);
        EXECUTE format('LOCK TABLE ONLY %s.%I IN EXCLUSIVE MODE', it.space, it.name);
      END LOOP;
      RETURN;
    EXCEPTION WHEN lock_not_available OR deadlock_detected OR undefined_table OR invalid_schema_name THEN
      IF clock_timestamp() > late THEN RAISE; END IF;
      first := it.oid || first;
    END;
    PERFORM pg_sleep(0.02 + extract(epoch FROM clock_timestamp() - began));
  END LOOP;
END \$lock\$;
SQL
}
# The same transaction of the same session with the same locks gives the same answer, here and in the postscript.
QUESTION="SELECT concat_ws(' ', :'word', current_database(), pg_backend_pid(), extract(epoch FROM now()), count(*)) FROM pg_locks
  WHERE pid = pg_backend_pid() AND locktype = 'relation' AND mode = 'ExclusiveLock' AND granted;"

marks() {
  mark engine "$NAME" && mark version "$version" && mark datadir "$data"
  wal=$(readlink -f "$data/pg_wal") && [ "$wal" = "$data/pg_wal" ] || mark logdir "$wal"
  mark lsn "$lsn"
}

main() {
  number wait 0 3600 && number lock_wait 1 600 && number attempt 10 60000 && number hold 10 3600 && number port 1 65535
  limit=${APPSNAP_DEADLINE:-600}
  [ "$wait" -le $((limit / 2)) ] || wait=$((limit / 2))
  case $role in primary | standby | any) ;; *) fail 2 "role has to be primary, standby or any, not \"$role\"" ;; esac
  need tee readlink
  PGUID=$(id -u "$user" 2>/dev/null) && PGGID=$(id -g "$user") || fail 2 "there is no user \"$user\" here: set user"
  PSQL=${psql:-$(find_psql)} && [ -x "$PSQL" ] || fail 13 "psql is not installed: install PostgreSQL's client, or set psql"
  [ "$socket" ] || for socket in /run/postgresql /var/run/postgresql /tmp; do [ ! -S "$socket/.s.PGSQL.$port" ] || break; done
  export PGUID PGGID PSQL PGHOST="$socket" PGPORT="$port" PGUSER="$user" PGAPPNAME=appsnap PGCONNECT_TIMEOUT=10
  # What roles and databases set must not end the session. A low deadlock_timeout makes this session the one that gives way
  # where it locks crosswise with an application, and makes autovacuum give way to it at once.
  # The search_path keeps out what a database's owner calls by the names of the system's functions: we are superuser.
  export PGOPTIONS="-c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0 -c deadlock_timeout=20ms \
-c client_min_messages=warning \
-c idle_in_transaction_session_timeout=$((hold + 10))s"

  said=$(ask "SELECT concat_ws('|', pg_is_in_recovery(), current_setting('is_superuser'), current_setting('server_version'),
    current_setting('max_locks_per_transaction')::int
    * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
    current_setting('max_connections')::int - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    current_setting('data_directory'))") ||
    fail 12 "cannot log in through $socket/.s.PGSQL.$port as $user: $said. Cure: start the server, or set socket, port, user"
  IFS='|' read -r standby super version room free data <<SQL
$said
SQL
  digits "$room" && digits "$free" || fail 16 "cannot read the server's settings: $said"
  [ "$super" = on ] || fail 12 "$user is no superuser of the server: CHECKPOINT and LOCK need one; set user"
  version=${version%% *} && data=$(readlink -f "$data")
  case $role.$standby in
  primary.t) fail 75 "this is a standby, and role=primary" ;;
  standby.f) fail 75 "this is a primary, and role=standby" ;;
  *.t)
    checkpoint 'pg_last_wal_replay_lsn()'
    marks
    return
    ;;
  esac

  # CHECKPOINT goes at full speed in these versions, whatever checkpoint_completion_target says. The second one has little
  # left to write, and the third one next to nothing.
  checkpoint 'pg_current_wal_insert_lsn()'
  none_written "$wait" 1
  checkpoint 'pg_current_wal_insert_lsn()'

  ask 'SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2' >"$S/databases" ||
    fail 16 "cannot list the databases: $(cat "$S/databases")"
  count=$(wc -l <"$S/databases")
  [ $((free - count)) -ge 5 ] || fail 11 "$count databases need a connection each, and the server has room for $free more: \
raise max_connections"
  open_session $((lock_wait + 60))
  # 17 has the first, 14 the second: a server whose psql was killed stops waiting for the locks.
  say "SELECT set_config(name, CASE name WHEN 'transaction_timeout' THEN '0' ELSE '500ms' END, false) FROM pg_settings
    WHERE name IN ('transaction_timeout', 'client_connection_check_interval') \\g /dev/null"
  say "SELECT concat_ws(' ', 'tables', count(*), count(*) FILTER (WHERE relpersistence = 'u')) FROM $TABLES;"
  hear tables 30 "$count" || fail 12 "not every database lets $user in, or not in 30 s: $(told)"
  tables=$(echo "$HEARD" | awk '{ n += $1 } END { print n }') unlogged=$(echo "$HEARD" | awk '{ n += $2 } END { print n }')
  # Who fills the server's lock table makes other sessions fail.
  [ "$tables" -le $((room / 2)) ] || fail 11 "$tables tables are more than half of the $room locks that the server has room for: \
raise max_locks_per_transaction"
  hold_for $((hold + lock_wait))
  say '\set word locked'
  say "$(lock)"
  say "$QUESTION"
  hear locked $((lock_wait + 5)) "$count" || { none_written 0 1 && fail 11 "the tables were not locked in $lock_wait s: $(told)"; }
  hold_for "$hold"
  # Whoever wrote to a table would have kept us waiting: what is left has made tables, or written to temporary ones.
  none_written 1 0
  checkpoint 'pg_current_wal_insert_lsn()'
  note question "$QUESTION" && note locked "$HEARD" && note databases "$count"
  marks
  [ "$unlogged" = 0 ] || mark unlogged "$unlogged"
}
find_psql() { # a newer psql talks to older servers; Debian's /usr/bin/psql is a wrapper that is slow to start
  found=$(command -v psql)
  for file in /usr/local/pgsql/bin/psql /usr/pgsql-[1-9][0-9]/bin/psql /usr/lib/postgresql/[1-9][0-9]/bin/psql; do
    [ ! -x "$file" ] || found=$file
  done
  [ "$found" ] && echo "$found"
}
prescript "$@"
