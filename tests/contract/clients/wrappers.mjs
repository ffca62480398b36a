// JavaScript clients that are not OpenAI's own: the Vercel AI SDK by two of its providers, and LangChain's tool.

import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { DallEAPIWrapper } from "@langchain/openai";
import { APICallError, RetryError, generateImage } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;

const PROVIDERS = {
  "ai openai": createOpenAI,
  "ai compatible": (how) => createOpenAICompatible({ name: "pixelpar", ...how }),
};

async function throughAi(command) {
  const provider = PROVIDERS[command.through]({ baseURL: command.base_url, apiKey: command.api_key });
  const { model, prompt, image, mask, n, size, ...more } = command.with;
  const bytes = (file) => readFileSync(file.path);
  const described = image ? { text: prompt, images: image.map(bytes), mask: mask && bytes(mask) } : prompt;
  const found = await generateImage({
    model: provider.imageModel(model),
    prompt: described,
    n,
    size,
    providerOptions: { openai: more, pixelpar: more },
    maxRetries: command.how?.max_retries,
    headers: command.how?.default_headers,
  });
  const images = found.images.map(({ base64, mediaType }) => ({ base64, mediaType }));
  return { images, usage: found.usage, warnings: found.warnings };
}

async function throughLangChain(command) {
  const { prompt, response_format: dallEResponseFormat, ...more } = command.with;
  const how = { baseUrl: command.base_url, apiKey: command.api_key };
  return new DallEAPIWrapper({ ...how, dallEResponseFormat, ...more }).invoke(prompt);
}

function told(error) {
  const last = RetryError.isInstance(error) ? error.lastError : error;
  const refusal = APICallError.isInstance(last) ? JSON.parse(last.responseBody).error : last;
  const status = last.statusCode ?? last.status;
  return { class: last.constructor.name, name: last.name, status, code: refusal.code, text: last.message };
}

export async function outcome(command) {
  try {
    return { answer: await (command.through === "langchain" ? throughLangChain : throughAi)(command) };
  } catch (error) {
    return { error: told(error) };
  }
}
