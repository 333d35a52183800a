// Anthropic's own client against a gateway. Each scenario prints its name when it went well; the first that does not
// ends the run with status 1. In the environment: CLIENTS, where node_modules is; BASE_URL, TOKEN; COUNT and TURNS of
// the conversations that run side by side.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.CLIENTS + "/");
const { default: Anthropic } = require("@anthropic-ai/sdk");
const options = { baseURL: process.env.BASE_URL, apiKey: process.env.TOKEN, maxRetries: 0 };
const client = new Anthropic(options);
const base = { model: "sonnet", max_tokens: 1000 };
const user = (content) => ({ role: "user", content });
const text = (message) => message.content.filter((b) => b.type === "text").map((b) => b.text).join("");
const only = process.argv.slice(2);

const tools = [{ name: "probe", description: "is looked at", input_schema: { type: "object",
  properties: { n: { type: "integer" } }, required: ["n"] } }];
const picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4//8/AAX+Av6nNYGEAAAAAElFTkSuQmCC";

async function toolLoop(ask) {
  const messages = [user("work")], rounds = [];
  for (;;) {
    const message = await ask({ ...base, messages, tools });
    const calls = message.content.filter((b) => b.type === "tool_use");
    rounds.push(calls.map((c) => c.input.n).join("+") + " " + message.stop_reason);
    messages.push({ role: "assistant", content: message.content });
    if (calls.length === 0) return { rounds, messages };
    messages.push(user(calls.map((c) => ({ type: "tool_result", tool_use_id: c.id, content: `got ${c.input.n}` }))));
  }
}

const ROUNDS = ["1 tool_use", "2+3 tool_use", "4 tool_use", " end_turn"];

const scenarios = {
  async whole() {
    const { data, response, request_id } = await client.messages.create({ ...base, messages: [user("hello")] })
      .withResponse();
    assert.equal(text(data), "echo: hello");
    assert.match(request_id, /^req_/);
    assert.equal(response.headers.get("parley-ignored"), null);
  },
  async streamed() {
    const stream = client.messages.stream({ ...base, messages: [user("lines")] });
    const pieces = [];
    stream.on("text", (piece) => pieces.push(piece));
    const message = await stream.finalMessage();
    assert.equal(text(message), "one\ntwo\nthree");
    assert.equal(pieces.join(""), "one\ntwo\nthree");
    assert.ok(pieces.length > 1, "it came in one piece");
    assert.equal(message.stop_reason, "end_turn");
    assert.ok(message.usage.output_tokens > 0);
  },
  async "tools, whole"() {
    const { rounds, messages } = await toolLoop((body) => client.messages.create(body));
    assert.deepEqual(rounds, ROUNDS);
    messages.push(user("and now?"));
    assert.equal(text(await client.messages.create({ ...base, messages, tools })), "echo: and now?");
  },
  async "tools, streamed"() {
    const { rounds } = await toolLoop((body) => client.messages.stream(body).finalMessage());
    assert.deepEqual(rounds, ROUNDS);
  },
  async "the tool runner"() {
    const seen = [];
    const runner = client.beta.messages.toolRunner({ ...base, messages: [user("work")], tools: [{ ...tools[0],
      run: (input) => { seen.push(input.n); return `got ${input.n}`; }, parse: (input) => input }] });
    const last = await runner;
    assert.deepEqual(seen, [1, 2, 3, 4]);
    assert.equal(text(last), "all done");
  },
  async images() {
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: picture } };
    const message = await client.messages.create({ ...base, messages: [user([{ type: "text", text: "see" }, image])] });
    assert.match(text(message), /^echo: see/);
  },
  async errors() {
    const fails = async (status, kind, body, own = client) => {
      const error = await own.messages.create({ ...base, ...body }).then(() => null, (e) => e);
      assert.ok(error, `${status}: no error`);
      assert.equal(error.status, status);
      assert.ok(error instanceof kind, error.constructor.name);
      assert.match(error.requestID, /^req_/);
    };
    await fails(400, Anthropic.BadRequestError, { messages: [] });
    await fails(401, Anthropic.AuthenticationError, { messages: [user("x")] },
      new Anthropic({ ...options, apiKey: "wrong-token" }));
    await fails(429, Anthropic.RateLimitError, { messages: [user("limited")] });
    await fails(529, Anthropic.InternalServerError, { messages: [user("overloaded")] });
    await assert.rejects(client.models.retrieve("no such"), Anthropic.NotFoundError);
    const late = client.messages.stream({ ...base, messages: [user("late")] });
    await assert.rejects(late.finalMessage(), /as asked/);
  },
  async aborts() {
    const stream = client.messages.stream({ ...base, messages: [user("endless")] });
    await new Promise((resolve) => stream.on("text", resolve));
    stream.abort();
    await assert.rejects(stream.done(), Anthropic.APIUserAbortError);
    assert.equal(text(await client.messages.create({ ...base, messages: [user("after")] })), "echo: after");
  },
  async retries() {
    const patient = new Anthropic({ ...options, maxRetries: 2 });
    assert.equal(text(await patient.messages.create({ ...base, messages: [user("once")] })), "echo: once");
  },
  async "models and tokens"() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes("sonnet"));
    const counted = await client.messages.countTokens({ model: "sonnet", messages: [user("how many?")] });
    assert.ok(counted.input_tokens > 0);
  },
  async "many at a time"() {
    const count = Number(process.env.COUNT), turns = Number(process.env.TURNS);
    const patient = new Anthropic({ ...options, maxRetries: 10, timeout: 600000 });
    const talk = async (number) => {
      const messages = [];
      for (let turn = 1; turn <= turns; turn++) {
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
        messages.push(user(`conversation ${number}, turn ${turn}`));
        const message = turn % 2 ? await patient.messages.create({ ...base, messages })
          : await patient.messages.stream({ ...base, messages }).finalMessage();
        assert.equal(text(message), `echo: conversation ${number}, turn ${turn}`);
        messages.push({ role: "assistant", content: message.content });
      }
    };
    await Promise.all(Array.from({ length: count }, (_, i) => talk(i + 1)));
  },
};

for (const [name, run] of Object.entries(scenarios)) {
  if (only.length && !only.includes(name)) continue;
  try {
    await run();
    console.log("ok " + name);
  } catch (error) {
    console.log("failed " + name + ": " + (error.stack ?? error));
    process.exit(1);
  }
}
