# MySQL 5.7 and later. Before the lock: dirty pages are drained, for which four settings are changed. The lock is FLUSH
# LOCAL TABLES WITH READ LOCK: it lets no new statement begin and waits for commits under way, so it often meets a moment in
# which no transaction has written; if it does not, it is let go at once and tried again. Here it also waits for reading
# statements, and what it waited for in vain stays blocked for all others until it ends: so it is not even tried while a
# statement runs for more than a second. From 8.0 on LOCK INSTANCE FOR BACKUP keeps DDL out beside it. Nothing is set
# read-only: that would survive a dead holder.
# Settings, in /etc/appsnap/mysql.conf:
#   socket=   the server's, if it is not the client's default
#   options=  an option file of root's, mode 0600, with user and password; without it root over the socket, or ~/.my.cnf
#             The user's rights: RELOAD, PROCESS, SYSTEM_VARIABLES_ADMIN, BACKUP_ADMIN, REPLICATION CLIENT; before 8.0 SUPER
#   role=     any, primary or replica: on the other one exit 75
#   drain=60  seconds for draining; wait=15 for open transactions and the lock; settle=10 under the lock,
#             for what is left to be written: 8.0 took 2 to 5 for its checkpoint; 0 leaves some log to replay
#   hold=120  the lock's end whatever happens
NAME=mysql BYE='\q' socket='' options='' role=any drain=60 wait=15 settle=10 hold=120
FEW=500 # dirty pages which the lock's session writes in a moment

settings socket options role drain wait settle hold

client() {
  set -- --batch --skip-column-names --unbuffered --force --skip-reconnect --connect-timeout=5 --local-infile=0
  [ -z "$socket" ] || set -- --socket="$socket" "$@"
  [ -z "$options" ] || set -- --defaults-extra-file="$options" "$@"
  export HOME="${HOME:-/root}"
  exec mysql "$@"
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
  need mysql
}

greet() { # who is it, and is it its turn?
  ask "SET SESSION wait_timeout = 28800, lock_wait_timeout = 1; SELECT CONNECTION_ID(), @@version, @@pid_file, @@datadir,
    @@innodb_log_group_home_dir" || unable
  IFS='	' read -r session version pid_file datadir logdir <<EOT
$ANSWER
EOT
  case $version in *MariaDB*) fail 16 "the server is $version, not MySQL: use the recipe mariadb" ;; esac
  number=$(echo "$version" | awk -F '[.-]' '{ print $1 * 10000 + $2 * 100 + $3 }') # 80034
  replica='SHOW SLAVE STATUS' binlog='SHOW MASTER STATUS' instance=''
  [ "$number" -lt 80000 ] || instance='LOCK INSTANCE FOR BACKUP;'
  [ "$number" -lt 80022 ] || replica='SHOW REPLICA STATUS'
  [ "$number" -lt 80200 ] || binlog='SHOW BINARY LOG STATUS'
  ask "$replica; SELECT 'read-only' FROM DUAL WHERE @@GLOBAL.super_read_only" || unable # as in a group
  case $role/$ANSWER in
  replica/) fail 75 "not my turn: this server is no replica, and the role asked for is replica" ;;
  primary/?*) fail 75 "not my turn: this server is a replica, and the role asked for is primary" ;;
  esac
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

status() { # dirty pages, bytes of log behind the checkpoint, transactions to be purged
  ask "SHOW ENGINE INNODB STATUS" || unable
  # shellcheck disable=SC2046
  set -- $(printf '%s\n' "$ANSWER" | sed 's/\\n/\
/g' | awk '/^History list length/ { history = $4 } /^Log sequence number/ { lsn = $4 } /^Last checkpoint at/ { at = $4 }
    /^Modified db pages/ && dirty == "" { dirty = $4 } END { printf "%d %.0f %d\n", dirty, lsn - at, history }')
  dirty=$1 age=$2 history=$3
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

long() { # what FLUSH TABLES would wait for: RUNS is one of the statements of more than a second
  ask "SHOW FULL PROCESSLIST" || unable
  RUNS=$(printf '%s\n' "$ANSWER" | awk -F '\t' -v own="$session" '($5 == "Query" || $5 == "Execute") && $6 >= 1 &&
    $1 != own { print "session", $1, "since", $6, "s:", substr($8, 1, 80); exit }')
  [ "$RUNS" ]
}
lock() {
  tick && end=$((NOW + wait)) open=0 got=''
  flush="FLUSH LOCAL TABLES; " # without a lock, so that less is left to be closed under it
  while long || ! look "$flush$instance FLUSH LOCAL TABLES WITH READ LOCK; " || [ "$open" != 0 ]; do
    flush=''
    if [ "$RUNS" ] || refused; then got=${RUNS:-$ANSWER} open=0; fi
    ask "UNLOCK TABLES"
    if ! in_time; then
      [ "$open" = 0 ] || too_long
      fail 11 "no lock within $wait s, a long statement or DDL stands in its way: $got"
    fi
    nap
    [ "$open" != 0 ] || sleep 1 3>&- 9>&- # the others have waited for this one
  done
}

settled() { # nothing is left to be written, and purge has nothing to do or cannot go on
  tick && end=$((NOW + settle)) calm=0 before=-1
  [ "$settle" -gt 0 ] || return 0
  while [ "$calm" -lt 3 ]; do
    status
    calm=$((calm + 1))
    [ "$dirty" = 0 ] && [ "$age" -lt 1000 ] && [ "$history" = "$before" ] || calm=0
    before=$history
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
  note session "$session"
  ask "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', ''); $binlog" || ANSWER=
  mark engine mysql
  mark version "${version%%-*}"
  mark datadir "${datadir%/}"
  case $logdir in /*) ;; *) logdir=$datadir${logdir#./} ;; esac
  [ "${logdir%/}" = "${datadir%/}" ] || mark logdir "${logdir%/}"
  echo "$ANSWER" | awk -F '\t' 'NR == 1 && $1 { print "appsnap-mark: gtid=" $1 }
    NR > 1 && $2 { print "appsnap-mark: binlog=" $1 ":" $2 }'
}

prescript "$@"
