#!/usr/bin/env python3
"""Says whether a resumed run did its work: check_loss.py METRICS TOTAL_STEPS RESUMED_STEP

Exits 1 unless metrics.jsonl holds every logged step once, in order, the loss fell to less than 70 %
of the first one, and the losses after the resume follow on from those before it."""

import json
import sys


def mean(values):
    return sum(values) / len(values)


def main():
    path, total, resumed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    steps = [record["step"] for record in records]
    every = steps[1] - steps[0] if len(steps) > 1 else 1
    if steps != list(range(0, total, max(every, 1))):
        sys.exit(f"demo: FAILED: expected every {every} steps from 0 to {total - 1}, found {steps}")
    losses = [record["loss"] for record in records]
    if any(loss is None for loss in losses):
        sys.exit("demo: FAILED: a loss is not a finite number")

    at = next(i for i, step in enumerate(steps) if step >= resumed)
    first, last = losses[0], mean(losses[-3:])
    before, after = mean(losses[at - 3:at]), mean(losses[at:at + 3])
    print(f"loss: {first:.3f} at step 0, {before:.3f} before the resume, {after:.3f} after it, "
          f"{last:.3f} at the end")
    if not last < 0.7 * first:
        sys.exit(f"demo: FAILED: the loss did not fall below 70 % of {first:.3f}")
    if not abs(after - before) < 0.1 * before:
        sys.exit("demo: FAILED: the loss jumped at the resume")
    print("demo: OK")


if __name__ == "__main__":
    main()
