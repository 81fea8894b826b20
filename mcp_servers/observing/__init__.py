"""What every tool server shares that asks a store of metrics or logs over HTTP: no tools, no actions."""
