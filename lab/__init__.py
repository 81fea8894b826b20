"""A simulated home cluster, served over the Kubernetes HTTP API: what a program sees is what 1.34 answers.

lab = create_lab(["oom"])
async with await serve(lab) as running: ...
"""
