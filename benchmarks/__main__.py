"""All that `make bench` measures: `python -m benchmarks`, about ten minutes.

Each benchmark is a command of its own, in a process of its own, one after the other: `benchmarks.speed`, `.start`,
`.profile`, `.processes`. What they find goes into `benchmarks/results.json`, and from there into the tables of
`docs/performance.md` and into `docs/performance.svg`. What takes longer, or answers another question, is left to be
asked for: `benchmarks.memory`, `.scale`, `.budget`, `.verify`.
"""

import subprocess
import sys

from cyclopts import App

from benchmarks.stage import ROOT

app = App(name="python -m benchmarks", help=__doc__, help_format="plaintext", version_flags=())


@app.default
def main(*, conversations: int = 2000, rounds: int = 3, keep: bool = True) -> None:
    """Run all benchmarks.

    Args:
        conversations: Of the largest archive; the slower benchmarks take fewer, in proportion.
        rounds: How often each is measured, where medians are taken.
        keep: Write the results into benchmarks/results.json and docs/; otherwise they are only shown.
    """
    for name, *options in parts(conversations, rounds):
        command = [f"benchmarks.{name}", *options, *["--keep"] * keep]
        print(f"\npython -m {' '.join(command)}", flush=True)
        if code := subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode:
            sys.exit(f"benchmarks.{name} ended with exit code {code}, see above")


def parts(conversations: int, rounds: int) -> list[list[str]]:
    """Say what is run, and with which options."""
    again = ["--rounds", f"{rounds}"]
    half, few = (f"{max(1, conversations // part)}" for part in (2, 8))
    return [
        ["speed", "--conversations", f"{conversations}", "--s3-conversations", few, *again],
        ["start", *again],
        ["profile", "--conversations", f"{conversations}"],
        ["processes", "--conversations", half],
    ]


if __name__ == "__main__":
    sys.exit(app())
