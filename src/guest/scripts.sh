# Part of the guest sequence: the user's prescript and postscript, vetted, limited, never waited for too long.

vet() { # PHASE PATH: WRONG is empty, or a code and a sentence
  put "$1.path" "$2"
  WRONG=''
  if [ -L "$2" ]; then WRONG="symlink $2 is a symbolic link"
  elif [ ! -e "$2" ]; then WRONG="missing $2 does not exist"
  elif [ ! -f "$2" ]; then WRONG="type $2 is not a regular file"
  else
    put "$1.sha256" "$(sha256sum "$2" | cut -c1-64)"
    owner=$(stat -c %u "$2") mode=$(stat -c %a "$2") dir=${2%/*}
    up=$(stat -c %a "${dir:-/}")
    if [ "$owner" != 0 ]; then WRONG="owner $2 belongs to uid $owner, not to root"
    elif [ "$mode" != 700 ]; then WRONG="mode $2 has mode 0$mode, not 0700"
    elif [ "$(stat -c %u "${dir:-/}")" != 0 ] || [ $((0$up & 022)) != 0 ] && [ $((0$up & 01000)) = 0 ]; then
      WRONG="parent ${dir:-/} can be written by others than root"
    fi
  fi
}
vet_scripts() { # SCRIPTS is set when both may run: one alone would leave a lock behind, or open a foreign one
  SCRIPTS=''
  [ "$WANT" = application ] || return 0
  for s in pre post; do
    [ $s = pre ] && path=$PRE || path=$POST
    if [ ! "$path" ]; then
      path=/tmp/${s}script.sh
      [ -e "/etc/appsnap/${s}script.sh" ] && path=/etc/appsnap/${s}script.sh
    fi
    [ $s = pre ] && PRE=$path || POST=$path
    vet $s "$path"
    [ "$WRONG" ] && why "script.${WRONG%% *}" "${WRONG#* }"
  done
  case $BAD in *' script.'*) ;; *) SCRIPTS=1 ;; esac
}

script() { # PHASE PATH: RC is its exit code, or `timeout`
  rm -f "$D/$1.ev"
  mkfifo "$D/$1.ev" && exec 6<>"$D/$1.ev"
  now && begin=$NOW
  {
    APPSNAP_PHASE=$1 APPSNAP_RUN=$RUN APPSNAP_POLICY=$POLICY APPSNAP_DISKS=$DISKS APPSNAP_DEADLINE=$LIMIT \
      APPSNAP_MOUNTS=$(cut -d' ' -f6- "$D/fs" | tr '\n' ' ') APPSNAP_OUTCOME=$OUTCOME \
      setsid sh -c 'echo $$ >"$0"; umask 022; trap - PIPE HUP INT TERM QUIT; exec "$1"' "$D/$1.pid" "$2" </dev/null 2>&1 6>&-
    echo $? >&6
  } 3>&- 4>&- 5<&- 7>&- 9>&- | { exec 3>&- 4>&- 6>&- 7>&- 9>&- && head -c 16384 >"$D/$1.out" && exec cat >/dev/null; } &
  echo $! >"$D/$1.reader" # a lock holder may keep the output open: nobody waits for its end
  setsid sh -c 'sleep "$0"; echo timeout >"$1"' "$LIMIT" "$D/$1.ev" </dev/null >/dev/null 2>&1 3>&- 4>&- 5<&- 6>&- 7>&- 9>&- &
  timer=$!
  echo $timer >"$D/$1.timer"
  read -r RC <&6
  group KILL $timer
  [ "$RC" = timeout ] && end_script "$1"
  exec 6>&-
  put "$1.exit" "$RC"
  case $RC in 0) step "${1}script" "$begin" ;; *) step "${1}script" "$begin" failed "exit $RC" ;; esac
}
end_script() { # PHASE: its whole group; one in D state is not waited for
  read -r p 2>/dev/null <"$D/$1.pid" && group TERM "$p" && sleep 1 9>&- && group KILL "$p"
}
prescript() {
  RC=0
  [ "$SCRIPTS" ] || return 0
  : >"$D/pre.started"
  script pre "$PRE"
  case $RC in
  0) ;;
  75) why script.declined "the prescript said: not my turn (75)" ;;
  timeout) why script.timeout "the prescript took longer than $LIMIT s" ;;
  *) why script.failed "the prescript exited with $RC" ;;
  esac
}
postscript() { # always, once a prescript has started; by whoever claims it first
  [ -e "$D/pre.started" ] && mkdir "$D/post.claim" 2>/dev/null || return 0
  grep -q '^pre.exit ' "$D/state" || end_script pre # the sequence died under it
  put post.by "$MODE"
  [ "$POST" ] || { POST=/tmp/postscript.sh && [ -e /etc/appsnap/postscript.sh ] && POST=/etc/appsnap/postscript.sh; }
  script post "$POST"
  case $RC in
  0) ;;
  timeout) why script.timeout "the postscript took longer than $LIMIT s" ;;
  *) why script.post "the postscript exited with $RC" ;;
  esac
}
