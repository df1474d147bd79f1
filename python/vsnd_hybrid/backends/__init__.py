"""What the kernel of a guest never sees: audio engines. One module an engine; `base` is the interface."""
