"""An airline that the demo governs: somebody else's system, with its own database and tools."""
