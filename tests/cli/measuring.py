#!/usr/bin/env python3
"""Runs bench, trace, simulate and iobench on the demo model: what must add up, never how fast it was.

usage: measuring.py HYPURA DEMO_DIRECTORY
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HYPURA, DEMO = sys.argv[1], pathlib.Path(sys.argv[2])
MODEL = str(DEMO / "demo-moe.gguf")
STREAM = ["--mode", "stream", "--weights", "8MiB", "--threads", "1"]
SHORT = ["--prompts", "8", "--depth", "4", "--warm-up", "2", "--tokens", "6", "--rounds", "2", "--ceiling-seconds", "0.2"]
LAYERS, TOP_K = 6, 4


def hypura(*arguments, path=None):
    environment = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    return subprocess.run([HYPURA, *arguments], capture_output=True, text=True, timeout=240, env=environment)


class InAFolder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def json(self, name):
        return json.loads(pathlib.Path(self.file(name)).read_text())

    def succeed(self, *arguments, **how):
        ran = hypura(*arguments, **how)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran


class Bench(InAFolder):
    def bench(self, *arguments, **how):
        ran = self.succeed("bench", MODEL, *STREAM, *SHORT, "--json", self.file("bench.json"), *arguments, **how)
        return ran.stdout, self.json("bench.json")

    def check_run(self, run, tokens):
        measured = run["report"]["measured"]
        self.assertEqual(run["failure"], "")
        self.assertEqual(run["report"]["mode"], "stream")
        self.assertEqual(measured["tokens"], tokens)
        self.assertGreater(measured["read_bytes"], 0)
        self.assertLessEqual(measured["hits"] + measured["joined"], measured["demands"])
        self.assertLessEqual(measured["wait_us"], measured["wall_us"])
        self.assertGreater(run["ceiling_bytes_per_second"], 0)

    @unittest.skipUnless(shutil.which("llama-bench"), "llama-bench is not here")
    def test_in_turns_with_llama_cpp(self):
        text, result = self.bench("--peers", "mmap")
        self.assertIn("hypura is", text)
        self.assertEqual([case["name"] for case in result["cases"]], ["prompt 8", "decode"])
        for case in result["cases"]:
            self.assertEqual([peer["failure"] for peer in case["peers"]["mmap"]["runs"]], ["", ""])
            self.assertGreater(case["peers"]["mmap"]["hypura_is_times"], 0)
            self.assertIn(case["floor"]["how"], ("measured", ) if case["floor"]["us_per_token"] else ("unknown", ))
            for name in ("roofline_fraction", "bandwidth_fraction", "overlap_fraction", "hit_rate"):
                self.assertIsNotNone(case["metrics"][name], name)
            self.assertLessEqual(case["metrics"]["overlap_fraction"], 1)

    def test_the_counters_add_up_and_repeat(self):
        _, result = self.bench("--peers", "none", "--no-floor")
        prompt, decode = result["cases"]
        for run in prompt["runs"]:
            self.check_run(run, 8)
            self.assertGreater(run["report"]["cold_us"], run["report"]["load_us"])
            self.assertGreaterEqual(run["report"]["cold_bytes"], run["report"]["resident_bytes"])
        for run in decode["runs"]:
            self.check_run(run, 6)
            measured = run["report"]["measured"]
            self.assertGreaterEqual(measured["demands"], 6 * LAYERS * TOP_K)  # and dense matrices
            self.assertEqual(measured["demands"] % 6, 0)
            self.assertEqual(len(measured["token_us"]), 6)
            self.assertLessEqual(sum(measured["token_us"]), measured["wall_us"])
        first, second = (run["report"]["measured"] for run in decode["runs"])
        for name in ("demands", "hits", "read_bytes"):  # the same tokens, hence the same experts
            self.assertEqual(first[name], second[name], name)
        self.assertAlmostEqual(decode["metrics"]["read_bytes_per_token"] * 6, first["read_bytes"], delta=1)
        self.assertIn("estimated", decode["floor"]["how"])

    def test_a_floor_is_measured_beside_reads_that_nobody_waits_for(self):
        bytes_per_token = 1 << 20
        child = self.succeed("bench", MODEL, "--mode", "stream", "--weights", "64MiB", "--device", "none", "--child",
                             "decode:4:2:6", "--repeat", "--beside", str(bytes_per_token))
        report = json.loads(child.stdout)
        for stretch in (report["measured"], report["beside_reads"]):
            self.assertEqual(stretch["tokens"], 6)
            self.assertEqual(stretch["hits"] + stretch["joined"], stretch["demands"])
            self.assertEqual(stretch["demands"], 6 * LAYERS * TOP_K)
        self.assertLessEqual(report["side_read_bytes"], 6 * bytes_per_token)

    def test_without_llama_bench_it_measures_itself_and_says_so(self):
        text, result = self.bench("--no-floor", path="/nonexistent")
        self.assertIn("llama-bench is not on PATH", text)
        self.assertEqual([case["peers"] for case in result["cases"]], [{}, {}])

    def test_a_limit_is_set_or_said_to_be_missing(self):
        text, result = self.bench("--no-floor", "--peers", "none", "--limit", "512MiB")
        if result["limit_bytes"]:
            self.assertEqual(result["limit_bytes"], 512 << 20)
            self.assertIn("cgroup", result["limit_kind"])
        else:
            self.assertIn("no memory limit can be set here", text)

    def test_report_makes_a_table(self):
        self.bench("--peers", "none", "--no-floor")
        table = self.succeed("bench-report", self.file("bench.json"), self.file("bench.json")).stdout
        self.assertEqual(table.count("| demo-moe.gguf |"), 4)
        self.assertEqual(hypura("bench-report", MODEL).returncode, 2)


class Trace(InAFolder):
    def trace(self, *arguments):
        self.succeed("trace", MODEL, *STREAM, "--out", self.file("t"), *arguments)
        return [json.loads(line) for line in pathlib.Path(self.file("t")).read_text().splitlines()]

    def test_engine_and_replay_agree(self):
        lines = self.trace("-p", "What is 7 plus 8?", "-p", "Who are you?", "-n", "40", "--temp", "0.8", "--seed", "1",
                           "--random-tokens", "20")
        demands = sum(len(line["d"]) for line in lines if "d" in line)
        self.assertEqual(demands, lines[-1]["counters"]["demands"])
        found = "".join(line["f"] for line in lines if "f" in line)
        self.assertEqual(found.count("h") + found.count("p"), lines[-1]["counters"]["hits"])
        ran = self.succeed("simulate", self.file("t"), "--pool", "25,50,100", "--json", self.file("s.json"))
        self.assertIn("they agree", ran.stdout)
        result = self.json("s.json")
        self.assertTrue(result["replay"]["agrees"])
        self.assertGreater(result["replay"]["hits"], 0)
        self.assertGreater(result["replay"]["evictions"], 0)
        rates = [size["policies"]["belady"]["all"]["hits"] for size in result["sizes"]]
        self.assertEqual(rates, sorted(rates))
        for size in result["sizes"]:
            self.assertLessEqual(size["policies"]["lru"]["all"]["hits"], size["policies"]["belady"]["all"]["hits"])

    def test_routings_tell_how_all_experts_stood(self):
        lines = self.trace("--random-tokens", "5")
        pages = lines[0]["pages"]
        experts = [line for line in lines if "d" in line and pages[line["d"][0]][1] >= 0]
        self.assertGreater(len(experts), 0)
        for line in experts:
            layer = pages[line["d"][0]][0]
            self.assertEqual(len(line["s"]), sum(page[0] == layer and page[1] >= 0 for page in pages))
            chosen = {pages[page][1] for page in line["d"]}
            others = [line["s"][expert] for expert in range(len(line["s"])) if expert not in chosen]
            self.assertGreater(min(line["s"][expert] for expert in chosen), max(others))
            self.assertEqual(min(others), "0")

    def test_a_replay_that_differs_is_an_error(self):
        self.trace("--random-tokens", "5")
        text = pathlib.Path(self.file("t")).read_text()
        pathlib.Path(self.file("t")).write_text(text.replace('"evictions":', '"evictions":9', 1))
        self.assertEqual(hypura("simulate", self.file("t")).returncode, 14)

    def test_errors(self):
        self.assertEqual(hypura("simulate", MODEL).returncode, 2)
        self.assertEqual(hypura("trace", MODEL, *STREAM, "--out", self.file("t")).returncode, 2)
        resident = hypura("trace", MODEL, "--mode", "resident", "--random-tokens", "1", "--out", self.file("t"))
        self.assertEqual(resident.returncode, 2)
        self.assertIn("nothing to trace", resident.stderr)


class Iobench(InAFolder):
    CELLS = ["--sizes", "4KiB,64KiB", "--depths", "1,4", "--seconds", "0.02", "--rounds", "1"]

    def test_a_file(self):
        ran = self.succeed("iobench", MODEL, *self.CELLS, "--json", self.file("io.json"))
        self.assertIn("MiB/s", ran.stdout)
        result = self.json("io.json")
        cells = [(point["request_bytes"], point["queue_depth"]) for point in result["points"]]
        self.assertEqual(cells, [(4096, 1), (4096, 4), (65536, 1), (65536, 4)])
        for point in result["points"]:
            self.assertGreater(point["bytes_per_second"], 0)
            self.assertLessEqual(point["median_us"], point["p99_us"])
        if result["direct"]:
            self.assertGreater(result["compared_bytes"], 0)

    def test_a_folder(self):
        self.succeed("iobench", self.folder.name, *self.CELLS, "--file-size", "8MiB", "--json", self.file("io.json"))
        self.assertEqual(self.json("io.json")["file_bytes"], 8 << 20)
        self.assertEqual(os.listdir(self.folder.name), ["io.json"])

    def test_pictures(self):
        if shutil.which("gnuplot"):
            for name in ("io.svg", "io.png"):
                self.succeed("iobench", MODEL, *self.CELLS, "--plot", self.file(name))
                self.assertGreater(os.path.getsize(self.file(name)), 1000)
        missing = hypura("iobench", MODEL, *self.CELLS, "--plot", self.file("no.svg"), path="/nonexistent")
        self.assertEqual(missing.returncode, 13)
        self.assertIn("gnuplot-nox", missing.stderr)
        self.assertEqual(hypura("iobench", MODEL, *self.CELLS, "--plot", "x.gif").returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
