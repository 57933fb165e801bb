# Part of the guest sequence: the watchdog. Up before anything is frozen, in a session of its own, it outlives the
# agent and the sequence. A lifeline FIFO is written only by the sequence and its freezers: end of file means that no
# freeze can be in flight any more. One that takes a dead one's place finds on tmpfs how things stand.

watch() {
  trap '' HUP INT TERM PIPE QUIT
  keep "$D/watch"
  (: >"$D/life") & # if nobody has the lifeline any more, the next line does not wait
  exec 8<"$D/life" 7<>"$D/ev"
  (while read -r m <&8; do echo "$m" >&7; done && : || : && echo EOF >&7) &
  exec 8<&- 7<"$D/ev" # from here on only children can write: when all are dead, the next read tells
  n=0
  [ -e "$D/up" ] || while read -r _; do # holders that live serve whoever fires
    n=$((n + 1))
    (exec 7>&- && hold $n) &
  done <"$D/fs"
  ARMED='' DONE='' FIRED=''
  [ -e "$D/armed" ] && ARMED=1 && later 0 LATE # nobody is at work in that window any more
  [ -e "$D/over" ] && DONE=1
  later "$TOTAL" OVERDUE
  true >"$D/up"
  while :; do
    read -r m <&7 || { m=EOF && lives "$D/main" && m=OVERDUE; } # nobody is left to say anything
    case $m in
    ARM)
      ARMED=1
      later "$WINDOW" LATE
      later "$WINDOW" LATE # one clock may die
      true >"$D/armed"
      ;;
    DONE) DONE=1 && true >"$D/over" ;;
    LATE) [ "$DONE" ] || { fire && later 2 STUCK; } ;;
    STUCK) [ "$DONE" ] || overdue ;; # the sequence is stopped, or caught in a freeze
    OVERDUE) # past all its limits: the sequence is stopped or caught. Its end is told by EOF
      [ "$DONE" ] || fire
      lives "$D/main" && kill -KILL "$P"
      later 2 GONE
      ;;
    GONE) [ -e "$D/end" ] || { overdue && finish lost; } ;; # somebody else holds the lifeline: the thaws go on
    EOF)
      [ "$ARMED" ] && [ ! "$DONE" ] && fire
      true >"$D/eof"
      [ -e "$D/end" ] || calm # also what was set after it had fired
      [ "$FIRED" ] && exec 5<>"$D/last"
      looks=0
      [ "$FIRED" ] && while frozen_yet && [ $((looks += 1)) -le 100 ]; do sleep 0.05; done
      [ -e "$D/end" ] || {
        [ "$FIRED" ] && frozen_yet && why thaw.failed "a file system could not be thawed yet"
        overdue && finish lost
      }
      [ "$FIRED" ] && [ -e "$D/eof" ] && while frozen_yet; do sleep 0.5; done # told, and tried until it is thawed
      unlock # the sequence may have been killed on its last steps
      for c in /proc/[0-9]*/cmdline; do # children of a watchdog before this one
        l='' && read -r l <"$c"
        case $l in *"sequence.shwatch$D") p=${c%/*} && born "${p##*/}" && [ "$PGRP" != $$ ] && group KILL "$PGRP" ;; esac
      done
      group KILL $$
      ;;
    esac
  done
}
overdue() { # the postscript, which says what was reached for sure
  OUTCOME=none
  grep -q '^group ' "$D/state" && OUTCOME=crash
  postscript
  return 0
}
later() { (exec 7>"$D/ev" && sleep "$1"; echo "$2" >&7) & } # killed in its sleep it fires early: the safe side
frozen_yet() { # is one not known to be thawed since the last possible freeze? A holder that was killed is replaced
  n=0 yet=''
  while read -r _; do
    n=$((n + 1))
    [ -e "$D/through.$n" ] && continue
    yet=1
    lives "$D/held.$n" && [ "$STATE" != T ] || {
      (exec 7>&- && hold $n) &
      born $! && echo "$! $BORN" >"$D/held.$n" # at once, lest it be replaced again
    }
  done <"$D/fs"
  [ "$yet" ]
}
fire() { # `true`, since a special builtin such as `:` ends the shell when its redirection fails (no inode left)
  [ "$FIRED" ] && return 0
  FIRED=1
  true >"$D/fired" # said before it is done: nobody may believe in the freeze from here on
  exec 4<>"$D/go" # lets every holder go, and keeps the gate open for a late one
  lives "$D/conn" && kill -KILL "$P" 2>/dev/null
  (exec 4>&- 7>&- && : <"$D/gate") 2>/dev/null & # whoever waits at the gate waits no longer
  frozen_yet
  calm
}
at_mount() { # I: goes to where that file system is seen
  line=$(sed -n "${1}p" "$D/fs")
  at=${line#* * * * * } line=${line#* }
  reach "${line%% *}" "$at"
}
hold() { # I: a working directory keeps the file system in reach, even after a lazy unmount
  until at_mount "$1"; do fired && sleep 0.2 || exit 1; done
  for g in go last; do (true <"$D/$g" && mine "$1" && exec fsfreeze --unfreeze .) & done # for when no fork is to be had
  keep "$D/new.$1" && mv "$D/new.$1" "$D/held.$1"
  until true <"$D/go"; do :; done # sleeps here until the watchdog fires
  while :; do # never in turn, since this one may hang behind a freeze in flight
    over='' && [ -e "$D/eof" ] && over=1
    t=nvalid
    mine "$1" && { t=$(fsfreeze --unfreeze . 2>&1) && t=nvalid; }
    case $over$t in 1*nvalid*) true >"$D/through.$1"; exit ;; esac # thawed, and after the last possible freeze
    sleep 0.1
  done
}
mine() { # I: may it be frozen by us?
  was='' && read -r was <"$D/fz.$1"
  case $was in '' | *busy*) return 1 ;; esac # our freezer did not start, or came second
  [ -e "$D/armed" ] && [ ! -e "$D/thawed" ]
}
settle() { # the result was lost: what became of the run, finished if it has to be
  n=0
  while [ ! -e "$D/end" ]; do
    ! lives "$D/main" && [ $((n += 1)) -le 25 ] || tell running 23 # its own limits end it
    if lives "$D/watch" && [ "$STATE" = T ]; then group KILL "$P" && sleep 0.2; fi # stopped: no watchdog
    if lives "$D/watch"; then sleep 0.2; elif [ -e "$D/up" ]; then start_again; else finish lost; fi # or nothing was begun
  done
  LINE=$(cat "$D/report") && say
}
start_again() { # another watchdog in the place of a dead one; it finds on tmpfs how things stand
  (shut && trap - PIPE HUP && exec setsid sh "$D/sequence.sh" watch "$D") </dev/null >/dev/null 2>&1 &
  sleep 0.5
}
