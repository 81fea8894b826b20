"""A Loki for the lab: its HTTP API over streams in memory, and of LogQL what dashboards and tools mostly use."""
