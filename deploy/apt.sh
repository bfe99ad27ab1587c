# shellcheck shell=sh
# For the install scripts, which source it: installs packages of Debian and Ubuntu, as root or with sudo.

# apt_or_exit STATUS MESSAGE: ends with this status and message where there is no apt-get.
apt_or_exit() {
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "$2" >&2
    exit "$1"
  fi
}

# root_or_exit STATUS MESSAGE: sets as_root to what runs a command as root. Ends with this status and message if nothing does.
root_or_exit() {
  as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "$2" >&2; exit "$1"; }
    as_root=sudo
  fi
}

# apt_install PACKAGE...: installs them, after root_or_exit.
apt_install() {
  $as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
