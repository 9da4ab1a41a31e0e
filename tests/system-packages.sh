#!/usr/bin/env bash
# Chromium draws the pages that the browser tests look at. Root on Debian gets it by
# apt-get; elsewhere its absence is named and those tests skip (with CI=true they fail).
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
  echo "chromium is missing: the browser tests will be skipped" >&2
fi
