#!/bin/sh
# limbeck's GPU bundle: unpacks itself and runs the device tests and the bench. Needs a driver, glibc 2.34, libstdc++, tar and gzip. --help says more.
set -eu
folder=$(mktemp -d "${TMPDIR:-/tmp}/limbeck-gpu.XXXXXX")
trap 'rm -rf "$folder"' EXIT INT TERM
tail -n +@LINES@ "$0" | gzip -dc | tar -xf - -C "$folder"
code=0
"$folder/node" "$folder/run/main.js" "$@" || code=$?
exit $code
