"""JSON Schema and tool calls as GBNF, the grammars that llama.cpp's sampler follows."""
