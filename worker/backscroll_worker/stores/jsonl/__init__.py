"""Sessions as JSONL files, one message per line, which the original can read too.

`read_session_file` and `key_of` read single files, of this store or the original, for migration.
"""

from backscroll_worker.stores.jsonl.backend import JsonlBackend
from backscroll_worker.stores.jsonl.file_names import key_of
from backscroll_worker.stores.jsonl.reader import SessionFile, read_session_file

__all__ = ["JsonlBackend", "SessionFile", "key_of", "read_session_file"]
