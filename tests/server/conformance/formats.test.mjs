// What answers are held to, keyword by keyword, and what is refused instead of ignored: schemas that no grammar can keep, and
// images, in every dialect.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { ChatOllama } from '@langchain/ollama';
import { ChatOpenAI } from '@langchain/openai';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import * as z from 'zod';
import { DEMO, QUESTION, check, metric, startServer } from './harness.mjs';

let server, ollama, openai, anthropic;
before(async () => {
  server = await startServer();
  ollama = new Ollama({ host: server.url });
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: server.url, apiKey: 'x', maxRetries: 0 });
});
after(async () => server.stop());

const ask = (more = {}, content = QUESTION) => ({ model: DEMO, messages: [{ role: 'user', content }], ...more });

// As people write them: with zod, which adds patterns of its own to its formats. Every part is bounded, so that a small model
// comes to an end.
const PERSON = z.object({
  name: z.string().min(1).max(12),
  mail: z.email().max(24),
  born: z.iso.date(),
  id: z.uuid(),
  code: z.string().regex(/^[A-Z]{2}-\d{3}$/),
  age: z.number().int().min(0).max(130),
  score: z.number().gt(0).lt(1),
  tags: z.array(z.enum(['red', 'blue'])).min(1).max(3),
  pet: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('cat'), lives: z.number().int().min(1).max(9) }),
    z.object({ kind: z.literal('dog'), barks: z.boolean() }),
  ]),
  nick: z.string().max(5).nullable(),
});
const SCHEMA = z.toJSONSchema(PERSON);
const assertPerson = (text) => PERSON.parse(JSON.parse(text));
const WRAPPED = { type: 'json_schema', json_schema: { name: 'person', schema: SCHEMA, strict: true } };
const HOT = { temperature: 1.5, seed: 3 };  // the grammar must hold, not the model

check(11, 'ollama', 'patterns, formats, ranges, lengths and alternatives are kept', async () => {
  for (const seed of [1, 2, 3]) {
    const answer = await ollama.chat(ask({ format: SCHEMA, options: { ...HOT, seed, num_predict: 700 } }));
    assert.equal(answer.done_reason, 'stop');
    assertPerson(answer.message.content);
  }
  const generated = await ollama.generate({ model: DEMO, prompt: QUESTION, format: SCHEMA, options: { ...HOT, num_predict: 700 } });
  assertPerson(generated.response);
});

check(11, 'openai', 'patterns, formats, ranges, lengths and alternatives are kept', async () => {
  const chat = await openai.chat.completions.create(ask({ response_format: WRAPPED, max_tokens: 700, ...HOT }));
  assertPerson(chat.choices[0].message.content);
  const response = await openai.responses.create({ model: DEMO, input: QUESTION, max_output_tokens: 700, temperature: 1.5,
    text: { format: { type: 'json_schema', name: 'person', schema: SCHEMA } } });
  assertPerson(response.output_text);
});

check(11, 'anthropic', 'output_config.format is kept', async () => {
  const message = await anthropic.messages.create(ask({ max_tokens: 700, output_config: { format: { type: 'json_schema', schema: SCHEMA } } }));
  assertPerson(message.content[0].text);
});

check(11, '@langchain/ollama', 'a schema with formats and ranges', async () => {
  const model = new ChatOllama({ baseUrl: server.url, model: DEMO, numPredict: 700, temperature: 1.5, seed: 1 });
  PERSON.parse(await model.withStructuredOutput(PERSON, { method: 'jsonSchema' }).invoke(QUESTION));
});

check(11, '@langchain/openai', 'a schema with formats and ranges', async () => {
  const model = new ChatOpenAI({ configuration: { baseURL: `${server.url}/v1` }, apiKey: 'x', model: DEMO, maxTokens: 700, temperature: 1.5 });
  PERSON.parse(await model.withStructuredOutput(PERSON, { method: 'jsonSchema' }).invoke(QUESTION));
});

const UNKEPT = [
  [{ type: 'object', properties: { a: { not: { type: 'string' } } } }, /"not" is not supported/],
  [{ type: 'array', items: { type: 'string' }, uniqueItems: true }, /uniqueItems/],
  [{ type: 'string', pattern: '(a)\\1' }, /back-reference/],
  [{ type: 'string', format: 'phone' }, /"phone"/],
];
const refused = (message) => (error) => (error.status ?? error.status_code) === 400 && message.test(error.message.replaceAll('\\"', '"'));

check(11, 'ollama', 'a schema that cannot be kept is refused before anything is loaded', async () => {
  const fresh = await startServer();
  try {
    const client = new Ollama({ host: fresh.url });
    for (const [format, message] of UNKEPT) await assert.rejects(client.chat(ask({ format })), refused(message));
    assert.equal(await metric(fresh.url, 'model_loads_total') ?? 0, 0);
  } finally {
    await fresh.stop();
  }
});

check(11, 'openai', 'a schema that cannot be kept is refused (chat, responses, tools)', async () => {
  for (const [schema, message] of UNKEPT) {
    const wrapped = { type: 'json_schema', json_schema: { name: 'x', schema } };
    await assert.rejects(openai.chat.completions.create(ask({ response_format: wrapped })), refused(message));
    const format = { type: 'json_schema', name: 'x', schema };
    await assert.rejects(openai.responses.create({ model: DEMO, input: QUESTION, text: { format } }), refused(message));
  }
});

check(11, 'anthropic', 'a schema that cannot be kept is refused', async () => {
  for (const [schema, message] of UNKEPT)
    await assert.rejects(anthropic.messages.create(ask({ max_tokens: 5, output_config: { format: { type: 'json_schema', schema } } })), refused(message));
});

// ---- images ------------------------------------------------------------------------------------------------------------

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const DATA_URL = `data:image/png;base64,${PIXEL}`;
const NO_IMAGES = refused(/demo-moe does not support images/);

check('s', 'ollama', 'images are refused by name, and show promises no vision', async () => {
  const messages = [{ role: 'user', content: QUESTION, images: [PIXEL] }];
  await assert.rejects(ollama.chat({ model: DEMO, messages }), NO_IMAGES);
  await assert.rejects(ollama.chat({ model: DEMO, messages, stream: true }), NO_IMAGES);
  await assert.rejects(ollama.generate({ model: DEMO, prompt: QUESTION, images: [PIXEL] }), NO_IMAGES);
  assert.ok(!(await ollama.show({ model: DEMO })).capabilities.includes('vision'));
  assert.ok((await ollama.chat({ model: DEMO, messages: [{ role: 'user', content: QUESTION, images: [] }] })).message.content);
});

check('s', 'openai', 'images and sound are refused by name (chat, responses)', async () => {
  const image = ask({}, [{ type: 'text', text: QUESTION }, { type: 'image_url', image_url: { url: DATA_URL } }]);
  await assert.rejects(openai.chat.completions.create(image), NO_IMAGES);
  await assert.rejects(openai.chat.completions.create({ ...image, stream: true }), NO_IMAGES);
  const sound = ask({}, [{ type: 'input_audio', input_audio: { data: 'AA==', format: 'wav' } }]);
  await assert.rejects(openai.chat.completions.create(sound), refused(/does not support audio/));
  const input = [{ role: 'user', content: [{ type: 'input_image', image_url: DATA_URL, detail: 'auto' }] }];
  await assert.rejects(openai.responses.create({ model: DEMO, input }), NO_IMAGES);
});

check('s', 'anthropic', 'images are refused by name', async () => {
  const source = { type: 'base64', media_type: 'image/png', data: PIXEL };
  const image = ask({ max_tokens: 5 }, [{ type: 'image', source }]);
  await assert.rejects(anthropic.messages.create(image), NO_IMAGES);
  await assert.rejects(anthropic.messages.countTokens(ask({}, [{ type: 'image', source }])), NO_IMAGES);
  const result = [{ type: 'tool_result', tool_use_id: 't', content: [{ type: 'image', source }] }];
  await assert.rejects(anthropic.messages.create(ask({ max_tokens: 5 }, result)), NO_IMAGES);
});
