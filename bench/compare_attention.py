#!/usr/bin/env python3
"""Attention of ringtrain beside PyTorch's, in one call: times and ratios.

    compare_attention.py --ringtrain build/ringtrain [--backend cudnn] [--rounds 2] [CASE ...]

A case is "head_dim heads kv_heads seq_length batch causal direction"; see peers/attention_torch.py.
compare.py tells how they are measured; both columns are medians of the rounds.
"""

from compare import add_arguments, compare_calls

# In peers/, where compare.py lets modules be found.
from attention_torch import BACKENDS, Case, standard_cases
from torch_cases import case_parser


def main():
    parser = case_parser(__doc__, warmups=100, runs=300)
    add_arguments(parser)
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
