# SQLite: each sqlite3 answers, each file is still the same one, and another one is kept from writing to it; then they go.
NAME=sqlite BYE=.quit

main() {
  say "SELECT 'held';"
  hear held 10 "$(grep -c . "$S/files")" || fail 14 "the locks were let go: by their deadline (hold), or a sqlite3 was killed: $(told)"
  while read -r inode file; do
    [ "$(stat -c '%d:%i' "$file" 2>&1)" = "$inode" ] || fail 14 "$file was replaced by another file while it was locked"
    case $(timeout 5 sqlite3 -batch -bail -init /dev/null "$file" 'BEGIN IMMEDIATE; ROLLBACK;' 2>&1) in
    *locked*) ;;
    *) fail 14 "$file could be written to: it is not locked any more" ;;
    esac
  done <"$S/noted.files"
}
postscript "$@"
