-- Clients that ask again, that go away, that are too many.
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local replies = require "parley.gateway.reply"
local task = require "parley.base.task"

local function ask(text, stream)
  return { model = "sonnet", max_tokens = 100, stream = stream, messages = { { role = "user", content = text } } }
end

local SLOW = { answers = { { on = "slow", blocks = { { type = "text", text = "one\ntwo\nthree" } }, line_ms = 400 } } }
local HANG = { answers = { { on = "hang", hang = true } } }

describe("a request that is made again", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  serves("while the first runs gets the same answer from its start, and nothing is typed twice",
    { kit = { script = SLOW } }, function(gateway)
      local reader <close> = gateway:open("/v1/messages", ask("slow", true))
      reader:expect "one\\n"
      local answer = gateway:request("/v1/messages", ask("slow", true))
      assert.equal("one\ntwo\nthree", gateways.text_of((gateways.assemble(answer.body))))
      reader:expect "message_stop"
      assert.same({ "slow" }, gateway.kit:taken())
    end)

  serves("after its connection broke gets the turn that went on", { kit = { script = SLOW }, grace_ms = 5000 },
    function(gateway)
      local reader = gateway:open("/v1/messages", ask("slow", true))
      reader:expect "one\\n"
      reader:close()
      helper.eventually(function() return gateway.server.desk.running == 0 end) -- it has ended meanwhile
      local answer = gateway:request("/v1/messages", ask("slow", true))
      assert.equal("one\ntwo\nthree", gateways.text_of((gateways.assemble(answer.body))))
      assert.same({ "slow" }, gateway.kit:taken())
      gateway:request("/v1/messages", ask("slow", true)) -- that was whole: this one is another
      assert.same({ "slow", "slow" }, gateway.kit:taken())
    end)

  serves("and says so gets what was sent whole, for it may not have arrived", function(gateway)
    for count = 0, 2 do
      local answer = gateway:request("/v1/messages", ask "hello", { ["x-stainless-retry-count"] = tostring(count) })
      assert.equal("echo: hello", gateways.text_of(answer.json))
    end
    assert.same({ "hello" }, gateway.kit:taken())
    gateway:request("/v1/messages", ask "hello", { ["x-stainless-retry-count"] = "0" })
    gateway:request("/v1/messages", ask "hello")
    assert.same({ "hello", "hello", "hello" }, gateway.kit:taken())
  end)

  serves("after a failure is made anew", { kit = { script = { answers = { { times = 1, api_error = { status = 529,
    text = "as asked", retries = 0 } } } } } }, function(gateway)
    assert.equal(529, gateway:request("/v1/messages", ask "hello").status)
    assert.equal(200, gateway:request("/v1/messages", ask "hello", { ["x-stainless-retry-count"] = "1" }).status)
  end)

  serves("by another is another", { kit = { script = SLOW } }, function(gateway)
    local reader <close> = gateway:open("/v1/messages", ask("slow", true))
    reader:expect "one\\n"
    gateway:request("/v1/messages", ask("slow", true), { ["x-api-key"] = "your-token-0123456789" })
    assert.same({ "slow", "slow" }, gateway.kit:taken())
    reader:expect "message_stop"
  end)

  serves("that says that it is a first try is another, while somebody reads the other", { kit = { script = SLOW } },
    function(gateway)
      local reader <close> = gateway:open("/v1/messages", ask("slow", true))
      reader:expect "one\\n"
      gateway:request("/v1/messages", ask("slow", true), { ["x-stainless-retry-count"] = "0" })
      assert.same({ "slow", "slow" }, gateway.kit:taken())
      reader:expect "message_stop"
    end)
end)

describe("a client that goes away", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  serves("ends its turn after the grace, and its session", { kit = { script = HANG }, grace_ms = 200 },
    function(gateway)
      local reader = gateway:open("/v1/messages", ask "hang")
      helper.eventually(function() return #gateway.kit:taken() == 1 end)
      reader:close()
      helper.eventually(function() return gateway.server.desk.running == 0 end)
      helper.eventually(function() return #gateway.kit:processes() == 0 end)
      assert.matches('parley_turns_total{outcome="disconnect"} 1', gateway:request("/metrics").body, 1, true)
      -- What was asked is asked anew.
      gateway.kit:use {}
      assert.equal("echo: hang", gateways.text_of(gateway:request("/v1/messages", ask "hang").json))
    end)

  serves("and comes back in time has it go on", { kit = { script = SLOW }, grace_ms = 60000 }, function(gateway)
    local reader = gateway:open("/v1/messages", ask("slow", true))
    reader:expect "one\\n"
    reader:close()
    assert.equal("one\ntwo\nthree", gateways.text_of(gateways.assemble(
      gateway:request("/v1/messages", ask("slow", true), { ["x-stainless-retry-count"] = "1" }).body)))
    assert.same({ "slow" }, gateway.kit:taken())
  end)

  serves("while it waits for a session frees its place", { kit = { script = HANG }, max_sessions = 1, grace_ms = 100 },
    function(gateway)
      local first = gateway:open("/v1/messages", ask "hang")
      helper.eventually(function() return #gateway.kit:taken() == 1 end)
      local second = gateway:open("/v1/messages", ask "hang 2")
      helper.eventually(function() return gateway.server.desk:queued() == 1 end)
      second:close()
      helper.eventually(function() return gateway.server.desk:queued() == 0 end)
      first:close()
      helper.eventually(function() return gateway.server.desk.running == 0 end)
    end)
end)

describe("the queue", function()
  it("has an end: who comes then is told when to come again", helper.task(function()
    local gateway <close> = gateways.start { kit = { script = HANG }, max_sessions = 1, queue = 1, grace_ms = 100 }
    local readers = {}
    for i = 1, 2 do readers[i] = gateway:open("/v1/messages", ask("hang " .. i)) end
    helper.eventually(function() return gateway.server.desk.running == 2 end)
    local answer = gateway:request("/v1/messages", ask "hang 3")
    assert.same({ 429, "rate_limit_error" }, { answer.status, answer.json.error.type })
    assert.is_true(math.tointeger(answer.headers["retry-after"]) >= 1)
    assert.matches("parley_queue 1", gateway:request("/metrics").body, 1, true)
    for _, reader in ipairs(readers) do reader:close() end
    helper.eventually(function() return gateway.server.desk.running == 0 end)
  end))
end)

describe("a server that drains", function()
  it("finishes what runs, and takes in nothing new", helper.task(function()
    local gateway <close> = gateways.start { kit = { script = SLOW } }
    local reader <close> = gateway:open("/v1/messages", ask("slow", true))
    reader:expect "one\\n"
    local draining = task.spawn(gateway.server.drain, gateway.server, 30000)
    helper.tick()
    local answer = gateway:ask "hello"
    assert.same({ 529, "overloaded_error", "5" }, { answer.status, answer.json.error.type,
      answer.headers["retry-after"] })
    assert.equal(503, gateway:request("/healthz").status)
    assert.is_true(draining:await())
    reader:expect "message_stop"
    assert.is_nil(reader.text:find "event: error")
  end))

  it("waits for who still reads", helper.task(function()
    local gateway <close> = gateways.start()
    local desk, reply = gateway.server.desk, replies.new "sonnet"
    reply:finish("end_turn", {}, {})
    local visit = { reply = reply, digest = "x" }
    desk:enter(visit)
    local draining = task.spawn(gateway.server.drain, gateway.server, 60000)
    helper.tick()
    assert.is_false(draining:is_done())
    desk:leave(visit, true)
    assert.is_true(draining:await())
  end))

  it("waits no longer than it is told", helper.task(function()
    local gateway <close> = gateways.start { kit = { script = HANG } }
    local reader <close> = gateway:open("/v1/messages", ask("hang", true))
    helper.eventually(function() return #gateway.kit:taken() == 1 end)
    assert.is_falsy(gateway.server:drain(100))
    gateway.server:close()
    reader.news:wait_until(function() return reader.has_ended end)
  end))
end)
