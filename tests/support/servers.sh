#!/bin/sh
# Installs the servers that the tests of the shared stores start for themselves, where that is possible.
set -u
missing=""
command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1 || missing="redis-server"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing$(printf ' %s' $missing) for the tests"
  export DEBIAN_FRONTEND=noninteractive
  # the tests start servers of their own: none shall run beside them
  printf '#!/bin/sh\nexit 101\n' > /tmp/policy-rc.d.$$ && chmod +x /tmp/policy-rc.d.$$
  [ -e /usr/sbin/policy-rc.d ] || { mv /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
  apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "the tests of the shared stores need$(printf ' %s' $missing): install it (Debian: apt install $missing); they are left out now." >&2
exit 0
