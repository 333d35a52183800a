local helper = require "spec.helper"
local history = require "parley.base.history"
local pool = require "parley.backend.pool"
local taken = require "parley.backend.taken"
local task = require "parley.base.task"

local ONE, OTHER = ("a1"):rep(32), "f00d/"

local function message(role, text) return { role = role, content = { { type = "text", text = text } } } end

describe("the keys of a session that was given back", function()
  local messages = { message("user", "by hand"), message("assistant", "done") }
  local hash = history.hash_history(messages)

  it("are the fingerprints of what its conversation is now, within the same scope", function()
    assert.same({ OTHER .. "ab12/" .. hash }, taken.keys({ OTHER .. "ab12/" .. ONE }, messages))
    assert.same({ hash }, taken.keys({ ONE }, messages))
  end)

  it("are one for each form in which clients keep an answer", function()
    local last = { role = "assistant", content = { { type = "text", text = "a" }, { type = "text", text = "b" } } }
    local keys = taken.keys({ ONE, ONE }, { messages[1], last })
    assert.equal(3, #keys)
    assert.equal(history.hash_history { messages[1], message("assistant", "a\nb") }, keys[3])
  end)

  it("stay where a policy has made them", function()
    assert.same({ OTHER .. "user-17" }, taken.keys({ OTHER .. "user-17" }, messages))
  end)

  it("are those of an empty conversation where there is none", function()
    assert.same({ history.hash_history {} }, taken.keys({ ONE }, {}))
  end)
end)

describe("a pool whose session a person wants", function()
  local made = 0

  local function session()
    made = made + 1
    local self = { session_id = "session " .. made, process = { is_alive = function() return true end } }
    function self.close() end
    function self.kill() end
    function self.state() return "ready" end
    return self
  end

  local function with_one(given)
    local live, one, lease = pool.new(given or { limit = 2 }), session(), {}
    assert.is_nil(live:acquire(nil, lease))
    live:add(one, lease)
    return live, one
  end

  it("gives it to nobody else, and says under which keys it was waiting", helper.task(function()
    local live, one = with_one { limit = 1 }
    live:release(one, { "key" })
    assert.is_true(live:take_over(one, {}))
    assert.is_false(live:take_over(one, {}))
    local listed = live:list()[1]
    assert.same({ true, true, { "key" } }, { listed.in_use, listed.taken, listed.keys })
    local log = {}
    local waiting = task.spawn(function()
      table.insert(log, live:acquire "key" == one and "got it")
    end)
    helper.tick()
    assert.same({}, log)
    live:release(one, { "key" })
    waiting:await()
    assert.same({ "got it" }, log)
  end))

  it("waits for the end of the turn that runs, before anybody else who waits", helper.task(function()
    local live, one = with_one { limit = 1 }
    local log = {}
    local other = task.spawn(function()
      live:acquire "key"
      table.insert(log, "another")
    end)
    helper.tick()
    local person = task.spawn(function()
      assert.is_true(live:take_over(one, {}))
      table.insert(log, "person")
    end)
    helper.tick()
    live:release(one, { "key" })
    person:await()
    helper.tick()
    assert.same({ "person" }, log)
    live:release(one, { "key" })
    other:await()
    assert.same({ "person", "another" }, log)
  end))

  it("tells one who waits that it has ended", helper.task(function()
    local live, one = with_one()
    local person = task.spawn(live.take_over, live, one, {})
    helper.tick()
    live:discard(one)
    assert.is_false(person:await())
    assert.is_false(live:take_over(one, {}))
  end))

  it("forgets one who does not wait any more", helper.task(function()
    local live, one = with_one()
    local person = task.spawn(live.take_over, live, one, {})
    helper.tick()
    person:cancel "never mind"
    pcall(person.await, person)
    live:release(one, { "key" })
    assert.equal(one, live:acquire "key")
  end))

  it("does not end it for being idle", helper.task(function()
    local live, one = with_one { limit = 1, idle_timeout_ms = 20 }
    local killed = false
    function one.kill() killed = true end
    live:release(one, { "key" })
    assert.is_true(live:take_over(one, {}))
    pcall(task.timeout, 100, helper.until_cancelled)
    assert.is_false(killed)
    live:release(one, {})
    helper.eventually(function() return killed end)
  end))
end)
