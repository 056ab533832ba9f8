#!/usr/bin/env bash
# All services, or those named in REDPOLL_SERVICES (default "kafka s3 registry"), in that order; stop goes backwards.
# usage: all.sh fetch|start|stop|restart|status|reset|env       eval "$(all.sh env)" sets the endpoints in a shell
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"; list=(${REDPOLL_SERVICES:-kafka s3 registry}); cmd="${1:-status}"
case "$cmd" in
stop|reset) for ((i = ${#list[@]} - 1; i >= 0; i--)); do "$here/${list[i]}.sh" "$cmd"; done ;;
restart) "$0" stop; "$0" start ;;
start) # JVMs starting together only fight for the cores: one after the other
  for s in "${list[@]}"; do t=$(date +%s%N); e="$("$here/$s.sh" start)"; printf '%-9s %5d ms  %s\n' "$s" $(( ($(date +%s%N) - t) / 1000000 )) "$e"; done ;;
*) for s in "${list[@]}"; do "$here/$s.sh" "$cmd"; done ;;
esac
