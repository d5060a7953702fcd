"""What a policy sent and what it cost, added up over all transcripts."""

import msgspec


class Prices(msgspec.Struct, frozen=True):
    """Units for one token."""

    input: float = 1.0
    cached: float = 0.1
    """Of input that the provider has in its cache."""
    output: float = 4.0


def prices(text: str) -> Prices:
    """`1,0.1,4`: input, cached, output. Raises ValueError that says what to write."""
    try:
        input, cached, output = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no price list; write input,cached,output, such as 1,0.1,4") from None
    # so that nan and inf are refused as well
    if not all(0 <= price < 1e9 for price in (input, cached, output)):
        raise ValueError(f"{text!r} holds a price that is none; write numbers from 0, such as 1,0.1,4")
    return Prices(input, cached, output)


class Row(msgspec.Struct, frozen=True):
    """One policy's figures, as `--json` prints them."""

    policy: str
    requests: int
    """Of clients; the calls that write summaries are counted beside them."""
    input_tokens: int
    """Sent, in requests and in calls that write summaries; the part from the cache included."""
    cached_tokens: int
    """Of these, read from the provider's cache."""
    cost: float
    """Units: input, cached input and output of requests and of calls that write summaries."""
    prompt_cost: float
    """`cost` without the output of the replies, which no policy can change."""
    largest: int
    """Tokens of the largest request."""
    dropped: int
    """Turns that fell out of the window, those that a summary covers included; each once."""
    summarised: int
    """Turns out of the window that a summary covered; each once."""
    recalled: int
    """Turns brought back by recall, each time that one was."""
    output_tokens: int
    """Of the replies."""
    summary_calls: int
    summary_input_tokens: int
    """Of these calls; part of `input_tokens`."""
    summary_output_tokens: int


class Account:
    """Adds up. The turns are numbered from 0 for `turn_tokens`."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._requests = self._calls = 0
        self._input = self._cached = self._output = 0
        self._summary_input = self._summary_output = 0
        self._largest = 0
        self.dropped = self.summarised = self.recalled = 0
        self._per_turn: list[tuple[int, int]] = []

    def request(self, number: int, input: int, cached: int, output: int) -> None:
        """The `number`th request (from 0) of a conversation; tokens of each kind."""
        self._requests += 1
        self._input += input
        self._cached += cached
        self._output += output
        self._largest = max(self._largest, input)
        if number == len(self._per_turn):
            self._per_turn.append((0, 0))
        total, times = self._per_turn[number]
        self._per_turn[number] = total + input, times + 1

    def summary(self, input: int, cached: int, output: int) -> None:
        """One call that wrote a summary."""
        self._calls += 1
        self._input += input
        self._cached += cached
        self._summary_input += input
        self._summary_output += output

    @property
    def per_turn(self) -> list[float]:
        """Input tokens of the first, second, … request: the mean over the conversations that got so far."""
        return [total / times for total, times in self._per_turn]

    def row(self, prices: Prices) -> Row:
        prompt = (self._input - self._cached) * prices.input + self._cached * prices.cached
        prompt += self._summary_output * prices.output
        return Row(
            policy=self.policy,
            requests=self._requests,
            input_tokens=self._input,
            cached_tokens=self._cached,
            cost=round(prompt + self._output * prices.output, 4),
            prompt_cost=round(prompt, 4),
            largest=self._largest,
            dropped=self.dropped,
            summarised=self.summarised,
            recalled=self.recalled,
            output_tokens=self._output,
            summary_calls=self._calls,
            summary_input_tokens=self._summary_input,
            summary_output_tokens=self._summary_output,
        )
