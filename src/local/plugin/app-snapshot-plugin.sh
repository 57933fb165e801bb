#!/bin/sh
# Stands in for the vendor's app-snapshot-plugin 1.8, after the one trace of it that is known: disks, scripts, freeze of
# every mounted disk (`/` first, excluded ones too), CreateSnapshotGroup with the instance's role, looks until the group
# shows and one more, thaw, tags. Its level sinks in silence. Faults: `misspelt`, `untagged`.
home=/usr/local/share/aliyun-assist/plugin/app-snapshot-plugin/1.8
role='' freeze=true window=30 limit=1800 pre=/tmp/prescript.sh post=/tmp/postscript.sh exclude='' name=''
for arg; do
    case ${arg#-} in
    -RamRoleName=*) role=${arg#*=} ;;
    EnableFsFreeze=*) freeze=${arg#*=} ;;
    TimeoutInSeconds=*) window=${arg#*=} ;;
    ScriptTimeoutInSeconds=*) limit=${arg#*=} ;;
    PreScriptPath=*) pre=${arg#*=} ;;
    PostScriptPath=*) post=${arg#*=} ;;
    ExcludeDiskId=*) exclude=${arg#*=} ;;
    Name=*) name=${arg#*=} ;;
    *) echo "flag provided but not defined: $arg" && exit 2 ;;
    esac
done
endpoint='' region='' instance='' has='' key='' secret='' token=''
# shellcheck disable=SC1091 # made when the guest starts
. /run/appsnap-metadata # where the real one asks 100.100.100.200
[ "$role" = "$has" ] || { echo "the instance has no role $role" && exit 1; }
work=/run/app-snapshot-plugin.$$
mkdir -m 700 "$work" || exit 1
trap 'rm -rf "$work"' EXIT
fault() { grep -qx "$1" /run/appsnap-plugin-faults 2>/dev/null; }
log() { # on the root file system, as the real one's
    mkdir -p "$home/log" && echo "$*" >>"$home/log/app_snapshot_plugin.log"
    echo "$*"
}

encode() { # lines NAME=VALUE, percent-encoded
    LC_ALL=C awk 'BEGIN { for (i = 32; i < 127; i++) code[sprintf("%c", i)] = i }
        function enc(text, out, i, c) {
            for (i = 1; i <= length(text); i++) {
                c = substr(text, i, 1)
                out = out (c ~ /[A-Za-z0-9._~-]/ ? c : sprintf("%%%02X", code[c]))
            }
            return out
        }
        { at = index($0, "="); print enc(substr($0, 1, at - 1)) "=" enc(substr($0, at + 1)) }'
}
call() { # ACTION NAME=VALUE…: signed by HMAC-SHA1
    query=$(printf '%s\n' "Action=$1" "AccessKeyId=$key" "SecurityToken=$token" Version=2014-05-26 Format=JSON \
        "RegionId=$region" SignatureMethod=HMAC-SHA1 SignatureVersion=1.0 "Timestamp=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
        "SignatureNonce=$(cat /proc/sys/kernel/random/uuid)" | cat - "$work/args" | encode | LC_ALL=C sort | paste -sd '&' -)
    signed=$(echo "q=$query" | encode)
    signature=$(printf '%s' "GET&%2F&${signed#q=}" | openssl dgst -sha1 -hmac "$secret&" -binary | base64)
    signature=$(echo "Signature=$signature" | encode)
    curl -sS --max-time 20 "$endpoint/?$query&$signature"
}
ask() { # ACTION NAME=VALUE…
    action=$1 && shift
    printf '%s\n' "$@" >"$work/args"
    call "$action"
}
ids() { grep -o "\"$1\":\"[^\"]*\"" | cut -d '"' -f 4; }

log "Version 1.0.0.8"
ask DescribeDisks "InstanceId=$instance" MaxResults=100 >"$work/disks"
sed 's/{"/\n&/g' "$work/disks" | grep '"DiskId"' | while read -r disk; do
    id=$(echo "$disk" | ids DiskId) category=$(echo "$disk" | ids Category)
    # As soon as something is excluded only cloud_essd* counts as ESSD.
    [ -z "$exclude" ] || case $category in cloud_essd*) ;; *) continue ;; esac
    [ "$id" = "$exclude" ] || echo "$id"
done >"$work/chosen"
[ -s "$work/chosen" ] || { log "All attached ESSD Disks were excluded" && exit 1; }

good=1
for script in "$pre" "$post"; do
    [ -f "$script" ] && [ "$(stat -c '%u %a' "$script")" = '0 700' ] || good=''
done
[ -z "$good" ] || timeout "$limit" "$pre" || good=''

if [ "$freeze" = true ]; then
    ready=''
    trap 'ready=1' USR1
    # Every mounted disk, the first mount of each.
    mounts=$(awk '$1 ~ /^\/dev\// && !seen[$1]++ { print $2 }' /proc/self/mounts)
    log "1. Starting FsFreeze"
    began=$(date +%s%N)
    # shellcheck disable=SC2086 # a word for each
    "$home/fsfreezer" "$window" $mounts >"$work/freezer" 2>&1 &
    freezer=$!
    n=0
    while [ -z "$ready" ] && kill -0 "$freezer" 2>/dev/null && [ "$n" -lt $((window * 20)) ]; do
        sleep 0.05
        n=$((n + 1))
    done
    if [ -z "$ready" ]; then
        # As it was seen: given up, the freeze completes behind its back, and the next line of the log waits for ever.
        kill -KILL "$freezer" 2>/dev/null
        while grep -qsx fsfreezer /proc/[0-9]*/comm; do sleep 0.2; done
        log "FsFreeze was interrupted by cancel or timeout context deadline exceeded"
        log "4. Thawing FsFreeze"
        exit 1
    fi
fi
set -- "InstanceId=$instance" "Name=$name"
[ -z "$exclude" ] || set -- "$@" "ExcludeDiskId.1=$exclude"
ask CreateSnapshotGroup "$@" >"$work/group"
group=$(ids SnapshotGroupId <"$work/group")
seen=0
while [ -n "$group" ] && [ "$seen" -lt 2 ]; do
    [ "$freeze" != true ] || kill -0 "$freezer" 2>/dev/null || break
    ask DescribeSnapshotGroups "SnapshotGroupId.1=$group" >"$work/seen"
    ! grep -q '"SnapshotId"' "$work/seen" || seen=$((seen + 1))
done
still=1
if [ "$freeze" = true ]; then
    kill -USR1 "$freezer" 2>/dev/null
    wait "$freezer" || still=''
    log "window $((($(date +%s%N) - began) / 1000000)) ms"
    log "$(cat "$work/freezer")"
fi
[ -z "$good" ] || timeout "$limit" "$post" || good=''
if [ "$seen" != 2 ] || [ -z "$still" ]; then
    log "no snapshot group inside the freeze: $(cat "$work/group")"
    exit 1
fi
tag=''
[ "$freeze" != true ] || tag=FsConsistent
[ -z "$good" ] || tag=APPConsistent
[ "$tag" != APPConsistent ] || ! fault misspelt || tag=AppConsistent
if [ -n "$tag" ] && ! fault untagged; then
    set -- ResourceType=snapshot "Tag.1.Key=$tag" Tag.1.Value=True
    n=0
    for id in $(ids SnapshotId <"$work/seen"); do
        n=$((n + 1))
        set -- "$@" "ResourceId.$n=$id"
    done
    ask TagResources "$@" >"$work/tagged"
    ! grep -q '"Code"' "$work/tagged" || log "not tagged: $(cat "$work/tagged")"
fi
log "Finish whole Processes of Snapshot successfully"
