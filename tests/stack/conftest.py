"""The stack test is run where it is asked for, `make stack-test`, and not with all the others: it takes minutes."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    asked = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) else True
