"""Tests of scripts/prepare_data.py, with the standard library only."""

import gzip
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"
SAMPLE = pathlib.Path(__file__).resolve().parents[1] / "golden" / "data" / "sample.jsonl"

FAKE_HUB = """
class HfApi:
    def list_repo_files(self, dataset, repo_type, revision):
        assert repo_type == "dataset"
        if revision == "main":
            return ["README.md", "script.py"]
        return ["plain/test/0.parquet", "plain/train/1.parquet", "plain/train/0.parquet"]


def hf_hub_download(dataset, name, repo_type, revision):
    assert revision == "refs/convert/parquet"
    return FOLDER + "/" + name.replace("/", "-")
"""

# A parquet file of these tests is a JSON list of its texts.
FAKE_PARQUET = """
import json


class ParquetFile:
    def __init__(self, path):
        self.texts = json.load(open(path))
        self.schema_arrow = type("Schema", (), {"names": ["url", "text"]})

    def iter_batches(self, columns):
        assert columns == ["text"]
        column = type("Column", (), {"to_pylist": lambda this: self.texts})()
        yield type("Batch", (), {"column": lambda this, index: column})()
"""


class PrepareDataTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.modules = self.folder / "modules"
        self.modules.mkdir()

    def run_script(self, *arguments, code=0):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(self.modules)},
        )
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def read(self, name):
        """Texts of a file of JSON lines."""
        lines = (self.folder / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines]

    def test_text_is_split_at_blank_lines(self):
        self.write("a.txt", "One\nline two\r\n\n\n   \nNext naïve 🙂\n\nlast")
        self.run_script("--input", self.folder / "a.txt", "--out", self.folder / "out", "--no_shuffle")
        self.assertEqual(self.read("out/openwebtext_val.jsonl"), ["One\nline two"])
        self.assertEqual(self.read("out/openwebtext_train.jsonl"), ["Next naïve 🙂", "last"])
        self.assertEqual(len(list((self.folder / "out").iterdir())), 2, "temporary files stay behind")

    def test_whole_files_names_and_folders(self):
        self.write("in/b.txt", "B\n\nb\n")
        self.write("in/a.txt", "A\n\na\n")
        self.write("in/notes.md", "not a text")
        arguments = ("--input", self.folder / "in", "--out", self.folder, "--whole_file", "--no_shuffle")
        self.run_script(*arguments, "--name", "plays")
        self.assertEqual(self.read("plays_val.jsonl") + self.read("plays_train.jsonl"), ["A\n\na", "B\n\nb"])
        self.run_script(*arguments, "--name", "", "--test_size", "0")
        self.assertEqual(self.read("train.jsonl"), ["A\n\na", "B\n\nb"])
        self.assertEqual(self.read("val.jsonl"), [])

    def test_byte_order_marks_are_dropped(self):
        self.write("a.txt", "\ufeffOne\n\nTwo")
        self.run_script("--input", self.folder / "a.txt", "--out", self.folder / "text", "--no_shuffle")
        self.assertEqual(self.read("text/openwebtext_val.jsonl"), ["One"])
        self.write("a.jsonl", '\ufeff{"text": "One"}\n{"text": "Two"}\n')
        self.run_script("--input", self.folder / "a.jsonl", "--out", self.folder / "json", "--no_shuffle")
        self.assertEqual(self.read("json/openwebtext_val.jsonl"), ["One"])

    def test_lines_of_json_go_through_as_they_are(self):
        done = self.run_script("--input", SAMPLE, "--out", self.folder, "--test_size", "7")
        whole = SAMPLE.read_text(encoding="utf-8").splitlines()
        good = [line for line in whole if line.strip() and not line.endswith('"broken')]
        train = (self.folder / "openwebtext_train.jsonl").read_text(encoding="utf-8").splitlines()
        val = (self.folder / "openwebtext_val.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(val), 7)
        self.assertEqual(sorted(train + val), sorted(good))
        self.assertNotEqual(val + train, good, "not shuffled")
        number = whole.index('{"text": "broken') + 1
        self.assertIn(f"line {number} of {SAMPLE} is not a JSON object", done.stderr)

    def test_same_input_gives_same_bytes_and_seed_changes_them(self):
        for name, seed in (("a", "2357"), ("b", "2357"), ("c", "1")):
            self.run_script("--input", SAMPLE, "--out", self.folder / name, "--seed", seed)
        read = lambda name: (self.folder / name / "openwebtext_train.jsonl").read_bytes()  # noqa: E731
        self.assertEqual(read("a"), read("b"))
        self.assertNotEqual(read("a"), read("c"))

    def test_shuffle_is_numpys(self):
        spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # numpy.random.default_rng(seed).permutation(n).tolist(), numpy 2.4.6
        known = {
            (2357, 10): [8, 3, 0, 9, 5, 6, 2, 7, 4, 1],
            (2357, 5): [3, 4, 0, 2, 1],
            (2**40 + 3, 5): [0, 2, 1, 3, 4],
            (2**200 + 7, 5): [4, 2, 0, 1, 3],
        }
        for (seed, count), expected in known.items():
            self.assertEqual(module.NumpyGenerator(seed).permutation(count), expected)
        self.assertEqual(sorted(module.NumpyGenerator(1).permutation(1000)), list(range(1000)))

    def test_reads_compressed_files(self):
        self.write("a.jsonl.gz", gzip.compress(SAMPLE.read_bytes()))
        self.run_script("--input", self.folder / "a.jsonl.gz", "--out", self.folder / "a")
        self.run_script("--input", SAMPLE, "--out", self.folder / "b")
        read = lambda name: (self.folder / name / "openwebtext_train.jsonl").read_bytes()  # noqa: E731
        self.assertEqual(read("a"), read("b"))

    def test_fetches_parquet_from_the_hub(self):
        self.write("modules/huggingface_hub.py", FAKE_HUB + f"\n\nFOLDER = {str(self.folder)!r}\n")
        self.write("modules/pyarrow/__init__.py", "")
        self.write("modules/pyarrow/parquet.py", FAKE_PARQUET)
        self.write("plain-train-0.parquet", json.dumps(["zero", "", None, "one"]))
        self.write("plain-train-1.parquet", json.dumps(["two"]))
        self.run_script("--out", self.folder, "--no_shuffle", "--test_size", "0")
        self.assertEqual(self.read("openwebtext_train.jsonl"), ["zero", "one", "two"])
        done = self.run_script("--out", self.folder, "--text_field", "body", code=3)
        self.assertIn("url, text", done.stderr)

    def test_says_what_is_missing(self):
        for module in ("huggingface_hub", "pyarrow"):
            self.write(f"modules/{module}.py", "raise ImportError('absent')\n")
        done = self.run_script("--out", self.folder, code=3)
        self.assertIn("pip install huggingface_hub pyarrow", done.stderr)
        self.assertIn("--input", done.stderr)
        self.write("a.parquet", "PAR1")
        done = self.run_script("--out", self.folder, "--input", self.folder / "a.parquet", code=3)
        self.assertIn("pip install pyarrow", done.stderr)

    def test_refuses_input_it_cannot_use(self):
        out = self.folder / "out"
        self.assertIn("no such file", self.run_script("--out", out, "--input", "absent.txt", code=3).stderr)
        cases = {
            "a.csv": ("x", "unknown ending"),
            "empty.txt": ("\n\n", "no documents"),
            "latin.txt": (b"ok\n\xff\n", "line 2 is not UTF-8"),
            "short.txt.gz": (gzip.compress(b"text" * 1000)[:40], "short.txt.gz"),
            "plain.txt.gz": ("text", "plain.txt.gz"),
        }
        for name, (content, message) in cases.items():
            done = self.run_script("--out", out, "--input", self.write(name, content), code=3)
            self.assertIn(message, done.stderr)
        self.assertEqual(list(out.iterdir()), [], "files stay behind")
        self.run_script("--out", out, "--input", SAMPLE, "--test_size", "1.5", code=2)
        self.run_script("--out", out, "--input", SAMPLE, "--name", "a/b", code=2)
        self.run_script("--out", out, "--input", SAMPLE, "--test_size", "60", code=3)
        self.run_script("--out", SAMPLE, "--input", SAMPLE, code=3)

    def test_earlier_files_survive_a_failure(self):
        self.run_script("--input", SAMPLE, "--out", self.folder)
        before = (self.folder / "openwebtext_train.jsonl").read_bytes()
        self.run_script("--out", self.folder, "--input", SAMPLE, self.write("latin.txt", b"\xff"), code=3)
        self.assertEqual((self.folder / "openwebtext_train.jsonl").read_bytes(), before)

    def test_one_document_trains_and_does_not_validate(self):
        done = self.run_script("--input", self.write("a.txt", "all"), "--out", self.folder)
        self.assertEqual(self.read("openwebtext_train.jsonl"), ["all"])
        self.assertIn("too few for a validation file", done.stderr)


if __name__ == "__main__":
    unittest.main()
