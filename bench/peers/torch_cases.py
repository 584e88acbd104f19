"""What the peers share: their command line, the peak of the GPU, and timing of single calls as
`ringtrain bench` times its own."""

import argparse
import json

import torch

PEAK_FLOPS = 989e12  # dense bf16 of the H100's and H200's data sheet


def case_parser(description, warmups, runs):
    """A parser of --warmups, --runs and cases."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warmups", type=int, default=warmups)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    return parser


def print_rows(texts, row_of):
    """Prints row_of(text) of each case as a line of JSON; memory is free again between them."""
    torch.manual_seed(0)
    for text in texts:
        print(json.dumps({"case": text, **row_of(text)}), flush=True)
        free_memory()


def free_memory():
    """Forgets what was compiled, and gives unused memory of the GPU back."""
    torch._dynamo.reset()
    torch.cuda.empty_cache()


def speed_of(flops, ms):
    """The columns of a row that follow from a case's FLOPs."""
    per_s = flops / ms * 1e3
    return {"median_ms": ms, "tflops": per_s * 1e-12, "share_of_peak": per_s / PEAK_FLOPS}


def median_ms(call, warmups, runs, prepare=lambda: None):
    """Median milliseconds of `call` by events; `prepare` goes before each call, untimed."""
    for _ in range(warmups):
        prepare()
        call()
    pairs = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(runs)]
    for begin, end in pairs:
        prepare()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    times = sorted(begin.elapsed_time(end) for begin, end in pairs)
    return times[len(times) // 2]
