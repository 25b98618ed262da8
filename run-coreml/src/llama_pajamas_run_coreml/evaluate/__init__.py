"""A reference evaluator of Core ML's ML Programs in numpy: what a package computes, told on any system.

``package`` reads a package, ``program`` holds it, ``ops`` knows what each operation does, and ``evaluator`` runs it.
An operation that is not known is an error, and so is a result whose type or shape is not what the program declares.
"""
