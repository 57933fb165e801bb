# A lock of your own: what stands in /etc/appsnap/generic.conf is run with sh, as root, in the frame's runner. With nothing
# there it holds nothing, and says so. To build another recipe, copy this part and put your own words in its place.
#
#   lock_command    stops the writers, leaves all that counts on disk, ends with 0. Something else: fails with 11. What it
#                   leaves running in its process group is ended before the unlock
#   unlock_command  undoes that. Run once whatever happened, again while it fails; has to be fit for "nothing is locked"
#   check_command   is it still locked? Run by the postscript, before the unlock; 0 is yes. Without it nobody asks
#   mark_command    prints positions while it is locked, lines KEY=VALUE: they become marks
#   lock_wait       seconds that lock_command may take
#   hold            seconds after which unlock_command is run if no postscript has come
#
# A lock that lives in a client's session is lost when that client ends: see the recipes of the databases for those.
NAME=generic BYE=bye
lock_command='' unlock_command='' check_command='' mark_command='' lock_wait=30 hold=120
settings lock_command unlock_command check_command mark_command lock_wait hold

put_back() { sh -c "$unlock_command"; }

client() {
  sh -c "$lock_command" </dev/null || { echo "it ended with $?" && exit; }
  echo "$NAME: locked"
  while read -r line && [ "$line" != "$BYE" ]; do # `check WORD`
    sh -c "${check_command:-true}" </dev/null
    echo "${line#check } $?"
  done
}
main() {
  [ "$lock_command" ] && [ "$unlock_command" ] ||
    fail 2 "lock_command and unlock_command have to be set in /etc/appsnap/$NAME.conf, each as KEY=VALUE"
  number lock_wait 1 600 && number hold 10 3600
  will_change "unlock_command: $unlock_command"
  open_session $((lock_wait + hold))
  hear "$NAME: locked" "$lock_wait" ||
    fail 11 "lock_command did not come to an end with 0 in $lock_wait s: $lock_command: $(told)"
  hold_for "$hold"
  mark engine "$NAME"
  [ -z "$mark_command" ] || sh -c "$mark_command" 3>&- 9>&- | while IFS='=' read -r key value; do mark "$key" "$value"; done
}
prescript "$@"
