#!/usr/bin/env bash
# usage: install.sh PACKAGE...
#
# Installs those of Debian's packages that are missing, if this is root or sudo asks for no password; otherwise it says
# the line that does it, and fails. Systems without dpkg have other names for packages: nothing is done there, and what
# needs one says what it lacks.
set -euo pipefail
command -v dpkg-query >/dev/null || exit 0

installed=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii *//p') || true
missing=()
for package in "$@"; do
  grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "missing packages: ${missing[*]}; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
echo "installing packages that are missing: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
