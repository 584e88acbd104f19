#!/usr/bin/env python3
"""Says whether a resumed run did its work: check_loss.py METRICS TOTAL_STEPS RESUMED_STEP

Exits 1 unless metrics.jsonl holds every step once, in order, the loss fell to less than 70 % of the
first one, and the first loss after the resume follows on from the last before it."""

import json
import sys


def mean(values):
    return sum(values) / len(values)


def main():
    path, total, resumed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    steps = [record["step"] for record in records]
    if steps != list(range(total)):
        sys.exit(f"demo: FAILED: expected steps 0 to {total - 1} once each, found {steps}")
    losses = [record["loss"] for record in records]
    if any(loss is None for loss in losses):
        sys.exit("demo: FAILED: a loss is not a finite number")

    first, last = losses[0], mean(losses[-5:])
    before, after = mean(losses[resumed - 5:resumed]), mean(losses[resumed:resumed + 5])
    print(f"loss: {first:.3f} at step 0, {before:.3f} before the resume, {after:.3f} after it, "
          f"{last:.3f} at the end")
    if not last < 0.7 * first:
        sys.exit(f"demo: FAILED: the loss did not fall below 70 % of {first:.3f}")
    if not abs(after - before) < 0.1 * before:
        sys.exit("demo: FAILED: the loss jumped at the resume")
    print("demo: OK")


if __name__ == "__main__":
    main()
