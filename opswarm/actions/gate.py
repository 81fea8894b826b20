"""The gate: what every call of an action goes through, whoever makes it and however it came.

It is planned, decided by the policy, asked about where that says so, done once, verified, and told to the audit at each
step. What can't be told to the audit, or counted, or known to be not paused, is not done.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from opswarm.actions.action import Action, Intent, Plan, asking_before_writes
from opswarm.actions.attempts import Attempt, Telling, recovering
from opswarm.actions.audit import Audit
from opswarm.actions.canonical import digest
from opswarm.actions.execution import Executions
from opswarm.actions.grants import Grants
from opswarm.actions.proposals import Proposal, Proposals, State, content_of, may_answer, new_id, touched
from opswarm.actions.records import Outcome
from opswarm.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    OpswarmError,
    PermissionDenied,
    Unavailable,
)
from opswarm.guard import risk as risks
from opswarm.guard.decision import Call, Decision, decide
from opswarm.guard.policy import Policy
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.rates import RateLimits
from opswarm.guard.redaction import hides_much, redact
from opswarm.guard.risk import Risk
from opswarm.guard.untrusted import cap_bytes, clean

log = logging.getLogger(__name__)

PREVIEW_BYTES = 24_000
"""Most of a preview that a person is shown. A longer one is refused: what is cut off could not be judged."""

_KEY_BYTES = 200


class Control(Protocol):
    """The kill switch, as a tool server follows it."""

    async def check_action(self) -> None:
        """Raises `PermissionDenied` while actions are paused, or when that can't be known."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said when this call was made before: to the proposal `id`, whose content hash was `content`."""

    id: str
    content: str
    yes: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """How a call came, beside its arguments.

    `key` is the caller's idempotency key and `proposal` the id of one that was approved, or "". `token` proves the
    caller (kept with a proposal, see there). `person` asks whoever makes the call, where that is a person whose client
    can show a question: True is yes, False no, None no answer. `said` is their answer where it comes with the call.
    """

    key: str = ""
    proposal: str = ""
    dry_run: bool = False
    token: str = field(default="", repr=False)
    person: Callable[[Proposal], Awaitable[bool | None]] | None = None
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action's call gives: text for the caller, and the proposal where a person has to answer first."""

    text: str
    outcome: Outcome | None = None
    proposal: Proposal | None = None
    verdict: Decision | None = None


Planner = Callable[[], Awaitable[Plan]]


class Gate:
    """The gate of one tool server. `chat_seconds` and `alone_seconds` are how long a proposal waits for a person,
    where somebody asked for it and where an agent works by itself."""

    def __init__(
        self,
        server: str,
        policy: Callable[[], Policy],
        control: Control,
        rates: RateLimits,
        proposals: Proposals,
        grants: Grants,
        executions: Executions,
        audit: Audit,
        *,
        chat_seconds: float = 1_800.0,
        alone_seconds: float = 43_200.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.server = server
        self.proposals = proposals
        self.audit = audit
        self._policy = policy
        self._control = control
        self._rates = rates
        self._grants = grants
        self._executions = executions
        self._telling = Telling(audit)
        self._tell = self._telling.tell
        self._chat_seconds = chat_seconds
        self._alone_seconds = alone_seconds
        self._clock = clock

    async def act(
        self,
        tool: str,
        action: Action,
        declared: Risk,
        arguments: Mapping[str, Any],
        planner: Planner,
        principal: Principal | None,
        asked: Asked,
    ) -> Answer:
        """Takes one call of an action as far as it may go. `arguments` are validated, with every default filled in.

        Raises `PermissionDenied` with the rule for what is denied, and what planning it raises.
        """
        if principal is None:
            raise PermissionDenied("Nobody is known to be calling.", hint="Send a token.", rule="principal.none")
        given = _key(asked, principal)
        attempt = Attempt(tool, arguments, principal, given or f"r-{uuid.uuid4().hex}", given)
        try:
            return await self._act(attempt, action, declared, planner, asked)
        except PermissionDenied as error:
            await self._tell(attempt, "denied", rule=error.rule, text=str(error), proposal=asked.proposal)
            raise
        except OpswarmError as error:
            await self._tell(attempt, "failed", text=str(error), proposal=asked.proposal)
            raise

    async def answer(self, id: str, token: str) -> Proposal:
        """Takes a person's answer, as a grant. Raises `PermissionDenied` for one that does not count, `NotFound`, and
        `Conflict` for one that comes too late."""
        proposal = await self.proposals.get(id)
        grant = self._grants.arrived(token, proposal)
        said = await self.proposals.answer(
            id, grant.state, approver=grant.approver.subject, answer=grant.reason, grant=token
        )
        try:
            await self._told_answer(said, grant.approver)
        except Unavailable:
            # It counts, and its signature is kept with the proposal; what is done for it needs an entry of its own.
            log.exception("the answer to %s could not be written to the audit", id)
        return said

    async def recover(self, actions: Mapping[str, Action]) -> None:
        """Looks after what was broken off, by the end of this process or of another one on the same database."""
        for intent in await self._executions.broken_off():
            action = actions.get(intent.tool)
            if action is None:
                log.error("the tool %s is not here any more; what became of %s is not known", intent.tool, intent.key)
                continue
            try:
                outcome = await self._executions.settle(
                    action, intent.key, self._telling.of(recovering(intent), intent)
                )
            except Conflict:
                continue  # Another process looks after it.
            log.warning(
                "the action %s (%s) was broken off: %s",
                intent.key,
                intent.tool,
                outcome.text if outcome else "it was not done, and is done when it is asked for again.",
            )

    async def _act(self, attempt: Attempt, action: Action, declared: Risk, planner: Planner, asked: Asked) -> Answer:
        call = digest([attempt.tool, attempt.arguments])
        proposal: Proposal | None = None
        asked_as = ""
        if asked.proposal:
            proposal = await self._carried(asked.proposal, attempt)
        elif attempt.given:
            # Before anything is looked at: a repeat gives the first result, whatever the world is like by now.
            asked_as = await self.proposals.keyed(attempt.given)
            for key in (attempt.given, asked_as):
                if key and (known := await self._before(key, attempt, action, call, asked)) is not None:
                    return Answer(_told(known), known)
            if asked_as:
                with suppress(NotFound):  # Who was asked on the spot left nothing but the key.
                    proposal = await self._carried(asked_as, attempt)
        if proposal is None and not asked.dry_run:
            proposal = await self._approved(attempt)
        if proposal is not None:
            attempt = replace(attempt, key=proposal.id)
            if (known := await self._before(proposal.id, attempt, action, call, asked)) is not None:
                return Answer(_told(known), known, proposal)
            if proposal.state not in (State.APPROVED, State.USED):
                return await self._unanswered(attempt, proposal)
            if self._grants.read(proposal.grant, proposal).state is not State.APPROVED:
                raise PermissionDenied("What was signed is a no.", rule="approval.rejected")
        if not asked.dry_run:
            await self._control.check_action()
        self._decided(attempt, declared, ()).raise_for_denial()
        plan = await _shown(planner)
        decision = self._decided(attempt, declared, plan)
        decision.raise_for_denial()
        if asked.dry_run:
            await self._tell(attempt, "previewed", decision=decision, text=plan.summary)
            return Answer(_previewed(plan, decision), verdict=decision)
        if proposal is not None and content_of(plan) != proposal.content:
            return await self._changed(attempt, action, plan, decision, asked, proposal)
        why = await self._executions.unsettled(call, attempt.key)
        if why and (proposal is None or why not in proposal.reason):
            decision = _unsettled(decision, why)
            if proposal is not None:  # It was tried since: their yes was to what they knew then.
                await self.proposals.use(proposal.id, State.STALE)
                return await self._propose(attempt, plan, decision, asked, changed=True)
        if proposal is not None:
            return await self._execute(attempt, action, plan, decision, call, proposal)
        if decision.outcome is risks.Outcome.NEEDS_APPROVAL:
            return await self._ask(attempt, action, declared, planner, plan, decision, call, asked, asked_as)
        return await self._execute(attempt, action, plan, decision, call, None)

    async def _before(
        self, key: str, attempt: Attempt, action: Action, call: str, asked: Asked
    ) -> Outcome | None:
        """What became of `key` before this call; what is under way is waited for, unless this is to be a dry run."""
        if asked.dry_run:
            return await self._executions.known(key, call)
        intent = Intent(key, attempt.tool, attempt.arguments)
        told = self._telling.of(replace(attempt, key=key), intent, proposal=asked.proposal)
        return await self._executions.became(action, key, call, told)

    def _decided(self, attempt: Attempt, declared: Risk, plan: Plan | tuple[()]) -> Decision:
        touches = plan.touches if isinstance(plan, Plan) else ()
        risk = risks.worst(declared, plan.risk, Risk.SAFE) if isinstance(plan, Plan) else declared
        call = Call(attempt.tool, attempt.arguments, risk, touches)
        return decide(self._policy(), call, attempt.principal, self._clock())

    async def _approved(self, attempt: Attempt) -> Proposal | None:
        """One that was approved for the same call, and is still good."""
        proposal = await self.proposals.approved(attempt.tool, attempt.arguments, attempt.principal)
        if proposal is None:
            return None
        try:
            self._grants.read(proposal.grant, proposal)
        except PermissionDenied as error:
            # Nobody named it, so that nothing of it stands in the way of asking again.
            log.info("the approval %s is not good any more: %s", proposal.id, error)
            await self.proposals.use(proposal.id, State.STALE)
            return None
        return proposal

    async def _changed(
        self, attempt: Attempt, action: Action, plan: Plan, decision: Decision, asked: Asked, proposal: Proposal
    ) -> Answer:
        """The world is not the one of the approval any more: nothing is done for it, but it may have been done."""
        begun = Intent(proposal.id, attempt.tool, attempt.arguments)
        told = self._telling.of(attempt, begun, decision, proposal=proposal.id)
        known = await self._executions.settle(action, proposal.id, told, close=True)
        if known is not None:
            return Answer(f"{proposal.summary} {_told(known)}", known, proposal, decision)
        await self.proposals.use(proposal.id, State.STALE)
        return await self._propose(attempt, plan, decision, asked, changed=True)

    async def _carried(self, id: str, attempt: Attempt) -> Proposal:
        """The proposal that the caller names: for exactly this call, and this caller."""
        proposal = await self.proposals.get(cap_bytes(id, 64))
        theirs, ours = proposal.principal, attempt.principal
        if proposal.tool != attempt.tool or digest(proposal.arguments) != digest(attempt.arguments):
            raise PermissionDenied(
                "This was approved for other arguments; a changed call is a new proposal.", rule="approval.arguments"
            )
        if (theirs.subject, theirs.actors) != (ours.subject, ours.actors):
            raise PermissionDenied("This approval is another caller's.", rule="approval.caller")
        return proposal

    async def _unanswered(self, attempt: Attempt, proposal: Proposal) -> Answer:
        if proposal.state is State.WAITING:
            return Answer(_waits(proposal), proposal=proposal)
        if proposal.state is State.REJECTED:
            why = f": {proposal.answer}" if proposal.answer else " and gave no reason."
            raise PermissionDenied(f"{proposal.approver} said no{why}", rule="approval.rejected")
        if proposal.state is State.EXPIRED:
            raise PermissionDenied(
                "Nobody answered in time, which means no.", hint="Ask for it again.", rule="approval.expired"
            )
        raise PermissionDenied(
            "The world had changed since this was approved.", hint="Ask for it again.", rule="approval.stale"
        )

    async def _ask(
        self,
        attempt: Attempt,
        action: Action,
        declared: Risk,
        planner: Planner,
        plan: Plan,
        decision: Decision,
        call: str,
        asked: Asked,
        asked_as: str,
    ) -> Answer:
        """Asks whoever calls, where that is a person who can be shown a question; else leaves a proposal. `asked_as` is
        the question that the caller's key stood for before."""
        if asked.person is None or not attempt.principal.is_direct_person or not may_answer(attempt.principal):
            return await self._propose(attempt, plan, decision, asked)
        proposal = self._proposal(attempt, plan, decision, asked)
        said: bool | None
        if asked.said is not None and asked.said.content == proposal.content:
            # Under the id of the question: the same answer sent again gives the first result.
            proposal = proposal.model_copy(update={"id": asked.said.id})
            said = asked.said.yes
        else:
            await self._tell(attempt, "needs_approval", decision=decision, text=plan.summary, proposal=proposal.id)
            said = await asked.person(proposal)
        if said is None:
            raise PermissionDenied("Nobody answered, which means no.", rule="approval.expired")
        answered = proposal.model_copy(
            update={"state": State.APPROVED if said else State.REJECTED, "approver": attempt.principal.subject}
        )
        await self._told_answer(answered, attempt.principal)
        if not said:
            raise PermissionDenied(f"{attempt.principal.subject} said no.", rule="approval.rejected")
        # The moment may have been long: what is done is what they were shown, or nothing.
        await self._control.check_action()
        fresh = await _shown(planner)
        self._decided(attempt, declared, fresh).raise_for_denial()
        why = await self._executions.unsettled(call, attempt.key)
        if content_of(fresh) != proposal.content or (why and why not in proposal.reason):
            raise PermissionDenied(
                "The world has changed since you were asked.", hint="Ask for it again.", rule="approval.stale"
            )
        # It is done under the id of the question; whoever repeats the call with the same key finds it there. Of several
        # that were asked for one key, one does it.
        if attempt.given and not await self.proposals.claim(attempt.given, proposal.id, asked_as):
            other = await self.proposals.keyed(attempt.given)
            if (known := await self._before(other, attempt, action, call, asked)) is not None:
                return Answer(_told(known), known)
            raise Conflict("The same call was answered elsewhere at this moment.", hint="Ask for it again.")
        attempt = replace(attempt, key=proposal.id)
        return await self._execute(attempt, action, fresh, decision, call, None)

    async def _propose(
        self, attempt: Attempt, plan: Plan, decision: Decision, asked: Asked, *, changed: bool = False
    ) -> Answer:
        proposal = await self.proposals.propose(self._proposal(attempt, plan, decision, asked))
        if attempt.given:
            await self.proposals.remember(attempt.given, proposal.id)
        await self._tell(attempt, "needs_approval", decision=decision, text=plan.summary, proposal=proposal.id)
        before = "The world has changed since the approval, so it is asked for again. " if changed else ""
        return Answer(f"{before}{_waits(proposal)}", proposal=proposal, verdict=decision)

    def _proposal(self, attempt: Attempt, plan: Plan, decision: Decision, asked: Asked) -> Proposal:
        if len(plan.preview.encode("utf-8", errors="replace")) > PREVIEW_BYTES:
            raise PermissionDenied(
                f"What this would change can't be shown in {PREVIEW_BYTES} bytes, so nobody can judge it.",
                hint="Do less at a time, or do it yourself.",
                rule="approval.preview",
            )
        now = self._clock()
        alone = attempt.principal.kind is not Kind.PERSON
        return Proposal(
            id=new_id(),
            server=self.server,
            tool=attempt.tool,
            arguments=attempt.arguments,
            summary=plan.summary,
            preview=plan.preview,
            risk=decision.risk,
            touches=touched(plan),
            rule=decision.rule,
            reason=decision.reason,
            principal=attempt.principal,
            created=now,
            expires=now + (self._alone_seconds if alone else self._chat_seconds),
            proof=asked.token,
        )

    async def _execute(
        self,
        attempt: Attempt,
        action: Action,
        plan: Plan,
        decision: Decision,
        call: str,
        proposal: Proposal | None,
    ) -> Answer:
        intent = Intent(attempt.key, attempt.tool, attempt.arguments, plan.state)

        async def before() -> None:
            await self._control.check_action()  # First: what a pause keeps from being done costs nothing.
            await self._rates.take(attempt.tool, attempt.principal)
            if proposal is not None and not await self.proposals.use(proposal.id):
                # Used before: only what was broken off is gone on with, and the world said that it was not done.
                log.warning("the action %s is gone on with", proposal.id)

        # Paused is asked about at the last moment at which it can still be kept from happening.
        told = self._telling.of(
            attempt,
            intent,
            decision,
            proposal=proposal.id if proposal is not None else "",
            before=before,
            last=self._control.check_action,
        )
        if (left := await self._executions.left(call, attempt.key)) is not None:
            looking = self._telling.of(recovering(left), left)
            await self._executions.settle(action, left.key, looking, close=True)
        with asking_before_writes(self._control.check_action):
            outcome = await self._executions.do(action, intent, call, told)
        return Answer(f"{plan.summary} {_told(outcome)}", outcome, proposal, decision)

    async def _told_answer(self, proposal: Proposal, approver: Principal) -> None:
        event = "approved" if proposal.state is State.APPROVED else "rejected"
        attempt = Attempt(proposal.tool, proposal.arguments, approver, proposal.id)
        text = f"{proposal.summary} {proposal.answer}".strip()
        await self._tell(attempt, event, rule=proposal.rule, text=text, proposal=proposal.id)


async def _shown(planner: Planner) -> Plan:
    """The plan with its texts as people see them: nothing invisible in them, and no secret."""
    try:
        plan = await planner()
    except OpswarmError:
        raise
    except TimeoutError as error:
        raise DeadlineExceeded(
            "What this would do could not be worked out in time.", hint="Try again; nothing was done."
        ) from error
    except Exception as error:  # The tool's boundary: an attempt that breaks is told to the audit like any other.
        log.exception("planning broke")
        raise OpswarmError("What this would do could not be worked out: the tool broke inside.") from error
    summary, preview = clean(plan.summary), clean(plan.preview)
    if hides_much(preview) or hides_much(summary):
        raise PermissionDenied(
            "It holds what looks like a private key, that nobody is shown, so nobody can judge it.",
            hint="Keep keys out of it: put them into a Secret, and refer to that.",
            rule="approval.preview",
        )
    return replace(plan, summary=redact(summary), preview=redact(preview))


def _unsettled(decision: Decision, why: str) -> Decision:
    """The same call was made before, and it is open what became of it: a person is asked, whatever the level."""
    reason = f"{why} So a person looks first."
    return Decision(risks.Outcome.NEEDS_APPROVAL, "execution.unknown", reason, decision.risk)


def _key(asked: Asked, principal: Principal) -> str:
    """The idempotency key as the server keeps it: each caller's are apart from everybody else's."""
    if not asked.key:
        return ""
    if len(asked.key.encode("utf-8", errors="replace")) > _KEY_BYTES:
        raise InvalidInput(f"An idempotency key has at most {_KEY_BYTES} bytes.")
    named = f"{principal.subject}\n{principal.acting}\n{asked.key}".encode("utf-8", errors="replace")
    return f"k-{hashlib.sha256(named).hexdigest()[:40]}"


def _told(outcome: Outcome) -> str:
    return f"{outcome.text} (This is what came of it the first time.)" if outcome.again else outcome.text


def _waits(proposal: Proposal) -> str:
    return (
        f"Needs approval {proposal.id}: {proposal.summary} {proposal.reason} Nothing was done yet. "
        f"A person answers with `opswarm approve {proposal.id}` or `opswarm reject {proposal.id}`."
    )


def _previewed(plan: Plan, decision: Decision) -> str:
    preview = f"\n{plan.preview}" if plan.preview else ""
    return f"Would do: {plan.summary}{preview}\n{decision.reason} ({decision.rule})"
