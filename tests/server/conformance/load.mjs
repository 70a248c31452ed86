// Measures several clients at once. By hand: node load.mjs URL MODEL CLIENTS TOKENS [same|own]
// Each client asks for TOKENS tokens of its own prompt (or all of the same one, greedily); meanwhile the list of models is
// asked for ten times a second. Speaks /v1/completions, which llama-server knows as well; load.sh runs both.
const [url, model, clients, tokens, prompts = 'own'] = process.argv.slice(2);

async function ask(i) {
  const own = { prompt: `Client ${i}: `, temperature: 1, seed: i };
  const same = { prompt: 'Once upon a time there was ', temperature: 0 };
  const body = { model, max_tokens: Number(tokens), stream: false, ignore_eos: true, ...(prompts === 'same' ? same : own) };
  const reply = await fetch(`${url}/v1/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const json = await reply.json();
  if (json.error) throw new Error(json.error.message);
  return json.usage.completion_tokens;
}

async function readBytes() {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/hypura_model_read_bytes_total\{[^}]*\} ([\d.e+]+)/.exec(text)?.[1] ?? NaN);
}

const times = [];
let running = true;
const watch = (async () => {
  while (running) {
    const begin = performance.now();
    await (await fetch(`${url}/v1/models`)).text();
    times.push(performance.now() - begin);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
})();
const bytesBefore = await readBytes();
const begin = performance.now();
const answers = await Promise.all(Array.from({ length: Number(clients) }, (_, i) => ask(i)));
const seconds = (performance.now() - begin) / 1000;
const bytes = (await readBytes()) - bytesBefore;
running = false;
await watch;
times.sort((a, b) => a - b);
const generated = answers.reduce((sum, count) => sum + count, 0);
console.log(JSON.stringify({ clients: Number(clients), prompts, generated, seconds: Number(seconds.toFixed(1)),
  tokens_per_second: Number((generated / seconds).toFixed(2)), mib_per_token: Math.round(bytes / generated / 2 ** 20),
  list_p50_ms: Number(times[times.length >> 1].toFixed(1)),
  list_p99_ms: Number(times[Math.min(times.length - 1, Math.floor(times.length * 0.99))].toFixed(1)) }));
