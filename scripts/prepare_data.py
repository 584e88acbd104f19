#!/usr/bin/env python3
"""Makes the files of JSON lines that ringtrain trains on: OUT/openwebtext_train.jsonl and OUT/openwebtext_val.jsonl.

    scripts/prepare_data.py --out data/owt                              # OpenWebText from the Hugging Face hub
    scripts/prepare_data.py --out data/mine --name mine --input a.txt more/*.jsonl folder/

Without --input the parquet files of --dataset are fetched (pip install huggingface_hub pyarrow). With it, local files
are read, each by its ending, .gz included:

    .txt            documents are separated by blank lines, or with --whole_file the file is one
    .jsonl .json    one object a line; each goes through as it is, whatever its fields
    .parquet        the column --text_field (pip install pyarrow)

Folders stand for the files of these kinds inside them. Documents are shuffled with --seed, then the first
--test_size of them (a fraction, or a count from 1 on) become the validation file: the same documents in the same order
as datasets.train_test_split gives. The same input and options give the same bytes. Broken lines are reported, counted and left out; blank documents are left out. Both files appear complete or
not at all.
"""

import argparse
import array
import codecs
import contextlib
import gzip
import json
import math
import os
import pathlib
import sys
import time

USAGE_ERROR, DATA_ERROR = 2, 3  # exit codes, as ringtrain's own
MAX_REPORTS = 5  # broken lines shown one by one
KINDS = (".txt", ".jsonl", ".json", ".parquet")


class DataError(Exception):
    """A file that cannot be read or written; the text names it."""


class Progress:
    """A line that is rewritten on a terminal; elsewhere only the end of each stage is printed."""

    def __init__(self, quiet):
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self.shown_at = 0.0

    def show(self, text):
        if self.live and time.monotonic() - self.shown_at > 0.1:
            self.shown_at = time.monotonic()
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def line(self, text):
        if not self.quiet:
            print(f"{chr(13)}{chr(27)}[K{text}" if self.live else text, file=sys.stderr, flush=True)

    def warn(self, text):
        print(f"{chr(13)}{chr(27)}[K" if self.live else "", end="", file=sys.stderr)
        print(f"prepare_data: {text}", file=sys.stderr, flush=True)


class NumpyGenerator:
    """numpy.random.default_rng(seed), as far as permutations of fewer than 2^32 elements need it.

    datasets.train_test_split shuffles with it, so this gives the split that others use, without numpy. PCG64 (XSL-RR,
    O'Neill 2014) seeded through numpy's SeedSequence; bounded integers by masking and rejection.
    """

    MASK32, MASK64, MASK128 = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
    MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645

    def __init__(self, seed):
        words = self.seed_words(seed)
        state, sequence = (
            words[i] << 64 | words[i + 1] << 96 | words[i + 2] | words[i + 3] << 32 for i in (0, 4)
        )
        self.increment = (sequence << 1 | 1) & self.MASK128
        self.state = (self.increment + state) * self.MULTIPLIER + self.increment & self.MASK128
        self.spare = None  # the upper half of the last 64 bits

    @classmethod
    def seed_words(cls, seed):
        """Eight words of 32 bits from SeedSequence(seed)."""
        hash_constant = 0x43B0D7E5

        def mix_in(value):
            nonlocal hash_constant
            value ^= hash_constant
            hash_constant = hash_constant * 0x931E8875 & cls.MASK32
            value = value * hash_constant & cls.MASK32
            return value ^ value >> 16

        def mix(x, y):
            value = 0xCA01F9DD * x - 0x4973F715 * y & cls.MASK32
            return value ^ value >> 16

        entropy = [seed >> shift & cls.MASK32 for shift in range(0, max(seed.bit_length(), 1), 32)]
        pool = [mix_in(entropy[i] if i < len(entropy) else 0) for i in range(4)]
        for source in range(4):
            for target in range(4):
                if source != target:
                    pool[target] = mix(pool[target], mix_in(pool[source]))
        for word in entropy[4:]:
            for target in range(4):
                pool[target] = mix(pool[target], mix_in(word))

        words, hash_constant = [], 0x8B51F9DD
        for i in range(8):
            value = pool[i % 4] ^ hash_constant
            hash_constant = hash_constant * 0x58F38DED & cls.MASK32
            value = value * hash_constant & cls.MASK32
            words.append(value ^ value >> 16)
        return words

    def next32(self):
        if self.spare is not None:
            value, self.spare = self.spare, None
            return value
        self.state = self.state * self.MULTIPLIER + self.increment & self.MASK128
        value = (self.state >> 64 ^ self.state) & self.MASK64
        turn = self.state >> 122
        value = (value >> turn | value << (64 - turn)) & self.MASK64
        self.spare = value >> 32
        return value & self.MASK32

    def permutation(self, count):
        order = list(range(count))
        for i in range(count - 1, 0, -1):
            mask = (1 << i.bit_length()) - 1
            j = self.next32() & mask
            while j > i:
                j = self.next32() & mask
            order[i], order[j] = order[j], order[i]
        return order


def kind_of(path):
    """The ending that says how a file is read, without .gz."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def numbered_lines(path):
    """Lines from 1 on as bytes, without the mark that some editors put before the first."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def find_files(inputs):
    """The files that --input names, those of a folder in the order of their names."""
    files = []
    for item in map(pathlib.Path, inputs):
        if item.is_dir():
            inside = sorted(p for p in item.rglob("*") if p.is_file() and kind_of(p) in KINDS)
            if not inside:
                raise DataError(f"{item}: no {', '.join(KINDS)} files in this folder")
            files += inside
        elif not item.exists():
            raise DataError(f"{item}: no such file or folder (--input)")
        elif kind_of(item) not in KINDS:
            raise DataError(f"{item}: unknown ending; expected {', '.join(KINDS)}, or these with .gz")
        else:
            files.append(item)
    return files


def document_line(text):
    return json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def read_text(path, args):
    """Documents of a text file as lines of JSON."""
    lines = []

    def flush():
        text = "".join(lines).strip("\n")
        lines.clear()
        return [document_line(text)] if text.strip() else []

    for number, raw in numbered_lines(path):
        try:
            line = raw.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: line {number} is not UTF-8 ({error.reason})") from error
        if line.strip() or args.whole_file:
            lines.append(line)
        else:
            yield from flush()
    yield from flush()


def read_json_lines(path, args):
    """Lines that are JSON objects, as they are."""
    broken = 0
    for number, raw in numbered_lines(path):
        line = raw.strip()
        if not line:
            continue
        try:
            good = isinstance(json.loads(line.decode("utf-8")), dict)
        except ValueError:  # not JSON, or not UTF-8
            good = False
        if good:
            yield line
            continue
        broken += 1
        if broken <= MAX_REPORTS:
            args.progress.warn(f"line {number} of {path} is not a JSON object and is left out")
    if broken > MAX_REPORTS:
        args.progress.warn(f"{broken} lines of {path} are not JSON objects and were left out")


def read_parquet(path, args):
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: reading parquet needs pyarrow: pip install pyarrow") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        if args.text_field not in file.schema_arrow.names:
            columns = ", ".join(file.schema_arrow.names)
            raise DataError(f"{path}: no column '{args.text_field}' (--text_field); it has: {columns}")
        for batch in file.iter_batches(columns=[args.text_field]):
            for text in batch.column(0).to_pylist():
                if text and text.strip():
                    yield document_line(text)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these types
        raise DataError(f"{path}: {error}") from error


def hub_files(args):
    """Fetches the parquet files of the data set's train split; yields their local paths."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise DataError(
            "fetching from the hub needs huggingface_hub and pyarrow: pip install huggingface_hub pyarrow\n"
            "  or give files that are already here with --input"
        ) from error
    try:
        # Data sets that are not stored as parquet have a copy that is, on a branch of its own.
        for revision in ("main", "refs/convert/parquet"):
            listed = huggingface_hub.HfApi().list_repo_files(args.dataset, repo_type="dataset", revision=revision)
            names = sorted(name for name in listed if name.endswith(".parquet") and "train" in name)
            if names:
                break
        else:
            raise DataError(f"{args.dataset}: no parquet files of a train split on the hub (--dataset)")
        for number, name in enumerate(names, start=1):
            args.progress.line(f"fetching {name} ({number} of {len(names)})")
            yield pathlib.Path(
                huggingface_hub.hf_hub_download(args.dataset, name, repo_type="dataset", revision=revision)
            )
    except DataError:
        raise
    except Exception as error:  # whatever the hub's client and its network library raise
        raise DataError(
            f"{args.dataset}: cannot be fetched from the hub: {error}\n"
            "  without a network, give files that are already here with --input"
        ) from error


READERS = {".txt": read_text, ".jsonl": read_json_lines, ".json": read_json_lines, ".parquet": read_parquet}


def collect(files, args, spool):
    """Writes every document to `spool`; returns where each begins, and the end of the last."""
    offsets = array.array("Q", [0])
    for path in files:
        before = len(offsets)
        try:
            for line in READERS[kind_of(path)](path, args):
                spool.write(line + b"\n")
                offsets.append(offsets[-1] + len(line) + 1)
                args.progress.show(f"{path.name}: {len(offsets) - 1} documents, {offsets[-1] >> 20} MiB")
                if args.max_documents and len(offsets) > args.max_documents:
                    return offsets
        except (EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: {error}") from error
        args.progress.line(f"{path}: {len(offsets) - before} documents")
    return offsets


def write_documents(order, offsets, spool, path, args):
    """Copies the documents numbered `order` to `path`, complete on the disk when this returns."""
    with open(path, "wb") as out:
        for done, index in enumerate(order):
            spool.seek(offsets[index])
            out.write(spool.read(offsets[index + 1] - offsets[index]))
            if done % 1024 == 0:
                args.progress.show(f"{path.stem}: {done} of {len(order)} documents")
        out.flush()
        os.fsync(out.fileno())


def split_order(count, args):
    """Indices of the training and of the validation documents."""
    order = list(range(count)) if args.no_shuffle else NumpyGenerator(args.seed).permutation(count)
    size = math.ceil(args.test_size * count) if args.test_size < 1 else int(args.test_size)
    if size >= count and size > 0:
        if args.test_size < 1 or count == 1:
            args.progress.warn(f"{count} document(s): too few for a validation file, which stays empty")
            size = 0
        else:
            raise DataError(f"--test_size={args.test_size:g} leaves no training document of {count}")
    return order[size:], order[:size]


def prepare(args):
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    prefix = f"{args.name}_" if args.name else ""
    targets = [out / f"{prefix}train.jsonl", out / f"{prefix}val.jsonl"]
    temporary = [target.with_name(f".{target.name}.tmp{os.getpid()}") for target in targets]
    spool_path = out / f".{prefix}documents.tmp{os.getpid()}"
    files = find_files(args.input) if args.input else hub_files(args)
    try:
        with open(spool_path, "w+b") as spool:
            offsets = collect(files, args, spool)
            count = len(offsets) - 1
            if count == 0:
                raise DataError("no documents in the input")
            parts = split_order(count, args)
            for order, path in zip(parts, temporary):
                write_documents(order, offsets, spool, path, args)
        for path, target in zip(temporary, targets):
            os.replace(path, target)
    finally:
        for path in [spool_path, *temporary]:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    for order, target in zip(parts, targets):
        print(f"{target}  {len(order)} documents, {target.stat().st_size} bytes")


def parse_arguments():
    def fraction_or_count(text):
        value = float(text)
        if not (0 <= value < 1 or (value >= 1 and value == int(value))):
            raise argparse.ArgumentTypeError(f"{text}: a fraction below 1, or a count")
        return value

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the two files; made where missing")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="local files and folders, instead of the hub")
    parser.add_argument("--name", default="openwebtext", help="NAME_train.jsonl; '' for train.jsonl (%(default)s)")
    parser.add_argument("--dataset", default="Skylion007/openwebtext", help="data set on the hub (%(default)s)")
    parser.add_argument("--text_field", default="text", help="column of parquet files (%(default)s)")
    parser.add_argument("--whole_file", action="store_true", help="a .txt file is one document")
    parser.add_argument("--test_size", type=fraction_or_count, default=0.0005, help="for validation (%(default)s)")
    parser.add_argument("--seed", type=int, default=2357, help="of the shuffle (%(default)s)")
    parser.add_argument("--no_shuffle", action="store_true", help="keep the order of the input")
    parser.add_argument("--max_documents", type=int, default=0, help="stop after so many; 0: all")
    parser.add_argument("--quiet", action="store_true", help="no progress; warnings and results stay")
    return parser.parse_args()


def main():
    args = parse_arguments()
    args.progress = Progress(args.quiet)
    if any(separator in args.name for separator in "/\\"):
        args.progress.warn(f"--name={args.name} is not a file name")
        return USAGE_ERROR
    try:
        prepare(args)
    except DataError as error:
        args.progress.warn(str(error))
        return DATA_ERROR
    except OSError as error:
        args.progress.warn(f"{error.filename or args.out}: {error.strerror or error}")
        return DATA_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
