"""What a structure may take."""

COMPILE_SECONDS = 10.0
"""Of the processor's time, until it can be followed. Sound ones take 10 ms to a second."""

MASK_SECONDS = 2.0
"""Of the processor's time, to tell which tokens may come next. Sound ones take 0.1 ms."""

STUCK_SECONDS = 60.0
"""Without a word, however little it could work; who asks may try again, since that tells of the machine."""

LOOK_SECONDS = 0.05
"""Whoever is silent for less is not asked what it took, and nobody is more often than that."""

BUSY_SECONDS = 1.0
"""How long those who ask for a structure hear that its process got stuck."""

ANSWER_SECONDS = 10.0
"""Of the processor's time, for one answer in all. Sound structures take 0.4 s for 4,096 tokens. It ends that
answer alone, and however many of a structure end so, the next one may try: all are one tenant's, hold its
places in the engine, and get only what nobody else wants of the processor, see SLOW_ANSWER_SECONDS."""

GRACE_SECONDS = 0.002
"""How long a step waits in all for structures that are quick; it costs their answers a step otherwise."""

MEMORY_BYTES = 256 << 20
"""Beside what it shares with the others."""

ABANDONED_SECONDS = 2.0
"""How long a structure is compiled that nobody asks for. Who waits for one asks every 50 ms."""

IDLE_SECONDS = 300.0
"""How long one that is compiled stays when nobody asks for it or follows it: it holds memory."""

PROMISED_SECONDS = 1.0
"""How long a structure keeps its place after somebody asked for it: an answer that was told that it can be
followed has yet to reach the engine, which takes milliseconds."""

GAP_SECONDS = 0.5
"""What counts of these between two looks: those who ask come no sooner where the engine was away."""

PROCESSES = 64
"""At most; see `places` for who may have how many of them."""

REFUSED_SECONDS = 600.0
"""How long a structure that took too much is refused without another try."""

REMEMBERED = 1024
"""Structures that are refused so, at most."""

SLOW_SECONDS = 0.3
"""Of the processor's time, for one message. After that the process only gets what nobody else wants of it."""

SLOW_ANSWER_SECONDS = 1.0
"""The same, for one answer in all."""

FIRST_NICENESS = 5
SLOW_NICENESS = 19

PROMPT_SECONDS = 0.001
"""Of the processor's time. Answers that are known within that are told of together."""

MESSAGE_BYTES = 128 << 10
"""The largest packet between engine and process: a mask, a bit for each token of the vocabulary, or more."""
