"""Having Flux look at one object now, and waiting for what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.finding import one_line
from mcp_servers.cluster.objects import Found, Name, Namespace, Objects, look, patch, probe
from mcp_servers.cluster.waiting import Time, watched
from mcp_servers.flux.actions.chosen import NEVER_RECONCILED, Choosing
from mcp_servers.flux.fields import Obj, label, ref_of, text
from mcp_servers.flux.kinds import BY_KIND
from mcp_servers.flux.reading import Kind
from mcp_servers.flux.snapshot import chart_ref, source_ref
from mcp_servers.flux.state import Health, is_only_an_address, is_suspended, state_of
from opswarm.actions.action import Action, Done, Intent, Plan, Verification
from opswarm.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

REQUESTED = "reconcile.fluxcd.io/requestedAt"
"""The annotation that `flux reconcile` writes; its value comes back in status.lastHandledReconcileAt."""

RESET = "reconcile.fluxcd.io/resetAt"
"""With the value of the other one: a HelmRelease forgets how often it has failed."""

WAIT = 180.0
_SOURCE_WAIT = 60.0

WithSource = Annotated[bool, Field(description="Have its source fetched first.")]
Reset = Annotated[bool, Field(description="Of a HelmRelease: forget its failures, so that it tries again.")]


class Reconciling:
    """Reconciling objects of one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster, self._choosing = objects.cluster, Choosing(objects)

    def specs(self) -> list[ToolSpec]:
        action = Action(
            self._perform, self._probe, self._verify, seconds=_SOURCE_WAIT * 2 + 30, verify_seconds=WAIT + 30
        )
        return [ToolSpec(self.flux_reconcile, read_only=False, risk=Risk.SAFE, action=action)]

    async def flux_reconcile(
        self, kind: Kind, name: Name, namespace: Namespace, with_source: WithSource = False, reset: Reset = False
    ) -> Plan:
        """Have Flux look at one object now instead of at its next interval, as `flux reconcile` does."""
        found = await self._choosing.find(Verb.RECONCILE, kind, name, namespace, NEVER_RECONCILED)
        if reset and found.resource.kind != "HelmRelease":
            raise InvalidInput(f"Only a HelmRelease counts failures, {found} does not.", hint="Leave out reset.")
        _is_looked_at(found)
        sources = await self._sources(found) if with_source else []
        for one in (*sources, found):
            await self._objects.require(one, "patch")
        lines = [f"First fetched: {', '.join(map(str, sources))}."] if sources else []
        if found.resource.kind in ("Kustomization", "HelmRelease"):
            lines.append("What was changed by hand in what it applies is put back as Git says.")
        lines += ["Its failures so far are forgotten: it installs or upgrades again."] if reset else []
        return Plan(
            f"Reconcile {found}{', with its source' if sources else ''}{', its failures forgotten' if reset else ''}.",
            tuple([await self._choosing.target(one, Verb.RECONCILE) for one in (found, *sources)]),
            Risk.RISKY if reset else Risk.SAFE,
            "\n".join(lines),
            found.state(reset=reset, sources=[one.state() for one in sources]),
        )

    async def _sources(self, found: Found) -> list[Found]:
        """What is fetched before `found` is looked at, in that order."""
        try:
            source = source_ref(found.obj)
            if source is None:
                raise InvalidInput(f"{found} has no source of its own.", hint="Leave out with_source.")
            named = [
                await self._choosing.find(Verb.RECONCILE, kind, name, namespace, ())
                for kind, namespace, name in filter(None, (source, chart_ref(found.obj)))
            ]
        except PermissionDenied as error:
            raise PermissionDenied(
                error.message, hint="Leave out with_source: it is fetched at its own interval anyway.", rule=error.rule
            ) from error
        except NotFound as error:
            raise NotFound(f"The source of {found} can't be fetched: {error.message}", hint=error.hint) from error
        chain = [one for one in named if not is_only_an_address(one.obj)]
        for one in chain:
            if is_suspended(one.obj):
                raise InvalidInput(f"{one} is suspended, so nothing is fetched.", hint="Leave out with_source.")
        return chain

    async def _perform(self, intent: Intent) -> Done:
        late = []
        for source in intent.state["sources"]:
            fetched = await self._fetched(replace(intent, state=source))
            if fetched.ok is False:
                raise Conflict(
                    f"{fetched.text} So {intent.state['object']} was not reconciled.", hint="flux_diagnose says why."
                )
            late += [] if fetched.ok else [f" {source['object']} has not been fetched yet: {fetched.text}"]
        await self._ask(intent, bool(intent.state["reset"]))
        return Done(f"Flux is asked to reconcile {intent.state['object']}.{''.join(late)}", {})

    async def _fetched(self, intent: Intent) -> Verification:
        await self._ask(intent)
        return await watched(lambda: self._look(intent), _SOURCE_WAIT, self._by)

    async def _ask(self, intent: Intent, reset: bool = False) -> None:
        stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        wanted = {REQUESTED: stamp, **({RESET: stamp} if reset else {})}
        await patch(self._cluster, intent, {"metadata": {"annotations": wanted}})

    async def _probe(self, intent: Intent) -> Any:
        return await probe(self._cluster, intent)

    async def _verify(self, intent: Intent) -> Verification:
        return await settled(lambda: self._look(intent), self._by)

    async def _look(self, intent: Intent) -> Verification:
        def taken_up(obj: Obj) -> Verification:
            if is_suspended(obj):
                return Verification(False, f"{intent.state['object']} was suspended meanwhile.")
            if text(obj, "status", "lastHandledReconcileAt") != text(obj, "metadata", "annotations", REQUESTED):
                return Verification(None, f"{_controller(obj)} has not taken it up yet.")
            return judged(obj)

        return await seen(self._cluster, intent, taken_up)


async def seen(cluster: Cluster, intent: Intent, judge: Callable[[Obj], Verification]) -> Verification:
    """What `judge` says of the intent's object as it is now; not ok where that is gone."""
    obj = await look(cluster, intent)
    if obj is None:
        return Verification(False, f"{intent.state['object']} is gone, or was replaced.")
    return judge(obj)


async def settled(look_again: Callable[[], Awaitable[Verification]], by: Time) -> Verification:
    """What came of it within `WAIT` seconds, in a sentence that says where to look where nothing has yet."""
    last = await watched(look_again, WAIT, by)
    if last.ok is None:
        return Verification(
            None, f"{last.text} Looked for {WAIT:.0f} s; flux_report shows whether its controller runs."
        )
    return last


def judged(obj: Obj) -> Verification:
    """How the object is after it has been looked at; `ok` is None while it is under way."""
    state = state_of(obj, datetime.now(UTC))
    why = ": ".join(one for one in (state.reason, one_line(state.message, 400)) if one)
    if state.health in (Health.RECONCILING, Health.STUCK):
        return Verification(None, f"{label(state.ref)} is still at it: {why}.")
    if state.health.broken:
        return Verification(False, f"{label(state.ref)} is {state.health}: {why}.")
    at = f" at {state.revision}" if state.revision else ""
    return Verification(True, f"{label(state.ref)} is {state.health}{at}.")


def _is_looked_at(found: Found) -> None:
    if is_suspended(found.obj):
        raise InvalidInput(f"{found} is suspended: its controller does not look at it.", hint="flux_resume first.")
    if is_only_an_address(found.obj):
        raise InvalidInput(f"{found} is only an OCI address.", hint="Reconcile the HelmRelease that uses it.")


def _controller(obj: Mapping[str, Any]) -> str:
    kind = BY_KIND.get(ref_of(obj)[0])
    return kind.controller if kind else "Its controller"
