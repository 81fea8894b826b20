"""What goes along with a tool call and its result in `_meta`, as both ends spell it."""

from __future__ import annotations

KEY = "opswarm/idempotency-key"
"""Of a call: what changes something is done once for one key."""

PROPOSAL = "opswarm/proposal"
"""Of a call: the id of the approval that it waited for."""

LATER = "opswarm/later"
"""Of an error: nothing came of the call now, and the same may go through later."""

APPROVAL = "opswarm/approval"
"""Of a result: what waits for a person, and nothing was done."""

TOOLSET = "opswarm/toolset"
"""Of a tool: the group that it is offered in, where that is not the common one."""
