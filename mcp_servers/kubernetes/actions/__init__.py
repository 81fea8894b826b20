"""What the Kubernetes tool server can do to a cluster: one module a family, each action planned before it is done.

Nothing here decides whether it may be done; that is the gate's. What the hard limits forbid is refused all the same.
"""
