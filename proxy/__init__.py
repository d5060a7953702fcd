"""Remora: a request's way through the house.

    server/handler      takes the request; one that names no session is relayed untouched (server/passthrough)
    exchange/run        the order of an exchange, first byte to last:
      dialects/chat       reads the body: preamble, messages, prefill
      exchange/identify   which session and policy
      exchange/retry      the same request again is answered by the recorded reply
      exchange/turnstile  one exchange at a time on a session
      exchange/assemble   loads the history (stores/), finds what is new (exchange/lookup), weighs it (tokens/),
                          cuts it (context/window, with the summary that context/summary says is seen), recalls what
                          bears on it (exchange/recollect, context/recall), joins it (context/compose,
                          conversation/turn), writes the body
      exchange/converse   from here on sees the exchange through, whatever becomes of client, upstream and store:
      upstream/client     asks the model, once more with less if the context was too long (exchange/overflow)
      dialects/chat       reads the reply along while it is relayed (framing/sse, conversation/reply)
      exchange/commit     appends the entry (conversation/entry) before the client sees the reply's end
      exchange/reflect    after the reply: the next summary, and what makes the turn searchable
    observe/log         one line about it

A request of the Responses or the Conversations API (server/paths, server/stored) takes the same way in another dress:

    resources/places      where it goes: a chain, a conversation or a session, and after which entry
    dialects/responses    turns it into a chat request
    resources/speaker     is the exchange's client: what it hears becomes a response and its events
    resources/runs        keeps them while the response is made and for a while after, for whoever asks
    resources/notes       what stays with the entry, for resources/responses and resources/conversations to give out

Beside that way: `cli` starts things, `app` joins them, `settings` and `policy` say how, `errors` what can go wrong,
`echo` is a model to try things with, `server/admin` tells whether all is well.
"""
