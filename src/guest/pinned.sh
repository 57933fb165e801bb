# Head of a registered command (pinned.rs adds what differs): reads the values behind the line `#=` of its own file.
# Nothing of them is ever run or evaluated: they are compared with patterns, and cut.
umask 077
export LC_ALL=C # before the first pattern: ranges go by bytes
a='' o='' n='
'
u() { printf %s "$1" | base64 -d | gzip -dc; }
e() { # REASON DETAIL: tells it as the report would, and leaves
  printf '{"appsnap":"1","run":"%s","phase":"refused","reason":["%s"]}\n' "$a" "$1"
  exit 20
}
x() { e "pinned.value $k is not what it may be"; }
r() { # W: from the value to the lines in it
  k='what was sent'
  case $w in '' | *[!A-Za-z0-9+/=]*) x ;; esac
  w=$(u "$w" | head -c 32768)$n
}
p() { # NAME:CHARACTERS:MOST...: in this order, one a line in W; O gets an assignment for each. MOST is of a number its size
  for f; do
    k=${f%%:*} m=${f##*:} c=${f#*:} c=${c%:*} v=${w%%"$n"*} w=${w#*"$n"}
    case $k$v in FAST | TOKEN) ;; "$k") x ;; esac # only these may be empty
    case $v in *[!$c]*) x ;; esac
    l=${#v}
    [ "$c" != 0-9 ] || case $v in 0* | ???????????*) x ;; *) l=$v ;; esac
    [ "$l" -le "$m" ] || x
    [ "$k" != RUN ] || case $v in a-*) a=$v ;; *) x ;; esac # a directory gets this name
    o="$o$k='$v'$n"
  done
  k='what follows'
  [ ! "$w" ] || x
}
case $0 in /*) [ -f "$0" ] && [ ! -L "$0" ] ;; *) false ;; esac || e 'pinned.file the script does not run from its own file'
w=$(sed '1,/^#=$/d' "$0")
