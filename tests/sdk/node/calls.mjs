// Call methods of OpenAI's SDK for Node by name and tell what its user gets to see: ../methods.py on Node.
//
// It reads the same plan as JSON from standard input and writes the same observations to standard output. Methods and
// accumulators are named as in Python; their names here follow from that.

import { createHash } from "node:crypto";
import * as buffer from "node:buffer";

globalThis.File ??= buffer.File; // Node 18 has it, but not in sight

const TIMEOUT_MS = 30_000;

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const plan = JSON.parse(Buffer.concat(chunks).toString());
const SDK = (await import(plan.package))[plan.client];
const seen = {};
for (const [place, baseURL] of Object.entries(plan.base_urls)) {
  seen[place] = {};
  const client = new SDK({ baseURL, apiKey: "none", timeout: TIMEOUT_MS, maxRetries: 0 });
  for (const call of plan.calls) seen[place][call.name] = await observe(client, call);
}
process.stdout.write(JSON.stringify(seen));

async function observe(client, call) {
  const observation = {};
  const headers = { [plan.name_header]: call.name };
  const options = { apiKey: call.key, maxRetries: call.max_retries ?? 0, defaultHeaders: headers };
  try {
    await make(client.withOptions(options), call, observation);
  } catch (error) {
    noteError(error, observation);
  }
  return observation;
}

async function make(client, call, observation) {
  const path = call.method.split(".").map(camelCase);
  const name = path.pop();
  const owner = path.reduce((object, step) => object?.[step], client);
  if (typeof owner?.[name] !== "function") {
    observation.absent = true;
    return;
  }
  const given = [...(call.positional ?? []), ...("arguments" in call ? [withFiles(call.arguments)] : [])];
  const read = call.read ?? "value";
  if (!["value", "stream", "bytes", "pieces"].includes(read)) {
    observation.value = await owner[name](...given)[accumulator(call.method, read)]();
    return;
  }
  const { data, response, request_id } = await owner[name](...given).withResponse();
  noteResponse(response, request_id, observation);
  if (read === "stream") {
    observation.value = [];
    for await (const event of data) observation.value.push(event);
  } else if (read === "pieces") {
    const pieces = [];
    for await (const piece of data.body) pieces.push(piece);
    observation.value = file(Buffer.concat(pieces));
  } else if (read === "bytes") {
    observation.value = file(Buffer.from(await data.arrayBuffer()));
  } else {
    observation.value = data?.getPaginatedItems ? data.body : (data ?? null);
  }
}

function camelCase(name) {
  return name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}

function accumulator(method, name) {
  return method.startsWith("chat.") ? "finalChatCompletion" : camelCase(name.replace("get_", ""));
}

function withFiles(value) {
  if (Array.isArray(value)) return value.map(withFiles);
  if (value === null || typeof value !== "object") return value;
  if ("$file" in value) {
    const [name, data, type] = value.$file;
    return new File([Buffer.from(data, "base64")], name, { type });
  }
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withFiles(member)]));
}

function file(data) {
  return { size: data.length, sha256: createHash("sha256").update(data).digest("hex") };
}

function noteResponse(response, requestId, observation) {
  observation.status = response.status;
  observation.headers = Object.fromEntries(response.headers);
  observation.request_id = requestId;
}

function noteError(error, observation) {
  observation.error = error.constructor.name;
  observation.errors = [];
  for (let each = error.constructor; each?.name; each = Object.getPrototypeOf(each)) observation.errors.push(each.name);
  observation.text = String(error);
  observation.body = error.error ?? null;
  if (error.status) {
    observation.status = error.status;
    observation.headers = Object.fromEntries(error.headers ?? []);
    observation.request_id = error.requestID ?? null;
  }
}
