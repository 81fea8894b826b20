"""A Kubernetes API server, as the tool servers that hold credentials of a cluster share it."""
