#!/bin/sh
# Stands in for acs-plugin-manager; flags and exit codes as in the agent's public source. `app-snapshot-plugin` is
# installed already. A fault `exit N` ends it at once.
home=/usr/local/share/aliyun-assist/plugin
name='' params='' limit=60
while [ $# -gt 0 ]; do
    case $1 in
    --exec) ;;
    --plugin) name=$2 && shift ;;
    --timeout) limit=$2 && shift ;;
    --fetchTimeout) shift ;;
    --params=*) params=${1#*=} ;;
    # Without an equals sign a value that begins with a hyphen is taken for a flag.
    *) echo "unknown flag $1" >&2 && exit 1 ;;
    esac
    shift
done
code=$(sed -n 's/^exit //p' /run/appsnap-plugin-faults 2>/dev/null)
[ -z "$code" ] || { echo "ExecutePluginOnline error $code: a fault on demand" && exit "$code"; }
[ -x "$home/$name/1.8/$name" ] || { echo "ExecutePluginOnline PACKAGE_NOT_FOUND: $name" && exit 234; }
IFS=,
# shellcheck disable=SC2086 # at every comma
set -- $params
# Only the direct child is killed, whatever it froze.
timeout --foreground --signal=KILL "$limit" "$home/$name/1.8/$name" "$@"
code=$?
[ "$code" != 137 ] || code=247
exit "$code"
