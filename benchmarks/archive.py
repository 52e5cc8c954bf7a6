"""This project's flow, as a deployment runs it."""

from benchmarks import contact
from flows.archive import archive_conversations

if __name__ == "__main__":
    contact.run(archive_conversations, "archived")
