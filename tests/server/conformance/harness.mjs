// Starts the real server on a free port, and names the checks of the conformance list.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { test } from 'node:test';

export const DEMO = 'demo-moe';      // plain ChatML: no tools, no thinking
export const THINKER = 'thinker';    // the same weights with a template that knows both
export const QUESTION = 'What is 7 plus 8?';
export const ANSWER = '7 plus 8 is 15.';
export const LONG_QUESTION = 'Tell me a short story about a brave fox named Mia.';

const STREAMING = ['--mode', 'stream', '--weights', '8MiB', '--threads', '1'];

// Every test is a row of the table in docs/conformance.md.
export function check(number, client, title, body) {
  test(`check ${String(number).padStart(2, '0')} [${client}] ${title}`, async () => {
    await body();
    if (process.env.RESULTS) appendFileSync(process.env.RESULTS, JSON.stringify({ number, client, title }) + '\n');
  });
}

export async function startServer({ args = [], models = process.env.MODELS, env = {}, context = '2048', host = ['--host', '127.0.0.1:0'] } = {}) {
  const folder = models === null ? [] : ['--models', models];
  const child = spawn(process.env.HYPURA, ['serve', ...folder, ...host, ...STREAMING, ...args],
    { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, OLLAMA_CONTEXT_LENGTH: context, ...env } });
  let log = '';
  const url = await new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      log += data;
      const found = /listening on (http:\S+)/.exec(log);
      if (found) resolve(found[1]);
    });
    child.on('exit', (code) => reject(new Error(`hypura serve ended with ${code}: ${log}`)));
  });
  return {
    url,
    pid: child.pid,
    log: () => log,
    async stop() {
      const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
      child.kill('SIGTERM');
      return ended;
    },
  };
}

export async function post(url, body, headers = { 'content-type': 'application/json' }) {
  return fetch(url, { method: 'POST', headers, body: typeof body === 'string' ? body : JSON.stringify(body) });
}

export async function metric(url, name) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`hypura_${name} `) || candidate.startsWith(`hypura_${name}{`));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
}

export async function until(condition, what, milliseconds = 20000) {
  const deadline = Date.now() + milliseconds;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// A grammar that leaves the model one thing to say: how tool calls and thinking are tested with weights that know neither.
export function says(text) {
  return 'root ::= ' + JSON.stringify(text);
}

export const THOUGHTFUL = '<think>\nSeven and eight.\n</think>\n\nFifteen.';
export const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"days": 2, "city": "Oslo"}}\n</tool_call>';
export const TWO_CALLS = `Let me look.\n${CALL}\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>`;
export const ARGUMENTS = { days: 2, city: 'Oslo' };

export const WEATHER_SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Oslo', 'Rome'] }, days: { type: 'integer' } },
  required: ['city', 'days'],
};
export const TOOLS = [
  { type: 'function', function: { name: 'get_weather', description: 'The weather', parameters: WEATHER_SCHEMA } },
  { type: 'function', function: { name: 'get_time', description: 'The time', parameters: { type: 'object', properties: {} } } },
];
export const SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  properties: { sum: { type: 'integer' }, ok: { type: 'boolean' } },
  required: ['sum', 'ok'],
  additionalProperties: false,
};
export function assertFits(value) {
  assert.deepEqual(Object.keys(value), ['sum', 'ok']);
  assert.ok(Number.isInteger(value.sum));
  assert.equal(typeof value.ok, 'boolean');
}
