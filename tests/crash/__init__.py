"""The crash laboratory: kill, cut, freeze and break everything, then compare with the promise.

`writer` journals what it asked for and what was acknowledged; `ledger` works out what must be in
the store; `checker` compares. `lives` gives workers short lives, which end at one of the `points`;
`disk` and `power` break what is under the store, `network` what is before the server, `server` is
one to kill, `adapter` one with a spool, `async_client` one with a loop. `refusals` are a server
that takes nothing, `bystanders` other programs at the files. `laboratory` puts these together,
`rounds`, `mixed` and `hostile` say what happens in it, `load` and `endurance` keep at it.
`python -m tests.crash` (or `make chaos`) runs it all and writes a report.
"""
