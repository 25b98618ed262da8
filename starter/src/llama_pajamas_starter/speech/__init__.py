"""The starter speech model: Whisper's architecture, trained by this project from scratch on synthetic speech."""
