// The `ollama` package: Ollama's native API.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { Ollama } from 'ollama';
import { ANSWER, ARGUMENTS, CALL, DEMO, LONG_QUESTION, QUESTION, SCHEMA, THINKER, THOUGHTFUL, TOOLS, TWO_CALLS,
  assertFits, check, metric, post, says, startServer, until } from './harness.mjs';

let server, client;
before(async () => {
  server = await startServer();
  client = new Ollama({ host: server.url });
});
after(async () => assert.equal((await server.stop()).code, 0));

const ask = (content, more = {}) => ({ model: DEMO, messages: [{ role: 'user', content }], ...more });
async function gather(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}
const text = (parts) => parts.map((part) => part.message?.content ?? part.response).join('');

check(2, 'ollama', 'version is numeric and at least 0.6.4', async () => {
  const { version } = await client.version();
  const [major, minor] = version.split('.').map(Number);
  assert.match(version, /^\d+\.\d+\.\d+$/);
  assert.ok(major > 0 || minor > 6);
});

check(3, 'ollama', 'list has every field that clients read', async () => {
  const { models } = await client.list();
  assert.deepEqual(models.map((model) => model.name), ['demo-moe:latest', 'thinker:latest']);
  for (const model of models) {
    assert.equal(model.model, model.name);
    assert.match(model.digest, /^[0-9a-f]{64}$/);
    assert.ok(model.size > 1e7 && !Number.isNaN(Date.parse(model.modified_at)));
    assert.equal(model.details.format, 'gguf');
    assert.equal(model.details.family, 'qwen3moe');
    assert.deepEqual(model.details.families, ['qwen3moe']);
    assert.equal(model.details.parameter_size, '31.4M');
    assert.equal(model.details.quantization_level, 'Q4_K_M');
  }
});

check(4, 'ollama', 'show names architecture, context, capabilities and parameters', async () => {
  const shown = await client.show({ model: THINKER });
  assert.equal(shown.model_info['general.architecture'], 'qwen3moe');
  const first = Object.keys(shown.model_info).find((key) => key.endsWith('context_length'));
  assert.equal(shown.model_info[first], 2048);
  assert.ok(shown.model_info['general.basename'] && shown.model_info['general.parameter_count'] > 3e7);
  assert.deepEqual(shown.capabilities, ['completion', 'tools', 'thinking']);
  for (const line of shown.parameters.split('\n')) assert.match(line, /^(\S+) +(\S.*)$/);
  assert.match(shown.parameters, /^num_ctx +2048$/m);
  assert.match(shown.template, /tools/);
});

check(5, 'ollama', 'ps shows a model while it is loaded', async () => {
  await client.generate({ model: DEMO, prompt: '', keep_alive: 0 });
  await until(async () => (await client.ps()).models.length === 0, 'the model is unloaded');
  await client.generate({ model: DEMO, prompt: '', keep_alive: '10m' });
  const [model] = (await client.ps()).models;
  assert.equal(model.name, 'demo-moe:latest');
  assert.equal(model.context_length, 2048);
  assert.equal(model.size_vram, 0);
  assert.ok(model.size > 0 && Date.parse(model.expires_at) > Date.now() + 500000);
  await client.generate({ model: DEMO, prompt: '', keep_alive: 0 });
  await until(async () => (await client.ps()).models.length === 0, 'keep_alive 0 unloads');
});

check(6, 'ollama', 'a chat stream ends with one done line, metrics only there', async () => {
  const parts = await gather(await client.chat({ ...ask(QUESTION), stream: true }));
  assert.equal(text(parts), ANSWER);
  assert.deepEqual(parts.map((part) => part.done), [...parts.slice(1).map(() => false), true]);
  const last = parts.at(-1);
  assert.equal(last.done_reason, 'stop');
  assert.equal(last.model, DEMO);
  for (const key of ['total_duration', 'load_duration', 'prompt_eval_count', 'prompt_eval_duration', 'eval_count', 'eval_duration'])
    assert.ok(Number.isInteger(last[key]), key);
  assert.ok(parts.slice(0, -1).every((part) => part.eval_count === undefined && part.message.role === 'assistant'));
});

check(7, 'ollama', 'non-stream equals the concatenated stream (chat, generate)', async () => {
  const options = { temperature: 0, seed: 7 };
  const streamed = text(await gather(await client.chat({ ...ask(LONG_QUESTION, { options }), stream: true })));
  assert.equal((await client.chat(ask(LONG_QUESTION, { options }))).message.content, streamed);
  assert.ok(streamed.startsWith('Once upon a time'));
  const request = { model: DEMO, prompt: QUESTION, options };
  const generated = text(await gather(await client.generate({ ...request, stream: true })));
  assert.equal(generated, ANSWER);
  assert.equal((await client.generate(request)).response, generated);
});

check(7, 'ollama', 'a seed repeats an answer at temperature 1', async () => {
  const options = { temperature: 1, seed: 11, num_predict: 20 };
  const [first, second] = [await client.chat(ask(LONG_QUESTION, { options })), await client.chat(ask(LONG_QUESTION, { options }))];
  assert.equal(first.message.content, second.message.content);
});

check(8, 'ollama', 'options are lenient', async () => {
  assert.equal((await client.chat(ask(QUESTION, { options: null }))).message.content, ANSWER);
  const odd = { mirostat: 1, no_such_option: true, seed: -1, num_predict: -1, num_ctx: 2048.0, temperature: 0, penalize_newline: null };
  assert.equal((await client.chat(ask(QUESTION, { options: odd }))).message.content, ANSWER);
  const stopped = await client.chat(ask(QUESTION, { options: { stop: [' is'] } }));
  assert.equal(stopped.message.content, '7 plus 8');
  assert.equal(stopped.done_reason, 'stop');
  const short = await client.chat(ask(QUESTION, { options: { num_predict: 2 } }));
  assert.equal(short.eval_count, 2);
  assert.equal(short.done_reason, 'length');
});

check(10, 'ollama', 'tool calls are objects, in order, stream and non-stream', async () => {
  const request = ask('Weather?', { model: THINKER, tools: TOOLS, grammar: says(TWO_CALLS) });
  const whole = await client.chat(request);
  assert.equal(whole.message.content.trim(), 'Let me look.');
  assert.deepEqual(whole.message.tool_calls.map((call) => call.function.name), ['get_weather', 'get_time']);
  assert.deepEqual(Object.keys(whole.message.tool_calls[0].function.arguments), Object.keys(ARGUMENTS));
  assert.equal(whole.done_reason, 'stop');
  const parts = await gather(await client.chat({ ...request, stream: true }));
  const calls = parts.flatMap((part) => part.message.tool_calls ?? []);
  assert.deepEqual(calls.map((call) => call.function.arguments), [ARGUMENTS, {}]);
  assert.ok(parts.every((part) => !part.message.tool_calls || !part.done));
});

check(10, 'ollama', 'a conversation with tool results goes on', async () => {
  const { message } = await client.chat(ask('Weather?', { model: THINKER, tools: TOOLS, grammar: says(CALL) }));
  const history = [{ role: 'user', content: 'Weather?' }, message, { role: 'tool', content: 'sunny', tool_name: 'get_weather' }];
  const next = await client.chat({ model: THINKER, messages: history, tools: TOOLS, grammar: says('It is sunny.') });
  assert.equal(next.message.content, 'It is sunny.');
  assert.ok(next.prompt_eval_cached_count > 0);
});

check(10, 'ollama', 'a model without tools says so', async () => {
  await assert.rejects(client.chat(ask('Weather?', { tools: TOOLS })), { status_code: 400, message: /does not support tools/ });
});

check(11, 'ollama', 'format json and a schema with $schema', async () => {
  const options = { num_predict: 120 };
  const schema = await client.chat(ask(QUESTION, { format: SCHEMA, options }));
  assertFits(JSON.parse(schema.message.content));
  const json = await client.chat(ask(QUESTION, { format: 'json', options }));
  assert.equal(json.message.content.trimStart()[0], '{');
  assert.equal((await client.chat(ask(QUESTION, { format: '' }))).message.content, ANSWER);
  const thought = await client.chat(ask(QUESTION, { model: THINKER, format: SCHEMA, options }));
  assertFits(JSON.parse(thought.message.content));
});

check(12, 'ollama', 'think true, false and absent', async () => {
  const request = (more) => ask(QUESTION, { model: THINKER, grammar: says(THOUGHTFUL), ...more });
  for (const more of [{ think: true }, {}]) {
    const { message } = await client.chat(request(more));
    assert.equal(message.thinking.trim(), 'Seven and eight.');
    assert.equal(message.content, 'Fifteen.');
  }
  const parts = await gather(await client.chat({ ...request({ think: true }), stream: true }));
  assert.equal(parts.map((part) => part.message.thinking ?? '').join('').trim(), 'Seven and eight.');
  assert.equal(text(parts), 'Fifteen.');
  const silent = await client.chat(ask(QUESTION, { model: THINKER, think: false }));
  assert.equal(silent.message.thinking, undefined);
  assert.equal((await client.chat(ask(QUESTION, { think: false }))).message.content, ANSWER);
  await assert.rejects(client.chat(ask(QUESTION, { think: true })), { status_code: 400, message: /"demo-moe" does not support thinking/ });
});

check(13, 'ollama', 'load and unload are one object', async () => {
  for (const [keepAlive, reason] of [['5m', 'load'], [0, 'unload']]) {
    const generated = await client.generate({ model: DEMO, prompt: '', keep_alive: keepAlive });
    assert.equal(generated.done_reason, reason);
    const chatted = await client.chat({ model: DEMO, messages: [], keep_alive: keepAlive });
    assert.equal(chatted.done_reason, reason);
    assert.deepEqual(chatted.message, { role: 'assistant', content: '' });
    const streamed = await gather(await client.generate({ model: DEMO, prompt: '', keep_alive: keepAlive, stream: true }));
    assert.deepEqual(streamed.map((part) => part.done_reason), [reason]);
  }
});

check(14, 'ollama', 'errors have the texts that clients match', async () => {
  await assert.rejects(client.chat({ ...ask('x'), model: 'no-such' }), { status_code: 404, message: "model 'no-such' not found" });
  await assert.rejects(client.show({ model: 'no-such' }), { status_code: 404, message: /not found/ });
  await assert.rejects(client.embed({ model: 'no-such', input: 'x' }), { message: 'model "no-such" not found, try pulling it first' });
  await assert.rejects(client.chat({ messages: [] }), { status_code: 400, message: 'model is required' });
  await assert.rejects(client.generate({ model: DEMO, prompt: 'a', suffix: 'b' }), { message: 'demo-moe does not support insert' });
  await assert.rejects(client.generate({ model: DEMO, prompt: 'a', raw: true, system: 'b' }), { message: /raw mode does not support/ });
  await assert.rejects(client.chat(ask('x', { top_logprobs: 21 })), { message: 'top_logprobs must be between 0 and 20' });
});

check(15, 'ollama', 'a history that is too long loses its oldest turns, or is refused', async () => {
  const messages = [];
  for (let i = 0; i < 60; ++i) messages.push({ role: 'user', content: LONG_QUESTION }, { role: 'assistant', content: 'Once upon a time there was a fox. '.repeat(3) });
  messages.push({ role: 'user', content: QUESTION });
  const cut = await client.chat({ model: DEMO, messages, options: { num_ctx: 512 } });
  assert.ok(cut.prompt_eval_count < 512);
  assert.ok(cut.message.content.length > 0);
  await assert.rejects(client.chat({ model: DEMO, messages, truncate: false, shift: false, options: { num_ctx: 512 } }),
    { status_code: 400, message: /request \(\d+ tokens\) exceeds the available context size \(512 tokens\), try increasing it/ });
});

check(15, 'ollama', 'an answer that fills the context goes on with shift, and ends without', async () => {
  const endless = ask(LONG_QUESTION, { grammar: 'root ::= [a-z ] root', options: { num_ctx: 64, num_predict: 100, temperature: 0 } });
  const shifted = await client.chat(endless);
  assert.equal(shifted.eval_count, 100);
  assert.equal(shifted.done_reason, 'length');
  const ended = await client.chat({ ...endless, shift: false });
  assert.ok(ended.eval_count < 64);
  assert.equal(ended.done_reason, 'length');
});

check(16, 'ollama', 'abort ends the generation within a token', async () => {
  const own = new Ollama({ host: server.url });
  const before = await metric(server.url, 'requests_cancelled_total');
  const stream = await own.chat({ ...ask(LONG_QUESTION), stream: true });
  let received = 0;
  await assert.rejects(async () => {
    for await (const _ of stream) if (++received === 3) own.abort();
  }, { name: 'AbortError' });
  await until(async () => (await metric(server.url, 'requests_cancelled_total')) === before + 1, 'the server notices');
  await until(async () => (await metric(server.url, 'model_busy')) === 0, 'the model is free');
});

check(17, 'ollama', 'two chats at once get what each gets alone, and list answers meanwhile', async () => {
  const alone = (await client.chat(ask(LONG_QUESTION))).message.content;
  const both = Promise.all([client.chat(ask(LONG_QUESTION)), client.chat(ask(QUESTION))]);
  let slowest = 0;
  for (let i = 0; i < 10; ++i) {
    const begin = performance.now();
    await client.list();
    slowest = Math.max(slowest, performance.now() - begin);
  }
  const [story, sum] = await both;
  assert.equal(story.message.content, alone);
  assert.equal(sum.message.content, ANSWER);
  assert.ok(slowest < 1000, `${slowest} ms`);
});

check(18, 'ollama', 'embed: unit length, order, dimensions', async () => {
  const length = (vector) => Math.hypot(...vector);
  const { embeddings, prompt_eval_count: count } = await client.embed({ model: DEMO, input: ['a fox', 'the sea', 'a fox'] });
  assert.equal(embeddings.length, 3);
  assert.equal(embeddings[0].length, 256);
  for (const vector of embeddings) assert.ok(Math.abs(length(vector) - 1) < 1e-4);
  const product = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  assert.ok(product(embeddings[0], embeddings[2]) > 0.9999);
  assert.ok(product(embeddings[0], embeddings[1]) < 0.9999);
  assert.ok(count > 0);
  const cut = await client.embed({ model: DEMO, input: 'a fox', dimensions: 64 });
  assert.equal(cut.embeddings[0].length, 64);
  assert.ok(Math.abs(length(cut.embeddings[0]) - 1) < 1e-4);
  assert.deepEqual((await client.embed({ model: DEMO, input: [] })).embeddings, []);
  assert.equal((await client.embeddings({ model: DEMO, prompt: 'a fox' })).embedding.length, 256);
  await assert.rejects(client.embed({ model: DEMO, input: 'fox '.repeat(3000), truncate: false }), { message: 'the input length exceeds the context length' });
});

check(25, 'ollama', 'the second request with the same beginning takes it from the cache', async () => {
  const request = ask('Why does mmap thrash?');
  const first = await client.chat(request);
  const second = await client.chat(request);
  assert.ok(second.prompt_eval_cached_count > 0);
  assert.equal(second.prompt_eval_count, first.prompt_eval_count);
  assert.equal(second.message.content, first.message.content);
});

check(26, 'ollama', 'another num_ctx does not load the model again', async () => {
  await client.chat(ask(QUESTION, { options: { num_ctx: 900 } }));
  const loads = await metric(server.url, 'model_loads_total');
  const next = await client.chat(ask(QUESTION, { options: { num_ctx: 950 } }));
  assert.equal(await metric(server.url, 'model_loads_total'), loads);
  assert.equal(next.load_duration, 0);
});

check('s', 'ollama', 'logprobs', async () => {
  const { logprobs } = await client.chat(ask(QUESTION, { logprobs: true, top_logprobs: 3 }));
  assert.equal(logprobs.map((entry) => entry.token).join('').trim(), ANSWER);
  assert.ok(logprobs.every((entry) => entry.logprob <= 0 && entry.top_logprobs.length === 3 && entry.top_logprobs[0].logprob >= entry.logprob - 1e-6));
});

check('s', 'ollama', 'raw text and context', async () => {
  const raw = await client.generate({ model: DEMO, prompt: `<|im_start|>user\n${QUESTION}<|im_end|>\n<|im_start|>assistant\n`, raw: true });
  assert.equal(raw.response, ANSWER);
  assert.equal(raw.context, undefined);
  const first = await client.generate({ model: DEMO, prompt: QUESTION });
  assert.ok(first.context.length > 15);
  const second = await client.generate({ model: DEMO, prompt: QUESTION, context: first.context });
  assert.ok(second.prompt_eval_count > first.context.length);
});

check('s', 'ollama', 'pull of a file, copy, delete, switching models', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hypura-models-'));
  const own = await startServer({ models: folder });
  const ownClient = new Ollama({ host: own.url });
  try {
    const source = join(process.env.MODELS, 'demo-moe.gguf');
    const statuses = await gather(await ownClient.pull({ model: `file://${source}`, stream: true }));
    assert.equal(statuses[0].status, 'pulling manifest');
    assert.equal(statuses.at(-1).status, 'success');
    assert.ok(statuses.some((status) => status.completed === status.total && /^sha256:[0-9a-f]{64}$/.test(status.digest)));
    await ownClient.copy({ source: DEMO, destination: 'fox:small' });
    assert.deepEqual((await ownClient.list()).models.map((model) => model.name), ['demo-moe:latest', 'fox:small']);
    assert.equal((await ownClient.chat(ask(QUESTION, { model: 'fox:small' }))).message.content, ANSWER);
    await ownClient.delete({ model: 'fox:small' });
    await assert.rejects(ownClient.delete({ model: 'fox:small' }), { message: "model 'fox:small' not found" });
    await assert.rejects(ownClient.copy({ source: 'nobody', destination: 'x' }), { message: 'model "nobody" not found' });
    assert.equal((await ownClient.chat(ask(QUESTION))).message.content, ANSWER);
    copyFileSync(join(process.env.MODELS, 'thinker.gguf'), join(folder, 'thinker.gguf'));
    assert.equal((await ownClient.chat(ask(QUESTION, { model: THINKER }))).message.content, ANSWER);
    assert.equal((await ownClient.ps()).models.length, 1);
    await ownClient.copy({ source: DEMO, destination: 'renamed' });
    await ownClient.delete({ model: DEMO });
    assert.equal((await ownClient.chat(ask(QUESTION, { model: 'renamed' }))).message.content, ANSWER);
    await assert.rejects(ownClient.copy({ source: 'renamed', destination: THINKER }), { status_code: 400, message: /exists/ });
    await ownClient.delete({ model: 'renamed' });
    assert.deepEqual(readdirSync(folder), ['thinker.gguf']);
    assert.equal((await ownClient.pull({ model: THINKER })).status, 'success');
    await assert.rejects(ownClient.pull({ model: 'llama3' }), { message: /does not exist/ });
  } finally {
    await own.stop();
  }
});
