"""The public MCP conformance suite against our servers: `make conformance`."""
