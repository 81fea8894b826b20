"""Doing an action once: the intent is written down before the effect and the outcome after it.

A key is done once, whoever repeats it and however often: who comes while it is being done waits for it, who comes later
gets the first result. Where a process ended in between, the world is asked (`Action.probe`): what was done is not done
again, what was not is done now, and where nobody can tell the outcome is "unknown" and stays so. The same call under
another key is not done beside it, and not after it without a person where what became of it is not known, or was never
told to whoever asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from opswarm.actions import records
from opswarm.actions.action import Action, Done, Happened, Intent, Verification
from opswarm.actions.records import LEASE_SECONDS, Outcome, Record, Records, Status
from opswarm.errors import Conflict, DeadlineExceeded, InvalidInput, OpswarmError, Unavailable, UnderWay
from opswarm.guard.redaction import redact_value
from opswarm.store.database import Database

log = logging.getLogger(__name__)

_DAY = 86_400.0
_PROBE_SECONDS = 20.0
_CLOSE_SECONDS = 2.0
_RENEW_SECONDS = LEASE_SECONDS / 3
_POLL_SECONDS = 0.5
_OURS = 0.8
"""After this part of a lease that could not be renewed the action is broken off: before another process may take it."""

Told = Callable[[str, Outcome, float], Awaitable[None]]
"""Told what happens: `executing`, `executed`, `failed`, `unknown`, `verified` or `not_verified`, and the seconds it
took. What it raises of `executing` keeps the action from being done."""


class Executions:
    """The actions of one tool server. `open` it first. `executor` is the name of this process, for whoever reads."""

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
        self._records = Records(database, server, executor=executor, clock=clock)
        self._clock = clock
        self._pause = pause
        self._running: dict[str, tuple[asyncio.Task[Outcome | None], str]] = {}
        self._waiting: Counter[str] = Counter()

    async def open(self) -> None:
        await self._records.open()

    async def known(self, key: str, call: str) -> Outcome | None:
        """What became of `key` before, where it has ended; None where it has not, or was never begun.

        Raises `InvalidInput` when the key belongs to another call than the one whose hash is `call`.
        """
        if key in self._running:
            return None  # To be waited for.
        record = await self._records.get(key)
        if record is None:
            return None
        _same(record.call, call)
        return None if record.status is Status.EXECUTING else await self._again(record)

    async def became(self, action: Action, key: str, call: str, told: Told) -> Outcome | None:
        """What became of `key`: as `known`, but what is being done is waited for, and of what was broken off the world
        is asked. None where it was never begun, or not done. Raises as `known` does, and `Conflict`.

        To be asked before the same is planned again: once it is done, the world may not let itself be planned on.
        """
        self._waiting[key] += 1
        try:
            if (running := self._running.get(key)) is not None:
                task, theirs = running
                _same(theirs, call)
                known = await asyncio.shield(task)
                return replace(known, again=True) if known is not None else None
            record = await self._records.get(key)
            if record is None:
                return None
            _same(record.call, call)
            known = await self.settle(action, key, told)
            return replace(known, again=True) if known is not None else None
        finally:
            self._waiting[key] -= 1
            self._waiting += Counter()

    async def unsettled(self, call: str, key: str) -> str:
        """Why a person has to look before the call with this hash is done under `key`, or "".

        Within a day the same was begun under another key, and what became of it is not known, or was told to nobody;
        and it was not done since, in somebody's hearing. Raises `Conflict` while it is being done.
        """
        if any(theirs == call and other != key for other, (_, theirs) in self._running.items()):
            raise _at_it()
        for last in await self._records.newest(call, self._clock() - _DAY):
            if last.intent.key == key:
                continue
            when = time.strftime("%H:%M:%S UTC", time.gmtime(last.started))
            if last.status is Status.EXECUTING:
                if not self._is_dead(last):
                    raise _at_it()
                return f"The same was begun at {when} and broken off, and it is not known whether it was done."
            if last.status is Status.UNKNOWN:
                return f"The same was tried at {when}, and it is not known whether it was done."
            if last.status is Status.DONE:
                told = f"The same was done at {when}, and whoever asked for it did not hear so."
                return "" if last.heard else told
        return ""

    async def do(self, action: Action, intent: Intent, call: str, told: Told) -> Outcome:
        """Does `intent`, or gives what became of it before. `call` is the hash of the call that it is for.

        It goes on to its end when whoever waits is cancelled. Raises `Conflict` while another process does it, or the
        same call is under way with another key, `InvalidInput` as `known` does, `Unavailable` when the intent can't be
        written down, and what `told` raises.
        """
        self._waiting[intent.key] += 1
        try:
            # Its record may not be written yet, so what it is for is kept beside it.
            while (running := self._running.get(intent.key)) is not None:
                task, theirs = running
                _same(theirs, call)
                if (known := await asyncio.shield(task)) is not None:
                    return replace(known, again=True)
            outcome = await self._alone(intent.key, call, self._do(action, intent, call, told))
            assert outcome is not None
            return outcome
        finally:
            self._waiting[intent.key] -= 1
            self._waiting += Counter()  # Drops those that nobody waits for.

    async def aclose(self) -> None:
        """Waits a moment for what is being done and breaks the rest off: at the next start the world is asked."""
        running = [task for task, _ in self._running.values()]
        if running:
            _, late = await asyncio.wait(running, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def broken_off(self) -> list[Intent]:
        """What was begun, and nobody is at any more."""
        return [r.intent for r in await self._records.broken_off()]

    async def left(self, call: str, key: str) -> Intent | None:
        """What was begun of the same call under another key than `key`, and broken off."""
        record = await self._records.under_way(call)
        if record is None or record.intent.key == key or not self._is_dead(record):
            return None
        return record.intent

    async def settle(self, action: Action, key: str, told: Told, *, close: bool = False) -> Outcome | None:
        """Asks the world about what was begun under `key` and broken off, and writes down what it says.

        None where nothing was begun, or it was not done. Then it stays open, and the next call with its key does it;
        with `close` it has failed and is never done. While somebody is at it that is waited for. Raises `Conflict`
        when it takes too long.
        """
        give_up = _give_up(action)
        while True:
            record = await self._records.get(key)
            if record is None:
                return None
            if record.status is not Status.EXECUTING:
                return await self._again(record)
            if self._is_dead(record):
                return await self._alone(key, record.call, self._settle(action, record, told, close))
            await _wait_until(give_up)

    async def forget(self, until: float) -> None:
        """Drops what was begun before `until` (Unix seconds) and nobody is at."""
        await self._records.forget(until)

    async def _alone(self, key: str, call: str, work: Coroutine[Any, Any, Outcome | None]) -> Outcome | None:
        """The one thing that this process does about `key`. It goes on when whoever waits is cancelled."""
        task = asyncio.create_task(work)
        self._running[key] = task, call
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def _settle(self, action: Action, record: Record, told: Told, close: bool) -> Outcome | None:
        key = record.intent.key
        if not await self._records.take(record):
            raise _at_it()
        async with self._held(key):
            outcome = await self._seen(action, record.intent, told)
            if outcome is None and close:
                failed = Outcome(Status.FAILED, "It was broken off before anything was changed.")
                await self._record(key, failed)
                await _tell(told, "failed", failed, 0.0)
            elif outcome is None:
                await self._records.release(key)
            return outcome

    async def _do(self, action: Action, intent: Intent, call: str, told: Told) -> Outcome:
        give_up = _give_up(action)
        while not await self._records.begin(intent, call):
            record = await self._records.get(intent.key)
            if record is None and (other := await self._records.under_way(call)) is not None:
                if not self._is_dead(other):
                    raise _at_it()
                raise Conflict("The same was broken off, and nobody has looked what became of it.", hint="Try again.")
            if record is not None:
                _same(record.call, call)
                if record.status is not Status.EXECUTING:
                    return await self._again(record)
                # An earlier call of this process ended without a word; this one is the only one now.
                dead = record.boot == self._records.boot or record.until <= self._clock()
                if dead and await self._records.take(record):
                    return await self._gone_on(action, record.intent, intent, told)
            await _wait_until(give_up)
        async with self._held(intent.key) as lease:
            return await self._perform(action, intent, told, lease)

    async def _gone_on(self, action: Action, before: Intent, intent: Intent, told: Told) -> Outcome:
        async with self._held(intent.key) as lease:
            known = await self._seen(action, before, told)
            if known is not None:
                return replace(known, again=True)
            if not await self._records.renew(intent.key, intent):
                raise _at_it()
            return await self._perform(action, intent, told, lease)

    @asynccontextmanager
    async def _held(self, key: str) -> AsyncIterator[_Lease]:
        """While it runs, other processes can see that this one is at the action; broken off, it is let go of."""
        lease = _Lease()
        renewing = asyncio.create_task(self._renew(key, lease))
        try:
            yield lease
        except BaseException:
            # Shielded: whoever stops the server waits for it, and only a moment.
            with suppress(Unavailable):
                await asyncio.shield(self._records.release(key))
            raise
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, key: str, lease: _Lease) -> None:
        """Says again and again that this process is alive; when that can't be said in time, another may be at it."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            began = time.monotonic()
            left = last + _OURS * records.LEASE_SECONDS - began
            try:
                async with asyncio.timeout(max(left, 0.01)):
                    if not await self._records.renew(key):
                        return lease.lose()
                last = began
            except (Unavailable, TimeoutError) as error:
                log.warning("that the action %s is being done could not be written: %s", key, error)
                if began - last + _RENEW_SECONDS > _OURS * records.LEASE_SECONDS:
                    return lease.lose()

    def _is_dead(self, record: Record) -> bool:
        """Whether nobody is at what is still under way there."""
        if record.boot == self._records.boot:
            return record.intent.key not in self._running
        return record.until <= self._clock()

    async def _seen(self, action: Action, intent: Intent, told: Told) -> Outcome | None:
        """What the world says about an intent that was broken off; None for "not done"."""
        happened, why = await self._probed(action, intent)
        if happened is Happened.NO:
            return None
        if happened is Happened.YES:
            done = Done("It was done, and broken off after that.")
            return await self._done(action, intent, done, told, 0.0)
        return await self._unknown(intent, why, told, 0.0)

    async def _perform(self, action: Action, intent: Intent, told: Told, lease: _Lease) -> Outcome:
        started = time.monotonic()
        try:
            await told("executing", Outcome(Status.EXECUTING, ""), 0.0)
            if not await self._records.renew(intent.key):
                raise _at_it()
        except OpswarmError:
            await self._records.drop(intent.key)
            raise
        try:
            async with asyncio.timeout(action.seconds):
                done = await lease.holding(action.perform(intent))
        except _Lost:
            why = "This server could not say any more that it is at it, so it broke it off."
            return await self._unknown(intent, why, told, time.monotonic() - started)
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
        await self._record(intent.key, outcome, heard=False)  # So far nobody was told.
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

    async def _record(self, key: str, outcome: Outcome, *, heard: bool = True) -> None:
        try:
            await self._records.end(key, outcome, heard=heard and self._waiting[key] > 0)
        except Unavailable:
            # It stays under way there, and the world is asked about it when the key comes again.
            log.exception("what became of the action %s could not be written: %s", key, outcome.status)

    async def _again(self, record: Record) -> Outcome:
        if not record.heard:
            await self._records.hear(record)
        return replace(record.outcome, again=True)


class _Lost(Exception):
    """Another process may be at the action by now."""


class _Lease:
    """Whether this process still has an action to itself."""

    def __init__(self) -> None:
        self._lost = asyncio.Event()

    def lose(self) -> None:
        self._lost.set()

    async def holding(self, work: Awaitable[Done]) -> Done:
        """The result of `work`, which is broken off with `_Lost` when the lease is."""
        doing, losing = asyncio.ensure_future(work), asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait((doing, losing), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise _Lost
        finally:
            for task in (doing, losing):
                task.cancel()
            await asyncio.gather(doing, losing, return_exceptions=True)


def _give_up(action: Action) -> float:
    """How long somebody else's turn at an action is waited for, on the monotonic clock."""
    return time.monotonic() + action.seconds + action.verify_seconds + 2 * LEASE_SECONDS


async def _wait_until(give_up: float) -> None:
    if time.monotonic() > give_up:
        raise _at_it()
    await asyncio.sleep(_POLL_SECONDS)


def _sentence(intent: Intent, action: Action, error: Exception) -> str:
    if isinstance(error, OpswarmError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"{intent.tool} did not finish within {action.seconds:.0f} s."
    return f"{intent.tool} broke inside; its server's log has the details."


def _same(theirs: str, ours: str) -> None:
    if theirs != ours:
        raise InvalidInput(
            "This idempotency key was used for another call.", hint="Use a new key, or repeat the same call."
        )


def _at_it() -> UnderWay:
    return UnderWay(
        "The same is being done at this moment.", hint="Look what came of it in a minute, before you ask for it again."
    )


async def _tell(told: Told, event: str, outcome: Outcome, seconds: float) -> None:
    """After the effect: what can't be told any more does not undo it."""
    try:
        await told(event, outcome, seconds)
    except OpswarmError:
        log.exception("%s of an action could not be written to the audit", event)
