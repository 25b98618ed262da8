"""Signal processing in pure numpy, shared by every runtime: what a device with one runtime can always afford."""
