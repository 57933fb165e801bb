# The look of a check. It changes nothing in the guest: nothing is frozen, mounted, locked or signed, no script is run.
# It writes below $D only, a private directory on /run, and takes that away at its end (its first command: what an earlier
# look that was killed left there a day ago). Beside it the guest gets the functions of find.sh, of common.sh up to its last
# lines, and find_tool of cloud.sh. HOST is empty, or the host (with its port) that a run's requests would be signed for;
# ENGINE is `sequence` or `plugin`.
trap 'rm -rf "$D"' EXIT
trap 'exit 143' INT TERM
export BLKID_FILE="$D/blkid" RANDFILE="$D/rnd" # blkid and openssl keep files of their own elsewhere

# shellcheck disable=SC2317
stop() { why "$@"; } # a run ends there: the look goes on, one answer names all

tools() {
  for tool in fsfreeze setsid awk stat sha256sum base64 mkfifo; do
    command -v $tool >/dev/null || why tool.missing "$tool is not installed"
  done
}
system() { # a file of assignments, read and not run
  for f in /etc/os-release /usr/lib/os-release; do
    [ -r "$R$f" ] || continue
    put os "$(sed -n 's/^ID=//p' "$R$f" | tr -d "\"'") $(sed -n 's/^VERSION_ID=//p' "$R$f" | tr -d "\"'")"
    return
  done
}
quiet() { # what a run flushes and then wants to see unwritten
  swap=''
  while read -r dev kind _; do
    case "$kind $QUIET " in "partition "*" ${dev##*/} "*) swap="$swap ${dev##*/}" ;; esac
  done 2>/dev/null <"$R/proc/swaps"
  [ ! "$QUIET" ] || put quiet "${QUIET# }"
  [ ! "$CALM" ] || put calm "${CALM# }"
  [ ! "$swap" ] || put swap "${swap# }"
}
watchers() { # a mark of fanotify with a permission in its mask: that daemon is asked before a file is opened or run
  last=''
  grep -rls '^fanotify .* mask:[0-9a-f]*[1-9a-f][0-9a-f]\{4,5\} ' "$R"/proc/[0-9]*/fdinfo | while read -r f; do
    p=${f%/fdinfo/*} comm=''
    [ "$p" != "$last" ] || continue
    last=$p && read -r comm 2>/dev/null <"$p/comm"
    why freeze.watched "${comm:-a process} (${p##*/})"
  done
}
confined() { # what SELinux enforces upon a command of the agent
  on='' && read -r on 2>/dev/null <"$R/sys/fs/selinux/enforce"
  [ "$on" != 1 ] || put selinux "$(tr -d '\0\n' 2>/dev/null <"$R/proc/self/attr/current")"
}
reach_host() { # certificates as in a run; any status will do
  case $VIA in
  curl)
    set -- -q -s -S -o /dev/null --connect-timeout 5 -m 10
    [ "$CA" ] && set -- "$@" --cacert "$CA"
    curl "$@" "https://$HOST/" 2>"$D/tls"
    ;;
  openssl)
    ca=$CA h=${HOST%:*} p=${HOST##*:}
    for f in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
      [ "$ca" ] || { [ -e "$f" ] && ca=$f; }
    done
    [ "$h" = "$p" ] && p=443
    openssl s_client -verify_return_error -verify_hostname "$h" -CAfile "${ca:-/dev/null}" -servername "$h" \
      -connect "$h:$p" </dev/null >/dev/null 2>"$D/tls" &
    c=$!
    (n=0; while [ $((n += 1)) -le 100 ] && kill -0 $c 2>/dev/null; do sleep 0.1; done; kill -KILL $c 2>/dev/null) &
    wait $c 2>/dev/null
    ;;
  *) return ;;
  esac
  rc=$?
  said=$(sed -n '/[Ee]rr/p; /^curl:/p' "$D/tls" | head -n 1)
  if [ $rc = 0 ]; then put https ok; else why connect.failed "$VIA to $HOST: ${said:-no answer within 10 s} ($rc)"; fi
}
look() {
  true >"$D/state" && reserve
  put run "$RUN"
  now && began=$NOW
  tools
  system
  find_disks
  find_mounts
  quiet
  vet_scripts
  confined
  [ "$FREEZE" = 0 ] || watchers
  # shellcheck disable=SC2046
  set -- $(stat -f -c '%a %S' /run) # blocks and their size
  put room "$(($1 * $2 / 1024))"
  [ "$ENGINE" != plugin ] || command -v acs-plugin-manager >/dev/null || why plugin.manager_missing
  step look "$began"
  if [ "$HOST" ]; then
    now && began=$NOW
    find_tool
    reach_host
    step connect "$began" "$([ "${rc:-1}" = 0 ] && echo ok || echo failed)" "${VIA:-no tool}"
  fi
  [ ! -s "$D/log" ] || put said "$(head -c 300 "$D/log")" # by a tool that was not expected to say anything
  render none
  [ "${#LINE}" -le 12000 ] || render note # any user can make mounts by the hundred
  [ "${#LINE}" -le 12000 ] || render 'fs|disk|note|quiet|calm'
  [ "${#LINE}" -le 12000 ] || render 'fs|disk|note|quiet|calm' 1
  LINE="${LINE%\}},\"phase\":\"looked\"}"
  say
}

exec 3>&1 >>"$D/log" 2>&1
look
exit 0
