// Two models at once, under one budget of memory.
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { Ollama } from 'ollama';
import { ANSWER, DEMO, LONG_QUESTION, QUESTION, check, metric, startServer, until } from './harness.mjs';

const RAM_MIB = 400;
const NAMES = ['one', 'two', 'three'];
let folder, server, client;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hypura-several-'));
  for (const name of NAMES) copyFileSync(join(process.env.MODELS, `${DEMO}.gguf`), join(folder, `${name}.gguf`));
  // The budget of weights that all tests have is for both of them: 4 MiB each.
  server = await startServer({ models: folder, env: { OLLAMA_MAX_LOADED_MODELS: '2' }, args: ['--ram', `${RAM_MIB}MiB`] });
  client = new Ollama({ host: server.url });
});
after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const ask = (model, more = {}) => client.chat({ model, messages: [{ role: 'user', content: QUESTION }], ...more });
const loaded = async () => (await client.ps()).models.map((model) => model.name.replace(':latest', '')).sort();
function heldMiB() {
  const status = readFileSync(`/proc/${server.pid}/status`, 'utf8');
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)[1]) / 1024;
}

check('s', 'ollama', 'two models are loaded at once, within one budget', async () => {
  assert.equal((await ask('one')).message.content, ANSWER);
  const [alone] = (await client.ps()).models;
  assert.equal((await ask('two')).message.content, ANSWER);
  assert.deepEqual(await loaded(), ['one', 'two']);
  assert.ok(heldMiB() < RAM_MIB, `${heldMiB()} MiB`);
  const sizes = (await client.ps()).models.map((model) => model.size);
  assert.ok(sizes.reduce((a, b) => a + b) < RAM_MIB * 2 ** 20);
  assert.ok(sizes.every((size) => size <= alone.size * 1.1), `${sizes} and ${alone.size} alone`);
  const loads = await metric(server.url, 'model_loads_total');
  const both = await Promise.all([ask('one'), ask('two'), ask('one', { options: { num_ctx: 1000 } })]);
  assert.deepEqual(both.map((answer) => answer.message.content), [ANSWER, ANSWER, ANSWER]);
  assert.equal(await metric(server.url, 'model_loads_total'), loads);  // nothing was loaded again
});

check('s', 'ollama', 'a third model takes the place of the longest unused', async () => {
  await ask('one');
  assert.equal((await ask('three')).message.content, ANSWER);
  assert.deepEqual(await loaded(), ['one', 'three']);
  assert.ok(heldMiB() < RAM_MIB, `${heldMiB()} MiB`);
});

check('s', 'ollama', 'a third model waits while both are in use, and comes in its turn', async () => {
  const request = { messages: [{ role: 'user', content: LONG_QUESTION }], options: { num_predict: 40 } };
  const busy = ['one', 'three'].map((model) => client.chat({ model, ...request }));
  const models = async () => [...(await (await fetch(`${server.url}/metrics`)).text()).matchAll(/hypura_model_busy\{[^}]*\} (\d+)/g)];
  await until(async () => (await models()).filter((busy) => Number(busy[1]) > 0).length === 2, 'both run');
  assert.equal((await ask('two')).message.content, ANSWER);
  for (const answer of await Promise.all(busy)) assert.ok(answer.message.content.length > 0);
  assert.equal((await loaded()).length, 2);
});
