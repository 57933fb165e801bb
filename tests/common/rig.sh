#!/bin/sh
# A guest for the sequence's tests: private mount and pid namespace, an ext4 and an XFS disk on loop devices with
# serials, tmpfs on /run. Reads shell lines from its standard input, answers each with its output and a line `--STATUS--`.
# At the end of its input (also when the test dies) it thaws, unmounts and goes.
set -u
W=$1
umask 022
mount -t tmpfs none /run && mount -t tmpfs none /mnt && mkdir /mnt/d /mnt/x /run/scripts || exit 1
chmod 700 /run/scripts
truncate -s 64M "$W/d.img" && truncate -s 320M "$W/x.img" && mkfs.ext4 -qF "$W/d.img" && mkfs.xfs -qf "$W/x.img" || exit 1
LD=$(losetup -f --show "$W/d.img") && LX=$(losetup -f --show "$W/x.img") || exit 1
mount "$LD" /mnt/d && mount "$LX" /mnt/x
mounted=$?
losetup -d "$LD" "$LX" # goes with the last unmount
[ $mounted = 0 ] || exit 1
mount -t tmpfs none /sys/block
for p in "vdb bp1ext4 $LD" "vdc bp1xfs $LX"; do
  # shellcheck disable=SC2086
  set -- $p
  mkdir "/sys/block/$1" && echo "$2" >"/sys/block/$1/serial"
  cat "/sys/class/block/${3##*/}/dev" >"/sys/block/$1/dev" && cat "/sys/class/block/${3##*/}/stat" >"/sys/block/$1/stat"
done
echo --ready--
while read -r line; do
  (eval "$line") </dev/null 2>&1
  echo "--$?--"
done
fsfreeze --unfreeze /mnt/x 2>/dev/null
fsfreeze --unfreeze /mnt/d 2>/dev/null
for p in /proc/[0-9]*; do
  p=${p#/proc/}
  [ "$p" = 1 ] || kill -KILL "$p" 2>/dev/null
done
cd / && umount /mnt/d /mnt/x 2>/dev/null
rm -rf "$W"
