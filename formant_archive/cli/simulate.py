"""`formant-archive simulate`: a FormantAI Voice API on this machine."""

import json
import time
from typing import Annotated, Literal, NoReturn

from cyclopts import Parameter, validators

from formant_archive.cli import Json, err, out
from formant_archive.errors import UsageError
from formant_archive.simulator import Simulator

Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65_535))]
Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=0))]


def run_simulate(
    *,
    port: Port = 8080,
    seed: int = 0,
    conversations: Count = 250,
    order: Literal["newest_first", "oldest_first", "shuffled"] = "newest_first",
    late_recordings: Share = 0.0,
    never_recordings: Share = 0.0,
    late_transcripts: Share = 0.0,
    late_after: float | None = None,
    in_progress: Count = 0,
    faults: Share = 0.0,
    rate_limit: int | None = None,
    arrivals: float = 0.0,
    as_json: Json = False,
) -> None:
    """Serve a simulated FormantAI Voice API on this machine until Ctrl-C; its key is `simulated-key`.

    Args:
        port: Where, on 127.0.0.1; 0 takes a free one.
        seed: Everything follows from it.
        conversations: How many calls there were.
        order: How the list is sorted.
        late_recordings: Share of the completed calls whose recording comes late.
        never_recordings: Share of the completed calls that have no recording, ever.
        late_transcripts: Share of the completed calls whose transcript comes late.
        late_after: Seconds until everything late is there; without it, it never comes.
        in_progress: Calls that go on until everything late is there.
        faults: Share of the requests that fail: half of them 503, a fourth HTML, a fourth cut off.
        rate_limit: Requests a minute.
        arrivals: New calls a minute.
        as_json: Say where it is as JSON.
    """
    try:
        sim = Simulator(
            seed,
            conversations,
            order=order,
            late_recordings=late_recordings,
            never_recordings=never_recordings,
            late_transcripts=late_transcripts,
            in_progress=in_progress,
            rate_limit=rate_limit,
        )
    except ValueError as fault:
        raise UsageError(f"there is no such workspace: {fault}") from None
    if faults:
        sim.fault(share=faults / 2, status=503)
        sim.fault(share=faults / 4, body=b"<html>proxy error</html>", content_type="text/html")
        sim.fault(share=faults / 4, truncate_to=100)
    try:
        with sim.serve(port) as url:
            if as_json:
                out.print(json.dumps({"FORMANT_BASE_URL": url, "FORMANT_API_KEY": "simulated-key"}), markup=False)
            else:
                out.print(f"FORMANT_BASE_URL={url}\nFORMANT_API_KEY=simulated-key", markup=False)
            _let_calls_happen(sim, late_after, arrivals)
    except OSError as fault:
        raise UsageError(f"port {port} cannot be served: {fault.strerror}; take another with --port") from None


def _let_calls_happen(sim: Simulator, late_after: float | None, arrivals: float) -> NoReturn:
    """Let time pass in the simulated workspace, and say each minute what was asked of it."""
    began = said = time.monotonic()
    arrived = 0
    while True:
        time.sleep(0.2)
        now = time.monotonic()
        if late_after is not None and now - began >= late_after:
            sim.release()
            late_after = None
            err.print("everything late is there now")
        if (due := int((now - began) * arrivals / 60) - arrived) > 0:
            sim.add(due)
            arrived += due
        if now - said >= 60:
            said = now
            err.print(f"{sim.count():,} requests so far")
