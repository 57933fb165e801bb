# Part of the guest sequence: the prescript and the postscript, limited, never waited for too long. What vets them is in
# find.sh.

# Whoever launches a script, its own session takes the token, by a name that says who has it: the script starts once, and
# also when its parents die meanwhile. 99: another has the token.
LAUNCH='p=$1 by=$2; read -r s </proc/$$/stat; set -- $s
mv "$0.todo" "$0.started.$1.${22}.$by" 2>/dev/null || exit 99
umask 022; exec "$p" 6>&-'
READER='read -r s </proc/$$/stat; set -- $s; echo "$1 ${22}" >"$0.reader"; head -c 16384 >"$0.out"; exec cat >/dev/null'
script() { # PHASE PATH: RC is its exit code, `timeout`, or `taken` by another
  { [ -p "$D/$1.$MODE.ev" ] || mkfifo "$D/$1.$MODE.ev"; } && exec 6<>"$D/$1.$MODE.ev"
  now && begin=$NOW RC=lost
  {
    shut
    # The reader's own session outlives the sequence: a script that prints must not die of it.
    trap - PIPE HUP TERM # not after an exec: what a shell finds ignored at its start, it cannot reset
    APPSNAP_PHASE=$1 APPSNAP_RUN=$RUN APPSNAP_POLICY=$POLICY APPSNAP_DISKS=$DISKS APPSNAP_DEADLINE=$LIMIT \
      APPSNAP_MOUNTS=$(cut -d' ' -f6- "$D/fs" | tr '\n' ' ') APPSNAP_OUTCOME=$OUTCOME \
      setsid sh -c "$LAUNCH" "$D/$1" "$2" $$ </dev/null 2>&1
    echo $? >&6
  } | { shut && exec setsid sh -c "$READER" "$D/$1" 6>&-; } &
  (
    shut
    keep "$D/$1.$MODE.timer" # on a full /run it may fail
    n=0
    while [ $((n += 1)) -le "$LIMIT" ] && [ ! -e "$D/end" ]; do sleep 1; done # goes by itself when its parent is dead
    echo timeout >&6
  ) </dev/null >/dev/null 2>&1 &
  timer=$!
  read -r RC <&6
  kill -KILL $timer 2>/dev/null
  [ "$RC" = timeout ] && end_script "$1"
  exec 6>&-
  [ "$RC" != 99 ] || [ -e "$(echo "$D/$1".started.*.$$)" ] || RC=taken
  [ "$RC" = taken ] && return
  put "$1.exit" "$RC"
  case $RC in 0) step "${1}script" "$begin" ;; *) step "${1}script" "$begin" failed "exit $RC" ;; esac
}
begun() { set -- "$D/$1".started.* && [ -e "$1" ] && who=${1##*.started.}; } # PHASE: WHO is its process, start, launcher
at_work() { begun "$1" && b=${who#*.} && alive "${who%%.*}" "${b%%.*}"; }
end_script() { # PHASE: its whole group; one in D state is not waited for
  at_work "$1" && group TERM "${who%%.*}" && sleep 1 3>&- 9>&- && group KILL "${who%%.*}"
}
prescript() {
  RC=0
  [ "$SCRIPTS" ] || return 0
  true >"$D/pre.todo" && true >"$D/post.todo" || return 0
  OUTCOME=none # nothing is reached yet
  script pre "$PRE"
  case $RC in
  0) ;;
  75) why script.declined "75" ;;
  timeout) why script.timeout "prescript, $LIMIT s" ;;
  *) why script.failed "exit $RC" ;;
  esac
}
postscript() { # always, once a prescript has started; by whoever comes first
  mv "$D/pre.todo" "$D/pre.void" 2>/dev/null # from here on it cannot start any more
  begun pre || return 0
  grep -q '^pre.exit ' "$D/state" || end_script pre # the sequence died under it
  [ "$POST" ] || { POST=/tmp/postscript.sh && [ -e /etc/appsnap/postscript.sh ] && POST=/etc/appsnap/postscript.sh; }
  script post "$POST"
  n=0
  while [ "$RC" = taken ] && ! grep -q '^post.exit ' "$D/state" && at_work post; do # its parent died, or is at it
    [ $((n += 1)) -le "$LIMIT" ] || end_script post
    sleep 1 3>&- 9>&-
  done
  case $RC in
  0 | taken) ;;
  timeout) why script.timeout "postscript, $LIMIT s" ;;
  *) why script.post "exit $RC" ;;
  esac
}
