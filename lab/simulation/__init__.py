"""What makes the cluster live: scheduler, kubelets and controllers, each a step on the clock; no I/O here."""
