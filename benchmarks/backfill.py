"""A backfill of all history, planned and archived by one process."""

from benchmarks import contact
from flows.backfill import backfill_agents

if __name__ == "__main__":
    contact.run(backfill_agents, "archived", all_agents=True)
