"""Sessions as JSONL files, one message a line, which the original can read too.

`read_session_file` and `key_of` read single files, ours and the original's, for migration.
"""

from worker.backends.jsonl.backend import JsonlBackend
from worker.backends.jsonl.names import key_of
from worker.backends.jsonl.reader import SessionFile, read_session_file

__all__ = ["JsonlBackend", "SessionFile", "key_of", "read_session_file"]
