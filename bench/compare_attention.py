#!/usr/bin/env python3
"""Attention of ringtrain beside PyTorch's, in one call: times and ratios.

    compare_attention.py --ringtrain build/ringtrain [--backend cudnn] [--rounds 2] [CASE ...]

A case is "head_dim heads kv_heads seq_length batch causal direction"; see peers/attention_torch.py.
compare.py tells how they are measured; both columns are medians of the rounds.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch

from compare import Ringtrain, add_arguments, device_state, in_turns, ringtrain_options

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from attention_torch import BACKENDS, Case, standard_cases  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--backend", choices=BACKENDS, default="cudnn")
    parser.add_argument("--warmups", type=int, default=100)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()

    torch.manual_seed(0)
    options = [f"--warmups={args.warmups}", f"--runs={args.runs}", *ringtrain_options(args)]
    ringtrain = Ringtrain(args.ringtrain, "attention", options)
    if not args.json:
        print(f"{device_state()}; torch {torch.__version__}, CUDA {torch.version.cuda}")
        print(f"median of {args.runs} after {args.warmups}, {args.rounds} rounds in turns; TFLOP/s")
        print(f"{'head_dim heads kv_heads seq batch causal direction':<52}"
              f"{'ringtrain':>10}{args.backend:>8}{'ratio':>8}")
    for text in args.cases or standard_cases():
        peer = Case(text, args.backend)
        ours, theirs = in_turns(
            args.rounds,
            lambda: ringtrain.measure(text)["median_ms"],
            lambda: peer.measure(args.warmups, args.runs),
        )
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
        print(device_state())


if __name__ == "__main__":
    main()
