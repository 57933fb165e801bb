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

reach() { # MAJ:MIN MOUNTPOINT: goes there, if it is that file system that is seen there
  cd "$(unescape "$2")" || return 1
  m=${1%:*} k=${1#*:}
  [ "$m" = 0 ] || [ "$(stat -c %d .)" = $(((k & 255) | (m << 8) | ((k & ~255) << 12))) ]
}

find_disks() {
  SET='' LEAF=''
  mounts >"$D/mounts" || stop state.space "the mounts do not fit on /run"
  for id in $DISKS; do
    hit=''
    for b in "$R"/sys/block/*; do
      b=${b##*/} s=''
      for f in serial device/serial device/wwid; do # virtio (without a newline), NVMe, SCSI (type, vendor, serial)
        read -r s 2>/dev/null <"$R/sys/block/$b/$f"
        [ "$s" ] && break
      done
      case $s in "$id" | "${id#d-}" | *" ${id#d-}") hit=$b && add "$b" 0 "$id" ;; esac # each path of a multipath
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
    at=$(unescape "$at")
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
    b=${e%%:*} lv=${e#*:} got='' hidden=''
    dev_of "$b" || continue
    while read -r dev type src at; do
      case "$dev $src" in "$DEV "* | 0:*" /dev/$b") ;; *) continue ;; esac # btrfs has no device of its own
      case $type in
      vfat | msdos | exfat | iso9660) continue ;; # cannot be frozen: has to be quiet
      gfs | gfs2 | ocfs2) stop fs.shared "$type on $at is a shared file system: its disk cannot be in the group" ;;
      esac
      [ "$got" ] && continue                           # once per superblock
      [ "$R" ] || (reach "$dev" "$at") || { hidden=1 && continue; } # a bind mount of a file, or another mount lies over it
      got=1
      grep -q "^[0-9]* $dev " "$D/fs.raw" || # dash's echo would undo the escapes
        printf '%s\n' "${lv%%:*} $dev $type $b ${lv#*:} $at" >>"$D/fs.raw"
    done <"$D/mounts"
    [ "$hidden$got" != 1 ] || [ "$got" ] || why fs.hidden "$b is mounted, but out of reach: another mount lies over it"
    case "$LEAF$got" in *" $b "* | *1) ;; *) QUIET="$QUIET $b" ;; esac
    [ "$got" ] || ! grep -qs "^[0-9]* [0-9]* $DEV " "$R"/proc/[0-9]*/mountinfo || grep -q "^$DEV " "$D/mounts" ||
      why fs.namespace "$b is mounted in another mount namespace (a container?)"
  done
  awk '{ print length($6), $0 }' "$D/fs.raw" | sort -k2,2nr -k1,1nr | cut -d' ' -f2- >"$D/fs" || stop state.space "the mounts do not fit on /run"
  COUNT=0
  while read -r lv dev type b id at; do
    COUNT=$((COUNT + 1))
    put fs "$id $type $(blkid -o value -s UUID "$R/dev/$b" 2>/dev/null || echo -) $at"
  done <"$D/fs"
  while read -r _ type _ at; do
    case $type in nfs* | cifs | smb3 | ceph | glusterfs | fuse.* | 9p | lustre) note fs.network "$type on $at is not in the snapshot" ;; esac
  done <"$D/mounts"
}
changed() { # has one of our mounts come, gone or moved since?
  mounts | sort >"$D/mounts.now"
  sort "$D/mounts" | awk 'FILENAME == ARGV[1] { ours[$2]; next } { k = FILENAME == "-" } $1 in ours { if (k) was = was $0; else is = is $0 }
    END { exit was == is }' "$D/fs" - "$D/mounts.now"
}
writes() { # W: sectors written so far to the devices that cannot be frozen (field 7 of stat)
  W=''
  for b in $QUIET; do sys_of "$b" && read -r _ _ _ _ _ _ w _ 2>/dev/null <"$S/stat" && W="$W $b=$w"; done
}

# The user's prescript and postscript are looked at here too.
vet() { # PHASE PATH: WRONG is empty, or a code and a sentence
  put "$1.path" "$2"
  WRONG=''
  if [ -L "$2" ]; then WRONG="symlink $2 is a symbolic link"
  elif [ ! -e "$2" ]; then WRONG="missing $2 does not exist"
  elif [ ! -f "$2" ]; then WRONG="type $2 is not a regular file"
  else
    put "$1.sha256" "$(sha256sum "$2" | cut -c1-64)"
    owner=$(stat -c %u "$2") mode=$(stat -c %a "$2") dir=${2%/*}
    up=$(stat -c %a "${dir:-/}")
    if [ "$owner" != 0 ]; then WRONG="owner $2 belongs to uid $owner, not to root"
    elif [ "$mode" != 700 ]; then WRONG="mode $2 has mode 0$mode, not 0700"
    elif [ "$(stat -c %u "${dir:-/}")" != 0 ] || { [ $((0$up & 022)) != 0 ] && [ $((0$up & 01000)) = 0 ]; }; then
      WRONG="parent ${dir:-/} can be written by others than root"
    fi
  fi
}
vet_scripts() { # SCRIPTS is set when both may run: one alone would leave a lock behind, or open a foreign one
  SCRIPTS=''
  [ "$WANT" = application ] || return 0
  for s in pre post; do
    [ $s = pre ] && path=$PRE || path=$POST
    if [ ! "$path" ]; then
      path=/tmp/${s}script.sh
      [ -e "/etc/appsnap/${s}script.sh" ] && path=/etc/appsnap/${s}script.sh
    fi
    [ $s = pre ] && PRE=$path || POST=$path
    vet $s "$path"
    [ "$WRONG" ] && why "script.${WRONG%% *}" "${WRONG#* }"
  done
  case $BAD in *' script.'*) ;; *) SCRIPTS=1 ;; esac
}
