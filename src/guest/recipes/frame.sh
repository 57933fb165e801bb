# The frame of all recipes. POSIX sh for dash, bash and busybox. State: /run/appsnap-recipe/NAME, tmpfs, root only.
#
# A lock lives as long as the session that holds it, so that session must outlive the prescript, and must not outlive its
# purpose. Two processes in sessions of their own see to that:
#   the runner   runs `client` (psql, mariadb ...) reading a FIFO; when that has ended, whatever for, it calls `put_back`
#   the holder   alone keeps the FIFO's write end open, up to a deadline. Then, or when the prescript died before it was
#                through, or the runner did, it closes it: the client reads its end, the server drops the lock. Where the
#                client does not go it is killed, where the runner is dead the holder calls `put_back` itself
# Dead holder, dead client, dead prescript, deadline: unlocked in each case.
#
# A recipe's part says, in this order:
#   NAME=postgresql BYE='\q'        BYE: the line that ends the client
#   hold=120 port=5432 ...          its settings and their defaults; `settings hold port ...` reads NAME.conf over them
#   client() { exec psql ...; }     reads lines from stdin; what it writes goes to a file that `hear` looks into. It runs in
#                                   the runner: what main found out and client or put_back need, main exports
#   put_back() { ...; }             only if it changes settings: puts back what "$S/changed" tells, over a new connection
#   main() { ...; }                 the work, with what stands below
#   prescript "$@"                  the last line; in the other file: postscript "$@"
#
# For main:
#   fail CODE SENTENCE         says the sentence, lets go of everything, exits
#   need TOOL...               fails with 13
#   number KEY LEAST MOST      a setting that has to be a whole number, else 2
#   mark KEY VALUE             prints an appsnap-mark
#   open_session SECONDS       starts runner and holder; SECONDS until the deadline
#   will_change TEXT           before the first changed setting: keeps the old values in "$S/changed". Change it by the client:
#                              what another connection changes after the client's end was put back before
#   hold_for SECONDS           the deadline, from now on
#   say LINE                   sends a line to the client
#   hear WORD SECONDS [COUNT]  waits for COUNT lines that begin with WORD; HEARD: what follows it, sorted.
#                              1: the client has ended; 2: not in time; `told` prints what the client wrote last
#   note KEY TEXT, noted KEY   what the postscript compares with
#   digits TEXT                is it a whole number? Asked of what a server says before the shell reckons with it: $((...))
#                              of bash runs what stands in brackets, and a server is less than root
# A prescript that returns from main with a session open hands it over to the holder; without one it holds nothing. The
# main of a postscript runs only if a session was handed over; it asks whether the lock is still the same one (fail 14);
# if it returns, all is let go. Within it a release may follow the question at once.
#
# Exit codes: 0 good; 2 settings; 10 written transactions stayed open; 11 no lock in time; 12 server not reached or login
# refused; 13 a tool is missing; 14 the lock was lost; 15 a setting was not put back; 16 else; 75 not my turn.
set -u
umask 077
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
cd / || exit 16
OPEN='' MINE='' # a session of ours; "$S" is ours

put_back() { :; }
mark() { echo "appsnap-mark: $1=$2"; }
need() { for tool; do command -v "$tool" >/dev/null || fail 13 "$tool is not installed: install it"; done; }
digits() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }
tick() { read -r NOW _ </proc/uptime && NOW=${NOW%.*}; }
nap() { sleep 0.02 3>&- 9>&- 2>/dev/null || sleep 1 3>&- 9>&-; }

fail() {
  trap '' TERM INT HUP
  echo "$NAME: $2" >&2
  if [ "$OPEN" ]; then let_go; else [ -z "$MINE" ] || rm -rf "$S"; fi || echo "$NAME: what was held may be held until the deadline, $S/until" >&2
  exit "$1"
}

settings() { # KEY...: lines KEY=VALUE; a value is taken as it stands, without quotes
  conf=/etc/appsnap/$NAME.conf
  [ -e "$conf" ] || return 0
  case $(stat -Lc '%u %A' "$conf") in
  '0 '?????-??-?) ;;
  *) fail 2 "$conf must be root's and not writable by others: chown root:root $conf; chmod 600 $conf" ;;
  esac
  while read -r line || [ "$line" ]; do
    case $line in '' | '#'*) continue ;; esac
    key=${line%%=*}
    case " $* " in
    *" $key "*) [ "$key" != "$line" ] && eval "$key=\${line#*=}" ;;
    *) false ;;
    esac || fail 2 "$conf: \"$key\" is no setting; there are: $*, each as KEY=VALUE"
  done <"$conf"
}
number() {
  eval "value=\$$1"
  # shellcheck disable=SC2154
  case $value in
  '' | 0?* | *[!0-9]* | ??????*) false ;;
  *) [ "$value" -ge "$2" ] && [ "$value" -le "$3" ] ;;
  esac || fail 2 "/etc/appsnap/$NAME.conf: $1 has to be a number from $2 to $3, not \"$value\""
}

# ---- processes: one is known by its id and its start, since ids come again
born() { # PID: BORN
  stat='' && read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  BORN=${20} && [ "$1" != Z ]
}
keep() { born "$2" && echo "$2 $BORN" >"$S/$1.new" && mv "$S/$1.new" "$S/$1"; } # WHO PID
lives() { P='' && read -r P B 2>/dev/null <"$S/$1" && born "$P" && [ "$BORN" = "$B" ]; } # WHO: P is its id
gone() { # WHO SECONDS: waits until it is
  tick && gone_end=$((NOW + $2))
  while lives "$1"; do tick && [ "$NOW" -lt "$gone_end" ] || return 1; nap; done
}
end_group() { kill -TERM "-$1" 2>/dev/null || env kill -s TERM -- "-$1" 2>/dev/null || :; } # procps' takes -84 for a signal
end_client() { gone client "$1" || { kill -TERM "$P"; gone client 2; } || { kill -KILL "$P"; gone client 2; }; }

# ---- the session, from outside
background() { # with two forks, so that no shell has to tell of its child's end
  (setsid sh "$S/script" "$1" </dev/null >/dev/null 2>>"$S/log" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &)
}
open_session() {
  mkfifo "$S/in" && true >"$S/out" && exec 3<>"$S/in" || fail 16 "cannot write to $S"
  OPEN=1 && hold_for "$1"
  background runner && comes client && background holder && comes holder ||
    fail 16 "the processes that hold the lock did not start: $(tail -n 2 "$S/log" 2>&1)"
}
comes() { # WHO
  tick && end=$((NOW + 10))
  until [ -e "$S/$1" ]; do tick && [ "$NOW" -lt "$end" ] || return 1; nap; done
}
hold_for() { tick && echo $((NOW + $1)) >"$S/until.new" && mv "$S/until.new" "$S/until"; } # seconds since boot
say() { printf '%s\n' "$1" >&3; }
hear() {
  tick && hear_end=$((NOW + $2))
  while :; do
    ended='' && lives client || ended=1 # looked at first, since its last words count
    if [ "$(grep -c "^$1" "$S/out")" -ge "${3:-1}" ]; then HEARD=$(sed -n "s/^$1 *//p" "$S/out" | sort) && return 0; fi
    [ -z "$ended" ] || return 1
    tick && [ "$NOW" -lt "$hear_end" ] || return 2
    nap
  done
}
told() { tail -n 3 "$S/out" | tr '\n' ' ' | cut -c1-300; }
note() { printf '%s\n' "$2" >"$S/noted.$1" || fail 16 "cannot write to $S"; }
noted() { cat "$S/noted.$1" 2>/dev/null; }
will_change() { printf '%s\n' "$1" >"$S/changed.new" && mv "$S/changed.new" "$S/changed" || fail 16 "cannot write to $S"; }
back() {
  [ -e "$S/changed" ] || return 0
  tries=0
  until put_back; do [ $((tries += 1)) -lt 20 ] && sleep 1 3>&- || return 1; done
  rm -f "$S/changed"
}
back_by_script() { # where no process is left to do it
  [ ! -e "$S/changed" ] || sh "$S/script" back || fail 15 "a setting was not put back; what it was: $(head -n 5 "$S/changed")"
}
let_go() { # client, runner and holder are gone and the settings are back, else 1
  { say "$BYE" && exec 3>&-; } 2>/dev/null
  end_client 2
  gone runner 30 && gone holder 30 || return 1
  OPEN='' && back_by_script
  rm -rf "$S"
}

# ---- the two processes
runner() {
  exec 4<>"$S/in" && exec 3<"$S/in" && exec 4>&- # nobody's death makes an open wait
  keep runner $$ || exit 1
  client <&3 >>"$S/out" 2>&1 3<&- &
  keep client $! || : >"$S/client" # ended already
  exec 3<&-
  wait $!
  trap : TERM && end_group $$ # what the client left behind
  back
  lives holder && kill -KILL "$P"
}
holder() {
  exec 4<>"$S/in" && exec 3>"$S/in" && exec 4>&-
  keep holder $$
  while read -r until <"$S/until" && tick && [ "$NOW" -lt "$until" ] && lives runner; do
    [ -e "$S/handed-over" ] || lives owner || break
    sleep 1 3>&-
  done
  exec 3>&-
  end_client 3
  lives runner || { end_group "$P" && back; } # else the runner does, and ends this process
  gone runner 60
}

# ---- the two scripts
prescript() {
  S=/run/appsnap-recipe/$NAME
  case $* in
  '') ;;
  runner | holder | back) "$1" && exit || exit ;;
  *) fail 2 "this prescript takes no arguments" ;;
  esac
  need flock setsid mkfifo stat
  mkdir -p "${S%/*}" && true >>"$S.lock" && exec 9>"$S.lock" || fail 16 "cannot write to ${S%/*}"
  flock -n 9 || fail 11 "another prescript for $NAME is at work: wait for it"
  lives runner || lives holder && fail 11 "an earlier run holds $NAME: its postscript or its deadline will end that"
  back_by_script # its processes are all dead
  rm -f "$S.run"
  MINE=1 && rm -rf "$S" && mkdir "$S" && cp "$0" "$S/script" && keep owner $$ || fail 16 "cannot write to $S"
  trap 'fail 16 "the prescript was ended by a signal"' TERM INT HUP
  main
  [ "$OPEN" ] || { rm -rf "$S" && exit 0; }
  lives holder && lives client || fail 11 "the lock was lost while the prescript was at work: $(told)"
  echo "${APPSNAP_RUN:--}" >"$S.run" && true >"$S/handed-over" || fail 16 "cannot write to $S"
  exit 0
}
postscript() {
  S=/run/appsnap-recipe/$NAME
  [ $# = 0 ] || fail 2 "this postscript takes no arguments"
  # Somebody else's postscript, and somebody else's prescript after that, are no lock of this run.
  mine=${APPSNAP_RUN:-} run='' && [ ! -e "$S.run" ] || read -r run <"$S.run"
  [ "$run" = "$mine" ] || [ -z "$run" ] || [ -z "$mine" ] || fail 14 "the lock was lost, run $run has it now"
  if [ ! -e "$S/script" ]; then
    [ -z "$run" ] || [ -z "$mine" ] || fail 14 "the lock was let go before, by another postscript"
    exit 0
  fi
  exec 3<>"$S/in" && OPEN=1
  [ ! -e "$S/handed-over" ] || main
  let_go || fail 16 "the processes that hold the lock do not end: see $S"
  [ "$run" != "${mine:--}" ] || rm -f "$S.run"
  exit 0
}
