"""A backfill's plan and worklists in a store, under `plans/<plan id>/`: read by whichever machine works on a shard.

A shard is done when a manifest says so: `run.parameters` of its manifest name the plan and the shard.
"""

from collections import Counter
from collections.abc import Iterator, Sequence, Set

from pydantic import ValidationError

from formant_archive import keys
from formant_archive.errors import ArchiveDamaged, ObjectMissing, UsageError
from formant_archive.ledger import last_sequence
from formant_archive.manifest import Manifest, PartLink, digest, pack, unpack
from formant_archive.plan import Plan
from formant_archive.records import Reference
from formant_archive.stores import Store


def store_worklist(store: Store, plan_id: str, number: int, shard: Sequence[Reference]) -> PartLink:
    """Store the worklist of a shard."""
    body, count = pack([one.line() for one in shard])
    sha256 = digest(body)
    key = keys.worklist(plan_id, number)
    store.put(key, body, sha256=sha256)
    return PartLink(key=key, sha256=sha256, count=count)


def read_worklist(store: Store, link: PartLink) -> Iterator[Reference]:
    """Read a worklist.

    Raises:
        ArchiveDamaged: It is missing, or not the one that the plan names.
    """
    try:
        body = store.get(link.key)
    except ObjectMissing:
        raise ArchiveDamaged(f"{link.key} is missing: make a new plan") from None
    if digest(body) != link.sha256:
        raise ArchiveDamaged(f"{link.key} does not have the SHA-256 that its plan names: make a new plan")
    yield from unpack(body, Reference)


def store_plan(store: Store, plan: Plan) -> None:
    """Store a plan: from now on it can be resumed."""
    body = plan.body()
    store.put(keys.plan(plan.plan_id), body, sha256=digest(body))


def read_plan(store: Store, plan_id: str) -> Plan:
    """Read a plan.

    Raises:
        UsageError: There is none of that id.
        ArchiveDamaged: It is none.
    """
    key = keys.plan(plan_id)
    try:
        body = store.get(key)
    except ObjectMissing:
        raise UsageError(
            f"there is no plan {plan_id} in {store.url}: give the id that an earlier backfill printed"
        ) from None
    try:
        return Plan.model_validate_json(body)
    except ValidationError:
        raise ArchiveDamaged(f"{key} does not have the form of a plan: make a new one") from None


def shard_of(manifest: Manifest, plan_id: str) -> int | None:
    """Say which shard of a plan wrote a manifest; None where none did."""
    parameters = manifest.run.parameters
    if manifest.kind != "backfill" or parameters.get("plan_id") != plan_id:
        return None
    number = parameters.get("number")
    return number if isinstance(number, int) else None


class Progress:
    """Which shards of a plan are done, read from the manifests as they come.

    A shard counts as the first run of it that has committed says: a second one, of a shard that was taken for lost,
    finds everything settled, and would be counted once more.

    Attributes:
        pinned_head: The newest manifest that was read, as `verify --expect-head` takes it; None where none has come.
    """

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan_id, self._read = store, plan.plan_id, plan.sequence
        self._runs: dict[int, str] = {}
        self._counts = Counter[str]()
        self.pinned_head: str | None = None

    @property
    def done(self) -> Set[int]:
        """The numbers of the shards that have committed."""
        return self._runs.keys()

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all the shards' manifests, added up."""
        return dict(self._counts)

    def look(self) -> None:
        """Read the manifests that have come since the last look."""
        for sequence in range(self._read + 1, last_sequence(self._store, after=self._read) + 1):
            body = self._store.get(keys.manifest(sequence))
            self._take(Manifest.read(body))
            self.pinned_head = f"{sequence}:{digest(body)}"
            # Noted one by one: a look that breaks off in the middle is tried again.
            self._read = sequence

    def _take(self, manifest: Manifest) -> None:
        number = shard_of(manifest, self._plan_id)
        if number is not None and self._runs.setdefault(number, manifest.run.id) == manifest.run.id:
            self._counts.update(manifest.counts)
