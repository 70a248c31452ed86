// Writes docs/conformance.md from the results of a run. Usage: node report.mjs RESULTS_FOLDER PACKAGE_LOCK OUT
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, lock, out] = process.argv.slice(2);
const rows = readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), 'utf8').trim().split('\n').map((line) => JSON.parse(line)));
const packages = JSON.parse(readFileSync(lock, 'utf8')).packages;
const clients = Object.keys(packages[''].dependencies).filter((name) => packages[`node_modules/${name}`]);
const NAMES = ['HEAD and GET /', 'version', 'list of models', 'show', 'ps', 'end of a stream', 'non-stream equals stream', 'lenient options',
  'content types', 'tools', 'formats', 'thinking', 'load and unload', 'error texts', 'truncation', 'disconnect cancels', 'several at once',
  'embeddings', 'SSE order and usage', 'base64 embeddings', 'order of named events', 'errors in mid-stream', 'origins', 'slow prompts', 'prefix cache', 'num_ctx'];
const place = (row) => (row.number === 's' ? 99 : row.number);
rows.sort((a, b) => place(a) - place(b) || a.client.localeCompare(b.client) || a.title.localeCompare(b.title));
const missing = NAMES.map((_, i) => i + 1).filter((number) => !rows.some((row) => row.number === number));

writeFileSync(out, `# Conformance

Written by \`tests/server/conformance/report.mjs\` from a run of the tests \`Conformance.*\`: the real clients against the real
program, the demo model streamed with 8 MiB for its weights. "http" stands for requests without a client library. Every row
is a test that passed${missing.length ? `; no test passed for the checks ${missing.join(', ')}` : ''}.

| client | version |
|---|---|
${clients.map((name) => `| ${name} | ${packages[`node_modules/${name}`].version} |`).join('\n')}
| node | ${process.version} |

| check | | client | test |
|---|---|---|---|
${rows.map(({ number, client, title }) => `| ${number === 's' ? '' : number} | ${number === 's' ? 'further' : NAMES[number - 1]} | ${client} | ${title} |`).join('\n')}
`);
