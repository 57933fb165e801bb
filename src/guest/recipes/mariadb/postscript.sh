# MariaDB 10.4 and later: the lock goes with its session. Whether it stood up to now is asked in that very session; it cannot
# come back by itself once the session was lost, since the client does not connect again. Neither FLUSH TABLES WITH READ LOCK
# nor a purge that seemed to be through keeps InnoDB from writing for itself (statistics, purge): what it wrote would be replayed.
NAME=mariadb BYE='\q'

main() {
  say "SELECT CONCAT('still ', CONNECTION_ID()); SELECT CONCAT('end-of-log ', MAX(IF(variable_name = 'INNODB_LSN_CURRENT',
    variable_value, ''))) FROM information_schema.global_status;"
  say "UNLOCK TABLES;"
  say "$BYE"
  hear still 10 || fail 14 "the lock was lost, its session is gone or does not answer: $(told)"
  [ "$HEARD" = "$(noted session)" ] || fail 14 "the lock was lost: session $(noted session) had it, this is $HEARD"
  lsn=$(noted lsn)
  [ "$lsn" ] || return 0
  hear end-of-log 10 || fail 14 "the lock was lost, its session does not answer: $(told)"
  digits "$HEARD" || fail 16 "the server's answer is no position in its log: $HEARD"
  [ $((HEARD - lsn)) -lt 1000 ] ||
    fail 16 "the server wrote $((HEARD - lsn)) bytes of log of its own under the lock: a copy of it replays them"
}

postscript "$@"
