"""Actions: what changes the world, from proposal to record.

A tool that changes something is written as four functions (`action`). The tool server's gate (`gate`) takes a call
through its life: planned, decided by the policy, asked about (`proposals`, `grants`), done once (`execution`),
verified, and told to the audit (`audit`) at each step. Nothing here knows of Kubernetes or Git.
"""
