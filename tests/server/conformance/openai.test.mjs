// The `openai` package: chat completions, completions, embeddings, responses, models.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import OpenAI from 'openai';
import { ANSWER, ARGUMENTS, CALL, DEMO, LONG_QUESTION, QUESTION, SCHEMA, THINKER, THOUGHTFUL, TOOLS, TWO_CALLS, assertFits,
  check, metric, post, says, startServer, until } from './harness.mjs';

let server, client;
before(async () => {
  server = await startServer();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'anything', maxRetries: 0 });
});
after(async () => assert.equal((await server.stop()).code, 0));

const ask = (content, more = {}) => ({ model: DEMO, messages: [{ role: 'user', content }], ...more });
const FLAT_TOOLS = TOOLS.map(({ function: tool }) => ({ type: 'function', ...tool, strict: false }));
async function gather(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}
const deltas = (chunks, key) => chunks.map((chunk) => chunk.choices[0]?.delta[key] ?? '').join('');

check(3, 'openai', 'models.list and retrieve', async () => {
  const models = await gather(await client.models.list());
  assert.deepEqual(models.map((model) => model.id), ['demo-moe:latest', 'thinker:latest']);
  assert.equal((await client.models.retrieve('demo-moe:latest')).context_length, 2048);
  await assert.rejects(client.models.retrieve('no/such:model'), { status: 404 });
});

check(7, 'openai', 'non-stream equals the concatenated stream (chat, completions, responses)', async () => {
  const sampling = { temperature: 0, seed: 7 };
  const whole = await client.chat.completions.create(ask(LONG_QUESTION, sampling));
  const chunks = await gather(await client.chat.completions.create(ask(LONG_QUESTION, { ...sampling, stream: true })));
  assert.ok(whole.choices[0].message.content.startsWith('Once upon a time'));
  assert.equal(deltas(chunks, 'content'), whole.choices[0].message.content);

  const prompt = { model: DEMO, prompt: 'Once upon a time', max_tokens: 20, ...sampling };
  const completed = await client.completions.create(prompt);
  const pieces = await gather(await client.completions.create({ ...prompt, stream: true }));
  assert.equal(pieces.map((piece) => piece.choices[0]?.text ?? '').join(''), completed.choices[0].text);
  assert.equal(completed.choices[0].finish_reason, 'length');

  const response = await client.responses.create({ model: DEMO, input: LONG_QUESTION, temperature: 0 });
  const events = await gather(await client.responses.create({ model: DEMO, input: LONG_QUESTION, temperature: 0, stream: true }));
  assert.equal(response.output_text, whole.choices[0].message.content);
  assert.equal(events.filter((event) => event.type === 'response.output_text.delta').map((event) => event.delta).join(''), response.output_text);
});

check(8, 'openai', 'limits and stop strings', async () => {
  const short = await client.chat.completions.create(ask(QUESTION, { max_completion_tokens: 2 }));
  assert.equal(short.choices[0].finish_reason, 'length');
  assert.equal(short.usage.completion_tokens, 2);
  const stopped = await client.chat.completions.create(ask(QUESTION, { stop: ' is', user: 'x', store: false, logit_bias: null }));
  assert.equal(stopped.choices[0].message.content, '7 plus 8');
  assert.equal(stopped.choices[0].finish_reason, 'stop');
});

check(10, 'openai', 'tool calls are strings, stream and non-stream', async () => {
  const request = ask('Weather?', { model: THINKER, tools: TOOLS, grammar: says(TWO_CALLS) });
  const { choices: [choice], usage } = await client.chat.completions.create(request);
  assert.equal(choice.finish_reason, 'tool_calls');
  assert.deepEqual(choice.message.tool_calls.map((call) => [call.type, call.function.name]), [['function', 'get_weather'], ['function', 'get_time']]);
  assert.deepEqual(JSON.parse(choice.message.tool_calls[0].function.arguments), ARGUMENTS);
  assert.ok(usage.total_tokens > 0);
  const final = await client.chat.completions.stream(request).finalChatCompletion();
  assert.deepEqual(final.choices[0].message.tool_calls.map((call) => call.function.arguments), choice.message.tool_calls.map((call) => call.function.arguments));
  assert.equal(final.choices[0].finish_reason, 'tool_calls');
});

check(10, 'openai', 'tool_choice required and named are kept by a grammar', async () => {
  const required = await client.chat.completions.create(ask('Weather?', { model: THINKER, tools: TOOLS, tool_choice: 'required', max_tokens: 400 }));
  assert.ok(['get_weather', 'get_time'].includes(required.choices[0].message.tool_calls[0].function.name));
  const named = await client.chat.completions.create(ask('Weather?', { model: THINKER, tools: TOOLS, max_tokens: 400, parallel_tool_calls: false,
    tool_choice: { type: 'function', function: { name: 'get_weather' } } }));
  assert.equal(named.choices[0].message.tool_calls.length, 1);
  const parsed = JSON.parse(named.choices[0].message.tool_calls[0].function.arguments);
  assert.ok(['Oslo', 'Rome'].includes(parsed.city) && Number.isInteger(parsed.days));
  const none = await client.chat.completions.create(ask(QUESTION, { model: THINKER, tools: TOOLS, tool_choice: 'none' }));
  assert.equal(none.choices[0].message.content, ANSWER);
});

check(10, 'openai', 'responses: function calls and their results', async () => {
  const response = await client.responses.create({ model: THINKER, input: 'Weather?', tools: FLAT_TOOLS, grammar: says(CALL) });
  const call = response.output.find((item) => item.type === 'function_call');
  assert.deepEqual(JSON.parse(call.arguments), ARGUMENTS);
  const next = await client.responses.create({ model: THINKER, tools: FLAT_TOOLS, grammar: says('Sunny.'),
    input: [{ role: 'user', content: 'Weather?' }, ...response.output, { type: 'function_call_output', call_id: call.call_id, output: 'sun' }] });
  assert.equal(next.output_text, 'Sunny.');
});

check(11, 'openai', 'response_format json_object and json_schema (chat, responses)', async () => {
  const schema = { type: 'json_schema', json_schema: { name: 'sum', schema: SCHEMA, strict: true } };
  const { choices: [choice] } = await client.chat.completions.parse(ask(QUESTION, { response_format: schema, max_tokens: 200 }));
  assertFits(JSON.parse(choice.message.content));
  const json = await client.chat.completions.create(ask(QUESTION, { response_format: { type: 'json_object' }, max_tokens: 100 }));
  assert.equal(json.choices[0].message.content.trimStart()[0], '{');
  const response = await client.responses.create({ model: DEMO, input: QUESTION, max_output_tokens: 200, text: { format: { type: 'json_schema', name: 'sum', schema: SCHEMA } } });
  assertFits(JSON.parse(response.output_text));
});

check(12, 'openai', 'reasoning stands beside the content', async () => {
  const request = ask(QUESTION, { model: THINKER, grammar: says(THOUGHTFUL) });
  const { choices: [{ message }] } = await client.chat.completions.create(request);
  assert.equal(message.content, 'Fifteen.');
  assert.equal(message.reasoning.trim(), 'Seven and eight.');
  assert.equal(message.reasoning_content, message.reasoning);
  const chunks = await gather(await client.chat.completions.create({ ...request, stream: true }));
  assert.equal(deltas(chunks, 'reasoning_content').trim(), 'Seven and eight.');
  assert.equal(deltas(chunks, 'content'), 'Fifteen.');
  const none = await client.chat.completions.create(ask(QUESTION, { model: THINKER, reasoning_effort: 'none' }));
  assert.equal(none.choices[0].message.reasoning, undefined);
  const response = await client.responses.create({ model: THINKER, input: QUESTION, grammar: says(THOUGHTFUL) });
  assert.deepEqual(response.output.map((item) => item.type), ['reasoning', 'message']);
});

check(14, 'openai', 'errors are the classes of the client', async () => {
  await assert.rejects(client.chat.completions.create({ ...ask('x'), model: 'no-such' }), (error) => error instanceof OpenAI.NotFoundError && /model 'no-such' not found/.test(error.message));
  await assert.rejects(client.chat.completions.create(ask('x', { tools: TOOLS })), (error) => error instanceof OpenAI.BadRequestError && /does not support tools/.test(error.message));
  await assert.rejects(client.embeddings.create({ model: DEMO, input: [] }), { status: 400 });
  await assert.rejects(client.responses.create({ model: DEMO, input: 'x', previous_response_id: 'resp_1' }), { status: 400 });
});

check(15, 'openai', 'a prompt longer than the context is refused with its size', async () => {
  await assert.rejects(client.chat.completions.create(ask('fox '.repeat(4000))), (error) => {
    assert.equal(error.status, 400);
    assert.match(error.message, /request \(\d+ tokens\) exceeds the available context size \(2048 tokens\)/);
    assert.equal(error.error.type, 'exceed_context_size_error');
    assert.equal(error.error.n_ctx, 2048);
    return true;
  });
});

check(16, 'openai', 'abort ends the generation within a token', async () => {
  const before = await metric(server.url, 'requests_cancelled_total');
  const stream = await client.chat.completions.create(ask(LONG_QUESTION, { stream: true }));
  let received = 0;
  for await (const _ of stream) if (++received === 4) stream.controller.abort();
  await until(async () => (await metric(server.url, 'requests_cancelled_total')) === before + 1, 'the server notices');
  const whole = new AbortController();
  const pending = client.chat.completions.create(ask(LONG_QUESTION), { signal: whole.signal });
  await until(async () => (await metric(server.url, 'model_busy')) === 1, 'the request runs');
  whole.abort();
  await assert.rejects(pending);
  await until(async () => (await metric(server.url, 'requests_cancelled_total')) === before + 2, 'the server notices');
});

check(17, 'openai', 'two chats at once get what each gets alone', async () => {
  const text = async (content) => (await client.chat.completions.create(ask(content))).choices[0].message.content;
  const alone = await text(LONG_QUESTION);
  const [story, sum] = await Promise.all([text(LONG_QUESTION), text(QUESTION)]);
  assert.equal(story, alone);
  assert.equal(sum, ANSWER);
});

check(18, 'openai', 'embeddings: order and dimensions', async () => {
  const { data, usage } = await client.embeddings.create({ model: DEMO, input: ['a fox', 'the sea'], encoding_format: 'float' });
  assert.deepEqual(data.map((entry) => entry.index), [0, 1]);
  assert.ok(Math.abs(Math.hypot(...data[0].embedding) - 1) < 1e-4);
  assert.ok(usage.prompt_tokens > 0);
  assert.equal((await client.embeddings.create({ model: DEMO, input: 'a fox', dimensions: 32 })).data[0].embedding.length, 32);
});

check(19, 'openai', 'the order of the events, usage with tools, [DONE]', async () => {
  const body = ask('Weather?', { model: THINKER, tools: TOOLS, grammar: says(CALL), stream: true, stream_options: { include_usage: true } });
  const reply = await post(`${server.url}/v1/chat/completions`, body);
  assert.equal(reply.headers.get('content-type'), 'text/event-stream');
  const lines = (await reply.text()).split('\n\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6));
  assert.equal(lines.at(-1), '[DONE]');
  const chunks = lines.slice(0, -1).map((line) => JSON.parse(line));
  assert.deepEqual(chunks[0].choices[0].delta, { role: 'assistant', content: '' });
  assert.equal(chunks.at(-2).choices[0].finish_reason, 'tool_calls');
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.completion_tokens > 0);
  assert.equal(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.created}`)).size, 1);
});

check(20, 'openai', 'base64 embeddings, the default, equal the floats', async () => {
  const plain = await client.embeddings.create({ model: DEMO, input: 'a fox', encoding_format: 'float' });
  const packed = await client.embeddings.create({ model: DEMO, input: 'a fox' });
  assert.equal(packed.data[0].embedding.length, 256);
  packed.data[0].embedding.forEach((value, i) => assert.ok(Math.abs(value - plain.data[0].embedding[i]) < 1e-6));
});

check(21, 'openai', 'responses: the order of the events', async () => {
  const events = await gather(await client.responses.create({ model: THINKER, input: QUESTION, grammar: says(THOUGHTFUL), stream: true }));
  const types = events.map((event) => event.type).filter((type, i, all) => type !== all[i - 1]);
  assert.deepEqual(types, ['response.created', 'response.in_progress', 'response.output_item.added', 'response.reasoning_summary_part.added',
    'response.reasoning_summary_text.delta', 'response.reasoning_summary_text.done', 'response.reasoning_summary_part.done',
    'response.output_item.done', 'response.output_item.added', 'response.content_part.added', 'response.output_text.delta',
    'response.output_text.done', 'response.content_part.done', 'response.output_item.done', 'response.completed']);
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, i) => i));
  assert.ok(events.at(-1).response.usage.output_tokens > 0);
});

check(19, 'openai', 'usage ends a stream of completions, too', async () => {
  const chunks = await gather(await client.completions.create({ model: DEMO, prompt: 'Once', max_tokens: 3, stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 3);
});

check(25, 'openai', 'cached tokens are counted (responses)', async () => {
  const request = { model: DEMO, input: 'Why does a fox run?', max_output_tokens: 5 };
  await client.responses.create(request);
  assert.ok((await client.responses.create(request)).usage.input_tokens_details.cached_tokens > 0);
});

check(25, 'openai', 'cached tokens are counted', async () => {
  await client.chat.completions.create(ask('Why does mmap thrash?'));
  const { usage } = await client.chat.completions.create(ask('Why does mmap thrash?'));
  assert.ok(usage.prompt_tokens_details.cached_tokens > 0);
});

check('s', 'openai', 'logprobs (responses, completions)', async () => {
  const response = await client.responses.create({ model: DEMO, input: QUESTION, include: ['message.output_text.logprobs'], top_logprobs: 2 });
  const { logprobs } = response.output[0].content[0];
  assert.equal(logprobs.map((entry) => entry.token).join('').trim(), ANSWER);
  assert.ok(logprobs.every((entry) => entry.top_logprobs.length === 2));
  const { choices: [choice] } = await client.completions.create({ model: DEMO, prompt: 'Once upon a time', max_tokens: 4, logprobs: 2 });
  assert.equal(choice.logprobs.tokens.join(''), choice.text);
  assert.ok(choice.logprobs.top_logprobs.every((top) => Object.keys(top).length > 0));
});

check('s', 'openai', 'logprobs', async () => {
  const { choices: [{ logprobs }] } = await client.chat.completions.create(ask(QUESTION, { logprobs: true, top_logprobs: 2 }));
  assert.equal(logprobs.content.map((entry) => entry.token).join('').trim(), ANSWER);
  assert.ok(logprobs.content.every((entry) => entry.top_logprobs.length === 2));
});
