#!/bin/sh
# Runs the CUDA compiler it is given and keeps what ptxas says of each kernel beside the object, as OBJECT.ptxas; the rest is said as ever.
object=compile
previous=
for word in "$@"; do
  if [ "$previous" = -o ]; then object=$word; fi
  previous=$word
done
"$@" 2>"$object.said"
status=$?
grep -E '^ptxas info|bytes stack frame' "$object.said" >"$object.ptxas"
grep -vE '^ptxas info|bytes stack frame' "$object.said" >&2
rm -f "$object.said"
exit $status
