#!/bin/sh
# Installs what the tests of Node applications need, from their lock file, when it is not there or no longer the same.
set -u
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing nodejs npm for the tests"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
  fi
fi
missing=""
command -v node >/dev/null 2>&1 || missing="node"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
if [ -n "$missing" ]; then
  echo "the tests of Node applications need$(printf ' %s' $missing): install it (Debian: apt install nodejs npm)." >&2
  exit 0
fi
cd "$(dirname "$0")/../e2e/apps/node" || exit 1
stamp=node_modules/.installed
[ -e "$stamp" ] && [ "$stamp" -nt package-lock.json ] && [ "$stamp" -nt package.json ] && exit 0
echo "npm ci (tests/e2e/apps/node)"
if npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; then
  touch "$stamp"
else
  echo "the tests of Node applications need the packages of tests/e2e/apps/node, and npm could not install them." >&2
fi
exit 0
