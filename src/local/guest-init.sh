# shellcheck shell=sh
# Process 1 of a guest: leaves the host's mounts behind, tells its pid as the host sees it, reaps orphans for ever.
# $1 the guest's root, $2 the host name.
set -eu
read -r pid _ </proc/self/stat # still the host's /proc
cd "$1"
pivot_root . mnt
cd /
mount -t proc proc /proc
umount -l /mnt
echo "$2" >/proc/sys/kernel/hostname
echo "ready $pid"
# Run again from the guest's own /usr with the guest's own /dev/null: nothing of the host stays open.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    /bin/sh -c 'while :; do sleep 86400 & wait; done' init </dev/null >/dev/null 2>&1
