#!/usr/bin/env python3
"""Attention of ringtrain beside PyTorch's, in one call: times and ratios.

    compare_attention.py --ringtrain build/ringtrain [--backend cudnn] [--rounds 2] [CASE ...]

The two take turns on the same GPU, `rounds` times each for every case, so that both meet the same
clocks and temperature. A case is "head_dim heads kv_heads seq_length batch causal direction"; see
peers/attention_torch.py. A ratio above 1 says that ringtrain is faster. PyTorch's columns are the
medians of its rounds, ringtrain's likewise.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from attention_torch import BACKENDS, Case, standard_cases  # noqa: E402


class Ringtrain:
    """`ringtrain bench attention`, asked case by case."""

    def __init__(self, program, warmups, runs, options):
        command = [program, "bench", "attention", "--shapes=-", "--json", "--device=cuda"]
        command += [f"--warmups={warmups}", f"--runs={runs}", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, case):
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare_attention: ringtrain ended with {self.process.wait()}")
        return json.loads(answer)["median_ms"]


def clocks():
    query = "name,power.limit,clocks.sm,power.draw,temperature.gpu,driver_version"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return torch.cuda.get_device_name()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ringtrain", default="build/ringtrain", help="the program")
    parser.add_argument("--backend", choices=BACKENDS, default="cudnn")
    parser.add_argument("--warmups", type=int, default=100)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--deterministic", action="store_true", help="passed on to ringtrain")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()

    torch.manual_seed(0)
    options = ["--deterministic"] if args.deterministic else []
    ringtrain = Ringtrain(args.ringtrain, args.warmups, args.runs, options)
    if not args.json:
        print(f"{clocks()}; torch {torch.__version__}, CUDA {torch.version.cuda}")
        print(f"median of {args.runs} after {args.warmups}, {args.rounds} rounds in turns; TFLOP/s")
        print(f"{'head_dim heads kv_heads seq batch causal direction':<52}"
              f"{'ringtrain':>10}{args.backend:>8}{'ratio':>8}")
    for text in args.cases or standard_cases():
        peer = Case(text, args.backend)
        ours, theirs = [], []
        turns = [
            lambda: ours.append(ringtrain.measure(text)),
            lambda: theirs.append(peer.measure(args.warmups, args.runs)),
        ]
        for _ in range(args.rounds):
            for turn in turns:
                turn()
            turns.reverse()  # so that neither is always the first
        ms, peer_ms = statistics.median(ours), statistics.median(theirs)
        flops, ratio = peer.flops, peer_ms / ms
        if args.json:
            row = {"case": text, "ringtrain_ms": ours, f"{args.backend}_ms": theirs, "ratio": ratio}
            print(json.dumps(row), flush=True)
        else:
            print(f"{text:<52}{flops / ms * 1e-9:>10.0f}{flops / peer_ms * 1e-9:>8.0f}{ratio:>8.3f}",
                  flush=True)
        del peer
        torch.cuda.empty_cache()
    if not args.json:
        print(clocks())


if __name__ == "__main__":
    main()
