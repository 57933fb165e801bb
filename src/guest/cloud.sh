# Part of the guest sequence: the signed requests. One curl, connected and verified ahead, parked before each request
# on a FIFO read as file:// ; openssl, a connection a request, where there is no curl that knows --next (7.36).

EMPTY=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
ACTION_c=CreateSnapshotGroup ACTION_d=DescribeSnapshotGroups

find_tool() {
  VIA=''
  command -v openssl >/dev/null && VIA=openssl
  v=$(curl -q --version 2>/dev/null) && v=${v#curl } && m=${v#*.} &&
    [ $((${v%%.*} * 1000 + ${m%%.*})) -ge 7036 ] && VIA=curl
  [ "$VIA" ] || stop tool.https "neither curl (7.36 or newer) nor openssl is installed: install curl"
  put via "$VIA"
}
next_signed() { # c | d: ACTION QUERY NONCE SIG of the next variant; each is good once
  eval "ACTION=\$ACTION_$1 QUERY=\$Q$1 list=\$S$1 n=\$N$1"
  SIG=${list%% *} && list=${list#"$SIG"}
  eval "S$1=\${list# } N$1=$((n + 1))"
  NUMBER=$NONCE-$1$n
}
headers() { # FORMAT: one line a header; a long-lived key has no token
  # shellcheck disable=SC2059
  [ ! "$TOKEN" ] || printf "$1" "x-acs-security-token: $TOKEN"
  # shellcheck disable=SC2059
  printf "$1" "x-acs-action: $ACTION" "x-acs-version: 2014-05-26" "x-acs-date: $DATE" "x-acs-content-sha256: $EMPTY" \
    "x-acs-signature-nonce: $NUMBER" "Accept: application/json" \
    "Authorization: ACS3-HMAC-SHA256 Credential=$KEY,SignedHeaders=$SIGNED,Signature=$SIG"
}
segment() { # LINES of curl's configuration; segments are parted by `next`
  [ "$PARTED" ] && echo next
  PARTED=1
  printf 'silent\nshow-error\nno-buffer\n%s\n' "$1"
}
request() { # c | d, SECONDS
  next_signed "$1"
  segment "url = \"https://$HOST/?$QUERY\""
  headers 'header = "%s"\n'
  printf 'request = "POST"\ndata = ""\nheader = "Content-Type:"\nhttp1.1\nconnect-timeout = 5\nmax-time = %s\n' "$2"
  printf 'write-out = "\\n@%%{http_code} %%{time_total}"\n'
  [ "$CA" ] && printf 'cacert = "%s"\n' "$CA"
  segment "url = \"file://$D/nl\"" # ends the answer with a newline, and flushes it
}
connect_curl() { # warm | again: [the warm-up,] then the create behind its gate, then the looks behind theirs
  PARTED='' LOOKS=0
  {
    if [ "$1" = warm ]; then
      request d 10 | sed "s|^max-time|dump-header = \"$D/warm.head\"\n&|"
      next_signed d && PARTED=1 # the pipe was a subshell
    fi
    segment "url = \"file://$D/gate\"" && request c $((WINDOW > 2 ? WINDOW - 1 : 1))
    keep=$Sd kept=$Nd
    while [ "$Sd" ]; do
      segment "url = \"file://$D/gate\"" # no `&&`: on a full /run it fails, and the loop would not end
      request d 3
      LOOKS=$((LOOKS + 1))
    done
    Sd=$keep Nd=$kept
  } >"$D/curl.conf"
  rm -f "$D/out" && mkfifo "$D/out"
  talk out
  (exec >&6 6>&- 2>>"$D/curl.err"; shut; keep "$D/conn"; exec curl -q -K "$D/curl.conf") &
  CONN=$!
  exec 6>&-
}
talk() { exec 6<>"$D/$1" && exec 5<"$D/$1"; } # 6 for who answers: an open that waits is broken by a child's death, and ends a shell
answer() { # the next answer of curl: CODE, BODY, TOOK (seconds)
  BODY='' CODE=000 TOOK=0
  while read -r l <&5; do
    case $l in
    @[0-9]*) CODE=${l#@} && TOOK=${CODE#* } CODE=${CODE%% *} && return 0 ;;
    *) BODY=$BODY$l ;;
    esac
  done
  return 1 # curl is gone
}
connect_openssl() {
  K=$((K + 1)) ca=$CA h=${HOST%:*} p=${HOST##*:}
  for f in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
    [ "$ca" ] || { [ -e "$f" ] && ca=$f; }
  done
  [ "$h" = "$p" ] && p=443
  mkfifo "$D/in.$K" "$D/out.$K"
  exec 4<>"$D/in.$K"
  talk "out.$K"
  (exec <&4 >&6 6>&- 2>>"$D/curl.err"; shut; keep "$D/conn"; exec openssl s_client -quiet -verify_return_error \
    -verify_hostname "$h" -CAfile "${ca:-/dev/null}" -servername "$h" -connect "$h:$p") &
  CONN=$!
  exec 6>&-
}
send_openssl() { # c | d
  next_signed "$1"
  { printf 'POST /?%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n' "$QUERY" "$HOST"
    headers '%s\r\n' && printf '\r\n'; } >&4
  BODY='' CODE=000 TOOK=0 head=1 && true >"$D/head.$K"
  while read -r l <&5 || [ "$l" ]; do # the body ends without a newline
    case $head$l in
    1HTTP/*) CODE=${l#* } && CODE=${CODE%% *} ;;
    1??*) echo "$l" >>"$D/head.$K" ;;
    1*) head='' ;;
    *) BODY=$BODY$l ;;
    esac
  done
  exec 4>&- 5<&-
  [ "$CODE" != 000 ]
}
clock() { # openssl knows no limit
  (shut; keep "$D/ssl.timer"; n=0; while [ ! -e "$D/end" ]; do sleep 1; [ $((n = (n + 1) % 10)) -gt 0 ] || { lives "$D/conn" && kill -KILL "$P"; }; done) &
  timer=$!
}
connect() { # the warm-up proves route, TLS, signature, age, and that the group does not exist yet
  Nc=1 Nd=1 K=0
  # The first command brought the disks' names; the query is signed with them.
  Qc=$(echo "$DISKS" | awk -v q="$Qc" '{ for (i = 1; i <= NF; i++) sub("DiskId[.]" i "=@", "DiskId." i "=" $i, q); print q }')
  if [ "$VIA" = curl ]; then connect_curl warm && answer; else
    connect_openssl
    clock
    send_openssl d
    kill -KILL $timer 2>/dev/null
    mv "$D/head.1" "$D/warm.head"
    # shellcheck disable=SC2086
    set -- $Sd && LOOKS=$#
    connect_openssl # parked for the create
  fi
  DATED=$(sed -n 's/^[Dd]ate: *//p' "$D/warm.head" 2>/dev/null | tr -d '\r')
  put warm "$CODE $DATED"
}
fire_request() { # c | d: lets the parked request go and reads its answer
  CODE=000 BODY=''
  born "$CONN" || return 1 # at the gate of a dead curl one would wait for the watchdog
  if [ "$VIA" = openssl ]; then send_openssl "$1" && return 0 || return 1; fi
  until true >"$D/gate"; do born "$CONN" || return 1; done # as in `talk`
  answer
}
field() { # NAME: F is its string value in BODY
  F=''
  case $BODY in
  *"\"$1\":\""*) F=${BODY#*"\"$1\":\""} && F=${F%%\"*} ;;
  *"\"$1\": \""*) F=${BODY#*"\"$1\": \""} && F=${F%%\"*} ;;
  esac
}
reconnect() { # by another gate: at the old one somebody dead or idle may stand, and take the new one's turn
  rm -f "$D/gate" && mkfifo "$D/gate"
  if [ "$VIA" = curl ]; then connect_curl again; else connect_openssl; fi
}
create() { # again only what can still succeed in the time left: same ClientToken, fresh nonce
  while :; do
    fire_request c
    field SnapshotGroupId && GROUP=$F
    field RequestId && REQUEST=$F
    field Code
    TRIES="$TRIES${TRIES:+,}$((Nc - 1)) $CODE $F"
    [ "$CODE" = 200 ] && [ "$GROUP" ] && return 0
    GROUP=''
    case $CODE$F in 000 | 5* | *SignatureNonceUsed | *IdempotentProcessing | *InternalError | *ServiceUnavailable) ;; *) return 1 ;; esac
    tick
    [ "$Sc" ] && [ ! -e "$D/fired" ] && [ $((NOW - START)) -lt $(((WINDOW - 1) * 1000000)) ] || return 1
    kill -KILL "$CONN" 2>/dev/null
    reconnect
  done
}
visible() { # until every disk shows in the group, at most VISTIME
  POLLS=0
  late=$((VISTIME * 5 / 2 - 1)) late=${late%?}.${late#"${late%?}"} # the last four share most of the time
  # densest where the vendor's own plugin saw its group, 0.4 s after the answer
  for pause in .05 .05 .05 .05 .05 .05 .02 .02 .02 .02 .02 .02 .02 .02 .02 .02 .02 .1 .1 $late $late $late $late; do
    [ "$POLLS" -lt "$LOOKS" ] && [ ! -e "$D/fired" ] || return 1
    [ "$VIA" = curl ] || connect_openssl
    fire_request d || return 1
    POLLS=$((POLLS + 1)) SHOWN=1
    for id in $DISKS; do # a tag may name a disk too
      case $BODY in *"\"SourceDiskId\":\"$id\""* | *"\"SourceDiskId\": \"$id\""*) ;; *) SHOWN='' ;; esac
    done
    [ "$SHOWN" ] && return 0
    tick
    [ $((NOW - START)) -lt $((VISTIME * 1000000)) ] || return 1
    sleep "$pause" 3>&- 9>&-
  done
  return 1
}
