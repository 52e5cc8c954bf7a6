"""All that `make bench` measures: `python -m benchmarks`, about ten minutes.

Each benchmark is a command of its own, in a process of its own, one after the other: `benchmarks.speed`, `.start`,
`.profile`, `.processes`. What they find goes into `benchmarks/results.json`, and from there into the tables of
`docs/performance.md` and into `docs/performance.svg`. What takes longer, or answers another question, is left to be
asked for: `benchmarks.memory`, `.scale`, `.budget`, `.verify`.
"""

import subprocess
import sys

from cyclopts import App

from benchmarks.stage import ROOT, limited

HOUR = 3600

app = App(name="python -m benchmarks", help=__doc__, help_format="plaintext", version_flags=())


@app.default
def main(*, conversations: int = 2000, rounds: int = 3, keep: bool = True) -> None:
    """Run all benchmarks.

    Args:
        conversations: Of the largest archive; the slower benchmarks take fewer, in proportion.
        rounds: How often each is measured, where medians are taken.
        keep: Write the results into benchmarks/results.json and docs/; otherwise they are only shown.
    """
    with limited(HOUR):
        for name, *options in parts(conversations, rounds):
            run(f"benchmarks.{name}", *options, *["--keep"] * keep)


def run(module: str, *options: str) -> None:
    """Run one command.

    Raises:
        SystemExit: It failed.
    """
    print(f"\npython -m {' '.join([module, *options])}", flush=True)
    with subprocess.Popen([sys.executable, "-m", module, *options], cwd=ROOT) as part:
        try:
            code = part.wait()
        finally:
            # Told to end, it ends what it has started.
            part.terminate()
    if code:
        sys.exit(f"{module} ended with exit code {code}, see above")


def parts(conversations: int, rounds: int) -> list[list[str]]:
    """Say what is run, and with which options."""
    again = ["--rounds", f"{rounds}"]
    half = f"{max(1, conversations // 2)}"
    return [
        ["speed", "--conversations", f"{conversations}", "--s3-conversations", half, *again],
        ["start", *again],
        ["profile", "--conversations", f"{conversations}"],
        ["processes", "--conversations", half],
    ]


if __name__ == "__main__":
    sys.exit(app())
