"""Text as it streams: stop strings, whole code points, sentences, tool calls. Pure functions and small machines."""
