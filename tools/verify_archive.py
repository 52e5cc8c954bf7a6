"""Checks an archive without anything of ours: `python verify_archive.py FOLDER [--expect-head 42:sha256]`.

Written from docs/archive-format.md; needs Python 3.11 alone. It prints each finding and a verdict: VALID (exit code 0),
DAMAGED (1), or UNVERIFIED (3): something could not be read. Checked are the chain, with the head that was noted, and
that each part, record and payload that is named is there, as documented, with its hash and size, or erased as the head
says. docs/verify.md tells what `formant-archive verify` finds beyond. Nothing is written or opened outside.
"""

import argparse
import gzip
import json
import os
import re
import sqlite3
import zlib
from hashlib import file_digest, sha256
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]
FOLDER = r"(?a)(conversations/agent_id=[\w.%~-]{1,200}/date=(?:unknown|\d{4}-\d\d-\d\d)/(?!\.\.?/)([\w.%~-]{1,200})/)"
RECORD, PAYLOAD = FOLDER + r"record(\.2)?\.json", FOLDER + r"(conversation(\.2)?\.json|recording\.wav)"
MANIFEST, PART, HASH = r"(?!0{20})([0-9]{20})\.json", r"manifests/parts/[0-9a-f]{64}\.jsonl\.gz", "[0-9a-f]{64}"
KINDS, MOST = ("run", "backfill", "audit", "hold", "erasure"), 1 << 24  # bytes of a manifest, a record or a line
Odd = (ValueError, TypeError, KeyError, AttributeError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile)


def demand(*facts: object) -> None:
    """Raise ValueError where one of these is not so."""
    if not all(facts):
        raise ValueError


def parsed(body: bytes, form: str | None, end: str = "") -> Json:
    """Read canonical JSON of a format, about an archive or a conversation; one of `Odd` where it is none."""
    value: Json = json.loads(body.decode())
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + end
    demand(text.encode() == body, value.get("format") == form, value.get("archive_id") or value["conversation_id"])
    return value


def own_folder(pattern: str, key: str, name: str) -> str:
    """Give the folder that a key lies in; empty where that is not the own one of the conversation of this name."""
    spelt = name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="").replace("~", "%7E")
    if len(spelt) > 200:
        spelt = re.sub("%.?$", "", spelt[:100]) + "~" + sha256(name.encode()).hexdigest()
    return found[1] if (found := re.fullmatch(pattern, key)) and found[2] == spelt else ""


class Check:
    """One look at one archive."""

    def __init__(self, root: str) -> None:
        self.root, self.head, self.first, self.found = os.path.realpath(root), "none", Json(), set[str]()
        self.seen = sqlite3.connect("").execute("CREATE TABLE seen (kind, what, PRIMARY KEY (kind, what))")

    def say(self, code: str, key: str, what: str) -> None:
        """Report a finding; that a payload is missing only after the head, read last, has said what is erased."""
        if code != "P001" or not self.is_new(key, "!lost"):
            self.found.add(severity := "unverified" if code[0] == "U" else "damage")
            print(f"{code} {severity} {json.dumps(key)[1:-1]}: expected {what}")

    def is_new(self, what: object, kind: str = "object") -> bool:
        """Say whether something is seen for the first time."""
        return self.seen.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (kind, repr(what))).rowcount == 1

    def read(self, link: Json, codes: str, look: Any = None, *given: object) -> bytes | None:
        """Check what a link names, and look into it; give what could be read of it, of a manifest or a record all."""
        key, path, (missing, altered, odd) = link["key"], os.path.join(self.root, link["key"]), codes.split()
        body, is_kept = None, altered in ("C002", "R002")
        try:
            length = os.stat(path).st_size
            # A link could lead out of the folder, and a pipe would never end.
            if os.path.realpath(path) != path or not os.path.isfile(path) or (is_kept and length > MOST):
                self.say("U001", key, "a plain file of a size that can be, found something else")
            elif length != link.get("size", length):
                self.say("P003", key, f"the size that was named, found {length}")
            else:
                with open(path, "rb") as file:
                    body = file.read(length if is_kept else 0)
                    found = (sha256(body) if is_kept else file_digest(file, "sha256")).hexdigest()
                if altered != "C002" and (found != link["sha256"] or (altered == "C008" and found not in key)):
                    self.say(altered, key, f"the SHA-256 that was named, found {found}")
                elif look:
                    look(link, body, *given)
        except Odd:
            self.say(odd, key, "the documented form, found something else")
        except OSError as fault:
            is_missing = isinstance(fault, FileNotFoundError | NotADirectoryError)
            self.say(missing if is_missing else "U001", key, f"a file that can be read, found {type(fault).__name__}")
        return body

    def chain(self, expected: str) -> None:
        """Check the manifests, the first one first, and what they name."""
        noted, is_met, previous = expected.partition(":")[0], not expected, dict[str, str]()
        _, folders, files = next(os.walk(os.path.join(self.root, "manifests")), ("", [], []))
        numbers = sorted(int(found[1]) for name in folders + files if (found := re.fullmatch(MANIFEST, name)))
        for last, number in zip([0, *numbers], numbers, strict=False):
            key = f"manifests/{number:020d}.json"
            if number > last + 1:
                self.say("C001", f"manifests/{last + 1:020d}.json", f"all numbers up to {number}, found a hole")
                previous = {"sha256": "unreadable"}
            body = self.read({"key": key}, "C001 C002 C003", self.manifest, previous, number, number == numbers[-1])
            previous = {"key": key, "sha256": "unreadable" if body is None else sha256(body).hexdigest()}
            self.head = f"{number}:{previous['sha256']}"
            is_met = is_met or self.head in (expected, f"{noted}:unreadable")
        for (key,) in self.seen.execute("SELECT what FROM seen GROUP BY what HAVING min(kind) = '!lost'").fetchall():
            self.say("P001", key[1:-1], "a file that can be read, found none")
        if not numbers:
            self.say("U002", "manifests/", "a manifest, found none")
        if not is_met:
            self.say("C005", f"manifests/{int(noted):020d}.json", f"the head {expected}, found {self.head}")

    def manifest(self, link: Json, body: bytes, previous: Json, number: int, is_head: bool) -> None:
        """Check a manifest, and the parts that it names."""
        key, manifest = link["key"], parsed(body, "formant-archive/manifest/1")
        self.first = {**(self.first or manifest), "sequence": number}
        if previous.get("sha256") != "unreadable" and manifest["previous"] != (previous or None):
            self.say("C002", previous["key"] if previous else key, "what its successor names, found another")
        if any(manifest[one] != self.first[one] for one in ("archive_id", "source", "sequence")):
            self.say("C004", key, "its own number and this archive's id and source, found others")
        demand(manifest["kind"] in KINDS, manifest["previous"] is None or manifest["previous"]["key"])
        more = [manifest["pending"], *map(manifest.get, ("holds", "erased")), manifest.get("custody", {}).get("which")]
        more += [one["recent"] for one in manifest["scopes"].values()]
        parts = [(self.entry, one) for one in manifest["entries"]] + [(self.waiting, one) for one in more if one]
        for look, one in parts:
            demand(re.fullmatch(PART, one["key"]), re.fullmatch(HASH, one["sha256"]))
            if self.is_new((one, is_head), look.__name__):
                self.read(one, "C007 C008 C009", self.part, look, is_head)

    def part(self, link: Json, body: bytes, look: Any, is_head: bool) -> None:
        """Check a part's lines, and what they name."""
        with gzip.open(os.path.join(self.root, link["key"])) as file:
            for _ in range(link["count"]):
                look(link["key"], parsed(file.readline(MOST), None, "\n"), is_head)
            demand(not file.read(1))

    def waiting(self, _: str, line: Json, is_head: bool) -> None:
        """Check what is stored already of a conversation that is waited for; a line of `recent` names nothing."""
        for one in filter(None, (line.get("conversation"), line.get("recording"))):
            demand(own_folder(PAYLOAD, one["key"], line["conversation_id"]) == line["folder"])
            if is_head and self.is_new(one):
                self.read(one, "P001 P002 P002")
        for one in line.get("keys", ()):
            demand(own_folder(PAYLOAD, one, line["conversation_id"]), not is_head or self.is_new(one, "!!erased") or 1)

    def entry(self, part: str, entry: Json, _: bool) -> None:
        """Check what an entry names."""
        key, name = entry["record_key"], entry["conversation_id"]
        folder = own_folder(RECORD, key, name)
        if not folder or any(own_folder(PAYLOAD, one["key"], name) != folder for one in entry["objects"]):
            self.say("R004", part, "keys of an entry in the conversation's own folder, found another")
            return
        if self.is_new(folder) and not self.is_new(name, "conversation"):
            self.say("R005", folder, "one folder with a record of this conversation, found several")
        if self.is_new(entry):
            self.read({"key": key, "sha256": entry["record_sha256"]}, "R001 R002 R003", self.record, folder, entry)
        for one in filter(self.is_new, entry["objects"]):
            self.read(one, "P001 P002 P002")

    def record(self, link: Json, body: bytes, folder: str, entry: Json) -> None:
        """Compare a record with the entry that names it, and with its own name."""
        audio = (record := parsed(body, "formant-archive/record/1"))["recording"]
        demand(record["conversation_id"] == entry["conversation_id"], "key" in audio or len(audio["probes"]) > 1)
        held = {kind: record[kind] for kind in ("conversation", "recording") if record[kind] and "key" in record[kind]}
        objects = [{name: one[name] for name in ("key", "sha256", "size")} for one in held.values()]
        outcome = f"archived{'' if 'recording' in held else '_without_recording'}" if record["conversation"] else "gone"
        earlier, first = record.get("supersedes"), f"{folder}record.json"
        wrong = [one for one in ("agent_id", "status", "start_timestamp") if entry[one] != record[one]]
        wrong += [kind for kind, one in held.items() if not one["key"].startswith(folder + kind)]
        wrong += ["supersedes"] * bool(earlier and earlier["key"] != first)
        if bool(earlier) != (link["key"] != first):
            self.say("R003" if earlier else "R005", link["key"], "a second one that supersedes the first, found none")
        elif wrong or objects != entry["objects"] or entry["outcome"] not in ("adopted", outcome):
            self.say("R004", link["key"], "what its entry says, found something else")
        elif earlier:
            self.read(earlier, "R006 R006 R006")


def main(words: list[str] | None = None) -> int:
    """Check one archive; give the exit code."""
    parser = argparse.ArgumentParser(description="Check an archive of formant-archive in a folder.")
    parser.add_argument("folder")
    parser.add_argument("--expect-head", metavar="NUMBER:SHA256", default="", help="the head as it was noted outside")
    given = parser.parse_args(words)
    if not os.path.isdir(given.folder) or not re.fullmatch(f"([1-9][0-9]{{0,19}}:{HASH})?", given.expect_head):
        parser.error("expected a folder that is there, and a head written 42:sha256")
    check = Check(given.folder)
    try:
        check.chain(given.expect_head)
    except Exception as fault:  # noqa: BLE001  # what was not checked to its end is not called valid, whatever lies there
        check.say("U001", "", f"to get to the end, found {type(fault).__name__}")
    (settled,) = check.seen.execute("SELECT count(*) FROM seen WHERE kind = 'conversation'").fetchone()
    code, verdict = (1, "DAMAGED") if "damage" in check.found else (3, "UNVERIFIED") if check.found else (0, "VALID")
    print(f"{verdict}: {settled} conversations; head {check.head}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
