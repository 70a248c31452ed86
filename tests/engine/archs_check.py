"""Whether reports of `hypura verify --json` show what they are there for: slots were evicted, or the report says why not and
what stays in memory. Usage: archs_check.py FOLDER"""

import json
import pathlib
import sys


def complaint(report):
    run = report["runs"][0]
    notes = run["notes"]
    if not report["identical"]:
        return "different"
    if run["evictions"] == 0 and not any(note.startswith("nothing is") for note in notes):
        return "nothing was evicted, and no note says why"
    if run["resident_bytes"] > 0 and not any("in memory" in note for note in notes):
        return "no note says what stays in memory"
    if sum(run["evictions_by_layer"]) != run["evictions"]:
        return "the layers' evictions do not add up"
    return None


reports = {path.stem: json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob("*.json")}
wrong = {name: complaint(report) for name, report in reports.items() if complaint(report)}
for name, why in sorted(wrong.items()):
    print(f"{name}: {why}", file=sys.stderr)
evicting = sum(report["runs"][0]["evictions"] > 0 for report in reports.values())
print(f"in {evicting} of {len(reports)} slots were evicted")
sys.exit(1 if wrong or 10 * evicting < 9 * len(reports) else 0)
