"""How conversations are rendered, and how answers are read and held to what was asked."""
