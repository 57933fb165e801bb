# shellcheck shell=sh disable=SC2034 # guest-disk.sh comes before it
# Plugs a disk into a running guest, or pulls one out; run inside the store's mount namespace.
#   $1 attach|detach, $2 directory of the guest, $3 SERIAL, $4 IMAGE
set -eu
top=$2 here=$2/root

attach() { # SERIAL IMAGE: under the next free name
    for letter in b c d e f g h i j k l m n o p q r s t u v w x y z; do
        [ -e "$here/sys/block/vd$letter" ] || break
    done
    [ ! -e "$here/sys/block/vd$letter" ] || { echo "no name is free" >&2 && exit 1; }
    plug "vd$letter" "$1" "$2"
}

# The real cloud lets you pull out a mounted disk: whoever uses it gets I/O errors. So its file systems are shut down,
# wherever they are mounted. The device itself stays until the last of them is unmounted, at the latest with the guest.
detach() { # SERIAL IMAGE
    disk=$(readlink "$here/dev/disk/by-id/virtio-$1")
    disk=${disk##*/}
    read -r dev <"$here/sys/block/$disk/dev"
    grep -l " $dev " /proc/[0-9]*/mountinfo 2>/dev/null | while read -r info; do
        while read -r _ _ is _ at _; do
            [ "$is" != "$dev" ] || xfs_io -xc shutdown "${info%/mountinfo}/root$at" || true
        done <"$info" 2>/dev/null
    done
    rm -r "$here/sys/block/${disk:?}"
    rm -f "$here/dev/disk/by-id/virtio-$1" "$here/dev/$disk" "$here/sys/class/block/$disk" "$here/sys/dev/block/$dev"
    loop=$(losetup --associated "$2" --noheadings --output NAME)
    loop=${loop##*/}
    losetup --detach "/dev/$loop"
    [ -e "/sys/block/$loop/loop/backing_file" ] || forget "$2"
}

"$1" "$3" "$4"
