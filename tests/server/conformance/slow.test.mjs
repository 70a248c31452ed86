// A prompt that takes longer than the client waits in silence. Node gives up after 300 s; here the same code (undici)
// is told to give up after 1.2 s, and the server to speak up every 0.2 s.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { ChatOllama } from '@langchain/ollama';
import { ChatOpenAI } from '@langchain/openai';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { Agent, fetch as undiciFetch } from 'undici';
import { DEMO, check, post, startServer } from './harness.mjs';

const IMPATIENT = new Agent({ headersTimeout: 1200, bodyTimeout: 1200 });
const impatient = (url, init = {}) => undiciFetch(url, { ...init, dispatcher: IMPATIENT });
// Two tokens a pass: many hundred passes over streamed weights before the first token.
const SLOW = ['--batch', '2', '--parallel', '1'];

let server, silent;
before(async () => {
  server = await startServer({ args: [...SLOW, '--ping', '0.2'] });
  // On a fast machine the processor alone is not slow enough for a client that must give up.
  silent = await startServer({ args: [...SLOW, '--ping', '60', '--fault', '1:slow:2'] });
});
after(async () => {
  await server.stop();
  await silent.stop();
});

// No two prompts alike, or the prefix cache would answer at once.
let count = 0;
const longPrompt = () => `${++count}. ${'The fox went to the sea and found a red ball. '.repeat(45)} ${count}`;
const ask = (more = {}) => ({ model: DEMO, messages: [{ role: 'user', content: longPrompt() }], ...more });
const ollama = (base) => new Ollama({ host: base.url, fetch: impatient });
const SHORT = { options: { num_predict: 3 } };

check(24, 'ollama', 'without the keep-alive bytes the client does give up', async () => {
  await assert.rejects(ollama(silent).chat(ask(SHORT)), (error) => /UND_ERR_HEADERS_TIMEOUT/.test(`${error.cause?.code} ${error.code}`));
});

check(24, 'ollama', 'a slow prompt, stream and non-stream', async () => {
  assert.ok((await ollama(server).chat(ask(SHORT))).message.content.length > 0);
  let text = '';
  const progress = [];
  for await (const part of await ollama(server).chat(ask({ ...SHORT, stream: true }))) {
    text += part.message.content;
    if (part.message.content === '' && part.prompt_progress) progress.push(part.prompt_progress);
  }
  assert.ok(text.length > 0 && progress.length > 1);
  assert.ok(progress.every(({ processed, total }) => processed < total));
  assert.ok(progress.at(-1).processed > progress[0].processed);
});

check(24, 'http', 'the bytes of every stream, and how far the prompt is', async () => {
  const heard = async (path, more) => (await post(`${server.url}${path}`, ask({ max_tokens: 1, options: { num_predict: 1 }, input: longPrompt(), stream: true, ...more }))).text();
  for (const path of ['/v1/chat/completions', '/v1/responses', '/v1/messages'])
    assert.match(await heard(path), /\n\n: \d+ of \d+ prompt tokens read\n\n/, path);
  assert.match(await heard('/v1/messages'), /\n\nevent: ping\ndata: {"type":"ping"}\n\n/);
  assert.match(await heard('/api/generate', { prompt: longPrompt() }), /"response":"","done":false,"prompt_progress":{"total":\d+,"processed":\d+}}\n/);
  assert.match(await heard('/api/chat', { stream: false }), /^( \n)+{/);
});

check(24, '@langchain/ollama', 'a slow prompt', async () => {
  const model = new ChatOllama({ model: DEMO, baseUrl: server.url, numPredict: 3, fetch: impatient });
  assert.ok((await model.invoke(longPrompt())).content.length > 0);
});

check(24, '@langchain/openai', 'a slow prompt', async () => {
  const model = new ChatOpenAI({ model: DEMO, apiKey: 'x', maxRetries: 0, maxTokens: 3, configuration: { baseURL: `${server.url}/v1`, fetch: impatient } });
  assert.ok((await model.invoke(longPrompt())).content.length > 0);
});

check(24, 'openai', 'a slow prompt, stream and non-stream (chat, responses)', async () => {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0, fetch: impatient });
  assert.ok((await client.chat.completions.create(ask({ max_tokens: 3 }))).choices[0].message.content.length > 0);
  let text = '';
  for await (const chunk of await client.chat.completions.create(ask({ max_tokens: 3, stream: true }))) text += chunk.choices[0]?.delta.content ?? '';
  assert.ok(text.length > 0);
  const stream = client.responses.stream({ model: DEMO, input: longPrompt(), max_output_tokens: 3 });
  assert.ok((await stream.finalResponse()).output_text.length > 0);
});

check(24, 'anthropic', 'a slow prompt, stream and non-stream', async () => {
  const client = new Anthropic({ baseURL: server.url, apiKey: 'x', maxRetries: 0, fetch: impatient });
  assert.ok((await client.messages.create(ask({ max_tokens: 3 }))).content[0].text.length > 0);
  assert.ok((await client.messages.stream(ask({ max_tokens: 3 })).finalMessage()).content[0].text.length > 0);
});

check(16, 'http', 'a client that leaves while its prompt is read costs no further pass', async () => {
  const controller = new AbortController();
  const pending = fetch(`${server.url}/api/chat`, { method: 'POST', body: JSON.stringify(ask(SHORT)), signal: controller.signal }).then((reply) => reply.text());
  await new Promise((resolve) => setTimeout(resolve, 300));
  controller.abort();
  await assert.rejects(pending, { name: 'AbortError' });
  const deadline = Date.now() + 1000;
  let busy = 1;
  while (busy > 0 && Date.now() < deadline) {
    const { models } = await (await fetch(`${server.url}/api/ps`)).json();
    const text = await (await fetch(`${server.url}/metrics`)).text();
    busy = models.length === 0 ? 0 : Number(/hypura_model_busy\{[^}]*\} (\d+)/.exec(text)[1]);
  }
  assert.equal(busy, 0);
});

check(17, 'http', 'metadata answers within a second while a prompt is read', async () => {
  const running = ollama(server).chat(ask(SHORT));
  const times = [];
  for (let i = 0; i < 100; ++i) {
    const begin = performance.now();
    await (await fetch(`${server.url}/api/${['tags', 'ps', 'version'][i % 3]}`)).text();
    times.push(performance.now() - begin);
  }
  await running;
  times.sort((a, b) => a - b);
  assert.ok(times[50] < 100, `the median is ${times[50]} ms`);  // the tail is that of a machine that does other things
  assert.ok(times[98] < 1000, `${times[98]} ms`);
  console.log(`# metadata p50 ${times[50].toFixed(1)} ms, p99 ${times[98].toFixed(1)} ms`);
});
