#!/bin/sh
# Installs Chromium where it is missing: the test of the dashboard drives it.
set -eu
. "$(dirname "$0")/apt.sh"

for program in chromium chromium-browser google-chrome; do
  if command -v "$program" >/dev/null 2>&1; then exit 0; fi
done
apt_or_exit 0 "The test of the dashboard is skipped without Chromium: install it with your system's packages."
root_or_exit 0 "The test of the dashboard is skipped without Chromium: run 'apt-get install chromium' as root."
echo "installing chromium (shows the dashboard to its test)"
apt_install chromium
