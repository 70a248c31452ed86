// @langchain/ollama and @langchain/openai.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { ChatOllama, Ollama, OllamaEmbeddings } from '@langchain/ollama';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { z } from 'zod';
import { ANSWER, ARGUMENTS, CALL, DEMO, LONG_QUESTION, QUESTION, THINKER, THOUGHTFUL, TOOLS, check, says, startServer } from './harness.mjs';

let server;
before(async () => (server = await startServer()));
after(async () => assert.equal((await server.stop()).code, 0));

// Fields of the body that LangChain does not know.
const withFields = (fields) => async (url, init) =>
  fetch(url, init?.method === 'POST' ? { ...init, body: JSON.stringify({ ...JSON.parse(init.body), ...fields }) } : init);
const native = (more = {}, fields) => new ChatOllama({ model: DEMO, baseUrl: server.url, maxRetries: 0, ...more, ...(fields ? { fetch: withFields(fields) } : {}) });
const openai = (more = {}, modelKwargs = {}) => new ChatOpenAI({ model: DEMO, apiKey: 'anything', maxRetries: 0, modelKwargs, configuration: { baseURL: `${server.url}/v1` }, ...more });
const sum = z.object({ sum: z.number().int(), ok: z.boolean() });

async function streamed(model, question) {
  let text = '';
  for await (const chunk of await model.stream(question)) text += chunk.content;
  return text;
}

check(6, '@langchain/ollama', 'metrics come once', async () => {
  const message = await native().invoke(QUESTION);
  assert.equal(message.content, ANSWER);
  assert.equal(message.usage_metadata.output_tokens, message.response_metadata.eval_count);
});

for (const [name, make] of [['@langchain/ollama', native], ['@langchain/openai', openai]]) {
  check(7, name, 'non-stream equals the concatenated stream', async () => {
    const model = make({ temperature: 0 });
    const whole = (await model.invoke(LONG_QUESTION)).content;
    assert.ok(whole.startsWith('Once upon a time'));
    assert.equal(await streamed(model, LONG_QUESTION), whole);
  });
  check(11, name, 'withStructuredOutput by a schema', async () => {
    const method = name === '@langchain/ollama' ? 'jsonSchema' : 'jsonSchema';
    const value = await make(name === '@langchain/ollama' ? { numPredict: 200 } : { maxTokens: 200 }).withStructuredOutput(sum, { method }).invoke(QUESTION);
    assert.ok(Number.isInteger(value.sum));
    assert.equal(typeof value.ok, 'boolean');
  });
  check(14, name, 'a missing model', async () => {
    await assert.rejects(make({ model: 'no-such' }).invoke('x'), /not found/);
  });
  check(17, name, 'two chats at once get what each gets alone', async () => {
    const model = make();
    const alone = (await model.invoke(LONG_QUESTION)).content;
    const [story, answer] = await Promise.all([model.invoke(LONG_QUESTION), model.invoke(QUESTION)]);
    assert.equal(story.content, alone);
    assert.equal(answer.content, ANSWER);
  });
}

check(10, '@langchain/ollama', 'bindTools', async () => {
  const model = native({ model: THINKER }, { grammar: says(CALL) }).bindTools(TOOLS);
  const message = await model.invoke('Weather?');
  assert.deepEqual(message.tool_calls.map((call) => [call.name, call.args]), [['get_weather', ARGUMENTS]]);
});

check(10, '@langchain/openai', 'bindTools', async () => {
  const model = openai({ model: THINKER }, { grammar: says(CALL) }).bindTools(TOOLS);
  const message = await model.invoke('Weather?');
  assert.deepEqual(message.tool_calls.map((call) => [call.name, call.args]), [['get_weather', ARGUMENTS]]);
  const forced = await openai({ model: THINKER, maxTokens: 300 }).bindTools(TOOLS, { tool_choice: 'get_weather' }).invoke('Weather?');
  assert.equal(forced.tool_calls[0].name, 'get_weather');
});

check(12, '@langchain/ollama', 'thinking is kept out of the content', async () => {
  const message = await native({ model: THINKER, think: true }, { grammar: says(THOUGHTFUL) }).invoke(QUESTION);
  assert.equal(message.content, 'Fifteen.');
  assert.equal(message.additional_kwargs.reasoning_content.trim(), 'Seven and eight.');
});

check(13, '@langchain/ollama', 'checkOrPullModel finds the model', async () => {
  assert.equal((await native({ checkOrPullModel: true }).invoke(QUESTION)).content, ANSWER);
});

check(18, '@langchain/ollama', 'embeddings', async () => {
  const embeddings = new OllamaEmbeddings({ model: DEMO, baseUrl: server.url, maxRetries: 0 });
  const [fox, sea] = await embeddings.embedDocuments(['a fox', 'the sea']);
  assert.equal(fox.length, 256);
  assert.ok(Math.abs(Math.hypot(...sea) - 1) < 1e-4);
});

check(20, '@langchain/openai', 'embeddings, base64 on the wire', async () => {
  const embeddings = new OpenAIEmbeddings({ model: DEMO, apiKey: 'anything', maxRetries: 0, configuration: { baseURL: `${server.url}/v1` } });
  const vector = await embeddings.embedQuery('a fox');
  assert.equal(vector.length, 256);
  assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-4);
});

check('s', '@langchain/ollama', 'the plain model (generate)', async () => {
  assert.equal(await new Ollama({ model: DEMO, baseUrl: server.url, maxRetries: 0 }).invoke(QUESTION), ANSWER);
});
