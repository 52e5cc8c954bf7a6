"""Bugs on purpose: each breaks one rule that the core keeps. The simulation must notice every one of them.

A mutant is a small patch of one function or method, undone when its block is left.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, BinaryIO
from unittest.mock import patch

from tenacity import Retrying, retry_if_exception_type

from formant_archive import capture, conversation, keys, ledger, settlement
from formant_archive.client import FormantClient, Page
from formant_archive.errors import NotFound, StoreUnavailable
from formant_archive.ledger import Draft, Head
from formant_archive.listing import Horizon, Listing, Sweep
from formant_archive.manifest import Changes, State
from formant_archive.patience import BadPage, Effort, Interrupted
from formant_archive.policy import Policy
from formant_archive.records import Pending, Probe
from formant_archive.run import Run
from formant_archive.wav import Inspection, inspect
from tests.simulation.store import View
from tests.stores.memory import MemoryStore

Mutant = Callable[[ExitStack], None]
MUTANTS: dict[str, Mutant] = {}


def mutant(sow: Mutant) -> Mutant:
    """Register a bug under its function's name."""
    MUTANTS[sow.__name__] = sow
    return sow


@contextmanager
def sown(name: str) -> Iterator[None]:
    """Let a bug live for as long as the block lasts."""
    with ExitStack() as patches:
        MUTANTS[name](patches)
        yield


@mutant
def record_before_payloads(patches: ExitStack) -> None:
    put, late = View.put, list[tuple[View, str, bytes, str]]()

    def hasty(self: View, key: str, body: bytes | BinaryIO, *, sha256: str, **care: Any) -> bool:
        if key.endswith((keys.CONVERSATION, keys.RECORDING)):
            late.append((self, key, body if isinstance(body, bytes) else _all_of(body), sha256))
            return True
        created = put(self, key, body, sha256=sha256, **care)
        for one in [one for one in late if one[0] is self]:
            late.remove(one)
            put(self, one[1], one[2], sha256=one[3])
        return created

    patches.enter_context(patch.object(View, "put", hasty))


def _all_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


@mutant
def put_without_the_condition(patches: ExitStack) -> None:
    def put(self: MemoryStore, key: str, body: bytes | BinaryIO, *, sha256: str, **care: Any) -> bool:
        self.objects[key] = body if isinstance(body, bytes) else _all_of(body)
        return True

    patches.enter_context(patch.object(MemoryStore, "put", put))


@mutant
def a_taken_key_is_a_failure(patches: ExitStack) -> None:
    put = View.put

    def strict(self: View, key: str, body: bytes | BinaryIO, *, sha256: str, **care: Any) -> bool:
        created = put(self, key, body, sha256=sha256, **care)
        if not created and key.startswith("conversations/"):
            raise StoreUnavailable("412")
        return created

    patches.enter_context(patch.object(View, "put", strict))


@mutant
def watermark_past_a_failed_page(patches: ExitStack) -> None:
    complete: Any = Listing.__dict__["complete"]
    lax = property(lambda self: self._failed or complete.fget(self))
    patches.enter_context(patch.object(Listing, "complete", lax))


@mutant
def one_pass_trusted(patches: ExitStack) -> None:
    patches.enter_context(patch.object(Sweep, "shrank", property(lambda self: False)))
    patches.enter_context(patch.object(Sweep, "fell_short", property(lambda self: False)))
    patches.enter_context(patch.object(Listing, "missing", property(lambda self: 0)))


@mutant
def has_more_trusted(patches: ExitStack) -> None:
    list_page, take = FormantClient.list_page, Run.take
    said: list[bool] = []

    def noting(self: FormantClient, *, agent_id: int | None, offset: int, limit: int = 100) -> Page:
        page = list_page(self, agent_id=agent_id, offset=offset, limit=limit)
        said.append(page.has_more)
        return page

    def believing(self: Run, references: Any, total: int) -> list[Pending]:
        wanted = take(self, references, total)
        if not said[-1]:
            self.listing._sweep.ended = True
        return wanted

    patches.enter_context(patch.object(FormantClient, "list_page", noting))
    patches.enter_context(patch.object(Run, "take", believing))
    patches.enter_context(patch.object(Listing, "missing", property(lambda self: 0)))


@mutant
def no_wav_length_check(patches: ExitStack) -> None:
    def lax(file: BinaryIO, size: int) -> Inspection:
        found = inspect(file, size)
        return replace(found, fault=None) if found.fault == "truncated" else found

    patches.enter_context(patch.object(capture, "inspect", lax))


@mutant
def anybodys_body_accepted(patches: ExitStack) -> None:
    read = conversation.read_conversation

    def lax(body: bytes, conversation_id: str) -> dict[str, Any]:
        return read(body.replace(b"somebody-else", conversation_id.encode()), conversation_id)

    patches.enter_context(patch.object(capture, "read_conversation", lax))


@mutant
def merge_without_deriving_anew(patches: ExitStack) -> None:
    manifest, first = ledger._manifest, dict[tuple[str, int], State]()

    def stale(store: Any, head: Head, draft: Draft, *args: Any, **kwargs: Any) -> Any:
        state = first.setdefault((draft.run.id, draft.run.part), head.state)
        return manifest(store, replace(head, state=state), draft, *args, **kwargs)

    patches.enter_context(patch.object(ledger, "_manifest", stale))


@mutant
def pending_dropped_on_merge(patches: ExitStack) -> None:
    on = Changes.on

    def forgetful(self: Changes, state: State, overlap: int) -> State:
        merges = self.before != state.scopes.get(self.scope or "", self.before)
        return on(self, replace(state, pending={}) if merges else state, overlap)

    patches.enter_context(patch.object(Changes, "on", forgetful))


@mutant
def own_commit_not_recognised(patches: ExitStack) -> None:
    patches.enter_context(patch.object(ledger, "_ours", lambda store, draft, numbers: None))


@mutant
def early_stop_whatever_the_order(patches: ExitStack) -> None:
    patches.enter_context(patch.object(Horizon, "allows_stop", lambda self, sweep, fresh: self.lies_before(sweep.page)))


@mutant
def a_total_that_grew_ignored(patches: ExitStack) -> None:
    allows_stop = Horizon.allows_stop
    patches.enter_context(patch.object(Horizon, "allows_stop", lambda self, sweep, fresh: allows_stop(self, sweep, 99)))


@mutant
def absent_after_one_probe(patches: ExitStack) -> None:
    def lax(probes: tuple[Probe, ...], pending: Pending, policy: Policy) -> bool:
        return bool(probes) and settlement.is_past_grace(pending, probes[-1].at, policy)

    patches.enter_context(patch.object(settlement, "is_enough", lax))


@mutant
def absent_before_the_grace(patches: ExitStack) -> None:
    patches.enter_context(patch.object(settlement, "is_past_grace", lambda pending, now, policy: True))


@mutant
def asked_again_after_404(patches: ExitStack) -> None:
    def retrying(self: Effort, sleep: Callable[[float], None]) -> Retrying:
        kinds = (Interrupted, BadPage, NotFound)
        return Retrying(
            retry=retry_if_exception_type(kinds), wait=self._pause, stop=self._is_over, sleep=sleep, reraise=True
        )

    patches.enter_context(patch.object(Effort, "retrying", retrying))
