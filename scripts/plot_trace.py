#!/usr/bin/env python3
"""Draws a trace of `ringtrain train --trace=FILE` or `ringtrain bench ring --trace=FILE` as an SVG
picture, with the standard library only: a row for each rank and stream.

    scripts/plot_trace.py trace.json --out trace.svg
    scripts/plot_trace.py trace.json --out trace.svg --within "backward layer 1" --title "..."
"""

import argparse
import json
import pathlib
import re
import sys
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 1100, 150, 20, 50  # in pixels
ROW, GAP = 24, 6
# What is drawn: name, legend, colour. Of nested regions, the one that matches; inner ones on top.
KINDS = [
    (r"attention forward", "attention forward", "#0072B2"),
    (r"attention backward", "attention backward", "#56B4E9"),
    (r"feed-forward", "feed-forward", "#999999"),
    (r"hop \d", "keys and values travel", "#E69F00"),
    (r"gradient hop \d", "gradients travel", "#D55E00"),
    (r"gather |reduce ", "parameters and gradients", "#009E73"),
    (r"all_reduce|all_to_all", "exchange within the layer", "#CC79A7"),
    (r"waiting ", "waiting", "#000000"),
]


def kind_of(name):
    return next((i for i, (pattern, _, _) in enumerate(KINDS) if re.match(pattern, name)), None)


def read_trace(path):
    """({rank: name}, {(rank, stream): name}, [(rank, stream, name, begin, end)...]), in ms."""
    ranks, streams, regions = {}, {}, []
    for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]:
        rank, stream = event["pid"], event["tid"]
        if event["ph"] == "X":
            begin = event["ts"] / 1000
            regions.append((rank, stream, event["name"], begin, begin + event["dur"] / 1000))
        elif event["name"] == "process_name":
            ranks[rank] = event["args"]["name"].split(",")[0]
        elif event["name"] == "thread_name":
            streams[rank, stream] = event["args"]["name"]
    return ranks, streams, regions


def window_of(regions, within):
    """From the first begin to the last end of the regions to be drawn, or of those named."""
    chosen = [r for r in regions if (within in r[2] if within else kind_of(r[2]) is not None)]
    if not chosen:
        sys.exit(f"plot_trace: no region {within or 'that is drawn'}")
    return min(r[3] for r in chosen), max(r[4] for r in chosen)


def tick_step(span):
    power = 10.0 ** -3
    while True:
        for factor in (1, 2, 5):
            if span / (factor * power) <= 12:
                return factor * power
        power *= 10


def draw(ranks, streams, regions, begin, end, title):
    """SVG text of what lies in [begin, end]."""
    shown = [(kind_of(name), *rest) for *rest, name in
             ((rank, stream, max(b, begin), min(e, end), name)
              for rank, stream, name, b, e in regions if e > begin and b < end)
             if kind_of(name) is not None]
    rows = sorted({(rank, stream) for _, rank, stream, _, _ in shown})
    height = TOP + len(rows) * (ROW + GAP) + 75
    bottom = TOP + len(rows) * (ROW + GAP)

    def x_of(time):
        return LEFT + (time - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="28" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    step = tick_step(end - begin)
    for i in range(int((end - begin) / step) + 1):
        x = x_of(begin + i * step)
        out.append(f'<path d="M{x:.1f} {TOP - 6}V{bottom}" stroke="#dddddd"/>')
        out.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{i * step:g}</text>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{bottom + 32}" text-anchor="end">ms</text>')
    for index, row in enumerate(rows):
        y = TOP + index * (ROW + GAP)
        out.append(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">'
                   f'{escape(ranks.get(row[0], str(row[0])))}, {escape(streams[row])}</text>')
        for kind, rank, stream, left, right in sorted(shown):
            if (rank, stream) != row:
                continue
            out.append(f'<rect x="{x_of(left):.2f}" y="{y}" '
                       f'width="{max(x_of(right) - x_of(left), 0.3):.2f}" height="{ROW}" '
                       f'fill="{KINDS[kind][2]}" stroke="white" stroke-width="0.3"/>')
    x = LEFT
    for kind in sorted({each[0] for each in shown}):
        _, legend, colour = KINDS[kind]
        out.append(f'<rect x="{x}" y="{bottom + 42}" width="14" height="14" fill="{colour}"/>')
        out.append(f'<text x="{x + 19}" y="{bottom + 54}">{legend}</text>')
        x += 40 + 7 * len(legend)
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("trace", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="SVG file to write")
    parser.add_argument("--within", help="only while regions of this name last")
    parser.add_argument("--title", default="ringtrain: what the streams of the ranks do")
    args = parser.parse_args()
    if args.out.suffix != ".svg":
        parser.error(f"--out writes SVG: {args.out} does not end in .svg")
    try:
        ranks, streams, regions = read_trace(args.trace)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"plot_trace: cannot read {args.trace}: {error}")
    begin, end = window_of(regions, args.within)
    try:
        args.out.write_text(draw(ranks, streams, regions, begin, end, args.title), encoding="utf-8")
    except OSError as error:
        sys.exit(f"plot_trace: cannot write {args.out}: {error.strerror}")


if __name__ == "__main__":
    main()
