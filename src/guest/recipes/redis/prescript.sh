# Redis 6.2 and later, Valkey. CLIENT PAUSE ... WRITE lets writers wait until a deadline that the server itself keeps;
# reads go on, nothing expires and nothing is evicted meanwhile. Under the pause the append-only file is brought to disk,
# some milliseconds. A server without one saves a dump under the pause: its writers wait for as long as that takes.
# Before it: no rewrite and no save is at work, and none begins (auto-aof-rewrite-percentage is 0 until the postscript).
#
# The guard is a PUBLISH, sent right after the pause: the server keeps it waiting for as long as the pause lasts, and
# answers the moment it ends, whoever ended it. So a guard without an answer shows a pause without a gap, on any version,
# on replicas and in a cluster. (Only since Valkey 8.1 does INFO show a pause.)
#
# Not used: WAITAOF (7.2) waits for the writes of the client that asks, and ours has none, so it answers at once,
# whatever is still in memory. appendfsync=always would be one more setting to put back, for what `sync FILE` does.
#
# On a replica the stream of its primary goes on: the copy is of a moment within the freeze, cut between two commands.
#
# Settings, /etc/appsnap/redis.conf:
#   socket=/run/redis/redis.sock, or host=127.0.0.1 and port=6379; tls=yes, cacert=, clientcert=, clientkey= (files)
#   user=, passwordfile=   the password is the file's first line; the file is root's, and nobody else's to read
#   role=any               primary or replica: on the other one this is not our turn (75)
#   wait=10                seconds, each: for the server to answer, for rewrites to end, for the append-only file
#   save=60                seconds for the dump of a server without an append-only file
#   hold=120               seconds that the pause may last from the end of this script on
#   datadir=               where the server's `dir` is seen from here, if elsewhere (a container)
# An ACL for it: ACL SETUSER appsnap on >... resetchannels &appsnap +ping +info +role +bgsave +publish
#   +client|pause +client|unpause +config|get +config|set
NAME=redis BYE=QUIT
socket='' host=127.0.0.1 port=6379 tls=no cacert='' clientcert='' clientkey='' user='' passwordfile='' datadir=''
role=any wait=10 save=60 hold=120
settings socket host port tls cacert clientcert clientkey user passwordfile role wait save hold datadir
number port 1 65535 && number wait 1 600 && number save 1 3600 && number hold 10 600
case $role in primary | replica | any) ;; *) fail 2 "/etc/appsnap/redis.conf: role is primary, replica or any" ;; esac
CLI=$(command -v redis-cli || command -v valkey-cli) || fail 13 "redis-cli is not installed: install it, or valkey-cli"
if [ "$passwordfile" ]; then
  case $(stat -Lc '%u %A' "$passwordfile" 2>&1) in
  '0 -r'?-------) ;;
  *) fail 2 "$passwordfile must be root's alone: chown root:root $passwordfile; chmod 600 $passwordfile" ;;
  esac
  IFS= read -r REDISCLI_AUTH <"$passwordfile" || :
  export REDISCLI_AUTH VALKEYCLI_AUTH="$REDISCLI_AUTH"
fi
AT="$host:$port"

with() { # COMMAND...: as the last words of a call of the client
  [ -z "$user" ] || set -- --user "$user" "$@"
  [ -z "$clientkey" ] || set -- --key "$clientkey" "$@"
  [ -z "$clientcert" ] || set -- --cert "$clientcert" "$@"
  [ -z "$cacert" ] || set -- --cacert "$cacert" "$@"
  [ "$tls" != yes ] || set -- --tls "$@"
  if [ "$socket" ]; then set -- -s "$socket" "$@"; else set -- -h "$host" -p "$port" "$@"; fi
  exec $LIMITED "$CLI" "$@"
}
cli() { (LIMITED="timeout $wait" && with "$@") 2>&1 | tr -d '\r'; } # empty if it is not answered in time
client() { LIMITED='' && with; }

put_back() { # a server that is gone has taken the pause and the setting with it
  if [ "$(noted paused)" ] && [ ! -s "$S/over" ]; then
    case $(cli CLIENT UNPAUSE) in OK | 'Could not connect'*) ;; *) return 1 ;; esac
  fi
  read -r percentage <"$S/changed"
  case $(cli CONFIG SET auto-aof-rewrite-percentage "$percentage") in OK | 'Could not connect'*) ;; *) return 1 ;; esac
}

is() { # KEY VALUE: in the last INFO
  case "
$INFO
" in
  *"
$1:$2
"*) ;;
  *) return 1 ;;
  esac
}
value() { echo "$INFO" | sed -n "s/^$1://p"; }
parameter() { # NAME: its value, VALUE
  VALUE=$(cli CONFIG GET "$1")
  case $VALUE in
  "$1"*) VALUE=$(echo "$VALUE" | sed 1d) ;;
  '') ;; # one that this version does not know
  *) fail 12 "CONFIG GET $1 on $AT: $VALUE: let the recipe's user do it (see the ACL in this script)" ;;
  esac
}
until_() { # SECONDS COMMAND...: asks for INFO until it is true
  tick && last=$((NOW + $1)) && shift
  while INFO=$(cli INFO) && ! "$@"; do
    tick && [ "$NOW" -lt "$last" ] || return 1
    nap
  done
}
answered() {
  case $INFO in
  *run_id:*) ;;
  '' | BUSY* | LOADING*) return 1 ;;
  *) fail 12 "$AT: $(echo "$INFO" | head -n 1 | cut -c1-200): see socket, host, port, user and passwordfile" ;;
  esac
}
calm() { is rdb_bgsave_in_progress 0 && is aof_rewrite_in_progress 0 && is aof_rewrite_scheduled 0; }
guarded() { ! is blocked_clients 0; }
on_disk() { # what the server has acknowledged is in the file; a replica acknowledges nothing
  guarded && is aof_pending_bio_fsync 0 && { [ "$now" = replica ] || is aof_buffer_length 0; }
}
to_disk() { # FILE...: an error of the disk is told once, to whoever asks first; a file may be gone by now
  sync "$S/out" 2>/dev/null && [ -e "$1" ] || { sync && return; } # an older one takes no files
  for file; do said=$(sync "$file" 2>&1) || [ ! -e "$file" ] || fail 16 "$file did not come to disk: $said"; done
}
saved() { is rdb_bgsave_in_progress 0; }

main() {
  need timeout sync tr
  [ -z "$socket" ] || AT=$socket
  until_ "$wait" answered || case $INFO in
  LOADING*) fail 12 "$AT is loading its data: wait for it" ;;
  *) fail 10 "$AT has not answered for $wait s: a script or a long command keeps it busy, which may have written" ;;
  esac
  version=$(value valkey_version) && [ "$version" ] || version=$(value redis_version)
  case $version in
  [0-5].* | 6.[01].*) fail 16 "$AT is version $version: CLIENT PAUSE WRITE came with 6.2" ;;
  esac
  now=primary && is role slave && now=replica
  [ "$role" = any ] || [ "$role" = $now ] || fail 75 "$AT is a $now, and /etc/appsnap/redis.conf says role=$role"
  parameter dir && dir=${datadir:-$VALUE} && [ -d "$dir" ] ||
    fail 16 "there is no directory $dir here, where $AT has its data: say in /etc/appsnap/redis.conf what datadir is"
  if is aof_enabled 1; then
    parameter appendfilename && set -- "$dir/$VALUE"
    parameter appenddirname && [ "$VALUE" ] && set -- "$dir/$VALUE"/*
    pause=$hold patience=$wait
  else
    parameter save && [ "$VALUE" ] || fail 16 "$AT writes neither an append-only file nor dumps (appendonly no, save \
\"\"): a snapshot can keep nothing of it"
    parameter dbfilename && set -- "$dir/$VALUE"
    pause=$((hold + save)) patience=$save
  fi
  parameter auto-aof-rewrite-percentage && percentage=$VALUE

  open_session $((wait * 3 + patience + pause))
  will_change "$percentage"
  say 'CONFIG SET auto-aof-rewrite-percentage 0' # in the session: nothing is changed once that has ended
  hear '' "$wait" && [ "$HEARD" = OK ] || fail 16 "CONFIG SET auto-aof-rewrite-percentage 0 on $AT: $(told)"
  until_ "$patience" calm || is aof_enabled 1 ||
    fail 16 "a save of $AT has been at work for $patience s: wait for it, or raise save in /etc/appsnap/redis.conf"
  calm || echo "redis: a rewrite or a save is still at work: the copy is whole, with a temporary file in it"

  note run_id "$(value run_id)" && note paused 1 && true >"$S/over"
  say "CLIENT PAUSE $((pause * 1000)) WRITE"
  hear OK "$wait" 2 || case $? in
  1) fail 12 "$AT: $(told)" ;;
  *) fail 10 "$AT has not paused its writers for $wait s ($(told)): a script keeps it busy, which may have written" ;;
  esac
  (LIMITED="setsid timeout $((pause + 5))" && with PUBLISH appsnap over) </dev/null >"$S/over" 2>&1 3>&- 9>&- &
  keep guard $!
  if is aof_enabled 1; then
    until_ "$wait" on_disk || fail 16 "the append-only file of $AT is $(value aof_buffer_length) bytes behind after $wait s"
    is aof_last_write_status ok || fail 16 "$AT cannot write its append-only file: see its log"
  else
    until_ "$wait" guarded
    tick && began=$NOW
    answer=$(cli BGSAVE)
    case $answer in *started*) ;; *) fail 16 "BGSAVE on $AT: $answer" ;; esac
    until_ "$save" saved || fail 16 "the dump of $AT was not saved within $save s: its writers waited so long; give it an \
append-only file, or raise save in /etc/appsnap/redis.conf"
    is rdb_last_bgsave_status ok || fail 16 "the dump of $AT was not saved: see its log"
    tick && echo "redis: the dump took $((NOW - began)) s, and writers waited for it"
  fi
  to_disk "$@"
  hold_for "$hold"
  lives guard && [ ! -s "$S/over" ] || fail 14 "the pause of $AT ended at once: $(head -n 1 "$S/over")"
  mark engine redis
  mark version "$version"
  mark datadir "$dir"
  mark replid "$(value master_replid)"
  mark offset "$(value master_repl_offset)"
}
prescript "$@"
