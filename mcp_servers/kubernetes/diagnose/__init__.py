"""What is broken in a cluster, and why: pure analyzers from API objects to findings.

`collect` reads a `Snapshot` through a `Reader`; `diagnose` turns it into a `Report`; `add_logs` adds what
crashing containers wrote; `render` and `to_data` present it. Only `collect` does I/O; the clock is given.
"""
