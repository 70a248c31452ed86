// The wall of Node's clients, at its real height: a prompt that takes more than five minutes to read, and clients with
// the time limits that they come with. By hand, since it takes six minutes: node wall.mjs HYPURA MODELS_FOLDER
// The reads are slowed down, not the processor. Clients: ollama (stream and not), openai (stream), anthropic (not).
import { strict as assert } from 'node:assert';
import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';
import OpenAI from 'openai';

[process.env.HYPURA, process.env.MODELS] = process.argv.slice(2);
const { DEMO, startServer } = await import('./harness.mjs');

const WALL_SECONDS = 300;
const server = await startServer({ args: ['--batch', '16', '--fault', `1:slow:${process.env.DELAY_MS ?? 30}`] });
const prompt = (word) => `${word}. ${'The fox went to the sea and found a red ball. '.repeat(Number(process.env.REPEAT ?? 20))}`;
const ask = (word, more) => ({ model: DEMO, messages: [{ role: 'user', content: prompt(word) }], ...more });
const SHORT = { options: { num_predict: 2 } };
const ollama = new Ollama({ host: server.url });
const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: server.url, apiKey: 'x', maxRetries: 0 });

async function streamed(stream, text) {
  let all = '';
  for await (const part of stream) all += text(part) ?? '';
  return all;
}

const CLIENTS = {
  'ollama, stream': async () => streamed(await ollama.chat(ask('One', { ...SHORT, stream: true })), (part) => part.message.content),
  'ollama, in one piece': async () => (await ollama.chat(ask('Two', SHORT))).message.content,
  'openai, stream': async () => streamed(await openai.chat.completions.create(ask('Three', { max_tokens: 2, stream: true })),
    (part) => part.choices[0]?.delta.content),
  'anthropic, in one piece': async () => (await anthropic.messages.create(ask('Four', { max_tokens: 2 }))).content[0].text,
};

const begin = performance.now();
const seconds = () => Math.round((performance.now() - begin) / 1000);
const results = await Promise.allSettled(Object.entries(CLIENTS).map(async ([name, run]) => {
  const text = await run();
  console.log(`${name}: "${text}" after ${seconds()} s`);
  assert.ok(text.length > 0 && seconds() > WALL_SECONDS, `${name}: too fast to show anything; raise DELAY_MS`);
}));
await server.stop();
for (const result of results) if (result.status === 'rejected') console.error(result.reason);
process.exit(results.every((result) => result.status === 'fulfilled') ? 0 : 1);
