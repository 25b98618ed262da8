"""The values that pass between the layers: frozen dataclasses on numpy, each carrying its own units."""
