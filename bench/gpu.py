"""The table of ``bench/README.md`` for a GPU: ``python bench/gpu.py [FILES] [--json OUT]``.

Runs ``ke-gen eval`` on the examples for the target of the GPU that is here, and prints Markdown:
verdict, measured time of the kernel, of PyTorch eager and of ``torch.compile`` in the same run,
with device and versions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def evaluate(files: list[Path], target: str) -> list[dict[str, Any]]:
    """Verdicts of ``ke-gen eval FILES --targets TARGET --json``."""
    command = [sys.executable, "-m", "ke_gen", "eval", *map(str, files)]
    done = subprocess.run(
        [*command, "--targets", target, "--json"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    verdicts: list[dict[str, Any]] = json.loads(done.stdout)
    return verdicts


def row(v: dict[str, Any]) -> str:
    """One line of the table."""
    timing, roofline = v.get("timing"), v.get("roofline")
    if timing is None or timing["kind"] != "measured":
        failed = next((s for s in v["stages"] if s["outcome"] == "failed"), None)
        why = f"{failed['stage']}: {failed['reason']}" if failed else "no GPU here"
        return f"| {v['program']} | {v['summary']} | not measured: {why} | | | | |"
    mine = timing["seconds"]
    rivals = {b["name"]: b["timing"]["seconds"] for b in v["baselines"]}
    cells = [v["program"], f"{v['summary']}, {v['established']}", _us(mine)]
    for name in ("eager", "torch.compile"):
        cells.append(f"{_us(rivals[name])} ({rivals[name] / mine:.2f}x)" if name in rivals else "-")
    cells.append(f"{roofline['fraction']:.0%} {roofline['bound']}" if roofline else "-")
    spread = timing["detail"]
    cells.append(f"{_us(spread['p10_seconds'])} to {_us(spread['p90_seconds'])}")
    return f"| {' | '.join(cells)} |"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--target", default="nvidia")
    parser.add_argument("--json", type=Path, help="keep the verdicts here")
    given = parser.parse_args()
    files = given.files or sorted((ROOT / "examples").glob("*.ir"))
    verdicts = evaluate(files, given.target)
    if given.json:
        given.json.write_text(json.dumps(verdicts, indent=1))
    timed = next((v["timing"] for v in verdicts if v.get("timing")), None)
    if timed:
        d = timed["detail"]
        print(f"Measured on {timed['on']}; torch {d.get('torch')}, triton {d.get('triton')}, "
              f"{d.get('runtime')}; {d.get('statistic')}.\n")  # fmt: skip
    print("| kernel | verdict | ke-gen | eager (ke-gen is faster by) | torch.compile | roofline "
          "| p10 to p90 |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for v in verdicts:
        print(row(v))


if __name__ == "__main__":
    main()
