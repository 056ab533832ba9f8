# Common parts of the service scripts; sourced, not run.
# Everything lives under $REDPOLL_SERVICES_DIR:
#   dl/<service>/   downloads, kept by `reset`
#   run/<service>/  configuration, logs, PID files and data; `reset` wipes it
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)"
REDPOLL_SERVICES_DIR="${REDPOLL_SERVICES_DIR:-$HOME/.cache/redpoll-services}"
REDPOLL_RUN_DIR="${REDPOLL_RUN_DIR:-$REDPOLL_SERVICES_DIR/run}"   # a second value = a second, separate set of servers
REDPOLL_BIND="${REDPOLL_BIND:-127.0.0.1}"
DL="$REDPOLL_SERVICES_DIR/dl/$SERVICE"
RUN="$REDPOLL_RUN_DIR/$SERVICE"
REDPOLL_START_TIMEOUT="${REDPOLL_START_TIMEOUT:-300}"             # seconds a server may take to get ready (a busy machine needs most of it)
JAVA="${JAVA_HOME:+$JAVA_HOME/bin/}java"

say() { printf '%s\n' "$*" >&2; }
die() { say "$SERVICE: $*"; exit 1; }

# Start time of a process in clock ticks: tells a recycled PID from ours.
proc_start() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# pid_of NAME: the PID of a live process that we started, or nothing.
pid_of() {
  local f="$RUN/$1.pid" pid st
  [ -f "$f" ] || return 1
  read -r pid st <"$f" || true
  [ -n "$pid" ] && [ "$(proc_start "$pid")" = "$st" ] || return 1
  echo "$pid"
}

# spawn NAME COMMAND...: run in the background in a session of its own, log to NAME.log, write NAME.pid.
spawn() {
  local name="$1" pid; shift
  mkdir -p "$RUN"
  setsid "$@" >"$RUN/$name.log" 2>&1 </dev/null &
  pid=$!
  sleep 0.05
  printf '%s %s\n' "$pid" "$(proc_start "$pid")" >"$RUN/$name.pid"
}

# stop_one NAME [SECONDS]: TERM, wait, then KILL.
stop_one() {
  local pid n=$(( ${2:-20} * 10 ))
  pid="$(pid_of "$1")" || { rm -f "$RUN/$1.pid"; return 0; }
  kill -TERM "$pid" 2>/dev/null || true
  while [ "$n" -gt 0 ] && pid_of "$1" >/dev/null; do sleep 0.1; n=$((n - 1)); done
  if pid_of "$1" >/dev/null; then say "$SERVICE: $1 did not stop, killing it"; kill -KILL "$pid" 2>/dev/null || true; fi
  rm -f "$RUN/$1.pid"
}

# wait_for NAME TEST...: poll TEST until it passes; fail at once if process NAME died; past the limit stop it and fail.
wait_for() {
  local limit="$REDPOLL_START_TIMEOUT" name="$1" t0=$SECONDS; shift
  until "$@" >/dev/null 2>&1; do
    if ! pid_of "$name" >/dev/null; then tail -n 25 "$RUN/$name.log" >&2; die "$name exited; log: $RUN/$name.log"; fi
    if [ $((SECONDS - t0)) -ge "$limit" ]; then tail -n 25 "$RUN/$name.log" >&2; stop_one "$name"; die "$name not ready after ${limit}s, stopped; log: $RUN/$name.log"; fi
    sleep 0.2
  done
}

port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
# A port taken by someone else would make our readiness test pass on a stranger's server.
need_free() { local p; for p in "$@"; do ! port_open "$REDPOLL_BIND" "$p" || die "port $p is already in use"; done; }

rss_mib() { awk '/^VmRSS/ {printf "%d", $2/1024}' "/proc/$1/status" 2>/dev/null; }

# maven_libs: resolve pom.xml of this service into $DL/lib, once per pom content.
maven_libs() {
  local pom="$HERE/$SERVICE/pom.xml" sum
  sum="$(sha256sum "$pom" | cut -d' ' -f1)"
  [ -f "$DL/.pom-$sum" ] && return 0
  mkdir -p "$DL"; exec 9>"$DL/.lock"; flock 9
  if [ ! -f "$DL/.pom-$sum" ]; then
    say "$SERVICE: fetching jars with Maven"
    rm -rf "$DL/lib" "$DL"/.pom-*
    mvn -B -q -f "$pom" dependency:copy-dependencies -DoutputDirectory="$DL/lib" -DincludeScope=runtime >&2
    touch "$DL/.pom-$sum"
  fi
  exec 9>&-
}

# wheel_venv REQUIREMENT: install one PyPI wheel (with a binary in it) under $DL/venv.
wheel_venv() {
  [ -f "$DL/.wheel-$1" ] && return 0
  mkdir -p "$DL"; exec 9>"$DL/.lock"; flock 9
  if [ ! -f "$DL/.wheel-$1" ]; then
    say "$SERVICE: fetching $1 from PyPI"
    rm -rf "$DL/venv" "$DL"/.wheel-*
    python3 -m venv "$DL/venv"
    "$DL/venv/bin/pip" -q install --disable-pip-version-check "$1" >&2
    touch "$DL/.wheel-$1"
  fi
  exec 9>&-
}

status_line() { local pid; if pid="$(pid_of "$1")"; then echo "$1 up pid=$pid rss=$(rss_mib "$pid")MiB"; else echo "$1 down"; fi; }
wipe() { case "$RUN" in */"$SERVICE") rm -rf "$RUN";; *) die "odd run dir $RUN";; esac; }
