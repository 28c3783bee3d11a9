#!/bin/bash
# What a GPU is asked first, in fifteen minutes: is it right, how fast is it, does CIFAR-10 train there. From a clean clone:
#
#   bash experiments/gpu/run.sh                 installs what the lock says, then every part that has not ended yet
#   bash experiments/gpu/run.sh right times     these parts
#
# Parts, each with a limit in seconds (RIGHT=150 ... before the command): right, times, canary, arms, bench, compiled; and,
# where it is named, study: the plan cifar10_small (ARGUMENTS: those of experiments/gpu/seeds.py). A part that meets its
# limit, or the machine's, keeps what it has: the same command goes on. Evidence, with device, versions and revision:
# results/gpu/ (right, times, compiled, log of each part), results/runs/, results/weights/ (canary), results/bench/.
# OUT=<folder> copies it there after each part, and a state to go on with, in files of at most 15 MiB.
# OVERRIDES="model.depth=10 ..." makes right and times smaller: to rehearse, as tests/gpu does. PYTHON names the Python of
# a machine that has PyTorch, and nothing is installed.
set -u -o pipefail
cd "$(dirname "$0")/../.."
kept=results/gpu; mkdir -p "$kept/logs"
if [ -z "${PYTHON:-}" ]; then make install || exit 2; PYTHON=$PWD/.venv/bin/python; fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

carry() {  # what is evidence, and the newest state of what has not ended, to $OUT
  [ -n "${OUT:-}" ] || return 0
  mkdir -p "$OUT"; rm -f "$OUT"/state.tar.*
  find results -newer "$kept/begun" -type f -print0 | tar -czf "$OUT/evidence.tar.gz" --null -T -
  find state -name 'checkpoint-*.pt' 2>/dev/null | sort -r | awk -F/ '!seen[$2 $3]++' > "$kept/state.txt"
  find state \( -name 'late-*.pt' -o -name 'snapshots-*.pt' -o -name result.pt \) >> "$kept/state.txt" 2>/dev/null
  [ ! -s "$kept/state.txt" ] || tar -cf - -T "$kept/state.txt" | split -b 15M - "$OUT/state.tar."
}

part() {  # name, limit, command: its output into the log; status and seconds into parts.csv
  local name=$1 most=$2 from=$SECONDS; shift 2
  timeout -s TERM -k 20 "$most" "$@" 2>&1 | tee -a "$kept/logs/$name.log" | cut -c1-160; local status=$?
  echo "$name,$status,$((SECONDS - from))" | tee -a "$kept/parts.csv"
  return $status
}

ended() { grep -qs "^$1,0," "$kept/parts.csv"; }

plan() {  # plan, limit of each run: prepare; then train, evaluate and export one run after the other
  part "prepare_$1" 120 "$PYTHON" -m repro prepare --plan "experiments/plan/$1.yaml" || return
  for run in $(sed -n 's/^  \(cifar10_[a-z_0-9]*\):.*/\1/p' "experiments/plan/$1.yaml"); do
    ended "export_$run" && continue
    part "train_$run" "$2" "$PYTHON" -m repro train "$run" --seeds 0 &&
      part "evaluate_$run" "${EVALUATE:-60}" "$PYTHON" -m repro evaluate "$run" && part "export_$run" "${EXPORT:-60}" "$PYTHON" -m repro export "$run"
    local status=$?
    carry
    [ $status = 0 ] || return
  done
}

seeds() {  # part, plan, limit, arguments
  local name=$1 plan=$2 most=$3; shift 3
  part "prepare_$plan" 120 "$PYTHON" -m repro prepare --plan "experiments/plan/$plan.yaml" &&
    part "$name" "$most" "$PYTHON" experiments/gpu/seeds.py "$plan" "$@"
}

all="right times canary arms bench compiled"
[ -e "$kept/begun" ] || touch "$kept/begun"
for name in ${*:-$all}; do
  ended "$name" && continue
  from=$SECONDS
  case $name in
    right) part right "${RIGHT:-150}" "$PYTHON" experiments/gpu/check.py right ${OVERRIDES:-} ;;
    times) part times "${TIMES:-300}" "$PYTHON" experiments/gpu/check.py times ${OVERRIDES:-} ;;
    canary) plan gpu_canary "${CANARY:-120}" && echo "canary,0,$((SECONDS - from))" >> "$kept/parts.csv" ;;
    arms) seeds arms gpu_arms "${ARMS:-400}" --at-once 1 --processes 3 ;;
    study) seeds study cifar10_small "${STUDY:-600}" ${ARGUMENTS:-} ;;
    compiled) part compiled "${COMPILED:-300}" "$PYTHON" experiments/gpu/check.py compiled ${OVERRIDES:-} ;;
    bench) part bench "${BENCH:-300}" "$PYTHON" -m repro bench cifar10_paper_mpl --rounds 1 --uncompiled ;;
    *) echo "error: $name is no part; name some of: $all study" >&2; exit 2 ;;
  esac
  carry
done
[ ! -e $kept/right.json ] || [ ! -e $kept/times.json ] || "$PYTHON" experiments/gpu/page.py
cat "$kept/parts.csv"
for name in ${*:-$all}; do
  ended "$name" || { echo "error: $name has not ended as it should; see $kept/logs, and give the same command again" >&2; exit 1; }
done
