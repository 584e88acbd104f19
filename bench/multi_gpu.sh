#!/usr/bin/env bash
# Runs ringtrain on every GPU of this host, one rank each, and prints one table. Builds nothing.
#
#   bench/multi_gpu.sh [--build build] [--out DIR] [--share N] [--longest]
#
# --build    folder with ringtrain and, where they are there too, the mpitest_* programs
# --out      folder for the logs of every part, and traces of the training steps (default: a
#            temporary one, named at the end)
# --share    N ranks that share the GPUs instead of one rank each: tries the script, times nothing
# --longest  LLaMA-7B at the longest context that fits, instead of 64K tokens a GPU: minutes a step
#
# Parts: self-test of every axis; losses of every mesh against one rank; attention over all GPUs
# beside one kernel; training at one GPU's length and at N times it; LLaMA-7B; a run of which a rank
# is killed; the tests of several ranks. Exit code 1 if anything was wrong.
set -uo pipefail
here=$PWD build=build out="" share=0 longest=false
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --share) share=$2; shift 2 ;;
    --longest) longest=true; shift ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
absolute() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
cd "$(dirname "$0")/.."
[ "$build" = build ] || build=$(absolute "$build")
[ -z "$out" ] || out=$(absolute "$out")
[ -x "$build/ringtrain" ] || { echo "multi_gpu: no $build/ringtrain; build it first" >&2; exit 2; }
out=${out:-$(mktemp -d)}
mkdir -p "$out"

gpus=$(nvidia-smi -L | wc -l)
if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then gpus=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l); fi
ranks=$gpus
flags=()
if [ "$share" -gt 0 ]; then
  ranks=$share
  flags=(--oversubscribe_gpu=True)
fi
[ "$ranks" -ge 2 ] || { echo "multi_gpu: 1 GPU; --share 2 tries the script on it" >&2; exit 2; }

export NCCL_NVLS_ENABLE=0 RINGTRAIN_REQUIRE_GPU=1
export OMP_NUM_THREADS=$(((($(nproc) - 1) / ranks) + 1))
export RINGTRAIN_GOLDEN_DIR=${RINGTRAIN_GOLDEN_DIR:-$PWD/tests/golden}
if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

failures=0
row() { printf '%-34s %-7s %5ss  %s\n' "$@"; }
say() { printf '\n== %s\n' "$*"; }
clean() { sed 's/\x1b\[[0-9;]*m//g' "$1"; }

# part NAME SECONDS RANKS COMMAND...: logs to $out/NAME.log; sets `rc` and `took`.
part() {
  local name=$1 limit=$2 n=$3 begin
  shift 3
  begin=$(date +%s)
  timeout --kill-after=10 "$limit" mpirun --oversubscribe --bind-to none -n "$n" "$@" \
    >"$out/$name.log" 2>&1
  rc=$?
  took=$(($(date +%s) - begin))
}
# verdict NAME RC SUMMARY
verdict() {
  local word=ok
  if [ "$2" -ne 0 ]; then
    word=FAILED
    failures=$((failures + 1))
  fi
  row "$1" "$word" "$took" "$3"
}
train() {
  local name=$1 limit=$2 n=$3
  shift 3
  rm -rf "$out/$name"
  part "$name" "$limit" "$n" "$build/ringtrain" train "${flags[@]}" "${data[@]}" \
    --logger.output_dir="$out/$name" --log_freq=1 "$@"
}
last_error() { clean "$out/$1.log" | grep -a 'ringtrain: ' | tail -1 | cut -c1-90; }
# Of the steps after the third; tokens_per_s of a record counts from the beginning of the run.
speed() {
  python3 - "$out/$1/metrics.jsonl" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
early, last = rows[2], rows[-1]
seconds = [row["dataset_total_tokens"] / row["tokens_per_s"] for row in (early, last)]
tokens = last["dataset_total_tokens"] - early["dataset_total_tokens"]
rate = tokens / (seconds[1] - seconds[0])
mfu = last["mfu"] * rate / last["tokens_per_s"]
exposed = sum(row.get("exposed_comm") or 0 for row in rows[3:]) / len(rows[3:])
print(f"{rate:,.0f} tokens/s, MFU {100 * mfu:.1f} %, exposed communication {100 * exposed:.1f} %, "
      f"{last['memory_bytes'] / 2**30:.1f} GiB")
PY
}

data=(--tokenizer.vocab_file=tests/golden/data/tokenizer.model
  --train_dataset.type=json --train_dataset.text_processor.fields=text
  --train_dataset.json_dataset.path="$out/data/text_train.jsonl" --selftest=off)
for _ in $(seq $((2 * ranks))); do cat scripts/demo/shakespeare.txt; done >"$out/text.txt"
python3 scripts/prepare_data.py --input "$out/text.txt" --out "$out/data" --name text \
  --test_size 0.05 >"$out/data.log" 2>&1 || { cat "$out/data.log"; exit 1; }

echo "$(date +%F), $ranks ranks on $gpus x $(nvidia-smi --query-gpu=name,power.limit,driver_version \
  --format=csv,noheader | head -1)"
nvidia-smi topo -m 2>/dev/null | clean /dev/stdin | head -$((gpus + 1))

say "Self-test of each axis"
for mesh in "$ranks,1,1,1" "1,$ranks,1,1" "1,1,$ranks,1" "1,1,1,$ranks"; do
  part "selftest_$mesh" 120 "$ranks" "$build/ringtrain" selftest "${flags[@]}" --mesh_dim="$mesh" \
    --load_llama_config=7b --llama.attention_type=ring_blockwise \
    --llama.max_sequence_length=$((8192 * ranks)) \
    --train_dataset.json_dataset.seq_length=$((8192 * ranks))
  verdict "selftest $mesh" "$rc" ""
  clean "$out/selftest_$mesh.log" | grep -aE 'GB/s|hop' | sed 's/^/    /'
done

say "Losses of every mesh, fp32, 5 steps, against one rank (1e-4)"
small=(--load_llama_config=debug --dtype=fp32 --total_steps=5 --llama.attention_type=ring_blockwise
  --optimizer.adamw_optimizer.lr_warmup_steps=2 --train_dataset.json_dataset.seq_length=1024
  --train_dataset.json_dataset.batch_size="$ranks")
train one_rank 120 1 --mesh_dim=1,1,1,1 "${small[@]}"
verdict "1,1,1,1" "$rc" "$(last_error one_rank)"
for mesh in $(python3 -c "
n = $ranks
for dp in range(1, n + 1):
    for fsdp in range(1, n + 1):
        for tp in range(1, n + 1):
            if n % (dp * fsdp * tp) == 0: print(f'{dp},{fsdp},{tp},{n // (dp * fsdp * tp)}')"); do
  train "mesh_$mesh" 120 "$ranks" --mesh_dim="$mesh" "${small[@]}"
  difference=$(python3 - "$out/one_rank/metrics.jsonl" "$out/mesh_$mesh/metrics.jsonl" 2>&1 <<'PY'
import json, sys
one, many = ([json.loads(line)["loss"] for line in open(path)] for path in sys.argv[1:])
worst = max(abs(a - b) / abs(a) for a, b in zip(one, many, strict=True))
print(f"largest relative difference {worst:.1e}")
sys.exit(0 if worst <= 1e-4 else 1)
PY
  ) || rc=1
  verdict "$mesh" "$rc" "$(tail -1 <<<"$difference")"
done

if [ "$share" -eq 0 ]; then
  say "Attention of one layer of LLaMA-7B over all GPUs, beside one kernel over the whole sequence"
  attention() { # TOKENS_A_GPU RUNS NAME OPTIONS...
    local length=$(($1 * ranks)) runs=$2 name=$3
    shift 3
    part "$name" 300 "$ranks" "$build/ringtrain" bench sp --mesh_dim="1,1,1,$ranks" \
      --load_llama_config=7b --dtype=bf16 --llama.attention_type=ring_blockwise \
      --llama.max_sequence_length="$length" --train_dataset.json_dataset.seq_length="$length" \
      --train_dataset.json_dataset.batch_size=1 --warmups=1 --runs="$runs" "$@"
    verdict "$name" "$rc" "$(last_error "$name")"
    clean "$out/$name.log" | grep -aE '^(direction|forward|backward|both)' | sed 's/^/    /'
  }
  for tokens in 8192 32768; do
    # Every GPU attends to the whole sequence as well, which takes the square of its length.
    thousands=$((tokens / 1024)) runs=$((163840 / tokens / ranks + 1))
    attention $tokens $runs "ring_${thousands}k"
    attention $tokens $runs "striped_${thousands}k" --sp_layout=striped
    for sms in 0 16; do
      attention $tokens $runs "ring_${thousands}k_nccl_${sms}_sms" --ring_transport=nccl --ring_sms=$sms
    done
    if [ $((32 % ranks)) -eq 0 ]; then
      attention $tokens $runs "ulysses_${thousands}k" --sp_type=ulysses
      attention $tokens $runs "ulysses_${thousands}k_nccl" --sp_type=ulysses --ring_transport=nccl
    fi
    [ "$ranks" -ge 4 ] && [ $((ranks % 2)) -eq 0 ] &&
      attention $tokens $runs "hybrid_${thousands}k" --sp_type=hybrid --ulysses_size=2
  done
  # A whole sequence of 512K tokens and a share of it are what 80 GB hold.
  [ "$ranks" -le 4 ] && attention 131072 1 ring_128k

  say "Training, LLaMA-7B width, 4 layers, bf16, 8K tokens a GPU (weak scaling)"
  wide=(--load_llama_config=7b --llama.num_hidden_layers=4 --dtype=bf16 --total_steps=8
    --llama.attention_type=ring_blockwise --llama.remat_block=everything_saveable)
  scaling() { # NAME RANKS MESH SEQ_LENGTH BATCH EXTRA...
    local name=$1 n=$2 mesh=$3 length=$4 batch=$5
    shift 5
    train "$name" 180 "$n" --mesh_dim="$mesh" "${wide[@]}" --llama.max_sequence_length="$length" \
      --train_dataset.json_dataset.seq_length="$length" \
      --train_dataset.json_dataset.batch_size="$batch" --trace="$out/$name.trace.json" \
      --trace_step=1 "$@"
    local summary
    if [ "$rc" -eq 0 ]; then
      summary=$(speed "$name" 2>&1) || rc=1
    else
      summary=$(last_error "$name")
    fi
    verdict "$name" "$rc" "$(tail -1 <<<"$summary")"
  }
  scaling 1_gpu_8k 1 1,1,1,1 8192 1
  scaling fsdp_8k "$ranks" "1,$ranks,1,1" 8192 "$ranks"
  scaling tp_8k "$ranks" "1,1,$ranks,1" 8192 "$ranks"
  # On the one GPU too everything is saved where that fits: compare like with like.
  scaling 1_gpu_whole 1 1,1,1,1 $((8192 * ranks)) 1
  scaling ring_8k_a_gpu "$ranks" "1,1,1,$ranks" $((8192 * ranks)) 1
  scaling ulysses_8k_a_gpu "$ranks" "1,1,1,$ranks" $((8192 * ranks)) 1 --sp_type=ulysses
  scaling ring_32k_a_gpu "$ranks" "1,1,1,$ranks" $((32768 * ranks)) 1 \
    --llama.remat_block=save_attention

  say "LLaMA-7B, 32 layers, bf16 gradients, remat_block=auto, sp = all GPUs"
  whole=(--load_llama_config=7b --dtype=bf16 --grad_dtype=bf16 --mesh_dim="1,1,1,$ranks"
    --llama.attention_type=ring_blockwise --llama.scan_mlp=True --llama.scan_mlp_chunk_size=8192
    --llama.remat_block=auto --train_dataset.json_dataset.batch_size=1)
  longest_length=$("$build/ringtrain" plan "${whole[@]}" --world_size="$ranks" --max_context |
    sed -n 's/^longest seq_length that fits: //p')
  longest_length=${longest_length:-0}
  length=$((65536 * ranks))
  if $longest || [ "$longest_length" -lt "$length" ]; then length=$longest_length; fi
  train 7b 3600 "$ranks" "${whole[@]}" --total_steps=2 --llama.max_sequence_length="$length" \
    --train_dataset.json_dataset.seq_length="$length"
  verdict 7b "$rc" "$length tokens; $longest_length fit; $(last_error 7b)"
  clean "$out/7b.log" | grep -aoE 'step [0-9]+/.*' | sed 's/^/    /'
fi

say "A killed rank ends the job"
(train killed 120 "$ranks" --mesh_dim="1,1,1,$ranks" "${small[@]}" --total_steps=1000000 \
  --timeout_s=20; exit "$rc") &
job=$!
for _ in $(seq 60); do
  sleep 1
  [ -s "$out/killed/metrics.jsonl" ] && break
done
for pid in $(pgrep -f "logger.output_dir=$out/killed"); do
  [ "$(cat "/proc/$pid/comm")" = ringtrain ] && victim=$pid  # not mpirun
done
[ -n "${victim:-}" ] && kill -KILL "$victim"
killed_at=$(date +%s)
wait "$job"
code=$?
took=$(($(date +%s) - killed_at))
# Within --timeout_s and some seconds; longer, it was `timeout` that ended it.
if [ -s "$out/killed/metrics.jsonl" ] && [ "$code" -ne 0 ] && [ "$took" -le 30 ]; then rc=0; else rc=1; fi
verdict "killed rank" "$rc" "exit code $code $took s after the kill"

say "Tests of several ranks, on the GPUs"
for room in comm parallel optim checkpoint train; do
  program=$build/mpitest_$room
  if [ ! -x "$program" ]; then
    row "mpitest_$room" "absent" 0 ""
    continue
  fi
  part "mpitest_$room" 300 "$ranks" "$program" --gtest_filter='*Gpu*:*cuda*'
  grep -qa 'Running 0 tests' "$out/mpitest_$room.log" && rc=1
  verdict "mpitest_$room" "$rc" "$(clean "$out/mpitest_$room.log" | grep -a ' ran\.' | tail -1)"
done

say "$failures failures, $SECONDS s; logs in $out"
[ "$failures" -eq 0 ]
