"""Contract suites: what every backend of a modality must do. Imported by tests alone; they need pytest."""
