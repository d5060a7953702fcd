"""The Responses API in terms of Chat Completions: a pure translation, both ways.

    api.py         the translation as one value
    request.py     a request's body -> the chat request, and what the Response object repeats of it
    state.py       what ties a request to stored things
    items.py       input items -> chat messages
    draft.py       chat messages in the making
    tools.py       tools and tool_choice
    fields.py      the checks that they share
    reply.py       a chat reply -> the Response object
    events.py      chat events -> Responses events
    writer.py      the grammar of the events
    logprobs.py    log probabilities of a text's tokens
    compaction.py  the answer to a request for compaction
    sealed.py      what travels through a client as `encrypted_content`

The reference for all shapes is the type package of the public SDK (`openai.types.responses`); what the Open Responses
specification (2026-04-24) requires beyond it is there too.
"""
