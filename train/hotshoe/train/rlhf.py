"""The `rlhf` recipe: the policy answers, a reward judges, better answers become likelier (trl's GRPOTrainer).

Source: Shao et al., DeepSeekMath (2024): several answers to one question, each weighed against their
mean, so no value model is needed. The leash (`reward.beta`) is to the adapter as the run found it.
"""

from __future__ import annotations

from typing import Any

from hotshoe.train.data import Question
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.reward import score_for
from hotshoe.train.scores import Score
from hotshoe.train.tokens import Encoded, Tokenizer, answered, encode_example
from hotshoe.train.trainer import common_arguments, drop_reference, run_trainer


def encode(row: Question, tokenizer: Tokenizer) -> tuple[Encoded]:
    """The question with the expected answer, or with a placeholder where there is none."""
    return (encode_example(answered(row, row.answer or "-"), tokenizer),)


def learn(lesson: Lesson) -> Learned:
    """Train the adapter on the lesson's model in place, after its reward where that is learned, too."""
    from dataclasses import replace

    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    config = lesson.config
    score = score_for(lesson)
    lesson.progress.stage("Train")
    arguments = common_arguments(lesson)
    # A batch holds every answer to its questions.
    arguments["per_device_train_batch_size"] = lesson.batch.rows * config.reward.answers
    trainer = GRPOTrainer(
        model=lesson.model,
        reward_funcs=_reward_function(score),
        args=GRPOConfig(
            **arguments,
            num_generations=config.reward.answers,
            max_completion_length=config.evaluation.max_new_tokens,
            temperature=config.reward.temperature,
            beta=config.reward.beta,
        ),
        train_dataset=Dataset.from_list(
            [_row(number, row) for number, row in enumerate(lesson.data.train.rows)]
        ),
        processing_class=lesson.tokenizer,
    )
    learned = run_trainer(trainer, lesson)
    drop_reference(lesson.model)
    rewards = tuple(float(log["reward"]) for log in trainer.state.log_history if "reward" in log)
    return replace(learned, rewards=rewards, score=score)


def _row(number: int, row: Question) -> dict[str, Any]:
    prompt: Any = row.prompt[0].content
    if row.templated:
        prompt = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
    return {"prompt": prompt, "question": row.prompt[-1].content, "expected": row.answer, "row": number}


def _reward_function(score: Score) -> Any:
    """A score in the form that trl calls: lists of completions, and of the data set's other columns."""

    def reward(completions: list[Any], question: list[str], expected: list[str], **_: Any) -> list[float]:
        answers = [text if isinstance(text, str) else text[0]["content"] for text in completions]
        return [score(*row) for row in zip(question, answers, expected, strict=True)]

    return reward
