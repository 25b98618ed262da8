"""The OpenAI-compatible server: one room for each endpoint family.

``app.create_app`` builds the application from explicit arguments, ``run.serve`` runs it. ``routes`` hold the
endpoints, ``schemas`` the wire types with their conversions to and from the core's types; no backend ever sees
OpenAI's JSON.
"""
