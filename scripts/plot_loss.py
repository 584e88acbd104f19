#!/usr/bin/env python3
"""Draws the loss curves of one or several runs as an SVG picture, with the standard library only.

    scripts/plot_loss.py run/metrics.jsonl --out run/loss.svg
    scripts/plot_loss.py a/metrics.jsonl b/metrics.jsonl --labels one,two --out compare.svg
"""

import argparse
import json
import math
import pathlib
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 60  # margins around the plot, in pixels
# Okabe and Ito's palette: told apart also by colour-blind readers.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def read_series(path):
    """{"loss": [(step, value)...], "eval_loss": [...]} of a metrics.jsonl; nulls are left out."""
    series = {"loss": [], "eval_loss": []}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            print(f"plot_loss: {path}:{number} is not JSON, left out", file=sys.stderr)
            continue
        for key, points in series.items():
            if record.get(key) is not None:
                points.append((record["step"], record[key]))
    return series


def nice_ticks(low, high, count=6):
    """Round values that cover [low, high], about `count` of them."""
    span = (high - low) or 1.0
    power = 10 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= count)
    first = math.floor(low / step)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, 10) for i in range(first, last + 1)]


def draw(curves, title):
    """SVG text. `curves`: list of (label, key, points), points sorted by step, none empty."""
    steps = [step for _, _, points in curves for step, _ in points]
    losses = [loss for _, _, points in curves for _, loss in points]
    x_ticks = nice_ticks(min(steps), max(steps), 8)
    y_ticks = nice_ticks(min(losses), max(losses))

    def x_of(step):
        return LEFT + (step - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def y_of(loss):
        return TOP + (y_ticks[-1] - loss) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="30" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in y_ticks:
        y = y_of(tick)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x = x_of(tick)
        out.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM}v5" stroke="#444444"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" '
                   f'text-anchor="middle">{tick:g}</text>')
    out.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" '
               'stroke="#444444"/>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 15}" '
               'text-anchor="middle">step</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(f'<text x="20" y="{middle}" text-anchor="middle" '
               f'transform="rotate(-90 20 {middle})">loss (nats per token)</text>')

    for index, (label, key, points) in enumerate(curves):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{x_of(step):.1f},{y_of(loss):.1f}" for step, loss in points)
        dash = ' stroke-dasharray="6 4"' if key == "eval_loss" else ""
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" '
                   f'stroke-width="2"{dash}/>')
        if key == "eval_loss":
            out += [f'<circle cx="{x_of(step):.1f}" cy="{y_of(loss):.1f}" r="3.5" '
                    f'fill="{colour}"/>' for step, loss in points]
        y = TOP + 14 + 20 * index
        out.append(f'<path d="M{WIDTH - 220} {y - 4}h30" stroke="{colour}" '
                   f'stroke-width="2"{dash}/>')
        out.append(f'<text x="{WIDTH - 182}" y="{y}">{escape(label)}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics", nargs="+", type=pathlib.Path, help="metrics.jsonl files")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="SVG file to write")
    parser.add_argument("--labels", help="comma-separated, one per file; default: directory names")
    parser.add_argument("--title", default="ringtrain: loss over steps")
    args = parser.parse_args()
    if args.out.suffix != ".svg":
        parser.error(f"--out writes SVG: {args.out} does not end in .svg")

    labels = args.labels.split(",") if args.labels else [
        path.resolve().parent.name for path in args.metrics]
    if len(labels) != len(args.metrics):
        parser.error(f"{len(labels)} labels for {len(args.metrics)} files")
    curves = []
    for path, label in zip(args.metrics, labels):
        prefix = f"{label} " if len(args.metrics) > 1 else ""
        try:
            series = read_series(path)
        except OSError as error:
            sys.exit(f"plot_loss: cannot read {path}: {error.strerror}")
        for key, points in series.items():
            if points:
                name = "training" if key == "loss" else "evaluation"
                curves.append((f"{prefix}{name}", key, sorted(points)))
    if not curves:
        sys.exit("plot_loss: no losses in " + ", ".join(map(str, args.metrics)))
    try:
        args.out.write_text(draw(curves, args.title), encoding="utf-8")
    except OSError as error:
        sys.exit(f"plot_loss: cannot write {args.out}: {error.strerror}")


if __name__ == "__main__":
    main()
