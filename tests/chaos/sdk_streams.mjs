// Read streams with OpenAI's SDK for Node and tell how each ended for its user: sdk_streams.py on Node.
//
// It reads the same plan as JSON from standard input and writes the same rows to standard output. It is run in the
// folder whose `node_modules` holds the SDK.

import { createRequire } from "node:module";

const TIMEOUT_MS = 60_000;

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const plan = JSON.parse(Buffer.concat(chunks).toString());
const { default: SDK } = createRequire(`${process.cwd()}/`)(plan.package);
const client = new SDK({ baseURL: plan.base_url, apiKey: plan.key, timeout: TIMEOUT_MS, maxRetries: 0 });
const read = { chat, responses }[plan.route];

const rows = [];
const names = [...plan.names];
await Promise.all(Array.from({ length: plan.at_once }, reader));
process.stdout.write(JSON.stringify(rows));

async function reader() {
  for (let name = names.pop(); name !== undefined; name = names.pop()) {
    const seen = { text: "", finish: null };
    let error = null;
    try {
      await read(name, seen);
    } catch (raised) {
      error = raised.constructor.name;
    }
    rows.push([name, seen.text, seen.finish, error]);
  }
}

async function chat(name, seen) {
  const more = hashOf(name) % 2 ? { stream_options: { include_usage: true } } : {};
  const messages = [{ role: "user", content: name }];
  const stream = await client.chat.completions.create({ model: plan.model, messages, stream: true, ...more });
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      seen.text += choice.delta.content ?? "";
      seen.finish = choice.finish_reason ?? seen.finish;
    }
  }
}

async function responses(name, seen) {
  for await (const event of await client.responses.create({ model: plan.model, input: name, stream: true })) {
    if (event.type === "response.output_text.delta") seen.text += event.delta;
    else if (event.type === "response.completed") seen.finish = event.response.status;
  }
}

function hashOf(name) {
  return Buffer.from(name).reduce((sum, byte) => sum + byte, 0);
}
