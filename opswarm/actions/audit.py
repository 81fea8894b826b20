"""The audit: every attempt to change the world, in a chain that shows when a part of it is changed or missing.

Nothing is added to a chain that ends before where it is known to have been, and nothing is dropped of one that is not
whole: whoever can write to the database can't have the server sign what they did.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from opswarm.actions.canonical import canonical
from opswarm.actions.chain import ANCHOR, GENESIS, Entry, Event, Head, links
from opswarm.errors import Unavailable
from opswarm.guard.redaction import redact_value
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.store.database import Database, Row

log = logging.getLogger("opswarm.audit")

_TEXT_BYTES = 4_000
_TRIES = 20
_PAUSE = 0.005
"""Seconds, times how often it was tried: within about a second somebody has got through."""

_PAGE = 1_000
_PRUNE_EVERY = 500
_DAY = 86_400.0


class Audit:
    """The audit of one tool server. `open` it first."""

    def __init__(
        self,
        database: Database,
        server: str,
        key: Ed25519PrivateKey,
        *,
        keep_days: float = 365.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._server = server
        self._key = key
        self._keep_days = keep_days
        self._clock = clock
        self._lock = asyncio.Lock()
        self._newest = (0, GENESIS)
        self._added = 0

    @property
    def public_key(self) -> Ed25519PublicKey:
        return self._key.public_key()

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS audit (server VARCHAR(64) NOT NULL, number BIGINT NOT NULL,"
                " at DOUBLE PRECISION NOT NULL, tool VARCHAR(128) NOT NULL, subject VARCHAR(256) NOT NULL,"
                " body TEXT NOT NULL, before VARCHAR(64) NOT NULL, hash VARCHAR(64) NOT NULL,"
                " PRIMARY KEY (server, number))",
                "CREATE TABLE IF NOT EXISTS audit_starts (server VARCHAR(64) NOT NULL PRIMARY KEY,"
                " number BIGINT NOT NULL, hash VARCHAR(64) NOT NULL, at BIGINT NOT NULL,"
                " signature VARCHAR(128) NOT NULL)",
            ]
        )

    async def add(self, event: Event) -> Head:
        """Adds an entry and gives the signed head. Raises `Unavailable` when it can't be written, or what is there was
        cut off."""
        event = _kept(event)
        async with self._lock:
            for tried in range(_TRIES):
                # Whoever lost once waits a little, not as long as the others: or the same one loses each time.
                await asyncio.sleep(random.uniform(0, _PAUSE) * tried)
                number, before, _ = await self._last()
                if number < self._newest[0] or (number == self._newest[0] and before != self._newest[1]):
                    raise Unavailable(
                        f"The audit of {self._server} was changed: its entry {self._newest[0]} is not there any more.",
                        hint="Look into its database, and check a head of the log with `opswarm audit verify`.",
                    )
                entry = Entry(
                    server=self._server, number=number + 1, at=self._clock(), event=event, before=before, hash=""
                )
                entry = entry.model_copy(update={"hash": entry.computed()})
                if await self._written(entry):
                    self._newest = entry.number, entry.hash
                    break
            else:
                raise Unavailable("The audit can't be written: others write to it all the time.", hint="Try again.")
        head = self._head(entry.number, entry.hash, entry.at)
        log.info("audit %s", json.dumps({**entry.model_dump(mode="json"), "head": str(head)}, ensure_ascii=False))
        await self._pruned()
        return head

    async def head(self) -> Head:
        """The newest head; number 0 when there is no entry yet."""
        return self._head(*await self._last())

    async def entries(
        self, *, since: float = 0.0, after: int = 0, tool: str = "", most: int = 1_000
    ) -> Sequence[Entry]:
        """Entries in order: from `since` (Unix seconds), with a number above `after`, of one tool."""
        if not tool:
            return await self._page(since, after, most)
        # By what is in the chain: the column beside it could be changed without a trace.
        found: list[Entry] = []
        while len(found) < most and (page := await self._page(since, after, _PAGE)):
            found += [entry for entry in page if entry.event.tool == tool]
            after = page[-1].number
        return found[:most]

    async def _page(self, since: float, after: int, most: int) -> list[Entry]:
        rows = await self._database.rows(
            "SELECT number, at, body, before, hash FROM audit WHERE server = :server AND at >= :since"
            " AND number > :after ORDER BY number LIMIT :most",
            {"server": self._server, "since": since, "after": after, "most": most},
        )
        return [self._entry(r) for r in rows]

    async def anchor(self) -> Head | None:
        """Where the chain begins, since older entries were dropped; None while it is whole."""
        rows = await self._database.rows(
            "SELECT number, hash, at, signature FROM audit_starts WHERE server = :server", {"server": self._server}
        )
        if not rows:
            return None
        number, hash_, at, signature = rows[0]
        return Head(self._server, int(number), str(hash_), int(at), str(signature), ANCHOR)

    async def prune(self, until: float) -> None:
        """Drops the entries before `until` (Unix seconds), never the newest, and leaves a signed anchor.

        Of a chain that is not whole nothing is dropped, which is logged: someone has to look at it as it is.
        """
        anchor, (last, _, _) = await self.anchor(), await self._last()
        number, before = self._start(anchor)
        cut = number
        while page := await self.entries(after=cut, most=_PRUNE_EVERY):
            whole = list(itertools.takewhile(lambda e: e.at < until and e.number < last, page))
            if wrong := next(links(whole, cut, before), ""):
                log.error("the audit of %s is not whole, so nothing of it is dropped: %s", self._server, wrong)
                return
            if whole:
                cut, before = whole[-1].number, whole[-1].hash
            if len(whole) < len(page):
                break
        if cut == number:
            return
        made = Head(self._server, cut, before, int(until), kind=ANCHOR).signed(self._key)
        # The anchor first: a chain that begins before its anchor can be checked, one that begins after it can't.
        await self._database.write(
            "INSERT INTO audit_starts (server, number, hash, at, signature) VALUES"
            " (:server, :number, :hash, :at, :signature) ON CONFLICT (server) DO UPDATE SET number = excluded.number,"
            " hash = excluded.hash, at = excluded.at, signature = excluded.signature",
            {"server": self._server, "number": cut, "hash": before, "at": made.at, "signature": made.signature},
        )
        await self._database.write(
            "DELETE FROM audit WHERE server = :server AND number <= :number", {"server": self._server, "number": cut}
        )

    async def _pruned(self) -> None:
        self._added += 1
        if self._added % _PRUNE_EVERY == 1:
            try:
                await self.prune(self._clock() - self._keep_days * _DAY)
            except Unavailable:
                log.warning("old entries of the audit of %s could not be dropped", self._server)

    async def _last(self) -> tuple[int, str, float]:
        """The number, hash and time of the newest entry. Raises `Unavailable` when the chain ends before its anchor."""
        rows = await self._database.rows(
            "SELECT number, hash, at FROM audit WHERE server = :server ORDER BY number DESC LIMIT 1",
            {"server": self._server},
        )
        if rows:
            return int(rows[0][0]), str(rows[0][1]), float(rows[0][2])
        anchor = await self.anchor()
        return *self._start(anchor), float(anchor.at if anchor else 0)

    def _start(self, anchor: Head | None) -> tuple[int, str]:
        """What the first entry that is kept follows on. Raises `Unavailable` for an anchor that is not ours."""
        if anchor is None:
            return 0, GENESIS
        if not anchor.signed_by(self.public_key):
            raise Unavailable(
                f"Where the audit of {self._server} begins is not signed by its key.",
                hint="Put its audit key back, or look who changed the database.",
            )
        return anchor.number, anchor.hash

    async def _written(self, entry: Entry) -> bool:
        """False when another replica took the number."""
        rows = await self._database.rows(
            "INSERT INTO audit (server, number, at, tool, subject, body, before, hash)"
            " VALUES (:server, :number, :at, :tool, :subject, :body, :before, :hash)"
            " ON CONFLICT (server, number) DO NOTHING RETURNING number",
            {
                "server": entry.server,
                "number": entry.number,
                "at": entry.at,
                "tool": entry.event.tool[:128],
                "subject": entry.event.subject[:256],
                "body": canonical(entry.event),
                "before": entry.before,
                "hash": entry.hash,
            },
        )
        return bool(rows)

    def _entry(self, row: Row) -> Entry:
        number, at, body, before, hash_ = row
        event = Event.model_validate_json(body)
        return Entry(server=self._server, number=int(number), at=float(at), event=event, before=before, hash=hash_)

    def _head(self, number: int, hash_: str, at: float) -> Head:
        return Head(self._server, number, hash_, int(at)).signed(self._key)


def _kept(event: Event) -> Event:
    """The event as it is written: redacted, cleaned, capped."""
    plain = redact_value(event.model_dump(mode="python"))
    for name in ("arguments", "state"):
        if len(canonical(plain[name])) > _TEXT_BYTES * 4:
            plain[name] = {"cut": cap_bytes(canonical(plain[name]), _TEXT_BYTES)}
    plain["text"] = cap_bytes(clean(plain["text"]), _TEXT_BYTES)
    return Event.model_validate(plain)
