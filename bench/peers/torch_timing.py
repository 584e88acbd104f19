"""Timing of single calls on a GPU, as `ringtrain bench` times its own."""

import torch


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
