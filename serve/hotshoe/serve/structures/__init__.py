"""Structured output (JSON schemas, regular expressions, grammars), followed in processes of its own.

What a grammar costs cannot be told by looking at it: an ambiguous one of a few lines takes seconds a
token, or minutes and gigabytes to compile, in native code that nothing can interrupt. In vLLM that is
time of the engine's own step, so everybody waits. Here each structure has a process of its own with
bounded memory. The engine never waits for it: an answer whose next token is not decided yet sits out a
step, and a process that takes too long is killed, which ends the answers that followed this structure.

    engine's process                      zygote (has xgrammar loaded)      one process a structure
    backend, scheduler -> processes ----> forks -------------------------> matching
"""
