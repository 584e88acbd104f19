#!/usr/bin/env python3
"""The feed-forward block of ringtrain beside PyTorch's, in one call: times and ratios.

    compare_ffn.py --ringtrain build/ringtrain [--rounds 2] [CASE ...]

A case is "tokens hidden ffn chunk direction"; see peers/ffn_torch.py for what PyTorch does in each
direction. compare.py tells how they are measured; both columns are medians of the rounds.
"""

import argparse
import sys
from pathlib import Path

from compare import add_arguments, add_call_arguments, compare_calls

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from ffn_torch import Case, standard_cases  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    add_call_arguments(parser, warmups=30, runs=100)
    args = parser.parse_args()
    compare_calls(
        "ffn",
        args,
        args.cases or standard_cases(),
        Case,
        "torch",
        "tokens hidden ffn chunk direction",
    )


if __name__ == "__main__":
    main()
