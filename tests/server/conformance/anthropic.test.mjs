// The `@anthropic-ai/sdk` package.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { ANSWER, ARGUMENTS, CALL, DEMO, LONG_QUESTION, QUESTION, THINKER, THOUGHTFUL, TOOLS, TWO_CALLS, check, metric, says,
  startServer, until } from './harness.mjs';

let server, client;
before(async () => {
  server = await startServer();
  client = new Anthropic({ baseURL: server.url, apiKey: 'anything', maxRetries: 0 });
});
after(async () => assert.equal((await server.stop()).code, 0));

const ask = (content, more = {}) => ({ model: DEMO, max_tokens: 300, messages: [{ role: 'user', content }], ...more });
const OWN_TOOLS = TOOLS.map(({ function: tool }) => ({ name: tool.name, description: tool.description, input_schema: tool.parameters }));
const text = (message) => message.content.filter((block) => block.type === 'text').map((block) => block.text).join('');

check(3, 'anthropic', 'models.list', async () => {
  const ids = [];
  for await (const model of await client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ['demo-moe:latest', 'thinker:latest']);
});

check(7, 'anthropic', 'non-stream equals the concatenated stream', async () => {
  const whole = await client.messages.create(ask(LONG_QUESTION, { temperature: 0 }));
  let streamed = '';
  const stream = client.messages.stream(ask(LONG_QUESTION, { temperature: 0 }));
  stream.on('text', (delta) => (streamed += delta));
  const final = await stream.finalMessage();
  assert.ok(text(whole).startsWith('Once upon a time'));
  assert.equal(streamed, text(whole));
  assert.equal(text(final), streamed);
  assert.equal(whole.stop_reason, 'end_turn');
  assert.ok(final.usage.output_tokens > 10);
});

check(8, 'anthropic', 'stop sequences and limits', async () => {
  const stopped = await client.messages.create(ask(QUESTION, { stop_sequences: [' is'] }));
  assert.equal(text(stopped), '7 plus 8');
  assert.equal(stopped.stop_reason, 'stop_sequence');
  assert.equal(stopped.stop_sequence, ' is');
  assert.equal((await client.messages.create(ask(QUESTION, { max_tokens: 2 }))).stop_reason, 'max_tokens');
});

check(10, 'anthropic', 'tool use, its result, and tool_choice', async () => {
  const request = ask('Weather?', { model: THINKER, tools: OWN_TOOLS, grammar: says(TWO_CALLS) });
  const message = await client.messages.create(request);
  assert.equal(message.stop_reason, 'tool_use');
  const uses = message.content.filter((block) => block.type === 'tool_use');
  assert.deepEqual(uses.map((use) => [use.name, use.input]), [['get_weather', ARGUMENTS], ['get_time', {}]]);
  const streamed = await client.messages.stream(request).finalMessage();
  assert.deepEqual(streamed.content.filter((block) => block.type === 'tool_use').map((use) => use.input), [ARGUMENTS, {}]);
  const next = await client.messages.create({ ...request, grammar: says('Sunny.'), messages: [...request.messages,
    { role: 'assistant', content: message.content },
    { role: 'user', content: uses.map((use) => ({ type: 'tool_result', tool_use_id: use.id, content: 'sun' })) }] });
  assert.equal(text(next), 'Sunny.');
  const forced = await client.messages.create(ask('Weather?', { model: THINKER, tools: OWN_TOOLS, tool_choice: { type: 'tool', name: 'get_weather' } }));
  const use = forced.content.find((block) => block.type === 'tool_use');
  assert.ok(['Oslo', 'Rome'].includes(use.input.city));
});

check(12, 'anthropic', 'thinking is a block of its own', async () => {
  const request = ask(QUESTION, { model: THINKER, grammar: says(THOUGHTFUL), thinking: { type: 'enabled', budget_tokens: 1024 } });
  for (const message of [await client.messages.create(request), await client.messages.stream(request).finalMessage()]) {
    assert.deepEqual(message.content.map((block) => block.type), ['thinking', 'text']);
    assert.equal(message.content[0].thinking.trim(), 'Seven and eight.');
    assert.equal(message.content[1].text, 'Fifteen.');
  }
});

check(14, 'anthropic', 'errors are the classes of the client', async () => {
  await assert.rejects(client.messages.create({ ...ask('x'), model: 'no-such' }), (error) => error instanceof Anthropic.NotFoundError && /not found/.test(error.message));
  await assert.rejects(client.messages.create(ask('x', { tools: OWN_TOOLS })), (error) => error instanceof Anthropic.BadRequestError && /does not support tools/.test(error.message));
});

check(15, 'anthropic', 'a prompt longer than the context is refused', async () => {
  await assert.rejects(client.messages.create(ask('fox '.repeat(4000))), (error) => error.status === 400 && /exceeds the available context size/.test(error.message));
});

check(16, 'anthropic', 'abort ends the generation within a token', async () => {
  const before = await metric(server.url, 'requests_cancelled_total');
  const stream = client.messages.stream(ask(LONG_QUESTION));
  stream.once('text', () => stream.abort());
  await assert.rejects(stream.done(), (error) => error instanceof Anthropic.APIUserAbortError);
  await until(async () => (await metric(server.url, 'requests_cancelled_total')) === before + 1, 'the server notices');
});

check(17, 'anthropic', 'two messages at once get what each gets alone', async () => {
  const alone = text(await client.messages.create(ask(LONG_QUESTION)));
  const [story, sum] = await Promise.all([client.messages.create(ask(LONG_QUESTION)), client.messages.create(ask(QUESTION))]);
  assert.equal(text(story), alone);
  assert.equal(text(sum), ANSWER);
});

check(21, 'anthropic', 'the order of the events', async () => {
  const types = [];
  for await (const event of await client.messages.create(ask(QUESTION, { model: THINKER, grammar: says(`${THOUGHTFUL}${CALL}`), tools: OWN_TOOLS, stream: true })))
    if (types.at(-1) !== event.type) types.push(event.type);
  const block = ['content_block_start', 'content_block_delta', 'content_block_stop'];
  assert.deepEqual(types, ['message_start', ...block, ...block, ...block, 'message_delta', 'message_stop']);
});

check(25, 'anthropic', 'cached tokens are counted', async () => {
  await client.messages.create(ask('Why does mmap thrash?'));
  const { usage } = await client.messages.create(ask('Why does mmap thrash?'));
  assert.ok(usage.cache_read_input_tokens > 0);
});

check('s', 'anthropic', 'count_tokens counts system, tools and template', async () => {
  const count = async (more) => (await client.messages.countTokens({ model: THINKER, messages: [{ role: 'user', content: QUESTION }], ...more })).input_tokens;
  const plain = await count({});
  assert.ok(plain > 8);
  assert.ok((await count({ system: 'Be brief.' })) > plain);
  assert.ok((await count({ tools: OWN_TOOLS })) > plain + 20);
  const message = await client.messages.create(ask(QUESTION, { model: THINKER }));
  assert.equal(message.usage.input_tokens + message.usage.cache_read_input_tokens, plain);
});
