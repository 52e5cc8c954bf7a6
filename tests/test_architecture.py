"""The dependency rules of docs/architecture.md: who may know whom, who touches the outside, how files are called."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = "formant_archive"

# What each part may import: of this project, and of the libraries under guard.
# A part that is not in the table may not exist.
GUARDED = {"prefect", "httpx", "boto3", "botocore"}
RECORDS = {"errors", "records"}
RULES = RECORDS | {"keys", "policy", "manifest"}
MAY_IMPORT: dict[str, set[str]] = {
    # The words
    "__init__": set(),
    "errors": set(),
    "policy": RECORDS | {"retention"},
    "records": {"errors"},
    "keys": RECORDS,
    "retention": RECORDS,
    "conversation": RECORDS,
    # The rules
    "manifest": RECORDS | {"keys"},
    "listing": RECORDS | {"manifest", "notes"},
    "settlement": RECORDS | {"policy"},
    "wav": RECORDS,
    "summary": {"records"},
    "metrics": set(),
    "notes": set(),
    # The outside: the client and what only it uses; the stores
    "patience": {"errors"},
    "pacing": {"errors"},
    "body": {"errors", "pacing", "patience"},
    "page": RECORDS | {"patience"},
    "client": RECORDS | {"__init__", "body", "pacing", "page", "patience", "httpx"},
    "stores": {"errors", "boto3", "botocore"},
    # The work
    "findings": RECORDS,
    "capture": RULES | {"conversation", "settlement", "wav", "client", "stores"},
    "register": RULES | {"stores"},
    "ledger": RULES | {"register", "stores"},
    "race": RULES | {"ledger", "register", "stores"},
    "crew": set(),
    "catalogue": RULES | {"ledger", "register", "stores"},
    "dossier": RULES | {"catalogue", "conversation", "register", "stores"},
    "advance": RULES | {"listing"},
    "custody": RULES | {"catalogue", "ledger", "register", "stores"},
    "erasure": RULES | {"catalogue", "custody", "ledger", "register", "stores"},
    "harvest": RULES | {"notes"},
    "folders": RULES,
    "plan": RULES | {"folders", "ledger", "listing", "run"},
    "worklists": RULES | {"ledger", "plan", "stores"},
    "backfill": RULES | {"plan", "worklists"},
    "run": RULES | {"advance", "folders", "harvest", "listing", "settlement", "ledger", "summary"},
    # What a user types and sees
    "settings": {"errors", "policy", "retention"},
    "status": RULES | {"catalogue", "crew", "ledger", "metrics", "settlement", "stores"},
    "verify": RULES | {"catalogue", "findings", "register", "stores"},
    "audit": RULES | {"catalogue", "findings", "ledger", "listing", "register", "stores", "verify"},
    "export": RULES | {"catalogue", "conversation", "dossier", "ledger", "register", "stores"},
    "doctor": RULES | {"client", "race", "register", "stores"},
    "simulator": set(),
    "cli": RECORDS
    | {
        "__init__",
        "catalogue",
        "conversation",
        "crew",
        "custody",
        "erasure",
        "dossier",
        "export",
        "findings",
        "keys",
        "ledger",
        "manifest",
    }
    | {"doctor", "metrics", "settings", "simulator", "status", "stores", "verify"},
    # Prefect
    "tasks": RULES
    | {"settings", "settlement", "client", "stores", "capture", "register", "ledger", "listing", "run", "crew"}
    | {"audit", "plan", "race", "verify", "worklists", "prefect"},
    "flows": RECORDS
    | {
        "__init__",
        "listing",
        "audit",
        "backfill",
        "plan",
        "manifest",
        "page",
        "settings",
        "settlement",
        "run",
        "summary",
        "verify",
        "cli",
        "tasks",
    }
    | {"prefect"},
}
#: No I/O, no clock, no environment: time comes in as an argument.
PURE = {"errors", "policy", "records", "keys", "manifest", "listing", "settlement", "wav", "summary"}
PURE |= {"retention", "advance", "conversation", "findings", "folders", "harvest", "metrics", "notes"}
MAY_BE_IMPORTED_BY_THE_PURE = {
    *("array", "ast", "bisect", "collections", "dataclasses", "datetime", "enum", "functools", "gzip", "hashlib"),
    *("itertools", "json", "math", "re", "struct", "sys", "typing", "zlib", "pydantic", CORE),
}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "sleep"}
#: What starts threads or processes: whole libraries, and names that may come from one that also has locks.
THREADED = {"concurrent", "multiprocessing", "_thread", "asyncio"}
STARTERS = {
    *("Thread", "Timer", "ThreadPool", "ThreadPoolExecutor", "ProcessPoolExecutor"),
    *("start_new_thread", "to_thread", "run_in_executor"),
}
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "lib", "shared", "stuff"}

FILES = [path for part in (CORE, "tasks", "flows") for path in sorted((ROOT / part).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(path: Path) -> str:
    """Name the module that a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(path: Path) -> str:
    """Name the part that a file belongs to: a core module or package, `tasks` or `flows`."""
    inside = path.relative_to(ROOT).with_suffix("").parts
    return inside[1] if inside[0] == CORE else inside[0]


def imported(tree: ast.AST, module: str = "") -> Iterator[str]:
    """Name all that is imported, wherever in the file, down to the single name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(path: Path) -> set[str]:
    """Name the parts and guarded libraries that a file imports."""
    found = set()
    for name in imported(TREES[path], name_of(path)):
        top, *rest = name.split(".")
        if top == CORE:
            found.add(rest[0] if rest and rest[0] in MAY_IMPORT else "__init__")
        elif top in GUARDED | {"tasks", "flows"}:
            found.add(top)
    return found


def chain(node: ast.AST) -> str:
    """Spell `a.b.c`; empty where it is something else."""
    if isinstance(node, ast.Attribute):
        before = chain(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def names_used(tree: ast.AST) -> set[str]:
    """Name all names and attributes that are read, each as far as it is spelled out."""
    return {chain(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)} - {""}


def calls(tree: ast.AST) -> set[str]:
    return {chain(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)} - {""}


each_file = pytest.mark.parametrize("path", FILES, ids=name_of)


# Who may know whom


@each_file
def test_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} is not in the table"

    assert parts_imported(path) - {part} <= MAY_IMPORT[part]


def test_the_table_itself_keeps_the_rules() -> None:
    core = {part: known for part, known in MAY_IMPORT.items() if part not in {"tasks", "flows"}}

    assert not any(known & {"prefect", "tasks", "flows"} for known in core.values())
    assert not MAY_IMPORT["flows"] & {"httpx", "boto3", "botocore", "client", "stores"}
    assert not MAY_IMPORT["tasks"] & {"httpx", "boto3", "botocore", "flows", "cli"}
    assert [part for part in MAY_IMPORT if "httpx" in MAY_IMPORT[part]] == ["client"]
    assert [part for part in MAY_IMPORT if "boto3" in MAY_IMPORT[part]] == ["stores"]
    assert "stores" not in MAY_IMPORT["client"]
    assert MAY_IMPORT["stores"] <= {"errors", "boto3", "botocore"}
    assert not (MAY_IMPORT["verify"] | MAY_IMPORT["export"]) & {"client"}
    assert not any(MAY_IMPORT[part] & (GUARDED | {"stores", "client", "settings"}) for part in PURE)
    assert not any(part in MAY_IMPORT["simulator"] for part in MAY_IMPORT), "it knows nothing of the archive"


def test_nothing_that_runs_by_itself_can_release_or_remove() -> None:
    """Only what a person calls knows the verbs: a run's code has no way to delete, whatever its role may do."""
    verbs = "formant_archive.stores.custody"
    who = {part_of(path) for path, tree in TREES.items() if any(one.startswith(verbs) for one in imported(tree))}
    removes = {"delete_object", "delete_objects", "unlink", "remove", "rmdir", "rmtree"}
    found = {name_of(path) for path, tree in TREES.items() if removes & {one.rpartition(".")[2] for one in calls(tree)}}

    assert who == {"custody", "erasure", "cli"}
    assert {part for part in MAY_IMPORT if MAY_IMPORT[part] & {"custody", "erasure"}} == {"erasure", "cli"}
    # A folder's store unlinks its own temporary files; the doctor asks whether it may delete names that it made up.
    assert {one for one in found if "/stores/" in one} == {
        "formant_archive/stores/bucket.py",
        "formant_archive/stores/custody.py",
        "formant_archive/stores/directory.py",
    }


def graph(of: Callable[[Path], str]) -> dict[str, set[str]]:
    """Who imports whom, lazy imports and those for type checking included; named as `of` says."""
    names = {dotted(path): of(path) for path in FILES}
    found: dict[str, set[str]] = {of(path): set() for path in FILES}
    for path in FILES:
        for name in imported(TREES[path]):
            module = name if name in names else name.rpartition(".")[0]
            if module in names:
                found[of(path)].add(names[module])
    return {one: others - {one} for one, others in found.items()}


def cycle(of: Callable[[Path], str]) -> list[str]:
    try:
        TopologicalSorter(graph(of)).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


def test_no_part_imports_itself_over_others() -> None:
    assert cycle(part_of) == []


def test_no_module_imports_itself_over_others() -> None:
    assert cycle(dotted) == []


# Who touches the outside


@pytest.mark.parametrize("path", [path for path in FILES if part_of(path) in PURE], ids=name_of)
def test_a_pure_part_does_no_io_and_reads_no_clock_or_environment(path: Path) -> None:
    tree = TREES[path]

    assert {name.split(".")[0] for name in imported(tree)} <= MAY_BE_IMPORTED_BY_THE_PURE
    assert not {name for name in imported(tree) if name.startswith("sys.") and name != "sys.intern"}
    assert not calls(tree) & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "gzip.open"}
    assert not {name for name in names_used(tree) if name.startswith(("sys.", "gzip.GzipFile", "gzip.open"))}
    # A clock's attribute may bear such a name (`reference.time`): only a call or a known owner reads a clock.
    assert not {name for name in calls(tree) if name.rpartition(".")[2] in CLOCKS}


def test_nothing_that_a_run_uses_of_the_core_starts_a_thread() -> None:
    """The simulation interleaves runs in one thread, see ADR 10."""
    threaded = {
        part_of(path)
        for path, tree in TREES.items()
        if THREADED & {name.split(".")[0] for name in imported(tree)}
        or STARTERS & {name.rpartition(".")[2] for name in {*imported(tree), *names_used(tree)}}
    }

    assert threaded == {"crew", "simulator"}


def test_every_pure_part_exists() -> None:
    assert {part_of(path) for path in FILES} >= PURE


@each_file
def test_only_settings_reads_the_environment(path: Path) -> None:
    if part_of(path) == "settings":
        return
    tree = TREES[path]
    reads = {"environ", "environb", "getenv", "getenvb", "expandvars", "expanduser", "load_dotenv", "dotenv_values"}

    # A bare `environ` is WSGI's own word for a request; one that is imported is found below.
    assert not {name for name in names_used(tree) if name.rpartition(".")[2] in reads} - {"environ"}
    assert not {name for name in imported(tree) if name.rpartition(".")[2] in reads}
    assert not {name for name in imported(tree) if name.split(".")[0] in {"dotenv", "pydantic_settings"}}


@each_file
def test_only_cli_prints_and_exits(path: Path) -> None:
    if part_of(path) == "cli":
        return
    tree = TREES[path]

    assert not {name for name in imported(tree) if name.split(".")[0] in {"rich", "cyclopts", "argparse", "click"}}
    assert not calls(tree) & {"print", "exit", "quit", "sys.exit", "os._exit", "Console", "os.abort"}
    assert not {name for name in names_used(tree) if name.startswith(("sys.stdout", "sys.stderr", "sys.__std"))}
    assert not {name for name in names_used(tree) if name in {"SystemExit", "KeyboardInterrupt"}}


@each_file
def test_other_libraries_errors_are_named_only_where_they_are_caught(path: Path) -> None:
    owners = {"httpx": "client", "botocore": "stores", "boto3": "stores", "urllib3": "stores"}

    found = {name.split(".")[0] for name in imported(TREES[path])} & owners.keys()

    assert {owners[name] for name in found} <= {part_of(path)}


# How files are made


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "flows")], ids=name_of)
def test_no_class_is_defined_in_flows(path: Path) -> None:
    assert not [node.name for node in ast.walk(TREES[path]) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "tasks")], ids=name_of)
def test_no_class_is_defined_in_tasks(path: Path) -> None:
    assert not [node.name for node in ast.walk(TREES[path]) if isinstance(node, ast.ClassDef)]


def test_flows_are_imported_without_prefects_server() -> None:
    """It takes more than half the time of all imports, in every scheduled run."""
    flows = ", ".join(f"flows.{path.stem}" for path in sorted((ROOT / "flows").glob("[a-z]*.py")))
    names = [sys.executable, "-c", f"import sys, {flows}; print(*sys.modules)"]
    loaded = subprocess.run(names, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout.split()

    assert "flows.archive" in loaded
    assert [name for name in loaded if name.startswith("prefect.server.api")] == []


def test_no_flow_and_no_task_shadows_a_package() -> None:
    # Prefect loads a file entrypoint under its bare stem, with its folder first on sys.path.
    stems = {path.stem for path in FILES if not path.is_relative_to(ROOT / CORE)} - {"__init__"}

    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert not stems & ours
    assert not stems & sys.stdlib_module_names
    assert not stems & packages_distributions().keys()


@each_file
def test_a_file_is_named_for_what_is_in_it(path: Path) -> None:
    assert not SAYS_NOTHING & {*path.relative_to(ROOT).with_suffix("").parts}


@each_file
def test_a_module_opens_with_its_job(path: Path) -> None:
    said = ast.get_docstring(TREES[path])

    assert said
    assert said.splitlines()[0].endswith((".", ":", "?"))


@each_file
def test_nothing_is_imported_by_star(path: Path) -> None:
    assert not {name for name in imported(TREES[path]) if name.endswith(".*")}


def test_flows_tasks_and_core_are_there() -> None:
    assert {dotted(path).split(".")[0] for path in FILES} == {CORE, "tasks", "flows"}
    assert len(FILES) > 20
