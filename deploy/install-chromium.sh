#!/bin/sh
# Installs Chromium where it is missing: the test of the dashboard drives it.
set -eu

for program in chromium chromium-browser google-chrome; do
  if command -v "$program" >/dev/null 2>&1; then exit 0; fi
done
if ! command -v apt-get >/dev/null 2>&1; then
  echo "The test of the dashboard is skipped without Chromium: install it with your system's packages." >&2
  exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || { echo "The test of the dashboard is skipped without Chromium: run 'apt-get install chromium' as root." >&2; exit 0; }
  as_root=sudo
fi
echo "installing chromium (shows the dashboard to its test)"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends chromium >/dev/null
