"""The model gateway: the only holder of model keys, and the only process that imports LiteLLM."""
