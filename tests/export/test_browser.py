"""The page in a browser, from `file://`: everything is found, heard, read and printed, and nothing hostile runs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from formant_archive.catalogue import Holding, read_catalogue
from formant_archive.export.bag import write_bag
from formant_archive.export.exhibit import Exhibit, show
from formant_archive.records import ArchivedRecording
from formant_archive.simulator import Simulator
from tests import browser, plain
from tests.export import calls
from tests.export.test_page import HOSTILE, hostile, page_of
from tests.stores.memory import MemoryStore

pytestmark = browser.needed

MANY = 5000
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 640}
#: The contrast of each text with what is behind it, as WCAG 2 reckons it; the lowest ones first.
CONTRASTS = """() => {
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    const bright = (color) => {
        const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = parts(color).map((x) => linear(x / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const color = getComputedStyle(one).backgroundColor;
            if ((parts(color)[3] ?? 1) === 1) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const found = [];
    for (const element of document.querySelectorAll("body *:not(script, style, noscript)")) {
        const hasText = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
        if (!hasText || !element.checkVisibility()) continue;
        const [a, b] = [bright(getComputedStyle(element).color), bright(behind(element))];
        found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 80)]);
    }
    return found.sort((one, other) => one[0] - other[0]);
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.opened() as opened:
        yield opened


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    clock, store = plain.Clock(), MemoryStore()
    calls.archive(calls.workspace(clock), store, clock)
    return store


@pytest.fixture(scope="module")
def exhibits(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> list[Exhibit]:
    folder = tmp_path_factory.mktemp("copied")
    return [show(store, one, folder) for one in read_catalogue(store).select()]


@pytest.fixture(scope="module")
def bag(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    calls.bag_of(store, path := tmp_path_factory.mktemp("export") / "a bag #1?")
    return path / "index.html"


@contextmanager
def seen(chromium: Browser, file: Path, size: ViewportSize = DESKTOP, **options: Any) -> Iterator[Page]:
    """Open a page that asks for nothing but files and complains of nothing."""
    context = chromium.new_context(viewport=size, timezone_id="Asia/Kolkata", **options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    watch = browser.Watch(page)
    browser.show(page, file)
    yield page
    assert [one for one in watch.requests if not one.startswith("file://")] == []
    assert watch.complaints == []
    context.close()


def listed(page: Page) -> list[str]:
    return page.locator("#list .id").all_inner_texts()


def open_call(page: Page, exhibit: Exhibit) -> None:
    page.get_by_role("link", name=exhibit.entry.conversation_id).click()
    expect(page.locator("#reading h2")).to_be_visible()


def duration(page: Page) -> float:
    """Wait until the player knows its recording, and give the recording's length."""
    seconds: float = page.locator("audio").evaluate(
        """(audio) => new Promise((known, failed) => {
            if (audio.readyState) known(audio.duration);
            audio.addEventListener("loadedmetadata", () => known(audio.duration));
            audio.addEventListener("error", () => failed(audio.error));
        })"""
    )
    return seconds


def heard(exhibits: list[Exhibit]) -> tuple[Exhibit, float]:
    """Give one that has a recording, and the recording's length."""
    exhibit = next(one for one in exhibits if one.audio_seconds)
    return exhibit, exhibit.audio_seconds or 0


def test_the_page_lists_all_conversations_newest_first(chromium: Browser, bag: Path, exhibits: list[Exhibit]) -> None:
    with seen(chromium, bag) as page:
        assert listed(page) == [one.entry.conversation_id for one in exhibits]
        expect(page.get_by_role("status")).to_contain_text(f"{len(exhibits)} conversations")
        expect(page.get_by_role("heading", name="About this export")).to_be_visible()


def test_a_search_finds_ids_agents_and_words_that_were_said(
    chromium: Browser, bag: Path, exhibits: list[Exhibit]
) -> None:
    def said(exhibit: Exhibit) -> str:
        turns = (exhibit.body or {}).get("transcript") or []
        return "\n".join(one["message"] for one in turns).lower()

    with seen(chromium, bag) as page:
        search = page.get_by_role("searchbox")
        for words, wanted in (
            (exhibits[3].entry.conversation_id.upper(), [exhibits[3]]),
            ("After SIX  evening", [one for one in exhibits if "after six in the evening" in said(one)]),
            ("no such words", []),
        ):
            search.fill(words)
            assert listed(page) == [one.entry.conversation_id for one in wanted]
            expect(page.get_by_role("status")).to_contain_text(f"{len(wanted)} of {len(exhibits)} conversations")
        search.fill("")
        assert len(listed(page)) == len(exhibits)


def test_each_filter_narrows_the_list(chromium: Browser, bag: Path, exhibits: list[Exhibit]) -> None:
    def those(page: Page, **wanted: Any) -> None:
        found = [
            one for one in exhibits if all(str(getattr(one.entry, name)) == value for name, value in wanted.items())
        ]
        assert 0 < len(found) < len(exhibits)
        assert listed(page) == [one.entry.conversation_id for one in found]

    days = sorted({_day(one) for one in exhibits})
    with seen(chromium, bag) as page:
        page.get_by_label("Agent", exact=True).select_option("102")
        those(page, agent_id="102")
        page.get_by_label("Archived", exact=True).select_option("archived")
        those(page, agent_id="102", outcome="archived")
        page.get_by_label("Agent", exact=True).select_option("")
        page.get_by_label("Archived", exact=True).select_option(label="Without recording")
        those(page, outcome="archived_without_recording")
        page.get_by_label("Archived", exact=True).select_option("")
        page.get_by_label("From, UTC").fill(days[1])
        page.get_by_label("To, UTC").fill(days[1])
        assert listed(page) == [one.entry.conversation_id for one in exhibits if _day(one) == days[1]]


def _day(exhibit: Exhibit) -> str:
    return exhibit.entry.record_key.split("date=")[1][:10]


def test_a_filter_by_status_narrows_the_list(chromium: Browser, exhibits: list[Exhibit], tmp_path: Path) -> None:
    busy = replace(exhibits[0], holding=Holding(exhibits[0].entry.model_copy(update={"status": "busy"}), 1))
    page_of(tmp_path, [busy, exhibits[1]])
    with seen(chromium, tmp_path / "index.html") as page:
        page.get_by_label("Status", exact=True).select_option("busy")
        assert listed(page) == [busy.entry.conversation_id]


def test_the_player_knows_the_recording_s_length_and_plays(
    chromium: Browser, bag: Path, exhibits: list[Exhibit]
) -> None:
    exhibit, seconds = heard(exhibits)
    with seen(chromium, bag) as page:
        open_call(page, exhibit)
        assert duration(page) == pytest.approx(seconds, abs=0.01)
        page.locator("audio").focus()
        page.keyboard.press("Space")
        page.locator("audio").evaluate(
            """(audio) => new Promise((heard) => {
                audio.addEventListener("timeupdate", () => audio.currentTime && heard());
            })"""
        )


def test_the_audio_of_an_odd_id_is_found(chromium: Browser, tmp_path: Path) -> None:
    clock, store = plain.Clock(), MemoryStore()
    sim = Simulator(3, 0, now=lambda: clock.ms, audio_seconds=(1, 1))
    for name in ("../x #?%41/हाँ", "new\nline"):
        sim.add(conversation_id=name)
    clock.go(hours=1)
    plain.archive(plain.client_of(sim, clock), store, clock)
    (tmp_path / "bag").mkdir()
    write_bag(store, read_catalogue(store).select(), tmp_path / "bag", calls.ASKED)

    with seen(chromium, tmp_path / "bag/index.html") as page:
        for link in page.locator("#list a").all():
            link.click()
            assert duration(page) == pytest.approx(1, abs=0.01)


def test_a_conversation_shows_who_said_what_and_what_was_archived(
    chromium: Browser, bag: Path, exhibits: list[Exhibit]
) -> None:
    exhibit, _ = heard(exhibits)
    body = exhibit.body or {}
    with seen(chromium, bag) as page:
        open_call(page, exhibit)
        turns = page.locator(".turns li").all()
        assert len(turns) == len(body["transcript"]) > 2
        for shown, said in zip(turns, body["transcript"], strict=True):
            text = shown.inner_text()
            assert said["message"] in text
            assert ("Agent (AI)" in text, "Human" in text) == (said["role"] == "agent", said["role"] == "human")
        text = page.locator("#reading").inner_text()
        for part in (body["contact_number"], body["results"]["intent"], "Asia/Calcutta", "UTC", exhibit.entry.status):
            assert part in text
        assert all(one.sha256 in text for one in exhibit.entry.objects)
        assert page.evaluate("document.activeElement.tagName") == "H2", "a reader of the screen hears what opened"


def test_what_never_came_is_shown_with_the_questions_that_were_asked(
    chromium: Browser, bag: Path, exhibits: list[Exhibit]
) -> None:
    exhibit = next(one for one in exhibits if one.recording_state == "absent")
    assert exhibit.record is not None
    assert not isinstance(exhibit.record.recording, ArchivedRecording)
    with seen(chromium, bag) as page:
        open_call(page, exhibit)
        rows = page.locator(".notice").first.locator("tbody tr").all_inner_texts()
        assert len(rows) == len(exhibit.record.recording.probes) >= 2
        assert all("404" in row and "not_found" in row for row in rows)
        assert page.locator("audio").count() == 0


def test_the_words_that_were_searched_are_marked(chromium: Browser, bag: Path) -> None:
    with seen(chromium, bag) as page:
        page.get_by_role("searchbox").fill("meridian")
        page.locator("#list a").first.click()
        assert set(page.locator("mark").all_inner_texts()) == {"Meridian"}


def test_an_address_with_an_id_opens_that_conversation(chromium: Browser, bag: Path, exhibits: list[Exhibit]) -> None:
    with seen(chromium, bag) as page:
        page.goto(f"{bag.as_uri()}#{exhibits[2].entry.conversation_id}")
        expect(page.locator("#reading .where")).to_have_text(exhibits[2].entry.conversation_id)
        page.get_by_role("link", name="Next").click()
        expect(page.locator("#reading .where")).to_have_text(exhibits[3].entry.conversation_id)
        page.go_back()
        expect(page.locator("#reading .where")).to_have_text(exhibits[2].entry.conversation_id)


@pytest.mark.parametrize("text", [one for one in HOSTILE if "\ud800" not in one])
def test_hostile_text_is_shown_as_text(chromium: Browser, exhibits: list[Exhibit], tmp_path: Path, text: str) -> None:
    page_of(tmp_path, [hostile(exhibits[0], text), exhibits[1]], text)
    shown = re.sub(
        "[\0\x1b\u2028\u2029\u202e]", lambda sign: f"⟨U+{ord(sign[0]):04X}⟩", text
    )  # signs that would reorder or hide what follows
    with seen(chromium, tmp_path / "index.html") as page:
        page.locator("#list a").first.click()
        assert page.locator(".turns p").all_inner_texts() == [shown, shown]
        assert page.locator("#reading .where").inner_text() == shown
        assert page.locator("#reading img, #reading script").count() == 0
        page.get_by_role("searchbox").fill(text[:8])
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("img, #print script, #list script").count() == 0
        assert page.evaluate("document.scripts.length") == 2


def test_a_script_that_gets_into_the_page_does_not_run(
    chromium: Browser, exhibits: list[Exhibit], tmp_path: Path
) -> None:
    page_of(tmp_path, exhibits[:1])
    file = tmp_path / "index.html"
    file.write_text(file.read_text().replace("</body>", "<script>document.title = 'it ran'</script></body>"))
    context = chromium.new_context()
    page = context.new_page()
    browser.show(page, file)

    assert page.title() == "Archived phone conversations"
    context.close()


def test_a_phone_needs_no_scrolling_to_the_side(chromium: Browser, bag: Path, exhibits: list[Exhibit]) -> None:
    with seen(chromium, bag, PHONE) as page:
        wide = "document.documentElement.scrollWidth"
        assert page.evaluate(wide) == PHONE["width"]
        for kind in ("archived", "absent"):
            open_call(page, next(one for one in exhibits if one.recording_state == kind))
            assert page.evaluate(wide) == PHONE["width"]
            page.get_by_role("link", name="Overview").click()


def test_a_phone_copes_with_long_words(chromium: Browser, exhibits: list[Exhibit], tmp_path: Path) -> None:
    page_of(tmp_path, [hostile(exhibits[0], "x" * 5000)])
    with seen(chromium, tmp_path / "index.html", PHONE) as page:
        page.locator("#list a").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_printing_prints_the_listed_conversations_with_their_transcripts_and_no_controls(
    chromium: Browser, bag: Path, exhibits: list[Exhibit]
) -> None:
    wanted = [one for one in exhibits if str(one.entry.agent_id) == "102"]
    with seen(chromium, bag) as page:
        page.get_by_label("Agent", exact=True).select_option("102")
        page.evaluate("addEventListener('beforeprint', () => { window.printed = document.body.innerText })")
        page.evaluate(
            "addEventListener('beforeprint', () => { window.players = document.querySelectorAll('audio').length })"
        )
        page.emulate_media(media="print")
        printed = page.pdf()

        text = page.evaluate("window.printed")
        assert printed.count(b"/Type /Page\n") > len(wanted)
        for exhibit in exhibits:
            assert (exhibit.entry.conversation_id in text) == (exhibit in wanted)
        for exhibit in wanted:
            for turn in (exhibit.body or {}).get("transcript") or []:
                assert turn["message"] in text
        assert "About this export" in text
        assert "Search" not in text
        assert page.evaluate("window.players") == 0, "5,000 players would read 5,000 files"
        assert page.locator("#print article").count() == 0, "what was made for the print is gone again"


def test_the_page_is_used_with_keys_alone(chromium: Browser, bag: Path, exhibits: list[Exhibit]) -> None:
    with seen(chromium, bag) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the conversation"
        expect(page.get_by_text("Skip to the conversation")).to_be_in_viewport()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.type(exhibits[5].entry.conversation_id)
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#list') !== null"):
                break
        page.keyboard.press("Enter")
        expect(page.locator("#reading .where")).to_have_text(exhibits[5].entry.conversation_id)


def test_each_control_has_a_name_and_each_part_of_the_page_is_a_landmark(chromium: Browser, bag: Path) -> None:
    with seen(chromium, bag) as page:
        unnamed = "[...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length"
        assert page.evaluate(unnamed) == 0
        for role in ("banner", "navigation", "search", "main", "status"):
            assert page.get_by_role(role).count() == 1
        assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(
    chromium: Browser, exhibits: list[Exhibit], tmp_path: Path, scheme: str
) -> None:
    absent = next(one for one in exhibits if one.recording_state == "absent")
    page_of(tmp_path, [replace(absent, damage=("recording.wav is missing",)), *exhibits])
    with seen(chromium, tmp_path / "index.html", color_scheme=scheme) as page:
        lowest = page.evaluate(CONTRASTS)
        page.locator("#list a").first.click()
        lowest += page.evaluate(CONTRASTS)
        assert len(lowest) > 50
        assert [one for one in lowest if one[0] < 4.5] == []


def test_without_javascript_the_page_says_where_the_files_are(chromium: Browser, bag: Path) -> None:
    with seen(chromium, bag, java_script_enabled=False) as page:
        text = page.locator("body").inner_text()
        assert "data/index.csv" in text
        assert "data/conversations/" in text
        assert "recording.wav" in text
        assert page.get_by_role("searchbox").count() == 0
        page.get_by_role("link", name="data/conversations/").click()
        assert page.url.endswith("/data/conversations/")


def test_thousands_of_conversations_open_and_are_searched_with_little_work(
    chromium: Browser, exhibits: list[Exhibit], tmp_path: Path
) -> None:
    def copy(number: int) -> Exhibit:
        one = exhibits[number % len(exhibits)]
        entry = one.entry.model_copy(update={"conversation_id": f"call-{number:05}"})
        return replace(one, holding=Holding(entry, 1))

    page_of(tmp_path, [copy(number) for number in range(MANY)])
    with seen(chromium, tmp_path / "index.html") as page:
        expect(page.get_by_role("status")).to_contain_text("5,000 conversations")
        assert page.evaluate("document.querySelectorAll('*').length") < 1500
        page.evaluate(
            """() => {
                window.added = 0;
                const count = (records) => { for (const one of records) window.added += one.addedNodes.length; };
                new MutationObserver(count).observe(document.body, {childList: true, subtree: true});
            }"""
        )
        page.get_by_role("searchbox").fill("meridian")
        expect(page.locator("#list li")).to_have_count(100)
        assert page.evaluate("window.added") < 300
        page.get_by_role("searchbox").fill("call-04321")
        assert listed(page) == ["call-04321"]
        page.get_by_role("searchbox").fill("")
        page.get_by_role("button", name="Show 100 more").click()
        expect(page.locator("#list li")).to_have_count(200)
