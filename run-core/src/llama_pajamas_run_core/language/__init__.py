"""What the runtimes of language models share: how a conversation becomes a prompt, how an answer is read and held to
what was asked, adapters by name.
"""
