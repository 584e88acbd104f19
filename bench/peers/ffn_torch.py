#!/usr/bin/env python3
"""A SwiGLU feed-forward block of PyTorch: the peer of `ringtrain bench ffn`.

    ffn_torch.py [--warmups 30] [--runs 100] [CASE ...]

A case is "tokens hidden ffn chunk direction" as in --shapes; without one, the standard table. PyTorch
takes all tokens at a time, whatever the chunk. Prints JSON lines. The median of single calls timed by events, on random normal bf16 data,
compiled by torch.compile. The backward pass is autograd's, with the gradients of x and of the three
weights in bf16. "forward" is the pass that autograd follows and so keeps gate and up, as is
"forward_keeping"; where ringtrain repeats them, "backward_repeating", PyTorch repeats the whole
block (activation checkpointing) and the time is of its backward pass alone.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from torch_cases import case_parser, median_ms, print_rows, speed_of

DIRECTIONS = ("forward", "forward_keeping", "backward", "backward_repeating")


def standard_cases():
    """The cases that `ringtrain bench ffn` times."""
    return [
        f"{tokens} {hidden} {ffn} 0 {direction}"
        for hidden, ffn in ((4096, 11008), (5120, 13824))
        for tokens in (8192, 32768)
        for direction in DIRECTIONS
    ]


def ffn(x, w1, w3, w2):
    return (F.silu(x @ w1.T) * (x @ w3.T)) @ w2.T


class Case:
    """One case with its inputs; `measure` may be called again and again."""

    def __init__(self, text):
        *sizes, self.direction = text.split()
        tokens, hidden, width, _ = map(int, sizes)
        if self.direction not in DIRECTIONS:
            raise SystemExit(f"no such direction: {self.direction}")
        self.flops = 6 * tokens * hidden * width
        if self.direction.startswith("backward"):
            self.flops *= 2

        def tensor(rows, columns, scale=1.0):
            drawn = torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16)
            return (drawn * scale).requires_grad_()

        self.inputs = [
            tensor(tokens, hidden),
            tensor(width, hidden, hidden**-0.5),
            tensor(width, hidden, hidden**-0.5),
            tensor(hidden, width, width**-0.5),
        ]
        compiled = torch.compile(ffn)
        self.block = compiled
        if self.direction == "backward_repeating":
            self.block = lambda *inputs: checkpoint(compiled, *inputs, use_reentrant=False)
        self.out = self.block(*self.inputs)
        self.dout = torch.randn_like(self.out)

    def backward(self):
        torch.autograd.grad(self.out, self.inputs, self.dout, retain_graph=True)

    def prepare(self):
        """Before each backward pass that repeats: its graph can be used once."""
        if self.direction == "backward_repeating":
            self.out = self.block(*self.inputs)

    def measure(self, warmups, runs):
        """Median milliseconds of one call."""
        is_forward = self.direction.startswith("forward")
        call = (lambda: self.block(*self.inputs)) if is_forward else self.backward
        return median_ms(call, warmups, runs, self.prepare)


def main():
    args = case_parser(__doc__, warmups=30, runs=100).parse_args()

    def row_of(text):
        case = Case(text)
        return speed_of(case.flops, case.measure(args.warmups, args.runs))

    print_rows(args.cases or standard_cases(), row_of)


if __name__ == "__main__":
    main()
