#!/usr/bin/env bash
# The main job, end to end, on a fresh machine: sets up, builds, prepares real text (the plays of
# Shakespeare in scripts/demo/), trains a small LLaMA with ring attention on 2 ranks, resumes from
# its checkpoint and draws the loss. Everything lands in demo/. Takes the GPU where there is one,
# else the CPU; exits non-zero if the loss did not fall.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ranks=2 first_steps=120 all_steps=200
readonly tokenizer=tests/golden/data/tokenizer.model
say() { printf '\n== %s\n' "$*"; }

say "Set-up and build (build/ringtrain)"
scripts/build.sh --target ringtrain

say "Text to jsonl (demo/data)"
rm -rf demo
mkdir -p demo
python3 scripts/prepare_data.py --input scripts/demo/shakespeare.txt --out demo/data --name shakespeare --test_size 0.05

say "Tokenizer"
build/ringtrain tokenize --tokenizer.vocab_file="$tokenizer" \
  --text "Before we proceed any further, hear me speak."
build/ringtrain tokenize --tokenizer.vocab_file="$tokenizer" --input demo/data/shakespeare_train.jsonl

# Open MPI refuses to run as root, as containers do, unless told so.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
flags=(--config configs/recipes/demo.json)
gpus=$({ nvidia-smi -L 2>/dev/null || true; } | wc -l)
if [ "$gpus" -gt 0 ] && [ "$gpus" -lt "$ranks" ]; then flags+=(--oversubscribe_gpu=True); fi

train() {
  mpirun -n "$ranks" --oversubscribe --bind-to none build/ringtrain train "${flags[@]}" "$@"
}

say "Training, steps 0 to $((first_steps - 1)), on $ranks ranks"
train --total_steps="$first_steps"

say "Resuming from demo/checkpoint/$(cat demo/checkpoint/latest), to step $((all_steps - 1))"
train --total_steps="$all_steps" --autoresume=True

say "Loss curve"
scripts/plot_loss.py demo/metrics.jsonl --out demo/loss.svg \
  --title "ringtrain demo: LLaMA on Shakespeare, ring attention on $ranks ranks"
python3 scripts/demo/check_loss.py demo/metrics.jsonl "$all_steps" "$first_steps"
echo "demo/metrics.jsonl  demo/loss.svg  demo/checkpoint"
