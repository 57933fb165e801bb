# SQLite files, up to 200 of them. For each the WAL is written back and emptied, then BEGIN IMMEDIATE is held until the
# postscript: writers wait at their own busy timeout, readers go on, no transaction is half written, no journal is hot.
#
# Each lock lives in a sqlite3 of its own, all fed with the same lines. When one of them dies all end, since some locks of
# a set are none; the system drops the locks of a process with it. A reader that stays keeps a WAL from being emptied:
# what is left is replayed by whoever opens the copy, nothing of it is rolled back, and the mark `wal` says how much it is.
#
# Other stores in files: what stops their writers has to live in one process until the postscript, and has to be asked
# again then. LMDB, LevelDB, RocksDB, Berkeley DB and H2 have no such lock for strangers; their files, copied while frozen,
# are what a crash leaves, which they are made for. Where the program has a command that stops it: the generic recipe.
#
# Settings, /etc/appsnap/sqlite.conf:
#   files=/srv/app/*.db /var/lib/x/main.sqlite    patterns with blanks between them; -wal, -shm, -journal are left out
#   wait=10                                       seconds for a writer to end its transaction
#   hold=120                                      seconds that the locks are held at most
NAME=sqlite BYE=.quit
files='' wait=10 hold=120
settings files wait hold
number wait 1 300 && number hold 10 600

client() { # -bail: a statement that fails ends its sqlite3, the first that ends ends tee, that ends all
  n=0 && set -- && exec 5<&0
  while read -r file; do
    mkfifo "$S/in.$((n += 1))" && set -- "$@" "$S/in.$n"
  done <"$S/files"
  tee "$@" <&5 >/dev/null &
  tee=$! n=0 && exec 5<&-
  while read -r file; do
    n=$((n + 1))
    { sqlite3 -batch -bail -init /dev/null "$file" <"$S/in.$n"; kill "$tee" 2>/dev/null; } &
  done <"$S/files"
  wait
}
at_once() { timeout 5 sqlite3 -batch -bail -init /dev/null "$1" "$2" 2>&1; } # FILE STATEMENT
writable() { at_once "$1" 'BEGIN IMMEDIATE; ROLLBACK;' >/dev/null; }
wal() { # bytes in all of them
  bytes=0
  while read -r file; do
    [ ! -e "$file-wal" ] || bytes=$((bytes + $(stat -c %s "$file-wal")))
  done <"$S/files"
}
above() { # DIR becomes the directory that all of them share
  read -r DIR <"$S/files"
  while read -r file; do
    until case $file in "$DIR"/*) ;; *) false ;; esac; do DIR=${DIR%/*}; done
  done <"$S/files"
}
list() { # the databases that the patterns name, by their real paths, once each
  # shellcheck disable=SC2086
  for file in $files; do
    case $file in *-wal | *-shm | *-journal) continue ;; /*) ;; *) fail 2 "files: $file is not an absolute path" ;; esac
    [ -f "$file" ] || fail 2 "files: there is no file $file"
    [ -s "$file" ] || continue # an empty one is nobody's yet
    [ "$(head -c 15 "$file")" = 'SQLite format 3' ] || fail 2 "files: $file is no SQLite database, or is encrypted"
    readlink -f "$file"
  done >"$S/found" || exit
  sort -u "$S/found" >"$S/files"
  count=$(grep -c . "$S/files")
  [ "$count" -ge 1 ] && [ "$count" -le 200 ] || fail 2 "/etc/appsnap/sqlite.conf: files names $count databases, 1 to 200 can be"
}

main() {
  need sqlite3 timeout tee readlink sort
  list
  open_session $((wait + 60))
  say '.timeout 500'
  say 'PRAGMA wal_checkpoint(PASSIVE);' # the long part; nobody waits for it
  round=0
  while :; do
    say 'PRAGMA wal_checkpoint(TRUNCATE);' # blocks writers while it waits for readers: 500 ms
    say ".timeout $((wait * 1000))"
    say 'BEGIN IMMEDIATE;'
    say "SELECT 'locked';"
    hear locked $((wait + 50)) $((count * (round += 1))) || busy
    wal
    [ "$bytes" -gt 0 ] && [ $round -lt 3 ] || break
    say 'ROLLBACK;' # a writer or a reader was in between
    say '.timeout 500'
  done
  while read -r file; do stat -c '%d:%i %n' "$file"; done <"$S/files" >"$S/noted.files"
  hold_for "$hold"
  above
  mark engine sqlite
  mark version "$(sqlite3 --version | cut -d' ' -f1)"
  if [ "$DIR" ]; then mark datadir "$DIR"; else echo "sqlite: no mark datadir: the files share no directory but /"; fi
  mark files "$count"
  mark wal "$bytes"
}
busy() {
  said=$(told)
  case $said in
  *locked*)
    while read -r file; do
      writable "$file" || fail 10 "$file: somebody has kept a transaction open for $wait s: let it end, or raise wait"
    done <"$S/files"
    fail 10 "somebody has kept a transaction open for $wait s in one of these: $(tr '\n' ' ' <"$S/files")"
    ;;
  *) fail 16 "no lock on one of these: $(tr '\n' ' ' <"$S/files"): $said" ;;
  esac
}
prescript "$@"
