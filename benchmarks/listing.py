"""A first run over rows of which none is to be archived."""

from benchmarks import contact
from flows.archive import archive_conversations

if __name__ == "__main__":
    contact.run(archive_conversations, "listed")
