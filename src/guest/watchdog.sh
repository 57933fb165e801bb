# Part of the guest sequence: the watchdog. Up before anything is frozen, in a session of its own, it outlives the
# agent and the sequence. A lifeline FIFO is written only by the sequence and its freezers: end of file means that no
# freeze can be in flight any more.

watch() {
  trap '' HUP INT TERM PIPE QUIT
  exec 8<"$D/life" 7<>"$D/ev" # returns when the sequence has opened its end
  (exec 7>"$D/ev" && while read -r m <&8; do echo "$m" >&7; done && : || : && echo EOF >&7) &
  exec 8<&-
  n=0
  while read -r _; do
    n=$((n + 1))
    sh "$D/sequence.sh" hold "$D" $n 7>&- &
  done <"$D/fs"
  ARMED='' DONE='' FIRED=''
  later "$TOTAL" OVERDUE
  true >"$D/up"
  while read -r m <&7; do
    case $m in
    ARM)
      ARMED=1
      later "$WINDOW" LATE
      true >"$D/armed"
      ;;
    DONE) DONE=1 && true >"$D/over" ;;
    LATE) [ "$DONE" ] || { fire && later 2 STUCK; } ;;
    STUCK) [ "$DONE" ] || { OUTCOME=crash && postscript; } ;; # the sequence is stopped, or caught in a freeze
    OVERDUE) fire && OUTCOME=crash && postscript ;;
    EOF)
      [ "$ARMED" ] && [ ! "$DONE" ] && fire
      true >"$D/eof"
      [ "$FIRED" ] && while holding; do sleep 0.05; done
      [ -e "$D/end" ] || { OUTCOME=crash && postscript && finish lost; }
      group KILL $$ # timers and idle holders are in this group
      ;;
    esac
  done
}
later() { (sleep "$1" && echo "$2" >"$D/ev") 7>&- & }
holding() { # is a holder still at work?
  for h in "$D"/held.*; do read -r p b 2>/dev/null <"$h" && alive "$p" "$b" && return 0; done
  return 1
}
fire() { # `true`, since a special builtin such as `:` ends the shell when its redirection fails (no inode left)
  [ "$FIRED" ] && return 0
  FIRED=1
  true >"$D/fired" # said before it is done: nobody may believe in the freeze from here on
  exec 4<>"$D/go" # lets every holder go, and keeps the gate open for a late one
  read -r p 2>/dev/null <"$D/conn.pid" && kill -KILL "$p" 2>/dev/null
  (: <"$D/gate") 4>&- 7>&- 2>/dev/null & # whoever waits at the gate waits no longer
}
hold() { # I: a working directory keeps the file system in reach, even after a lazy unmount
  trap '' HUP INT TERM PIPE QUIT
  line=$(sed -n "${1}p" "$D/fs")
  at=${line#* * * * * } line=${line#* }
  reach "${line%% *}" "$at" || exit 1
  born $$ && echo "$$ $BORN" >"$D/new.$1" && mv "$D/new.$1" "$D/held.$1"
  : <"$D/go" # sleeps here until the watchdog fires
}
thaw_until_over() { # I: never in turn, since this one may hang behind a freeze in flight
  while :; do
    over='' && [ -e "$D/eof" ] && over=1
    [ -e "$D/armed" ] || exit 0 # never frozen by us
    [ -e "$D/theirs.$1" ] || fsfreeze --unfreeze . >/dev/null 2>&1
    [ "$over" ] && exit 0 # this thaw came after the last possible freeze
    sleep 0.1
  done
}
