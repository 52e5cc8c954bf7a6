"""Install servers; see the package. Ends well also where one cannot be had, and says so: a test run then skips it."""

import sys

from tests.stores.servers import NAMES, Unavailable, install

for name in sys.argv[1:] or NAMES:
    try:
        install(name)
    except Unavailable as fault:
        print(f"{name}: SKIPPED: {fault}", file=sys.stderr)  # noqa: T201  # for who called it
    else:
        print(f"{name}: installed")  # noqa: T201  # for who called it
