"""Everything that can go wrong, as one tree.

    ArchiveError
    ├── UsageError              2   a setting or argument is missing or wrong
    ├── ApiError
    │   ├── ApiRefused          2   401 or 403: the key is refused
    │   ├── ApiRejected         1   400: a fault of ours, never to be repeated
    │   ├── NotFound            1   404 in the API's own envelope: an answer, not a failure
    │   ├── BadAnswer           1   an answer that the documentation does not know
    │   ├── ListingIncomplete   1   a list that lacks some of what the API promised
    │   └── ApiUnavailable      3   throttled, 5xx, broken or unreachable, after the client's patience
    ├── PayloadRefused          1   a body that is not the conversation or recording that was asked for
    ├── StoreError
    │   ├── StoreRefused        2   no such bucket, access denied, a folder that cannot be written
    │   ├── UnsafeStore         2   a store that overwrites where it was told not to
    │   ├── StoreUnavailable    3   throttled, 5xx, unreachable, disk full, after the store's patience
    │   └── ObjectMissing       1   nothing is stored under that key
    ├── ArchiveDamaged          1   a manifest, part or record is not what its hash or its place says
    └── ServerUnavailable       3   Prefect's server is out of reach, or fails

The number is the exit code of a command that ends with the error: 1 something is wrong with the archive or with
some conversations, 2 usage or settings, 3 could not tell. `retryable` says whether the same call can succeed later
without anybody changing anything; Prefect's tasks ask it.

The text of an error is one line that says what is wrong and what to do. It never holds a phone number, a word of a
transcript, a secret or a URL's query: it goes to logs and to Prefect's database.
"""


class ArchiveError(Exception):
    """The root of all errors of this project."""

    exit_code = 1
    retryable = False


class UsageError(ArchiveError):
    """A setting or an argument is missing or wrong."""

    exit_code = 2


class ApiError(ArchiveError):
    """FormantAI's API did not do what was asked."""


class ApiRefused(ApiError):
    """The API refuses the key (401, 403)."""

    exit_code = 2


class ApiRejected(ApiError):
    """The API calls the request itself wrong (400)."""


class NotFound(ApiError):
    """The API says, in its own envelope, that there is no such thing (404 `not_found`)."""


class BadAnswer(ApiError):
    """The API answered with something that its documentation does not know."""


class ListingIncomplete(ApiError):
    """A list that could not be finished, or lacks some of what the API promised."""


class ApiUnavailable(ApiError):
    """The API is throttling, failing or out of reach, and stayed so for the client's whole patience."""

    exit_code = 3
    retryable = True


class PayloadRefused(ArchiveError):
    """A body that must not be archived as what it claims to be.

    Attributes:
        reason: One word of a fixed vocabulary, fit for a manifest: `not_json`, `truncated`, …
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StoreError(ArchiveError):
    """The archive's store did not do what was asked."""


class StoreRefused(StoreError):
    """The store exists only in the settings, or denies what the archive needs."""

    exit_code = 2


class UnsafeStore(StoreError):
    """The store ignored `If-None-Match: *`: it would let one writer overwrite another."""

    exit_code = 2


class StoreUnavailable(StoreError):
    """The store is throttling, failing or out of reach."""

    exit_code = 3
    retryable = True


class ObjectMissing(StoreError):
    """Nothing is stored under the key."""


class ArchiveDamaged(ArchiveError):
    """A manifest, part or record is not what its hash, its number or its place says."""


class ServerUnavailable(ArchiveError):
    """Prefect's server is out of reach, or fails."""

    exit_code = 3
    retryable = True
