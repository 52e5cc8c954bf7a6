"""The folders of agents' days that a run has listed: which conversations of history have a record.

Pure. History is looked up a day at a time, a thousand objects a request, not conversation by conversation.
"""

from collections.abc import Iterable, Mapping

from formant_archive import keys
from formant_archive.records import Pending

#: Folders that are remembered: more than a page of the list can be of, so that no day is listed again for each page.
REMEMBERED = 256


class Folders:
    """What was found in the newest of the folders that were listed."""

    def __init__(self) -> None:
        self._found: dict[str, frozenset[str]] = {}

    def unread(self, conversations: Iterable[Pending]) -> list[str]:
        """Name the days' folders of conversations that were not listed yet."""
        return sorted({keys.day_folder_of(one.folder) for one in conversations} - self._found.keys())

    def learn(self, folders: Mapping[str, frozenset[str]]) -> None:
        """Take which conversations have a record, folder by folder; the oldest are forgotten."""
        self._found.update(folders)
        for oldest in list(self._found)[:-REMEMBERED]:
            del self._found[oldest]

    def has_record(self, conversation: Pending) -> bool:
        """Whether a conversation had a record when its day was listed."""
        return conversation.folder in self._found.get(keys.day_folder_of(conversation.folder), frozenset())
