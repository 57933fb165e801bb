# appsnap's guest sequence: quiesce, freeze, one signed request, thaw, report. `go` at the end of the functions tells the
# story; this file and cloud.sh come with the second command, the rest with the first.
GROUP='' REQUEST='' WATCH='' OURS='' FROZEN=0 THAWED=0 POLLS=0 TRIES='' SHOWN='' EARLY='' STUCK='' START='' CODE=000 TOOK=0

# ---- freeze and thaw
flush() { # `sync -f` is younger than some supported images; without it the freeze itself flushes
  i=0
  while [ $((i += 1)) -le "$COUNT" ]; do eval "sync -f \"\$P$i\"" 2>/dev/null || return 0; done
}
freeze() { # all or nothing; each freezer keeps the lifeline open
  i=0 going=''
  while [ $((i += 1)) -le "$COUNT" ]; do
    eval "p=\$P$i first=\$B$i"
    [ ! "$first" ] || frozen || return 1
    fired && break # never leave before those that are out
    lives "$D/held.$i" || { FAULT="watchdog.lost $(mount_of $i)" && break; }
    echo killed 1<>"$D/fz.$i" || { FAULT="state.space /run" && break; }
    fsfreeze --freeze "$p" 2<>"$D/fz.$i" 3>&- &
    going="$going $i:$!"
  done
  frozen && ! fired
}
frozen() { # waits for the freezers that are out
  for e in $going; do
    j=${e%:*}
    if wait "${e#*:}"; then OURS="$j $OURS" FROZEN=$((FROZEN + 1)) && continue; fi
    text=$(cat "$D/fz.$j")
    case $text in
    *busy*) FAULT="freeze.busy $(mount_of "$j")" ;;
    *)
      OURS="$j $OURS" # a freezer that was killed may have frozen it
      FAULT="freeze.failed $(mount_of "$j"): $text"
      ;;
    esac
  done
  going=''
  [ ! "$FAULT" ]
}
thaw() { # only ours, the last frozen first, none waits for another; one that is thawed already tells that somebody was first
  out=''
  for i in $OURS; do
    eval "p=\$P$i"
    if lives "$D/held.$i"; then fsfreeze --unfreeze "$p" 2<>"$D/th.$i" 3>&- 9>&- & else
      (at_mount "$i" && exec fsfreeze --unfreeze . 2<>"$D/th.$i" 3>&- 9>&-) & # its holder was killed
    fi
    out="$out $i:$!"
  done
  for e in $out; do
    i=${e%:*}
    if wait "${e#*:}"; then THAWED=$((THAWED + 1)); else
      case $(cat "$D/th.$i") in *nvalid*) [ "$FAULT" ] || EARLY="$EARLY $(mount_of "$i")" ;; *) STUCK="$STUCK $(mount_of "$i")" ;; esac
    fi
  done
}

# ---- what stands around the freeze
changed() { # has one of our mounts come, gone or moved since?
  mounts >"$D/mounts.now"
  [ "$(ours "$D/mounts")" != "$(ours "$D/mounts.now")" ]
}
ours() { awk 'NF != 4 { is[$2]; next } $1 in is' "$D/fs" "$D/devs" "$1" | sort; }
writes() { # W: sectors written so far to the devices that cannot be frozen (field 7 of stat), flushed before the first time
  [ "${W+x}" ] || {
    for at in $CALM; do sync -f "$(unescape "$at")"; done
    for b in $QUIET; do sync "/dev/$b"; done # FUSE leaves all in the device's cache; an old sync ignores names: syncs all
  }
  W=''
  for b in $QUIET; do sys_of "$b" && read -r _ _ _ _ _ _ w _ 2>/dev/null <"$S/stat" && W="$W $b=$w"; done
}

# ---- the run
take_lock() { # one run at a time; a link comes with its owner in one step. That of a dead run is settled, then taken
  n=0 && rmdir $LOCK 2>/dev/null # a link into a directory would be no lock
  while ! ln -sn "$MAIN ${D##*/}" $LOCK 2>/dev/null; do
    was=$(readlink $LOCK) || { [ $((n += 1)) -le 99 ] && continue; stop state.space "/run has no room"; }
    other=${was##* } p=${was%% *} b=${was#* }
    if alive "$p" "${b%% *}" || lives "/run/appsnap/$other/watch"; then busy; fi
    sh "/run/appsnap/$other/sequence.sh" settle "/run/appsnap/$other" >/dev/null 2>&1 3>&- # takes its lock away too
    [ $? -eq 23 ] && busy
    mkdir "$LOCK.$other" || busy # one of all who wait breaks it
    [ "$(readlink $LOCK)" = "$was" ] && rm -f $LOCK
    rmdir "$LOCK.$other"
  done
}
busy() { why busy "run $other holds this guest"; finish busy; say; exit 21; }
start_watchdog() { # P1..: each file system by the working directory of its holder; B1..: waits for those before it
  mkfifo "$D/life" "$D/ev" "$D/go" "$D/last" "$D/gate" && echo >"$D/nl"
  for s in pre post; do mkfifo "$D/$s.go.ev" "$D/$s.watch.ev"; done
  n=0 was=''
  while read -r lv _ _ _ _ at; do # what the window needs is there before it, with its room: /run may fill up
    n=$((n + 1))
    eval "B$n=1" && [ "$lv" = "$was" ] && [ "$at" != / ] && eval "B$n=" # side by side only what stands side by side
    was=$lv
    printf '%256s\n' '' | tee "$D/fz.$n" "$D/th.$n" >/dev/null
  done <"$D/fs"
  exec 9<>"$D/life" # also for reading, so that nothing here ever waits for a watchdog
  (shut && trap - PIPE HUP && exec setsid sh "$D/sequence.sh" watch "$D") </dev/null >/dev/null 2>&1 & # as for scripts
  n=0 ready=0
  while [ $((n += 1)) -le 200 ]; do
    set -- "$D"/held.*
    [ -e "$1" ] && ready=$#
    [ -e "$D/up" ] && [ $ready -eq "$COUNT" ] && break
    sleep 0.02 3>&- 9>&-
  done
  [ -e "$D/up" ] && lives "$D/watch" || leave watchdog.missing
  WATCH=$P
  i=0
  while [ $((i += 1)) -le "$COUNT" ]; do
    lives "$D/held.$i" || leave fs.hidden "$(mount_of $i)"
    eval "P$i=/proc/$P/cwd"
  done
}
check_cloud() { # what would fail inside the window fails here
  now && t=$NOW
  connect
  step connect "$t" "$([ "$CODE" = 200 ] && echo ok || echo failed)" "$VIA $CODE"
  field Code
  [ "$CODE" = 200 ] || leave connect.failed "HTTP $CODE $F $(tail -n 1 "$D/curl.err" 2>/dev/null)"
  case $BODY in *'"ssg-'*) leave group.exists ;; esac
  s=$(date -d "$DATED" +%s 2>/dev/null) && [ $((s - SIGNTIME)) -gt 840 ] && leave request.old
  ! changed || leave fs.changed
}
window() { # from the arming to the thaw; nothing is written to a disk, looked up or logged in here
  writes && before=$W
  FAULT=''
  # One that waits for a frozen disk would hang whoever starts a program to thaw it.
  grep -rqs '^fanotify .* mask:[0-9a-f]*[1-9a-f][0-9a-f]\{4,5\} ' /proc/[0-9]*/fdinfo &&
    FAULT="freeze.watched fanotify"
  echo ARM >&9
  await armed || leave watchdog.lost "before the freeze"
  now && F0=$NOW
  tick && START=$NOW
  hurry
  if [ ! "$FAULT" ] && freeze; then cloud; fi
  thaw
  calm
  now && F2=$NOW
  [ "$STUCK" ] || { true >"$D/thawed"; echo DONE >&9 && await over; } || why watchdog.lost "in the freeze"
  put freeze "$F0 $F2 $FROZEN $THAWED $COUNT"
  step freeze "$F0" "$([ "$FROZEN" = "$COUNT" ] && echo ok || echo failed)" "$THAWED of $COUNT thawed by us"
  [ "$FAULT" ] && why "${FAULT%% *}" "${FAULT#* }"
  [ "$EARLY" ] && ! fired && why thaw.early "$EARLY"
  [ "$STUCK" ] && why thaw.failed "$STUCK"
  fired && why watchdog.fired "$WINDOW s"
  case $FAST in was*) note fast.used "rcu_expedited $FAST" ;; none) note fast.none "$RCU cannot be written" ;; esac
  writes
  [ "$QUIET" ] && put quiet "${QUIET# }"
  list=''
  for w in $W; do case " $before " in *" $w "*) ;; *) list="$list ${w%=*}" ;; esac; done
  [ "$list" ] && why fs.not_quiet "$list"
  if [ ! "$ASKED" ] && enough; then # not frozen, yet a crash-consistent copy is wanted rather than none
    fired && reconnect # the watchdog has ended the connection
    [ "$VIA" = curl ] || clock
    cloud
  fi
}
cloud() {
  ASKED=1
  tick && START=$NOW
  create
  [ "$GROUP" ] && [ "$THAWON" = visible ] && visible
  tick && END=$NOW
}
go() {
  true >"$D/state" # what `find` saw is looked at again
  reserve
  put run "$RUN"
  put sequence "$SEQUENCE"
  put fine "${FINE:-0}"
  now && put started "$NOW"
  keep "$D/main" && read -r MAIN <"$D/main"
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
    IFS=, && for t in $TRIES; do put try "$t"; done; unset IFS
    if [ "$GROUP" ]; then
      put group "$GROUP"
      [ "$SHOWN" ] && put visible 1
      [ "$THAWON$SHOWN" = visible ] && ! fired && why group.not_visible "$VISTIME s"
    else
      field Message && message=$F && field Code
      why create.failed "HTTP $CODE $F $message"
    fi
  fi
  leave
}
leave() { # [REASON DETAIL]: the one way out once the watchdog is up
  [ "${1:-}" ] && why "$1" "${2:-}"
  [ ! "$STUCK" ] || lives "$D/watch" || start_again # it thaws at once
  lives "$D/conn" && kill -KILL "$P" 2>/dev/null
  exec 5<&-
  OUTCOME=none
  [ "$GROUP" ] && level
  postscript
  [ "${QUIESCE:-}" ] && now && put quiesced "$((NOW - QUIESCE))"
  finish 'done'
  exec 9>&- # end of file: the watchdog goes home
  [ "$STUCK" ] || [ ! "$WATCH" ] || group KILL "$WATCH" # nothing is frozen: its timers and holders need not run on
  say
  [ "$GROUP" ] || exit 22
  exit 0
}

case $MODE in
go) go ;;
watch) exec 3>&- && watch ;;
settle) settle ;;
esac
