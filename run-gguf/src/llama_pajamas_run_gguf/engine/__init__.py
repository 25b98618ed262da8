"""The continuous-batching engine: many requests share each decode step of one llama.cpp context."""
