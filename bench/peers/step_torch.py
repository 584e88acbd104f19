#!/usr/bin/env python3
"""A training step of PyTorch: the peer of `ringtrain bench step`.

    step_torch.py [--warmups 3] [--runs 10] CASE ...

A case is "model layers seq_length batch keep": model is a preset of MODELS, layers 0 for all of
them, keep what the forward pass leaves: "everything", or "inputs" of the layers alone, so that the
backward pass repeats all of them (activation checkpointing). Prints JSON lines.

LLaMA in bf16 with compiled layers, cuDNN's attention, the loss in chunks whose logits are formed
again in the backward pass, and fused AdamW on fp32 masters and moments after clipping by the
global norm. Each step is timed from an idle device to an idle device, on random tokens.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from torch_cases import case_parser, print_rows, speed_of

# hidden, intermediate, layers, heads: those of configs/models
MODELS = {
    "debug": (128, 256, 2, 4),
    "1b": (2048, 5504, 22, 16),
    "3b": (3200, 8640, 26, 32),
    "7b": (4096, 11008, 32, 32),
    "13b": (5120, 13824, 40, 40),
}
VOCABULARY = 32000
LOSS_CHUNK = 8192  # tokens


def rotate(x, cosine, sine):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, hidden, intermediate, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(hidden, eps=1e-6)
        self.ffn_norm = nn.RMSNorm(hidden, eps=1e-6)
        self.wqkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.wo = nn.Linear(hidden, hidden, bias=False)
        self.w13 = nn.Linear(hidden, 2 * intermediate, bias=False)
        self.w2 = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x, cosine, sine):
        batch, tokens, hidden = x.shape
        heads = (batch, tokens, 3, self.heads, hidden // self.heads)
        q, k, v = self.wqkv(self.attention_norm(x)).view(heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.wo(attended.transpose(1, 2).reshape(batch, tokens, hidden))
        gate, up = self.w13(self.ffn_norm(x)).chunk(2, -1)
        return x + self.w2(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, hidden, intermediate, layers, heads):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        self.layers = nn.ModuleList(Layer(hidden, intermediate, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(hidden, eps=1e-6)
        self.head = nn.Linear(hidden, VOCABULARY, bias=False)


def chunk_loss(x, matrix, targets):
    return F.cross_entropy((x @ matrix.T).float(), targets, reduction="sum")


def standard_cases():
    """The cases of docs/performance.md."""
    return [
        "7b 4 8192 2 everything",
        "7b 4 32768 1 everything",
        "7b 4 32768 1 inputs",
        "7b 4 131072 1 inputs",
        "1b 0 131072 1 inputs",
    ]


class Case:
    """A model with its optimizer and a batch; `measure` may be called again and again."""

    def __init__(self, text):
        self.text = text
        model, layers, seq_length, batch, self.keep = text.split()
        if self.keep not in ("everything", "inputs"):
            raise ValueError(f"a step keeps everything or inputs, not {self.keep}")
        hidden, intermediate, preset_layers, heads = MODELS[model]
        layers = int(layers) or preset_layers
        seq_length, batch = int(seq_length), int(batch)
        with torch.device("cuda"):
            self.model = Llama(hidden, intermediate, layers, heads).to(torch.bfloat16)
        for parameter in self.model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.layers = [torch.compile(layer) for layer in self.model.layers]
        self.parameters = list(self.model.parameters())
        self.masters = [parameter.detach().float() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.masters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
        pairs = torch.arange(0, hidden // heads, 2, device="cuda").float() / (hidden // heads)
        positions = torch.arange(seq_length, device="cuda", dtype=torch.float32)
        angles = positions[:, None] / 10000**pairs
        self.rotation = angles.cos(), angles.sin()
        drawn = torch.randint(0, VOCABULARY, (batch, seq_length + 1), device="cuda")
        self.inputs, self.targets = drawn[:, :-1], drawn[:, 1:].reshape(-1)
        self.tokens = batch * seq_length
        self.num_weights = sum(parameter.numel() for parameter in self.parameters)
        weights = self.num_weights - self.model.embedding.weight.numel()
        self.flops = self.tokens * (6 * weights + 6 * seq_length * hidden * layers)
        self.attention_bytes = layers * self.tokens * (2 * hidden + 4 * heads)  # outputs and lse

    def step(self):
        kept = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.forward_backward()
        gradients = sum(parameter.grad.nbytes for parameter in self.parameters)
        self.activation_bytes = torch.cuda.max_memory_allocated() - kept - gradients
        self.update()

    def forward_backward(self):
        x = self.model.embedding(self.inputs)
        for layer in self.layers:
            if self.keep == "inputs":
                x = checkpoint(layer, x, *self.rotation, use_reentrant=False)
            else:
                x = layer(x, *self.rotation)
        x = self.model.norm(x).reshape(self.tokens, -1)
        loss = 0
        for part, targets in zip(x.split(LOSS_CHUNK), self.targets.split(LOSS_CHUNK)):
            matrix = self.model.head.weight
            loss = loss + checkpoint(chunk_loss, part, matrix, targets, use_reentrant=False)
        (loss / self.tokens).backward()

    def update(self):
        for master, parameter in zip(self.masters, self.parameters):
            master.grad, parameter.grad = parameter.grad.float(), None
        nn.utils.clip_grad_norm_(self.masters, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch._foreach_copy_([parameter.data for parameter in self.parameters], self.masters)

    def measure(self, warmups, runs):
        """Median milliseconds of a step and, of the last one, the peak of memory in bytes and what
        of the peak before the update is neither weights nor gradients nor the optimizer's. What only
        steps need is given back."""
        times = []
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            for _ in range(warmups):
                self.step()
            torch.cuda.synchronize()
            for _ in range(runs):
                begin = time.perf_counter()
                self.step()
                torch.cuda.synchronize()
                times.append((time.perf_counter() - begin) * 1e3)
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        return {
            "step_ms": sorted(times)[len(times) // 2],
            "peak_bytes": peak,
            "activation_bytes": self.activation_bytes,
        }


def main():
    args = case_parser(__doc__, warmups=3, runs=10).parse_args()

    def row_of(text):
        case = Case(text)
        measured = case.measure(args.warmups, args.runs)
        ms = measured.pop("step_ms")
        return {**speed_of(case.flops, ms), **measured, "tokens_per_s": case.tokens / ms * 1e3}

    print_rows(args.cases or standard_cases(), row_of)


if __name__ == "__main__":
    main()
