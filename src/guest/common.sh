# Part of the guest sequence, and of the first command: state, clock, processes, report. It ends where the modes part.
# POSIX sh with what dash, bash and busybox share. It holds no credential: only signatures that are good for minutes
# and for one group.
#
#   sh sequence.sh find DIR    the first command: only looks at disks, file systems, scripts, tools
#   sh sequence.sh go DIR      the run itself; DIR (on tmpfs) holds `data`, what the function knows, and `rest.sh`
#   sh sequence.sh watch DIR   the watchdog, in a session of its own
#   sh sequence.sh settle DIR  one more command: what became of a run whose result was lost
#
# Descriptors: 3 the agent's stdout, 4 to openssl (in the watchdog: the holders' gate), 5 answers of the cloud (in the
# watchdog: the gate of the last thaw), 6 events of a script, 7 events of the watchdog, 8 and 9 the lifeline.
set -u
MODE=$1 D=$2
umask 077
trap '' PIPE HUP # the agent's pipe may close in mid-freeze: go on
export LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin
R=${APPSNAP_ROOT:-}
BAD='' OUTCOME=none SCRIPTS='' LOCK=/run/appsnap/lock RCU=/sys/kernel/rcu_expedited
# shellcheck source=/dev/null
[ -e "$D/data" ] && . "$D/data"

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

# ---- processes: one is known by its id and its start time, since ids come again. Nothing here forks.
born() { # PID: BORN, PGRP and STATE; `self` is the subshell that asks
  stat='' && read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  BORN=${20} PGRP=$3 STATE=$1
  [ "$1" != Z ] # dead, and not yet waited for
}
alive() { born "$1" && [ "$BORN" = "$2" ]; }
keep() { born self && echo "${stat%% *} $BORN" >"$1"; }                                     # FILE: this is who writes
lives() { P='' B='' && read -r P B 2>/dev/null <"$1" && [ "$B" ] && alive "$P" "${B%% *}"; } # FILE: does who wrote it live?

group() { # SIGNAL PID: a whole group; dash's own kill does not reach one in every version, the program does
  env kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null
}
shut() { exec 3>&- 4>&- 5<&- 7>&- 9>&-; } # by exec: what closes for one command only leaves a copy of the lifeline behind
fired() { [ -e "$D/fired" ]; }
mount_of() { sed -n "${1}p" "$D/fs" | cut -d' ' -f6-; }

hurry() { # fastFreeze: grace periods of RCU are most of an idle freeze
  [ "$FAST" ] || return 0
  if read -r v 2>/dev/null <$RCU && echo "$v" >"$D/rcu" && echo 1 2>/dev/null >$RCU; then FAST="was $v"; else FAST=none; fi
}
calm() { v='' && read -r v 2>/dev/null <"$D/rcu" && [ "$v" ] && echo "$v" >$RCU; } # by whoever ends the freeze: the old value
await() { # FILE: the watchdog answers by it, within a second or so
  n=0
  while [ ! -e "$D/$1" ]; do [ $((n += 1)) -le 100 ] && sleep 0.01 3>&- 9>&- || return 1; done
}

# ---- report
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
unlock() { case $(readlink $LOCK) in *" ${D##*/}") rm -f $LOCK ;; esac; }
finish() { # PHASE: makes the report, keeps it, marks the end
  put phase "$1"
  for s in pre post; do
    [ -e "$D/$s.out" ] || continue
    sed -n 's/^appsnap-mark: *//p' "$D/$s.out" | head -n 10 | cut -c1-200 | while read -r l; do put mark "$l"; done
    case $BAD in *' script.'*) put "$s.tail" "$(tail -c 500 "$D/$s.out" | base64 | tr -d '\n')" ;; esac
  done
  fired && put fired 1
  [ -e "$D/spare" ] && printf '%8192s' . >"$D/probe" || why state.space "/run was full: what was noted may be incomplete"
  rm -f "$D/spare" "$D/probe" "$D/curl.conf" # room for the report
  render none
  [ "${#LINE}" -le 4000 ] || render 'fs|note|disk|quiet'
  [ "${#LINE}" -le 4000 ] || render 'fs|note|disk|quiet|step|mark|pre.tail|post.tail'
  [ "${#LINE}" -le 4000 ] || render 'fs|note|disk|quiet|step|mark|pre.tail|post.tail' 1
  printf '%s\n' "$LINE" >"$D/report"
  for f in "$D"/*.timer "$D"/*.reader "$D/conn"; do lives "$f" && kill -KILL "$P" 2>/dev/null; done
  true >"$D/end"
  rm -f "$D/data" # nothing signed stays behind; who took over needed it until here
  unlock
}
say() { printf '%s\n' "$LINE" >&3 2>/dev/null || :; }
tell() { # PHASE EXIT: said, not kept: a sequence that begins just now writes its own
  render none
  LINE="${LINE%\}},\"phase\":\"$1\"}"
  say
  exit "$2"
}
stop() { # REASON DETAIL: nothing was touched: say why and go
  [ "${1:-}" ] && why "$1" "${2:-}"
  [ "$MODE" = find ] && tell found 20
  finish refused
  say
  exit 20
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
  [ "$FREEZE" = 1 ] || { true >"$D/fs" && COUNT=0; }
  [ "$FREEZE" = 1 ] || [ "$WANT" = crash ] || why freeze.off
  vet_scripts
  step find "$t"
  enough || stop
}

exec 3>&1 >>"$D/log" 2>&1
case $MODE in
find) true >"$D/state" && put run "$RUN" && reserve && look_around && tell found 0 ;;
settle) [ -e "$D/main" ] || tell idle 0 ;; # only `find` ever ran here
esac
# shellcheck source=/dev/null
. "$D/rest.sh"
