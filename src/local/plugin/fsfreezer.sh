#!/bin/sh
# fsfreezer SECONDS MOUNT…: freezes in the order given, `/` first, tells the plugin by SIGUSR1, thaws in reverse at its
# SIGUSR1 or at its own limit. Stands in for the vendor's. A fault `slow N`: the first freeze takes N seconds in the
# kernel, whoever is killed meanwhile.
limit=$1 frozen='' thaw=''
shift
trap 'thaw=1' USR1
back() {
    for at in $frozen; do
        fsfreeze --unfreeze "$at" && echo "thawed $at"
    done
}
slow=$(sed -n 's/^slow //p' /run/appsnap-plugin-faults 2>/dev/null)
for at; do
    if [ -n "$slow" ]; then
        (sleep "$slow" && fsfreeze --freeze "$at") &
        slow='' child=$!
        wait "$child" || exit 1
    else
        fsfreeze --freeze "$at" || { back && exit 1; }
    fi
    frozen="$at $frozen" && echo "frozen $at"
done
kill -USR1 "$PPID"
n=0
while [ -z "$thaw" ] && [ "$n" -lt "$limit" ]; do
    echo "quiescing 1 second"
    sleep 1 &
    wait $!
    n=$((n + 1))
done
back
[ -n "$thaw" ] || { echo "Timedout to receive Thaw from parent process" && exit 1; }
