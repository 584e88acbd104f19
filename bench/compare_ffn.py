#!/usr/bin/env python3
"""The feed-forward block of ringtrain beside PyTorch's, in one call: times and ratios.

    compare_ffn.py --ringtrain build/ringtrain [--rounds 2] [CASE ...]

A case is "tokens hidden ffn chunk direction"; see peers/ffn_torch.py for what PyTorch does in each
direction. compare.py tells how they are measured; both columns are medians of the rounds.
"""

from compare import add_arguments, compare_calls

# In peers/, where compare.py lets modules be found.
from ffn_torch import Case, standard_cases
from torch_cases import case_parser


def main():
    parser = case_parser(__doc__, warmups=30, runs=100)
    add_arguments(parser)
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
