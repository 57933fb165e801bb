# Redis and Valkey: the guard of the prescript has had no answer, so writers waited all the time; then they go on. The
# setting is put back by the process that the prescript left.
NAME=redis BYE=QUIT

main() {
  if ! lives guard || [ -s "$S/over" ]; then
    case $(cat "$S/over") in
    *[!0-9]*) fail 14 "the server broke off during the pause: $(head -n 1 "$S/over")" ;;
    '') fail 14 "the pause was not guarded to its end: its PUBLISH was killed" ;;
    *) fail 14 "the pause ended early: by its deadline, hold in /etc/appsnap/redis.conf, or by a CLIENT UNPAUSE" ;;
    esac
  fi
  say 'CLIENT UNPAUSE'
  hear OK 10 3 || fail 14 "the server did not end the pause: $(told)"
  gone guard 5
  case $(cat "$S/over") in
  '' | *[!0-9]*) fail 14 "the guard of the pause got no answer when it ended: $(head -n 1 "$S/over")" ;;
  esac
}
postscript "$@"
