# Installs a recipe's scripts below /etc/appsnap, or takes them away. All is judged and written under other names before the
# first name changes. In between, the old pair is away and the new one not there yet: never one script of each. The renderer
# puts in front: DO NAME TOKEN FORCE, for each file its PRE_SHA PRE_SIZE and so on, LAST (the end of what is packed).
set -u
umask 077
export LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin
E=/etc/appsnap T=/run/appsnap/recipe-$TOKEN
CONF=$NAME.conf
AWAY='' PLACED='' MADE=''

no() { # SENTENCE: what is wrong, where, and the cure
  undo
  clean
  [ ! "$MADE" ] || rmdir $E
  echo "appsnap-recipe: refused $*"
  exit 20
}
clean() { rm -rf "$T" "$E/.prescript.sh.$TOKEN" "$E/.postscript.sh.$TOKEN" "$E/.$CONF.$TOKEN"; }
undo() { # the old names, as they were
  for f in $PLACED; do rm -f "$E/$f"; done
  for f in $AWAY; do [ -e "$E/$f" ] || mv -f "$E/$f.before-$(short "$f")" "$E/$f"; done
}
trap clean EXIT
trap 'no "ended by a signal; nothing was changed"' INT TERM HUP

sum() { sha256sum "$1" 2>/dev/null | cut -c1-64; }
short() { eval "echo \"\$WAS_$(key "$1")\"" | cut -c1-12; }
key() { case $1 in pre*) echo PRE ;; post*) echo POST ;; *) echo CONF ;; esac; }
want() { eval "echo \"\$$(key "$1")_$2\""; } # FILE SHA|SIZE
lives() { # PID START: is it still that process? Ids come again
  stat='' && read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  b=$2
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "${20}" = "$b" ] && [ "$1" != Z ]
}
at_work() { # a script that is exchanged in mid-run would not know the other one's lock
  run=$(readlink /run/appsnap/lock) && p=${run%% *} b=${run#* } && lives "$p" "${b%% *}" &&
    no "a run of appsnap is at work in this guest (${run##* }): try again when it is over"
  for h in /run/appsnap-recipe/*/holder; do
    p='' && read -r p b 2>/dev/null <"$h" && lives "$p" "$b" &&
      no "a lock is held (${h%/*}): try again when its postscript has run, or its deadline has come"
  done
}
judge() { # the directory, and what is there
  [ "$(id -u)" = 0 ] || no "not run as root, but as uid $(id -u): let Cloud Assistant run commands as root"
  for t in base64 gzip sha256sum stat cut head tail; do
    command -v $t >/dev/null || no "$t is not installed in the guest: install it"
  done
  for d in /etc $E; do
    [ ! -L "$d" ] || no "$d is a symbolic link to $(readlink "$d"): put a directory there, owner root, mode 0755"
    [ -e "$d" ] || continue
    [ -d "$d" ] || no "$d is no directory: put one there, owner root, mode 0755"
    case $(stat -c '%u %a' "$d") in
    0\ *[2367] | 0\ *[2367]?) no "$d can be written by others (mode $(stat -c %a "$d")): chmod 0755 $d" ;;
    0\ *) ;;
    *) no "$d belongs to uid $(stat -c %u "$d"), not to root: see who made it, then chown root $d" ;;
    esac
  done
  NEW='' OTHERS=''
  for f in $FILES; do
    WAS=''
    if [ -L "$E/$f" ]; then
      no "$E/$f is a symbolic link to $(readlink "$E/$f"): remove it"
    elif [ -e "$E/$f" ]; then
      [ -f "$E/$f" ] || no "$E/$f is no regular file: remove it"
      WAS=$(sum "$E/$f")
      [ "$WAS" = "$(want "$f" SHA)" ] || OTHERS="$OTHERS $f"
    fi
    eval "WAS_$(key "$f")=\$WAS"
    [ "$WAS" = "$(want "$f" SHA)" ] || NEW="$NEW $f"
  done
}
tell() { # FILE STATE: read back
  echo "appsnap-recipe: file $E/$1 $(sum "$E/$1") $2"
}
named() { # FILE...: with what they are
  for f in "$@"; do
    printf '%s ' "$E/$f (sha256 $(sum "$E/$f" | cut -c1-12)$(sed -n '2s/^# appsnap recipe \([a-z]*\): .*appsnap \([0-9.]*\)$/, recipe \1 of appsnap \2/p' "$E/$f"))"
  done
}

install() {
  FILES="postscript.sh prescript.sh" && [ ! "$CONF_SHA" ] || FILES="$CONF $FILES"
  judge
  # shellcheck disable=SC2086
  [ ! "$OTHERS" ] || [ "$FORCE" ] ||
    no "another file is there: $(named $OTHERS)stays as it is; --force puts it aside as FILE.before-SHA256 and installs"
  [ ! "$NEW" ] || at_work
  if [ "$NEW" ]; then
    if [ ! -e $E ]; then
      mkdir $E 2>/dev/null || no "$E cannot be made: $(room)"
      MADE=1
      chmod 755 $E
    fi
    mkdir -p "$T"
    { cat "$T"/part.* 2>/dev/null; printf %s "$LAST"; } | base64 -d 2>/dev/null | gzip -dc 2>/dev/null >"$T/all"
    [ "$(wc -c <"$T/all")" -eq $((PRE_SIZE + POST_SIZE + CONF_SIZE)) ] ||
      no "what was sent is not whole in $T: is there room on /run? Nothing was changed; try again"
    at=1
    for f in prescript.sh postscript.sh "$CONF"; do
      size=$(want "$f" SIZE) && n=$E/.$f.$TOKEN
      case " $NEW " in *" $f "*)
        { tail -c +$at "$T/all" | head -c "$size" >"$n"; } 2>/dev/null
        [ "$(sum "$n")" = "$(want "$f" SHA)" ] || no "$n could not be written whole: $(room); nothing was changed"
        rights "$f" "$n"
        ;;
      esac
      at=$((at + size))
    done
    sync -f "$E" 2>/dev/null || sync
    for f in prescript.sh postscript.sh "$CONF"; do # the prescript goes first and comes last
      case " $OTHERS " in *" $f "*) ;; *) continue ;; esac
      AWAY="$AWAY $f"
      mv -f "$E/$f" "$E/$f.before-$(short "$f")" || no "$E/$f cannot be put aside: $(room); nothing was changed"
    done
    for f in $NEW; do
      PLACED="$PLACED $f"
      mv -f "$E/.$f.$TOKEN" "$E/$f" || no "$E/$f cannot be put in its place: $(room); nothing was changed"
    done
    sync -f "$E" 2>/dev/null || sync
  fi
  for f in $FILES; do # also of a file that was there
    rights "$f" "$E/$f"
    case " $AWAY " in *" $f "*) tell "$f" "replaced $E/$f.before-$(short "$f")" && continue ;; esac
    case " $NEW " in *" $f "*) tell "$f" new ;; *) tell "$f" same ;; esac
  done
}
rights() { # FILE PATH
  mode=700
  [ "$1" != "$CONF" ] || mode=600
  { chown 0:0 "$2" && chmod $mode "$2"; } || no "$2 gets no owner or mode: $(room); nothing was changed"
}
room() {
  d=$E && [ -d $E ] || d=/etc
  if [ -w "$d" ]; then df -Pk "$d" | awk 'END { print $4 " KiB are free on " $6 }'; else echo "$d is read-only"; fi
}

remove() {
  FILES="prescript.sh postscript.sh"
  judge
  # shellcheck disable=SC2086
  [ ! "$OTHERS" ] || no "not what this version of $NAME installs: $(named $OTHERS)stays as it is; remove it by hand"
  at_work
  for f in $FILES; do
    [ -e "$E/$f" ] || { echo "appsnap-recipe: file $E/$f - absent" && continue; }
    rm -f "$E/$f" || no "$E/$f cannot be removed: is $E read-only?"
    echo "appsnap-recipe: file $E/$f - removed"
  done
  for f in "$E/$CONF" "$E"/*script.sh.before-*; do
    [ ! -e "$f" ] || echo "appsnap-recipe: file $f $(sum "$f") kept"
  done
  rmdir "$E" 2>/dev/null
}
case $0 in /usr/local/share/aliyun-assist/work/script/*) [ ! -f "$0" ] || [ -L "$0" ] || rm -f "$0" ;; esac
$DO
AWAY='' PLACED='' MADE=''
echo "appsnap-recipe: done"
