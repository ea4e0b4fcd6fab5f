"""For who writes a store: the tests that every store passes, and what these tests are made of.

`docs/writing-a-store.md` says how a store is tested with them. Needs pytest and hypothesis, which
nothing else in this package does.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.conformance", f"{__name__}.stores")
