# shellcheck shell=sh disable=SC2154
# The disks of a guest, inside the store's mount namespace: an image on a loop device, under ECS's name with ECS's serial.
# $top: the guest's directory. $here: what the guest sees as its root, or will.

plug() { # DISK SERIAL IMAGE, sets $loop
    [ -z "$(losetup --associated "$3")" ] || { echo "disk d-$2 is attached already" >&2 && return 1; }
    # Left to itself, a loop device takes the sector size of direct I/O, which is 4 KB for a file with shared extents.
    loop=$(losetup --find --show --sector-size 512 --direct-io=on "$3") || return
    loop=${loop##*/}
    forget "$3" # a line about an earlier time says nothing of whose this device is now
    echo "$loop ${3##*/}" >>"$top.loops"
    read -r dev <"/sys/block/$loop/dev"
    mknod -m 660 "$here/dev/$1" b "${dev%:*}" "${dev#*:}"
    ln -s "../../$1" "$here/dev/disk/by-id/virtio-$2"
    sys=$here/sys/block/$1
    mkdir -p "$sys/holders" "$sys/slaves" "$sys/queue"
    echo "$dev" >"$sys/dev" && echo "$2" >"$sys/serial" && cat "/sys/block/$loop/size" >"$sys/size"
    echo 0 >"$sys/ro" && echo 0 >"$sys/removable" && echo 0 >"$sys/queue/rotational" && echo 512 >"$sys/queue/logical_block_size"
    printf 'MAJOR=%s\nMINOR=%s\nDEVNAME=%s\nDEVTYPE=disk\n' "${dev%:*}" "${dev#*:}" "$1" >"$sys/uevent"
    ln -s "/sys/devices/virtual/block/$loop/stat" "$sys/stat" # live counters
    ln -s "../../block/$1" "$here/sys/class/block/$1" && ln -s "../../block/$1" "$here/sys/dev/block/$dev"
}

forget() { # IMAGE
    for list in "${top%/*}"/*.loops; do
        ! grep -q " ${1##*/}\$" "$list" || sed -i "/ ${1##*/}\$/d" "$list"
    done
}
