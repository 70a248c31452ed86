// A model file that goes away under the server, and comes back: every dialect says so in its own form, in mid-stream and
// before the first byte, and the next request works.
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, openSync, writeSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { ANSWER, DEMO, LONG_QUESTION, QUESTION, check, post, startServer } from './harness.mjs';

const KEPT_BYTES = 4 << 20;
let server, folder, file, whole;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hypura-faults-'));
  file = join(folder, `${DEMO}.gguf`);
  copyFileSync(join(process.env.MODELS, `${DEMO}.gguf`), file);
  whole = readFileSync(file);
  server = await startServer({ models: folder });
});
after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const breakFile = () => truncateSync(file, KEPT_BYTES);
function mendFile() {
  const descriptor = openSync(file, 'r+');
  writeSync(descriptor, whole, KEPT_BYTES, whole.length - KEPT_BYTES, KEPT_BYTES);
  closeSync(descriptor);
}
const ask = (content, more = {}) => ({ model: DEMO, messages: [{ role: 'user', content }], ...more });

async function nextRequestWorks() {
  mendFile();
  const answer = await new Ollama({ host: server.url }).chat(ask(QUESTION));
  assert.equal(answer.message.content, ANSWER);
}

// Consumes a stream; the file breaks after the third piece.
async function breakInMidStream(stream) {
  let pieces = 0;
  for await (const _ of stream) if (++pieces === 3) breakFile();
  assert.fail(`the stream ended after ${pieces} pieces as if nothing had happened`);
}

check(22, 'ollama', 'a read error in mid-stream', async () => {
  const stream = await new Ollama({ host: server.url }).chat(ask(LONG_QUESTION, { stream: true }));
  await assert.rejects(breakInMidStream(stream), (error) => error.code !== 'ERR_ASSERTION' && error.message.length > 10);
  await nextRequestWorks();
});

check(22, 'openai', 'a read error in mid-stream (chat)', async () => {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 });
  const stream = await client.chat.completions.create(ask(LONG_QUESTION, { stream: true }));
  await assert.rejects(breakInMidStream(stream), (error) => error instanceof OpenAI.APIError);
  await nextRequestWorks();
});

check(22, 'openai', 'a read error in mid-stream (responses)', async () => {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 });
  const events = [];
  const stream = await client.responses.create({ model: DEMO, input: LONG_QUESTION, stream: true });
  await assert.rejects(async () => {
    for await (const event of stream) {
      events.push(event.type);
      if (events.filter((type) => type.endsWith('text.delta')).length === 3) breakFile();
    }
    assert.ok(!events.includes('response.completed'));
    throw new OpenAI.APIError(undefined, undefined, events.at(-1), undefined);
  }, (error) => error instanceof OpenAI.APIError);
  assert.ok(events.includes('response.failed'));
  await nextRequestWorks();
});

check(22, 'anthropic', 'a read error in mid-stream', async () => {
  const client = new Anthropic({ baseURL: server.url, apiKey: 'x', maxRetries: 0 });
  const stream = await client.messages.create(ask(LONG_QUESTION, { max_tokens: 300, stream: true }));
  await assert.rejects(async () => {
    let pieces = 0;
    for await (const event of stream) if (event.type === 'content_block_delta' && ++pieces === 3) breakFile();
    assert.fail('the stream ended as if nothing had happened');
  }, (error) => error instanceof Anthropic.APIError);
  await nextRequestWorks();
});

check(22, 'http', 'a read error before the first byte has a status of its own', async () => {
  for (const [path, message] of [['/api/chat', (json) => json.error], ['/v1/chat/completions', (json) => json.error.message],
    ['/v1/responses', (json) => json.error.message], ['/v1/messages', (json) => json.error.message]]) {
    breakFile();
    const reply = await post(`${server.url}${path}`, { ...ask('Why does mmap thrash?'), input: 'Why does mmap thrash?', max_tokens: 50, stream: true });
    assert.equal(reply.status, 500, path);
    assert.equal(reply.headers.get('x-should-retry'), 'false');
    assert.ok(message(await reply.json()).length > 10);
    await nextRequestWorks();
  }
});
