#!/usr/bin/env python3
"""Holds `ringtrain plan` to what runs take, a few steps each: ten configurations on one GPU, or a
model cut along each axis over N of this host.

    plan_check.py --ringtrain build/ringtrain [--ranks N]

Each row has, in MiB, the arena, then what the device had in use beside it (CUDA and NCCL), and the
largest resident memory of a process without pinned arenas, with the plan's estimates for both; and
the plan's sum for the device over what was in use. Exit code 1 where

- the planned arena is not the allocated one, to the byte,
- less than 98 % of the arena was ever used,
- more was in use than the sums of the plan say, or an estimate is wrong by more than its error.

GPUs must be idle: what other programs have on them would count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

MIB = 2**20
SMALL = "--load_llama_config=1b --llama.num_hidden_layers=4"
CASES = {
    "everything": f"{SMALL} 8192 1",
    "dots_saveable": f"{SMALL} 8192 2 --llama.remat_block=dots_saveable",
    "save_attention": f"{SMALL} 32768 1 --llama.remat_block=save_attention --llama.scan_mlp=True",
    "nothing_saveable": f"{SMALL} 32768 1 --llama.remat_block=nothing_saveable",
    "offload": f"{SMALL} 32768 1 --llama.remat_block=offload --llama.scan_mlp=True",
    "offload_optimizer": f"{SMALL} 8192 1 --offload_optimizer=True",
    "bf16 gradients": f"{SMALL} 8192 1 --grad_dtype=bf16",
    "fp32": "--load_llama_config=debug 2048 4 --dtype=fp32",
    "llama3-8b": "--load_llama_config=llama3-8b --llama.num_hidden_layers=2 8192 1",
    "7b": "--load_llama_config=7b --llama.num_hidden_layers=4 16384 1",
}


def cases_of(ranks):
    if ranks == 1:
        return CASES
    meshes = {"fsdp": "1,-1,1,1", "tp": "1,1,-1,1", "sp": "1,1,1,-1", "dp": "-1,1,1,1"}
    return {axis: f"{SMALL} 8192 {ranks} --mesh_dim={mesh}" for axis, mesh in meshes.items()}


def options_of(case):
    """The flags of a case; its two bare words are tokens and batch."""
    words = case.split()
    seq_length, batch = [word for word in words if not word.startswith("--")]
    return [word for word in words if word.startswith("--")] + [
        f"--llama.max_sequence_length={seq_length}",
        f"--train_dataset.json_dataset.seq_length={seq_length}",
        f"--train_dataset.json_dataset.batch_size={batch}",
    ]


def plan_of(program, ranks, options):
    command = [program, "plan", "--json", "--device=cuda", f"--world_size={ranks}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if not done.stdout:
        sys.exit(f"ringtrain plan ended with {done.returncode}")
    return json.loads(done.stdout)


def run(program, ranks, options):
    """What `ringtrain bench step` says, and the largest resident memory of a process."""
    command = [program, "bench", "step", "--json", "--device=cuda", "--warmups=1", "--runs=1"]
    if ranks > 1:
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        command = ["mpirun", *root, "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *command]
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([*command, *options], stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"ringtrain bench ended with {child.returncode}")
        out.seek(0)
        return json.loads(out.read()), usage.ru_maxrss * 1024


def is_off(bytes_used, plan, *names):
    """Whether estimates of the plan are together wrong by more than they admit."""
    error = sum(plan[f"{name}_error"] for name in names)
    return abs(bytes_used - sum(plan[name] for name in names)) > error


def check(program, ranks, name, case):
    """Prints a row; returns whether the plan holds."""
    options = options_of(case)
    plan = plan_of(program, ranks, options)
    row, resident = run(program, ranks, options)
    arena = row["arena_bytes"]
    beside = row["device_bytes"] - arena
    process = resident - row["host_bytes"]
    wrong = []
    if plan["device"]["arena"] != arena or plan["host"]["arena"] != row["host_bytes"]:
        wrong.append("arena")
    if not 0.98 * arena <= row["arena_peak_bytes"] <= arena:
        wrong.append("high-water mark")
    if row["device_bytes"] > plan["device_used"] or is_off(beside, plan, "cuda_context", "nccl"):
        wrong.append("device")
    if resident > plan["host_used"] or is_off(process, plan, "process"):
        wrong.append("host")
    share = row["arena_peak_bytes"] / arena
    print(f"{name:<18}{arena / MIB:>10.1f}{100 * share:>8.2f}{beside / MIB:>9.0f}"
          f"{(plan['cuda_context'] + plan['nccl']) / MIB:>9.0f}{plan['device_used'] / row['device_bytes']:>8.3f}"
          f"{row['host_bytes'] / MIB:>9.0f}{process / MIB:>9.0f}{plan['process'] / MIB:>9.0f}"
          f"  {'wrong: ' + ', '.join(wrong) if wrong else 'ok'}", flush=True)
    return not wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ringtrain", default="build/ringtrain", help="the program")
    parser.add_argument("--ranks", type=int, default=1, help="one for each GPU")
    args = parser.parse_args()
    print(f"{'':<18}{'arena':>10}{'used %':>8}{'beside':>9}{'plan':>9}{'sum/use':>8}"
          f"{'pinned':>9}{'process':>9}{'plan':>9}")
    held = [
        check(args.ringtrain, args.ranks, name, case) for name, case in cases_of(args.ranks).items()
    ]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
