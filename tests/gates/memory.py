#!/usr/bin/env python3
"""A run of 500 tokens inside a hard memory limit of --ram plus 256 MiB: not killed, no major faults once warm, and the
process itself never above --ram. Case "auto": the limit alone is given, and the program finds it and keeps it, in whatever
mode: all of the model in memory would be too much.

usage: memory.py HYPURA moe|dense|split|auto

Needs root and a control group to write to; exit status 77: neither.
"""
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

MIB = 1024 * 1024
SKIPPED = 77
TOKENS = 500
SLACK_MIB = 256

# The first model is larger than limit and slack together. The others are kept small for speed (a dense model reads all
# that it streams for every token): the check of the process's own peak holds them to their budget.
LAB = ["--like", "lab-moe-8g"]
DENSE = "--arch llama --layers 8 --embd 1024 --ff 4096 --heads 16 --kv-heads 4 --head-dim 64 --vocab 4096 --quant q8_0"
CASES = {
    "moe": {"model": [*LAB, "--scale", "0.0833"], "ram_mib": 448},
    "dense": {"model": DENSE.split(), "ram_mib": 280},
    "split": {"model": [*LAB, "--scale", "0.0417", "--split-max-size", "100MiB"], "ram_mib": 352},
    "auto": {"model": [*LAB, "--scale", "0.0833"], "ram_mib": None, "limit_mib": 704},
}


def write(path, text):
    """Whether the kernel took it."""
    try:
        path.write_text(text)
        return True
    except OSError:
        return False


@contextlib.contextmanager
def memory_group(limit_bytes):
    """A control group (v1 or v2) with a hard limit; nothing may be swapped where the kernel can say so."""
    for parent in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        group = pathlib.Path(parent, f"hypura-gate-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if any(write(group / name, str(limit_bytes)) for name in ("memory.limit_in_bytes", "memory.max")):
                write(group / "memory.swap.max", "0")
                yield group
                return
        finally:
            group.rmdir()
    yield None


def make_model(hypura, folder, arguments):
    subprocess.run([hypura, "make-model", f"{folder}/model.gguf", *arguments], check=True, stdout=subprocess.DEVNULL)
    return sorted(str(part) for part in pathlib.Path(folder).glob("*.gguf"))


def drop_from_page_cache(paths):
    """Pages that a file has there already would count against nobody's limit."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_inside(group, hypura, model, flags):
    """The counters of 500 single tokens after a prompt and 50 tokens of warm-up, and the peak of the process."""
    ran = subprocess.run([hypura, "bench", model, *flags, "--threads", "1", "--ctx", "1024", "--child",
                          f"decode:64:50:{TOKENS}"], capture_output=True, text=True,
                         preexec_fn=lambda: (group / "cgroup.procs").write_text("0"))
    if ran.returncode != 0:
        sys.exit(f"the run ended with {ran.returncode}\n{ran.stderr}")
    return json.loads(ran.stdout), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def complaints(report, peak_bytes, case, parts):
    """What is not as it must be."""
    decode = report["measured"]
    if decode["tokens"] != TOKENS:
        yield f"{decode['tokens']} tokens"
    if case["ram_mib"] is None:
        return
    if decode["major_faults"] != 0:
        yield f"{decode['major_faults']} major faults"
    if decode["read_bytes"] == 0:
        yield "nothing was streamed"
    if peak_bytes > case["ram_mib"] * MIB:
        yield f"the process held {peak_bytes / MIB:.0f} MiB"
    if (len(parts) > 1) != ("--split-max-size" in case["model"]):
        yield f"{len(parts)} parts"


def main(hypura, name):
    case = CASES[name]
    limit_mib = case["limit_mib"] if case["ram_mib"] is None else case["ram_mib"] + SLACK_MIB
    with tempfile.TemporaryDirectory() as folder, memory_group(limit_mib * MIB) as group:
        if group is None:
            print("no control group with a memory limit can be made here")
            return SKIPPED
        parts = make_model(hypura, folder, case["model"])
        drop_from_page_cache(parts)
        flags = [] if case["ram_mib"] is None else ["--ram", f"{case['ram_mib']}MiB", "--mode", "stream"]
        report, peak_bytes = run_inside(group, hypura, parts[0], flags)
        decode = report["measured"]
        print(f"{name}: {report['model_bytes'] / MIB:.0f} MiB in {len(parts)} files, limit {limit_mib} MiB, "
              f"peak {peak_bytes / MIB:.0f} MiB; {decode['tokens']} tokens, {decode['major_faults']} major faults, "
              f"{decode['minor_faults'] / TOKENS:.1f} minor faults and {decode['read_bytes'] / MIB / TOKENS:.1f} MiB "
              f"read a token, {decode['wall_us'] / 1e6:.1f} s")
        wrong = list(complaints(report, peak_bytes, case, parts))
    if wrong:
        print("wrong: " + ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
