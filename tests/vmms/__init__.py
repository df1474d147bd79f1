"""Every virtual machine monitor's way to talk to the daemon: what each says, message by message, and that audio survives it.

`link` is the socket, `vmm` a machine without processors behind it, `dialects` the monitors. Guests that run stand in `tests.guests`.
"""
