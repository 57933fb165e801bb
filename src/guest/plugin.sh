# Runs the vendor's plugin on Linux. The plugin lowers the level in silence where a script is missing, and has left
# guests frozen where a freeze was slow: so the scripts are vetted here, and a guard stands over its freeze.
# The renderer puts the variables in front: attempt role name exclude freeze window scripts limit want min pre post

d=/run/appsnap-plugin/$attempt
lock=/run/appsnap/lock # the sequence's: one run at a time in a guest
reasons=
why() { reasons="$reasons${reasons:+,}\"$*\""; }
tell() { # PHASE EXIT: the last line of the output
    thawed=
    [ ! -s "$d/thawed" ] || thawed=1
    printf '\n{"appsnap-plugin":"1","run":"%s","phase":"%s","exit":"%s","thawed":"%s","reason":[%s]}\n' \
        "$attempt" "$1" "$2" "$thawed" "$reasons"
    case $(readlink $lock) in *" plugin-$attempt") rm -f $lock ;; esac
    rm -rf "$d"
}
birth() { # PID: when it started, since ids come again
    born=
    read -r born 2>/dev/null <"/proc/$1/stat" || return
    # shellcheck disable=SC2086
    set -- ${born##*) }
    born=${20}
}
take_lock() { # a link comes with its owner in one step; that of a dead run is settled first, as the sequence does
    mkdir -p /run/appsnap && rmdir $lock 2>/dev/null
    birth $$
    own="$$ $born plugin-$attempt" n=0
    while ! ln -sn "$own" $lock 2>/dev/null; do
        [ $((n += 1)) -le 20 ] || { why busy "$lock cannot be had" && return 1; }
        held=$(readlink $lock) || continue
        other=${held##* }
        # shellcheck disable=SC2086
        set -- $held
        birth "${1:-0}"
        [ -z "$born" ] || [ "$born" != "$2" ] || { why busy "run $other holds this guest" && return 1; }
        if [ -e "/run/appsnap/$other/sequence.sh" ]; then
            sh "/run/appsnap/$other/sequence.sh" settle "/run/appsnap/$other" >/dev/null 2>&1
            [ $? -ne 23 ] || { why busy "run $other holds this guest" && return 1; }
        fi
        mkdir "$lock.$other" 2>/dev/null || { sleep 1 && continue; }
        [ "$(readlink $lock)" != "$held" ] || rm -f $lock
        rmdir "$lock.$other"
    done
}

vet() { # what the vendor asks of a script: owner root, mode 700
    if [ ! -e "$1" ]; then
        why script.missing "$1"
    elif [ ! -f "$1" ]; then
        why script.type "$1"
    else
        mode=$(stat -L -c '%u %a' "$1")
        [ "${mode% *}" = 0 ] || why script.owner "$1"
        [ "${mode#* }" = 700 ] || why script.mode "$1" has mode "${mode#* }"
    fi
}

thaw() { # side by side: a thaw that is aimed at a freeze in flight waits for it
    IFS='
'
    for at in $points; do
        (fsfreeze --unfreeze "$at" 2>/dev/null && echo "$at" >>"$d/thawed") &
    done
    unset IFS
    wait
}

guard() { # PID of the manager; writes to tmpfs only
    points='' age=0 late=''
    while sleep 1; do
        here=''
        for at in /proc/[0-9]*; do
            { read -r comm <"$at/comm"; } 2>/dev/null || continue
            [ "$comm" = fsfreezer ] || continue
            here=1
            # fsfreezer SECONDS MOUNT…
            found=$(tr '\0' '\n' 2>/dev/null <"$at/cmdline" | sed '1,/^[0-9][0-9]*$/d')
            [ -z "$found" ] || points=$found
        done
        [ -z "$points" ] || age=$((age + 1))
        if ! kill -0 "$1" 2>/dev/null; then
            # It is gone: whatever its freezer left behind, or is still to freeze, goes too, unless all went well.
            [ -z "$here" ] || late=1
            [ ! -e "$d/well" ] || [ -n "$late" ] || return
            thaw
            [ -n "$here" ] || return
        elif [ "$age" -gt $((window + 5)) ]; then
            thaw
            [ -n "$here" ] || points='' age=0
        fi
    done
}

mkdir -p "$d" || { why state.space "$d cannot be made"; tell refused 20; exit 20; }
if [ "$want" = application ]; then
    for phase in pre post; do
        eval "path=\$$phase"
        [ -n "$path" ] || path=/etc/appsnap/${phase}script.sh
        [ -e "$path" ] || [ "$path" != "/etc/appsnap/${phase}script.sh" ] || path=/tmp/${phase}script.sh
        eval "$phase=\$path"
        vet "$path"
    done
    if [ -n "$reasons" ] && [ "$min" = application ]; then
        tell refused 20
        exit 20
    fi
else
    # The plugin runs scripts wherever it finds them: none are wanted.
    pre=/nonexistent/prescript.sh post=/nonexistent/postscript.sh
fi

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # wherever the agent's links are
if ! take_lock; then
    tell refused 21
    exit 21
fi
if ! command -v acs-plugin-manager >/dev/null; then
    why plugin.manager_missing
    tell 'done' 127
    exit 127
fi
params="--RamRoleName=$role,-EnableFsFreeze=$freeze,-TimeoutInSeconds=$window,-ScriptTimeoutInSeconds=$scripts"
params="$params,-PreScriptPath=$pre,-PostScriptPath=$post${exclude:+,-ExcludeDiskId=$exclude},-Name=$name"
acs-plugin-manager --exec --plugin app-snapshot-plugin --fetchTimeout 60 --timeout "$limit" --params="$params" &
manager=$!
# It may outlive this shell.
case $(readlink $lock) in *" plugin-$attempt") birth "$manager" && ln -sfn "$manager $born plugin-$attempt" $lock ;; esac
guard "$manager" </dev/null >/dev/null 2>&1 &
guard=$!
wait "$manager"
code=$?
[ "$code" != 0 ] || true >"$d/well"
wait "$guard"
tell 'done' "$code"
case $code in
193 | 194) exit 1 ;; # the agent would power off or restart the instance
esac
exit "$code"
