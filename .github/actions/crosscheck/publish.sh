#!/usr/bin/env bash
# The report into the step summary, its causes beside the code, and the run into the history.
set -uo pipefail

python="${PYTHON_GIVEN:-python}"
if [ -n "$TITLE" ]; then
  printf '# %s\n\n' "$TITLE" >>"$GITHUB_STEP_SUMMARY"
fi

# 2: nothing was compared, and what lies there is an older run's.
if [ "${CODE:-2}" = 2 ] || [ ! -f "$OUT/report.json" ]; then
  told="crosscheck came to no verdict (exit code ${CODE:-none}); the log says why"
  echo "::error title=crosscheck::$told"
  echo "**$told**" >>"$GITHUB_STEP_SUMMARY"
  exit 0
fi

cat "$OUT/report.md" >>"$GITHUB_STEP_SUMMARY"
"$python" -m crosscheck report annotations "$OUT"
if [ -f "$KEPT/report.json" ]; then
  { echo; "$python" -m crosscheck report --markdown "$KEPT" "$OUT"; } >>"$GITHUB_STEP_SUMMARY"
fi
mkdir -p "$KEPT"
{ echo; "$python" -m crosscheck report history "$KEPT/history.jsonl" --add "$OUT" --out "$OUT" --markdown; } \
  >>"$GITHUB_STEP_SUMMARY"
cp "$OUT/report.json" "$KEPT/report.json"
cp "$KEPT/history.jsonl" "$OUT/history.jsonl"
