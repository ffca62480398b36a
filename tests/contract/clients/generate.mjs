// Speaks to the API through the openai package that is installed: a JSON command a line in, its outcome a line out.
// {"do": "generate" | "models" | "model", "base_url": ..., "api_key": ..., "with": {...}}

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import OpenAI from "openai";

async function answer(command) {
  const client = new OpenAI({ baseURL: command.base_url, apiKey: command.api_key });
  const asked = command.with ?? {};
  if (command.do === "generate") {
    const response = await client.images.generate(asked);
    return { ...response, _request_id: response._request_id };
  }
  if (command.do === "models") {
    const found = [];
    for await (const model of client.models.list()) found.push(model);
    return found;
  }
  return client.models.retrieve(asked.id);
}

async function outcome(command) {
  try {
    return { answer: await answer(command) };
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, type, param, message } = error;
    return { error: { class: error.constructor.name, status, code, type, param, text: message } };
  }
}

const { version } = JSON.parse(readFileSync(new URL("node_modules/openai/package.json", import.meta.url)));
console.log(JSON.stringify({ version }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(JSON.parse(line))));
}
