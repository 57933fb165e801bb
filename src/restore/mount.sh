# shellcheck shell=sh
# Finds disks by their serial, on them file systems by their UUID, and mounts these; what is mounted there already stays.
set -eu
device() { # the block device of disk $1 (d-...); `-` is every disk. One that was just attached may take a moment.
    tries=0
    while [ $tries -lt 30 ]; do
        found=
        for sys in /sys/block/*; do
            for file in serial device/serial device/wwid; do # virtio, NVMe, SCSI
                [ -r "$sys/$file" ] || continue
                serial=$(tr -d '\000\n' <"$sys/$file" 2>/dev/null) || continue
                case $1,$serial in -,?* | "$1,${1#d-}" | "$1,$1" | "$1",*" ${1#d-}") found="$found /dev/${sys##*/}" ;; esac
            done
        done
        [ -z "$found" ] || break
        sleep 1
        tries=$((tries + 1))
    done
    [ "$found" ] || { echo "$1: no device in this guest has its serial; is it attached?" >&2 && return 1; }
    echo "$found"
}
parts() { # the devices $@, their partitions, and what is made of these: volumes of LVM, of crypt, of md
    for whole; do
        case $whole in *[0-9]) part=${whole}p ;; *) part=$whole ;; esac
        for one in "$whole" "$part"[0-9]*; do
            [ -b "$one" ] || continue
            echo "$one"
            for holder in "/sys/class/block/${one##*/}/holders"/*; do
                [ ! -e "$holder" ] || (parts "/dev/${holder##*/}")
            done
        done
    done
}
is() { blkid -p -o value -s "$2" "$1" 2>/dev/null || :; } # the UUID or TYPE of what is on device $1
# LVM's volumes on the disks $2 ...; where $1 is `copy` their originals are here too, and the copies get names of their own.
volumes() {
    how=$1 pvs='' new=''
    shift
    for disk; do
        devices=$(device "$disk")
        # shellcheck disable=SC2086 # a list of devices
        for part in $(parts $devices); do
            [ "$(is "$part" TYPE)" != LVM2_member ] || pvs="$pvs $part"
        done
    done
    [ "$pvs" ] || return 0
    for part in $pvs; do # by the disk: the name may be that of another copy
        case $(pvs --noheadings -o vg_name "$part" 2>/dev/null || :) in *appsnap_copy*) ;; *) new="$new $part" ;; esac
    done
    if [ "$how" = copy ] && [ "$new" ]; then
        # shellcheck disable=SC2086 # RHEL 9 and its like keep a list of devices: add --importdevices there
        vgimportclone --basevgname appsnap_copy $new
    fi
    # shellcheck disable=SC2086
    group=$(pvs --noheadings -o vg_name $pvs | sort -u)
    [ "$group" ] || { echo "$pvs: of no volume group that LVM shows" >&2 && return 1; }
    # shellcheck disable=SC2086
    vgchange -ay $group
}
put() { # DISK UUID TYPE DIRECTORY OPTIONS
    devices=$(device "$1") hit=
    # shellcheck disable=SC2086 # a list of devices
    for part in $(parts $devices); do
        case $(is "$part" UUID),$(is "$part" TYPE),$2 in "$2",* | *,"$3,-") hit=$part && break ;; esac
    done
    [ "$hit" ] || { echo "$1: no $3 with UUID $2 is on it; if it is encrypted (LUKS), open it first" >&2 && return 1; }
    if mountpoint -q "$4"; then
        # Nothing is to be started on something else's data. A btrfs has no device number that could be compared.
        [ "$3" = btrfs ] || [ "$(mountpoint -d "$4")" = "$(mountpoint -x "$hit")" ] ||
            { echo "$4: something else than $hit is mounted there; unmount it first" >&2 && return 1; }
        echo "$hit is mounted on $4"
        return
    fi
    mkdir -p "$4"
    # It would be hidden, from whoever has it open too: an engine that was just installed, say.
    [ -z "$(ls -A "$4")" ] || { echo "$4 is not empty: stop what uses it, and move it away first" >&2 && return 1; }
    mount -t "$3" -o "$5" "$hit" "$4"
    echo "$hit is mounted on $4 now"
}
keep() { # UUID TYPE DIRECTORY: mounted there after a restart too; nofail, so that a lack of it does not stop the boot
    grep -q "^UUID=$1[[:space:]]" /etc/fstab 2>/dev/null || {
        at=$(printf '%s\n' "$3" | sed 's/\\/\\134/g; s/ /\\040/g; s/#/\\043/g')
        printf '%s\n' "UUID=$1 $at $2 defaults,nofail 0 2" >>/etc/fstab
    }
}
every() { # DISK DIRECTORY OPTIONS: each file system on it, for where its place is not recorded
    devices=$(device "$1")
    # shellcheck disable=SC2086
    for part in $(parts $devices); do
        case $(is "$part" TYPE) in
        ext[234] | btrfs | f2fs | jfs) put "$1" "$(is "$part" UUID)" "$(is "$part" TYPE)" "$2/${part##*/}" "$3" ;;
        xfs) put "$1" "$(is "$part" UUID)" xfs "$2/${part##*/}" "$3,nouuid" ;;
        esac
    done
}
