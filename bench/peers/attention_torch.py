#!/usr/bin/env python3
"""Attention of PyTorch on the shapes of `ringtrain bench attention`, one back end at a time.

    attention_torch.py [--backend cudnn|flash] [--warmups 100] [--runs 300] [CASE ...]

A case is "head_dim heads kv_heads seq_length batch causal direction" as in --shapes; without one,
the standard table. Prints JSON lines. The median of single calls timed by events, on random normal
bf16 data; backward is autograd's, with gradients of query, key and value in bf16.
"""

import argparse
import json

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from torch_timing import median_ms

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
PEAK_FLOPS = 989e12  # dense bf16 of the H100's and H200's data sheet


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=BACKENDS, default="cudnn")
    parser.add_argument("--warmups", type=int, default=100)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()
    torch.manual_seed(0)
    for text in args.cases or standard_cases():
        case = Case(text, args.backend)
        ms = case.measure(args.warmups, args.runs)
        tflops = case.flops / ms * 1e-9
        row = {"case": text, "backend": args.backend, "median_ms": ms, "tflops": tflops}
        print(json.dumps({**row, "share_of_peak": tflops * 1e12 / PEAK_FLOPS}), flush=True)


if __name__ == "__main__":
    main()
