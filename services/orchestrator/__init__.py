"""The orchestrator: the one front door. It routes requests to agents and signs their turn tokens."""
