"""Checks an archive without anything of ours: `python verify_archive.py FOLDER [--expect-head 42:sha256]`.

Written from docs/archive-format.md; needs Python 3.11, nothing else. It prints a line for each finding, `CODE severity
key: what was expected and what was found`, and last the verdict: VALID (exit code 0), DAMAGED (1), or UNVERIFIED (3):
something could not be read. What no manifest names is shown and is no damage. The head that was noted may have
successors. It writes nothing there, opens nothing outside the folder, and prints nothing that it read but keys.
Payloads are read piece by piece. Memory holds one part as it is stored, the manifests' numbers, and the ids that one of
them names; which keys were named is kept in a temporary file of SQLite.
"""

import argparse
import gzip
import json
import os
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from hashlib import file_digest, sha256
from io import BytesIO
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]
MOST, LINE = 1 << 30, 1 << 24  # bytes of a part and of its lines; bytes of a manifest, a record or a line
FOLDER = r"conversations/agent_id=[\w.%~-]{1,200}/date=(?:unknown|\d{4}-\d\d-\d\d)/(?!\.\.?/)([\w.%~-]{1,200})/"
RECORD, PAYLOAD = FOLDER + r"record(?:\.2)?\.json", FOLDER + r"(?:conversation(?:\.2)?\.json|recording\.wav)"
MANIFEST, PART = r"manifests/(?!0{20})(\d{20})\.json", r"manifests/parts/([0-9a-f]{64})\.jsonl\.gz"
PAYLOADS = {"conversation": ["conversation.json", "conversation.2.json"], "recording": ["recording.wav"]}
NAMED = ["archived", "archived_without_recording", "gone", "adopted"]
COUNTED = [*NAMED, "already_settled", "other_status", "outside", "pending", "failed"]
OF_ARCHIVE = ["archive_id", "source"]
VERDICTS = {0: "VALID", 1: "DAMAGED", 3: "UNVERIFIED"}
READ = {"C002": "manifests", "C008": "parts", "R002": "records", "P002": "payloads", "bytes": "bytes"}
SETTLED_TWICE = "SELECT min(folder) FROM settled GROUP BY name HAVING count(*) > 1"

# The documented forms, `field:form`: `a|b` is either, `a?` may be null, `a*` is a list, `a+` one of two or more, `a%`
# an object with any names; `&` is all fields of another form. What is not defined here is a pattern for text.
PATTERNS = {"text": "(?s:.*)", "name": "(?s:.+)", "hash": "[0-9a-f]{64}", "part_key": PART}
PATTERNS |= {"time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "uuid": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}
TYPES = {"int": int, "float": float, "whole": int, "bool": bool, "yes": bool, "any": dict}
UNSET = {"supersedes", "retention", "unsafe_store"}  # fields that are there only where they are set
LEAST = {"whole": 0, "yes": 1}
FORMS: dict[str, dict[str, str]] = {"counts": dict.fromkeys(["listed", "carried", *COUNTED], "whole")}
TABLE = """
link key:text sha256:hash
part key:part_key sha256:hash count:whole
object key:text sha256:hash size:whole
receipt &object fetched_at:time
audio seconds:int|float sample_rate:int channels:int codec:text
recording &receipt state:archived audio:audio?
transcript state:present
missing state:absent|not_expected|gone probes:probe+
probe at:time http_status:int error_type:text
writer version:text run_id:text
row conversation_id:name agent_id:int|text? status:text start_timestamp:int?
call &row end_timestamp:int? duration_seconds:int|float?
record &call format:formant-archive/record/1 source:text conversation:receipt? transcript:transcript|missing
record recording:recording|missing remarks:text* writer:writer settled_at:time supersedes:link
record retention:any
entry &row outcome:archived|archived_without_recording|gone|adopted record_key:text record_sha256:hash objects:object*
pending &call folder:text first_seen_at:time scopes:text* witness:text? reason:text message:text? failed:bool
pending failures:whole conversation:any? recording:any? conversation_probes:probe* recording_probes:probe*
pending refused_sha256:hash? next_probe_at:time?
recent conversation_id:name time:int settled:bool
origin id:text part:whole flow:text version:text parameters:any started_at:time committed_at:time
listing scope:text order:text? full:bool since:int? pages:whole rows:whole unique:whole
listing total_first:int? total_last:int? complete:bool
scope watermark:int? total:int? order:text? floor:int? statuses:text* recent:part
manifest format:formant-archive/manifest/1 kind:run|backfill|audit|hold|erasure sequence:int previous:link?
manifest archive_id:uuid
manifest source:text run:origin listing:listing? counts:counts entries:part* pending:part? scopes:scope%
manifest unsafe_store:yes
"""
for _name, *_fields in map(str.split, TABLE.strip().splitlines()):
    for _field, _, _form in (one.partition(":") for one in _fields):
        FORMS.setdefault(_name, {}).update({_field: _form} if _form else FORMS[_field[1:]])


def fits(value: Any, form: str) -> bool:
    """Say whether a value has a form."""
    of, kind = form[:-1], form[-1]
    if kind == "?":
        return value is None or fits(value, of)
    if "|" in form:
        return any(fits(value, one) for one in form.split("|"))
    if kind in "*+":
        return isinstance(value, list) and len(value) >= 2 * (kind == "+") and all(fits(one, of) for one in value)
    if kind == "%":
        return isinstance(value, dict) and all(fits(one, of) for one in value.values())
    if fields := FORMS.get(form):
        names = {*value, *(UNSET & fields.keys())} if isinstance(value, dict) else None
        return names == fields.keys() and all(fits(value[name], fields[name]) for name in value)
    if form in TYPES:
        return type(value) in (TYPES[form],) and (form not in LEAST or value >= LEAST[form])
    return isinstance(value, str) and match(PATTERNS.get(form, form), value) is not None


def match(pattern: str, text: str) -> re.Match[str] | None:
    """Match a whole text, in ASCII."""
    return re.fullmatch(pattern, text, re.ASCII)


def parsed(body: bytes | None, form: str) -> Any:
    """Read canonical JSON of a form; None where it is none."""
    try:
        value = json.loads((body or b"").decode())
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return value if text.encode() == body and fits(value, form) else None
    except (ValueError, RecursionError):
        return None


def own_folder(pattern: str, key: str, line: Json) -> str:
    """Give the folder that a key lies in; empty where that is not the own one of the conversation of a line."""
    name = line["conversation_id"]
    spelt = name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="").replace("~", "%7E")
    if len(spelt) > 200:
        spelt = re.sub("%.?$", "", spelt[:100]) + "~" + sha256(name.encode()).hexdigest()
    found = match(pattern, key)
    return key.rpartition("/")[0] + "/" if found and found[1] == spelt else ""


class Check:
    """One look at one archive."""

    def __init__(self, root: str) -> None:
        self.root, self.head, self.found, self.read = os.path.realpath(root), "none", Counter[str](), Counter[str]()
        self.base = sqlite3.connect("")
        self.base.execute("CREATE TABLE named (key, as_what, PRIMARY KEY (key, as_what)) WITHOUT ROWID")
        self.base.execute("CREATE TABLE settled (name, folder, PRIMARY KEY (name, folder)) WITHOUT ROWID")

    def say(self, code: str, key: str, what: str) -> None:
        """Report a finding."""
        severity = {"X003": "warning"}.get(code) or {"U": "unverified", "X": "note"}.get(code[0], "damage")
        self.found[severity] += 1
        print(f"{code} {severity} {json.dumps(key)[1:-1]}: expected {what}")

    def is_new(self, key: str, as_what: str) -> bool:
        """Note that a key is named; say whether it was not yet, as that."""
        return self.base.execute("INSERT OR IGNORE INTO named VALUES (?, ?)", (key, as_what)).rowcount == 1

    def is_named(self, key: str) -> bool:
        """Say whether anything names a key."""
        return self.base.execute("SELECT 1 FROM named WHERE key = ?", (key,)).fetchone() is not None

    def fetch(self, key: str, codes: str, digest: str = "", size: int | None = None, most: int = LINE) -> bytes | None:
        """Read a file; None where it is not what was named. A payload, whose size is known, is hashed and not kept."""
        path, (missing, altered) = os.path.join(self.root, key), codes.split()
        try:
            length = os.stat(path).st_size
            # A link could lead out of the folder, and a pipe would never end.
            if os.path.realpath(path) != path or not os.path.isfile(path) or (size is None and length > most):
                self.say("U001", key, f"a plain file of {most} bytes at most, found something else")
            elif size not in (None, length):
                self.say("P003", key, f"{size} bytes, found {length}")
            else:
                with open(path, "rb") as file:
                    body = file.read(length if size is None else 0)
                    found = sha256(body).hexdigest() if size is None else file_digest(file, "sha256").hexdigest()
                self.read.update({altered: 1, "bytes": length})
                if digest in ("", found):
                    return body
                self.say(altered, key, f"SHA-256 {digest}, found {found}")
        except (FileNotFoundError, NotADirectoryError):
            self.say(missing, key, "a file, found none")
        except OSError as fault:
            self.say("U001", key, f"a file that can be read, found {type(fault).__name__}")
        return None

    def chain(self, expected: str | None) -> None:
        """Read the manifests from the first one on."""
        last, first, is_met = 0, None, not expected
        unreadable = f"{(expected or '').partition(':')[0]}:unreadable"
        previous: Json | None = None  # what the next one must name; {} where that is not known
        # Where they cannot be listed, the walk over all that is there says so.
        names = next(os.walk(os.path.join(self.root, "manifests")), ("", [], []))
        keys = (f"manifests/{name}" for name in names[1] + names[2])
        for number in sorted(int(found[1]) for key in keys if (found := match(MANIFEST, key))):
            key = f"manifests/{number:020d}.json"
            if number > last + 1:
                self.say("C001", f"manifests/{last + 1:020d}.json", f"all numbers up to {number}, found a hole")
                previous = {}
            body = self.fetch(key, "C001 C002")
            if manifest := parsed(body, "manifest"):
                first = first or manifest
                if previous != {} and manifest["previous"] != previous:
                    self.say("C002", previous["key"] if previous else key, "what its successor names, found another")
                if manifest["sequence"] != number or any(manifest[one] != first[one] for one in OF_ARCHIVE):
                    self.say("C004", key, "its own number and this archive's id and source, found others")
                self.contents(key, manifest)
            elif body is not None:
                self.say("C003", key, "a manifest of the documented form, found something else")
            last, previous = number, {} if body is None else {"key": key, "sha256": sha256(body).hexdigest()}
            self.head = f"{number}:{previous.get('sha256', 'unreadable')}"
            is_met = is_met or self.head in (expected, unreadable)
        if expected and not is_met:
            key = f"manifests/{int(expected.partition(':')[0]):020d}.json"
            self.say("C005", key, f"the head {expected}, found {self.head}")
        if not last:
            self.say("U002", "manifests/", "a manifest, found none")
        for (folder,) in self.base.execute(SETTLED_TWICE):
            self.say("R005", folder, "one folder with a record of this conversation, found several")

    def contents(self, key: str, manifest: Json) -> None:
        """Check what a manifest counts and names."""
        counts, outcomes, lines = manifest["counts"], dict[str, str](), 0
        for link in manifest["entries"]:
            for entry in self.lines(link, "entry"):
                # A conversation counts once, as what its last entry says.
                outcomes[entry["conversation_id"]], lines = entry["outcome"], lines + 1
                self.entry(link["key"], entry)
        named, is_read = Counter(outcomes.values()), lines == sum(link["count"] for link in manifest["entries"])
        if counts["listed"] + counts["carried"] != sum(counts[one] for one in COUNTED):
            self.say("C006", key, "counts that add up, found others")
        elif is_read and any(named[one] != counts[one] for one in NAMED):
            self.say("C006", key, "the counts of its entries, found others")
        for pending in self.lines(manifest["pending"], "pending") if manifest["pending"] else ():
            self.receipts(manifest["pending"]["key"], pending)
        for scope in manifest["scopes"].values():
            for _ in self.lines(scope["recent"], "recent"):
                pass

    def lines(self, link: Json, form: str) -> Iterator[Json]:
        """Give a part's lines as far as they are as documented; only entries again where the part is named again."""
        key, good, size, rest = link["key"], 0, 0, b""
        is_new = self.is_new(key, f"{form} {link['sha256']} {link['count']}")
        body = self.fetch(key, "C007 C008", link["sha256"], most=MOST) if is_new or form == "entry" else None
        if body is None:
            return
        if link["sha256"] not in key:
            self.say("C008", key, "the name that its hash makes, found another")
        try:
            with gzip.open(BytesIO(body)) as file:
                while size < MOST and (rest := file.readline(LINE)):
                    value = parsed(rest.removesuffix(b"\n"), form) if good < link["count"] else None
                    if value is None:
                        break
                    good, size = good + 1, size + len(rest)
                    yield value
        except (EOFError, zlib.error, gzip.BadGzipFile):
            rest = b"no gzip"
        if rest or good != link["count"]:
            self.say("C009", key, f"{link['count']} documented lines ({form}), found {good} and then something else")

    def receipts(self, part: str, pending: Json) -> None:
        """Check what is stored already of a conversation that is waited for."""
        for held in filter(None, (pending["conversation"], pending["recording"])):
            stored = {name: held.get(name) for name in FORMS["object"]}
            if fits(stored, "object") and own_folder(PAYLOAD, stored["key"], pending) == pending["folder"]:
                self.payload(stored)
            else:
                self.say("C009", part, "receipts in the conversation's own folder, found another")

    def entry(self, part: str, entry: Json) -> None:
        """Check an entry, its record and its payloads."""
        key, folder = entry["record_key"], own_folder(RECORD, entry["record_key"], entry)
        if not folder or any(own_folder(PAYLOAD, one["key"], entry) != folder for one in entry["objects"]):
            self.say("R004", part, "keys of an entry in the conversation's own folder, found another")
            return
        self.base.execute("INSERT OR IGNORE INTO settled VALUES (?, ?)", (folder.split("/")[-2], folder))
        self.is_new(key, "record")
        body = self.fetch(key, "R001 R002", entry["record_sha256"])
        record = parsed(body, "record")
        if record and record["conversation_id"] == entry["conversation_id"]:
            self.record(key, folder, record, entry)
        elif body is not None:
            self.say("R003", key, "this conversation's record in the documented form, found something else")
        for one in entry["objects"]:
            self.payload(one)

    def record(self, key: str, folder: str, record: Json, entry: Json) -> None:
        """Compare a record with the entry that names it, and with its own name."""
        held = {kind: record[kind] for kind in PAYLOADS if record[kind] and "key" in record[kind]}
        objects = [{name: one[name] for name in FORMS["object"]} for one in held.values()]
        outcome = "gone" if not record["conversation"] else NAMED["recording" not in held]
        differing = [name for name in FORMS["row"] if entry[name] != record[name]]
        differing += ["objects"] * (sorted(map(str, objects)) != sorted(map(str, entry["objects"])))
        differing += ["outcome"] * (entry["outcome"] not in ("adopted", outcome))
        differing += ["keys"] * any(one["key"].removeprefix(folder) not in PAYLOADS[kind] for kind, one in held.items())
        if differing:
            self.say("R004", key, f"what its entry says, found other {', '.join(differing)}")
        earlier, is_second = record.get("supersedes"), key.endswith(".2.json")
        if is_second and not earlier:
            self.say("R005", key, "the record that it supersedes, found none")
        elif earlier and not is_second:
            self.say("R003", key, "a first record, found one that supersedes another")
        elif earlier and earlier["key"] != f"{folder}record.json":
            self.say("R004", key, "a superseded record in the same folder, found another")
        elif earlier and self.is_new(earlier["key"], f"superseded {earlier['sha256']}"):
            self.fetch(earlier["key"], "R006 R006", earlier["sha256"])

    def payload(self, stored: Json) -> None:
        """Check a payload, once."""
        if self.is_new(stored["key"], f"{stored['size']} {stored['sha256']}"):
            self.fetch(stored["key"], "P001 P002", stored["sha256"], size=stored["size"])

    def leftovers(self) -> None:
        """Report what no manifest names, and what cannot be listed."""

        def unlisted(fault: OSError) -> None:
            self.say("U001", os.path.relpath(fault.filename, self.root), "a folder that can be read, found none")

        for place, folders, names in os.walk(self.root, onerror=unlisted):
            folders.sort()
            links = [name for name in folders if os.path.islink(os.path.join(place, name))]
            for key in (os.path.relpath(os.path.join(place, name), self.root) for name in sorted(names + links)):
                known = [code for code, one in (("X001", RECORD), ("X002", PART), ("X002", PAYLOAD)) if match(one, key)]
                # A first body without a transcript can have a second one beside it: only that is named.
                second = key.replace("/conversation.json", "/conversation.2.json")
                is_named = bool(known) and (self.is_named(key) or self.is_named(second))
                is_ours = key.startswith("plans/") or os.path.basename(key).startswith(".tmp-") or match(MANIFEST, key)
                if not (is_named or is_ours):
                    self.say((known or ["X003"])[0], key, "a manifest that names it, found none")

    def verdict(self) -> int:
        """Print the last line; give the exit code."""
        code = 1 if self.found["damage"] else 3 if self.found["unverified"] else 0
        (settled,) = self.base.execute("SELECT count(DISTINCT name) FROM settled").fetchone()
        read = ", ".join(f"{self.read[code]} {what}" for code, what in READ.items())
        found = ", ".join(
            f"{self.found[severity]} {severity}" for severity in ("damage", "unverified", "warning", "note")
        )
        print(f"{VERDICTS[code]}: {settled} conversations; read {read}; found {found}; head {self.head}")
        return code


def noted(text: str) -> str:
    """Read a head as it is noted outside."""
    if not match("[1-9][0-9]{0,19}:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError("it is written 42:sha256")
    return text


def main(words: list[str] | None = None) -> int:
    """Check one archive."""
    parser = argparse.ArgumentParser(description="Check an archive of formant-archive in a folder.")
    parser.add_argument("folder")
    parser.add_argument("--expect-head", type=noted, metavar="NUMBER:SHA256", help="the head as it was noted outside")
    arguments = parser.parse_args(words)
    if not os.path.isdir(arguments.folder):
        parser.error("there is no such folder")
    check = Check(arguments.folder)
    try:
        check.chain(arguments.expect_head)
        check.leftovers()
    except Exception as fault:  # noqa: BLE001  # what was not checked to its end is not called valid, whatever lies there
        check.say("U001", "", f"to get to the end, found {type(fault).__name__}")
    return check.verdict()


if __name__ == "__main__":
    raise SystemExit(main())
