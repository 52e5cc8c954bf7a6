"""A flow on a terminal: Prefect kept quiet, progress shown, the final state turned into one line and an exit code."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)

from formant_archive import cli
from formant_archive.errors import ServerUnavailable, UsageError
from formant_archive.settings import current_settings
from tasks import connections

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer


def run(flow: Flow[Any, Any], *, needs_key: bool = True, **parameters: Any) -> int:
    """Run a flow here and now; give its exit code.

    Args:
        flow: The flow.
        needs_key: Whether it asks the API for anything.
        parameters: The flow's.

    Raises:
        UsageError: A setting or parameter is missing or wrong; it is said before Prefect starts anything.
        ServerUnavailable: PREFECT_API_URL names a server that does not answer.
    """
    with quiet():
        check_parameters(flow, parameters)
    settings = current_settings()
    if needs_key and settings.formant_api_key is None and not PREFECT_API_URL.value():
        raise UsageError("FORMANT_API_KEY is not set. Set it in the environment or in .env")
    connections.check(settings)
    # Before anything can interrupt: half an import can neither be used nor done again.
    server = None if PREFECT_API_URL.value() else temporary_server()
    # A process that ends at once would leave its temporary server behind.
    stop = no_server if server is None else server.stop
    with cli.stoppable(stop) as listen, quiet(), cli.ProgressLines() as lines, shown_by(lines):
        if server is None:
            check_server()
        else:
            start(server)
        # When a run begins, Prefect takes SIGTERM for itself: it would wait for all tasks and leave its server behind.
        ours = flow.with_options(on_running=[listen])
        state: State[Any] = ours(**parameters, return_state=True)  # type: ignore[assignment]  # Prefect's own hints
    code = exit_code(state)
    cli.end(state.message or str(state.name), code)
    return code


def exit_code(state: State[Any]) -> int:
    """Give the exit code of a flow that ended in a state.

    Where Prefect's server took the state and its answer got lost, what the second one brings back has no data.
    """
    counts = getattr(state.data, "result", state.data)
    return int(counts["exit_code"]) if isinstance(counts, dict) else int(not state.is_completed())


def check_parameters(flow: Flow[Any, Any], parameters: dict[str, Any]) -> None:
    """Refuse what Prefect would refuse, in one line that names the options.

    Raises:
        UsageError: A parameter is out of range, or of another type.
    """
    try:
        flow.validate_parameters(parameters)
    except ParameterTypeError as fault:
        _, *wrong = str(fault).split("\n - ")
        parts = [one.partition(": ") for one in wrong]
        raise UsageError(
            "; ".join(f"--{name.replace('_', '-')}: {said[:1].lower()}{said[1:]}" for name, _, said in parts)
        ) from None


def check_server() -> None:
    """See that Prefect's server answers: a flow would find out after half a minute, with sixty lines.

    Raises:
        ServerUnavailable: It does not.
    """
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}), get_client(sync_client=True) as client:
        fault = client.api_healthcheck()
    if fault is not None:
        raise ServerUnavailable(
            "Prefect's server does not answer: is PREFECT_API_URL right, and is it up? Left empty, a run needs none"
        )


def temporary_server() -> "SubprocessASGIServer":
    """Give this process's own server, not started yet."""
    # Here, because it takes more than half the time of all imports, and a deployment needs none.
    from prefect.server.api.server import SubprocessASGIServer

    return SubprocessASGIServer()


def start(server: "SubprocessASGIServer") -> None:
    """Start Prefect's temporary server, deaf to Ctrl-C.

    A terminal sends that to every process at once, and a flow whose server is gone goes on asking for it for minutes.

    Raises:
        UsageError: It did not start in a minute.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start(timeout=60)
    except RuntimeError as fault:
        raise UsageError(f"Prefect's temporary server did not start, set PREFECT_API_URL to another: {fault}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def no_server() -> None:
    """Stop nothing: the server is another process's."""


@contextmanager
def shown_by(lines: logging.Handler) -> Iterator[None]:
    """Show what a flow says of its progress."""
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Prefect's own lines off the terminal; its API gets them all the same."""
    for name in ("", "prefect"):
        for handler in logging.getLogger(name).handlers:
            handler.setLevel(logging.CRITICAL + 1)
    settings = {
        PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        # An empty address means none; Prefect's event client takes it for one, and fails.
        PREFECT_API_URL: PREFECT_API_URL.value() or None,
    }
    with temporary_settings(settings):
        yield
