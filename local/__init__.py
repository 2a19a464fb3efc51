"""The service on this machine: the template on an emulator of AWS, and the tools around it."""
