# MariaDB 10.4 and later. Before the lock: dirty pages are drained, for which four settings are changed. The lock is FLUSH
# TABLES WITH READ LOCK: it lets no new statement begin and waits for commits under way, so it often meets a moment in which
# no transaction has written; if it does not, it is let go at once and tried again. (BACKUP STAGE BLOCK_COMMIT stops each
# writer just before its commit: every copy would roll some back.) Under the lock purge and checkpoint are brought to their
# end, so that the copy has no log to replay. Nothing is set read-only: that would survive a dead holder.
# Settings, in /etc/appsnap/mariadb.conf:
#   socket=   the server's, if it is not the client's default
#   options=  an option file of root's, mode 0600, with user and password; without it root over the socket, or ~/.my.cnf
#             The user's rights: RELOAD, PROCESS, SUPER, BINLOG MONITOR, REPLICA MONITOR
#   role=     any, primary or replica: on the other one exit 75
#   drain=60  seconds for draining; wait=15 for open transactions and the lock; settle=5 under the lock,
#             for what is left to be written; 0 does not wait, and leaves a little log to replay
#   hold=120  the lock's end whatever happens
NAME=mariadb BYE='\q' socket='' options='' role=any drain=60 wait=15 settle=5 hold=120
FEW=500 # dirty pages which the lock's session writes in a moment

settings socket options role drain wait settle hold

client() {
  set -- --batch --skip-column-names --unbuffered --force --skip-reconnect --connect-timeout=5 --local-infile=0
  [ -z "$socket" ] || set -- --socket="$socket" "$@"
  [ -z "$options" ] || set -- --defaults-extra-file="$options" "$@"
  export HOME="${HOME:-/root}"
  exec "$(command -v mariadb || command -v mysql)" "$@"
}

put_back() { # a server that is gone has taken its settings with it
  read -r _ pid at <"$S/changed"
  [ "$pid" = - ] || { born "$pid" && [ "$BORN" = "$at" ]; } || return 0
  case $({ cat "$S/changed" && echo "SELECT 'back';"; } | client 2>&1) in *ERROR*) false ;; *back) ;; *) false ;; esac
}

LOST='ERROR \(1053\|1927\|2006\|2013\|4031\) ' # the client goes on without its server
asked=0
ask() { # SQL: ANSWER is what came; 1 where there was an error
  asked=$((asked + 1))
  say "SELECT 'begin $asked'; $1; SELECT 'end $asked';"
  hear "\(end $asked\$\|$LOST\)" 10 || [ $? = 1 ] || fail 16 "the server did not answer within 10 s: $1"
  grep -q "^end $asked\$" "$S/out" || fail 12 "the session with the server ended, or never began: $(told)"
  ANSWER=$(sed -n "/^begin $asked\$/,/^end $asked\$/p" "$S/out" | sed '1d;$d')
  ! refused
}
refused() { printf '%s\n' "$ANSWER" | grep -q '^ERROR '; }
unable() { fail 16 "the server refuses what the recipe has to ask: $ANSWER"; }
pause() { for _ in 1 2 3 4 5 6; do nap; done; }

check() {
  case $role in any | primary | replica) ;; *) fail 2 "/etc/appsnap/$NAME.conf: role is any, primary or replica" ;; esac
  number drain 0 600 && number wait 1 600 && number settle 0 50 && number hold 20 3600
  [ -z "$options" ] || case $(stat -Lc '%u %a' "$options" 2>&1) in
  '0 600' | '0 400') ;;
  *) fail 2 "$options must be root's, mode 0600: chown root:root $options; chmod 600 $options" ;;
  esac
  command -v mariadb >/dev/null || need mysql
}

greet() { # who is it, and is it its turn?
  ask "SET SESSION wait_timeout = 28800, lock_wait_timeout = 1; SELECT CONNECTION_ID(), @@version, @@pid_file, @@datadir,
    @@innodb_log_group_home_dir" || unable
  IFS='	' read -r session version pid_file datadir logdir <<EOT
$ANSWER
EOT
  case $version in *MariaDB*) ;; *) fail 16 "the server is $version, not MariaDB: use the recipe mysql" ;; esac
  ask "SHOW ALL SLAVES STATUS" || unable
  case $role/$ANSWER in
  replica/) fail 75 "not my turn: this server is no replica, and the role asked for is replica" ;;
  primary/?*) fail 75 "not my turn: this server is a replica, and the role asked for is primary" ;;
  esac
  ask "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('innodb_log_checkpoint_now', 'innodb_max_purge_lag_wait')"
  quick='' # newer servers end purge and checkpoint when they are told to
  case $ANSWER in *checkpoint_now*purge_lag_wait*) quick='SET SESSION max_statement_time = 0.3; SET GLOBAL
    innodb_max_purge_lag_wait = 0; SET SESSION max_statement_time = 0; SET GLOBAL innodb_log_checkpoint_now = 1;' ;; esac
}

look() { # FIRST: open, the transactions that have written, from a text that is never stale, as innodb_trx may be
  ask "$1SHOW ENGINE INNODB STATUS" || return 1
  open=$(printf '%s\n' "$ANSWER" | awk '{ at = index($0, "\\nTRANSACTIONS\\n") } at { told = 1
    rest = substr($0, at); n += gsub(/undo log entries|truncated\.\.\./, "", rest) } END { print told ? n + 0 : "unknown" }')
}
in_time() { tick && [ "$NOW" -lt "$end" ]; }
too_long() {
  ask "SELECT CONCAT('session ', trx_mysql_thread_id, ' since ', trx_started, ', ', trx_rows_modified, ' rows')
    FROM information_schema.innodb_trx WHERE trx_rows_modified > 0 ORDER BY trx_started LIMIT 1"
  fail 10 "transactions that have written stayed open for $wait s; the oldest: ${ANSWER:-ended now}: end it, or raise wait"
}

quiet() { # a lock while a long one is open would be in vain
  tick && end=$((NOW + wait))
  while ask "SELECT COUNT(*) FROM information_schema.innodb_trx
    WHERE trx_rows_modified > 0 AND trx_started < NOW() - INTERVAL 1 SECOND" || unable; [ "$ANSWER" != 0 ]; do
    in_time || too_long
    pause
  done
}

status() { # dirty pages, bytes of log behind the checkpoint, transactions to be purged, the end of the log
  ask "SELECT COALESCE(SUM(IF(variable_name = 'INNODB_BUFFER_POOL_PAGES_DIRTY', variable_value, 0)), 0),
    COALESCE(SUM(IF(variable_name = 'INNODB_CHECKPOINT_AGE', variable_value, 0)), 0),
    COALESCE(SUM(IF(variable_name = 'INNODB_HISTORY_LIST_LENGTH', variable_value, 0)), 0),
    MAX(IF(variable_name = 'INNODB_LSN_CURRENT', variable_value, ''))
    FROM information_schema.global_status" || unable
  # shellcheck disable=SC2086
  set -- $ANSWER
  digits "${1:-x}${2:-x}${3:-x}${4:-}" || unable
  dirty=$1 age=$2 history=$3 lsn=${4:-}
}

drain() {
  status
  [ "$dirty" -gt "$FEW" ] && [ "$drain" -gt 0 ] || return 0
  ask "SELECT @@GLOBAL.innodb_max_dirty_pages_pct, @@GLOBAL.innodb_max_dirty_pages_pct_lwm, @@GLOBAL.innodb_io_capacity,
    @@GLOBAL.innodb_io_capacity_max" || unable
  read -r pct lwm io io_max <<EOT
$ANSWER
EOT
  case $pct$lwm$io in *[!0-9.]*) unable ;; esac
  digits "$io_max" || unable
  case $pid_file in /*) ;; *) pid_file=$datadir/$pid_file ;; esac
  { [ -f "$pid_file" ] && read -r pid <"$pid_file" && digits "$pid" && born "$pid"; } 2>/dev/null || pid=-
  will_change "-- $pid ${BORN:-}
SET GLOBAL innodb_max_dirty_pages_pct = $pct; SET GLOBAL innodb_max_dirty_pages_pct_lwm = $lwm;
SET GLOBAL innodb_io_capacity = $io; SET GLOBAL innodb_io_capacity_max = $io_max;"
  more=$((io_max > 20000 ? io_max : 20000))
  ask "SET GLOBAL innodb_io_capacity_max = $more; SET GLOBAL innodb_io_capacity = $more;
    SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0" || unable
  tick && end=$((NOW + drain)) least=$dirty
  until_lower=$((NOW + 5)) # writers dirty pages all the time: what 5 s do not better stays
  while [ "$dirty" -gt "$FEW" ] && in_time && [ "$NOW" -lt "$until_lower" ]; do
    pause
    status
    [ "$dirty" -ge "$least" ] || { tick && least=$dirty until_lower=$((NOW + 5)); }
  done
}

lock() {
  tick && end=$((NOW + wait)) open=0
  while ! look "SET SESSION max_statement_time = 0.3; FLUSH TABLES WITH READ LOCK; SET SESSION max_statement_time = 0; " ||
    [ "$open" != 0 ]; do
    ! refused || got=$ANSWER open=0
    ask "UNLOCK TABLES"
    if ! in_time; then
      [ "$open" = 0 ] || too_long
      fail 11 "no lock within $wait s, a long statement or DDL stands in its way: $got"
    fi
    nap
    [ "$open" != 0 ] || sleep 1 3>&- 9>&- # the others have waited for this one
  done
}

aside() { # SQL, in another session: the one with the lock has to stay free to let go
  echo "$1" | client >/dev/null 2>&1 3>&- 9>&- &
  while kill -0 $! 2>/dev/null; do
    in_time || kill $!
    nap
  done
}
settled() { # nothing is left to be written, and purge will find nothing or cannot go on
  tick && end=$((NOW + settle)) calm=0 before=-1
  [ "$settle" -gt 0 ] || return 0
  while :; do
    [ -z "$quick" ] || aside "$quick"
    status
    calm=$((calm + 1))
    [ "$dirty" = 0 ] && [ "$age" -lt 1000 ] && { [ "$history" = 0 ] || [ "$history" = "$before" ]; } || calm=0
    before=$history
    case $quick in ?*) [ $calm -lt 1 ] ;; *) [ $calm -lt 25 ] ;; esac || return 0
    in_time || fail 16 "$settle s under the lock left $dirty dirty pages, $age bytes of log, or purge at work: raise drain"
    nap
  done
}

main() {
  check
  open_session $((drain + 2 * wait + settle + 60))
  greet
  quiet
  drain
  lock
  settled
  until look '' && [ "$open" = 0 ]; do
    in_time || too_long
    pause
  done
  back || fail 15 "a setting was not put back; what it was: $(cat "$S/changed")"
  hold_for "$hold"
  note session "$session" && { [ "$settle" = 0 ] || note lsn "$lsn"; }
  ask "SELECT @@gtid_current_pos; SHOW MASTER STATUS" || ANSWER=
  mark engine mariadb
  mark version "${version%%-*}"
  mark datadir "${datadir%/}"
  case $logdir in /*) ;; *) logdir=$datadir${logdir#./} ;; esac
  [ "${logdir%/}" = "${datadir%/}" ] || mark logdir "${logdir%/}"
  echo "$ANSWER" | awk -F '\t' 'NR == 1 && $1 { print "appsnap-mark: gtid=" $1 }
    NR > 1 && $2 { print "appsnap-mark: binlog=" $1 ":" $2 }'
}

prescript "$@"
