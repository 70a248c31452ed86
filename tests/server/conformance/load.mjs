// Measures several clients at once. By hand: node load.mjs URL MODEL CLIENTS TOKENS
// Each client asks for TOKENS tokens of its own prompt; meanwhile /api/tags is asked ten times a second.
const [url, model, clients, tokens] = process.argv.slice(2);

async function ask(i) {
  const body = { model, prompt: `Client ${i}: `, raw: true, stream: false, options: { num_predict: Number(tokens), temperature: 1, seed: i } };
  const reply = await (await fetch(`${url}/api/generate`, { method: 'POST', body: JSON.stringify(body) })).json();
  if (reply.error) throw new Error(reply.error);
  return reply;
}

await fetch(`${url}/api/generate`, { method: 'POST', body: JSON.stringify({ model }) });  // loads
const times = [];
let running = true;
const watch = (async () => {
  while (running) {
    const begin = performance.now();
    await (await fetch(`${url}/api/tags`)).text();
    times.push(performance.now() - begin);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
})();
const begin = performance.now();
const replies = await Promise.all(Array.from({ length: Number(clients) }, (_, i) => ask(i)));
const seconds = (performance.now() - begin) / 1000;
running = false;
await watch;
times.sort((a, b) => a - b);
const generated = replies.reduce((sum, reply) => sum + reply.eval_count, 0);
console.log(JSON.stringify({ clients: Number(clients), generated, seconds: Number(seconds.toFixed(1)),
  tokens_per_second: Number((generated / seconds).toFixed(2)), tags_p50_ms: Number(times[times.length >> 1].toFixed(1)),
  tags_p99_ms: Number(times[Math.min(times.length - 1, Math.floor(times.length * 0.99))].toFixed(1)) }));
