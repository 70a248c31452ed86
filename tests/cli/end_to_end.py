#!/usr/bin/env python3
"""Runs the hypura program on the demo model: exact texts in every mode, and an exit code for each kind of error.

usage: end_to_end.py HYPURA DEMO_DIRECTORY
"""
import ctypes
import json
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

HYPURA, DEMO = sys.argv[1], pathlib.Path(sys.argv[2])
MODEL = str(DEMO / "demo-moe.gguf")
CASES = json.loads((DEMO / "expected.json").read_text())["cases"]
STREAM = ["--mode", "stream", "--weights", "8MiB"]
BABBLE = ["--temp", "100", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", "3"]  # never ends by itself


def with_one_thread(*arguments):
    """Tests share few cores: two threads of a run would mostly wait for each other, in busy loops."""
    computes = arguments and arguments[0] in ("run", "verify", "logits") and "--threads" not in arguments
    return [HYPURA, *arguments, *(["--threads", "1"] if computes else [])]


def hypura(*arguments, stdin="", env=None):
    environment = {**os.environ, **(env or {})}
    return subprocess.run(with_one_thread(*arguments), input=stdin, capture_output=True, text=True, timeout=240,
                          env=environment)


def mount_small_disk(folder):
    """Runs in a child: a file system of a MiB on `folder` that nobody else sees. By system calls, since minimal hosts
    lack the program mount."""
    libc = ctypes.CDLL(None, use_errno=True)
    private = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE
    os.unshare(os.CLONE_NEWNS if os.geteuid() == 0 else os.CLONE_NEWNS | os.CLONE_NEWUSER)
    for arguments in ((b"none", b"/", None, private, None), (b"none", folder.encode(), b"tmpfs", 0, b"size=1m")):
        if libc.mount(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "mount")


class Answers(unittest.TestCase):
    def check(self, cases, *flags):
        for case in cases:
            with self.subTest(prompt=case["prompt"], flags=flags):
                ran = hypura("run", MODEL, "-p", case["prompt"], "-n", "300", *flags)
                self.assertEqual(ran.returncode, 0, ran.stderr)
                self.assertEqual(ran.stdout, case["continuation"] + "\n")

    def test_streaming(self):
        self.check(CASES, *STREAM)

    def test_streaming_small_batches_by_pread(self):
        self.check(CASES[:2], *STREAM, "--batch", "3", "--io", "pread")

    def test_resident(self):
        self.check(CASES[:4], "--mode", "resident")

    def test_mmap(self):
        self.check(CASES[:2], "--mode", "mmap")

    def test_automatic(self):
        self.check(CASES[:2])
        self.check(CASES[:1], "--threads", "0")  # all cores

    def test_prompt_from_a_pipe(self):
        ran = hypura("run", MODEL, *STREAM, stdin=CASES[0]["prompt"] + "\n")
        self.assertEqual(ran.stdout, CASES[0]["continuation"] + "\n")

    def test_prompt_from_a_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(CASES[0]["prompt"] + "\n")
            file.flush()
            ran = hypura("run", MODEL, *STREAM, "-f", file.name)
        self.assertEqual(ran.stdout, CASES[0]["continuation"] + "\n", ran.stderr)
        ran = hypura("run", MODEL, *STREAM, "--file", "-", stdin=CASES[0]["prompt"])
        self.assertEqual(ran.stdout, CASES[0]["continuation"] + "\n", ran.stderr)

    def test_the_system_message_goes_through_the_template(self):
        system = "You answer in English."
        text = "<|im_start|>system\n" + system + "<|im_end|>\n" + CASES[0]["text"]
        templated = hypura("run", MODEL, *STREAM, "--system", system, "-p", CASES[0]["prompt"], "-n", "20")
        raw = hypura("run", MODEL, *STREAM, "--raw", "-p", text, "-n", "20")
        self.assertEqual(templated.returncode, 0, templated.stderr)
        self.assertEqual(templated.stdout, raw.stdout)
        prompts = [re.search(r"prompt +(\d+) tokens", ran.stderr)[1] for ran in (templated, raw)]
        self.assertEqual(prompts[0], prompts[1])

    def test_a_seed_makes_chance_repeatable(self):
        def text(seed):
            return hypura("run", MODEL, "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--seed", seed, "-n", "30",
                          "-p", "Tell me a story.", "-q").stdout
        self.assertEqual(text("5"), text("5"))
        self.assertNotEqual(text("5"), text("6"))

    def test_no_progress_bar_outside_a_terminal(self):
        ran = hypura("run", MODEL, *STREAM, "--batch", "1", "-n", "1", "-p", "Tell me about foxes. " * 270)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        for trace in ("\r", "\033", "reading the prompt"):
            self.assertNotIn(trace, ran.stderr)

    def test_the_summary_says_where_weights_were_and_what_was_read(self):
        ran = hypura("run", MODEL, "--weights", "8MiB", "-p", CASES[0]["prompt"])
        self.assertRegex(ran.stderr, r"mode +stream: .*\w")
        self.assertRegex(ran.stderr, r"weights +\S+ MiB in memory, \S+ MiB in the file through \S+ MiB of slots")
        self.assertRegex(ran.stderr, r"reads +\S+ MiB by \w+.* at \S+ [KMG]iB/s")
        self.assertRegex(ran.stderr, r"cache +\S+% of \d+ demands")
        self.assertRegex(ran.stderr, r"answer +\d+ tokens, \S+ tok/s")

    def test_raw_prompt_is_taken_as_it_is(self):
        ran = hypura("run", MODEL, *STREAM, "--raw", "-p", CASES[0]["text"])
        self.assertEqual(ran.stdout, CASES[0]["continuation"] + "\n")

    def test_flags_of_llama_cpp_that_mean_the_default(self):
        ran = hypura("run", MODEL, *STREAM, "-p", CASES[0]["prompt"], "-n", "-1", "--seed", "-1", "--temp", "0")
        self.assertEqual(ran.stdout, CASES[0]["continuation"] + "\n", ran.stderr)

    def test_max_tokens_and_stop(self):
        ran = hypura("run", MODEL, *STREAM, "-p", CASES[0]["prompt"], "-n", "3", "-q")
        self.assertTrue(CASES[0]["continuation"].startswith(ran.stdout.strip()))
        self.assertEqual(ran.stderr, "")
        ran = hypura("run", MODEL, *STREAM, "-p", CASES[0]["prompt"], "--stop", " engine")
        self.assertEqual(ran.stdout, "hypura.cpp is an inference\n")

    def test_a_full_context_ends_the_answer(self):
        with tempfile.TemporaryDirectory() as folder:
            stats = os.path.join(folder, "stats.json")
            ran = hypura("run", MODEL, *STREAM, "--raw", "-p", "Once upon a time", "--ctx", "256", "--stats", stats,
                         *BABBLE)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            speed = json.loads(pathlib.Path(stats).read_text())["speed"]
        self.assertEqual(speed["stop"], "context_full")
        # The last token is not evaluated: nothing is to follow it.
        self.assertEqual(speed["prompt_tokens"] + speed["generated_tokens"], 257)

    def test_drafts_change_nothing(self):
        self.check(CASES, *STREAM, "--draft", "lookup")
        self.check(CASES[:2], *STREAM, "--draft", MODEL)

    def test_drafts_are_counted(self):
        with tempfile.TemporaryDirectory() as folder:
            stats = os.path.join(folder, "stats.json")
            ran = hypura("run", MODEL, *STREAM, "--draft", MODEL, "-p", CASES[0]["prompt"], "--stats", stats)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            drafts = json.loads(pathlib.Path(stats).read_text())["drafts"]
        self.assertEqual(drafts["from"], MODEL)
        self.assertGreater(drafts["accepted_tokens"], 0)
        self.assertRegex(ran.stderr, r"drafts +\d+ of \d+ drafted tokens were right")

    def test_a_transient_read_error_changes_nothing(self):
        self.check(CASES[:1], *STREAM, "--fault", "5:eio")
        self.check(CASES[:1], *STREAM, "--fault", "5:short")


class Chat(unittest.TestCase):
    def test_lines_from_a_pipe(self):
        script = "".join(f"{case['prompt']}\n/clear\n" for case in CASES[:3])
        ran = hypura("run", MODEL, *STREAM, "-i", stdin=script)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stdout, "".join(case["continuation"] + "\n" for case in CASES[:3]))

    def test_help_and_system_message(self):
        ran = hypura("run", MODEL, *STREAM, "-i", "-n", "5", stdin="/help\n/system Be kind.\nWho are you?\n/nonsense\n")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        for command in ("/help", "/clear", "/system", "/regenerate", "/stats", "/exit"):
            self.assertRegex(ran.stderr, rf"(?m)^{command}\b")
        self.assertIn("/nonsense: no such command", ran.stderr)
        alone = hypura("run", MODEL, *STREAM, "--system", "Be kind.", "-n", "5", "-p", "Who are you?")
        self.assertEqual(ran.stdout, alone.stdout)

    def test_turns_reuse_the_timeline(self):
        with tempfile.TemporaryDirectory() as folder:
            stats = os.path.join(folder, "stats.json")
            ran = hypura("run", MODEL, *STREAM, "-i", "--stats", stats, stdin="Who are you?\nWhat is 7 plus 8?\n")
            self.assertEqual(ran.returncode, 0, ran.stderr)
            speed = json.loads(pathlib.Path(stats).read_text())["speed"]
        self.assertEqual(speed["answers"], 2)
        self.assertLess(speed["prompt_tokens"], 12 + 16 + 10)  # without re-use: some 40 more

    def test_regenerating_gives_the_same_greedy_answer(self):
        ran = hypura("run", MODEL, *STREAM, "-i", stdin="What is 7 plus 8?\n/regenerate\n")
        self.assertEqual(ran.stdout, "7 plus 8 is 15.\n" * 2)

    def test_ctrl_c_stops_the_answer_and_not_the_chat(self):
        child = subprocess.Popen(with_one_thread("run", MODEL, *STREAM, "-i", "--temp", "0.1", "--raw"),
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.write(child.stdin.fileno(), b"Once upon a time\n")
        self.assertTrue(os.read(child.stdout.fileno(), 1))  # the answer has begun
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(b"/exit\n", timeout=60)
        self.assertEqual(child.returncode, 0, err)

    def test_a_full_context_ends_the_answer_and_clear_makes_room(self):
        ran = hypura("run", MODEL, *STREAM, "-i", "--ctx", "256", "--raw", "-n", "300", *BABBLE,
                     stdin="Once upon a time\nand then\n/stats\n/clear\nOnce upon a time\n")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stderr.count("there are only 256"), 1)  # the second question finds no room
        self.assertEqual(ran.stderr.count("context_full"), 2)  # /stats after the first answer, and the summary


class OnTerminal(unittest.TestCase):
    """The program on a pseudo-terminal, as a person has it."""

    def start(self, *arguments):
        self.state = tempfile.TemporaryDirectory()
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            environment = {**os.environ, "XDG_STATE_HOME": self.state.name, "TERM": "xterm"}
            os.execve(HYPURA, with_one_thread("run", MODEL, *STREAM, *arguments), environment)

    def tearDown(self):
        try:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            os.close(self.terminal)
        except OSError:
            pass  # it ended, or was closed, in the test
        self.state.cleanup()

    def read_until(self, wanted):
        seen = b""
        deadline = time.monotonic() + 60
        while wanted not in seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            try:
                block = os.read(self.terminal, 4096) if ready else b""
            except OSError:  # the program closed the terminal
                block = b""
            self.assertTrue(block, f"{wanted!r} did not come: {seen!r}")
            seen += block

    def wait(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        self.fail("the program goes on")


class Terminal(OnTerminal):
    """A chat."""

    def setUp(self):
        self.start()
        self.read_until(b"> ")  # the line editor throws away what came before its prompt

    def test_history_is_kept_and_ctrl_d_leaves(self):
        os.write(self.terminal, b"What is 7 plus 8?\r")
        self.read_until(b"is 15.")
        self.read_until(b"> ")
        os.write(self.terminal, b"\x04")
        self.read_until(b"end_of_text")
        self.assertEqual(self.wait(), 0)
        self.assertIn("7 plus 8", pathlib.Path(self.state.name, "hypura", "history").read_text())

    def test_ctrl_c_stops_an_answer(self):
        os.write(self.terminal, b"Tell me a short story about a brave fox named Mia.\r")
        self.read_until(b"Once")
        os.write(self.terminal, b"\x03")
        self.read_until(b"> ")
        os.write(self.terminal, b"/exit\r")
        self.read_until(b"cancelled")
        self.assertEqual(self.wait(), 0)

    def test_a_closed_terminal_ends_the_program(self):
        os.close(self.terminal)
        self.assertEqual(self.wait(), -signal.SIGHUP)

    def test_sigterm_ends_the_program(self):
        os.kill(self.child, signal.SIGTERM)
        self.assertEqual(self.wait(), -signal.SIGTERM)


class MidPrompt(OnTerminal):
    """What happens while a long prompt is being read: one token a pass, so that there is time to act."""

    def start_reading(self, *arguments):
        self.start(*arguments, "--batch", "1", "-p", "Tell me about foxes. " * 270)
        self.read_until(b"reading the prompt")

    def test_ctrl_c_ends_the_program(self):
        self.start_reading()
        os.write(self.terminal, b"\x03")
        self.read_until(b"interrupted")
        self.assertEqual(self.wait(), 130)

    def test_a_closed_terminal_ends_the_program(self):
        self.start_reading()
        os.close(self.terminal)
        self.assertEqual(self.wait(), -signal.SIGHUP)

    def test_a_closed_terminal_ends_a_chat(self):
        self.start_reading("-i")
        os.close(self.terminal)
        self.assertEqual(self.wait(), -signal.SIGHUP)

    def test_ctrl_c_in_a_chat_drops_the_question_and_the_chat_goes_on(self):
        self.start_reading("-i")
        os.write(self.terminal, b"\x03")
        self.read_until(b"> ")
        os.write(self.terminal, b"What is 7 plus 8?\r")
        self.read_until(b"7 plus 8 is 15.")
        self.read_until(b"> ")
        os.write(self.terminal, b"/exit\r")
        self.read_until(b"prompt      ")  # of the summary: only the second question was read
        self.assertEqual(self.wait(), 0)


class Tools(unittest.TestCase):
    def test_verify(self):
        ran = hypura("verify", MODEL, "--tokens", "3", "--json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertTrue(json.loads(ran.stdout)["identical"])

    def test_verify_says_what_was_evicted_at_both_budgets(self):
        ran = hypura("verify", MODEL, "--weights", "8MiB", "--tokens", "5", "--json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        smallest, given = json.loads(ran.stdout)["runs"]
        rows = 8 + 1 + 1 + 3 + 13 + 5  # batches and single tokens, as verify.cpp has them
        long_prompt = 1  # at the given budget, the last row of a prompt in one long pass
        for run, compared in ((smallest, rows), (given, rows + long_prompt)):
            self.assertEqual((run["logits_compared"], run["logits_different"]), (compared * 4096, 0))
            self.assertEqual(sum(run["evictions_by_layer"]), run["evictions"])
            self.assertGreater(run["evictions"], 0)
            self.assertTrue(run["notes"])
        self.assertEqual(len(smallest["evictions_by_layer"]), 6)
        in_memory = [run["resident_bytes"] + run["slot_bytes"] for run in (smallest, given)]
        self.assertLess(in_memory[0], in_memory[1])

    def test_logits(self):
        rows = {}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "logits")
            for name, flags in (("stream", STREAM), ("small batches", [*STREAM, "--batch", "2"]),
                                ("plain", ["--mode", "mmap"])):
                ran = hypura("logits", MODEL, "--tokens", "1,2,3", "--out", path, *flags)
                self.assertEqual(ran.returncode, 0, ran.stderr)
                rows[name] = pathlib.Path(path).read_bytes()
        self.assertEqual(len(rows["plain"]), 3 * 4096 * 4)
        self.assertEqual(rows["stream"], rows["plain"])
        # Another batch size rounds in another way, and no more than that.
        floats = [struct.unpack("<12288f", rows[name]) for name in ("small batches", "plain")]
        self.assertLess(max(abs(a - b) for a, b in zip(*floats)), 0.5)

    def test_inspect(self):
        facts = json.loads(hypura("inspect", MODEL, "--json").stdout)
        self.assertEqual(facts["shape"]["architecture"], "qwen3moe")
        self.assertEqual(facts["shape"]["experts"], 24)
        self.assertEqual(facts["roles"]["experts"]["bytes"], 16736256)
        self.assertIn("qwen3moe", hypura("inspect", MODEL).stdout)

    def test_help_and_version(self):
        for arguments in (["help"], ["--help"], ["run", "--help"]):
            ran = hypura(*arguments)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertIn("hypura", ran.stdout)
        self.assertRegex(hypura("--version").stdout, r"^hypura \d+\.\d+\.\d+\n$")


class Plans(unittest.TestCase):
    def test_plan_of_a_model(self):
        with tempfile.TemporaryDirectory() as folder:
            svg = os.path.join(folder, "map.svg")
            ran = hypura("plan", MODEL, "--weights", "8MiB", "--json", "--svg", svg, env={"XDG_CACHE_HOME": folder})
            self.assertEqual(ran.returncode, 0, ran.stderr)
            report = json.loads(ran.stdout)
            picture = xml.etree.ElementTree.parse(svg).getroot()
        plan = report["plan"]
        self.assertEqual(plan["mode"], "stream")
        self.assertFalse(plan["machine_measured"])
        memory = plan["memory"]
        self.assertLessEqual(memory["resident_bytes"] + memory["pool_bytes"] + memory["ring_bytes"], 8 << 20)
        held = sum(layer["resident_bytes"] for layer in plan["layers"])
        self.assertEqual(held, memory["resident_bytes"])
        self.assertEqual(held + plan["disk_bytes"], report["tensor_bytes"])
        self.assertGreater(plan["prediction"]["decode_tokens_per_second"], 0)
        self.assertTrue(picture.tag.endswith("svg"))
        rows = [text for text in picture.iter() if text.tag.endswith("text") and text.text.isdigit()]
        self.assertEqual(len(rows), report["shape"]["layers"])

    # The plan is made before anything is loaded; the engine's own layout must come out close to it.
    def test_plan_matches_what_the_engine_does(self):
        plan = json.loads(hypura("plan", MODEL, "--weights", "12MiB", "--json").stdout)["plan"]
        with tempfile.TemporaryDirectory() as folder:
            stats = os.path.join(folder, "stats.json")
            ran = hypura("run", MODEL, "-p", "x", "-n", "2", "--weights", "12MiB", "--stats", stats,
                         env={"XDG_CACHE_HOME": folder})
            self.assertEqual(ran.returncode, 0, ran.stderr)
            done = json.loads(pathlib.Path(stats).read_text())
        self.assertEqual(done["mode"], plan["mode"])
        self.assertIn("tok/s is predicted with", done["reason"])
        self.assertEqual(done["batch_tokens"], plan["batch_tokens"])
        self.assertAlmostEqual(done["memory"]["resident_bytes"] / plan["memory"]["resident_bytes"], 1, delta=0.05)
        planned_slots = plan["memory"]["pool_bytes"] + plan["memory"]["ring_bytes"]
        self.assertAlmostEqual(done["memory"]["slot_bytes"] / planned_slots, 1, delta=0.05)

    def test_plan_in_words(self):
        text = hypura("plan", MODEL, "--weights", "8MiB").stdout
        for word in ("expert pool", "predicted", "decode", "modes", "what would change it", "4 GiB more memory"):
            self.assertIn(word, text)

    def test_estimate_of_what_is_not_here(self):
        def tokens_per_second(*flags):
            ran = hypura("estimate", "--like", "qwen3-30b-a3b", "--json", *flags)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            return json.loads(ran.stdout)["plan"]["prediction"]["decode_tokens_per_second"]

        slow = tokens_per_second("--ram", "6GiB", "--disk", "1GB/s")
        self.assertGreater(tokens_per_second("--ram", "6GiB", "--disk", "4GB/s"), slow)
        self.assertGreater(tokens_per_second("--ram", "40GiB", "--disk", "1GB/s"), slow)

    def check_cards_are_weighed(self, saved, env):
        """A device in software, that the profile is told to be slow or fast."""
        shaders = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))  # translated by other tests
        env = {**env, "GGML_VK_VISIBLE_DEVICES": "0", "MESA_SHADER_CACHE_DIR": shaders}
        listed = re.search(r"^(\S+) +gpu +(?:\S+ +){4}(.+)$", hypura("run", "--list-devices", env=env).stdout, re.M)
        if listed is None:
            return print("no Vulkan driver: cards are not weighed")
        machine = json.loads(saved.read_text())
        for times, is_used in ((0.01, False), (100, True)):
            processor, *_ = machine["devices"]
            rates = [{**rate, **{unit: times * rate[unit] for unit in ("weight_bytes_per_second", "flops")}}
                     for rate in processor["matmul"] if not rate["repacked"]]
            card = {**processor, "name": listed[1], "description": listed[2], "kind": "gpu", "free_bytes": 1 << 30,
                    "upload_bytes_per_second": 1e9, "matmul": rates}
            other = saved.with_name(f"with card {times}.json")
            other.write_text(json.dumps({**machine, "devices": [processor, card]}))
            other.replace(saved)
            self.check_use_of_card(env, is_used, listed[1])

    def check_use_of_card(self, env, is_used, name):
        def stats_of(*flags):
            with tempfile.NamedTemporaryFile() as file:
                ran = hypura("run", MODEL, "-p", "hi", "-n", "1", "--stats", file.name, *flags, env=env)
                self.assertEqual(ran.returncode, 0, ran.stderr)
                return json.loads(pathlib.Path(file.name).read_text())

        stats = stats_of()
        self.assertEqual(len(stats["devices"]["names"]), int(is_used), stats["reason"])
        self.assertEqual("left out" in stats["reason"], not is_used, stats["reason"])
        self.assertIn(f"s with {name} and", stats["reason"])
        self.assertGreater(stats["predicted_tokens_per_second"], 0)
        self.assertEqual(len(stats_of("--device", name)["devices"]["names"]), 1, "it was asked for")
        device = json.loads(hypura("plan", MODEL, "--json", env=env).stdout)["plan"]["device"]
        self.assertEqual(device["used"], is_used)
        self.assertIn(f"s with {name} and", device["reason"])

    def test_profile_is_measured_once_and_used(self):
        with tempfile.TemporaryDirectory() as folder:
            env = {"XDG_CACHE_HOME": folder}
            first = json.loads(hypura("profile", folder, "--json", env=env).stdout)
            saved = pathlib.Path(folder, "hypura", "profile.json")
            self.assertEqual(json.loads(saved.read_text()), first)
            self.assertEqual(json.loads(hypura("profile", folder, "--json", env=env).stdout), first)
            self.assertIn("q4_K", [rate["format"] for rate in first["devices"][0]["matmul"]])
            self.assertTrue(first["disks"][0]["reads"])
            self.assertTrue(json.loads(hypura("plan", MODEL, "--json", env=env).stdout)["plan"]["machine_measured"])
            self.check_cards_are_weighed(saved, env)
            saved.write_text(saved.read_text().replace(first["fingerprint"], "another machine"))
            self.assertFalse(json.loads(hypura("plan", MODEL, "--json", env=env).stdout)["plan"]["machine_measured"])

    def test_doctor(self):
        ran = hypura("doctor", MODEL, "--json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        subjects = {line["subject"]: line for line in json.loads(ran.stdout)}
        self.assertEqual(subjects["processor"]["verdict"], "good")
        self.assertIn("direct reads", subjects)
        self.assertIn("io_uring", hypura("doctor", str(DEMO)).stdout)

    def test_smaller_caches_run_when_allowed(self):
        for cache_type in ("q8_0", "q4_0", "auto"):
            ran = hypura("run", MODEL, "-p", "What is 7 plus 8?", "-n", "5", "--kv", cache_type)
            self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(hypura("run", MODEL, "-p", "x", "--kv", "f8").returncode, 2)


def gguf_string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(tensors, claimed=None, metadata=(), data_bytes=1024):
    """A GGUF file of F32 vectors of 8 elements: tensors by name and offset, metadata of numbers."""
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors) if claimed is None else claimed, len(metadata))
    for key, value in metadata:
        header += gguf_string(key) + struct.pack("<IQ", 10, value)
    for name, offset in tensors:
        header += gguf_string(name) + struct.pack("<IQIQ", 1, 8, 0, offset)
    return header + bytes(-len(header) % 32 + data_bytes)


class BrokenModels(unittest.TestCase):
    """Every way in which a model file can be unusable: a message that names it, and an exit code of its own."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, contents, name="m.gguf"):
        path = pathlib.Path(self.folder.name, name)
        path.write_bytes(contents)
        return str(path)

    # A quarter of a GiB is enough to start and not enough for numbers that a header only claims. Sanitizers reserve more
    # than that before main() begins.
    def check(self, code, path, reason, preexec_fn=None):
        for command in (["run", path, "-p", "x"], ["verify", path], ["inspect", path]):
            def limited():
                if not os.environ.get("HYPURA_SANITIZE"):
                    resource.setrlimit(resource.RLIMIT_DATA, (256 << 20, 256 << 20))
                if preexec_fn:
                    preexec_fn()
            ran = subprocess.run(with_one_thread(*command), preexec_fn=limited, stdin=subprocess.DEVNULL,
                                 capture_output=True, text=True, timeout=240)
            self.assertEqual(ran.returncode, code, ran.stderr)
            self.assertRegex(ran.stderr, rf"^hypura: {re.escape(path)}: .*{reason}.*\n$")
            self.assertEqual(ran.stdout, "")

    def test_each_has_its_own_code(self):
        empty = self.write(b"")
        self.check(3, "/no/such/model.gguf", "no such file")
        self.check(4, self.folder.name, "directory")
        self.check(6, self.write(b"not a model at all"), "no GGUF model")
        self.check(6, empty if os.path.getsize(empty) == 0 else self.write(b""), "empty")
        self.check(17, self.write(gguf([], claimed=2**63)), "9223372036854775808 tensors, more than")
        self.check(18, self.write(gguf([], claimed=50000)), "50000 tensors, which do not fit")
        self.check(18, self.write(gguf([("t", 1 << 40)])), "truncated: tensor t")
        self.check(18, self.write(gguf([("t", 2**64 - 32)])), "impossible offset")
        self.check(18, self.write(pathlib.Path(MODEL).read_bytes()[:100000]), "truncated")
        self.check(18, self.write(gguf([])[:20]), "ends inside its header")
        self.check(19, self.write(gguf([("t", 4)])), "no multiple of 32")
        self.check(20, self.write(gguf([("a", 0), ("b", 0)])), "a and b overlap")
        self.check(7, self.write(gguf([("a", 0), ("a", 32)])), "two tensors are named a")
        part = gguf([("a", 0)], metadata=[("split.no", 0), ("split.count", 2)])
        self.write(part, "m-00001-of-00002.gguf")
        missing = self.folder.name + "/m-00002-of-00002.gguf"
        ran = hypura("run", self.folder.name + "/m-00001-of-00002.gguf", "-p", "x")
        self.assertEqual(ran.returncode, 21, ran.stderr)
        self.assertIn(f"{missing}: part 2 of the model's 2 is missing", ran.stderr)

    def test_a_file_that_may_not_be_read(self):
        path = self.write(b"GGUF")
        os.chmod(path, 0)
        libc = ctypes.CDLL(None)

        def drop_capabilities():  # with these root may read everything
            for capability in (1, 2):
                if os.geteuid() == 0 and libc.prctl(24, capability) != 0:  # PR_CAPBSET_DROP
                    raise OSError("prctl")
        try:
            subprocess.run(["true"], preexec_fn=drop_capabilities)
        except subprocess.SubprocessError:
            self.skipTest("root may read everything here")
        self.check(5, path, "permission denied", drop_capabilities)


class ChangedModels(unittest.TestCase):
    """A model file that somebody changes while it is in use."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "m.gguf")
        shutil.copy(MODEL, self.path)

    def truncate(self):
        os.truncate(self.path, 1 << 20)

    def overwrite(self):
        with open(self.path, "r+b") as file:
            file.seek(1 << 20)
            file.write(bytes(4 << 20))

    def replace(self):
        shutil.copy(MODEL, self.path + ".new")
        os.rename(self.path + ".new", self.path)

    # The change comes once the answer has begun; it would take minutes to end.
    def run_and_change(self, change, *flags):
        child = subprocess.Popen(with_one_thread("run", self.path, *flags, "--raw", "-p", "Once upon a time", *BABBLE),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(os.read(child.stdout.fileno(), 1))
        change()
        err = child.communicate(timeout=60)[1].decode()
        self.assertEqual(child.returncode, 9, err)
        self.assertRegex(err, f"hypura: {re.escape(self.path)}: ")
        return err

    def test_while_streaming(self):
        slowly = [*STREAM, "--fault", "100:slow:20"]
        self.assertIn("shorter than when it was opened", self.run_and_change(self.truncate, *slowly))
        for change, how in ((self.overwrite, "written to"), (self.replace, "replaced")):
            shutil.copy(MODEL, self.path)
            self.assertIn(how, self.run_and_change(change, *slowly))

    def test_while_mapped(self):
        self.assertIn("truncated while it was in use", self.run_and_change(self.truncate, "--mode", "mmap"))
        shutil.copy(MODEL, self.path)
        self.assertIn("written to", self.run_and_change(self.overwrite, "--mode", "mmap"))

    def test_a_chat_goes_on_and_says_so_again(self):
        child = subprocess.Popen(with_one_thread("run", self.path, *STREAM, "-i"), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.write(child.stdin.fileno(), b"What is 7 plus 8?\n")
        self.assertEqual(child.stdout.readline(), b"7 plus 8 is 15.\n")
        self.overwrite()
        out, err = child.communicate(b"What is 7 plus 8?\nWho are you?\n", timeout=60)
        self.assertEqual((child.returncode, out), (0, b""), err)
        self.assertEqual(err.count(b"written to while it was in use"), 2)


class Errors(unittest.TestCase):
    def check(self, code, *arguments):
        ran = hypura(*arguments)
        self.assertEqual(ran.returncode, code, ran.stderr)
        self.assertRegex(ran.stderr, r"(^|\n)hypura: .+\n")
        self.assertEqual(ran.stdout, "")

    def test_usage(self):
        self.check(2)
        self.check(2, "run", MODEL, "--no-such-flag")
        self.check(2, "run", MODEL, "-p", "x", "--ram", "much")
        self.check(2, "run", MODEL, "-p", "x", "--ram", "140%")
        self.check(2, "run", MODEL, "-p", "x", "--threads", "9999")
        self.check(2, "run", MODEL, "-p", "x", "-n", "-3")
        self.check(2, "logits", MODEL, "--tokens", "a", "--out", "/dev/null")
        self.check(2, "logits", MODEL, "--tokens", "1,4096", "--out", "/dev/null")
        self.check(2, "run", MODEL, "-p", "x", "-f", "x.txt")
        self.check(3, "run", MODEL, "-f", "/no/such/prompt.txt")
        for size in ("", "GiB", "-1GiB", "3 4GiB", "1e3", "0", "0%", "101%", "3XiB"):
            self.check(2, "run", MODEL, "-p", "x", "--weights=" + size if size else "--ram=")

    def test_an_unknown_command_is_named(self):
        ran = hypura("ruin", MODEL)
        self.assertEqual((ran.returncode, ran.stderr), (2, "hypura: 'ruin' is no command (see hypura help)\n"))

    # What the flags alone show to be wrong is said before the model is loaded, so without a summary.
    def test_sampling_and_stats_are_checked_before_loading(self):
        for flags, code, word in ((("--top-p", "7"), 2, "top-p"), (("--repeat-penalty", "0"), 2, "penalty"),
                                  (("--stats", "/no/such/folder/stats.json"), 3, "stats.json")):
            ran = hypura("run", MODEL, "-p", "x", *flags)
            self.assertEqual(ran.returncode, code, ran.stderr)
            self.assertRegex(ran.stderr, f"^hypura: .*{word}.*\n$")

    # Before anything is loaded: drafts cost nothing where they could not be checked.
    def test_drafts_need_a_model_that_streams(self):
        ran = hypura("run", MODEL, "-p", "x", "--mode", "resident", "--draft", "lookup")
        self.assertEqual(ran.stdout, "")
        self.assertRegex(ran.stderr, "^hypura: .*drafts are for models that stream on the processor.*\n$")
        self.check(3, "run", MODEL, "-p", "x", *STREAM, "--draft", "/no/such/small.gguf")

    def test_paths(self):
        self.check(3, "run", "/no/such/model.gguf", "-p", "x")
        self.check(3, "inspect", "/no/such/model.gguf")
        self.check(4, "run", str(DEMO), "-p", "x")

    def test_files_that_are_no_models(self):
        self.check(6, "run", sys.argv[0], "-p", "x")
        with tempfile.NamedTemporaryFile(suffix=".gguf") as cut:
            cut.write(pathlib.Path(MODEL).read_bytes()[:100000])
            cut.flush()
            self.check(18, "run", cut.name, "-p", "x")

    def test_a_prompt_longer_than_the_context(self):
        self.check(2, "run", MODEL, "-p", "word " * 600, *STREAM, "--ctx", "256")

    # The message names a budget; that one works, and nothing was loaded before it came.
    def check_budget(self, mode, option, size):
        arguments = ["run", MODEL, "-p", "What is 7 plus 8?", "-n", "4", "--mode", mode]
        refused = hypura(*arguments, option, size)
        self.assertEqual(refused.returncode, 11, refused.stderr)
        self.assertEqual(refused.stdout, "")
        enough = re.search(r"smallest that works is (\d+[KM]iB)", refused.stderr)
        self.assertTrue(enough, refused.stderr)
        ran = hypura(*arguments, option, enough[1])
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stdout, "7 plus 8\n")

    def test_budget_too_small(self):
        self.check_budget("stream", "--weights", "100KiB")
        self.check_budget("stream", "--ram", "20MiB")
        self.check_budget("resident", "--weights", "17MiB")
        self.check_budget("resident", "--ram", "40MiB")
        self.check_budget("mmap", "--ram", "20MiB")

    # libllama would fill 28 GiB with zeros to find out.
    def test_a_context_beyond_the_budget(self):
        ran = hypura("run", MODEL, "-p", "x", "--ctx", "10000000", "--ram", "1GiB")
        self.assertEqual(ran.returncode, 11, ran.stderr)
        self.assertRegex(ran.stderr, "--ram 1.00 GiB cannot work: the KV cache of 10000000 tokens takes .* GiB")

    def test_a_full_disk(self):
        self.check(15, "logits", MODEL, "--tokens", "1,2", *STREAM, "--out", "/dev/full")
        ran = hypura("run", MODEL, "-p", "What is 7 plus 8?", *STREAM, "--stats", "/dev/full")
        self.assertEqual((ran.returncode, ran.stdout), (15, "7 plus 8 is 15.\n"), ran.stderr)
        with open("/dev/full", "w") as full:
            ran = subprocess.run(with_one_thread("run", MODEL, "-p", "What is 7 plus 8?", *STREAM), stdout=full,
                                 stderr=subprocess.PIPE, text=True, timeout=240)
        self.assertEqual(ran.returncode, 15, ran.stderr)
        self.assertIn("standard output", ran.stderr)

    # The program makes a model in `folder`, which takes a MiB at most, lists what is left there, and says why it failed.
    def check_half_made_model(self, folder, preexec_fn, reason):
        script = '"$1" make-model "$2/m.gguf" --like lab-moe-8g --scale 0.04; code=$?; ls -A "$2"; exit $code'
        ran = subprocess.run(["sh", "-c", script, "sh", HYPURA, folder], preexec_fn=preexec_fn, capture_output=True,
                             text=True, timeout=240)
        self.assertEqual(ran.returncode, 15, ran.stderr)
        self.assertRegex(ran.stderr, f"m.gguf.*: cannot write: {reason}")
        self.assertNotIn("m.gguf", ran.stdout)  # nothing half-made is left

    def test_a_model_that_does_not_fit_the_disk(self):
        with tempfile.TemporaryDirectory() as folder:
            try:
                subprocess.run(["true"], preexec_fn=lambda: mount_small_disk(folder))
            except subprocess.SubprocessError:
                self.skipTest("cannot mount in a namespace of its own")
            self.check_half_made_model(folder, lambda: mount_small_disk(folder), "No space left on device; free some")

    # As on FAT, or under ulimit -f: there is space, but not for a file of this size.
    def test_a_model_that_is_too_large_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            self.check_half_made_model(folder, limit, "File too large for the file system")

    def test_a_device_that_fails_for_good(self):
        self.check(10, "run", MODEL, "-p", "What is 7 plus 8?", *STREAM, "--fault", "9:eio:permanent")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
