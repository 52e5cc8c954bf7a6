"""The simulated API in a process of its own: `python -m benchmarks.api <conversations> <kB of each recording> <ms>`.

It prints its address, and serves until its standard input is closed, so that it never outlives who started it.
"""

import sys

from formant_archive.simulator import Simulator

#: Recordings are 8 kHz, 16 bit.
KILOBYTES_A_SECOND = 16


def main() -> None:
    """Serve completed conversations whose recordings all have one size, some milliseconds after each request."""
    conversations, kilobytes, latency = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    seconds = kilobytes / KILOBYTES_A_SECOND
    simulator = Simulator(conversations=conversations, completed=1.0, audio_seconds=(seconds, seconds))
    if latency:
        simulator.fault(delay=latency / 1000, share=1.0)
    with simulator.serve() as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
