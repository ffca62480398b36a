// Speaks to the API through every JavaScript client: a JSON command a line in, its outcome a line out.
// {"do": a verb, "package": "openai5", "base_url": ..., "api_key": ..., "how": what the client is made with,
// "with": what the verb's method is called with}. A file is described: {"form": ..., "path": ...}.

import { createReadStream, readFileSync } from "node:fs";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import * as wrappers from "./wrappers.mjs";

async function given(value, toFile) {
  if (Array.isArray(value)) return Promise.all(value.map((entry) => given(entry, toFile)));
  if (!value?.form) return value;
  const bytes = () => readFileSync(value.path);
  switch (value.form) {
    case "opened":
      return createReadStream(value.path);
    case "bytes":
      return toFile(bytes(), basename(value.path));
    case "memory":
      return toFile(new Blob([bytes()]), basename(value.path));
    case "named":
      return new File([bytes()], value.name, { type: value.type });
    case "typed":
      return toFile(bytes(), value.name, { type: value.type });
    case "response":
      return fetch(`data:image/png;base64,${bytes().toString("base64")}`);
  }
}

const CALLS = {
  generate: (client, asked, options) => client.images.generate(asked, options),
  edit: (client, asked, options) => client.images.edit(asked, options),
  vary: (client, asked, options) => client.images.createVariation(asked, options),
  models: (client) => client.models.list(),
  model: (client, asked) => client.models.retrieve(asked.id),
};

function told(error) {
  const { status, code, type, param, message } = error;
  const request_id = error.requestID ?? error.request_id;
  return { class: error.constructor.name, status, code, type, param, request_id, text: message };
}

async function outcome(command) {
  const { default: OpenAI, APIError, toFile } = await import(command.package);
  const seen = [];
  try {
    const { max_retries: maxRetries, default_headers: defaultHeaders } = command.how ?? {};
    const how = { baseURL: command.base_url, apiKey: command.api_key, maxRetries, defaultHeaders };
    const client = new OpenAI(how);
    const asked = {};
    for (const [name, value] of Object.entries(command.with ?? {})) asked[name] = await given(value, toFile);
    const found = await CALLS[command.do](client, asked);
    if (command.do === "models" || asked.stream) {
      for await (const entry of found) seen.push(entry);
      return { answer: seen };
    }
    return { answer: { ...found, _request_id: found._request_id } };
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    return { error: told(error), seen };
  }
}

// Runs an example in this folder, as if it stood alone; what it prints.
async function paste({ script, folder }) {
  process.chdir(folder);
  const printed = [];
  const log = console.log;
  console.log = (text) => printed.push(text);
  try {
    await import(script);
  } finally {
    console.log = log;
  }
  return { answer: printed.join("\n") };
}

function done(command) {
  if (command.do === "paste") return paste(command.with);
  return command.through ? wrappers.outcome(command) : outcome(command);
}

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
const versions = Object.keys(dependencies).map((name) => {
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)));
  return [name, version];
});
console.log(JSON.stringify(Object.fromEntries(versions)));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await done(JSON.parse(line))));
}
