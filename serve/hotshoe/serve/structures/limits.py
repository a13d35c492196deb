"""What a structure may take."""

COMPILE_SECONDS = 10.0
"""Until it can be followed. Sound ones take 10 ms to a second."""

MASK_SECONDS = 2.0
"""Which tokens may come next. Sound ones take 0.1 ms."""

ANSWER_SECONDS = 10.0
"""Of the processor's time, for one answer in all. Sound structures take 0.4 s for 4,096 tokens."""

GRACE_SECONDS = 0.002
"""How long a step waits in all for structures that are quick; it costs their answers a step otherwise."""

MEMORY_BYTES = 256 << 20
"""Beside what it shares with the others."""

PROCESSES = 64
"""At most; those that nobody follows any more leave first."""

REFUSED_SECONDS = 600.0
"""How long a structure that took too much is refused without another try."""

REMEMBERED = 1024
"""Structures that are refused so, at most."""

SLOW_SECONDS = 0.3
"""After that the process only gets what time of the processor nobody else wants."""

FIRST_NICENESS = 5
SLOW_NICENESS = 19

MESSAGE_BYTES = 128 << 10
"""The largest message between engine and process: a mask, a bit for each token of the vocabulary."""
