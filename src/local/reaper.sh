# shellcheck shell=sh
# Holds the mount namespace of a store and cleans up after it. Handed to `sh -c`, so that nothing of it lies in the
# directory that it removes.
#   hold  STATE MIB   make and mount the store, say "ready", wait for the end of stdin (the owner is done or dead), clean up
#   guest STATE ID    end one guest; run inside the store's namespace
#   sweep STATE       clean up after an owner that is gone; run in a mount namespace of its own
# Everything is found by the backing files of loop devices. A file of a mount that is detached shows only the part of its
# path below that mount: so the state directory's name comes again as the top directory of the store.
set -u
verb=$1 state=$2 name=${2##*/}
case $name in appsnap-local-?*) ;; *) echo "$state is not a state directory of the local cloud" && exit 2 ;; esac

loops() { # the loop devices of this state directory
    for file in /sys/block/loop*/loop/backing_file; do
        read -r path <"$file" || continue
        case $path in */"$name"/*) file=${file#/sys/block/} && echo "${file%%/*}" ;; esac
    done 2>/dev/null
}

# A number that is free again may be somebody else's a moment later: asked last before every act on a device.
mine() { # LOOP
    read -r path <"/sys/block/$1/loop/backing_file" || return 1
    case $path in */"$name"/*) ;; *) return 1 ;; esac
} 2>/dev/null

mounted() { # PID DEV: prints where the mount namespace of that process has it, as a path that we can open
    while read -r _ _ dev _ at _; do
        [ "$dev" = "$2" ] && echo "/proc/$1/root$at" && return 0
    done 2>/dev/null <"/proc/$1/mountinfo"
    return 1
}

holders() { # DEV: the processes that have it mounted
    grep -l " $1 " /proc/[0-9]*/mountinfo 2>/dev/null | while read -r info; do
        info=${info#/proc/} && echo "${info%/mountinfo}"
    done
}

# Each thaw is a child of its own that nobody waits for: one that is aimed at a freeze in flight hangs until others thaw.
thaw() { # DEV LOOP
    if at=$(mounted $$ "$1"); then
        fsfreeze --unfreeze "$at" &
        return
    fi
    found=
    for pid in $(holders "$1"); do
        if ! at=$(mounted "$pid" "$1") || ! mine "$2"; then continue; fi
        found=1
        fsfreeze --unfreeze "$at" &
    done
    # A frozen superblock outlives its last mount; a new mount gets the same one, still frozen.
    if [ -z "$found" ] && [ "$round" -gt 3 ] && mine "$2"; then
        mkdir -p "$state/rescue/$2"
        ( mount "/dev/$2" "$state/rescue/$2" && fsfreeze --unfreeze "$state/rescue/$2" ) &
    fi
}

strip() { # unmounts the trees of the guests to end
    for at in "$state"/guests/$guest/; do
        umount -R "$at"
    done 2>/dev/null
}

end() { # LOOP...: thaw all, kill who lives on them, let go of them
    for loop; do
        read -r dev <"/sys/block/$loop/dev" && thaw "$dev" "$loop"
    done
    sleep 0.1 # a thaw needs its path, and so the process whose path it is, for a moment
    for loop; do
        read -r dev <"/sys/block/$loop/dev" || continue
        pids=$(holders "$dev")
        mine "$loop" || continue
        for pid in $pids; do
            [ "$(readlink "/proc/$pid/ns/mnt")" = "$here" ] || kill -KILL "$pid"
        done
    done
    strip
    for loop; do
        read -r dev <"/sys/block/$loop/dev" || continue
        while at=$(mounted $$ "$dev") && umount "$at"; do :; done
        mine "$loop" && losetup --detach "/dev/$loop"
    done
}

ours() { # LIST: those of a guest's loop devices that still carry the disk that they were made for
    while read -r loop image; do
        read -r path <"/sys/block/$loop/loop/backing_file" || continue
        case $path in */"$name"/*/"$image" | */"$name"/*/"$image (deleted)") printf '%s ' "$loop" ;; esac
    done 2>/dev/null <"$1"
}

# Repeated: a freeze in flight lands after our thaw, a writer in D state dies only after it, a start in progress adds a loop.
repeat() { # COMMAND that prints the loop devices to end; about 20 s at most
    here=$(readlink /proc/self/ns/mnt) round=0
    while left=$("$@") && [ -n "$left" ]; do
        round=$((round + 1))
        [ "$round" -gt 200 ] && return 1
        # shellcheck disable=SC2086 # a list
        end $left 2>/dev/null
    done
    return 0
}

clean() {
    guest='*'
    repeat loops && strip
    # Never below a mount: there may be the host's /sys.
    ! grep -q " $state/" /proc/self/mountinfo && [ -z "$(loops)" ] && rm -rf "$state"
}

make_store() { # MIB
    umask 077
    truncate -s "$1M" "$state/store.img" && mkfs.xfs -q -K -m reflink=1 "$state/store.img" &&
        mkdir "$state/store" "$state/guests" &&
        store=$(losetup --find --show --direct-io=on "$state/store.img") &&
        mount -t xfs -o noatime "$store" "$state/store" && mkdir -p "$state/store/$name"
}

case $verb in
    hold)
        trap '' HUP INT TERM PIPE
        made=0
        make_store "$3" 2>&1 && made=1 && echo ready
        exec >/dev/null 2>&1
        while [ "$made" = 1 ] && read -r _; do :; done
        clean && [ "$made" = 1 ]
        ;;
    guest)
        guest=$3
        repeat ours "$state/guests/$3.loops" && strip
        ! [ -d "$state/guests/$3" ] || rmdir "$state/guests/$3" || exit
        rm -f "$state/guests/$3".*
        ;;
    sweep) clean ;;
esac
