#!/usr/bin/env bash
# Runs the comparison. The step succeeds whatever its exit code: the last step of the action ends with that.
set -uo pipefail

python="${PYTHON_GIVEN:-python}"

# Split at white space, and read by no shell: what is in an input is a word, not a command.
split() {
  words=()
  while read -r -a line; do
    words+=("${line[@]+"${line[@]}"}")
  done <<<"$1"
}

split "$ARGUMENTS"
set -- --out "$OUT" "${words[@]+"${words[@]}"}"
if [ -n "$PAIR" ]; then
  set -- pair "$PAIR" "$@"
else
  split "$EXPERIMENTS"
  set -- "${words[@]+"${words[@]}"}" "$@"
fi
"$python" -m crosscheck "$@"
echo "exit-code=$?" >>"$GITHUB_OUTPUT"
