#!/usr/bin/env python3
"""Where the time of a training step goes: a table for docs/performance.md, and its picture.

    step_report.py [--copy 3000] [--svg docs/step-time.svg] FILE ...

FILE holds lines of `ringtrain bench step --json`; other lines are passed over. The bound of a row is
the time of its matrix products and attention at the dense peak, or of its bytes at --copy GB/s; what
the backward pass repeats has no bound of its own.
"""

import argparse
import json
from html import escape
from pathlib import Path

PEAK_TFLOPS = 989  # dense bf16 of the H100's data sheet
UPDATE_BYTES = 34  # a parameter: the norm reads 4; AdamW 16 in, 14 out

# name, colour of its bar
ROWS = [
    ("forward: attention", "#1f77b4"),
    ("forward: feed-forward", "#6baed6"),
    ("forward: projections, norms, RoPE", "#c6dbef"),
    ("head and loss", "#9467bd"),
    ("backward: attention", "#d62728"),
    ("backward: feed-forward", "#fb6a4a"),
    ("backward: projections, norms, RoPE", "#fcbba1"),
    ("backward: repeated attention", "#7f7f7f"),
    ("embedding", "#bcbd22"),
    ("update", "#2ca02c"),
]


class Step:
    """One line of the bench."""

    def __init__(self, row):
        self.row, self.sizes = row, row["sizes"]

    def title(self):
        s = self.sizes
        kept = s["remat_block"] or "everything saved"
        return f"{s['layers']} layers of {s['hidden']}, {s['batch']} x {s['seq_length']}, {kept}"

    def measured(self):
        """Milliseconds by row."""
        found = dict.fromkeys((name for name, _ in ROWS), 0.0)
        top = None
        for phase in self.row["phases"]:
            name, ms = phase["phase"], phase["ms"]
            if phase["depth"] == 0:
                top = name
                if name.endswith("embedding"):
                    found["embedding"] += ms
                elif name == "head":
                    found["head and loss"] += ms
                elif name == "update":
                    found["update"] += ms
                else:
                    found[f"{name.split()[0]}: projections, norms, RoPE"] += ms
                continue
            part = None
            if name == "attention forward":
                part = "forward: attention" if top == "forward layer" else "backward: repeated attention"
            elif name == "attention backward":
                part = "backward: attention"
            elif name.startswith("feed-forward"):
                part = "backward: feed-forward" if "backward" in name else "forward: feed-forward"
            if part:
                found[part] += ms
                found[f"{top.split()[0]}: projections, norms, RoPE"] -= ms
        return found

    def bounds(self, copy):
        """Milliseconds by row, where there is a bound."""
        s = self.sizes
        tokens = s["batch"] * s["seq_length"]
        width, kv_width = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
        attention = 2 * tokens * s["seq_length"] * width * s["layers"]  # causal: half of 4 S^2
        ffn = 6 * tokens * s["hidden"] * s["ffn"] * s["layers"]
        projections = 4 * tokens * s["hidden"] * (width + kv_width) * s["layers"]
        head = 6 * tokens * s["hidden"] * s["vocabulary"]
        layer = s["hidden"] * (3 * s["ffn"] + 2 * (width + kv_width))
        parameters = s["layers"] * layer + 2 * s["vocabulary"] * s["hidden"]
        flops = {
            "forward: attention": attention,
            "forward: feed-forward": ffn,
            "forward: projections, norms, RoPE": projections,
            "head and loss": head,
            "backward: attention": 2.5 * attention,
            "backward: feed-forward": 2 * ffn,
            "backward: projections, norms, RoPE": 2 * projections,
        }
        bounds = {name: value / PEAK_TFLOPS * 1e-9 for name, value in flops.items()}
        bounds["update"] = UPDATE_BYTES * parameters / copy * 1e-6
        bounds["embedding"] = 5 * 2 * tokens * s["hidden"] / copy * 1e-6  # bf16, fp32 sums at most
        return bounds


def print_table(step, copy):
    row, bounds = step.row, step.bounds(copy)
    print(f"### {step.title()}\n")
    print(f"{row['step_ms']:.1f} ms, {row['tokens_per_s']:.0f} tokens/s, MFU {100 * row['mfu']:.1f} %, "
          f"arena {row['arena_bytes'] / 2**30:.1f} GiB; the host takes {row['host_ms']:.1f} ms to "
          "enqueue it\n")
    print("| part | ms | share | bound, ms | of bound |\n| --- | ---: | ---: | ---: | ---: |")
    for name, ms in step.measured().items():
        if ms == 0:
            continue
        bound = bounds.get(name)
        cells = f"{bound:.2f} | {100 * bound / ms:.0f} %" if bound else " | "
        print(f"| {name} | {ms:.2f} | {100 * ms / row['step_ms']:.1f} % | {cells} |")
    print()


def draw(steps, file):
    """Stacked bars, each as wide as the page, one for each step."""
    left, width, height, gap = 10, 780, 34, 30
    lines = []
    top = 24
    for step in steps:
        lines.append(f'<text x="{left}" y="{top}">{escape(step.title())}</text>')
        measured = step.measured()
        total = sum(measured.values())
        x = left
        for name, colour in ROWS:
            part = width * measured[name] / total
            if part <= 0:
                continue
            label = f"{name}: {measured[name]:.1f} ms"
            lines.append(f'<rect x="{x:.1f}" y="{top + 6}" width="{part:.1f}" height="{height}" '
                         f'fill="{colour}"><title>{escape(label)}</title></rect>')
            if part > 34:
                lines.append(f'<text x="{x + part / 2:.1f}" y="{top + 28}" text-anchor="middle">'
                             f"{100 * measured[name] / total:.0f}%</text>")
            x += part
        top += height + gap
    for index, (name, colour) in enumerate(ROWS):
        column, line = divmod(index, 5)
        x, y = left + 400 * column, top + 20 * line
        lines.append(f'<rect x="{x}" y="{y - 11}" width="14" height="14" fill="{colour}"/>')
        lines.append(f'<text x="{x + 22}" y="{y}">{escape(name)}</text>')
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * left} {top + 100}" '
            'font-family="sans-serif" font-size="13">')
    file.write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *lines,
                               "</svg>\n"]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copy", type=float, default=3000, help="GB/s of a copy, read and written")
    parser.add_argument("--svg", type=Path, help="where the picture goes")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    args = parser.parse_args()
    lines = [line for file in args.files for line in file.read_text().splitlines()]
    steps = [Step(json.loads(line)) for line in lines if line.startswith('{"sizes"')]
    for step in steps:
        print_table(step, args.copy)
    if args.svg:
        draw(steps, args.svg)


if __name__ == "__main__":
    main()
