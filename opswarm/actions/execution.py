"""Doing an action once: the intent is written down before the effect and the outcome after it.

A key is done once, whoever repeats it and however often: who comes while it is being done waits for it, who comes later
gets the first result. Where a process ended in between, the world is asked (`Action.probe`): what was done is not done
again, what was not is done now, and where nobody can tell the outcome is "unknown" and stays so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from opswarm.actions.action import Action, Done, Happened, Intent, Verification
from opswarm.actions.canonical import canonical
from opswarm.errors import Conflict, DeadlineExceeded, InvalidInput, OpswarmError, Unavailable
from opswarm.guard.redaction import redact_value
from opswarm.store.database import Database

log = logging.getLogger(__name__)

_DAY = 86_400.0
_PROBE_SECONDS = 20.0
_CLOSE_SECONDS = 2.0
_SLACK_SECONDS = 30.0
"""How much longer than its own bound an action of another process is taken to be alive."""


class Status(StrEnum):
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    """It was tried, and the world says that nothing was changed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an action. `again` is whether this is the result of an earlier call with the same key."""

    status: Status
    text: str
    after: Mapping[str, Any] = field(default_factory=dict)
    verified: bool | None = None
    again: bool = False


Told = Callable[[str, Outcome, float], Awaitable[None]]
"""Told what happens: `executing`, `executed`, `failed`, `unknown`, `verified` or `not_verified`, and the seconds it
took. What it raises of `executing` keeps the action from being done."""


class Executions:
    """The actions of one tool server. `open` it first. `executor` is the stable name of this process among replicas."""

    def __init__(
        self,
        database: Database,
        server: str,
        *,
        executor: str = "0",
        clock: Callable[[], float] = time.time,
        pause: float = 2.0,
    ) -> None:
        """`pause` is how long after a lost answer the world is asked a second time, in seconds."""
        self._database = database
        self._server = server
        self._executor = executor
        self._boot = uuid.uuid4().hex
        self._clock = clock
        self._pause = pause
        self._running: dict[str, tuple[asyncio.Task[Outcome], str]] = {}

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS executions (server VARCHAR(64) NOT NULL, id VARCHAR(64) NOT NULL,"
                " status VARCHAR(16) NOT NULL, call VARCHAR(64) NOT NULL, executor VARCHAR(128) NOT NULL,"
                " boot VARCHAR(32) NOT NULL, until DOUBLE PRECISION NOT NULL, started DOUBLE PRECISION NOT NULL,"
                " intent TEXT NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (server, id))"
            ]
        )

    async def known(self, key: str, call: str) -> Outcome | None:
        """What became of `key` before, where it has ended; None where it has not, or was never begun.

        Raises `InvalidInput` when the key belongs to another call than the one whose hash is `call`.
        """
        row = await self._row(key)
        if row is None:
            return None
        self._same(row.call, call)
        return None if row.status is Status.EXECUTING else _again(row.outcome)

    async def unsettled(self, call: str) -> bool:
        """Whether within a day the call with this hash was made and nobody knows what became of it."""
        rows = await self._database.rows(
            "SELECT id FROM executions WHERE server = :server AND call = :call AND status = 'unknown'"
            " AND started > :since LIMIT 1",
            {"server": self._server, "call": call, "since": self._clock() - _DAY},
        )
        return bool(rows)

    async def do(self, action: Action, intent: Intent, call: str, told: Told) -> Outcome:
        """Does `intent`, or gives what became of it before. `call` is the hash of the call that it is for.

        It goes on to its end when whoever waits is cancelled. Raises `Conflict` while another process does it,
        `InvalidInput` as `known` does, `Unavailable` when the intent can't be written down, and what `told` raises.
        """
        if (running := self._running.get(intent.key)) is not None:
            # Its row may not be written yet, so what it is for is kept beside it.
            task, theirs = running
            self._same(theirs, call)
            return _again(await asyncio.shield(task))
        task = asyncio.create_task(self._do(action, intent, call, told))
        self._running[intent.key] = task, call
        task.add_done_callback(lambda _: self._running.pop(intent.key, None))
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Waits a moment for what is being done and breaks the rest off: at the next start the world is asked."""
        running = [task for task, _ in self._running.values()]
        if running:
            _, late = await asyncio.wait(running, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def unfinished(self) -> list[Intent]:
        """What this process, by its stable name, was doing when it ended: nobody is at it any more."""
        rows = await self._database.rows(
            "SELECT intent FROM executions WHERE server = :server AND status = 'executing' AND executor = :executor"
            " AND boot <> :boot",
            {"server": self._server, "executor": self._executor, "boot": self._boot},
        )
        return [_intent(str(r[0])) for r in rows]

    async def settle(self, action: Action, intent: Intent, told: Told) -> Outcome | None:
        """Asks the world about an intent that was broken off, and writes down what it says.

        None where it was not done: it stays open, and the next call with its key does it.
        """
        happened, why = await self._probed(action, intent)
        if happened is Happened.NO:
            return None
        if happened is Happened.YES:
            done = Done("It was done before the tool server was restarted.")
            return await self._done(action, intent, done, told, 0.0)
        return await self._unknown(intent, why, told, 0.0)

    async def forget(self, until: float) -> None:
        """Drops what ended and was begun before `until` (Unix seconds)."""
        await self._database.write(
            "DELETE FROM executions WHERE server = :server AND status <> 'executing' AND started < :until",
            {"server": self._server, "until": until},
        )

    async def _do(self, action: Action, intent: Intent, call: str, told: Told) -> Outcome:
        row = await self._begun(action, intent, call)
        if row is not None:
            self._same(row.call, call)
            if row.status is not Status.EXECUTING:
                return _again(row.outcome)
            if row.boot != self._boot and row.executor != self._executor and row.until > self._clock():
                raise Conflict("Another replica of this tool server is doing this now.", hint="Ask again in a minute.")
            known = await self.settle(action, row.intent, told)
            if known is not None:
                return _again(known)
            if not await self._taken_over(action, intent, row):
                raise Conflict("Another replica of this tool server took this over.", hint="Ask again in a minute.")
        return await self._perform(action, intent, told)

    async def _perform(self, action: Action, intent: Intent, told: Told) -> Outcome:
        started = time.monotonic()
        try:
            await told("executing", Outcome(Status.EXECUTING, ""), 0.0)
        except OpswarmError:
            await self._drop(intent.key)
            raise
        try:
            async with asyncio.timeout(action.seconds):
                done = await action.perform(intent)
        except Exception as error:  # Whatever broke, the world is asked what became of it.
            if not isinstance(error, OpswarmError | TimeoutError):
                log.exception("the action %s broke", intent.tool)
            return await self._after_failure(action, intent, error, told, time.monotonic() - started)
        return await self._done(action, intent, done, told, time.monotonic() - started)

    async def _after_failure(
        self, action: Action, intent: Intent, error: Exception, told: Told, seconds: float
    ) -> Outcome:
        why = _sentence(intent, action, error)
        happened, no_look = await self._probed(action, intent)
        if happened is Happened.NO and isinstance(error, TimeoutError | DeadlineExceeded | Unavailable):
            # The request may still be on its way: what is not there yet may be a moment later.
            await asyncio.sleep(self._pause)
            happened, no_look = await self._probed(action, intent)
        if happened is Happened.YES:
            return await self._done(action, intent, Done(f"It was done, though: {why}"), told, seconds)
        if happened is Happened.UNKNOWN:
            return await self._unknown(intent, f"{why} {no_look}".strip(), told, seconds)
        outcome = Outcome(Status.FAILED, f"Nothing was changed: {why}")
        await self._record(intent.key, outcome)
        await _tell(told, "failed", outcome, seconds)
        return outcome

    async def _done(self, action: Action, intent: Intent, done: Done, told: Told, seconds: float) -> Outcome:
        outcome = Outcome(Status.DONE, done.text, redact_value(dict(done.after)))
        await self._record(intent.key, outcome)
        await _tell(told, "executed", outcome, seconds)
        started = time.monotonic()
        seen = await self._verified(action, intent)
        text = f"{done.text} {seen.text}".strip()
        outcome = Outcome(Status.DONE, text, outcome.after, seen.ok)
        await self._record(intent.key, outcome)
        await _tell(told, "verified" if seen.ok else "not_verified", outcome, time.monotonic() - started)
        return outcome

    async def _unknown(self, intent: Intent, why: str, told: Told, seconds: float) -> Outcome:
        outcome = Outcome(
            Status.UNKNOWN,
            f"It is not known whether this was done. {why} Look before you do it again: it is not repeated by itself.",
        )
        await self._record(intent.key, outcome)
        await _tell(told, "unknown", outcome, seconds)
        return outcome

    async def _probed(self, action: Action, intent: Intent) -> tuple[Happened, str]:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                return await action.probe(intent), ""
        except TimeoutError:
            return Happened.UNKNOWN, "Looking took too long."
        except OpswarmError as error:
            return Happened.UNKNOWN, str(error)
        except Exception:  # A probe that breaks tells nothing; the action is not repeated on its account.
            log.exception("the probe of %s broke", intent.tool)
            return Happened.UNKNOWN, "Looking broke; the log has the details."

    async def _verified(self, action: Action, intent: Intent) -> Verification:
        try:
            async with asyncio.timeout(action.verify_seconds):
                return await action.verify(intent)
        except TimeoutError:
            return Verification(None, f"Its effect was not seen within {action.verify_seconds:.0f} s.")
        except OpswarmError as error:
            return Verification(None, f"Its effect could not be looked at: {error}")
        except Exception:  # It was done; that nobody could look must not make it look undone.
            log.exception("verifying %s broke", intent.tool)
            return Verification(None, "Its effect could not be looked at; the log has the details.")

    async def _begun(self, action: Action, intent: Intent, call: str) -> _Row | None:
        now = self._clock()
        written = await self._database.rows(
            "INSERT INTO executions (server, id, status, call, executor, boot, until, started, intent, outcome) VALUES"
            " (:server, :id, 'executing', :call, :executor, :boot, :until, :started, :intent, '')"
            " ON CONFLICT (server, id) DO NOTHING RETURNING id",
            {
                "server": self._server,
                "id": intent.key,
                "call": call,
                "executor": self._executor,
                "boot": self._boot,
                "until": now + action.seconds + action.verify_seconds + _SLACK_SECONDS,
                "started": now,
                "intent": canonical(intent),
            },
        )
        return None if written else await self._needed(intent.key)

    async def _taken_over(self, action: Action, intent: Intent, row: _Row) -> bool:
        taken = await self._database.rows(
            "UPDATE executions SET executor = :executor, boot = :boot, until = :until, intent = :intent WHERE"
            " server = :server AND id = :id AND status = 'executing' AND boot = :was RETURNING id",
            {
                "executor": self._executor,
                "boot": self._boot,
                "until": self._clock() + action.seconds + action.verify_seconds + _SLACK_SECONDS,
                "intent": canonical(intent),
                "server": self._server,
                "id": intent.key,
                "was": row.boot,
            },
        )
        return bool(taken)

    async def _record(self, key: str, outcome: Outcome) -> None:
        kept = {"text": outcome.text, "after": outcome.after, "verified": outcome.verified}
        try:
            await self._database.write(
                "UPDATE executions SET status = :status, outcome = :outcome WHERE server = :server AND id = :id",
                {"status": outcome.status.value, "outcome": canonical(kept), "server": self._server, "id": key},
            )
        except Unavailable:
            # It stays `executing` there, and the world is asked about it when the key comes again.
            log.exception("what became of the action %s could not be written: %s", key, outcome.status)

    async def _drop(self, key: str) -> None:
        await self._database.write(
            "DELETE FROM executions WHERE server = :server AND id = :id AND boot = :boot AND status = 'executing'",
            {"server": self._server, "id": key, "boot": self._boot},
        )

    async def _row(self, key: str) -> _Row | None:
        rows = await self._database.rows(
            "SELECT status, call, executor, boot, until, intent, outcome FROM executions"
            " WHERE server = :server AND id = :id",
            {"server": self._server, "id": key},
        )
        if not rows:
            return None
        status, call, executor, boot, until, intent, outcome = rows[0]
        found = Status(status)
        return _Row(found, call, executor, boot, float(until), _intent(intent), _outcome(found, outcome))

    async def _needed(self, key: str) -> _Row:
        row = await self._row(key)
        if row is None:
            raise Conflict("The action was broken off at this moment.", hint="Ask again.")
        return row

    @staticmethod
    def _same(theirs: str, ours: str) -> None:
        if theirs != ours:
            raise InvalidInput(
                "This idempotency key was used for another call.", hint="Use a new key, or repeat the same call."
            )


@dataclass(frozen=True, slots=True)
class _Row:
    status: Status
    call: str
    executor: str
    boot: str
    until: float
    intent: Intent
    outcome: Outcome


def _intent(text: str) -> Intent:
    return Intent(**json.loads(text))


def _outcome(status: Status, text: str) -> Outcome:
    kept = json.loads(text) if text else {"text": "", "after": {}, "verified": None}
    return Outcome(status, kept["text"], kept["after"], kept["verified"])


def _again(outcome: Outcome) -> Outcome:
    return Outcome(outcome.status, outcome.text, outcome.after, outcome.verified, again=True)


def _sentence(intent: Intent, action: Action, error: Exception) -> str:
    if isinstance(error, OpswarmError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"{intent.tool} did not finish within {action.seconds:.0f} s."
    return f"{intent.tool} broke inside; its server's log has the details."


async def _tell(told: Told, event: str, outcome: Outcome, seconds: float) -> None:
    """After the effect: what can't be told any more does not undo it."""
    try:
        await told(event, outcome, seconds)
    except OpswarmError:
        log.exception("%s of an action could not be written to the audit", event)
