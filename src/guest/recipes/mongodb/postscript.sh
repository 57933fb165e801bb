# MongoDB: still locked, by the same server; then unlocked in the same session, until the server says so.
NAME=mongodb BYE=exit

main() {
  say 's = run({ serverStatus: 1 }); tell("still", [locked(), s.pid, Math.round((s.localTime || new Date(0)).getTime() / 1000 - (s.uptime || 0))].join(" "));'
  hear still 20 || fail 14 "the session that locked is gone: by its deadline, hold in /etc/appsnap/mongodb.conf, or killed: $(told)"
  # shellcheck disable=SC2046,SC2086
  set -- $HEARD $(noted server)
  [ "$1" = true ] || fail 14 "the server is not locked any more: somebody's db.fsyncUnlock(), or it was started anew"
  [ "$2" = "$4" ] && digits "$3" && digits "$5" && [ $(($3 - $5)) -ge -5 ] && [ $(($3 - $5)) -le 5 ] || fail 14 "the server was started anew during the lock"
  say "$UNLOCK"
  say 'tell("after", locked());'
  hear after 20 && [ "$HEARD" = false ] || fail 15 "the server stays locked: db.fsyncUnlock(); $(told)"
  rm -f "$S/changed" # nothing to put back
}
UNLOCK='for (var n = 0; n < 100 && locked(); n++) { run({ fsyncUnlock: 1 }); }'
postscript "$@"
