#!/bin/sh
# Opens and checks every SQLite database below a directory of a copy: sqlite.sh DATADIR LOGDIR LIMIT
# LOGDIR is `-`. LIMIT in seconds, for all of them. $WORK is an empty directory on tmpfs; $QUERY is put to the databases in
# the order of their names until one of them answers. Exit status: 0 all were opened, 1 one was not, 2 nothing to judge.
set -u
data=$1 limit=$3
umask 077

fact() { printf 'fact: %s\n' "$1=$2"; }
unable() { fact started no; fact unable "$1"; exit 2; }
hundredths() { read -r up _ </proc/uptime && echo "${up%.*}${up#*.}"; }
size() { stat -c %s "$1" 2>/dev/null || echo 0; }
begin=$(hundredths)
end=$((begin + limit * 100))

command -v sqlite3 >/dev/null || unable "no sqlite3 here"
fact version "$(sqlite3 --version | cut -d' ' -f1)"
timeout "$limit" find "$data" -type f -size +0 ! -name '*-wal' ! -name '*-shm' ! -name '*-journal' 2>/dev/null |
    sort | while read -r file; do
    [ "$(head -c 15 "$file" | tr -d '\000')" != 'SQLite format 3' ] || printf '%s\n' "$file"
done >"$WORK/files"
count=$(grep -c . "$WORK/files")
[ "$count" -gt 0 ] || unable "there is no SQLite database below $data"

ask() { # SECONDS ARGUMENTS: as the owner of the file, who has to be able to write beside it
    seconds=$1 && shift
    setpriv --reuid "${owner% *}" --regid "${owner#* }" --clear-groups \
        timeout "$seconds" sqlite3 -batch -bail -init /dev/null "$@" </dev/null
}

# What was left to do, before anybody opens one: a WAL is replayed, a journal with its magic is rolled back.
wal=0 hot=0 bad=0 answer='' late=0
while read -r file; do
    wal=$((wal + $(size "$file-wal")))
    [ "$(head -c 8 "$file-journal" 2>/dev/null | od -An -tx1 | tr -d ' ')" != d9d505f920a163d7 ] || hot=$((hot + 1))
done <"$WORK/files"
while read -r file; do
    left=$(((end - $(hundredths)) / 100))
    [ $left -gt 0 ] || { late=$((late + 1)) bad=$((bad + 1)) && echo "log: $file: not checked within the limit" && continue; }
    owner=$(stat -c '%u %g' "$file")
    said=$(ask "$left" "$file" 'PRAGMA integrity_check(5);' 2>&1)
    [ $? != 124 ] || late=$((late + 1)) said='not checked within the limit'
    [ "$said" = ok ] || bad=$((bad + 1))
    echo "log: $file: $(echo "$said" | head -n 2 | tr '\n' ' ' | cut -c1-120)"
    if [ "${QUERY:-}" ] && [ -z "$answer" ]; then
        answer=$(ask 10 -readonly "$file" "$QUERY" 2>/dev/null | head -n 1 | cut -c1-200)
    fi
done <"$WORK/files" >"$WORK/log"
fact files "$count"
fact redoBytes "$wal"
fact rolledBack "$hot"
fact damaged "$bad"
[ $bad = 0 ] || [ $bad != $late ] || fact late yes
fact startMs $((($(hundredths) - begin) * 10))
[ -z "$answer" ] || fact answer "$answer"
if [ $bad = 0 ]; then fact started yes; else fact started no; fact why "$bad of $count databases do not check"; fi
{ grep -v ': ok *$' "$WORK/log"; grep ': ok *$' "$WORK/log"; } | cut -c1-205 | head -n 40
[ $bad = 0 ]
