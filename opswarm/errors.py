"""Every error that Opswarm raises on purpose.

```
OpswarmError                 a sentence for a person, and what to do next
 ├─ InvalidInput             the caller asked for something that makes no sense
 │   └─ SettingsInvalid      opswarm.yaml or the environment says something impossible
 │       └─ PolicyInvalid    policy.yaml does; `faults` says what and where
 ├─ Unauthenticated          no proof of who is calling, or a bad one
 ├─ PermissionDenied         we know who is calling, and they may not; `rule` names what says so, or ""
 ├─ NotFound                 the named thing is not there
 ├─ Conflict                 it was done or answered already
 │   └─ UnderWay             it is being done at this moment
 ├─ LimitExceeded            a size or a count was reached
 │   └─ BudgetExceeded       the tokens or the money for a task or a day are spent
 ├─ DeadlineExceeded         a wait ended before the answer came
 ├─ Unavailable              something this needs does not answer
 │   ├─ ToolServerDown       a tool server can't be reached
 │   ├─ AgentDown            an agent can't be reached
 │   └─ ControlUnknown       whether actions are paused can't be told, so they are
 └─ ModelFailed              the model's provider refused or broke
     ├─ ModelKeyRejected     the provider does not accept the key, or there is none
     ├─ ModelUnknown         the provider has no such model, or it is not pulled
     ├─ ModelBusy            rate limited or overloaded; `retry_after` seconds when known
     ├─ ModelUnreachable     the provider or the gateway does not answer
     ├─ ModelContextTooLong  the conversation does not fit the model
     └─ ModelReplyInvalid    the reply can't be read as what was asked for
```

`message` and `hint` are written for people and are safe to show: they never hold a secret, a stack trace or
the raw text of somebody else's exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OpswarmError(Exception):
    """The root. `str()` gives the message and the hint as one text of one or two sentences."""

    code = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidInput(OpswarmError):
    code = "invalid_input"


class SettingsInvalid(InvalidInput):
    code = "settings_invalid"


class PolicyInvalid(SettingsInvalid):
    code = "policy_invalid"

    def __init__(self, message: str, *, hint: str = "", faults: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = tuple(faults)


class Unauthenticated(OpswarmError):
    code = "unauthenticated"


class PermissionDenied(OpswarmError):
    code = "permission_denied"

    def __init__(self, message: str, *, hint: str = "", rule: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rule = rule


class NotFound(OpswarmError):
    code = "not_found"


class Conflict(OpswarmError):
    code = "conflict"


class UnderWay(Conflict):
    code = "under_way"


class LimitExceeded(OpswarmError):
    code = "limit_exceeded"


class BudgetExceeded(LimitExceeded):
    code = "budget_exceeded"


class DeadlineExceeded(OpswarmError):
    code = "deadline_exceeded"


class Unavailable(OpswarmError):
    code = "unavailable"


class ToolServerDown(Unavailable):
    code = "tool_server_down"


class AgentDown(Unavailable):
    code = "agent_down"


class ControlUnknown(Unavailable):
    code = "control_unknown"


class ModelFailed(OpswarmError):
    code = "model_failed"


class ModelKeyRejected(ModelFailed):
    code = "model_key_rejected"


class ModelUnknown(ModelFailed):
    code = "model_unknown"


class ModelBusy(ModelFailed):
    code = "model_busy"

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ModelUnreachable(ModelFailed):
    code = "model_unreachable"


class ModelContextTooLong(ModelFailed):
    code = "model_context_too_long"


class ModelReplyInvalid(ModelFailed):
    code = "model_reply_invalid"


@dataclass(frozen=True, slots=True)
class WireCode:
    """How one error type is spelt on each wire: HTTP status, JSON-RPC code, OpenAI error type."""

    http: int
    jsonrpc: int
    openai: str


_WIRE: dict[type[OpswarmError], WireCode] = {
    OpswarmError: WireCode(500, -32603, "server_error"),
    InvalidInput: WireCode(400, -32602, "invalid_request_error"),
    Unauthenticated: WireCode(401, -32600, "authentication_error"),
    PermissionDenied: WireCode(403, -32600, "permission_error"),
    NotFound: WireCode(404, -32602, "not_found_error"),
    Conflict: WireCode(409, -32602, "invalid_request_error"),
    LimitExceeded: WireCode(413, -32602, "invalid_request_error"),
    BudgetExceeded: WireCode(429, -32603, "insufficient_quota"),
    DeadlineExceeded: WireCode(504, -32603, "timeout_error"),
    Unavailable: WireCode(503, -32603, "service_unavailable_error"),
    ModelFailed: WireCode(502, -32603, "server_error"),
    ModelKeyRejected: WireCode(502, -32603, "authentication_error"),
    ModelUnknown: WireCode(404, -32602, "not_found_error"),
    ModelBusy: WireCode(429, -32603, "rate_limit_error"),
    ModelUnreachable: WireCode(503, -32603, "service_unavailable_error"),
    ModelContextTooLong: WireCode(400, -32602, "context_length_exceeded"),
}


def wire_code(error: OpswarmError | type[OpswarmError]) -> WireCode:
    """The wire spelling of an error: its own entry, else its nearest ancestor's."""
    kind = error if isinstance(error, type) else type(error)
    for ancestor in kind.__mro__:
        if ancestor in _WIRE:
            return _WIRE[ancestor]
    return _WIRE[OpswarmError]


def by_code(code: str) -> type[OpswarmError]:
    """The error type whose `code` this is; `OpswarmError` when no one has it."""
    pending: list[type[OpswarmError]] = [OpswarmError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind
        pending.extend(kind.__subclasses__())
    return OpswarmError
