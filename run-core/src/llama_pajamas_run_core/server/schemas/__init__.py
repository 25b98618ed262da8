"""OpenAI's wire types, one file for each endpoint family, with both conversions: to the core's types and from them.

Requests are pydantic models; unknown fields are ignored, as clients send many. Replies are plain mappings, built by
functions: a model instance for each token of a stream would cost more than the token.
"""
