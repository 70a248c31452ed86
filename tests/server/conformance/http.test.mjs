// What no client library shows: methods, types, origins, keys, queue, metrics, signals.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { ANSWER, DEMO, LONG_QUESTION, QUESTION, check, metric, post, startServer, until } from './harness.mjs';

let server;
before(async () => (server = await startServer({ args: ['--origins', 'https://good.example'] })));
after(async () => assert.equal((await server.stop()).code, 0));

const chat = (more = {}) => ({ model: DEMO, messages: [{ role: 'user', content: QUESTION }], stream: false, ...more });
const ENDPOINTS = {
  ollama: ['/api/chat', (json) => json.message.content],
  openai: ['/v1/chat/completions', (json) => json.choices[0].message.content],
  anthropic: ['/v1/messages', (json) => json.content[0].text],
};

// node's fetch does not let anybody set Host or leave Content-Type out.
function raw(path, { method = 'GET', headers = {}, body = '' } = {}) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(server.url);
    const message = request({ hostname, port, path, method, headers }, (reply) => {
      let text = '';
      reply.on('data', (data) => (text += data));
      reply.on('end', () => resolve({ status: reply.statusCode, headers: reply.headers, text }));
    });
    message.on('error', reject);
    message.end(body);
  });
}

check(1, 'http', 'GET and HEAD /', async () => {
  const got = await raw('/');
  assert.equal(got.text, 'Ollama is running');
  assert.match(got.headers['content-type'], /^text\/plain/);
  for (const path of ['/', '/api/tags', '/api/version']) {
    const head = await raw(path, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.text, '');
  }
});

check(3, 'http', 'tags is JSON', async () => {
  assert.match((await raw('/api/tags')).headers['content-type'], /^application\/json/);
});

check(4, 'http', 'show by name, and for Copilot', async () => {
  const shown = await (await post(`${server.url}/api/show`, { name: DEMO })).json();
  assert.equal(shown.model_info['general.architecture'], 'qwen3moe');
  assert.equal(shown.model_info['tokenizer.ggml.tokens'].length, 0);
  const verbose = await (await post(`${server.url}/api/show`, { name: DEMO, verbose: true })).json();
  assert.equal(verbose.model_info['tokenizer.ggml.tokens'].length, 4096);
  const copilot = await post(`${server.url}/api/show`, { model: DEMO }, { 'user-agent': 'GitHubCopilotChat/1' });
  assert.equal((await copilot.json()).model_info['general.basename'], DEMO);
});

for (const [name, [path, text]] of Object.entries(ENDPOINTS)) {
  check(9, name, 'the content type does not matter', async () => {
    const body = JSON.stringify(chat({ max_tokens: 50 }));
    for (const type of ['application/x-www-form-urlencoded', 'application/octet-stream', 'text/plain']) {
      const reply = await raw(path, { method: 'POST', headers: { 'content-type': type, 'content-length': body.length }, body });
      assert.equal(text(JSON.parse(reply.text)), ANSWER, type);
    }
    const chunked = await raw(path, { method: 'POST', headers: { 'transfer-encoding': 'chunked' }, body });
    assert.equal(text(JSON.parse(chunked.text)), ANSWER);
    const query = await raw(`${path}?beta=true`, { method: 'POST', headers: { 'content-length': body.length, expect: '100-continue' }, body });
    assert.equal(text(JSON.parse(query.text)), ANSWER);
  });
  check(14, name, 'no body and broken JSON are 400, an unknown path 404, another method 405', async () => {
    assert.equal((await raw(path, { method: 'POST' })).status, 400);
    const broken = await raw(path, { method: 'POST', body: '{"model":' });
    assert.equal(broken.status, 400);
    assert.ok(JSON.parse(broken.text).error);
    assert.equal((await raw('/no/such/path')).text, '404 page not found');
    assert.equal((await raw(path)).status, 405);
  });
}

check(23, 'http', 'preflight, allowed and foreign origins, foreign hosts', async () => {
  const preflight = await raw('/v1/chat/completions', { method: 'OPTIONS', headers: { origin: 'http://localhost:3000', 'access-control-request-method': 'POST' } });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers['access-control-allow-origin'], 'http://localhost:3000');
  assert.match(preflight.headers['access-control-allow-headers'], /x-stainless-os.*|anthropic-version/);
  for (const origin of ['https://good.example', 'vscode-webview://abc', 'app://x', 'http://127.0.0.1:5173'])
    assert.equal((await raw('/api/tags', { headers: { origin } })).headers['access-control-allow-origin'], origin);
  for (const origin of ['https://evil.example', 'http://localhost.evil.example', 'null'])
    assert.equal((await raw('/api/chat', { method: 'POST', headers: { origin }, body: '{}' })).status, 403);
  assert.equal((await raw('/api/tags', { headers: { host: 'evil.example' } })).status, 403);
  assert.equal((await raw('/api/tags', { headers: { host: 'localhost:11434' } })).status, 200);
});

check('s', 'http', 'answers are not compressed, streams not buffered', async () => {
  const body = JSON.stringify(chat({ stream: true }));
  const reply = await raw('/api/chat', { method: 'POST', headers: { 'accept-encoding': 'gzip, br' }, body });
  assert.equal(reply.headers['content-encoding'], undefined);
  assert.equal(reply.headers['x-accel-buffering'], 'no');
  assert.equal((await raw('/api/tags', { headers: { 'accept-encoding': 'gzip' } })).headers['content-encoding'], undefined);
});

check('s', 'http', 'compressed request bodies: gzip, and zstd as Codex sends it', async () => {
  for (const [encoding, compress] of [['gzip', gzipSync], ['zstd', zstdCompressSync]]) {
    const body = compress(Buffer.from(JSON.stringify(chat())));
    const reply = await raw('/v1/chat/completions', { method: 'POST', headers: { 'content-encoding': encoding, 'content-length': body.length }, body });
    assert.equal(JSON.parse(reply.text).choices[0].message.content, ANSWER, encoding);
  }
});

check(9, 'http', 'a large body says curl -d that it is a form', async () => {
  const content = 'Say something about the sea. '.repeat(400);
  const options = { num_predict: 1 };
  for (const [path, answer] of Object.values(ENDPOINTS)) {
    const body = JSON.stringify(chat({ messages: [{ role: 'user', content }, { role: 'user', content: QUESTION }], max_tokens: 1, options }));
    assert.ok(body.length > 8192);
    const reply = await raw(path, { method: 'POST', headers: { 'content-type': 'application/x-www-form-urlencoded' }, body });
    assert.notEqual(reply.status, 413, path);
    const json = JSON.parse(reply.text);  // as long as the context, or refused for that
    assert.ok(reply.status === 200 ? answer(json).length > 0 : /context size/.test(json.error.message ?? json.error), reply.text);
  }
});

check(14, 'http', 'a body beyond all bounds is refused in the form of the dialect', async () => {
  const piece = Buffer.alloc(1 << 20, ' ');
  const pieces = 257;
  async function* body() {
    for (let i = 0; i < pieces; ++i) yield piece;
  }
  const headers = { 'content-length': String(pieces << 20) };
  for (const [path, message] of [['/api/chat', (json) => json.error], ['/v1/chat/completions', (json) => json.error.message],
    ['/v1/messages', (json) => json.error.message]]) {
    const { hostname, port } = new URL(server.url);
    const reply = await new Promise((resolve, reject) => {
      const outgoing = request({ hostname, port, path, method: 'POST', headers }, (incoming) => {
        let text = '';
        incoming.on('data', (data) => (text += data));
        incoming.on('end', () => resolve({ status: incoming.statusCode, text }));
      });
      outgoing.on('error', reject);
      Readable.from(body()).pipe(outgoing);
    });
    assert.equal(reply.status, 413, path);
    assert.match(message(JSON.parse(reply.text)), /too large/);
  }
});

check('s', 'http', 'health and metrics', async () => {
  assert.equal(JSON.parse((await raw('/health')).text).status, 'ok');
  const before = await metric(server.url, 'answer_tokens_total');
  await post(`${server.url}/api/chat`, chat());
  assert.ok((await metric(server.url, 'answer_tokens_total')) > before);
  assert.ok((await metric(server.url, 'model_read_bytes_total')) > 0);
  for (const line of (await raw('/metrics')).text.trim().split('\n')) assert.match(line, /^(# (HELP|TYPE) hypura_\w+ .+|hypura_\w+(\{model="[^"]+"\})? [-+.e\d]+)$/);
});

check('s', 'http', 'an API key, where one is asked for', async () => {
  const own = await startServer({ args: ['--api-key', 'secret'] });
  try {
    assert.equal((await fetch(`${own.url}/api/tags`)).status, 401);
    assert.equal((await fetch(`${own.url}/health`)).status, 200);
    assert.equal((await fetch(`${own.url}/v1/models`, { headers: { authorization: 'Bearer secret' } })).status, 200);
    assert.equal((await fetch(`${own.url}/v1/models`, { headers: { 'x-api-key': 'secret' } })).status, 200);
  } finally {
    await own.stop();
  }
});

check('s', 'http', 'a port that is taken is said to be so', async () => {
  const { host } = new URL(server.url);
  await assert.rejects(startServer({ env: { OLLAMA_HOST: host }, host: [] }), (error) => {
    assert.match(error.message, new RegExp(`ended with 2: [^]*cannot listen on ${host}: the address is taken`));
    return true;
  });
});

check('s', 'http', 'connections stay open longer than those of clients', async () => {
  const reply = await raw('/api/tags', { headers: { connection: 'keep-alive' } });
  assert.match(reply.headers['keep-alive'], /timeout=75/);
});

check('s', 'http', 'a full queue is 503, and what waits is answered in turn', async () => {
  const own = await startServer({ env: { OLLAMA_NUM_PARALLEL: '1', OLLAMA_MAX_QUEUE: '1' } });
  try {
    const story = chat({ messages: [{ role: 'user', content: LONG_QUESTION }] });
    const first = post(`${own.url}/api/chat`, story);
    await until(async () => (await metric(own.url, 'model_busy')) === 1, 'the first runs');
    const second = post(`${own.url}/api/chat`, chat());
    await until(async () => (await metric(own.url, 'requests_waiting')) === 1, 'the second waits');
    const third = await post(`${own.url}/api/chat`, chat());
    assert.equal(third.status, 503);
    assert.equal((await third.json()).error, 'server busy, please try again.  maximum pending requests exceeded');
    assert.equal((await (await second).json()).message.content, ANSWER);
    assert.equal((await first).status, 200);
  } finally {
    await own.stop();
  }
});

check('s', 'http', 'a prefix is saved, and restored by another server', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hypura-prefixes-'));
  const question = { model: DEMO, messages: [{ role: 'user', content: LONG_QUESTION }] };
  let tokens;
  for (const restart of [false, true]) {
    const own = await startServer({ args: ['--prefixes', folder] });
    try {
      if (restart) {
        const restored = await (await post(`${own.url}/prefix/restore`, { model: DEMO, file: 'fox' })).json();
        assert.equal(restored.tokens, tokens);
      }
      const reply = await (await post(`${own.url}/api/chat`, { ...question, stream: false })).json();
      assert.equal(reply.prompt_eval_cached_count > 0, restart);
      if (!restart) ({ tokens } = await (await post(`${own.url}/prefix/save`, { ...question, file: 'fox' })).json());
      assert.ok(tokens >= reply.prompt_eval_count - 1);
    } finally {
      await own.stop();
    }
  }
});

check('s', 'http', 'the OLLAMA_ variables', async () => {
  const env = { OLLAMA_HOST: 'http://127.0.0.1:0/', OLLAMA_MODELS: process.env.MODELS, OLLAMA_CONTEXT_LENGTH: '1024', OLLAMA_KEEP_ALIVE: '-1', OLLAMA_ORIGINS: 'https://a.example', OLLAMA_NUM_PARALLEL: '2' };
  const own = await startServer({ env, models: null, host: [] });
  try {
    assert.equal((await fetch(`${own.url}/api/tags`, { headers: { origin: 'https://a.example' } })).status, 200);
    await post(`${own.url}/api/chat`, chat());
    const { models: [model] } = await (await fetch(`${own.url}/api/ps`)).json();
    assert.ok(Date.parse(model.expires_at) > Date.now() + 1e12);
    assert.equal(model.context_length, 1024);
  } finally {
    await own.stop();
  }
});

check('s', 'http', 'quotation marks around variables do not matter, and a flag wins', async () => {
  const env = { OLLAMA_KV_CACHE_TYPE: '"q8_0"', OLLAMA_KEEP_ALIVE: "'-1'", OLLAMA_CONTEXT_LENGTH: ' 512 ' };
  const own = await startServer({ env, args: ['--keep-alive', '5m'] });
  try {
    assert.equal((await (await post(`${own.url}/api/chat`, chat({ messages: [] }))).json()).done_reason, 'load');
    const { models: [model] } = await (await fetch(`${own.url}/api/ps`)).json();
    assert.equal(model.context_length, 512);
    assert.ok(Date.parse(model.expires_at) < Date.now() + 600000);
  } finally {
    await own.stop();
  }
  await startServer({ env: { OLLAMA_KV_CACHE_TYPE: 'f12' }, args: ['--kv', 'f16'] }).then((other) => other.stop());
});

check('s', 'http', 'what cannot be served is said before anything is', async () => {
  const twin = join(mkdtempSync(join(tmpdir(), 'hypura-twin-')), `${DEMO}.gguf`);
  copyFileSync(join(process.env.MODELS, `${DEMO}.gguf`), twin);
  for (const [options, message] of [
    [{ env: { OLLAMA_KV_CACHE_TYPE: 'f12' } }, /'f12' is none of f16/],
    [{ env: { OLLAMA_KEEP_ALIVE: 'soon' } }, /--keep-alive: time: invalid duration "soon"/],
    [{ args: ['--ping', '0'] }, /--ping: 0 is not from/],
    [{ args: ['--queue', 'many'] }, /--queue: 'many' is not a number/],
    [{ models: '/no/such/folder' }, /no such folder/],
    [{ args: [twin] }, /another model has the same name/],
    [{ args: ['/no/such.gguf'] }, /no\/such\.gguf/],
  ]) await assert.rejects(startServer(options), message);
  rmSync(twin);
  const empty = await startServer({ models: mkdtempSync(join(tmpdir(), 'hypura-none-')) });
  assert.match(empty.log(), /no models in .* yet/);
  await empty.stop();
});

check('s', 'http', 'SIGTERM ends the server, also while it answers', async () => {
  const own = await startServer();
  const story = post(`${own.url}/api/chat`, chat({ stream: true, messages: [{ role: 'user', content: LONG_QUESTION }] }));
  await until(async () => (await metric(own.url, 'model_busy')) === 1, 'the request runs');
  const text = story.then((reply) => reply.text()).catch(() => '');
  assert.equal((await own.stop()).code, 0);
  assert.ok(!(await text).includes('"done":true'), 'it did not just wait for the end of the story');
});
