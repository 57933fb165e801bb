# shellcheck shell=sh disable=SC2154 # guest-disk.sh comes before it
# Builds a guest's file systems inside the store's mount namespace, then starts its init in namespaces of its own.
# $1 directory of the guest, $2 host name, $3 the text of guest-init.sh. Stdin, a line for each disk:
#   NAME SERIAL FSTYPE MOUNTPOINT IMAGE     (`-` for no file system, no mount point)
set -eu
umask 022
top=$1 id=$2 init=$3 root=$1/root
cd / && mkdir -p "$top" && mount -t tmpfs -o mode=755 scaffold "$top"
mkdir "$top/dev" "$top/empty" "$top/root" "$top/proc"

# /usr and its like: overlays without an upper layer are read-only and answer a freeze with EOPNOTSUPP. The mount point
# for the agent's directory comes from the empty layer above.
system=
for dir in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$dir" ]; then
        cp -P "/$dir" "$top/$dir"
    elif [ -d "/$dir" ]; then
        system="$system $dir"
        mkdir -p "$top/empty/$dir" "$top/$dir"
        if [ "$dir" = usr ]; then
            mkdir -p "$top/empty/usr/local/share/aliyun-assist" "$top/empty/usr/local/sbin"
            ln -s ../share/aliyun-assist/acs-plugin-manager "$top/empty/usr/local/sbin/acs-plugin-manager"
        fi
        mount -t overlay -o "ro,lowerdir=$top/empty/$dir:/$dir" overlay "$top/$dir"
    fi
done

mount -t tmpfs -o mode=755 dev "$top/dev"
for node in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do
    mknod -m 666 "$top/dev/${node% *}" c 1 "${node#* }"
done
ln -s /proc/self/fd "$top/dev/fd" && ln -s fd/0 "$top/dev/stdin" && ln -s fd/1 "$top/dev/stdout" && ln -s fd/2 "$top/dev/stderr"
mkdir -p "$top/dev/shm" "$top/dev/disk/by-id" && mount -t tmpfs -o mode=1777 shm "$top/dev/shm"

mkdir "$top/sys"
mount -t sysfs sysfs "$top/sys"
for dir in block class/block dev/block; do
    mount -t tmpfs -o mode=755 sysfs "$top/sys/$dir"
done

settle() { # a fresh root file system gets its directories, its /etc; any root gets its mounts
    mkdir -p "$root/etc/ssl/certs" "$root/etc/pki/tls/certs" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" \
        "$root/var/log" "$root/var/lib" "$root/var/tmp" "$root/root" "$root/home" "$root/opt/aliyun-assist" "$root/mnt" "$root/srv"
    chmod 1777 "$root/tmp" "$root/var/tmp" && chmod 700 "$root/root"
    [ -L "$root/var/run" ] || ln -s /run "$root/var/run"
    for file in passwd group nsswitch.conf os-release ld.so.cache ld.so.conf alternatives services protocols \
        pam.d security login.defs; do # the last three: su and runuser
        [ ! -e "/etc/$file" ] || [ -e "$root/etc/$file" ] || cp -a "/etc/$file" "$root/etc/"
    done
    # No password of the host goes into an image, and none opens anything.
    [ -e "$root/etc/shadow" ] || (umask 077 && sed 's/:.*/:*:20000::::::/' "$root/etc/passwd" >"$root/etc/shadow")
    [ ! -f /etc/ssl/openssl.cnf ] || cp /etc/ssl/openssl.cnf "$root/etc/ssl/"
    cp "$top.hosts" "$root/etc/hosts" && echo "$id" >"$root/etc/hostname" && : >"$root/etc/resolv.conf"
    ln -sf /proc/self/mounts "$root/etc/mtab"
    cp "$top.ca" "$root/etc/ssl/certs/ca-certificates.crt" # Debian's place; below, where others look
    ln -sf certs/ca-certificates.crt "$root/etc/ssl/cert.pem"
    ln -sf /etc/ssl/certs/ca-certificates.crt "$root/etc/pki/tls/certs/ca-bundle.crt"
    for dir in bin sbin lib lib32 lib64 libx32; do
        [ ! -L "$top/$dir" ] || [ -L "$root/$dir" ] || cp -P "$top/$dir" "$root/$dir"
    done
    for dir in dev sys $system; do
        mkdir -p "$root/$dir" && mount --move "$top/$dir" "$root/$dir"
    done
    mount -t tmpfs -o mode=755 run "$root/run"
    # The agent's directory has to freeze with the root, though /usr is read-only.
    mount --bind "$root/opt/aliyun-assist" "$root/usr/local/share/aliyun-assist"
}

here=$top # what the mounts see as `/`, so that their sources read /dev/vdb
while read -r disk serial fs at image; do
    plug "$disk" "$serial" "$image"
    [ "$at" != - ] || continue
    options=rw
    [ "$fs" != xfs ] || options=rw,nouuid # clones are mounted next to their originals on this one kernel
    if [ "$at" = / ]; then
        chroot "$top" mount -t "$fs" -o "$options" "/dev/$disk" /root
        settle && here=$root
    else
        mkdir -p "$here$at" && chroot "$here" mount -t "$fs" -o "$options" "/dev/$disk" "$at"
    fi
    losetup --detach "/dev/$loop" # from now on it goes with its last mount
done
exec unshare --mount --propagation private --uts --ipc --pid --fork --kill-child sh -c "$init" appsnap-init "$root" "$id" </dev/null
