#!/usr/bin/env bash
# What tests need beside Python: Chromium draws the pages that the browser tests look at, and
# PostgreSQL is the shop's second database. Root on Debian gets them by apt-get; elsewhere what
# is missing is named and its tests skip (with CI=true they fail).
set -euo pipefail
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v initdb >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null \
  || missing+=(postgresql)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  # No cluster is made at installation: the tests make and end their own.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] \
    || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "missing, so that their tests will be skipped: ${missing[*]}" >&2
fi
