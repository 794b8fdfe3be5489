"""Windows: processes, MiniDumpWriteDump."""
