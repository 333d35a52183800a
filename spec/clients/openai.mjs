// OpenAI's own client against a gateway; see anthropic.mjs.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.CLIENTS + "/");
const { default: OpenAI } = require("openai");
const options = { baseURL: process.env.BASE_URL + "/v1", apiKey: process.env.TOKEN, maxRetries: 0 };
const client = new OpenAI(options);
const base = { model: "sonnet" };
const user = (content) => ({ role: "user", content });
const text = (completion) => completion.choices[0].message.content;
const only = process.argv.slice(2);

const tools = [{ type: "function", function: { name: "probe", description: "is looked at", parameters: {
  type: "object", properties: { n: { type: "integer" } }, required: ["n"] } } }];
const picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4//8/AAX+Av6nNYGEAAAAAElFTkSuQmCC";

async function toolLoop(ask) {
  const messages = [user("work")], rounds = [];
  for (;;) {
    const choice = (await ask({ ...base, messages, tools })).choices[0];
    const calls = choice.message.tool_calls ?? [];
    rounds.push(calls.map((c) => JSON.parse(c.function.arguments).n).join("+") + " " + choice.finish_reason);
    messages.push(choice.message);
    if (calls.length === 0) return { rounds, messages };
    for (const call of calls) messages.push({ role: "tool", tool_call_id: call.id, content: "fine" });
  }
}

const ROUNDS = ["1 tool_calls", "2+3 tool_calls", "4 tool_calls", " stop"];

const scenarios = {
  async whole() {
    const completion = await client.chat.completions.create({ ...base, messages: [
      { role: "system", content: "Be brief." }, user("hello")] });
    assert.equal(text(completion), "echo: hello");
    assert.match(completion._request_id, /^req_/);
    assert.ok(completion.usage.total_tokens > 0);
  },
  async streamed() {
    const stream = await client.chat.completions.create({ ...base, messages: [user("lines")], stream: true,
      stream_options: { include_usage: true } });
    let all = "", pieces = 0, usage, reason;
    for await (const chunk of stream) {
      const choice = chunk.choices[0];
      if (choice?.delta.content) pieces++;
      all += choice?.delta.content ?? "";
      reason = choice?.finish_reason ?? reason;
      usage = chunk.usage ?? usage;
    }
    assert.equal(all, "one\ntwo\nthree");
    assert.ok(pieces > 1, "it came in one piece");
    assert.equal(reason, "stop");
    assert.ok(usage.completion_tokens > 0);
  },
  async "tools, whole"() {
    const { rounds, messages } = await toolLoop((body) => client.chat.completions.create(body));
    assert.deepEqual(rounds, ROUNDS);
    messages.push(user("and now?"));
    assert.equal(text(await client.chat.completions.create({ ...base, messages, tools })), "echo: and now?");
  },
  async "tools, streamed"() {
    const { rounds } = await toolLoop((body) => client.chat.completions.stream(body).finalChatCompletion());
    assert.deepEqual(rounds, ROUNDS);
  },
  async "the tool runner"() {
    const seen = [];
    const runner = client.chat.completions.runTools({ ...base, messages: [user("work")], tools: [{ type: "function",
      function: { ...tools[0].function, parse: JSON.parse,
        function: (input) => { seen.push(input.n); return "fine"; } } }] });
    assert.equal(await runner.finalContent(), "all done");
    assert.deepEqual(seen.sort(), [1, 2, 3, 4]);
  },
  async images() {
    const completion = await client.chat.completions.create({ ...base, messages: [user([{ type: "text", text: "see" },
      { type: "image_url", image_url: { url: "data:image/png;base64," + picture } }])] });
    assert.match(text(completion), /^echo: see/);
  },
  async errors() {
    const fails = async (status, kind, body, own = client) => {
      const error = await own.chat.completions.create({ ...base, ...body }).then(() => null, (e) => e);
      assert.ok(error, `${status}: no error`);
      assert.equal(error.status, status);
      assert.ok(error instanceof kind, error.constructor.name);
      assert.match(error.requestID, /^req_/);
    };
    await fails(400, OpenAI.BadRequestError, { messages: [] });
    await fails(401, OpenAI.AuthenticationError, { messages: [user("x")] },
      new OpenAI({ ...options, apiKey: "wrong-token" }));
    await fails(429, OpenAI.RateLimitError, { messages: [user("limited")] });
    await fails(529, OpenAI.InternalServerError, { messages: [user("overloaded")] });
    await assert.rejects(client.models.retrieve("no such"), OpenAI.NotFoundError);
    const late = await client.chat.completions.create({ ...base, messages: [user("late")], stream: true });
    await assert.rejects(async () => { for await (const _ of late); }, /as asked/);
  },
  async aborts() {
    const stream = await client.chat.completions.create({ ...base, messages: [user("endless")], stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    assert.equal(text(await client.chat.completions.create({ ...base, messages: [user("after")] })), "echo: after");
  },
  async retries() {
    const patient = new OpenAI({ ...options, maxRetries: 2 });
    assert.equal(text(await patient.chat.completions.create({ ...base, messages: [user("once")] })), "echo: once");
  },
  async "many at a time"() {
    const count = Number(process.env.COUNT), turns = Number(process.env.TURNS);
    const patient = new OpenAI({ ...options, maxRetries: 10, timeout: 600000 });
    const talk = async (number) => {
      const messages = [];
      for (let turn = 1; turn <= turns; turn++) {
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
        messages.push(user(`talk ${number}, turn ${turn}`));
        const body = { ...base, messages };
        const completion = turn % 2 ? await patient.chat.completions.create(body)
          : await patient.chat.completions.stream(body).finalChatCompletion();
        assert.equal(text(completion), `echo: talk ${number}, turn ${turn}`);
        messages.push(completion.choices[0].message);
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
