# A verification's work on the instance that lends itself to it: sh verify.sh run DIR. Disks made from a snapshot group
# are found by their serials, the state of their journals is read before anything changes it, they are mounted, and the
# engine's own script is started on the copy. All of that lives in namespaces of its own (mounts, processes, network):
# when their first process ends, nothing is left, and the disks can be detached. The instance's own file systems are
# read-only there (but for /run, /tmp, and the layer where that is said), and nothing of a copy may be executed.
#
# DIR is on tmpfs and holds `data` (RUN GROUP LIMIT ENGINE DATADIR LOGDIR QUERY), `plan` (lines `disk NEW SOURCE`, and
# `fs SOURCE MOUNT TYPE UUID`, short paths first) and `engine.sh`. `clean DIR` only takes away what earlier ones left.
# Told, a line each: `fs: SOURCE|MOUNT|TYPE|JOURNAL|MOUNTED|CHECK|WORDS`, `note: CODE WORDS`, the engine's `fact:` and
# `log:`, and last of all `end: HOW`.
D=$2 TOP=${2%/*}
SAFE=nosuid,nodev,noexec
export LC_ALL=C BLKID_FILE=/dev/null

say() { printf '%s\n' "$*" | tr -d '\r' | cut -c1-300; }
said() { head -n 1 "$D/err" 2>/dev/null | tr '|' ' ' | cut -c1-200; }
seconds() { read -r NOW _ </proc/uptime && NOW=${NOW%.*}; }
started() { # PID: START is its start time, by which a process is known when its id has come again
  START=''
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  shift 19 && START=$1
}
living() { # FILE: PID is the process that it names, alive
  PID='' was=''
  read -r PID was 2>/dev/null <"$1"
  [ "$PID" ] && started "$PID" && [ "$START" = "$was" ]
}
take_away() { # DIR: its first process ends with all of its namespaces; then its files
  n=0
  while [ $((n += 1)) -le 100 ] && living "$1/init"; do
    kill -KILL "$PID" 2>/dev/null
    sleep 0.1
  done
  if living "$1/init"; then say "note: verify.stuck process $PID of ${1##*/} does not end"; fi
  up='' && read -r up 2>/dev/null <"$1/upper"
  case $up in /var/tmp/appsnap-verify-?*) rm -rf "$up" ;; esac
  rm -rf "$1"
}
earlier() { # those of the same group, and those whose time is over
  seconds
  for o in "$TOP"/*/; do
    o=${o%/} of='' until=0
    [ "$o" != "$D" ] && [ -d "$o" ] || continue
    read -r of until 2>/dev/null <"$o/of"
    [ "$of" != "$GROUP" ] && [ "${until:-0}" -gt "$NOW" ] || take_away "$o"
  done
}

guard() { # in a session of its own: ends the work at its time, and takes all away when nobody waits for it any more
  while sleep 2 && [ -d "$D" ]; do
    living "$D/outer" || { take_away "$D" && exit; }
    seconds
    [ "$NOW" -lt "$UNTIL" ] || { living "$D/init" && kill -KILL "$PID"; }
  done
}
outer() {
  for t in unshare setsid mount blkid chroot df du timeout; do
    command -v $t >/dev/null || { say "note: tool.missing $t is not installed" && say "end: tools" && exit 20; }
  done
  trap 'take_away "$D"' EXIT
  trap 'exit 143' INT TERM HUP
  seconds && UNTIL=$((NOW + LIMIT))
  echo "$GROUP $UNTIL" >"$D/of" && started $$ && echo "$$ $START" >"$D/outer"
  earlier
  UNTIL=$UNTIL setsid sh "$D/verify.sh" guard "$D" </dev/null >/dev/null 2>&1 &
  UNTIL=$UNTIL unshare --mount --propagation private --net --ipc --pid --fork sh "$D/verify.sh" inner "$D" \
    </dev/null >"$D/out" 2>"$D/err.inner" &
  wait $!
  rc=$?
  [ "$(wc -c <"$D/out")" -le 16000 ] || rc='with more than fits'
  head -c 16000 "$D/out"
  [ "$rc" = 0 ] || say "note: verify.ended $rc $(tail -n 1 "$D/err.inner")"
  [ "$rc" = 0 ] && say "end: done" || say "end: ended"
}

inner() { # process 1 of its namespaces, which still sees the /proc of the instance
  read -r p _ </proc/self/stat && started "$p" && echo "$p $START" >"$D/init" || exit
  T=$D/root
  mkdir "$D/m" "$T" && mount -t tmpfs -o mode=755 none "$T" || exit
  for c in /*; do # a root to make mount points in, which shows the instance's own directories
    if [ -L "$c" ]; then cp -P "$c" "$T/"; elif [ -d "$c" ]; then mkdir "$T$c" && mount --rbind "$c" "$T$c"; fi || exit
  done
  mount --bind /var/tmp "$T/var/tmp"
  awk -v t="$T" 'index($5, t "/") == 1 { print $5 }' /proc/self/mountinfo | while read -r m; do
    case ${m#"$T"}/ in /run/* | /dev/* | /proc/* | /sys/* | /tmp/* | /var/tmp/*) ;; *) mount -o remount,bind,ro "$m" ;; esac
  done
  exec chroot "$T" sh "$D/verify.sh" copy "$D"
}

# shellcheck disable=SC2086
device() { # DISK: B is its block device; a disk that was just attached takes a moment
  n=0
  while [ $((n += 1)) -le 100 ]; do
    for b in /sys/block/*; do
      s=''
      for f in serial device/serial device/wwid; do # virtio, NVMe, SCSI
        read -r s 2>/dev/null <"$b/$f"
        [ "$s" ] && break
      done
      case $s in "$1" | "${1#d-}" | *" ${1#d-}") B=${b##*/} && return ;; esac
    done
    sleep 0.2
  done
  return 1
}
xfs_log() { # what a replay would write, in figures
  awk '{ for (i = 1; i < NF; i++) if ($i == "length:" && !len) len = $(i + 1) }
    /log tail:/ { for (i = 1; i < NF; i++) { if ($i == "tail:") t = $(i + 1); if ($i == "head:") h = $(i + 1); if ($i == "state:") s = $(i + 1) } }
    /^LOG REC AT LSN/ { lo = 0; lb = "" }
    /^[^ ]*: cnt:/ { if (/^BUF:/) b++; else { o++; lo++ } }
    /start blkno:/ { v = $0; sub(/.*start blkno:/, "", v); sub(/[ \t].*/, "", v); if (v != "0x0") e++; lb = lb v }
    END { if (s) printf "tail=%d head=%d length=%d state=%s items=%d buffers=%d elsewhere=%d last=%s\n", t, h, len, s, o, b, e, (lo == 0 && lb == "0x0") ? "super" : "other" }'
}
journal() { # DEV TYPE: J is `clean`, `replay`, `none`, `unknown`, or the figures of a log of XFS
  J=unknown
  case $2 in
  ext[234])
    set -- "$(dumpe2fs -h "$1" 2>/dev/null | sed -n 's/^Filesystem features:/ /p')"
    case "$1 " in *' needs_recovery '*) J=replay ;; *' has_journal '*) J=clean ;; ' ') ;; *) J=none ;; esac
    ;;
  vfat) J=none ;;
  xfs) J=$(timeout 120 xfs_logprint -t "$1" 2>/dev/null | xfs_log) && [ "$J" ] || J=unknown ;;
  esac
}
check() { # DEV TYPE AT: without an engine the file system itself is checked; its log is replayed before
  CHECK=unknown
  [ ! "$ENGINE" ] && [ "$2" != vfat ] || { CHECK=- && return; } # vfat keeps a bit that says it is in use
  more='' && [ "$2" = xfs ] && more=,nouuid
  mount -t "$2" -o "rw$more" "$1" "$3" 2>"$D/err" && umount "$3" || return
  case $2 in ext[234]) set -- e2fsck -fn "$1" ;; xfs) set -- xfs_repair -n "$1" ;; *) return ;; esac
  { timeout $((LIMIT / 2)) "$@" 2>&1; echo $? >"$D/rc"; } | tail -n 1 >"$D/check"
  read -r rc <"$D/rc"
  case $rc in 0) CHECK=good ;; 124) CHECK=late ;; 12[67]) ;; *) CHECK=bad && cp "$D/check" "$D/err" ;; esac
}
leaf() { # DEVICE SOURCE: a file system, or what is told as not looked into
  kind=$(blkid -o value -s TYPE "/dev/$1") uuid=$(blkid -o value -s UUID "/dev/$1")
  at=$(awk -v s="$2" -v u="$uuid" '$1 == "fs" && $2 == s && $5 == u { print $3; exit }' "$D/plan")
  case $kind in
  ext[234] | xfs | btrfs | vfat) ;;
  '' | swap) return ;;
  *) say "note: verify.stacked $2: $1 holds $kind, which is not looked into" && return ;;
  esac
  N=$((N + 1)) m=$D/m/$N opts=ro,$SAFE
  mkdir "$m"
  [ "$kind" != xfs ] || opts=$opts,nouuid
  journal "/dev/$1" "$kind"
  : >"$D/err"
  check "/dev/$1" "$kind" "$m"
  mounted=no
  mount -t "$kind" -o "$opts" "/dev/$1" "$m" 2>"$D/err.mount" && mounted=yes || cp "$D/err.mount" "$D/err"
  [ $mounted = yes ] || grep -qw "$kind" /proc/filesystems ||
    { say "note: verify.stacked $2: $1 holds $kind, which this kernel does not know" && return; }
  [ $mounted = no ] || printf '%s %s\n' "${at:--}" "$m" >>"$D/mounted"
  say "fs: $2|${at:--}|$kind|$J|$mounted|$CHECK|$(said)"
}
point() { # PATH: makes it a directory of this root; what lies on the instance's own disk is not written to
  at='' rest=${1#/}
  while [ "$rest" ]; do
    c=${rest%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
    [ -d "$at/$c" ] || { shade "$at" && mkdir "$at/$c"; } || return
    at=$at/$c
  done
}
shade() { # PATH: over it a tmpfs that shows what was there; the root is one already
  case "$SHADED " in *" ${1:-/} "*) return 0 ;; esac
  o=$D/old.$((N += 1)) SHADED="$SHADED $1"
  mkdir "$o" && mount --rbind "$1" "$o" && mount -t tmpfs -o "mode=$(stat -c %a "$1")" none "$1" || return
  for e in "$o"/* "$o"/.[!.]*; do
    if [ -L "$e" ]; then cp -P "$e" "$1/"
    elif [ -d "$e" ]; then mkdir "$1/${e##*/}" && mount --rbind "$e" "$1/${e##*/}"
    elif [ -f "$e" ]; then : >"$1/${e##*/}" && mount --bind "$e" "$1/${e##*/}"
    fi || return
  done
}
on() { # PATH: ON is where the copy of the file system that holds it is mounted aside, AT its own mount point
  ON='' AT=''
  while read -r at aside; do
    case $1/ in "${at%/}"/*) [ ${#at} -lt ${#AT} ] || { AT=$at && ON=$aside; } ;; esac
  done <"$D/mounted"
  [ "$ON" ]
}
layer() { # LAYER is where the engine's writes go: memory, the instance's disk, or the throw-away disks themselves
  need=131072
  for p in "$DATADIR" $LOGDIR; do
    on "$p" && need=$((need + $(du -sk "$ON/${p#"$AT"}" | cut -f1)))
  done
  U=$D/up LAYER=disk
  mkdir "$U"
  if [ "$need" -lt "$(awk '/^MemAvailable:/ { print int($2 / 2) }' /proc/meminfo)" ] &&
    mount -t tmpfs -o "size=${need}k,mode=711" none "$U"; then
    LAYER=memory
  elif [ "$need" -lt "$(df -Pk /var/tmp | awk 'NR == 2 { print int($4 * 0.9) }')" ] && p=/var/tmp/appsnap-verify-${D##*/} &&
    mkdir -m 711 "$p" && echo "$p" >"$D/upper"; then
    U=$p LAYER=instance
  fi
}
place() { # MOUNT ASIDE: the copy at its own place, writable
  point "$1" || return
  u=$U/${2##*/}
  if [ "$LAYER" != disk ] && mkdir -p "$u/u" "$u/w" && chmod "$(stat -c %a "$2")" "$u/u" && chown "$(stat -c %u:%g "$2")" "$u/u" &&
    mount -t overlay -o "$SAFE,lowerdir=$2,upperdir=$u/u,workdir=$u/w" none "$1"; then return; fi
  LAYER=disk
  mount -o "remount,rw,$SAFE" "$2" && mount --bind "$2" "$1"
}
own() { # PATH: programs, settings and devices are the instance's
  case " $1/ $(readlink -f "$1")/ " in
  *' // '* | *' /usr/ '* | *' /usr/local/ '* | *' /usr/bin/'* | *' /usr/sbin/'* | *' /usr/lib'* | *' /usr/local/bin/'* | *' /usr/local/lib'* | *' /bin/'* | *' /sbin/'* | *' /lib'* | \
    *' /etc/'* | *' /dev/'* | *' /proc/'* | *' /sys/'* | *' /run/'*) ;;
  *) return 1 ;;
  esac
}
copied() { # DIRECTORY: it lies on a copy, wherever links lead
  m=$(df -P "$1" | awk 'NR == 2 { print $6 }') && grep -qxF "$m" "$D/placed"
}
copy() {
  cd / && mount -t proc proc /proc || exit
  N=0 SHADED=' /'
  : >"$D/mounted"
  while read -r what new source _; do
    [ "$what" = disk ] || continue
    device "$new" || { say "note: disk.not_found $source: its copy $new is attached, and no device has its serial" && continue; }
    parts=''
    for k in /sys/block/"$B"/"$B"*/partition; do
      [ ! -e "$k" ] || { k=${k%/partition} && parts="$parts ${k##*/}"; }
    done
    for k in ${parts:-$B}; do leaf "$k" "$source"; done
  done <"$D/plan"
  [ ! "$ENGINE" ] || engine
}
engine() {
  for p in "$DATADIR" $LOGDIR; do
    on "$p" && ! own "$p" && [ -d "$ON/${p#"$AT"}" ] || { say "note: verify.datadir $p is not on the copies" && return; }
  done
  layer
  awk '$1 ~ "^/." { print length($1), $0 }' "$D/mounted" | sort -n | cut -d' ' -f2- >"$D/places"
  : >"$D/placed"
  while read -r p m; do
    if own "$p"; then say "note: verify.place $p is not laid over the instance's own" && continue; fi
    echo "$p" >>"$D/placed"
    place "$p" "$m" 2>"$D/err" || { say "note: verify.place $p: $(said)" && return; }
  done <"$D/places"
  for p in "$DATADIR" $LOGDIR; do # of the system disk's copy only what is asked for gets to its place
    on "$p" && [ "$AT" = / ] || continue
    u=$U/sys
    [ -e "$D/sys" ] || { mkdir "$D/sys" && {
      [ "$LAYER" != disk ] && mkdir -p "$u/u" "$u/w" && chmod 755 "$u/u" &&
        mount -t overlay -o "$SAFE,lowerdir=$ON,upperdir=$u/u,workdir=$u/w" none "$D/sys" ||
        { LAYER=disk && mount -o "remount,rw,$SAFE" "$ON" && mount --bind "$ON" "$D/sys"; }
    } && echo "$D/sys" >>"$D/placed"; } 2>"$D/err" && [ -d "$D/sys$p" ] ||
      { say "note: verify.place $p: $(said)" && return; }
    copied "$D/sys$p" || continue
    point "$p" && mount --bind "$D/sys$p" "$p" 2>"$D/err" && echo "$p" >>"$D/placed" ||
      { say "note: verify.place $p: $(said)" && return; }
  done
  for p in "$DATADIR" $LOGDIR; do
    copied "$p" || { say "note: verify.datadir $p leads to what is not on the copies" && return; }
  done
  say "fact: layer=$LAYER"
  export WORK="$D/work"
  mkdir -m 711 "$WORK"
  [ ! "$QUERY" ] || { QUERY=$(printf %s "$QUERY" | base64 -d) && export QUERY; }
  seconds
  sh "$D/engine.sh" "$DATADIR" "${LOGDIR:--}" $((UNTIL - NOW - 20)) >"$D/engine.out" 2>"$D/engine.err" </dev/null
  say "fact: engineExit=$?"
  grep -E '^(fact|log): ' "$D/engine.out" | cut -c1-300 | head -c 12000
  tail -n 3 "$D/engine.err" | sed 's/^/said: /' | cut -c1-300
}

# shellcheck source=/dev/null
. "$D/data"
case $1 in
run) outer ;;
clean) earlier && rm -rf "$D" && say "end: clean" ;;
*) "$1" ;;
esac
