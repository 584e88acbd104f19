"""What the comparisons of ringtrain with a peer share.

The two take turns on the same GPU, `rounds` times each for every case, so that both meet the same
clocks and temperature. A ratio above 1 says that ringtrain is faster.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from torch_cases import free_memory  # noqa: E402


def add_arguments(parser):
    """The options of every comparison."""
    parser.add_argument("--ringtrain", default="build/ringtrain", help="the program")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--deterministic", action="store_true", help="passed on to ringtrain")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def ringtrain_options(args):
    """What of them `ringtrain bench` takes."""
    return ["--json", "--device=cuda"] + (["--deterministic"] if args.deterministic else [])


class Ringtrain:
    """`ringtrain bench PART --shapes=-`, asked case by case; it keeps the device meanwhile."""

    def __init__(self, program, part, options):
        self.process = subprocess.Popen(
            [program, "bench", part, "--shapes=-", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, case):
        """The answer to one case, as ringtrain's JSON has it."""
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"ringtrain ended with {self.process.wait()}")
        return json.loads(answer)


def run_ringtrain(program, part, options):
    """The answer of a `ringtrain bench PART` of its own, whose memory is free again afterwards."""
    done = subprocess.run([program, "bench", part, *options], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"ringtrain ended with {done.returncode}")
    return json.loads(done.stdout)


def in_turns(rounds, *turns):
    """Calls each of `turns` once a round; every other round begins with the last, so that none is
    always the first. Returns the results of each, in order."""
    results = [[] for _ in turns]
    order = list(zip(turns, results))
    for _ in range(rounds):
        for turn, its_results in order:
            its_results.append(turn())
        order.reverse()
    return results


def device_state():
    """Name, clocks and temperature of the GPU, in a line."""
    query = "name,power.limit,clocks.sm,power.draw,temperature.gpu,driver_version"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "the state of the GPU is unknown"


def compare_calls(part, args, cases, make_peer, peer_name, columns):
    """Prints a row for each case of `ringtrain bench PART`: TFLOP/s of both and the ratio.

    make_peer(case) has `flops` and measure(warmups, runs), in milliseconds; `columns` names the
    words of a case.
    """
    torch.manual_seed(0)
    options = [f"--warmups={args.warmups}", f"--runs={args.runs}", *ringtrain_options(args)]
    ringtrain = Ringtrain(args.ringtrain, part, options)
    if not args.json:
        print(f"{device_state()}; torch {torch.__version__}, CUDA {torch.version.cuda}")
        print(f"median of {args.runs} after {args.warmups}, {args.rounds} rounds in turns; TFLOP/s")
        print(f"{columns:<52}{'ringtrain':>10}{peer_name:>8}{'ratio':>8}")
    for text in cases:
        peer = make_peer(text)
        ours, theirs = in_turns(
            args.rounds,
            lambda: ringtrain.measure(text)["median_ms"],
            lambda: peer.measure(args.warmups, args.runs),
        )
        ms, peer_ms = statistics.median(ours), statistics.median(theirs)
        flops, ratio = peer.flops, peer_ms / ms
        if args.json:
            row = {"case": text, "ringtrain_ms": ours, f"{peer_name}_ms": theirs, "ratio": ratio}
            print(json.dumps(row), flush=True)
        else:
            print(f"{text:<52}{flops / ms * 1e-9:>10.0f}{flops / peer_ms * 1e-9:>8.0f}{ratio:>8.3f}",
                  flush=True)
        del peer
        free_memory()
    if not args.json:
        print(device_state())
