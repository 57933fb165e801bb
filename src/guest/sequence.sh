# appsnap's guest sequence: quiesce, freeze, one signed request, thaw, report.
#
#   sh sequence.sh go DIR      the run itself; DIR (on tmpfs) holds `data`, what the function knows
#   sh sequence.sh watch DIR   the watchdog, in a session of its own
#   sh sequence.sh hold DIR I  holds file system I by a working directory and thaws it when told
#   sh sequence.sh find DIR    the first command: only looks at disks, file systems, scripts, tools
#   sh sequence.sh settle DIR  the second command: what became of a run whose result was lost
#
# POSIX sh with what dash, bash and busybox share. It holds no credential: only signatures that are good for minutes
# and for one group. Descriptors: 3 the agent's stdout, 4 to openssl (in the watchdog: the holders' gate), 5 answers of
# the cloud, 6 events of a script, 7 events of the watchdog, 8 and 9 the lifeline (read, write).
set -u
MODE=$1 D=$2
umask 077
trap '' PIPE HUP # the agent's pipe may close in mid-freeze: go on
export LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin
R=${APPSNAP_ROOT:-}
BAD='' OUTCOME=none GROUP='' REQUEST='' SCRIPTS='' WATCH='' FROZEN=0 POLLS=0 TRIES='' SHOWN='' EARLY='' STUCK='' lock=/run/appsnap/lock START='' CODE=000 TOOK=0
for f in data rest.sh; do # what the function knows; scripts, watchdog and requests, which come with the second command
  # shellcheck source=/dev/null
  [ -e "$D/$f" ] && . "$D/$f"
done

# ---- state: one line a fact, on tmpfs; the report is made from it, whoever makes it
put() { # a reserve is there for a full /run; that it was needed is told, since other files may be cut
  printf '%s %s\n' "$1" "$2" 2>/dev/null >>"$D/state" || { rm -f "$D/spare" && printf '\n%s %s\n' "$1" "$2" >>"$D/state"; }
}
note() { put note "$1 ${2:-}"; }
why() { # CODE DETAIL: the level is lower for it
  put reason "$1 ${2:-}"
  BAD="$BAD $1"
}
level() { # what the reasons so far leave; the function decides again, from all evidence
  case $BAD in
  *' state.'* | *' disk.'* | *' fs.'* | *' freeze.'* | *' thaw.'* | *' watchdog.'* | *' group.'*) OUTCOME=crash ;;
  *' script.'*) OUTCOME=filesystem ;;
  *) OUTCOME=filesystem && [ "$SCRIPTS" ] && OUTCOME=application ;;
  esac
}
enough() { # is what can still be reached at or above the minimum?
  level
  case $MIN.$OUTCOME in application.application | filesystem.[fa]* | crash.*) return 0 ;; esac
  return 1
}

# Microseconds in NOW: by date where it knows %N, else by the kernel's uptime in steps of 10 ms. tick never forks.
case $(date +%N 2>/dev/null) in *[!0-9]* | '') FINE='' ;; *) FINE=1 ;; esac
tick() { read -r NOW _ </proc/uptime && NOW=${NOW%.*}${NOW#*.}0000; }
now() { if [ "$FINE" ]; then NOW=$(date +%s%N) && NOW=${NOW%???}; else tick; fi; }
step() { now && put step "$1 $2 $NOW ${3:-ok} ${4:-}"; }

# dash's own kill does not reach a group in every version; the program does.
group() { env kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" -- "-$2" 2>/dev/null; }
born() { # BORN: a process is known by its id and its start time, since ids come again
  stat='' && read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  BORN=${20} PGRP=$3
  [ "$1" != Z ] # dead, and not yet waited for
}
alive() { born "$1" && [ "$BORN" = "$2" ]; }

# ---- freeze and thaw
mount_of() { sed -n "${1}p" "$D/fs" | cut -d' ' -f6-; }
flush() { # `sync -f` is younger than some supported images; without it the freeze itself flushes
  i=0
  while [ $((i += 1)) -le "$COUNT" ]; do eval "sync -f \"\$P$i\"" 2>/dev/null || return 0; done
}
freeze() { # all or nothing; each freezer keeps the lifeline open
  i=0
  while [ $((i += 1)) -le "$COUNT" ]; do
    [ ! -e "$D/fired" ] || return 1
    eval "p=\$P$i"
    if fsfreeze --freeze "$p" 2>"$D/fz" 3>&-; then FROZEN=$i && continue; fi
    case $(cat "$D/fz") in
    *busy*) true >"$D/theirs.$i" && FAULT="freeze.busy $(mount_of $i) was frozen by somebody else" ;;
    *)
      fsfreeze --unfreeze "$p" 2>/dev/null # a freezer that was killed may have frozen it
      FAULT="freeze.failed $(mount_of $i): $(cat "$D/fz")"
      ;;
    esac
    return 1
  done
}
thaw() { # in reverse, only ours; one that is thawed already tells that somebody was first
  i=$FROZEN THAWED=0
  while [ "$i" -gt 0 ]; do
    eval "p=\$P$i"
    [ -d "$p" ] || p=$(unescape "$(mount_of $i)") # its holder was killed
    if fsfreeze --unfreeze "$p" 2>"$D/th" 3>&- 9>&-; then THAWED=$((THAWED + 1)); else
      case $(cat "$D/th") in *nvalid*) EARLY="$EARLY $(mount_of $i)" ;; *) STUCK="$STUCK $(mount_of $i)" ;; esac
    fi
    i=$((i - 1))
  done
}

# ---- report
finish() { # PHASE: makes the report, keeps it, marks the end
  put phase "$1"
  for s in pre post; do
    [ -e "$D/$s.out" ] || continue
    sed -n 's/^appsnap-mark: *//p' "$D/$s.out" | head -n 10 | cut -c1-200 | while read -r l; do put mark "$l"; done
    case $BAD in *' script.'*) put "$s.tail" "$(tail -c 500 "$D/$s.out" | base64 | tr -d '\n')" ;; esac
  done
  [ -e "$D/fired" ] && put fired 1
  [ -e "$D/spare" ] && printf '%8192s' . >"$D/probe" || why state.space "/run was full: what was noted may be incomplete"
  rm -f "$D/spare" "$D/probe" "$D/data" "$D/curl.conf" # nothing signed stays behind, and there is room for the report
  render none
  [ "${#LINE}" -le 4000 ] || render 'fs|note|disk|quiet'
  [ "${#LINE}" -le 4000 ] || render 'fs|note|disk|quiet|step|mark|pre.tail|post.tail'
  [ "${#LINE}" -le 4000 ] || render 'fs|note|disk|quiet|step|mark|pre.tail|post.tail' 1
  printf '%s\n' "$LINE" >"$D/report"
  true >"$D/end"
  case $(readlink $lock) in *" ${D##*/}") rm -f $lock ;; esac
  for f in "$D"/*.timer; do read -r p 2>/dev/null <"$f" && group KILL "$p"; done
  for f in "$D"/*.reader; do read -r p 2>/dev/null <"$f" && kill -KILL "$p" 2>/dev/null; done
}
render() { # WITHOUT ONCE: state -> one line of JSON in LINE; a key that may come more than once is a list
  # A cut or an odd file name is no UTF-8, and old awks know neither classes nor what \\\\ replaces.
  LINE=$(tr '\001-\011\013-\037\177' ' ' <"$D/state" | awk -v without="^($1)\$" -v once="${2:-}" '
    !NF || once && ($1 $2 in had) { next }
    { had[$1 $2]; k = $1; v = substr($0, length(k) + 2, 900)
      if (k ~ without) { cut = cut " " k; next }
      gsub(/[\\"]/, "\\\\&", v); v = "\"" v "\""
      if (!(k in val)) order[++n] = k
      if (k ~ /^(reason|note|fs|disk|step|mark|try)$/) { list[k] = 1; if (k in val) v = val[k] "," v }
      val[k] = v }
    END { printf "{\"appsnap\":\"1\""
      for (i = 1; i <= n; i++) { k = order[i]; printf ",\"%s\":%s", k, (k in list) ? "[" val[k] "]" : val[k] }
      if (cut) printf ",\"cut\":\"1\""
      printf "}" }' | { iconv -c -f UTF-8 -t UTF-8 2>/dev/null || tr -d '\200-\377'; })
}
say() { printf '%s\n' "$LINE" >&3 2>/dev/null || :; }
stop() { # REASON DETAIL: nothing was touched: say why and go
  [ "${1:-}" ] && why "$1" "${2:-}"
  [ "$MODE" = find ] && put phase found && render none && say && exit 20
  finish refused
  say
  exit 20
}

# ---- the run
take_lock() { # one run at a time; a link comes with its owner in one step. That of a dead run goes to whoever settles it
  rmdir $lock 2>/dev/null # a link into a directory would be no lock
  if ! ln -sn "$$ $BORN ${D##*/}" $lock 2>/dev/null; then
    was=$(readlink $lock) other=${was##* }
    # shellcheck disable=SC2086
    if ! { set -- $was && alive "${1:-0}" "${2:-0}"; }; then
      sh "/run/appsnap/$other/sequence.sh" settle "/run/appsnap/$other" >/dev/null 2>&1 3>&-
      [ "$was" = "$(readlink $lock)" ] && mv $lock "$lock.$$" 2>/dev/null && rm -rf "$lock.$$"
    fi
    ln -sn "$$ $BORN ${D##*/}" $lock 2>/dev/null || { why busy "run $other holds this guest" && finish busy && say && exit 21; }
  fi
}
reserve() { head -c 65536 /dev/zero >"$D/spare" || { rm -f "$D/spare" && stop state.space "/run has no room"; }; }
look_around() {
  for t in fsfreeze setsid awk stat sha256sum base64 mkfifo; do
    command -v $t >/dev/null || stop tool.missing "$t is not installed"
  done
  [ "$MODE" = find ] || find_tool # comes with the second command
  now && t=$NOW
  find_disks
  find_mounts
  [ "$FREEZE" = 1 ] || { : >"$D/fs" && COUNT=0; }
  [ "$FREEZE" = 1 ] || [ "$WANT" = crash ] || why freeze.off
  vet_scripts
  step find "$t"
  enough || stop
}
start_watchdog() { # P1..: each file system by the working directory of its holder
  mkfifo "$D/life" "$D/ev" "$D/go" "$D/gate" "$D/pre.ev" "$D/post.ev" && echo >"$D/nl"
  true >"$D/fz" && true >"$D/th" # what the window needs is there before it, also when /run fills up
  (trap - PIPE HUP && exec setsid sh "$D/sequence.sh" watch "$D") </dev/null >/dev/null 2>&1 3>&- & # as for scripts
  WATCH=$!
  born $WATCH
  echo "$WATCH $BORN" >"$D/watch"
  # Should the watchdog not come up, the line after this must not hang.
  setsid sh -c 'sleep 5 && : <"$0"' "$D/life" </dev/null >/dev/null 2>&1 3>&- &
  guard=$!
  echo $guard >"$D/guard.timer"
  exec 9>"$D/life"
  n=0 ready=0
  while [ $((n += 1)) -le 200 ]; do
    set -- "$D"/held.*
    [ -e "$1" ] && ready=$#
    [ -e "$D/up" ] && [ $ready -eq "$COUNT" ] && break
    sleep 0.02 3>&- 9>&-
  done
  group KILL $guard
  [ -e "$D/up" ] || leave watchdog.missing "the watchdog did not come up"
  i=0
  while [ $((i += 1)) -le "$COUNT" ]; do
    read -r p _ 2>/dev/null <"$D/held.$i" || leave fs.hidden "$(mount_of $i) is out of reach: unmounted, or another mount lies over it"
    eval "P$i=/proc/$p/cwd"
  done
}
check_cloud() { # what would fail inside the window fails here
  now && t=$NOW
  connect
  step connect "$t" "$([ "$CODE" = 200 ] && echo ok || echo failed)" "$VIA $CODE"
  field Code
  [ "$CODE" = 200 ] || leave connect.failed "HTTP $CODE $F $(tail -n 1 "$D/curl.err" 2>/dev/null)"
  case $BODY in *'"ssg-'*) leave group.exists "a group of this run exists before the freeze" ;; esac
  s=$(date -d "$DATED" +%s 2>/dev/null) && [ $((s - SIGNTIME)) -gt 840 ] && leave request.old "signed more than 14 minutes ago"
  ! changed || leave fs.changed "a file system of these disks was mounted or unmounted meanwhile"
}
await() { # FILE: the watchdog answers by it, within a second or so
  n=0
  while [ ! -e "$D/$1" ]; do [ $((n += 1)) -le 100 ] && sleep 0.01 3>&- 9>&- || return 1; done
}
window() { # from the arming to the thaw; nothing is written to a disk, looked up or logged in here
  writes && before=$W
  FAULT=''
  echo ARM >&9 || leave watchdog.lost "the watchdog died before the freeze"
  await armed || leave watchdog.lost "the watchdog did not answer"
  now && F0=$NOW
  tick && START=$NOW
  if freeze; then cloud; fi
  thaw
  now && F2=$NOW
  [ "$STUCK" ] || { echo DONE >&9 && await over; } || why watchdog.lost "the watchdog died during the freeze"
  put freeze "$F0 $F2 $FROZEN $THAWED $COUNT"
  step freeze "$F0" "$([ "$FROZEN" = "$COUNT" ] && echo ok || echo failed)" "$THAWED of $COUNT thawed by us"
  [ "$FAULT" ] && why "${FAULT%% *}" "${FAULT#* }"
  [ "$EARLY" ] && why thaw.early "thawed by somebody else:$EARLY"
  [ "$STUCK" ] && why thaw.failed "not thawed:$STUCK"
  [ -e "$D/fired" ] && why watchdog.fired "the freeze lasted longer than $WINDOW s"
  writes
  [ "$QUIET" ] && put quiet "${QUIET# }"
  [ "$before" = "$W" ] || why fs.not_quiet "written during the freeze, and cannot be frozen:$QUIET"
  if [ ! "$ASKED" ] && enough; then cloud; fi # not frozen, yet a crash-consistent copy is wanted rather than none
}
cloud() {
  ASKED=1
  tick && START=$NOW
  create
  [ "$GROUP" ] && [ "$THAWON" = visible ] && visible
  tick && END=$NOW
}
go() {
  : >"$D/state" # what `find` saw is looked at again
  reserve
  put run "$RUN"
  put sequence "$SEQUENCE"
  put fine "${FINE:-0}"
  now && put started "$NOW"
  born $$ && echo "$$ $BORN" >"$D/main"
  for f in /sys/fs/cgroup/cpu/cgroup.procs /sys/fs/cgroup/cgroup.procs; do # the agent caps its own CPU, and ours
    [ -w "$f" ] && echo $$ 2>/dev/null >"$f"
  done
  take_lock
  look_around
  start_watchdog
  now && t=$NOW
  flush # the long flush must not fall into the database's lock
  step sync "$t"
  now && QUIESCE=$NOW
  prescript
  [ "$RC" = 75 ] && leave
  enough || leave
  now && t=$NOW
  flush
  step sync "$t"
  check_cloud
  ASKED=''
  window
  if [ "$ASKED" ]; then
    put api "$((END - START)) $TOOK $POLLS"
    put created "$CODE $REQUEST"
    IFS=, && for t in $TRIES; do put try "$t"; done && unset IFS
    if [ "$GROUP" ]; then
      put group "$GROUP"
      [ "$SHOWN" ] && put visible 1
      [ "$THAWON$SHOWN" = visible ] && why group.not_visible "the group did not show all disks in $VISTIME s"
    else
      field Message && message=$F && field Code
      why create.failed "HTTP $CODE $F $message"
    fi
  fi
  leave
}
leave() { # [REASON DETAIL]: the one way out once the watchdog is up
  [ "${1:-}" ] && why "$1" "$2"
  read -r p 2>/dev/null <"$D/conn.pid" && kill -KILL "$p" 2>/dev/null
  exec 5<&-
  OUTCOME=none
  [ "$GROUP" ] && level
  postscript
  [ "${QUIESCE:-}" ] && now && put quiesced "$((NOW - QUIESCE))"
  finish 'done'
  exec 9>&- # end of file: the watchdog goes home
  [ "$STUCK" ] || [ -e "$D/fired" ] || group KILL "$WATCH" # nothing is frozen: its timers and holders need not run on
  say
  [ "$GROUP" ] || exit 22
  exit 0
}
settle() { # the result was lost: what became of the run, finished if it has to be
  main='' && read -r main b 2>/dev/null <"$D/main"
  [ "$main" ] || { put phase idle && render none && say && exit 0; } # only `find` ever ran here
  n=0
  while [ ! -e "$D/end" ] && ! alive "$main" "$b" && [ $((n += 1)) -le 25 ]; do sleep 0.2; done # the watchdog is at it
  if [ ! -e "$D/end" ] && alive "$main" "$b"; then
    # Said, not kept: the sequence writes its own end.
    render none && LINE="${LINE%\}},\"phase\":\"running\"}" && say && exit 23
  fi
  if [ ! -e "$D/end" ]; then # the watchdog is dead too: do its work
    true >"$D/eof"
    true >"$D/fired"
    n=0
    [ -e "$D/fs" ] && while read -r _; do
      n=$((n + 1))
      (cd "$(unescape "$(mount_of $n)")" && thaw_until_over $n) &
    done <"$D/fs"
    wait
    OUTCOME=crash && postscript
    finish lost
  fi
  for f in "$D/watch" "$D"/held.*; do read -r p b 2>/dev/null <"$f" && alive "$p" "$b" && group KILL "$PGRP"; done
  LINE=$(cat "$D/report") && say
}

exec 3>&1 >>"$D/log" 2>&1
case $MODE in
go) go ;;
watch) exec 3>&- && watch ;;
hold) exec 3>&- && hold "$3" && thaw_until_over "$3" ;;
find) : >"$D/state" && put run "$RUN" && reserve && look_around && put phase found && render none && say ;;
settle) settle ;;
esac
