"""What the tool server can do to an Alertmanager: make a silence, and end one.

Nothing here decides whether it may be done; that is the gate's.
"""
