// An app as users have it: the AI SDK with its OpenAI provider, configured by environment variables alone. Prints each
// answer's text as JSON.
//
// Arguments: generate or stream; how a turn finds the ones before it (previous: it names the last response;
// history: the app sends all messages again; conversation: it names a conversation); the user messages, one a turn.

import { openai } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const look = tool({
  description: "Looks at something.",
  inputSchema: z.object({ at: z.number() }),
  // as a Python tool would print it
  execute: ({ at }) => `seen ${Number.isInteger(at) ? at.toFixed(1) : at}`,
});

const [way, how, ...texts] = process.argv.slice(2);
const messages = [];
let previousResponseId;
let conversation;

if (how === "conversation") {
  const { OPENAI_BASE_URL: base, OPENAI_API_KEY: key } = process.env;
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const reply = await fetch(`${base}/conversations`, { method: "POST", headers, body: "{}" });
  conversation = (await reply.json()).id;
}

for (const prompt of texts) {
  messages.push({ role: "user", content: prompt });
  const asked = {
    model: openai("gpt-4o"),
    system: "Look.",
    ...(how === "history" ? { messages } : { prompt }),
    // in a conversation the SDK sends the turn's own messages again at every step
    tools: how === "conversation" ? undefined : { look },
    stopWhen: stepCountIs(5),
    maxRetries: 0,
    providerOptions: { openai: { previousResponseId, conversation } },
  };
  let text, steps, response;
  if (way === "stream") {
    const result = streamText({
      ...asked,
      onError: ({ error }) => {
        throw error;
      },
    });
    text = "";
    for await (const piece of result.textStream) text += piece;
    [steps, response] = [await result.steps, await result.response];
  } else {
    ({ text, steps, response } = await generateText(asked));
  }
  const last = steps.at(-1);
  if (last.finishReason !== "stop") throw new Error(`ended with ${last.finishReason}`);
  if (last.usage.totalTokens !== 57) throw new Error(`usage is ${JSON.stringify(last.usage)}`);
  if (how === "previous") previousResponseId = last.providerMetadata.openai.responseId;
  messages.push(...response.messages);
  console.log(JSON.stringify(text));
}
