"""What OpenAI's own client sees of `qeil serve`: python openai_client.py BASE_URL MODEL

Ends with an assertion where something is not as their users expect it.
"""

import concurrent.futures
import sys

import openai

# Rounds of requests sent at once until one is told that it is too many: a fast machine may empty its queue in between.
ROUNDS_MAX = 50

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="none needed", max_retries=0, timeout=120)
hello = [{"role": "user", "content": "Say something."}]


def ask(**fields):
    return client.chat.completions.create(**{"model": model, "messages": hello, "max_tokens": 16, **fields})


def extension(answer):
    return answer.model_extra["qeil"]


def whole():
    answer = ask(seed=5)
    assert answer.object == "chat.completion" and len(answer.choices) == 1, answer
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length"), answer
    assert answer.usage.completion_tokens >= 1, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer
    said = extension(answer)
    assert said["outcome"] == "completed" and said["devices"], said
    assert any(row["kind"] == "placed" and row["why"] for row in said["decisions"]), said
    assert said["energy"]["joules"] is None or said["energy"]["provenance"] in ("measured", "estimated"), said
    return choice.message.content


def samples():
    answer = ask(n=4, seed=5, temperature=1.5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3], answer
    assert len({choice.message.content for choice in answer.choices}) > 1, answer


def stream(n):
    texts, ends, usage, last = [""] * n, [None] * n, None, None
    options = {"include_usage": True}
    for chunk in ask(n=n, seed=5, stream=True, stream_options=options):
        assert chunk.object == "chat.completion.chunk", chunk
        for choice in chunk.choices:
            assert ends[choice.index] is None, chunk
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason
        usage, last = chunk.usage or usage, chunk
    assert None not in ends and usage.completion_tokens >= n, (ends, usage)
    assert extension(last)["outcome"] == "completed", last
    return texts


def left_early():
    for chunk in ask(stream=True, max_tokens=400):
        break
    assert ask(max_tokens=2).choices


def extended():
    fields = {"qeil": {"deadline_s": 60, "priority": "batch", "until_pass": {"type": "regex", "pattern": "."}}}
    answer = ask(n=4, extra_body=fields)
    assert extension(answer)["outcome"] == "completed", answer


def models():
    listed = [each.id for each in client.models.list()]
    assert listed == [model], listed
    assert client.models.retrieve(model).owned_by == "qeil"


def refused(kind, status, code, param, **fields):
    try:
        ask(**fields)
    except kind as error:
        assert (error.status_code, error.code, error.param) == (status, code, param), (error, fields)
    else:
        raise AssertionError(f"{fields} was answered")


def errors():
    bad = openai.BadRequestError
    refused(bad, 400, "invalid_value", "temperature", temperature=3)
    refused(bad, 400, "invalid_value", "n", n=0)
    refused(bad, 400, "unknown_parameter", "tools", tools=[])
    refused(bad, 400, "unknown_parameter", "colour", extra_body={"colour": "red"})
    refused(openai.NotFoundError, 404, "model_not_found", "model", model="gpt-4o")


def overload():
    def one(seed):
        try:
            return ask(seed=seed, n=4, max_tokens=200).object
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) >= 1
            return error.code

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for _ in range(ROUNDS_MAX):
            got = set(pool.map(one, range(24)))
            assert got <= {"chat.completion", "overloaded"}, got
            if "overloaded" in got:
                return
    raise AssertionError("the queue was never full")


models()
whole()
samples()
stream(1)
stream(4)
left_early()
extended()
errors()
overload()
whole()
print("ok")
