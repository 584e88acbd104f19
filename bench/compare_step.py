#!/usr/bin/env python3
"""Training steps of ringtrain beside PyTorch's, in one call: tokens/s, memory and ratios.

    compare_step.py --ringtrain build/ringtrain [--rounds 2] [CASE ...]

A case is "model layers seq_length batch keep" as in peers/step_torch.py; where keep is "inputs",
PyTorch repeats every layer in the backward pass, and ringtrain keeps the attention's output
(remat_block=save_attention) and works on the feed-forward block by chunks. compare.py tells how they
are measured; both columns are medians of the rounds. Memory is ringtrain's arena and PyTorch's peak;
then what of it is neither parameters nor gradients nor the optimizer's, and for ringtrain also less
the attention's outputs where only these are kept beside the inputs.
"""

import json
import statistics

import torch

from compare import add_arguments, device_state, in_turns, ringtrain_options, run_ringtrain

# In peers/, where compare.py lets modules be found.
from step_torch import LOSS_CHUNK, MODELS, Case, standard_cases
from torch_cases import PEAK_FLOPS, case_parser, free_memory

GIB = 2**30
STATE_BYTES = 18  # of a parameter in ringtrain: fp32 master, gradient and moments, and bf16 weight


def options_of(text, args):
    """The flags of `ringtrain bench step` for a case."""
    model, layers, seq_length, batch, keep = text.split()
    options = [
        f"--warmups={args.warmups}",
        f"--runs={args.runs}",
        f"--load_llama_config={model}",
        f"--llama.num_hidden_layers={int(layers) or MODELS[model][2]}",
        f"--llama.max_sequence_length={seq_length}",
        f"--train_dataset.json_dataset.seq_length={seq_length}",
        f"--train_dataset.json_dataset.batch_size={batch}",
        f"--loss_chunk_size={LOSS_CHUNK}",
    ]
    if keep == "inputs":
        options += ["--llama.remat_block=save_attention", "--llama.scan_mlp=True"]
        options += [f"--llama.scan_mlp_chunk_size={args.mlp_chunk}"]
    return options + ringtrain_options(args) + args.extra.split()


def main():
    parser = case_parser(__doc__, warmups=3, runs=10)
    add_arguments(parser)
    parser.add_argument("--mlp_chunk", type=int, default=8192, help="tokens, where not all is kept")
    parser.add_argument("--extra", default="", help="more flags for ringtrain")
    args = parser.parse_args()

    torch.manual_seed(0)
    if not args.json:
        print(f"{device_state()}; torch {torch.__version__}, CUDA {torch.version.cuda}")
        print(f"median of {args.runs} steps after {args.warmups}, {args.rounds} rounds in turns")
        print(f"{'model layers seq batch keep':<28}{'tokens/s':>10}{'MFU %':>7}{'GiB':>7}{'act.':>7}"
              f"{'torch':>10}{'MFU %':>7}{'GiB':>7}{'act.':>7}{'ratio':>8}")
    for text in args.cases or standard_cases():
        peer = Case(text)
        ours, theirs = in_turns(
            args.rounds,
            lambda: run_ringtrain(args.ringtrain, "step", options_of(text, args)),
            lambda: peer.measure(args.warmups, args.runs),
        )
        ms = statistics.median(row["step_ms"] for row in ours)
        peer_ms = statistics.median(row["step_ms"] for row in theirs)
        if args.json:
            print(json.dumps({"case": text, "ratio": peer_ms / ms, "ringtrain": ours,
                              "torch": theirs}), flush=True)
        else:
            def columns(step_ms, memory, activations):
                mfu = peer.flops / step_ms * 1e3 / PEAK_FLOPS
                return (f"{peer.tokens / step_ms * 1e3:>10.0f}{100 * mfu:>7.1f}"
                        f"{memory / GIB:>7.1f}{activations / GIB:>7.2f}")

            arena = ours[-1]["arena_bytes"]
            activations = arena - STATE_BYTES * peer.num_weights
            if peer.keep == "inputs":
                activations -= peer.attention_bytes
            print(f"{text:<28}{columns(ms, arena, activations)}"
                  f"{columns(peer_ms, theirs[-1]['peak_bytes'], theirs[-1]['activation_bytes'])}"
                  f"{peer_ms / ms:>8.3f}", flush=True)
        del peer
        free_memory()
    if not args.json:
        print(device_state())


if __name__ == "__main__":
    main()
