#!/bin/sh
# Installs kubernetes-validate where it is missing, in target/kubernetes-validate: tests check the manifests with the schemas of Kubernetes that it has.
set -eu
cd "$(dirname "$0")/.."
folder=target/kubernetes-validate

if [ -x "$folder/bin/kubernetes-validate" ]; then
  exit 0
fi
if ! python3 -m venv --clear "$folder" >/dev/null 2>&1; then
  rm -rf "$folder"
  echo "no Python with venv (Debian: apt-get install python3-venv): the tests of the manifests skip the schemas of Kubernetes" >&2
  exit 0
fi
echo "installing kubernetes-validate (in $folder)"
if ! "$folder/bin/pip" install --quiet --retries 2 --timeout 30 kubernetes-validate==1.37.0; then
  rm -rf "$folder"
  echo "kubernetes-validate cannot be installed: the tests of the manifests skip the schemas of Kubernetes" >&2
fi
