"""The lab's Prometheus and Alertmanager: the real ones, where they are installed, over what the lab exports."""
