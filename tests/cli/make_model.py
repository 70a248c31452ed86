#!/usr/bin/env python3
"""hypura make-model: what its options promise, in files that stock libllama loads.

usage: make_model.py HYPURA
"""
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HYPURA = sys.argv[1]
# Small enough to be written in a moment; the preset still decides everything that these do not.
NARROW = ["--embd", "256", "--ff", "192", "--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--vocab", "512"]
PRESETS = {"mixtral-8x7b": ("llama", 8, 2), "llama-3.3-70b": ("llama", 0, 0), "qwen2.5-14b": ("qwen2", 0, 0),
           "qwen3-30b-a3b": ("qwen3moe", 128, 8), "gpt-oss-120b": ("gpt-oss", 128, 4)}


class MakeModel(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "m.gguf")

    def hypura(self, *arguments):
        return subprocess.run([HYPURA, *arguments], capture_output=True, text=True, timeout=240)

    def succeed(self, *arguments):
        ran = self.hypura(*arguments)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout

    def make(self, *arguments):
        self.succeed("make-model", self.path, *arguments)
        return hashlib.sha256(pathlib.Path(self.path).read_bytes()).hexdigest()

    def test_every_shape_is_what_it_says_and_streams_exactly(self):
        for preset, (architecture, experts, used) in PRESETS.items():
            with self.subTest(preset=preset):
                self.make("--like", preset, "--scale", "0.06", *NARROW)
                shape = json.loads(self.succeed("inspect", self.path, "--json"))["shape"]
                self.assertEqual((shape["architecture"], shape["experts"], shape["experts_used"]),
                                 (architecture, experts, used))
                self.assertIn(shape["layers"], (2, 3, 5))  # 6 % of 32, 80, 48, 48 and 36
                report = json.loads(self.succeed("verify", self.path, "--threads", "1", "--tokens", "2", "--json"))
                self.assertTrue(report["identical"])
                self.assertGreater(report["runs"][0]["streamed_bytes"], 0)

    # Dense and mixed, whole and split: the smallest budget is refused by name before it, and works.
    def test_the_smallest_budget_that_is_named_works(self):
        for preset, option in (("llama-3.3-70b", "--ram"), ("gpt-oss-120b", "--ram"), ("qwen2.5-14b", "--weights")):
            self.succeed("make-model", self.path, "--like", preset, "--scale", "0.06", *NARROW, "--split-max-size", "400KiB")
            parts = sorted(pathlib.Path(self.path).parent.glob("*-of-*.gguf"))
            self.assertGreater(len(parts), 1)
            part = parts[0]
            self.succeed("verify", str(part), "--threads", "1", "--tokens", "2")
            arguments = ["run", str(part), "-p", "x", "-n", "3", "--ctx", "256", "--threads", "1", "--mode", "stream", option]
            refused = self.hypura(*arguments, "100KiB")
            self.assertEqual(refused.returncode, 11, refused.stderr)
            for reason in ("cannot be streamed", "KV cache", "of slots"):
                self.assertIn(reason, refused.stderr)
            self.succeed(*arguments, re.search(r"smallest that works is (\w+)", refused.stderr)[1])
            for file in pathlib.Path(self.path).parent.glob("*.gguf"):
                file.unlink()

    def test_the_tokenizer_and_the_template_work(self):
        self.make("--like", "qwen3-30b-a3b", "--scale", "0.03", *NARROW)
        text = self.succeed("run", self.path, "--threads", "1", "-p", "Hello, world!", "-n", "12", "--temp", "0")
        self.assertGreater(len(text.strip()), 10)

    def test_the_same_seed_gives_the_same_file(self):
        shape = ["--layers", "2", "--experts", "8", "--top-k", "2", "--mix", "q4_k_m", *NARROW]
        first = self.make(*shape, "--seed", "7")
        self.assertEqual(self.make(*shape, "--seed", "7"), first)
        self.assertNotEqual(self.make(*shape, "--seed", "8"), first)

    # How much of a token's experts the one before it used, and what the busiest quarter of them serves.
    def routing(self, *options):
        self.make("--layers", "2", "--experts", "32", "--top-k", "4", *NARROW, *options)
        trace = self.path + ".trace"
        self.succeed("trace", self.path, "--threads", "1", "-p", "x", "-n", "200", "--temp", "0.8", "--seed", "1",
                     "--batch", "8", "--mode", "stream", "--weights", "3MiB", "--out", trace)
        lines = [json.loads(line) for line in pathlib.Path(trace).read_text().splitlines()]
        pages = lines[0]["pages"]
        chosen, uses, single = {}, {}, False
        again = total = 0
        for line in lines[1:]:
            single = line.get("pass", 1 if single else 0) == 1
            experts = {page for page in line.get("d", []) if pages[page][1] >= 0}
            if not single or not experts:
                continue
            layer = pages[next(iter(experts))][0]
            again += len(experts & chosen.get(layer, set()))
            total += len(experts) if layer in chosen else 0
            chosen[layer] = experts
            for page in experts:
                uses[page] = uses.get(page, 0) + 1
        counts = sorted(uses.values(), reverse=True)
        self.assertGreater(total, 1000)
        return again / total, sum(counts[:16]) / sum(counts)

    def test_skew_and_locality_do_what_they_say(self):
        again, busiest = self.routing()
        self.assertLess(again, 0.25)
        self.assertLess(busiest, 0.5)
        self.assertGreater(self.routing("--locality", "0.9")[0], again + 0.2)
        self.assertGreater(self.routing("--router-skew", "1")[1], busiest + 0.2)

    def test_what_cannot_be_made_is_refused(self):
        for arguments, word in ((["--like", "gpt-9"], "there is no preset"), (["--scale", "2"], "--scale"),
                                (["--like", "mixtral-8x7b", "--top-k", "9"], "--top-k"), (["--arch", "bert"], "bert")):
            ran = self.hypura("make-model", self.path, *arguments)
            self.assertEqual(ran.returncode, 2, ran.stderr)
            self.assertIn(word, ran.stderr)
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
