"""The whole of it in a minute, on this machine alone: `make demo`.

A simulated FormantAI API on a loopback port, the real flow on a Prefect server that lives as long as the demo, an
archive in `./demo-archive`; then what an outsider does with it, and a hand-over in `./demo-export`. What is shown is
checked: the exit code is 0 only where all of it is true. No setting of the user's reaches it, neither from the
environment nor from a `.env` or a Prefect profile.
"""

import atexit
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

from formant_archive import cli, keys
from formant_archive.errors import UsageError
from formant_archive.ledger import Head, read_head
from formant_archive.simulator import Conversation, Simulator
from formant_archive.stores import open_store

ARCHIVE, EXPORT = Path("demo-archive"), Path("demo-export")
#: What an archive or an export consists of; a folder with anything else in it is not ours to remove.
PARTS = {
    ARCHIVE: {"conversations", "manifests"},
    EXPORT: {"bagit.txt", "bag-info.txt", "index.html", "data"}
    | {f"{kind}-{name}.txt" for kind in ("manifest", "tagmanifest") for name in ("sha256", "sha512")},
}
#: Long enough that nothing is due again while the second run lists.
PROBE_MINUTES = 0.3
FOREIGN = ("PREFECT_", "FORMANT_", "ARCHIVE_")


class Demo:
    """The three runs, and what must be true after each.

    Args:
        sim: The simulated API.
        archive: The archive's folder, absolute.
        export: The folder of the hand-over, absolute.
    """

    def __init__(self, sim: Simulator, archive: Path, export: Path) -> None:
        self._sim = sim
        self._archive = archive
        self._export = export
        self.failed = 0

    def play(self) -> None:
        """Run the flow three times; then check, and hand over."""
        self._first_run()
        self._second_run()
        self._wait_for_probes()
        self._third_run()
        self._check_as_an_outsider()
        self._hand_over()

    def _first_run(self) -> None:
        rows = self._sim.conversations
        completed = [each for each in rows if each.status == "completed"]
        ready = [each for each in completed if each.recording is not None]
        calling = [each for each in rows if each.status == "in_progress"]
        late, others = len(completed) - len(ready), len(rows) - len(completed) - len(calling)
        heading("1. The first run archives everything")
        say(
            f"The API lists {len(rows)} calls: {len(completed)} completed, {others} that came to nothing (busy,"
            f" no answer, …), {len(calling)} still going on. The recordings of {late} are not there yet, as happens."
        )
        asked = self._run()
        reasons = Counter(one.reason for one in self._head().state.pending.values())
        self._check(f"{len(ready)} conversations archived, byte for byte as the API serves them", self._holds(ready))
        self._check(
            f"{late} wait for their recordings, {len(calling)} for the end of the call; nothing is forgotten",
            reasons == {"recording_not_found": late, "open": len(calling)},
        )
        self._check(
            "each payload was asked for once",
            asked["conversation"] == asked["recording"] == len(completed),
        )

    def _second_run(self) -> None:
        heading("2. The second run finds nothing new")
        say("This is what a scheduled run costs most of the time. Recordings that were missing are not due again yet.")
        before = self._objects()
        asked = self._run()
        self._check("nothing but the newest pages of the list was asked for", set(asked) == {"list"})
        self._check("no object was changed or removed", before.items() <= self._objects().items())

    def _wait_for_probes(self) -> None:
        heading("3. The late recordings come in")
        self._sim.release()
        moments = [one.next_probe_at for one in self._head().state.pending.values() if one.next_probe_at]
        seconds = max(0.0, (max(moments) - datetime.now(UTC)).total_seconds() + 0.2)
        say(
            "The recordings are there now, and the open calls have ended. What was missing is asked for again after"
            f" 15 minutes, then ever more rarely; in this demo after {60 * PROBE_MINUTES:.0f} seconds,"
            f" {seconds:.0f} of them still to go."
        )
        time.sleep(seconds)

    def _third_run(self) -> None:
        pending = len(self._head().state.pending)
        before = self._objects()
        asked = self._run()
        completed = [each for each in self._sim.conversations if each.status == "completed"]
        self._check(f"all {len(completed)} completed conversations are archived now", self._holds(completed))
        self._check("nothing is pending", not self._head().state.pending)
        self._check(f"only the {pending} pending recordings were asked for", asked["recording"] == pending)
        self._check("no object was changed or removed", before.items() <= self._objects().items())

    def _check_as_an_outsider(self) -> None:
        heading("4. Anybody who can read it can check it")
        self._check("verify finds it VALID", command("verify", self._archive, "--deep") == 0)
        say(
            "What this proves: nothing that the manifests name is missing, and no byte of it has changed. Who has noted"
            " the head elsewhere knows that nothing was cut off, either."
        )
        recording = min(self._archive.rglob(keys.RECORDING))
        body = recording.read_bytes()
        with altered(recording, body[:-1] + bytes([body[-1] ^ 1])):
            say("\nNow one bit of one recording is changed:")
            self._check("verify finds it DAMAGED, and names it", command("verify", self._archive, "--deep") == 1)
        say("(It is as it was again.)", style="dim")

    def _hand_over(self) -> None:
        heading("5. A hand-over for a lawyer")
        given = ("--agent-id", "101", "--to", self._export, "--archive-url", self._archive)
        self._check("all calls of agent 101 are handed over", command("export", *given) == 0)
        say(
            "What this proves: whoever has this folder alone can show, from the head's hash down, that these are the"
            " bytes that were archived. Open its index.html with a double click."
        )

    def _run(self) -> Counter[str]:
        """Run the flow; give the requests that it made, by kind."""
        # Not before the environment is set: Prefect reads it once.
        from flows import terminal
        from flows.archive import archive_conversations

        self._sim.forget_requests()
        began = time.monotonic()
        code = terminal.run(archive_conversations)
        asked = Counter[str](request.kind for request in self._sim.requests)
        kinds = ", ".join(f"{count} {NAMES[kind]}" for kind, count in asked.most_common())
        say(f"{time.monotonic() - began:.1f} s, {asked.total()} requests: {kinds}", style="dim")
        self._check("the run ended well", code == 0)
        return asked

    def _check(self, fact: str, holds: bool) -> None:
        self.failed += not holds
        say(f"  {'✓' if holds else '✗ NOT TRUE:'} {fact}", style="green" if holds else "bold red")

    def _head(self) -> Head:
        return read_head(open_store(str(self._archive)))

    def _objects(self) -> dict[str, tuple[int, int]]:
        """Every object, with its size and the time of its last change."""
        found = ((path, path.stat()) for path in self._archive.rglob("*") if path.is_file())
        return {str(path): (status.st_size, status.st_mtime_ns) for path, status in found}

    def _holds(self, conversations: list[Conversation]) -> bool:
        """Whether the archive holds these conversations and no others, with the API's own bytes."""
        folders = {path.parent.name: path.parent for path in self._archive.rglob(keys.RECORD)}
        return folders.keys() == {each.conversation_id for each in conversations} and all(
            (folder / keys.CONVERSATION).read_bytes() == each.conversation_json
            and (folder / keys.RECORDING).read_bytes() == each.recording
            for each in conversations
            if (folder := folders[each.conversation_id])
        )


NAMES = {"list": "for pages of the list", "conversation": "for transcripts", "recording": "for recordings"}


def command(*arguments: object) -> int:
    """Run `formant-archive` as a user would type it; give its exit code."""
    try:
        return cli.exit_code(lambda: cli.app([str(one) for one in arguments], exit_on_error=False, print_error=False))
    except SystemExit as end:
        # How a command ends that says how it went.
        return int(end.code or 0)


@contextmanager
def altered(path: Path, body: bytes) -> Iterator[None]:
    """Let a file have other bytes for a while."""
    kept = path.rename(path.with_name(".tmp-kept"))
    try:
        path.write_bytes(body)
        yield
    finally:
        kept.replace(path)


def heading(text: str) -> None:
    """Begin a part of the demo."""
    cli.out.print(f"\n{text}", style="bold", markup=False)


def say(text: str, style: str | None = None) -> None:
    """Print a sentence."""
    cli.out.print(text, style=style, markup=False)


def main() -> int:
    """Play the demo; 0 where everything came out as it says, 1 where not."""
    archive, export = ARCHIVE.absolute(), EXPORT.absolute()
    for path in (archive, export):
        make_room(path)
    sim = Simulator(seed=1, conversations=250, late_recordings=0.06, in_progress=4, audio_seconds=(2, 8))
    say(f"A simulated FormantAI API on this machine, a Prefect server for the moment, an archive in ./{ARCHIVE}.")
    say("Starting them takes a few seconds.")
    with sim.serve() as url, surroundings(url, archive):
        demo = Demo(sim, archive, export)
        demo.play()
    if demo.failed:
        say(f"\n{demo.failed} of the above did not come out as it should.", style="bold red")
        return 1
    show_where_to_look(archive)
    return 0


def make_room(path: Path) -> None:
    """Remove what an earlier demo made.

    Raises:
        UsageError: What lies there is something else.
    """
    if not path.exists() and not path.is_symlink():
        return
    is_ours = path.is_dir() and not path.is_symlink()
    if not is_ours or not {part.name for part in path.iterdir()} <= PARTS[Path(path.name)]:
        raise UsageError(f"./{path.name} is not an earlier demo's: move it away, or start the demo elsewhere")
    shutil.rmtree(path)


@contextmanager
def surroundings(url: str, archive: Path) -> Iterator[None]:
    """Put the demo where no setting of the user's is: environment, working directory, Prefect's home."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    home = mkdtemp(prefix="formant-archive-demo-")
    # Before Prefect is imported, so that this comes last: its server ends first.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        DO_NOT_TRACK="1",
        PREFECT_HOME=home,
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # 20 s are too few on a busy machine.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="60",
        FORMANT_API_KEY="simulated-key",
        FORMANT_BASE_URL=url,
        ARCHIVE_URL=str(archive),
        ARCHIVE_PROBE_MINUTES=str(PROBE_MINUTES),
    )
    with chdir(home):
        yield


def show_where_to_look(archive: Path) -> None:
    """Say what there is to see."""
    folder = min(archive.rglob(keys.RECORD)).parent
    heading("Where to look")
    say(f"{folder.relative_to(archive.parent)}/")
    for name, meaning in (
        (keys.CONVERSATION, "as the API served it, transcript in it"),
        (keys.RECORDING, "as the API served it"),
        (keys.RECORD, "what was stored, when, its hashes; written last"),
    ):
        say(f"    {name:<18}{(folder / name).stat().st_size:>9,} bytes  {meaning}")
    say(f"{ARCHIVE}/manifests/    one numbered file for each run, chained by hash")
    # The command lies beside the Python that runs this.
    command = Path(sys.executable).with_name("formant-archive")
    shown = command.relative_to(archive.parent) if command.is_relative_to(archive.parent) else command
    say(f"{EXPORT}/index.html    to be opened with a double click: search, listen, read")
    say(f"\nAsk the archive:  {shown} status {ARCHIVE}, or list, show, verify, export")
    say("Archive your own: set FORMANT_API_KEY and ARCHIVE_URL, then python -m flows.archive")


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
