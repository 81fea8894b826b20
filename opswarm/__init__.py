"""The kit that every Opswarm service is built from. It knows nothing of Kubernetes or GitHub."""

__version__ = "0.1.0"
