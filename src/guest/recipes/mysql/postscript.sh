# MySQL 5.7 and later: the lock goes with its session. Whether it stood up to now is asked in that very session; it cannot
# come back by itself once the session was lost, since the client does not connect again.
NAME=mysql BYE='\q'

main() {
  say "SELECT CONCAT('still ', CONNECTION_ID());"
  say "UNLOCK TABLES;"
  say "$BYE"
  hear still 10 || fail 14 "the lock was lost, its session is gone or does not answer: $(told)"
  [ "$HEARD" = "$(noted session)" ] || fail 14 "the lock was lost: session $(noted session) had it, this is $HEARD"
}

postscript "$@"
