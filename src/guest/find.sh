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
  case $m$(stat -f -c %T .) in 0btrfs) awk -v d="$1" '/^mnt_id/ { m = $2 } $1 == m && $3 == d { f = 1 } END { exit !f }' /proc/self/fdinfo/0 /proc/self/mountinfo <.; return ;; esac
  [ "$(stat -c %d .)" = $(((k & 255) | (m << 8) | ((k & ~255) << 12))) ]
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
    case $2 in "${at%%\\*}"*) ;; *) continue ;; esac # no fork for what cannot hold it: there may be a thousand
    case $at in *\\*) at=$(unescape "$at") ;; esac
    case $2 in "${at%/}"/*) [ "${#at}" -ge "${#best}" ] && best=$at on="$dev ${src##*/}" ;; esac
  done <"$D/mounts"
  for e in $SET; do
    dev_of "${e%%:*}" || continue
    lv=${e#*:}
    case $on in "$DEV "* | *" ${e%%:*}") add "$1" $((${lv%%:*} + 1)) "${lv#*:}" && return ;; esac
  done
}
pool_of() { # NAME: POOL is every source that a mounted btrfs of this device can have, each between spaces
  POOL=''
  for l in "$R"/sys/fs/btrfs/*/devices/"$1"; do
    exists "$l" || continue
    for k in "${l%/*}"/*; do
      k=${k##*/}
      POOL="$POOL /dev/$k "
      read -r m 2>/dev/null <"$R/sys/class/block/$k/dm/name" && POOL="$POOL /dev/mapper/$m "
      in_set "$k" || why fs.spans "$1 also stands on $k, which is not in the group"
    done
  done
}
find_mounts() { # $D/fs: "LEVEL MAJ:MIN TYPE DEVICE DISK MOUNTPOINT", top of the stack and deepest path first, / last
  true >"$D/fs.raw" && true >"$D/devs"
  QUIET='' CALM=''
  for e in $SET; do
    b=${e%%:*} lv=${e#*:} got='' hidden='' seen=''
    dev_of "$b" || continue
    echo "- $DEV" >>"$D/devs" # what is mounted later is seen
    pool_of "$b"
    while read -r dev type src at; do
      case "$dev $POOL" in "$DEV "* | 0:*" $src "*) ;; *) continue ;; esac # btrfs has no device number in common
      seen=1
      case $type in
      ext[234] | xfs | btrfs | f2fs | jfs) ;;
      gfs | gfs2 | ocfs2) stop fs.shared "$type on $at" ;;
      *) CALM="$CALM $at" && continue ;; # no freeze in it (vfat, squashfs, FUSE): has to be quiet
      esac
      [ "$got" ] && continue                           # once per superblock
      [ "$R" ] || (reach "$dev" "$at") || { hidden=1 && continue; } # a bind mount of a file, or another mount lies over it
      got=1
      grep -q "^[0-9]* $dev " "$D/fs.raw" || # dash's echo would undo the escapes
        printf '%s\n' "${lv%%:*} $dev $type $b ${lv#*:} $at" >>"$D/fs.raw"
    done <"$D/mounts"
    [ "$got" ] || [ ! "$hidden" ] || why fs.hidden "$b is out of reach: another mount lies over it"
    case "$LEAF$got" in *" $b "* | *1) ;; *) QUIET="$QUIET $b" ;; esac
    [ "$seen" ] || { [ ! "$POOL" ] && ! ls -d "$R"/sys/fs/*/"$b" 2>/dev/null && ! grep -qs "^[0-9]* [0-9]* $DEV " "$R"/proc/[0-9]*/mountinfo; } ||
      why fs.namespace "$b is mounted elsewhere: in a container, or lazily unmounted"
  done
  awk '{ print length($6), $0 }' "$D/fs.raw" | sort -k2,2nr -k1,1nr | cut -d' ' -f2- >"$D/fs" || stop state.space "the mounts do not fit on /run"
  COUNT=0
  while read -r lv dev type b id at; do
    COUNT=$((COUNT + 1))
    put fs "$id $type $(blkid -o value -s UUID "$R/dev/$b" 2>/dev/null || echo -) $at"
  done <"$D/fs"
  n=0
  while read -r _ type _ at; do # an answer has 24 KB, and any user can make mounts by the hundred
    case $type in nfs* | cifs | smb3 | ceph | glusterfs | fuse.* | 9p | lustre) [ $((n += 1)) -le 9 ] || break; note fs.network "$type on $at" ;; esac
  done <"$D/mounts"
}
# The user's prescript and postscript are looked at here too.
vet() { # PHASE PATH: WRONG is empty, or a code and what is wrong (what a code means is told by the function)
  put "$1.path" "$2"
  WRONG=''
  if ! exists "$2"; then WRONG="missing $2"
  elif [ "$(readlink -f "$2")" != "$2" ]; then WRONG="symlink $2"
  elif [ ! -f "$2" ]; then WRONG="type $2"
  else
    put "$1.sha256" "$(sha256sum "$2" | cut -c1-64)"
    dir=$2
    while [ "$dir" ]; do # whoever can rename a directory above can put another script there
      dir=${dir%/*}
      case $(stat -c '%u %a' "${dir:-/}") in 0\ *[0145][0145] | 0\ [1357]???) ;; *) WRONG="parent ${dir:-/}" ;; esac
    done
    # shellcheck disable=SC2046
    set -- "$2" $(stat -c '%u %a %h' "$2")
    if [ "$2" != 0 ]; then WRONG="owner $1 belongs to uid $2, not to root"
    elif [ "$3" != 700 ]; then WRONG="mode $1 has mode 0$3, not 0700"
    elif [ "$4" != 1 ]; then WRONG="links $1 has $4 names"
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
