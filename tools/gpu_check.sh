#!/usr/bin/env bash
# GPU tests, then benchmarks, of every package that has any, from the source tree and inside a time budget:
#   tools/gpu_check.sh OUT_DIR [--only PACKAGE] [--budget SECONDS]
# Needs Python with torch and pytest. Wheels in .gpu/wheels go on PYTHONPATH, .gpu/data becomes SAIL_DATA; what is
# missing all the same is a skip with a reason. OUT_DIR gets PACKAGE.jsonl (benchmark rows) and logs.tar.gz.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: tools/gpu_check.sh OUT_DIR [--only PACKAGE] [--budget SECONDS]}
shift
only="" budget=540
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=$2 ;;
    --budget) budget=$2 ;;
    *) echo "gpu_check: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
logs=$(mktemp -d)
end=$((SECONDS + budget))
failed=0

PYTHONPATH=$(printf '%s:' packages/*/src shared/testkit/src .gpu/wheels/*.whl | sed 's/:$//')
export PYTHONPATH OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 SAIL_REQUIRE_GPU=1
[ -d .gpu/data ] && export SAIL_DATA=$PWD/.gpu/data

step() {  # step NAME COMMAND...: run within what is left of the budget, keep the log, say how it ended
  local name=$1 left=$((end - SECONDS)) status
  shift
  if [ "$left" -lt 5 ]; then echo "$name: not run, the budget is spent"; failed=1; return; fi
  timeout --kill-after=5 "$left" "$@" >"$logs/$name.log" 2>&1
  status=$?
  [ "$status" -eq 5 ] && status=0  # pytest: no test of this kind
  [ "$status" -ne 0 ] && failed=1
  echo "$name: exit $status, $(tail -n 1 "$logs/$name.log")"
  tar -czf "$out/logs.tar.gz" -C "$logs" .
}

python3 -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())' || exit 1
for package in packages/${only:-*}; do
  grep -rlq 'mark\.gpu' "$package/tests" || continue
  step "test-${package#*/}" python3 -m pytest -p sail_testkit -m gpu -q "$package/tests"
done
# Reads and writes out of bounds, in the smallest of those tests. Where the tool is missing, as in many images, it is said.
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tests in packages/${only:-*}/tests; do
  grep -rlq 'id="small"' "$tests" || continue
  name=sanitizer-$(basename "$(dirname "$tests")")
  if [ -z "$sanitizer" ]; then echo "$name: not run, compute-sanitizer is not on this machine"; continue; fi
  step "$name" "$sanitizer" --tool memcheck --error-exitcode 9 \
    python3 -m pytest -p sail_testkit -m gpu -k small -q "$tests"
done
for package in packages/${only:-*}; do
  for script in "$package"/benchmarks/bench_*.py; do
    grep -q '"cuda"\|bench.__main__' "$script" || continue  # the others are of the CPU alone
    name=${package#*/}
    step "bench-$name-$(basename "$script" .py)" python3 "$script" --device cuda --out "$out/$name.jsonl"
  done
done
exit "$failed"
