-- Clients and persons who were gone, and have come back.
local errors = require "parley.base.errors"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local holds = require "parley.gateway.window.holds"
local task = require "parley.base.task"

local HANG = { answers = { { on = "hang", hang = true } } }
local GRACE_MS = 3000

describe("a client that goes away twice", function()
  local given = { kit = { script = HANG }, grace_ms = GRACE_MS }
  it(gateways.serves("has the whole grace each time", given, function(gateway)
    local desk = gateway.server.desk
    local function open(retries)
      return gateway:open("/v1/messages", { model = "sonnet", max_tokens = 100,
        messages = { { role = "user", content = "hang" } } }, { ["x-stainless-retry-count"] = retries })
    end
    local first = open()
    helper.eventually(function() return #gateway.kit:taken() == 1 end)
    first:close()
    helper.eventually(function() return desk.readers == 0 end)
    local left_at = task.now()
    task.condition():wait(GRACE_MS // 2)
    local second = open "1"
    helper.eventually(function() return desk.readers == 1 end)
    second:close()
    helper.eventually(function() return desk.readers == 0 end)
    task.condition():wait(left_at + GRACE_MS + 300 - task.now()) -- the first grace is over, and not the second
    assert.equal(1, desk.running)
    local _ <close> = open "2"
    helper.eventually(function() return desk.readers == 1 end)
    assert.same({ { "hang" }, 1 }, { gateway.kit:taken(), desk.running })
  end))
end)

describe("a person who comes back while the program is at work", function()
  it("has the keyboard still", helper.task(function()
    local quiet, is_quiet, returned = task.condition(), false, 0
    local hold = { session = { session_id = "one" } }
    function hold.is_busy() return not is_quiet end
    function hold.wait_until_quiet()
      hold.is_waited_for = true
      return quiet:wait_until(function() return is_quiet end)
    end
    function hold.type() end
    local backend = { take_over = function() return hold end, give_back = function() returned = returned + 1 end }
    local group <close> = task.group()
    local list = holds.new { backend = backend, group = group, vanish_ms = 300 }
    local one = list:take({ session = hold.session }, "me", 0)
    helper.eventually(function() return hold.is_waited_for end) -- gone for longer than that; the program works
    local leave = list:attend(one)
    list:type(one, "x")
    leave() -- a connection that broke just now
    is_quiet = true
    quiet:notify()
    task.condition():wait(50)
    assert.equal(0, returned)
    helper.eventually(function() return returned == 1 end)
  end))
end)

describe("a session that is given back", function()
  it("and could not be gone on with is an error, and no success", helper.task(function()
    local hold = { session = { session_id = "one" }, is_busy = function() return false end, settle = function() end }
    local group <close> = task.group()
    local list = holds.new { backend = { take_over = function() return hold end,
      give_back = function() error(errors.session_error "it did not start", 0) end }, group = group, vanish_ms = 60000 }
    local one = list:take({ session = hold.session }, "me", 0)
    local err = helper.failure_of("ApiError", list.give_back, list, one)
    assert.same({ 500, "ended" }, { err.status, err.reason })
  end))
end)
