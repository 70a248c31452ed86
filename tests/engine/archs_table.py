"""Prints docs/architectures.md from the reports of `hypura verify --json`. Usage: archs_table.py FOLDER"""

import json
import pathlib
import sys

INTRODUCTION = """# Architectures

Every architecture for which llama.cpp's tests can generate a small random model, run by `hypura verify` at the smallest
pool that works and compared with plain libllama, logit by logit. Written by `tests/engine/verify_archs.sh HYPURA --table
FILE`. "Streamed" is the share of the weights' bytes that lives in the file; "slots" is the memory that all of them share;
a demand is one expert or matrix that one pass needs. The notes say what is streamed and what stays in memory, and why; left
out are norms, biases and other small weights, which always stay, and tensors that no computation reads.

| model | streamed | slots | demands | evictions | result | notes |
|---|---:|---:|---:|---:|---|---|"""


def summary(notes, most=4):
    notes = [note for note in notes if " small weights " not in note and "read by no computation" not in note]
    text = "; ".join(notes[:most])
    return text + (f"; and {len(notes) - most} more" if len(notes) > most else "")


def streamed_share(run):
    return f"{run['streamed_bytes'] / max(run['streamed_bytes'] + run['resident_bytes'], 1):.0%}"


def row(path):
    try:
        report = json.loads(path.read_text())
        run = report["runs"][0]
    except (ValueError, LookupError):
        return f"| {path.stem} | – | – | – | – | failed | |"
    result = "identical" if report["identical"] else "**different**"
    cells = [path.stem, streamed_share(run), f"{run['slot_bytes'] / 1024:.0f} KiB", run["demands"], run["evictions"],
             result, summary(run["notes"])]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


print(INTRODUCTION)
for report_path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    print(row(report_path))
