# The other half: asks each session whether its transaction still holds what it locked, and lets go.
NAME=postgresql BYE='\q'

main() {
  say "\\set word still.$$"
  say "$(noted question)"
  say "ROLLBACK;" # at once: nobody has to wait until the answers are read
  hear "still.$$" 10 "$(noted databases)" || fail 14 "the lock was lost, the session that held it does not answer: $(told)"
  [ "$HEARD" = "$(noted locked)" ] || fail 14 "the lock was lost: it was $(noted locked), it is $HEARD"
}
postscript "$@"
