#!/usr/bin/env python3
"""Attention of PyTorch on the shapes of `ringtrain bench attention`, one back end at a time.

    attention_torch.py [--backend cudnn|flash] [--warmups 100] [--runs 300] [CASE ...]

A case is "head_dim heads kv_heads seq_length batch causal direction" as in --shapes; without one,
the standard table. Prints JSON lines. The median of single calls timed by events, on random normal
bf16 data; backward is autograd's, with gradients of query, key and value in bf16.
"""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from torch_cases import case_parser, median_ms, print_rows, speed_of

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def standard_cases():
    """The cases that `ringtrain bench attention` times, but its ring steps."""
    cases = []
    for causal in (1, 0):
        for head_dim in (128, 64):
            heads = 2048 // head_dim
            for seq_length, batch in ((4096, 4), (16384, 1), (32768, 1)):
                cases.append((head_dim, heads, heads, seq_length, batch, causal))
    cases.append((128, 16, 2, 16384, 1, 1))
    return [f"{' '.join(map(str, case))} {direction}" for case in cases for direction in ("forward", "backward")]


class Case:
    """One case with its inputs; `measure` may be called again and again."""

    def __init__(self, text, backend):
        *sizes, self.direction = text.split()
        head_dim, heads, kv_heads, seq_length, batch, causal = map(int, sizes)
        self.causal = bool(causal)
        self.backend = BACKENDS[backend]
        self.grouped = heads != kv_heads
        self.flops = 4 * batch * heads * seq_length**2 * head_dim * (0.5 if causal else 1)
        if self.direction != "forward":
            self.flops *= 2.5
        self.text = text

        def tensor(count):
            shape = (batch, seq_length, count, head_dim)
            drawn = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
            return drawn.transpose(1, 2).requires_grad_()

        self.inputs = [tensor(heads), tensor(kv_heads), tensor(kv_heads)]
        with sdpa_kernel(self.backend):
            self.out = self.forward()
        self.dout = torch.randn_like(self.out)

    def forward(self):
        return F.scaled_dot_product_attention(
            *self.inputs, is_causal=self.causal, enable_gqa=self.grouped
        )

    def backward(self):
        return torch.autograd.grad(self.out, self.inputs, self.dout, retain_graph=True)

    def measure(self, warmups, runs):
        """Median milliseconds of one call."""
        call = self.forward if self.direction == "forward" else self.backward
        with sdpa_kernel(self.backend):
            return median_ms(call, warmups, runs)


def main():
    parser = case_parser(__doc__, warmups=100, runs=300)
    parser.add_argument("--backend", choices=BACKENDS, default="cudnn")
    args = parser.parse_args()

    def row_of(text):
        case = Case(text, args.backend)
        ms = case.measure(args.warmups, args.runs)
        return {"backend": args.backend, **speed_of(case.flops, ms)}

    print_rows(args.cases or standard_cases(), row_of)


if __name__ == "__main__":
    main()
