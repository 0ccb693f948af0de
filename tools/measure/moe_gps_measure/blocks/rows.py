"""Numbers of rows that products, norms and experts are measured at."""

from moe_gps_measure.question import Question

# From one row to what a prefill step serves; dense where a product turns from reading weights to arithmetic.
ROWS = (1, 4, 16, 32, 64, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)
TINY_ROWS = (1, 2, 3, 4, 8, 12, 16, 32)


def rows(question: Question) -> list[int]:
    """The usual numbers and that of the question."""
    known = TINY_ROWS if question.model.name.startswith("tiny-") else ROWS
    return sorted({*known, question.tokens})


def few(question: Question, count: int = 6) -> list[int]:
    """Some of them, over the whole range, with that of the question."""
    every = rows(question)
    step = max(1, len(every) // count)
    return sorted({*every[::step], every[-1], question.tokens})
