# MongoDB (WiredTiger), mongosh or the older mongo. fsyncLock: everything is flushed and a checkpoint made, writers wait,
# reads go on. Best on a secondary (role=secondary): there nobody's writers wait, only the replication.
#
# The lock belongs to the server and outlives its client. So it is known before it is taken ("$S/changed"), and put_back
# unlocks until the server says that nothing is locked: when the session has ended, whatever for, or when all but the
# holder are dead. The session stays open: with access control a new one may have to wait for the lock itself.
# fsyncLock waits for open transactions that have written. What it waits for may come when we have given up: so put_back
# ends a lock that is still asked for, too.
#
# A sharded cluster: the balancer off, and all shards and the config servers in the same moment; this locks one mongod.
# With the journal on the same group of disks a copy without this is valid too; it recovers from its journal.
#
# Settings, /etc/appsnap/mongodb.conf:
#   host=127.0.0.1 and port=27017, or host=/tmp/mongodb-27017.sock; tls=yes, tlscafile=, tlscertificatekeyfile=
#   user=, passwordfile=   the password is the file's first line; the file is root's, and nobody else's to read
#   role=any               primary or secondary: on another one this is not our turn (75)
#   wait=20                seconds for open transactions, and for the flush
#   hold=120               seconds that the lock is held at most
#   datadir=               where the server's dbPath is seen from here, if elsewhere (a container)
# Its user: roles hostManager and clusterMonitor on admin.
NAME=mongodb BYE=exit
host=127.0.0.1 port=27017 tls=no tlscafile='' tlscertificatekeyfile='' user='' passwordfile='' role=any wait=20 hold=120
datadir=''
settings host port tls tlscafile tlscertificatekeyfile user passwordfile role wait hold datadir
number port 1 65535 && number wait 1 600 && number hold 10 600
case $role in primary | secondary | any) ;; *) fail 2 "/etc/appsnap/mongodb.conf: role is primary, secondary or any" ;; esac
MONGO=$(command -v mongosh || command -v mongo) || fail 13 "mongosh is not installed: install it, or the older mongo"
if [ "$passwordfile" ]; then
  case $(stat -Lc '%u %A' "$passwordfile" 2>&1) in
  '0 -r'?-------) ;;
  *) fail 2 "$passwordfile must be root's alone: chown root:root $passwordfile; chmod 600 $passwordfile" ;;
  esac
fi
AT="$host:$port" LIMITED=''
case $host in /*) AT=$host ;; esac

# Words for the session. Each answer begins a line, since mongosh sets its prompt before it. mongosh throws what mongo
# returns; both tell of the lock only by the command itself (db.currentOp() of mongosh leaves it out).
WORDS='var admin = db.getSiblingDB("admin");
function tell(word, text) { print("\n" + word + " " + text + "\n"); }
function run(c) { try { var a = admin.runCommand(c); return a; } catch (e) { return { ok: 0, errmsg: e.message }; } }
function locked() { return run({ currentOp: 1 }).fsyncLock === true; }
function asked() { return run({ currentOp: 1, "command.fsync": 1 }).inprog || []; }'
UNLOCK='for (var n = 0; n < 100 && locked(); n++) { run({ fsyncUnlock: 1 }); }'
login() { # the password goes from the file into the session, never into an argument
  [ "$user" ] || return 0
  escaped=$(head -n 1 "$passwordfile" | sed 's/\\/\\\\/g; s/"/\\"/g')
  printf 'var in_ = admin.auth("%s", "%s");\n' "$user" "$escaped"
}
client() { # mongosh writes a log and a history to its home: on tmpfs they meet no freeze; and nobody is told that it ran
  mkdir -p "$S/home/.mongodb/mongosh" && export HOME="$S/home" && cd "$HOME" || return
  echo '{"enableTelemetry":false,"forceDisableTelemetry":true,"disableGreetingMessage":true}' >.mongodb/mongosh/config
  set -- --quiet --norc
  [ "$tls" != yes ] || set -- "$@" --tls
  [ -z "$tlscafile" ] || set -- "$@" --tlsCAFile "$tlscafile"
  [ -z "$tlscertificatekeyfile" ] || set -- "$@" --tlsCertificateKeyFile "$tlscertificatekeyfile"
  case $host in
  /*) exec $LIMITED "$MONGO" "$@" "mongodb://$(echo "$host" | sed 's,/,%2F,g')/admin" ;;
  *) exec $LIMITED "$MONGO" "$@" --host "$host" --port "$port" admin ;;
  esac
}

put_back() { # nothing is locked, and nobody asks for a lock any more
  answer=$(
    {
      printf '%s\n' "$WORDS"
      login
      echo 'var ops = asked(); for (var i = 0; i < ops.length; i++) { run({ killOp: 1, op: ops[i].opid }); }'
      echo "$UNLOCK"
      echo 'tell("free", locked() + " " + asked().length);'
      echo "$BYE"
    } | (LIMITED='timeout 60' && client) 2>&1
  )
  case $answer in
  *'free false 0'*) ;;
  *ECONNREFUSED* | *ENOENT* | *'Connection refused'* | *'No such file'*) ;; # the server is gone, and its lock with it
  *) return 1 ;;
  esac
}

main() {
  need timeout
  open_session $((wait + hold + 60))
  say "$WORDS"
  [ -z "$user" ] || say "$(login)"
  say 'var h = run({ hello: 1 }); if (!h.ok) { h = run({ isMaster: 1 }); }'
  say 'tell("role", h.msg === "isdbgrid" ? "mongos" : h.isWritablePrimary || h.ismaster ? "primary" : h.secondary ? "secondary" : "other");'
  hear role 40 || fail 12 "$AT: $(told)"
  case $HEARD in
  mongos) fail 16 "$AT is a mongos: the lock is for a mongod" ;;
  other) fail 75 "$AT is neither primary nor secondary now: it starts, or recovers" ;;
  "$role") ;;
  *) [ "$role" = any ] || fail 75 "$AT is a $HEARD, and /etc/appsnap/mongodb.conf says role=$role" ;;
  esac
  say 'var o = run({ getCmdLineOpts: 1 }); tell("path", o.ok ? (o.parsed.storage || {}).dbPath || "/data/db" : "? " + o.errmsg);'
  hear path 20 || fail 12 "$AT: $(told)"
  case $HEARD in
  '? '*) fail 12 "$AT: ${HEARD#? }: see user and passwordfile in /etc/appsnap/mongodb.conf" ;;
  esac
  dir=${datadir:-$HEARD} && [ -d "$dir" ] ||
    fail 16 "there is no directory $dir here, where $AT has its data: say in /etc/appsnap/mongodb.conf what datadir is"
  say 'var s = run({ serverStatus: 1 });'
  say 'tell("server", [s.version, s.pid, Math.round(s.localTime.getTime() / 1000 - s.uptime), (s.storageEngine || {}).name].join(" "));'
  hear server 20 || fail 12 "$AT: $(told)"
  # shellcheck disable=SC2086
  set -- $HEARD
  version=$1 && note server "$2 $3"
  [ "$4" = wiredTiger ] || fail 16 "$AT has the storage engine $4: this recipe is for wiredTiger"
  say 'tell("before", locked());'
  hear before 20 && [ "$HEARD" = false ] || fail 11 "$AT is locked already, by somebody else's fsyncLock: db.fsyncUnlock()"

  will_change "fsyncLock on $AT"
  say 'var r = run({ fsync: 1, lock: true }); tell("locked", r.ok ? String(r.lockCount).replace(/[^0-9]/g, "") : r.errmsg);'
  hear locked "$wait" || fail 10 "$AT is not locked after $wait s: it waits for open transactions, or for its flush"
  [ "$HEARD" = 1 ] || fail 11 "$AT: fsyncLock: $HEARD"
  hold_for "$hold"
  mark engine mongodb
  mark version "$version"
  mark datadir "$dir"
  say 'h = run({ hello: 1 }); if (!h.ok) { h = run({ isMaster: 1 }); }'
  say 'var t = ((h.lastWrite || {}).opTime || {}).ts; tell("offset", t ? t.t + "." + t.i : "");'
  if hear offset 20 && [ "$HEARD" ]; then mark offset "$HEARD"; fi
}
prescript "$@"
