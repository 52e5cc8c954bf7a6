"""The page as a file: data in it is data, and the policy names what may run."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from formant_archive.catalogue import Holding, read_catalogue
from formant_archive.export.cover import Cover, Damaged, Tally
from formant_archive.export.exhibit import Exhibit, show
from formant_archive.export.page import PAGE, Page
from formant_archive.export.payload import File
from tests import plain
from tests.export import calls
from tests.stores.memory import MemoryStore

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "\u2028\u2029",
    "\u202egnp.exe",
    "]]>&lt;'`${7*7}",
    "\0\x1b[31m",
    "\ud800",
)


class Parts(HTMLParser):
    """The elements of a page, and the text inside of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._is_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts.append(data)


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    clock, store = plain.Clock(), MemoryStore()
    calls.archive(calls.workspace(clock), store, clock)
    return store


@pytest.fixture
def exhibits(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> list[Exhibit]:
    folder = tmp_path_factory.mktemp("copied")
    return [show(store, one, folder) for one in read_catalogue(store).select()]


def cover_of(tally: Tally, selection: str = "everything") -> Cover:
    asked = replace(calls.ASKED, selection=selection)
    return Cover("an-archive", "https://api.example", "3:abc", "data/manifests/3.json", asked, tally)


def page_of(folder: Path, exhibits: list[Exhibit], selection: str = "everything") -> str:
    """Write the page of exhibits and give its text."""
    tally = Tally()
    with Page() as page:
        for exhibit in exhibits:
            page.add(exhibit)
            tally.add(exhibit)
        page.write(folder, cover_of(tally, selection))
    return (folder / PAGE).read_text(encoding="utf-8")


def data_of(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Parts(text).scripts[0], parse_constant=int)
    return found


def hostile(exhibit: Exhibit, text: str) -> Exhibit:
    """Say it wherever the API can; there is no file to be heard."""
    entry = exhibit.entry.model_copy(update={"conversation_id": text, "agent_id": text, "status": text})
    body = {
        "transcript": [{"role": text, "message": text}, text],
        "results": {text: text},
        "contact_number": text,
        "trace_id": text,
    }
    assert exhibit.record is not None
    record = exhibit.record.model_copy(update={"remarks": (text,)})
    return Exhibit(Holding(entry, 1), record, body, (), (text,))


def test_the_page_says_of_each_conversation_what_was_archived(exhibits: list[Exhibit], tmp_path: Path) -> None:
    for sheet, exhibit in zip(data_of(page_of(tmp_path, exhibits)), exhibits, strict=True):
        body, record = exhibit.body, exhibit.record
        assert body is not None
        assert record is not None
        assert sheet["id"] == exhibit.entry.conversation_id
        assert sheet["turns"] == [[one["role"], one["message"]] for one in body["transcript"] or []]
        assert dict(sheet["results"]) == {name: str(value) for name, value in body["results"].items()}
        assert ["Phone number", body["contact_number"]] in sheet["details"]
        assert sheet["recording"]["state"] == record.recording.state
        assert {(name, sha256) for name, _, _, sha256 in sheet["files"]} == {
            (file.path.rpartition("/")[2], file.sha256) for file in exhibit.files
        }


def test_each_address_is_that_of_a_file_of_the_bag(store: MemoryStore, tmp_path: Path) -> None:
    calls.bag_of(store, tmp_path / "bag")

    sheets = data_of((tmp_path / "bag/index.html").read_text())
    addresses = [url for sheet in sheets for _, url, _, _ in sheet["files"]]
    assert len(addresses) > 2 * len(sheets)
    assert all((tmp_path / "bag" / unquote(url)).is_file() for url in addresses)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_data_and_never_markup(exhibits: list[Exhibit], tmp_path: Path, text: str) -> None:
    calm, hostiles = tmp_path / "calm", tmp_path / "hostile"
    calm.mkdir()
    hostiles.mkdir()
    usual = Parts(page_of(calm, [hostile(exhibits[0], "calm")], "calm"))

    page = page_of(hostiles, [hostile(exhibits[0], text)], text)

    assert Parts(page).elements == usual.elements
    [sheet] = data_of(page)
    assert sheet["turns"] == [[text, text], ["", text]]
    assert (sheet["id"], sheet["agent"], sheet["status"]) == (text, text, text)
    assert sheet["results"] == [[text, text]]
    assert (sheet["remarks"], sheet["damage"]) == ([text], [text])


def test_the_policy_allows_the_page_s_own_script_and_style_and_no_network(tmp_path: Path) -> None:
    page = page_of(tmp_path, [])
    policy = next(
        attributes["content"] or ""
        for tag, attributes in Parts(page).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page)
    assert not re.search(r"\son[a-z]+\s*=", page.partition("<script")[0])
    assert "url(" not in page


@pytest.mark.parametrize("results", [None, [], [1, "two"], "text", {"a": {"b": [1, None]}}, {"n": 10**30}, {"n": -0.5}])
def test_results_of_any_form_are_shown(exhibits: list[Exhibit], tmp_path: Path, results: object) -> None:
    [sheet] = data_of(page_of(tmp_path, [replace(exhibits[0], body={"results": results})]))

    shown = [value if isinstance(value, str) else json.dumps(value) for value in [results]]
    if isinstance(results, dict):
        shown = [json.dumps(value) for value in results.values()]
    assert [text for _, text in sheet["results"]] == ([] if results is None else shown)


def test_numbers_that_a_browser_cannot_hold_are_text(exhibits: list[Exhibit], tmp_path: Path) -> None:
    entry = exhibits[0].entry.model_copy(update={"agent_id": 2**60 + 1, "start_timestamp": 10**30})
    [sheet] = data_of(page_of(tmp_path, [replace(exhibits[0], holding=Holding(entry, 1))]))

    assert (sheet["agent"], sheet["start"]) == (str(2**60 + 1), str(10**30))


def test_a_recording_that_is_not_in_the_bag_has_no_address(exhibits: list[Exhibit], tmp_path: Path) -> None:
    [sheet] = data_of(page_of(tmp_path, [replace(exhibits[0], files=(), damage=("recording.wav is missing",))]))

    assert sheet["recording"]["url"] == ""
    assert {url for _, url, _, _ in sheet["files"]} == {""}


def test_the_cover_names_what_is_not_whole(exhibits: list[Exhibit], tmp_path: Path) -> None:
    tally = Tally(damaged=[Damaged(f"id-{number}", ("it is missing",)) for number in range(150)])
    with Page() as page:
        page.write(tmp_path, cover_of(tally))
    text = (tmp_path / PAGE).read_text()

    assert "150 conversations are not whole" in text
    assert "id-99</bdi>: it is missing" in text
    assert "id-100" not in text


def test_an_address_is_percent_encoded(exhibits: list[Exhibit], tmp_path: Path) -> None:
    exhibit = next(one for one in exhibits if one.recording)
    key = 'conversations/agent_id=1/date=x/a #?"&b/recording.wav'
    files = (File(f"data/{key}", 1, "", ""),)
    objects = tuple(one.model_copy(update={"key": key}) for one in exhibit.entry.objects[-1:])
    entry = exhibit.entry.model_copy(update={"objects": objects})
    [sheet] = data_of(page_of(tmp_path, [replace(exhibit, holding=Holding(entry, 1), files=files)]))

    assert sheet["recording"]["url"] == "data/conversations/agent_id=1/date=x/a%20%23%3F%22%26b/recording.wav"
