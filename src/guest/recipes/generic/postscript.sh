# The other half: asks check_command, then lets unlock_command run.
NAME=generic BYE=bye

main() {
  say "check answer.$$"
  say "$BYE"
  hear "answer.$$" 10 || fail 14 "the lock was let go before the postscript came, or its keeper does not answer: $(told)"
  [ "$HEARD" = 0 ] || fail 14 "check_command says that it is locked no more (exit $HEARD): $(told)"
}
postscript "$@"
