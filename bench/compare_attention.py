#!/usr/bin/env python3
"""Attention of ringtrain beside PyTorch's, in one call: times and ratios.

    compare_attention.py --ringtrain build/ringtrain [--backend cudnn] [--rounds 2] [CASE ...]

A case is "head_dim heads kv_heads seq_length batch causal direction"; see peers/attention_torch.py.
compare.py tells how they are measured; both columns are medians of the rounds.
"""

import argparse
import sys
from pathlib import Path

from compare import add_arguments, add_call_arguments, compare_calls

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from attention_torch import BACKENDS, Case, standard_cases  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    add_call_arguments(parser, warmups=100, runs=300)
    parser.add_argument("--backend", choices=BACKENDS, default="cudnn")
    args = parser.parse_args()
    compare_calls(
        "attention",
        args,
        args.cases or standard_cases(),
        lambda text: Case(text, args.backend),
        args.backend,
        "head_dim heads kv_heads seq batch causal direction",
    )


if __name__ == "__main__":
    main()
