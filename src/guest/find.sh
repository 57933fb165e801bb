# Part of the guest sequence: disk id -> block device by serial -> partitions, md, LVM, loop files on top -> mounts.
# Reads /sys and /proc below $R, so that layouts which a test machine cannot have are walked on recorded trees.

sys_of() { # S is a device's directory; a partition lives below its disk
  S=$R/sys/class/block/$1
  [ -e "$S/dev" ] || S=$R/sys/block/$1
}
dev_of() { sys_of "$1" && read -r DEV 2>/dev/null <"$S/dev"; }
in_set() { case " $SET" in *" $1:"*) return 0 ;; esac; return 1; }
exists() { [ -e "$1" ] || [ -L "$1" ]; } # a recorded tree has dangling links

add() { # NAME LEVEL DISK: the device and all that is stacked upon it
  in_set "$1" && return 0
  SET="$SET$1:$2:$3 "
  sys_of "$1"
  for k in "$S"/"$1"*/partition "$S"/holders/*; do
    exists "$k" || continue
    LEAF="$LEAF $1 " # something stands on it: not a leaf
    k=${k%/partition}
    add "${k##*/}" "$2" "$3"
    sys_of "$1"
  done
}
mounts() { # "MAJ:MIN TYPE SOURCE MOUNTPOINT", one line a mount, in mount order
  awk '{ for (i = 7; $i != "-"; i++); print $3, $(i + 1), $(i + 2), $5 }' "$R/proc/self/mountinfo"
}
unescape() { printf "$(printf %s "$1" | sed 's/%/%%/g')"; } # mountinfo writes a space as \040

find_disks() {
  SET='' LEAF=''
  mounts >"$D/mounts"
  for id in $DISKS; do
    hit=''
    for b in "$R"/sys/block/*; do
      b=${b##*/} s=''
      for f in serial device/serial device/wwid; do # virtio, NVMe, SCSI
        read -r s 2>/dev/null <"$R/sys/block/$b/$f" && [ "$s" ] && break
      done
      case $s in "$id" | "${id#d-}") hit=$b && add "$b" 0 "$id" ;; esac
    done
    if [ "$hit" ]; then put disk "$id $hit"; else why disk.not_found "$id: no device has its serial"; fi
  done
  before=
  while [ "$before" != "$SET" ]; do # loop files on our file systems, and what stands on those, until nothing is new
    before=$SET
    for l in "$R"/sys/block/*/loop/backing_file; do
      exists "$l" && read -r file <"$l" && b=${l%/loop/*} || continue
      loop_on "${b##*/}" "$file"
    done
  done
  for e in $SET; do # a stack that also stands on a disk outside of the group would be cut in two
    sys_of "${e%%:*}"
    for k in "$S"/slaves/*; do
      exists "$k" || continue
      in_set "${k##*/}" || why fs.spans "${e%%:*} also stands on ${k##*/}, which is not in the group"
    done
  done
}
loop_on() { # NAME FILE: is the file on one of ours?
  in_set "$1" && return
  best='' on=''
  while read -r dev _ src at; do # the longest mount point above the file holds it
    case $2 in "${at%/}"/*) [ "${#at}" -ge "${#best}" ] && best=$at on="$dev ${src##*/}" ;; esac
  done <"$D/mounts"
  for e in $SET; do
    dev_of "${e%%:*}" || continue
    lv=${e#*:}
    case $on in "$DEV "* | *" ${e%%:*}") add "$1" $((${lv%%:*} + 1)) "${lv#*:}" && return ;; esac
  done
}
find_mounts() { # $D/fs: "LEVEL MAJ:MIN TYPE DEVICE DISK MOUNTPOINT", top of the stack and deepest path first, / last
  : >"$D/fs.raw"
  QUIET=''
  for e in $SET; do
    b=${e%%:*} lv=${e#*:} got=''
    dev_of "$b" || continue
    while read -r dev type src at; do
      case "$dev $src" in "$DEV "* | 0:*" /dev/$b") ;; *) continue ;; esac # btrfs has no device of its own
      case $type in
      vfat | msdos | exfat | iso9660) continue ;; # cannot be frozen: has to be quiet
      gfs | gfs2 | ocfs2) stop fs.shared "$type on $at is a shared file system: its disk cannot be in the group" ;;
      esac
      [ "$got" ] && continue                           # once per superblock
      [ "$R" ] || [ -d "$(unescape "$at")" ] || continue # a bind mount of a file cannot be opened for a freeze
      got=1
      grep -q "^[0-9]* $dev " "$D/fs.raw" || echo "${lv%%:*} $dev $type $b ${lv#*:} $at" >>"$D/fs.raw"
    done <"$D/mounts"
    case "$LEAF$got" in *" $b "* | *1) ;; *) QUIET="$QUIET $b" ;; esac
    [ "$got" ] || ! grep -qs "^[0-9]* [0-9]* $DEV " "$R"/proc/[0-9]*/mountinfo || grep -q "^$DEV " "$D/mounts" ||
      why fs.namespace "$b is mounted in another mount namespace (a container?)"
  done
  awk '{ print length($6), $0 }' "$D/fs.raw" | sort -k2,2nr -k1,1nr | cut -d' ' -f2- >"$D/fs"
  COUNT=0
  while read -r lv dev type b id at; do
    COUNT=$((COUNT + 1))
    put fs "$id $type $(blkid -o value -s UUID "/dev/$b" 2>/dev/null || echo -) $at"
  done <"$D/fs"
  while read -r _ type _ at; do
    case $type in nfs* | cifs | smb3 | ceph | glusterfs | fuse.* | 9p | lustre) note fs.network "$type on $at is not in the snapshot" ;; esac
  done <"$D/mounts"
}
changed() { # has one of our mounts come, gone or moved since?
  mounts >"$D/mounts.now"
  cut -d' ' -f2 "$D/fs" | sort -u >"$D/devs"
  for x in mounts mounts.now; do grep -F -f "$D/devs" "$D/$x" | sort >"$D/$x.ours"; done
  [ -s "$D/devs" ] && ! cmp -s "$D/mounts.ours" "$D/mounts.now.ours"
}
writes() { # W: sectors written so far to the devices that cannot be frozen (field 7 of stat)
  W=''
  for b in $QUIET; do sys_of "$b" && read -r _ _ _ _ _ _ w _ 2>/dev/null <"$S/stat" && W="$W $b=$w"; done
}
