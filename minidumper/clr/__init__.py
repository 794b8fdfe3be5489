"""The CLR side: the worker process with ClrMD and the DAC, and its client."""
